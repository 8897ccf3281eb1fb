//! Checkpoints that are broken or that lie: exit code 1, a message that says what and where, nothing written.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::command::{Ended, compile, lathe, run, succeed};
use crate::support::files;
use crate::support::forge::{Forge, assemble};
use crate::support::llama::{self, Llama, Shape, Stored};

const TABLE: &str = "model.embed_tokens.weight";
const GATE: &str = "model.layers.0.mlp.gate_proj.weight";
const DOWN: &str = "model.layers.0.mlp.down_proj.weight";
const NORM: &str = "model.norm.weight";

/// A fault and how to make a checkpoint that has it.
type Case = (&'static str, fn(&Path));

static CASES: &[Case] = &[
    // The files.
    ("no_folder", |_| {}),
    ("empty_folder", |folder| fs::create_dir(folder).unwrap()),
    ("no_weights", |folder| {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("config.json"), Shape::tiny().config().to_string()).unwrap();
    }),
    ("empty_weights", |folder| bytes(folder, |_| Vec::new())),
    ("truncated_data", |folder| bytes(folder, |forge| short(forge.to_bytes(), 100))),
    ("truncated_header", |folder| bytes(folder, |forge| forge.to_bytes()[..100].to_vec())),
    ("header_length_beyond_the_file", |folder| {
        bytes(folder, |forge| patched(forge.to_bytes(), &90_000_000u64.to_le_bytes()));
    }),
    ("header_length_beyond_memory", |folder| {
        bytes(folder, |forge| patched(forge.to_bytes(), &u64::MAX.to_le_bytes()));
    }),
    ("header_is_no_json", |folder| bytes(folder, |_| assemble("{\"a\": [", b""))),
    ("header_is_deep", |folder| bytes(folder, |_| assemble(&format!("{{\"a\":{}", "[".repeat(100_000)), b""))),
    ("header_is_a_list", |folder| bytes(folder, |_| assemble("[]", b""))),
    ("trailing_bytes", |folder| forged(folder, |forge| forge.data.extend([0; 10]))),
    // What the header says.
    ("offsets_beyond_the_data", |folder| {
        forged(folder, |forge| {
            let length = forge.data.len() as u64;
            forge.entry(NORM).offsets = (length - 2, length + 10);
        });
    }),
    ("offsets_backwards", |folder| {
        forged(folder, |forge| {
            let (begin, end) = forge.entry(NORM).offsets;
            forge.entry(NORM).offsets = (end, begin);
        });
    }),
    ("overlap", |folder| {
        forged(folder, |forge| {
            let (begin, end) = forge.entry(NORM).offsets;
            forge.entry(NORM).offsets = (begin - 4, end - 4);
            forge.data.truncate(end as usize - 4);
        });
    }),
    ("hole", |folder| {
        forged(folder, |forge| {
            let (begin, end) = forge.entry(NORM).offsets;
            forge.entry(NORM).offsets = (begin + 4, end + 4);
            forge.data.extend([0; 4]);
        });
    }),
    ("size_is_not_dtype_times_shape", |folder| forged(folder, |forge| forge.entry(NORM).shape = vec![5])),
    ("shape_overflows", |folder| forged(folder, |forge| forge.entry(NORM).shape = vec![1 << 40, 1 << 40])),
    ("unknown_dtype", |folder| forged(folder, |forge| forge.entry(NORM).dtype = "BF17")),
    ("two_tensors_of_one_name", |folder| {
        forged(folder, |forge| {
            let bytes = vec![0; 12];
            forge.push(NORM, "BF16", &[6], &bytes);
        });
    }),
    // Shards.
    ("missing_shard", |folder| {
        sharded(folder, |_| {});
        fs::remove_file(folder.join("b.safetensors")).unwrap();
    }),
    ("shard_lacks_a_tensor_of_the_index", |folder| sharded(folder, |map| map[TABLE] = json!("b.safetensors"))),
    ("index_leads_out_of_the_folder", |folder| sharded(folder, |map| map[TABLE] = json!("../a.safetensors"))),
    ("index_leads_to_the_root", |folder| sharded(folder, |map| map[TABLE] = json!("/etc/passwd"))),
    ("index_names_no_file", |folder| sharded(folder, |map| map[TABLE] = json!(7))),
    ("index_is_empty", |folder| sharded(folder, |map| *map = json!({}))),
    ("index_without_a_map", |folder| sharded(folder, |map| *map = json!([]))),
    ("two_shards_with_one_tensor", |folder| {
        sharded(folder, |_| {});
        fs::copy(folder.join("a.safetensors"), folder.join("b.safetensors")).unwrap();
    }),
    // The tensors.
    ("missing_tensor", |folder| forged(folder, |forge| forge.remove(DOWN))),
    ("renamed_tensor", |folder| {
        forged(folder, |forge| forge.entry(DOWN).name = "model.layers.0.mlp.down.weight".into());
    }),
    ("unclaimed_tensor", |folder| {
        forged(folder, |forge| forge.push("model.layers.1.mlp.up_proj.weight", "BF16", &[1], &[0; 2]));
    }),
    ("another_shape", |folder| forged(folder, |forge| forge.entry(GATE).shape = vec![6, 10])),
    ("another_rank", |folder| forged(folder, |forge| forge.entry(GATE).shape = vec![60])),
    ("integers", |folder| {
        forged(folder, |forge| {
            forge.remove(NORM);
            forge.push(NORM, "I64", &[6], &[0; 48]);
        });
    }),
    ("nan_in_bf16", |folder| not_finite(folder, Stored::Bf16, &[0xc1, 0x7f])),
    ("inf_in_bf16", |folder| not_finite(folder, Stored::Bf16, &[0x80, 0x7f])),
    ("nan_in_f16", |folder| not_finite(folder, Stored::F16, &[0x01, 0xfc])),
    ("inf_in_f16", |folder| not_finite(folder, Stored::F16, &[0x00, 0xfc])),
    ("nan_in_f32", |folder| not_finite(folder, Stored::F32, &[0x00, 0x00, 0xc0, 0x7f])),
    ("inf_in_f32", |folder| not_finite(folder, Stored::F32, &[0x00, 0x00, 0x80, 0xff])),
    ("head_missing_though_untied", |folder| configured(folder, |config| config["tie_word_embeddings"] = json!(false))),
    // The config.
    ("config_is_cut_short", |folder| config_text(folder, "{\"architectures\": [")),
    ("config_is_a_list", |folder| config_text(folder, "[1, 2]")),
    ("config_is_deep", |folder| config_text(folder, &"[".repeat(100_000))),
    ("config_is_missing", |folder| {
        configured(folder, |_| {});
        fs::remove_file(folder.join("config.json")).unwrap();
    }),
    ("no_architectures", |folder| {
        configured(folder, |config| drop(config.as_object_mut().unwrap().remove("architectures")));
    }),
    ("architectures_is_no_list", |folder| configured(folder, |config| config["architectures"] = json!("Llama"))),
    ("unknown_architecture", |folder| {
        configured(folder, |config| config["architectures"] = json!(["LLaMAForCausalLM"]));
    }),
    ("no_hidden_size", |folder| configured(folder, |config| remove(config, "hidden_size"))),
    ("hidden_size_is_null", |folder| configured(folder, |config| config["hidden_size"] = json!(null))),
    ("hidden_size_is_text", |folder| configured(folder, |config| config["hidden_size"] = json!("6"))),
    ("hidden_size_is_negative", |folder| configured(folder, |config| config["hidden_size"] = json!(-6))),
    ("hidden_size_is_huge", |folder| configured(folder, |config| config["hidden_size"] = json!(1u64 << 62))),
    ("hidden_size_is_no_int", |folder| configured(folder, |config| config["hidden_size"] = json!(6.5))),
    ("heads_and_size_overflow", |folder| {
        configured(folder, |config| {
            config["num_attention_heads"] = json!(1u64 << 62);
            config["head_dim"] = json!(1u64 << 20);
        });
    }),
    ("no_heads", |folder| configured(folder, |config| config["num_attention_heads"] = json!(0))),
    ("heads_that_kv_heads_do_not_divide", |folder| {
        Llama::new(Shape { heads: 3, kv_heads: 2, ..Shape::tiny() }).write(folder);
    }),
    ("odd_head_dim", |folder| Llama::new(Shape { head_dim: 3, ..Shape::tiny() }).write(folder)),
    ("no_layers", |folder| configured(folder, |config| config["num_hidden_layers"] = json!(0))),
    ("a_trillion_layers", |folder| {
        configured(folder, |config| config["num_hidden_layers"] = json!(1_000_000_000_000u64));
    }),
    ("another_activation", |folder| configured(folder, |config| config["hidden_act"] = json!("snake"))),
    ("theta_is_zero", |folder| configured(folder, |config| config["rope_theta"] = json!(0))),
    ("unknown_rope", |folder| {
        configured(folder, |config| config["rope_scaling"] = json!({"rope_type": "spiral", "factor": 4.0}));
    }),
    ("eps_is_negative", |folder| configured(folder, |config| config["rms_norm_eps"] = json!(-1e-6))),
    ("eps_overflows", |folder| configured(folder, |config| config["rms_norm_eps"] = json!(1e300))),
    ("window_is_zero", |folder| {
        configured(folder, |config| {
            config["architectures"] = json!(["MistralForCausalLM"]);
            config["sliding_window"] = json!(0);
        });
    }),
    ("context_is_huge", |folder| configured(folder, |config| config["max_position_embeddings"] = json!(1u64 << 40))),
    ("context_is_zero", |folder| configured(folder, |config| config["max_position_embeddings"] = json!(0))),
];

