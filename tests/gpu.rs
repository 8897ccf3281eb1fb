//! What measures a device: models of random weights, scripts, and how their results are joined.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::command::{compile, ids, lathe_run, succeed};
use crate::support::published::Published;
use crate::support::reference::floats;
use crate::support::{self, files};

/// The folder of the scripts.
fn folder() -> PathBuf {
    support::root().join("gpu")
}

fn generate(spec: &Path, checkpoint: &Path, seed: u64, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate-artifact"));
    command.arg(spec).arg(checkpoint).arg("-o").arg(out).args(["--seed", &seed.to_string()]);
    command
}

#[test]
fn artifacts_of_random_weights_have_the_programs_of_compiled_ones() {
    let temporary = tempfile::tempdir().unwrap();
    let checkpoint = temporary.path().join("checkpoint");
    Published::read(&folder().join("tiny.json")).write(&checkpoint);
    for spec in files::list(&folder().join("specs")) {
        let name = support::name(&spec).trim_end_matches(".lathe");
        let path = |kind: &str| temporary.path().join(format!("{name}-{kind}"));
        succeed(compile(spec.to_str().unwrap(), &checkpoint, &path("compiled")).arg("--no-prove"));
        succeed(&mut generate(&spec, &checkpoint, 1, &path("generated")));
        let program = |kind: &str| files::read_text(&path(kind).join("program.json"));
        assert!(program("generated") == program("compiled"), "{name}: another program than the compiled one");
        let logits = temporary.path().join("logits");
        let mut command = lathe_run();
        command.arg("logits").arg(path("generated")).args(["--ids", &ids(&[1, 200, 3, 255])]);
        succeed(command.args(["--device", "cpu", "-o"]).arg(&logits));
        let logits = floats(&files::read(&logits), "logits");
        let power = logits.iter().map(|&logit| f64::from(logit).powi(2)).sum::<f64>() / logits.len() as f64;
        assert!((0.2..5.0).contains(&power), "{name}: logits of mean square {power}, expected about 1");
    }
}

#[test]
fn a_seed_gives_the_same_weights_each_time() {
    let temporary = tempfile::tempdir().unwrap();
    let checkpoint = temporary.path().join("checkpoint");
    Published::read(&folder().join("tiny.json")).write(&checkpoint);
    let weights = |name: &str, seed, threads| {
        let (spec, out) = (folder().join("specs/w4-rotated.lathe"), temporary.path().join(name));
        succeed(generate(&spec, &checkpoint, seed, &out).env("RAYON_NUM_THREADS", threads));
        files::contents(&out)
    };
    let first = weights("first", 1, "1");
    assert!(first == weights("again", 1, "3"), "one seed gives two models");
    assert!(first != weights("other", 2, "1"), "two seeds give one model");
}

#[test]
fn checkpoints_without_weights_are_the_same_from_python() {
    let Some(python) = tool("python3") else { return };
    let temporary = tempfile::tempdir().unwrap();
    let (ours, theirs) = (temporary.path().join("ours"), temporary.path().join("theirs"));
    let description = folder().join("tiny.json");
    Published::read(&description).write(&ours);
    succeed(Command::new(python).arg(folder().join("sparse_checkpoint.py")).arg(description).arg(&theirs));
    let spec = folder().join("specs/w4-rotated.lathe");
    let program = |checkpoint: &Path| {
        let out = checkpoint.join("out");
        succeed(&mut generate(&spec, checkpoint, 1, &out));
        files::read_text(&out.join("program.json"))
    };
    assert_eq!(program(&ours), program(&theirs));
}

#[test]
fn scripts_are_sound() {
    let scripts = |extension: &str| {
        let mut scripts = files::list(&folder());
        scripts.retain(|path| path.extension().is_some_and(|found| found == extension));
        assert!(!scripts.is_empty(), "no script ends in .{extension}");
        scripts
    };
    if let Some(bash) = tool("bash") {
        for script in scripts("sh") {
            succeed(Command::new(&bash).arg("-n").arg(script));
        }
    }
    if let Some(shellcheck) = tool("shellcheck") {
        succeed(Command::new(shellcheck).args(["-x", "-P", "SCRIPTDIR"]).args(scripts("sh")));
    }
    if let Some(python) = tool("python3") {
        for script in scripts("py") {
            let compile = "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')";
            succeed(Command::new(&python).args(["-c", compile]).arg(script));
        }
    }
}

#[test]
fn figures_are_joined_to_tables() {
    let (Some(bash), Some(_)) = (tool("bash"), tool("python3")) else { return };
    let out = tempfile::tempdir().unwrap();
    let table = |script: &str| {
        let mut command = Command::new(&bash);
        succeed(command.arg(folder().join(script)).arg("--dry-run").env("OUT", out.path()))
    };
    let kernels = table("kernels.sh");
    for line in [
        "| product | int4(group: 128) | gate_up | 1 | 11.00 | 10.00 (read) | 1.10 |",
        "torch tinygemm 25.00 (0.44, 0.0e+00)",
        "failed, ours: sample/greedy/128256/1: made up",
        "| rotation of 14336: at most 1.5 copies | 1.10 | 1.50 | yes |",
        "at least 0.6 of the rate in int8 | 0.07 | 0.60 | no |",
    ] {
        assert!(kernels.contains(line), "no {line:?} in\n{kernels}");
    }
    let joined = files::read_json(&out.path().join("kernels.json"));
    assert_eq!(joined["ceilings"]["int8"], 1.58e15);

    let models = table("model.sh");
    for line in ["| w4-head4 | 700.0 |", "failed: torch int4, torch: made up", "at least 600 | 700.0 | yes |"] {
        assert!(models.contains(line), "no {line:?} in\n{models}");
    }
    assert_eq!(files::read_json(&out.path().join("model.json"))["models"]["bf16"]["decode_tok_s"], 540);
}

/// A program on the path; without it, what needs it is said to be skipped.
fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        support::skipped(&format!("what needs {name}, which this machine has not"));
    }
    found
}
