//! Tables that an embedding and heads share: how many are packed, in every case that a checkpoint can be in.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::command::{compile, ids, lathe, lathe_run, run, succeed, succeed_json};
use crate::support::files;
use crate::support::forge::Forge;
use crate::support::llama::{Stored, write};
use crate::support::random::Random;

const TABLE: &str = "model.decoder.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const SHARED: &str = "lm_head.weight = model.decoder.embed_tokens.weight";

const WIDTH: u64 = 8;
const VOCABULARY: u64 = 12;

/// A checkpoint with learned positions, biases and ReLU, in one layer. Its head is not stored.
fn small() -> (Value, Forge) {
    let (ffn, positions) = (16, 10);
    let config = json!({
        "architectures": ["OPTForCausalLM"],
        "hidden_size": WIDTH,
        "word_embed_proj_dim": WIDTH,
        "ffn_dim": ffn,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": positions,
        "activation_function": "relu",
        "do_layer_norm_before": true,
        "tie_word_embeddings": true,
    });
    let mut random = Random::new(7);
    let mut tensors = Forge::default();
    let mut push = |name: &str, shape: &[u64]| {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.unit()).collect();
        tensors.push(name, "BF16", shape, &Stored::Bf16.encode(&values));
    };
    push(TABLE, &[VOCABULARY, WIDTH]);
    push("model.decoder.embed_positions.weight", &[positions + 2, WIDTH]);
    push("model.decoder.final_layer_norm.weight", &[WIDTH]);
    push("model.decoder.final_layer_norm.bias", &[WIDTH]);
    let linears =
        [("k_proj", WIDTH, WIDTH), ("v_proj", WIDTH, WIDTH), ("q_proj", WIDTH, WIDTH), ("out_proj", WIDTH, WIDTH)];
    let linears = linears.map(|(name, out, input)| (format!("self_attn.{name}"), out, input));
    for (name, out, input) in linears.into_iter().chain([("fc1".into(), ffn, WIDTH), ("fc2".into(), WIDTH, ffn)]) {
        push(&format!("model.decoder.layers.0.{name}.weight"), &[out, input]);
        push(&format!("model.decoder.layers.0.{name}.bias"), &[out]);
    }
    for norm in ["self_attn_layer_norm", "final_layer_norm"] {
        push(&format!("model.decoder.layers.0.{norm}.weight"), &[WIDTH]);
        push(&format!("model.decoder.layers.0.{norm}.bias"), &[WIDTH]);
    }
    (config, tensors)
}

/// A head beside its table.
#[derive(Clone, Copy, PartialEq)]
enum Head {
    Absent,
    Equal,
    /// The last byte alone differs.
    Different,
}

fn with_head(tensors: &mut Forge, head: Head) {
    if head == Head::Absent {
        return;
    }
    let mut bytes = tensors.bytes(TABLE).to_vec();
    if head == Head::Different {
        *bytes.last_mut().expect("tables have elements") ^= 1;
    }
    let shape = tensors.entry(TABLE).shape.clone();
    tensors.push(HEAD, "BF16", &shape, &bytes);
}

/// What a compilation came to.
struct Outcome {
    folder: tempfile::TempDir,
    stderr: String,
    weights: Vec<String>,
    tied: Value,
}

impl Outcome {
    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Bytes of the weight files.
    fn bytes(&self) -> u64 {
        let is_weights = |path: &&PathBuf| path.extension().is_some_and(|end| end == "safetensors");
        let files = files::list(&self.out());
        files.iter().filter(is_weights).map(|path| fs::metadata(path).expect("the file is there").len()).sum()
    }

    fn logits(&self, tokens: &[u32]) -> Vec<u8> {
        let file = self.folder.path().join("logits.safetensors");
        succeed(lathe_run().arg("logits").arg(self.out()).args(["--ids", &ids(tokens)]).arg("-o").arg(&file));
        files::read(&file)
    }

