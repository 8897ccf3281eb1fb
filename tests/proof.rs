//! The proof that a rotated model computes what its checkpoint computes: it holds for what is right, and one wrong sign in
//! any kind of recipe breaks it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lathe_compiler::compile::Prepared;
use lathe_compiler::lower::Map;
use lathe_compiler::model::Checkpoint;
use lathe_compiler::proof::{Options, Proof, ProofError, Proved, is_called_for, prove};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::command::{compile, least_memory, run};
use crate::support::compiler::{Texts, open};
use crate::support::{files, model, root};

const R1: &str = "residual by random_hadamard(seed: 7)";
const R2: &str = "value by hadamard";
const R4: &str = "ffn_hidden by random_hadamard(seed: 5)";
/// Every site that a model has.
const EVERYWHERE: &str = "residual by orthogonal(seed: 1)\nvalue by orthogonal(seed: 2) optional\n\
    query_key by orthogonal(seed: 3) optional\nffn_hidden by orthogonal(seed: 4) optional";

fn spec(requests: &str) -> String {
    format!("lathe 1\nspec rotated {{ rotate {{\n{requests}\n}} }}\n")
}

fn family(name: &str) -> PathBuf {
    root().join("families").join(name)
}

/// A model under some requests.
struct Rotated {
    checkpoint: Checkpoint,
    prepared: Prepared,
}

impl Rotated {
    #[track_caller]
    fn new(folder: &Path, requests: &str) -> Self {
        let checkpoint = open(folder);
        let prepared = Texts::spec("rotated.lathe", &spec(requests)).prepared(&checkpoint);
        assert!(is_called_for(&prepared.lowered), "{requests}");
        Rotated { checkpoint, prepared }
    }

    fn prove(&self, flip: Option<&str>) -> Result<Proved, ProofError> {
        let text = |_| vec![3, 1, 4, 1, 5, 9, 2, 6];
        prove(&self.prepared, &self.checkpoint, Options { text: &text, threads: 2, memory: None, flip })
    }

    /// Proves it, and then that a wrong sign in each of these weights is found.
    #[track_caller]
    fn check(&self, weights: &[&str]) {
        let proved = self.prove(None).unwrap();
        assert!(proved.max_error <= 1e-5 * proved.range, "{proved:?}");
        for weight in weights {
            assert!(self.prepared.lowered.recipes.iter().any(|recipe| recipe.name == *weight), "{weight}");
            match self.prove(Some(weight)) {
                Err(ProofError::Disproved(diagnostic)) => assert_eq!(diagnostic.code, "C0016", "{weight}"),
                other => panic!("a wrong sign in {weight}: {other:?}"),
            }
        }
    }

    /// Whether a weight's rows and columns are mapped by these.
    fn maps(&self, weight: &str) -> (Vec<&'static str>, Vec<&'static str>) {
        let recipe = self.prepared.lowered.recipes.iter().find(|recipe| recipe.name == weight).unwrap();
        let name = |map: &Map| match map {
            Map::Rotate { .. } => "rotate",
            Map::Gain { .. } => "gain",
            Map::Scale { .. } => "scale",
        };
        (recipe.folded.rows.iter().map(name).collect(), recipe.folded.columns.iter().map(name).collect())
    }
}

#[test]
fn a_wrong_sign_of_the_stream_is_found() {
    let rotated = Rotated::new(&model("micro-llama"), R1);
    assert_eq!(rotated.maps("model.layers.1.mlp.up_proj.weight"), (vec!["gain", "rotate"], vec![]));
    assert_eq!(rotated.maps("model.layers.0.self_attn.o_proj.weight"), (vec![], vec!["rotate"]));
    rotated.check(&[
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
    ]);
}

#[test]
fn a_wrong_sign_of_values_and_of_the_ffn_is_found() {
    let rotated = Rotated::new(&model("micro-llama"), &format!("{R2}\n{R4}"));
    assert_eq!(rotated.maps("model.layers.0.self_attn.v_proj.weight"), (vec![], vec!["rotate"]));
    assert_eq!(rotated.maps("model.layers.0.self_attn.o_proj.weight"), (vec!["rotate"], vec![]));
    assert_eq!(rotated.maps("model.layers.1.mlp.down_proj.weight"), (vec!["rotate"], vec![]));
    rotated.check(&[
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
    ]);
}

/// GPT-2: layer norms with shifts, biases, one table for both ends, a table of positions. A bias of keys changes no logit
/// there, and is found at the keys.
#[test]
fn a_wrong_sign_of_biases_shifts_and_tables_is_found() {
    let rotated = Rotated::new(&family("gpt2"), &format!("{R1}\n{R2}"));
    let recipe = |name: &str| rotated.prepared.lowered.recipes.iter().find(|recipe| recipe.name == name).unwrap();
    assert!(recipe("transformer.h.0.mlp.c_fc.bias").folded.product.is_some());
    assert!(rotated.prepared.lowered.recipes.iter().all(|recipe| recipe.name != "lm_head.weight"));
    rotated.check(&[
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "transformer.h.0.attn.k_proj.bias",
        "transformer.h.0.attn.v_proj.bias",
        "transformer.h.0.attn.c_proj.bias",
        "transformer.h.1.mlp.c_fc.bias",
        "transformer.h.1.mlp.c_proj.bias",
        "mean.32.Q0",
    ]);
}

/// Of every weight of small models with all that rotations go into: gains and shifts, biases of keys, tables, norms behind
/// sublayers, routers.
#[test]
fn each_wrong_sign_is_found() {
    for folder in [model("micro-llama"), family("gpt2"), family("starcoder2"), family("glm4"), family("qwen2_moe")] {
        let rotated = Rotated::new(&folder, EVERYWHERE);
        let recipes = &rotated.prepared.lowered.recipes;
        rotated.check(&recipes.iter().map(|recipe| recipe.name.as_str()).collect::<Vec<_>>());
    }
}