/// Writes the tiny checkpoint with these bytes as its weights.
fn bytes(folder: &Path, weights: impl FnOnce(Forge) -> Vec<u8>) {
    let model = Llama::new(Shape::tiny());
    model.write(folder);
    fs::write(folder.join("model.safetensors"), weights(model.tensors)).unwrap();
}

/// Writes the tiny checkpoint with its tensors falsified.
fn forged(folder: &Path, falsify: impl FnOnce(&mut Forge)) {
    bytes(folder, |mut forge| {
        falsify(&mut forge);
        forge.to_bytes()
    });
}

/// Writes the tiny checkpoint with another config.
fn configured(folder: &Path, change: impl FnOnce(&mut Value)) {
    let model = Llama::new(Shape::tiny());
    let mut config = model.shape.config();
    change(&mut config);
    llama::write(folder, &config, &model.tensors);
}

fn remove(config: &mut Value, key: &str) {
    config.as_object_mut().expect("configs are objects").remove(key);
}

/// Writes the tiny checkpoint with this as its config.json.
fn config_text(folder: &Path, text: &str) {
    configured(folder, |_| {});
    fs::write(folder.join("config.json"), text).unwrap();
}

/// Writes the tiny checkpoint in two shards, with the map of the index falsified.
fn sharded(folder: &Path, falsify: impl FnOnce(&mut Value)) {
    let model = Llama::new(Shape::tiny());
    model.write(folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let mut map = json!({});
    for (name, parity) in [("a.safetensors", 0), ("b.safetensors", 1)] {
        let part = model.tensors.part(|index| index % 2 == parity);
        part.write(&folder.join(name));
        for entry in &part.entries {
            map[&entry.name] = json!(name);
        }
    }
    falsify(&mut map);
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// Writes a tiny checkpoint with these bytes as column 3 of row 2 of a weight.
fn not_finite(folder: &Path, stored: Stored, element: &[u8]) {
    let mut model = Llama::new(Shape { stored, ..Shape::tiny() });
    let at = (2 * model.shape.ffn + 3) * element.len();
    model.tensors.bytes(DOWN)[at..at + element.len()].copy_from_slice(element);
    model.write(folder);
}

fn short(mut bytes: Vec<u8>, by: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - by);
    bytes
}

fn patched(mut bytes: Vec<u8>, start: &[u8]) -> Vec<u8> {
    bytes[..start.len()].copy_from_slice(start);
    bytes
}

/// A message as snapshots hold it: without the temporary folder.
fn portable(text: &str, folder: &Path) -> String {
    text.replace(folder.to_str().expect("paths of the tests are UTF-8"), "[folder]")
}

fn snapshot(name: &str, text: &str) {
    crate::support::snapshot("checkpoint", name, text);
}

#[test]
fn every_fault_is_named_and_nothing_is_written() {
    for (name, make) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, out) = (folder.path().join("checkpoint"), folder.path().join("out"));
        make(&checkpoint);
        let before = files::list(folder.path());
        let started = Instant::now();
        let Ended { code, stdout, stderr } = run(&mut compile("keep", &checkpoint, &out));
        assert!(started.elapsed() < Duration::from_secs(20), "{name} takes {:?}", started.elapsed());
        assert_eq!(code, Some(1), "{name}\n{stderr}");
        assert_eq!(stdout, "", "{name}");
        assert_eq!(files::list(folder.path()), before, "{name} leaves something behind");
        snapshot(name, &portable(&stderr, folder.path()));
    }
}