    /// Names of the packed tables of the vocabulary.
    fn tables(&self) -> Vec<&str> {
        self.weights.iter().map(String::as_str).filter(|name| [TABLE, HEAD].contains(name)).collect()
    }
}

#[track_caller]
fn compiled(config: &Value, tensors: &Forge, rules: &str, definition: Option<&str>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let [checkpoint, spec, out, model] =
        ["checkpoint", "spec.lathe", "out", "model.lathe"].map(|name| folder.path().join(name));
    write(&checkpoint, config, tensors);
    fs::write(&spec, format!("lathe 1\nspec of_ties {{\n    rules {{\n{rules}\n    }}\n}}\n")).unwrap();
    let mut command = compile(spec.to_str().expect("temporary paths are UTF-8"), &checkpoint, &out);
    if let Some(text) = definition {
        fs::write(&model, text).unwrap();
        command.arg("--model-def").arg(&model);
    }
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let inspected = succeed_json(lathe().arg("inspect").arg(&out).arg("--json"));
    let weights = inspected["weights"].as_array().expect("artifacts list their weights");
    let weights = weights.iter().map(|weight| weight["name"].as_str().unwrap_or_default().to_string()).collect();
    let tied = files::read_json(&out.join("report.json"))["tied"].take();
    Outcome { folder, stderr: ended.stderr, weights, tied }
}

const KEEP: &str = "** => keep";
const TOKENS: [u32; 6] = [1, 11, 4, 0, 4, 7];

/// Whether config.json says tied, the head, the rules; how many tables are packed, and whether a warning is due.
const CASES: &[(Option<bool>, Head, &str, usize, bool)] = &[
    (Some(true), Head::Absent, KEEP, 1, false),
    (None, Head::Absent, KEEP, 1, false),
    (Some(true), Head::Equal, KEEP, 1, false),
    (None, Head::Equal, KEEP, 1, false),
    (Some(false), Head::Equal, KEEP, 1, false),
    (Some(true), Head::Different, KEEP, 2, true),
    (None, Head::Different, KEEP, 2, false),
    (Some(false), Head::Different, KEEP, 2, false),
    // One format for both ends, by a rule for each or for one of them.
    (Some(false), Head::Equal, ":head => f32\n:embedding => f32", 1, false),
    (Some(true), Head::Absent, ":head => f32", 1, false),
    (Some(true), Head::Different, ":head => f16\n:embedding => f32", 2, true),
    // Two formats: what config.json does not tie may have them.
    (Some(false), Head::Equal, ":head => f16\nmodel.decoder.embed_tokens => f32", 2, false),
];

#[test]
fn one_table_is_packed_once_and_two_are_two() {
    for (index, &(tied, head, rules, count, warns)) in CASES.iter().enumerate() {
        let (mut config, mut tensors) = small();
        config["tie_word_embeddings"] = json!(tied);
        with_head(&mut tensors, head);
        let found = compiled(&config, &tensors, rules, None);
        let tables = found.tables();
        assert_eq!(tables, if count == 1 { vec![TABLE] } else { vec![TABLE, HEAD] }, "case {index}");
        assert_eq!(found.tied, if count == 1 { json!([SHARED]) } else { json!([]) }, "case {index}");
        assert_eq!(found.stderr.contains("warning[C0011]"), warns, "case {index}: {}", found.stderr);
        assert_eq!(found.stderr.matches("warning[").count(), usize::from(warns), "case {index}: {}", found.stderr);
    }
}

#[test]
fn a_shared_table_computes_what_two_equal_ones_do() {
    let logits = |head: Head, rules: &str| {
        let (mut config, mut tensors) = small();
        config["tie_word_embeddings"] = json!(head == Head::Absent);
        with_head(&mut tensors, head);
        let found = compiled(&config, &tensors, rules, None);
        (found.bytes(), found.logits(&TOKENS))
    };
    let (bytes, shared) = logits(Head::Absent, KEEP);
    assert_eq!(logits(Head::Equal, KEEP), (bytes, shared.clone()));
    // bf16 values are values of f32 too: two tables that are equal but for their formats.
    let (more, apart) = logits(Head::Equal, ":head => f32\nmodel.decoder.embed_tokens => bf16");
    assert!(more >= bytes + 4 * WIDTH * VOCABULARY && apart == shared);
    let (_, different) = logits(Head::Different, KEEP);
    assert!(different != shared);
}

