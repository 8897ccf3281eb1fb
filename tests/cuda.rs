//! Compiled models on a CUDA device, against what was recorded and what the processor computes. The device is the host driver
//! of `lathe-kernels`, which runs the same kernels on the processor.

use std::path::{Path, PathBuf};
use std::process::Command;

use lathe_compiler::compile::{Input, prepare};
use lathe_compiler::model::Checkpoint;
use lathe_compiler::passes;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::span::Sources;
use lathe_kernels::check::host_driver::{HostDriver, HostDriverError};
use lathe_runtime::backend::cuda_launches;
use lathe_runtime::program::Program;
use serde_json::Value;

use crate::support::command::{compile, ids, lathe, lathe_run, run, succeed, succeed_json};
use crate::support::reference::{Reference, distance, floats};
use crate::support::{self, files};

/// Largest difference of a logit in f32, and with operands in bf16, relative to the range of what was recorded.
const F32: f64 = 1e-4;
const BF16: f64 = 1e-2;
/// Where x is rounded to int8 besides: what bf16 changes moves some of its elements by a step.
const INT8: f64 = 2e-2;

/// Tokens that are read: the driver is slow.
const TOKENS: usize = 6;

/// The folder of the driver; `None` where there is no compiler to build it.
fn driver() -> Option<PathBuf> {
    match HostDriver::from_environment().build(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(folder) => Some(folder),
        Err(error @ HostDriverError::NoCompiler { .. }) if std::env::var_os("LATHE_REQUIRE_HOST_CUDA").is_none() => {
            support::skipped(&error.to_string());
            None
        }
        Err(error) => panic!("the host driver: {error}"),
    }
}

/// `lathe-run` on the device of the driver.
fn on_device(driver: &Path) -> Command {
    let mut command = lathe_run();
    command.env("LD_LIBRARY_PATH", driver).env_remove("CUDA_VISIBLE_DEVICES").args(["--device", "cuda"]);
    command
}

fn logits(mut command: Command, model: &Path, tokens: &[u32]) -> Vec<f32> {
    let file = model.with_extension("safetensors");
    succeed(command.arg("logits").arg(model).args(["--ids", &ids(tokens)]).arg("-o").arg(&file));
    floats(&files::read(&file), "logits")
}

#[test]
fn compiled_models_compute_what_was_recorded() {
    let Some(driver) = driver() else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in ["micro-llama", "tiny-qwen3"] {
        let checkpoint = support::root().join("models").join(name);
        let reference = Reference::open(&checkpoint);
        let tokens = reference.tokens("prompt0.input_ids");
        let expected = reference.logits("prompt0.logits");
        let vocabulary = expected.len() / tokens.len();
        let tokens = &tokens[..tokens.len().min(TOKENS)];
        for (spec, compute, largest) in [
            ("keep", "f32", F32),
            ("keep", "bf16", BF16),
            ("w4g32", "f32", F32),
            ("w4g32", "bf16", BF16),
            ("w8a8", "bf16", INT8),
            ("w4g32-quarot", "bf16", BF16),
        ] {
            let out = folder.path().join(format!("{name}-{spec}-{compute}"));
            let ended =
                run(compile(spec, &checkpoint, &out).args(["--set", &format!("compute={compute}"), "--no-prove"]));
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            let found = logits(on_device(&driver), &out, tokens);
            let expected = match spec {
                "keep" => expected[..tokens.len() * vocabulary].to_vec(),
                _ => logits(lathe_run(), &out, tokens),
            };
            let found = distance(&found, &expected);
            support::measured(&format!("{name}, {spec}, {compute}: logits within {found:.2e} of their range"));
            assert!(found <= largest, "{name}, {spec}, {compute}: {found:.2e}");
        }
    }
}

