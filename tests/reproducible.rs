//! The same input gives the same bytes, whatever the threads, the memory and the shards; nothing is stored or read twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::command::{compile, lathe, succeed, succeed_json};
use crate::support::forge::Forge;
use crate::support::{self, files};

const MODELS: [&str; 2] = ["micro-llama", "tiny-qwen3"];
const WEIGHTS: &str = "weights-00001-of-00001.safetensors";

#[test]
fn compiling_twice_gives_equal_bytes() {
    for model in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let compiled = |name: &str, options: &[&str]| {
            let out = folder.path().join(name);
            succeed(compile("keep", &support::model(model), &out).args(options));
            files::contents(&out)
        };
        let first = compiled("first", &[]);
        assert!(first.contains_key(WEIGHTS) && first.contains_key("tokenizer.json"));
        let others: [&[&str]; 4] = [&[], &["--threads", "1"], &["--threads", "4"], &["--memory", "64M"]];
        for (index, options) in others.into_iter().enumerate() {
            let other = compiled(&index.to_string(), options);
            assert!(other.keys().eq(first.keys()), "{model} {options:?}");
            for (name, bytes) in &first {
                assert!(other[name] == *bytes, "{model} {options:?}: {name} differs");
            }
        }
    }
}

/// Bytes of all stored tensors.
fn stored_bytes(checkpoint: &Path) -> u64 {
    let forge = Forge::open(&checkpoint.join("model.safetensors"));
    forge.entries.iter().map(|entry| entry.offsets.1 - entry.offsets.0).sum()
}

#[test]
fn a_tied_table_is_stored_once_and_everything_is_read_once() {
    for model in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, out) = (support::model(model), folder.path().join("out"));
        succeed(&mut compile("keep", &checkpoint, &out));
        let stored = stored_bytes(&checkpoint);
        let report = files::read_json(&out.join("report.json"));
        assert_eq!(report["bytes_read"], stored, "{model}");
        assert_eq!(report["bytes_written"], stored, "{model}");
        assert_eq!(report["tied"], json!(["lm_head.weight = model.embed_tokens.weight"]), "{model}");

        let inspected = succeed_json(lathe().arg("inspect").arg(&out).arg("--json"));
        let weights = inspected["weights"].as_array().unwrap();
        let names: BTreeSet<&str> = weights.iter().map(|weight| weight["name"].as_str().unwrap()).collect();
        let source = Forge::open(&checkpoint.join("model.safetensors"));
        assert_eq!(names, source.entries.iter().map(|entry| entry.name.as_str()).collect(), "{model}");

        // Header and alignment of a tensor take less than 256 bytes.
        let size = fs::metadata(out.join(WEIGHTS)).unwrap().len();
        assert!(size >= stored && size < stored + 256 * (names.len() as u64 + 1), "{model}: {size} bytes for {stored}");
    }
}

/// micro-llama with a stored head: the bytes of the table, changed. Returns the report.
fn with_stored_head(change: impl FnOnce(&mut [u8])) -> (u64, Value) {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, out) = (folder.path().join("checkpoint"), folder.path().join("out"));
    files::copy(&support::model("micro-llama"), &checkpoint);
    let file = checkpoint.join("model.safetensors");
    let mut forge = Forge::open(&file);
    let mut head = forge.bytes("model.embed_tokens.weight").to_vec();
    change(&mut head);
    forge.push("lm_head.weight", "BF16", &[4096, 64], &head);
    forge.write(&file);
    succeed(&mut compile("keep", &checkpoint, &out));
    (stored_bytes(&checkpoint), files::read_json(&out.join("report.json")))
}

#[test]
fn a_head_of_its_own_is_read_once() {
    let (stored, report) = with_stored_head(|head| head[0] ^= 1);
    assert_eq!(report["tied"], json!([]));
    assert_eq!(report["bytes_read"], stored);
    assert_eq!(report["bytes_written"], stored);
}

#[test]
fn a_head_that_equals_its_table_is_read_once_and_never_written() {
    let (stored, report) = with_stored_head(|_| {});
    let table = 4096 * 64 * 2;
    assert_eq!(report["tied"], json!(["lm_head.weight = model.embed_tokens.weight"]));
    assert_eq!(report["bytes_written"], stored - table);
    // The table was compared before it is packed; to hold it meanwhile would take memory that grows with the model.
    let read = report["bytes_read"].as_u64().unwrap();
    assert!(read > stored && read <= stored + table, "{read} bytes read of {stored}");
}

#[test]
fn shards_give_the_weights_of_a_single_file() {
    let folder = tempfile::tempdir().unwrap();
    let whole = support::model("tiny-qwen3");
    let sharded = folder.path().join("sharded");
    files::copy(&whole, &sharded);
    let forge = Forge::open(&sharded.join("model.safetensors"));
    fs::remove_file(sharded.join("model.safetensors")).unwrap();
    let mut map = json!({});
    for shard in 0..3 {
        let name = format!("model-{:05}-of-00003.safetensors", shard + 1);
        let part = forge.part(|index| index % 3 == shard);
        part.write(&sharded.join(&name));
        for entry in &part.entries {
            map[&entry.name] = Value::from(name.as_str());
        }
    }
    let index = json!({"metadata": {"total_size": forge.data.len()}, "weight_map": map});
    fs::write(sharded.join("model.safetensors.index.json"), index.to_string()).unwrap();

    let compiled = |checkpoint: &Path, name: &str| {
        let out = folder.path().join(name);
        succeed(&mut compile("keep", checkpoint, &out));
        files::contents(&out)
    };
    let (expected, found) = (compiled(&whole, "a"), compiled(&sharded, "b"));
    for name in [WEIGHTS, "program.json", "lathe.lock", "report.json"] {
        assert!(expected[name] == found[name], "{name} differs");
    }
}
