//! Codes whose messages need files or weights that no file test has: what the binary says of each, in one line.

use std::fs;
use std::path::Path;
use std::process::Command;

use lathe_runtime::program::PROGRAM_VERSION;
use serde_json::json;

use crate::support::command::{lathe, run, succeed};
use crate::support::files;
use crate::support::llama::{Llama, Shape, Stored, write};

/// Runs `lathe` in a folder and compares what it says with the snapshot of this code.
#[track_caller]
fn said(code: &str, exit: i32, folder: &Path, arguments: &[&str]) {
    let ended = run(in_folder(folder).args(["--message-format", "short"]).args(arguments));
    assert_eq!(ended.code, Some(exit), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("[{code}]")), "expected {code} in:\n{}", ended.stderr);
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_suffix(code);
    // What was done says how long it took.
    let stderr = ended.stderr.split("\ncompiled ").next().unwrap_or_default();
    settings.bind(|| insta::assert_snapshot!("codes", stderr));
}

fn in_folder(folder: &Path) -> Command {
    let mut command = lathe();
    command.current_dir(folder);
    command
}

#[test]
fn an_artifact_of_another_version() {
    let folder = tempfile::tempdir().unwrap();
    Llama::new(Shape::tiny()).write(&folder.path().join("checkpoint"));
    succeed(in_folder(folder.path()).args(["compile", "keep", "checkpoint", "-o", "out"]));
    let program = folder.path().join("out/program.json");
    let version = format!("\"version\": {PROGRAM_VERSION}");
    fs::write(&program, files::read_text(&program).replacen(&version, "\"version\": 7", 1)).unwrap();
    said("A0001", 1, folder.path(), &["inspect", "out"]);
}

#[test]
fn a_verification_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    Llama::new(Shape::tiny()).write(&folder.path().join("checkpoint"));
    succeed(in_folder(folder.path()).args(["compile", "keep", "checkpoint", "-o", "out"]));
    said("A0002", 1, folder.path(), &["report", "out", "--verify", "out/report.json"]);
}

#[test]
fn a_compiled_model_of_another_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    for (name, seed) in [("checkpoint", 1), ("other", 2)] {
        Llama::new(Shape { seed, ..Shape::tiny() }).write(&folder.path().join(name));
    }
    succeed(in_folder(folder.path()).args(["compile", "keep", "checkpoint", "-o", "out"]));
    said("A0003", 1, folder.path(), &["verify", "out", "other", "--ids", "1,2,3"]);
}

/// A tiny checkpoint with other keys in its config.
fn with_config(folder: &Path, key: &str, value: serde_json::Value) {
    let llama = Llama::new(Shape::tiny());
    let mut config = llama.shape.config();
    config[key] = value;
    write(&folder.join("checkpoint"), &config, &llama.tensors);
}

#[test]
fn keys_that_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    with_config(folder.path(), "number_of_wheels", json!(4));
    let ended = run(in_folder(folder.path()).args(["plan", "keep", "checkpoint"]));
    assert!(ended.code == Some(0) && ended.stderr.contains("warning[C0010]"), "{}", ended.stderr);
    said("C0010", 1, folder.path(), &["plan", "keep", "checkpoint", "--strict"]);
}

#[test]
fn a_tied_head_that_differs() {
    let folder = tempfile::tempdir().unwrap();
    let llama = Llama::new(Shape { tied: false, ..Shape::tiny() });
    let mut config = llama.shape.config();
    config["tie_word_embeddings"] = json!(true);
    write(&folder.path().join("checkpoint"), &config, &llama.tensors);
    said("C0011", 0, folder.path(), &["plan", "keep", "checkpoint", "--probe"]);
}

#[test]
fn a_checkpoint_that_is_quantized() {
    let folder = tempfile::tempdir().unwrap();
    with_config(folder.path(), "quantization_config", json!({ "quant_method": "gptq", "bits": 4 }));
    said("C0013", 1, folder.path(), &["plan", "keep", "checkpoint"]);
}