#[test]
fn text_on_a_device_is_that_of_the_processor() {
    let Some(driver) = driver() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let checkpoint = support::root().join("models/micro-llama");
    succeed(&mut compile("keep", &checkpoint, &out));
    for manner in [&["--temperature", "0"][..], &["--temperature", "0.8", "--top-k", "20", "--seed", "7"]] {
        let text = |mut command: Command| {
            command.arg("generate").arg(&out).args([
                "--ids",
                "1,5,9",
                "--max-new-tokens",
                "8",
                "--ignore-eos",
                "--json",
            ]);
            succeed_json(command.args(manner))["ids"].take()
        };
        assert_eq!(text(on_device(&driver)), text(lathe_run()));
    }
}

/// The program of a spec of the library.
fn program(spec: &str, checkpoint: &Path) -> Program {
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    let mut sources = Sources::new();
    let text = format!("lathe 1\n\nspec test extends {spec} {{\n    compute => bf16\n}}\n");
    let source = sources.add("test.lathe", &text);
    let spec = Entry { source, place: Place::File("test.lathe".into()), name: None };
    let input = Input {
        spec: &spec,
        overrides: &[],
        files: &NoFiles,
        model: None,
        checkpoint: &checkpoint,
        strict: false,
        calibration: None,
    };
    prepare(input, &mut sources, &passes::Options::default()).unwrap().lowered.program
}

/// A token takes at most seven launches in each layer, with all rotations. Besides, one for the angles of rotary embeddings,
/// one for the embedding, and for norm and head one, or four where the head reads a table in another basis.
#[test]
fn a_token_takes_seven_launches_in_each_layer() {
    for (model, layers) in [("micro-llama", 2), ("tiny-qwen3", 5)] {
        let checkpoint = support::root().join("models").join(model);
        for spec in ["keep", "w4g32", "w4g32-quarot", "f32-rotated", "w8a8", "w8a8-hadamard"] {
            let launches = cuda_launches(&program(spec, &checkpoint), true);
            let of_layer = |layer: usize| {
                let label = format!(" model.layers.{layer}.");
                launches.lines().filter(|line| line.contains(&label)).count()
            };
            let of_layers: Vec<usize> = (0..layers).map(of_layer).collect();
            let others = launches.lines().count() - of_layers.iter().sum::<usize>();
            let is_rotated = ["f32-rotated", "w4g32-quarot", "w8a8-hadamard"].contains(&spec);
            let most = if is_rotated { (7, 6) } else { (6, 3) };
            assert!(of_layers.iter().all(|&count| count == most.0) && others <= most.1, "{model}, {spec}:\n{launches}");
        }
    }
}

#[test]
fn launches_of_compiled_models() {
    let checkpoint = support::root().join("models/micro-llama");
    for spec in ["f32-rotated", "w8a8-hadamard"] {
        let program = program(spec, &checkpoint);
        let (one, many) = (cuda_launches(&program, true), cuda_launches(&program, false));
        support::snapshot("launches", spec, &format!("one token\n{one}\nmany tokens\n{many}"));
    }
}

#[test]
fn a_plan_says_what_fits_on_a_device() {
    let checkpoint = support::root().join("models/tiny-qwen3");
    let plan = |arguments: &[&str]| {
        let mut command = lathe();
        command.arg("plan").arg("w4g32").arg(&checkpoint).args(arguments);
        command
    };
    let missing = run(&mut plan(&["--device", "cuda:1"]));
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("there is no device cuda:1: "), "{}", missing.stderr);
    assert_eq!(run(&mut plan(&["--device", "cpu"])).code, Some(2));
    assert_eq!(run(&mut plan(&["--device-memory", "1G"])).code, Some(2));

    let fits = |memory: &str| -> Value {
        succeed_json(plan(&["--device", "cuda"]).args(["--device-memory", memory, "--json"]))["on_device"].take()
    };
    assert_eq!(fits("24GiB")["longest_context"], 2048);
    assert_eq!(fits("1M")["longest_context"], 0);
    let text = succeed(&mut plan(&["--device", "cuda:1", "--device-memory", "24GiB"]));
    assert!(text.contains("on cuda:1, "), "{text}");
    assert!(text.contains("fits, with all 2048 positions that the model was made for"), "{text}");
}
