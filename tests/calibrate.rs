//! Scales that `lathe compile --calibrate` measures, against the equation, and every way that measuring can end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use half::bf16;
use lathe_runtime::tokenizer::Tokenizer;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::command::{compile, lathe, run, succeed};
use crate::support::forge::Forge;
use crate::support::llama::{Llama, Shape};
use crate::support::{files, model};

const TEXT: &str = "The harbour lay quiet when the ferry came in, an hour late and with its lamps already lit.";

/// A folder with a spec and a text.
struct Setup {
    folder: TempDir,
    checkpoint: PathBuf,
}

impl Setup {
    fn new(checkpoint: PathBuf, requests: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = format!("lathe 1\nspec smooth {{ rotate {{\n{requests}\n}} }}\n");
        fs::write(folder.path().join("spec.lathe"), spec).unwrap();
        fs::write(folder.path().join("text"), TEXT).unwrap();
        Setup { folder, checkpoint }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn compile(&self, arguments: &[&str]) -> Command {
        let spec = self.folder.path().join("spec.lathe");
        let mut command = compile(spec.to_str().unwrap(), &self.checkpoint, &self.out());
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    fn lock(&self) -> Value {
        files::read_json(&self.out().join("lathe.lock"))
    }
}

fn scales(lock: &Value) -> Vec<Vec<f64>> {
    let texts = lock["folds"]["scales"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    texts.map(|text| text.split(' ').map(|number| number.parse().unwrap()).collect()).collect()
}

/// A stored matrix or vector, as rows.
fn stored(checkpoint: &Path, tensor: &str, columns: usize) -> Vec<Vec<f64>> {
    let mut file = Forge::open(&checkpoint.join("model.safetensors"));
    assert_eq!(file.entry(tensor).dtype, "BF16");
    let values = file.bytes(tensor).as_chunks::<2>().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f64());
    values.collect::<Vec<_>>().chunks(columns).map(<[f64]>::to_vec).collect()
}

/// `SmoothQuant`, equation 4, at the first norm: what it gives follows from the embeddings alone.
#[test]
fn scales_are_those_of_the_equation() {
    let setup = Setup::new(model("micro-llama"), "input of layers[0].self_attn.q_proj by smooth(alpha: 0.75)");
    succeed(&mut setup.compile(&["--calibrate", "text"]));
    let [found] = &scales(&setup.lock())[..] else { panic!("expected one scale") };

    let config = files::read_json(&setup.checkpoint.join("config.json"));
    let (width, eps) = (config["hidden_size"].as_u64().unwrap() as usize, config["rms_norm_eps"].as_f64().unwrap());
    let tokenizer = Tokenizer::open(&setup.checkpoint.join("tokenizer.json")).unwrap();
    let table = stored(&setup.checkpoint, "model.embed_tokens.weight", width);
    let gain = &stored(&setup.checkpoint, "model.layers.0.input_layernorm.weight", width)[0];
    let (mut activations, mut weights) = (vec![0_f64; width], vec![0_f64; width]);
    for token in tokenizer.encode(TEXT, false).unwrap() {
        let row = &table[token as usize];
        let root = (row.iter().map(|x| x * x).sum::<f64>() / width as f64 + eps).sqrt();
        for (j, largest) in activations.iter_mut().enumerate() {
            *largest = largest.max((row[j] / root * gain[j]).abs());
        }
    }
    // The edge is one: q, k and v read it.
    for name in ["q_proj", "k_proj", "v_proj"] {
        for row in stored(&setup.checkpoint, &format!("model.layers.0.self_attn.{name}.weight"), width) {
            weights.iter_mut().zip(row).for_each(|(largest, w)| *largest = largest.max(w.abs()));
        }
    }
    assert_eq!(found.len(), width);
    for (j, found) in found.iter().enumerate() {
        let expected = activations[j].powf(0.75) / weights[j].powf(0.25);
        // Half of the last of three digits, and what f32 loses.
        assert!((found / expected - 1.0).abs() < 5.01e-3, "channel {j}: expected {expected}, found {found}");
        assert_eq!(format!("{found:.2e}").parse(), Ok(*found), "3 digits");
    }
}

/// Grouped values, up and down, and what a norm gives are scaled, and the model is proven equal.
#[test]
fn scaled_models_compute_the_same() {
    let requests =
        "value by smooth\nffn_hidden by smooth\ninput of q_proj by smooth\ninput of up_proj by smooth(alpha: 0.3)";
    let setup = Setup::new(model("micro-llama"), requests);
    let ended = run(&mut setup.compile(&["--calibrate", "text"]));
    assert!(ended.code == Some(0) && ended.stderr.contains("proved: "), "{}", ended.stderr);
    let first = setup.lock();
    assert!(scales(&first).iter().flatten().all(|scale| *scale > 0.0 && scale.is_finite()));
    assert!(scales(&first).len() >= 8);
    let hash = first["calibration_blake3"].as_str().unwrap();
    assert_eq!(hash.len(), 64);
    succeed(&mut setup.compile(&["--calibrate", "text"]));
    assert_eq!(setup.lock(), first, "twice the same");
    succeed(&mut setup.compile(&["--calibrate", "text", "--calibrate-tokens", "5"]));
    assert_ne!(setup.lock()["calibration_blake3"], first["calibration_blake3"]);
}

/// Kernels of different instruction sets round differently, by less than the digits of a scale.
#[test]
fn instruction_sets_find_the_same_scales() {
    let requests = "value by smooth\nffn_hidden by smooth\ninput of q_proj by smooth\ninput of up_proj by smooth";
    let setup = Setup::new(model("micro-llama"), requests);
    succeed(&mut setup.compile(&["--calibrate", "text"]));
    let best = setup.lock();
    succeed(setup.compile(&["--calibrate", "text"]).env("LATHE_ISA", "scalar"));
    assert_eq!(setup.lock(), best);
}

/// Layers have a scale each: a row for all of them, and each by itself where all layers are asked for.
#[test]
fn equal_scales_are_one_row() {
    let setup = Setup::new(model("micro-llama"), "input of up_proj by smooth");
    let plan = |arguments: &[&str]| {
        let spec = setup.folder.path().join("spec.lathe");
        let text = succeed(lathe().arg("plan").arg(spec).arg(&setup.checkpoint).args(arguments));
        let rows = text.lines().filter(|line| line.starts_with('S'));
        rows.map(|row| row.split("  ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(plan(&[]), ["S0 to S1"]);
    assert_eq!(plan(&["--all-layers"]), ["S0", "S1"]);
    succeed(&mut setup.compile(&["--calibrate", "text", "--report", "page.html"]));
    assert!(fs::read_to_string(setup.folder.path().join("page.html")).unwrap().contains(">S0 to S1<"));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let setup = Setup::new(model("micro-llama"), "input of up_proj by smooth");
    let fails = |setup: &Setup, arguments: &[&str], code: i32, said: &str| {
        let ended = run(&mut setup.compile(arguments));
        assert!(ended.code == Some(code) && ended.stderr.contains(said), "{arguments:?}: {}", ended.stderr);
        assert!(!setup.out().exists());
    };
    fails(&setup, &[], 1, "error[S0410]");
    fails(&setup, &["--calibrate", "none"], 2, "cannot read none");
    fs::write(setup.folder.path().join("empty"), "").unwrap();
    fails(&setup, &["--calibrate", "empty"], 1, "empty: expected at least one token, found none");
    fails(&setup, &["--calibrate-tokens", "5"], 2, "--calibrate <FILE>");
    let rotated = Setup::new(model("micro-llama"), "value by hadamard");
    fails(&rotated, &["--calibrate", "text"], 1, "Leave it out, or ask for scales: `rotate { input of");
    let folder = tempfile::tempdir().unwrap();
    Llama::new(Shape::tiny()).write(&folder.path().join("checkpoint"));
    let without = Setup::new(folder.path().join("checkpoint"), "input of up_proj by smooth");
    fails(&without, &["--calibrate", "text"], 1, "has no tokenizer.json, which --calibrate needs");
}