/// Two heads and two embeddings of one table, of which one is stored.
const SEVERAL: &str = "\
lathe 1
model several {
    let d = config.hidden_size
    module model.decoder.embed_tokens = embedding(config.vocab_size, d)
    module norm                       = layer_norm(d, eps: 1e-5)
    module lm_head, second, third     = head(d, config.vocab_size, tied_to: model.decoder.embed_tokens)
    graph(tokens, positions) {
        x = model.decoder.embed_tokens(tokens) + model.decoder.embed_tokens(tokens) * 0.5
        return lm_head(norm(x)) + second(x) * 2 + third(norm(x)) * 0.25
    }
}
";

#[test]
fn any_number_of_readers_share_one_table() {
    let (config, all) = small();
    let config = json!({"hidden_size": config["hidden_size"], "vocab_size": config["vocab_size"]});
    let mut tensors = Forge::default();
    let mut source = all;
    tensors.push(TABLE, "BF16", &[VOCABULARY, WIDTH], source.bytes(TABLE));
    for end in ["weight", "bias"] {
        tensors.push(
            &format!("norm.{end}"),
            "BF16",
            &[WIDTH],
            source.bytes(&format!("model.decoder.final_layer_norm.{end}")),
        );
    }
    let none_stored = compiled(&config, &tensors, KEEP, Some(SEVERAL));
    assert_eq!(none_stored.tied.as_array().map(Vec::len), Some(3));
    assert_eq!(none_stored.weights.len(), 3, "{:?}", none_stored.weights);
    // One of the heads is stored as well, equal; another differs.
    let table = tensors.bytes(TABLE).to_vec();
    tensors.push("second.weight", "BF16", &[VOCABULARY, WIDTH], &table);
    let one_stored = compiled(&config, &tensors, KEEP, Some(SEVERAL));
    assert_eq!(one_stored.weights, none_stored.weights);
    assert_eq!(one_stored.logits(&TOKENS), none_stored.logits(&TOKENS));
    tensors.bytes("second.weight")[1] ^= 0x40;
    let one_apart = compiled(&config, &tensors, KEEP, Some(SEVERAL));
    assert_eq!(one_apart.tied.as_array().map(Vec::len), Some(2));
    assert_eq!(one_apart.weights.len(), 4, "{:?}", one_apart.weights);
}

/// The same with a trained model, where there is one.
#[test]
fn a_trained_model_holds_one_table() {
    let Some(folder) = env::var_os("LATHE_TEST_MODELS") else {
        return crate::support::skipped("tables of trained models: LATHE_TEST_MODELS names no folder");
    };
    let model = Path::new(&folder).join("tiny-opt");
    let config = files::read_json(&model.join("config.json"));
    let mut tensors = Forge::open(&model.join("model.safetensors"));
    let one = compiled(&config, &tensors, KEEP, None);
    assert_eq!((one.tables(), one.stderr.contains("warning")), (vec![TABLE], false), "{}", one.stderr);
    if tensors.entries.iter().any(|entry| entry.name == HEAD) {
        tensors.remove(HEAD);
    }
    let table = tensors.bytes(TABLE).len() as u64;
    with_head(&mut tensors, Head::Different);
    let two = compiled(&config, &tensors, KEEP, None);
    assert_eq!((two.tables(), two.stderr.contains("warning[C0011]")), (vec![TABLE, HEAD], true), "{}", two.stderr);
    assert!(two.bytes() >= one.bytes() + table);
}
