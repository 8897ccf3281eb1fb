//! Rotations as specs write them: matrices of files, scales that are measured, and edges that none is for.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::command::{Ended, compile, lathe, run, succeed};
use crate::support::forge::Forge;
use crate::support::model;

/// A reflection `[width, width]`, each row times `factor`.
fn reflection(width: usize, seed: usize, factor: f32) -> Vec<u8> {
    let along: Vec<f32> = (0..width).map(|index| ((index * 7 + seed) % 11) as f32 - 4.0).collect();
    let square: f32 = along.iter().map(|value| value * value).sum();
    let element = |row: usize, column: usize| {
        let identity = if row == column { 1.0 } else { 0.0 };
        factor * (identity - 2.0 * along[row] * along[column] / square)
    };
    (0..width * width).flat_map(|index| element(index / width, index % width).to_le_bytes()).collect()
}

/// The file of a spec with these requests, in a folder of its own.
fn folder(requests: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "lathe 1\n\nspec rotated {{\n    let stream = matrix(\"r.safetensors\", \"R1\")\n    rules {{\n        \
         ** => int8(per: channel)\n    }}\n    rotate {{\n{requests}\n    }}\n}}\n"
    );
    fs::write(folder.path().join("rotated.lathe"), text).unwrap();
    folder
}

fn compiled(folder: &Path, more: &[&str]) -> Ended {
    let spec = folder.join("rotated.lathe");
    let mut command: Command = compile(spec.to_str().unwrap(), &model("micro-llama"), &folder.join("out"));
    run(command.args(more))
}

#[track_caller]
fn is_proved(ended: &Ended) {
    assert!(ended.code == Some(0) && (ended.stdout.clone() + &ended.stderr).contains("proved"), "{ended:?}");
}

#[test]
fn matrices_are_read_for_each_layer() {
    let folder = folder("residual by stream\nvalue by matrix(\"r.safetensors\", \"layers.{layer}.R2\")");
    let mut matrices = Forge::default();
    matrices.push("R1", "F32", &[64, 64], &reflection(64, 1, 1.0));
    matrices.push("bent", "F32", &[64, 64], &reflection(64, 1, 1.001));
    matrices.push("layers.0.R2", "F32", &[16, 16], &reflection(16, 2, 1.0));
    matrices.push("layers.1.R2", "F32", &[16, 16], &reflection(16, 3, 1.0));
    matrices.write(&folder.path().join("r.safetensors"));
    is_proved(&compiled(folder.path(), &[]));

    let mut alone = Forge::default();
    alone.push("only", "F32", &[64, 64], &reflection(64, 4, 1.0));
    let other = tempfile::tempdir().unwrap();
    alone.write(&other.path().join("alone.safetensors"));
    let given = |file: &str| format!("stream=matrix({:?})", other.path().join(file).display().to_string());
    is_proved(&compiled(folder.path(), &["--set", &given("alone.safetensors")]));

    let faults = [
        (given("absent.safetensors"), "cannot be read", "the path leads from"),
        ("stream=matrix(\"r.safetensors\", \"R3\")".to_owned(), "cannot be read", "the path leads from"),
        ("stream.key=\"R3\"".to_owned(), "expected a tensor `R3`", "name a tensor of that file"),
        ("stream.key=\"bent\"".to_owned(), "differs from the identity by 2.0e-3", "[64, 64] of f64, f32"),
        ("stream.key=\"layers.0.R2\"".to_owned(), "[64, 64], found [16, 16]", "[64, 64] of f64, f32"),
    ];
    for (set, message, help) in faults {
        let ended = compiled(folder.path(), &["--set", &set]);
        assert!(ended.code == Some(1) && ended.stderr.contains("[S0407]"), "{set}: {}", ended.stderr);
        assert!(ended.stderr.contains(message) && ended.stderr.contains(help), "{set}: {}", ended.stderr);
    }
}

/// The same values from another file and under another key are the same compilation.
#[test]
fn locks_do_not_name_files() {
    let folder = folder("residual by stream");
    let mut locks = Vec::new();
    for (file, key) in [("r.safetensors", "R1"), ("renamed.safetensors", "basis")] {
        let mut matrices = Forge::default();
        matrices.push(key, "F32", &[64, 64], &reflection(64, 1, 1.0));
        let path = folder.path().join(file);
        matrices.write(&path);
        is_proved(&compiled(
            folder.path(),
            &["--set", &format!("stream=matrix({:?}, {key:?})", path.display().to_string())],
        ));
        locks.push(fs::read_to_string(folder.path().join("out/lathe.lock")).unwrap());
    }
    assert!(locks[0].contains("\"kind\": \"matrix\"") && !locks[0].contains("r.safetensors"), "{}", locks[0]);
    assert_eq!(locks[0], locks[1]);
}

#[test]
fn scales_are_measured_on_a_text() {
    let folder = folder("input of mlp.{gate,up}_proj by smooth\nvalue by smooth(alpha: 0.75)\nffn_hidden by smooth");
    let ended = compiled(folder.path(), &["--set", "stream=none"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("[S0410]"), "{}", ended.stderr);
    let text = folder.path().join("text");
    fs::write(&text, "A text like those that the model will read. ".repeat(8)).unwrap();
    is_proved(&compiled(folder.path(), &["--set", "stream=none", "--calibrate", text.to_str().unwrap()]));
}

/// With `none` an edge follows its neighbours, with `identity` it stays as it is, whatever that costs.
#[test]
fn an_edge_can_be_kept_in_the_basis_of_the_model() {
    let at_run_time = |by: &str| {
        let requests = format!("residual by hadamard\ninput of {{q,k,v}}_proj by {by}");
        let folder = folder(&requests);
        let plan = succeed(lathe().arg("plan").arg(folder.path().join("rotated.lathe")).arg(model("micro-llama")));
        plan.lines()
            .filter(|line| line.starts_with("model.layers[0..2].input_layernorm ") && line.contains(" x Q"))
            .count()
    };
    assert_eq!([at_run_time("none"), at_run_time("identity")], [0, 1]);
}