/// Compiles a checkpoint that is sound and returns the folder, what was said, and the names of the packed weights.
fn compiled(make: impl FnOnce(&Path)) -> (tempfile::TempDir, String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, out) = (folder.path().join("checkpoint"), folder.path().join("out"));
    make(&checkpoint);
    let ended = run(&mut compile("keep", &checkpoint, &out));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let inspected: Value = serde_json::from_str(&succeed(lathe().arg("inspect").arg(&out).arg("--json"))).unwrap();
    let weights = inspected["weights"].as_array().unwrap();
    let names = weights.iter().map(|weight| weight["name"].as_str().unwrap().to_string()).collect();
    (folder, ended.stderr, names)
}

fn with_head(folder: &Path, change: impl FnOnce(&mut [u8])) {
    let mut model = Llama::new(Shape::tiny());
    let table = model.tensors.bytes(TABLE).to_vec();
    model.tensors.push("lm_head.weight", "BF16", &[12, 6], &table);
    change(model.tensors.bytes("lm_head.weight"));
    model.write(folder);
}

#[test]
fn a_head_that_differs_from_its_tie_is_kept_with_a_warning() {
    // The last byte alone: nothing short of a whole comparison finds it.
    let (folder, stderr, names) = compiled(|folder| with_head(folder, |head| *head.last_mut().unwrap() ^= 1));
    assert!(stderr.contains("warning[C0011]"), "{stderr}");
    assert!(names.contains(&"lm_head.weight".to_string()) && names.contains(&TABLE.to_string()));
    let report = files::read_json(&folder.path().join("out/report.json"));
    assert_eq!(report["tied"], json!([]));
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn a_head_that_equals_its_tie_is_stored_once() {
    let (folder, stderr, names) = compiled(|folder| with_head(folder, |_| {}));
    assert!(!stderr.contains("warning"), "{stderr}");
    assert!(!names.contains(&"lm_head.weight".to_string()));
    let report = files::read_json(&folder.path().join("out/report.json"));
    assert_eq!(report["tied"], json!(["lm_head.weight = model.embed_tokens.weight"]));
}

#[test]
fn keys_that_nobody_reads_are_a_warning_and_an_error_when_strict() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, out) = (folder.path().join("checkpoint"), folder.path().join("out"));
    configured(&checkpoint, |config| {
        config["residual_multiplier"] = json!(0.5);
        config["vision"] = json!({"layers": 4, "patch": {"size": 32}});
    });
    let ended = run(&mut compile("keep", &checkpoint, &out));
    assert_eq!(ended.code, Some(0));
    let stderr = ended.stderr;
    for key in ["warning[C0010]", "residual_multiplier", "vision.layers", "vision.patch.size"] {
        assert!(stderr.contains(key), "{stderr}");
    }
    fs::remove_dir_all(&out).unwrap();
    let ended = run(compile("keep", &checkpoint, &out).arg("--strict"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("error[C0010]") && !out.exists(), "{}", ended.stderr);
}

#[test]
fn a_checkpoint_that_is_already_quantized_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, out) = (folder.path().join("checkpoint"), folder.path().join("out"));
    configured(&checkpoint, |config| config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4}));
    let ended = run(&mut compile("keep", &checkpoint, &out));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("error[C0013]") && ended.stderr.contains("gptq") && !out.exists(),
        "{}",
        ended.stderr
    );
}