/// Experts that the text does not choose are run all the same, however little what they give counts for.
#[test]
fn a_wrong_sign_of_routers_and_experts_is_found() {
    let rotated = Rotated::new(&family("gpt_oss"), R1);
    let experts = (0..6).map(|expert| format!("model.layers.1.mlp.experts.{expert}.down_proj"));
    let weights = experts.flat_map(|expert| [format!("{expert}.weight"), format!("{expert}.bias")]);
    let mut weights: Vec<String> = weights.collect();
    weights.extend((0..6).map(|expert| format!("model.layers.0.mlp.experts.{expert}.up_proj.weight")));
    weights.push("model.layers.0.mlp.router.weight".to_owned());
    rotated.check(&weights.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The proof holds for every family that ships a definition, with every site rotated that it has.
#[test]
fn rotated_families_are_proven() {
    let shipped = crate::definitions::shipped_architectures();
    let mut count = 0;
    for (folder, definition) in crate::end_to_end::families() {
        let config = files::read_json(&folder.join("config.json"));
        if definition.is_some() || !shipped.iter().any(|name| *name == config["architectures"][0]) {
            continue;
        }
        let proved = Rotated::new(&folder, EVERYWHERE).prove(None);
        let proved = proved.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        assert!(proved.max_error <= 1e-5 * proved.range.max(1.0), "{}: {proved:?}", folder.display());
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

/// A folder with a spec, and the command that compiles it on micro-llama.
fn command(requests: &str) -> (TempDir, PathBuf, Command) {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("spec.lathe"), folder.path().join("out"));
    fs::write(&file, spec(requests)).unwrap();
    let command = compile(file.to_str().unwrap(), &model("micro-llama"), &out);
    (folder, out, command)
}

fn proof_of(out: &Path) -> Value {
    files::read_json(&out.join("report.json"))["proof"].clone()
}

#[test]
fn the_report_says_what_was_proven() {
    let (_folder, out, mut command) = command(R1);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let line = ended.stderr.lines().find(|line| line.starts_with("proved: ")).unwrap();
    assert!(line.ends_with("over 96 tokens"), "{line}");
    let proof = proof_of(&out);
    let proved = &proof["proved"];
    assert_eq!([&proved["tokens"], &proved["text_tokens"]], [&json!(96), &json!(48)]);
    let part = proved["max_error"].as_f64().unwrap() / proved["range"].as_f64().unwrap();
    assert!(part > 0.0 && part < 1e-5, "{proof}");
    assert!(line.contains(&format!("at most {part:.1e} of their range")), "{line}");
    let steps = files::read_json(&out.join("program.json"))["steps"].as_array().unwrap().len();
    // All but norms, which have lost their gains, and what runs between frames.
    assert!(proved["steps"].as_u64().unwrap() as usize > steps * 2 / 3, "{proof}");
    assert!(proved["worst"].as_str().is_some_and(|step| !step.is_empty()), "{proof}");
    let read: Proof = serde_json::from_value(proof).unwrap();
    assert!(matches!(read, Proof::Proved(_)));
}

#[test]
fn what_is_not_proven_is_said() {
    let (_folder, out, mut command) = command(R1);
    let ended = run(command.arg("--no-prove"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("not proved, as --no-prove asks"), "{}", ended.stderr);
    assert_eq!(proof_of(&out), "skipped");
}

#[test]
fn formats_alone_need_no_proof() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(&mut compile("keep", &model("micro-llama"), &folder.path().join("out")));
    assert!(ended.code == Some(0) && !ended.stderr.contains("prove"), "{}", ended.stderr);
    assert_eq!(proof_of(&folder.path().join("out")), Value::Null);
}

#[test]
fn nothing_is_written_of_a_model_that_computes_something_else() {
    let (_folder, out, mut command) = command(R1);
    let ended = run(command.args(["--flip-sign", "model.layers.1.mlp.up_proj.weight"]));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let first = "the first step whose result is off is `model.layers.1.mlp.up_proj` (mat_mul)";
    assert!(ended.stderr.contains("error[C0016]") && ended.stderr.contains(first), "{}", ended.stderr);
    assert!(!out.exists());
    let ended = run(command.args(["--flip-sign", "model.layers.1.mlp.up_proj"]));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

/// The proof holds more than packing does: activations of both programs.
#[test]
fn a_bound_on_memory_holds_for_the_proof() {
    let (_folder, _, mut command) = command(R1);
    let packing = least_memory(&mut command);
    let (_folder, out, mut command) = self::command(R1);
    let ended = run(command.args(["--memory", &packing.to_string()]));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let (_, rest) = ended.stderr.split_once("memory bound of ").unwrap();
    let (least, rest) = rest.split_once(" bytes").unwrap();
    assert!(rest.contains("for the proof"), "{}", ended.stderr);
    assert!(!out.exists());
    let (_folder, out, mut command) = self::command(R1);
    let ended = run(command.args(["--memory", least]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the tokenizer takes") && ended.stderr.contains("tokens, random tokens only"));
    assert_eq!(proof_of(&out)["proved"]["text_tokens"], 0);
}

/// A calibration runs the model, which no bound counts.
#[test]
fn no_bound_on_memory_is_taken_for_a_calibration() {
    let (_folder, out, mut command) = command("input of layers.*.mlp.up_proj by smooth(alpha: 0.5)");
    let ended = run(command.args(["--calibrate", "text", "--memory", "1G"]));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("expected no --memory with it") && !out.exists(), "{}", ended.stderr);
}