#[test]
fn a_value_that_the_format_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let mut llama = Llama::new(Shape { stored: Stored::F32, ..Shape::tiny() });
    let bytes = llama.tensors.bytes("model.layers.0.mlp.up_proj.weight");
    bytes[..4].copy_from_slice(&70_000_f32.to_le_bytes());
    llama.write(&folder.path().join("checkpoint"));
    fs::write(folder.path().join("half.lathe"), "lathe 1\nspec half { rules { :linear => f16 } }\n").unwrap();
    said("C0014", 1, folder.path(), &["compile", "half.lathe", "checkpoint", "-o", "out"]);
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_weight_of_which_almost_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut llama = Llama::new(Shape { stored: Stored::F32, ..Shape::tiny() });
    let (values, _) = llama.tensors.bytes("model.layers.0.mlp.up_proj.weight").as_chunks_mut::<4>();
    for value in values {
        *value = (f32::from_le_bytes(*value) * 1e-9).to_le_bytes();
    }
    llama.write(&folder.path().join("checkpoint"));
    let spec = "lathe 1\nspec small { rules { up_proj => int8(per: channel, scales: f16) } }\n";
    fs::write(folder.path().join("small.lathe"), spec).unwrap();
    said("C0015", 0, folder.path(), &["compile", "small.lathe", "checkpoint", "-o", "out"]);
}

#[test]
fn files_that_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let anchors =
        "lathe: 1\nspec: a\nrules:\n  - match: &all \"**\"\n    format: keep\n  - match: *all\n    input: keep\n";
    fs::write(folder.path().join("anchors.yaml"), anchors).unwrap();
    said("F0001", 1, folder.path(), &["fmt", "anchors.yaml"]);
    fs::write(folder.path().join("wide.lathe"), "lathe 1\nspec a {\nrules {\n** => keep\n}\n}\n").unwrap();
    said("F0002", 1, folder.path(), &["fmt", "--check", "wide.lathe"]);
    fs::write(folder.path().join("model.lathe"), "lathe 1\nmodel m {\n}\n").unwrap();
    said("F0003", 1, folder.path(), &["convert", "model.lathe", "-o", "model.yaml"]);
}

#[test]
fn names_of_specs_that_do_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    said("S0001", 1, folder.path(), &["check", "kep"]);
}

/// A spec is handed over as a folder: a link must not reach beyond it.
#[cfg(unix)]
#[test]
fn links_that_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let specs = folder.path().join("specs");
    fs::create_dir(&specs).unwrap();
    fs::write(folder.path().join("secret.lathe"), "lathe 1\nlet secret = keep\n").unwrap();
    std::os::unix::fs::symlink("../secret.lathe", specs.join("link.lathe")).unwrap();
    std::os::unix::fs::symlink("beside.lathe", specs.join("inside.lathe")).unwrap();
    fs::write(specs.join("beside.lathe"), "lathe 1\nlet beside = keep\n").unwrap();
    let spec = |used: &str| format!("lathe 1\nuse \"{used}.lathe\"\nspec a {{ rules {{ ** => keep }} }}\n");
    fs::write(specs.join("out.lathe"), spec("link")).unwrap();
    fs::write(specs.join("in.lathe"), spec("inside")).unwrap();
    said("S0004", 1, &specs, &["check", "out.lathe"]);
    succeed(in_folder(&specs).args(["check", "in.lathe"]));
    // The same from elsewhere, also by a path that climbs.
    let ended = run(in_folder(&specs).args(["check", "../specs/out.lathe"]));
    assert!(ended.code == Some(1) && ended.stderr.contains("[S0004]"), "{}", ended.stderr);
    succeed(in_folder(&specs).args(["check", "../specs/in.lathe"]));
}

#[test]
fn a_compiled_model_that_computes_something_else() {
    let folder = tempfile::tempdir().unwrap();
    Llama::new(Shape::tiny()).write(&folder.path().join("checkpoint"));
    let spec = "lathe 1\nspec rotated { rotate { value by hadamard } }\n";
    fs::write(folder.path().join("rotated.lathe"), spec).unwrap();
    let flip = ["--flip-sign", "model.layers.0.self_attn.v_proj.weight"];
    said("C0016", 1, folder.path(), &[&["compile", "rotated.lathe", "checkpoint", "-o", "out"], &flip[..]].concat());
    assert!(!folder.path().join("out").exists());
}

#[test]
fn scales_that_nothing_was_measured_for() {
    let folder = tempfile::tempdir().unwrap();
    Llama::new(Shape::tiny()).write(&folder.path().join("checkpoint"));
    let spec = "lathe 1\nspec smooth { rotate { input of up_proj by smooth(alpha: 0.5) } }\n";
    fs::write(folder.path().join("smooth.lathe"), spec).unwrap();
    said("S0410", 1, folder.path(), &["compile", "smooth.lathe", "checkpoint", "-o", "out"]);
}
