//! `lathe verify`: what it measures against what the test computes from the files, and every way that it can end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use half::bf16;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::end_to_end::families;
use crate::support::command::{compile, ids, lathe, lathe_run, run, succeed, succeed_json};
use crate::support::forge::Forge;
use crate::support::llama::{Llama, Shape};
use crate::support::reference::{Reference, floats};
use crate::support::{files, model, root};

/// Where the weights of a small artifact are.
const WEIGHTS: &str = "weights-00001-of-00001.safetensors";

/// A checkpoint and what a spec made of it.
struct Compiled {
    folder: TempDir,
    checkpoint: PathBuf,
}

impl Compiled {
    /// With these rules.
    #[track_caller]
    fn new(checkpoint: &Path, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = folder.path().join("spec.lathe");
        fs::write(&spec, format!("lathe 1\nspec test {{ rules {{\n{rules}\n}} }}\n")).unwrap();
        succeed(&mut compile(spec.to_str().unwrap(), checkpoint, &folder.path().join("out")));
        Compiled { folder, checkpoint: checkpoint.to_owned() }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn verify(&self, arguments: &[&str]) -> Command {
        let mut command = lathe();
        command.arg("verify").arg(self.out()).arg(&self.checkpoint).args(arguments);
        command
    }

    #[track_caller]
    fn found(&self, arguments: &[&str]) -> Value {
        succeed_json(self.verify(arguments).arg("--json"))
    }

    /// Changes the packed weights.
    fn damage(&self, change: impl FnOnce(&mut Forge)) {
        let file = self.out().join(WEIGHTS);
        let mut weights = Forge::open(&file);
        change(&mut weights);
        weights.write(&file);
    }
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|index| (index * 7 + 3) % 11 + 1).collect()
}

fn by_path(found: &Value) -> BTreeMap<&str, &Value> {
    let modules = found["modules"].as_array().unwrap();
    modules.iter().map(|module| (module["path"].as_str().unwrap(), module)).collect()
}

fn worst(found: &Value) -> &str {
    found["modules"][0]["path"].as_str().unwrap()
}

/// Modules whose parameters or output alone differ, in order.
fn differing(found: &Value) -> Vec<&str> {
    let differs = |module: &&Value| {
        let states = [&module["weight"]["state"], &module["others"]["state"], &module["output"]["alone"]["state"]];
        states.iter().any(|state| !state.is_null() && **state != "equal")
    };
    found["modules"].as_array().unwrap().iter().filter(differs).map(|module| module["path"].as_str().unwrap()).collect()
}

#[track_caller]
fn assert_decibels(found: &Value, signal: f64, noise: f64) {
    let (found, expected) = (found.as_f64().unwrap(), 10.0 * (signal / noise).log10());
    assert!((found - expected).abs() < 0.02, "found {found} dB, expected {expected}");
}

/// The bf16 values of a checkpoint's tensor.
fn stored(checkpoint: &Path, tensor: &str) -> Vec<f64> {
    let mut file = Forge::open(&checkpoint.join("model.safetensors"));
    assert_eq!(file.entry(tensor).dtype, "BF16");
    bf16s(file.bytes(tensor))
}

fn bf16s(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<2>().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f64()).collect()
}

/// Σ x² and Σ (x − y)²
fn energies<'v>(pairs: impl IntoIterator<Item = (&'v f64, &'v f64)>) -> (f64, f64) {
    pairs.into_iter().fold((0.0, 0.0), |(signal, noise), (x, y)| (signal + x * x, noise + (x - y) * (x - y)))
}

#[test]
fn what_is_kept_is_equal_in_every_family() {
    let shipped = crate::definitions::shipped_architectures();
    let mut count = 0;
    for (checkpoint, definition) in families() {
        let config = files::read_json(&checkpoint.join("config.json"));
        if definition.is_none() && !shipped.iter().any(|name| *name == config["architectures"][0]) {
            continue;
        }
        let name = checkpoint.strip_prefix(root()).unwrap().display();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let read = Reference::open(&checkpoint).tokens("prompt0.input_ids");
        let mut verify = lathe();
        verify.arg("verify").arg(&out).arg(&checkpoint).args(["--json", "--ids", &ids(&read)]);
        let mut command = compile("keep", &checkpoint, &out);
        if let Some(definition) = &definition {
            command.arg("--model-def").arg(definition);
            verify.arg("--model-def").arg(definition);
        }
        succeed(&mut command);
        let found = succeed_json(&mut verify);
        assert_eq!(differing(&found), [""; 0], "{name}");
        assert_eq!(found["not_comparable"], json!([]), "{name}");
        let predictions = &found["predictions"];
        assert_eq!([&predictions["kl_mean"], &predictions["kl_max"]], [&json!(0.0), &json!(0.0)], "{name}");
        assert_eq!(
            [&predictions["same_choice"], &predictions["perplexity_ratio"]],
            [&json!(1.0), &json!(1.0)],
            "{name}"
        );
        assert_eq!(predictions["logits"]["state"], "equal", "{name}");
        let report = files::read_json(&out.join("report.json"));
        let modules = by_path(&found);
        for module in report["modules"].as_array().unwrap() {
            let path = module["path"].as_str().unwrap();
            let found = modules.get(path).unwrap_or_else(|| panic!("{name}: {path} is missing"));
            let is_seen = !found["output"].is_null() && found["output"]["in_model"]["state"] == "equal";
            assert!(is_seen || path.contains("experts"), "{name}: {path} has no output");
        }
        assert_eq!(modules.len(), report["modules"].as_array().unwrap().len(), "{name}");
        count += 1;
    }
    assert!(count >= 30, "{count} checkpoints");
}

#[test]
fn a_module_that_loses_something_is_found() {
    let path = "model.layers.1.mlp.up_proj";
    let compiled = Compiled::new(&model("micro-llama"), &format!("{path} => int8(per: channel)"));
    let found = compiled.found(&[]);
    assert_eq!(differing(&found), [path]);
    assert_eq!(found["plan_blake3"], files::read_json(&compiled.out().join("lathe.lock"))["plan_blake3"]);
    let modules = by_path(&found);
    let module = modules[path];
    assert_eq!((&module["kind"], &module["format"]), (&json!("linear"), &json!("int8(per: channel)")));

    let weight = format!("{path}.weight");
    let original = stored(&compiled.checkpoint, &weight);
    let mut packed = Forge::open(&compiled.out().join(WEIGHTS));
    let columns = packed.entry(&weight).shape[1] as usize;
    let scales = bf16s(packed.bytes(&format!("{weight}.scales")));
    let codes = packed.bytes(&weight).iter().map(|&code| f64::from(code as i8));
    let decoded: Vec<f64> = codes.enumerate().map(|(at, code)| code * scales[at / columns]).collect();
    let (signal, noise) = energies(original.iter().zip(&decoded));
    assert_decibels(&module["weight"]["sqnr_db"], signal, noise);
    let largest = original.iter().zip(&decoded).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    assert!((module["weight"]["max_error"].as_f64().unwrap() - largest).abs() < 1e-7);
    let report = files::read_json(&compiled.out().join("report.json"));
    let reported = report["modules"].as_array().unwrap().iter().find(|module| module["path"] == path).unwrap();
    assert_eq!(reported["sqnr_db"], module["weight"]["sqnr_db"]);

    // Nothing before it has changed, all behind it has.
    assert_eq!(module["output"]["alone"], module["output"]["in_model"]);
    assert_eq!(modules["model.layers.1.self_attn.o_proj"]["output"]["in_model"]["state"], "equal");
    for behind in ["model.layers.1.mlp.down_proj", "model.norm", "lm_head"] {
        assert_eq!(modules[behind]["output"]["alone"]["state"], "equal", "{behind}");
        assert_eq!(modules[behind]["output"]["in_model"]["state"], "differs", "{behind}");
    }
    let groups = found["groups"].as_array().unwrap();
    assert_eq!(groups[0]["worst"], path);
    assert_eq!((&groups[0]["modules"], &groups[0]["equal"]), (&json!(1), &json!(0)));
    assert!(groups[1..].iter().all(|group| group["modules"] == group["equal"] && group["worst"].is_null()));
}

#[test]
fn a_shared_table_is_one_weight_with_two_outputs() {
    let compiled = Compiled::new(&model("micro-llama"), "{:embedding, :head} => int8(per: channel)");
    let read = tokens(40);
    let found = compiled.found(&["--ids", &ids(&read)]);
    let modules = by_path(&found);
    let (table, head) = (modules["model.embed_tokens"], modules["lm_head"]);
    assert_eq!(head["shares"], "model.embed_tokens");
    assert!(head["weight"].is_null() && table["shares"].is_null() && !table["weight"].is_null());
    assert_eq!(head["format"], "int8(per: channel)");
    assert!(head["output"]["alone"]["sqnr_db"].as_f64() > head["output"]["in_model"]["sqnr_db"].as_f64());

    let weight = "model.embed_tokens.weight";
    let original = stored(&compiled.checkpoint, weight);
    let mut packed = Forge::open(&compiled.out().join(WEIGHTS));
    let columns = packed.entry(weight).shape[1] as usize;
    let scales = bf16s(packed.bytes(&format!("{weight}.scales")));
    let codes: Vec<f64> = packed.bytes(weight).iter().map(|&code| f64::from(code as i8)).collect();
    let looked_up: Vec<usize> =
        read.iter().flat_map(|&token| token as usize * columns..(token as usize + 1) * columns).collect();
    let of_original: Vec<f64> = looked_up.iter().map(|&at| original[at]).collect();
    let of_packed: Vec<f64> = looked_up.iter().map(|&at| codes[at] * scales[at / columns]).collect();
    let (signal, noise) = energies(of_original.iter().zip(&of_packed));
    assert_decibels(&table["output"]["alone"]["sqnr_db"], signal, noise);
    assert_eq!(table["output"]["alone"], table["output"]["in_model"]);
}

/// `log Σ exp`
fn normalizer(logits: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    largest + logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln()
}

#[test]
fn predictions_are_those_of_the_models() {
    let checkpoint = model("micro-llama");
    let compiled = Compiled::new(&checkpoint, ":linear => int4(group: 32)");
    let kept = Compiled::new(&checkpoint, "** => keep");
    let read = tokens(100);
    let found = compiled.found(&["--ids", &ids(&read)]);
    assert_eq!(found["text"], json!({ "source": "--ids", "tokens": 100, "window": 100 }));
    let logits = |compiled: &Compiled| {
        let file = compiled.folder.path().join("logits.safetensors");
        let mut command = lathe_run();
        succeed(command.arg("logits").arg(compiled.out()).args(["--ids", &ids(&read)]).arg("-o").arg(&file));
        floats(&files::read(&file), "logits")
    };
    let (original, packed) = (logits(&kept), logits(&compiled));
    let vocabulary = original.len() / read.len();
    let rows = original.chunks(vocabulary).zip(packed.chunks(vocabulary));
    let divergences: Vec<f64> = rows
        .map(|(p, q)| {
            let (of_p, of_q) = (normalizer(p), normalizer(q));
            let terms = p.iter().zip(q).map(|(&p, &q)| {
                let (p, q) = (f64::from(p) - of_p, f64::from(q) - of_q);
                p.exp() * (p - q)
            });
            terms.sum()
        })
        .collect();
    let mean = divergences.iter().sum::<f64>() / read.len() as f64;
    let predictions = &found["predictions"];
    assert!(mean > 1e-4);
    assert!((predictions["kl_mean"].as_f64().unwrap() / mean - 1.0).abs() < 1e-6);
    let largest = divergences.iter().copied().fold(0.0, f64::max);
    assert!((predictions["kl_max"].as_f64().unwrap() / largest - 1.0).abs() < 1e-6);
    let double = |logits: &[f32]| logits.iter().map(|&logit| f64::from(logit)).collect::<Vec<f64>>();
    let (signal, noise) = energies(double(&original).iter().zip(&double(&packed)));
    assert_decibels(&predictions["logits"]["sqnr_db"], signal, noise);
}

#[test]
fn perplexities_are_those_of_lathe_run() {
    let checkpoint = model("micro-llama");
    let compiled = Compiled::new(&checkpoint, ":linear => int4(group: 32)");
    let kept = Compiled::new(&checkpoint, "** => keep");
    let text = model("heldout.txt");
    let text = text.to_str().unwrap();
    let found = compiled.found(&["--text", text, "--tokens", "800"]);
    assert_eq!(found["text"], json!({ "source": text, "tokens": 768, "window": 256 }));
    for (compiled, name) in [(&kept, "perplexity_original"), (&compiled, "perplexity_compiled")] {
        let mut command = lathe_run();
        command.arg("perplexity").arg(compiled.out()).args(["--text", text, "--windows", "3", "--json"]);
        let (found, expected) = (&found["predictions"][name], &succeed_json(&mut command)["perplexity"]);
        assert!((found.as_f64().unwrap() / expected.as_f64().unwrap() - 1.0).abs() < 1e-6, "{found} {expected}");
    }
    assert_eq!(compiled.found(&["--text", text, "--tokens", "90"])["text"]["window"], 90);
}

#[test]
fn experts_answer_for_the_tokens_that_chose_them() {
    let checkpoint = root().join("families/qwen3_moe");
    let one = "model.layers.0.mlp.experts.1.up_proj";
    let read = tokens(30);
    let compiled = Compiled::new(&checkpoint, &format!("{one} => int4(group: 8)"));
    let found = compiled.found(&["--ids", &ids(&read)]);
    assert_eq!(differing(&found), [one]);
    let modules = by_path(&found);
    // Two experts for each token.
    for kind in ["gate_proj", "up_proj", "down_proj"] {
        let of_layer = (0..5).map(|expert| modules[&*format!("model.layers.0.mlp.experts.{expert}.{kind}")]);
        let chosen: u64 = of_layer.filter_map(|expert| expert["output"]["tokens"].as_u64()).sum();
        assert_eq!(chosen, 60, "{kind}");
    }

    // A single token chooses two of five, which leaves three unseen; a router that is harmed sends others elsewhere.
    let compiled =
        Compiled::new(&checkpoint, "**.experts.*.** => int4(group: 8)\n**.self_attn.*:linear => int4(per: channel)");
    let found = compiled.found(&["--ids", &ids(&read)]);
    let (mut elsewhere, mut experts) = (0, 0);
    for module in found["modules"].as_array().unwrap() {
        let output = &module["output"];
        let all_went = output["elsewhere"].as_u64() == output["tokens"].as_u64() && !output.is_null();
        assert_eq!(output["in_model"].is_null(), output.is_null() || all_went, "{module}");
        elsewhere += output["elsewhere"].as_u64().unwrap_or(0);
        experts += u64::from(module["path"].as_str().unwrap().contains("experts"));
    }
    assert!(elsewhere > 0 && experts == 30);
    let few = compiled.found(&["--ids", "1,2"]);
    let modules = by_path(&few);
    let unseen: Vec<&&Value> = modules.values().filter(|module| module["output"].is_null()).collect();
    assert!(!unseen.is_empty() && unseen.iter().all(|module| module["weight"]["state"] == "differs"));
    let listing = succeed(&mut compiled.verify(&["--ids", "1,2", "--all"]));
    assert_eq!(listing.matches("no token has chosen it").count(), unseen.len(), "{listing}");

    // Where there is no output, the weight decides, and it is said that nothing else did.
    let path = unseen[0]["path"].as_str().unwrap();
    let compiled = Compiled::new(&checkpoint, &format!("{path} => int4(group: 8)"));
    let found = compiled.found(&["--ids", "1,2"]);
    assert_eq!(worst(&found), path);
    let weight = by_path(&found)[path]["weight"]["sqnr_db"].as_f64().unwrap();
    let end = |bound: f64| run(&mut compiled.verify(&["--ids", "1,2", "--min-sqnr", &bound.to_string()]));
    let within = end(weight - 1.0);
    assert_eq!(within.code, Some(0), "{}", within.stderr);
    assert!(within.stderr.contains("1 module has no output to judge, its weight is not below"), "{}", within.stderr);
    let beyond = end(weight + 1.0);
    assert_eq!(beyond.code, Some(1));
    let said = format!("1 module is below: {path} gives no output, its weight {weight:.1} dB");
    assert!(beyond.stderr.contains(&said), "{}", beyond.stderr);
    assert!(!beyond.stderr.contains("to judge"), "{}", beyond.stderr);
}

#[test]
fn damage_is_at_the_top() {
    let (path, row, columns) = ("model.layers.0.mlp.gate_proj", 3, 64);
    let weight = format!("{path}.weight");
    let compiled = Compiled::new(&model("micro-llama"), "**.o_proj => int8(per: channel)");
    assert!(compiled.found(&[])["changed"].is_null());
    compiled.damage(|weights| weights.bytes(&weight)[row * columns * 2..(row + 1) * columns * 2].fill(0));
    let found = compiled.found(&[]);
    assert_eq!(found["changed"], json!([weight]));
    assert!(succeed(&mut compiled.verify(&[])).contains(&format!("damaged: {weight}, not what was compiled")));
    assert_eq!(worst(&found), path);
    assert_eq!(differing(&found).len(), 3, "two that were quantized");
    let original = stored(&compiled.checkpoint, &weight);
    let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let lost = &original[row * columns..(row + 1) * columns];
    assert_decibels(&by_path(&found)[path]["weight"]["sqnr_db"], square(&original), square(lost));
    let listing = succeed(&mut compiled.verify(&[]));
    let first = listing.lines().skip_while(|line| !line.starts_with("module")).nth(1).unwrap();
    assert!(first.starts_with(path), "{listing}");
}

#[test]
fn what_is_no_number_is_worst() {
    let path = "model.layers.1.mlp.down_proj";
    let compiled = Compiled::new(&model("micro-llama"), "**.o_proj => int4(group: 32)");
    compiled.damage(|weights| weights.bytes(&format!("{path}.weight"))[..2].copy_from_slice(&0x7fc0u16.to_le_bytes()));
    let found = compiled.found(&[]);
    assert_eq!(worst(&found), path);
    let module = by_path(&found)[path].clone();
    assert_eq!(module["weight"], json!({ "state": "not_finite", "sqnr_db": null, "max_error": null }));
    assert_eq!(module["output"]["alone"]["state"], "not_finite");
    let predictions = &found["predictions"];
    assert!(predictions["kl_mean"].is_null() && predictions["kl_max"].is_null(), "{predictions}");
    assert!(predictions["perplexity_original"].is_f64() && predictions["perplexity_compiled"].is_null());
    assert_eq!(predictions["same_choice"], 0.0);
    let ended = run(&mut compiled.verify(&["--max-kl", "100", "--min-sqnr", "-100"]));
    assert_eq!(ended.code, Some(1));
    for said in ["not finite", "perplexity", "not a number"] {
        assert!(ended.stdout.contains(said), "{}", ended.stdout);
    }
    assert!(ended.stderr.contains("at most 100 nats a token, found none"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("{path} gives not finite dB")), "{}", ended.stderr);
}

#[test]
fn bounds_end_with_the_figure_that_breaks_them() {
    let compiled = Compiled::new(&model("micro-llama"), ":linear => int4(group: 32)");
    let end = |arguments: &[&str]| run(compiled.verify(arguments).args(["--tokens", "256"]));
    let within = end(&["--max-kl", "1", "--min-sqnr", "5"]);
    assert_eq!((within.code, &*within.stderr), (Some(0), ""));
    let beyond = end(&["--max-kl", "1e-6", "--min-sqnr", "60"]);
    assert_eq!(beyond.code, Some(1));
    assert!(beyond.stdout.contains("KL divergence"), "the results come all the same");
    assert!(beyond.stderr.contains("error: expected a KL divergence of at most 0.000001 nats a token, found "));
    assert!(beyond.stderr.contains("error: expected outputs of at least 60 dB, 14 modules are below: model.layers."));
    assert_eq!(end(&["--max-kl", "NaN"]).code, Some(2));
}

#[test]
fn other_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let llama = |shape: Shape, name: &str| Llama::new(shape).write(&folder.path().join(name));
    llama(Shape::tiny(), "mine");
    llama(Shape { seed: 2, ..Shape::tiny() }, "other");
    llama(Shape { ffn: 12, ..Shape::tiny() }, "wider");
    llama(Shape { layers: 2, ..Shape::tiny() }, "deeper");
    let compiled = Compiled::new(&folder.path().join("mine"), ":linear => int8(per: channel)");
    let refusal = |checkpoint: &str| {
        let mut command = lathe();
        command.arg("verify").arg(compiled.out()).arg(folder.path().join(checkpoint)).args(["--ids", "1,2,3"]);
        let ended = run(&mut command);
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{checkpoint}: {}", ended.stderr);
        assert!(ended.stderr.contains("error[A0003]"), "{checkpoint}: {}", ended.stderr);
        ended.stderr
    };
    assert!(refusal("other").contains("has other values than when the model was compiled"));
    assert!(refusal("wider").contains("has shape [10, 6], in the checkpoint [12, 6]"));
    succeed(&mut compiled.verify(&["--ids", "1,2,3"]));
    // What the checkpoint has beyond the compiled model.
    let mut command = lathe();
    command.arg("verify").arg(compiled.out()).arg(folder.path().join("deeper")).args(["--ids", "1,2,3", "--json"]);
    assert!(run(&mut command).stderr.contains("error[A0003]"));
    // The other way round.
    let deeper = Compiled::new(&folder.path().join("deeper"), ":linear => int8(per: channel)");
    let mut command = lathe();
    command.arg("verify").arg(deeper.out()).arg(folder.path().join("mine")).args(["--ids", "1,2,3"]);
    let said = run(&mut command).stderr;
    assert!(said.contains("`model.layers.1.") && said.contains("is no parameter of model llama"), "{said}");
}

/// A head that is stored and equal to the table is no weight of the compiled model, which reads the table.
#[test]
fn a_head_is_still_the_table_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut llama = Llama::new(Shape::tiny());
    let table = llama.tensors.bytes("model.embed_tokens.weight").to_vec();
    llama.tensors.push("lm_head.weight", "BF16", &[12, 6], &table);
    llama.write(folder.path());
    let compiled = Compiled::new(folder.path(), ":linear => int8(per: channel)");
    let found = compiled.found(&["--ids", "1,2,3"]);
    assert_eq!(by_path(&found)["lm_head"]["shares"], "model.embed_tokens");
    llama.tensors.bytes("lm_head.weight")[3] ^= 1;
    llama.write(folder.path());
    let said = "error[A0003]";
    fails(&mut compiled.verify(&["--ids", "1,2,3"]), 1, said);
    fails(&mut compiled.verify(&["--ids", "1,2,3"]), 1, "`lm_head.weight` has other values than when");
}

#[test]
fn modules_are_found_under_other_labels() {
    let compiled = Compiled::new(&model("micro-llama"), "{:embedding, :head} => int8(per: channel)");
    let read = ids(&tokens(20));
    let expected = compiled.found(&["--ids", &read]);
    let relabel = |from: &str, to: &str| {
        let program = compiled.out().join("program.json");
        let (from, to) = (format!("\"label\": \"{from}\""), format!("\"label\": \"{to}\""));
        let text = files::read_text(&program);
        assert!(text.contains(&from));
        fs::write(&program, text.replace(&from, &to)).unwrap();
    };
    relabel("lm_head", "model.embed_tokens");
    let found = compiled.found(&["--ids", &read]);
    assert_eq!(found["modules"], expected["modules"], "logits go together whatever computes them");
    relabel("model.norm", "norm");
    let found = compiled.found(&["--ids", &read]);
    let paths = |found: &Value| by_path(found).into_keys().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(paths(&found), paths(&expected));
    assert!(by_path(&found)["model.norm"]["output"].is_null());
    let labels: Vec<_> = found["not_comparable"].as_array().unwrap().iter().map(|step| &step["label"]).collect();
    assert_eq!(labels, ["model.norm", "norm"]);
}

/// Runs a command that must fail and say this.
#[track_caller]
fn fails(command: &mut Command, code: i32, said: &str) {
    let ended = run(command);
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    assert!(ended.stderr.contains(said) && ended.stdout.is_empty(), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    Llama::new(Shape::tiny()).write(&folder.path().join("checkpoint"));
    let compiled = Compiled::new(&folder.path().join("checkpoint"), ":linear => int8(per: channel)");
    fails(&mut compiled.verify(&[]), 1, "has no tokenizer.json: give tokens with --ids");
    fails(&mut compiled.verify(&["--ids", "1"]), 1, "expected at least 2 tokens, found 1");
    fails(&mut compiled.verify(&["--ids", "1,99"]), 1, "token 99 at index 1 is not below the vocabulary's 12");
    fails(&mut compiled.verify(&["--ids", "1,2", "--text", "a"]), 2, "cannot be used with");
    fails(lathe().arg("verify").arg(folder.path()).arg(&compiled.checkpoint), 1, "error[A0001]");
    fails(lathe().arg("verify").arg(compiled.out()).arg(folder.path().join("none")), 1, "error[C0001]");
    let lock = compiled.out().join("lathe.lock");
    let mut sources = files::read_json(&lock);
    sources["sources"].as_array_mut().unwrap().pop();
    fs::write(&lock, sources.to_string()).unwrap();
    fails(&mut compiled.verify(&["--ids", "1,2"]), 1, "its lock file does not say what tensor `model.norm.weight` was");
    sources["version"] = json!(1);
    fs::write(&lock, sources.to_string()).unwrap();
    fails(&mut compiled.verify(&["--ids", "1,2"]), 1, "error[A0001]");
    fails(&mut compiled.verify(&["--ids", "1,2"]), 1, "expected version 2");
    fs::write(&lock, "{}").unwrap();
    fails(&mut compiled.verify(&["--ids", "1,2"]), 1, "error[A0001]");

    let with_tokenizer = Compiled::new(&model("micro-llama"), "** => keep");
    let text = folder.path().join("text");
    fs::write(&text, b"\xff\xfe").unwrap();
    let text = text.to_str().unwrap();
    fails(&mut with_tokenizer.verify(&["--text", text]), 1, "is not UTF-8");
    fails(&mut with_tokenizer.verify(&["--text", &format!("{text}.none")]), 2, "cannot read");
    fs::write(text, "a").unwrap();
    fails(&mut with_tokenizer.verify(&["--text", text]), 1, "expected at least 2 tokens, found 1");
}

/// Wherever it is, also where it is the first that the next call would read.
#[test]
fn tokens_beyond_the_vocabulary_are_refused() {
    let compiled = Compiled::new(&model("micro-llama"), "** => keep");
    let mut read = tokens(70);
    for place in [0, 63, 64, 69] {
        read[place] = 4096;
        let said = format!("token 4096 at index {place} is not below the vocabulary's 4096");
        fails(&mut compiled.verify(&["--ids", &ids(&read)]), 1, &said);
        read[place] = 1;
    }
    succeed(&mut compiled.verify(&["--ids", &ids(&read)]));

    let file = compiled.out().join("tokenizer.json");
    let mut tokenizer = files::read_json(&file);
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let beyond = json!({ "id": 4096, "content": "<beyond>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true });
    added.push(beyond);
    fs::write(&file, tokenizer.to_string()).unwrap();
    let text = compiled.folder.path().join("text");
    fs::write(&text, "<pad>".repeat(128) + "<beyond>" + &"<pad>".repeat(127)).unwrap();
    let text = text.to_str().unwrap();
    let said = "token 4096 at index 128 is not below the vocabulary's 4096";
    fails(&mut compiled.verify(&["--text", text]), 1, said);
    fails(lathe_run().arg("perplexity").arg(compiled.out()).args(["--text", text]), 1, said);
}

/// The harm of a module alone is what the model loses when nothing else is compiled; with others compiled it stays the same.
#[test]
fn the_harm_of_a_module_is_that_of_compiling_it_alone() {
    let read = ids(&tokens(60));
    for (checkpoint, one, format, others) in [
        (model("tiny-qwen3"), "model.layers.2.mlp.down_proj", "int4(group: 32)", ":linear"),
        (model("tiny-qwen3"), "model.layers.0.self_attn.v_proj", "int4(group: 32)", ":linear"),
        (root().join("families/qwen3_moe"), "model.layers.0.mlp.experts.1.up_proj", "int4(group: 8)", "**.experts.**"),
    ] {
        let rule = format!("{one} => {format}");
        let found = Compiled::new(&checkpoint, &rule).found(&["--ids", &read, "--each"]);
        let alone = found["modules"][0]["kl_alone"].as_f64().unwrap();
        let all = found["predictions"]["kl_mean"].as_f64().unwrap();
        assert_eq!(found["modules"][0]["path"], one);
        assert!(all > 0.0 && (alone / all - 1.0).abs() < 1e-9, "{one}: {alone} alone, {all} in all");
        assert!(found["modules"].as_array().unwrap()[1..].iter().all(|module| module["kl_alone"].is_null()), "{one}");

        let rules = format!("{others} => int8(per: channel)\n{rule}");
        let found = Compiled::new(&checkpoint, &rules).found(&["--ids", &read, "--each", "1000"]);
        let again = by_path(&found)[one]["kl_alone"].as_f64().unwrap();
        assert!((again / alone - 1.0).abs() < 1e-9, "{one}: {again} among others, {alone} alone");
        let order: Vec<f64> =
            found["modules"].as_array().unwrap().iter().filter_map(|it| it["kl_alone"].as_f64()).collect();
        assert!(order.len() > 5 && order.is_sorted_by(|a, b| a >= b), "{order:?}");
        let text = succeed(&mut Compiled::new(&checkpoint, &rules).verify(&["--ids", &read, "--each"]));
        assert!(text.contains("KL alone"), "{text}");
    }
}

/// A rotated model of f32 weights is the original, up to rounding: what it packs is what the recipes give, and what it
/// computes is compared in the basis of the original.
#[test]
fn rotated_models_are_compared_in_the_basis_of_the_original() {
    let rotations =
        "residual by random_hadamard(seed: 7)\nvalue by hadamard\nquery_key by hadamard\nffn_hidden by hadamard";
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("spec.lathe");
    let text = |format: &str| {
        format!("lathe 1\nspec rotated {{ rules {{ ** => f32\n :linear => {format} }}\nrotate {{\n{rotations}\n}} }}\n")
    };
    let compiled = |format: &str| {
        fs::write(&spec, text(format)).unwrap();
        let out = tempfile::tempdir().unwrap();
        succeed(&mut compile(spec.to_str().unwrap(), &model("micro-llama"), &out.path().join("out")));
        Compiled { folder: out, checkpoint: model("micro-llama") }
    };
    let exact = compiled("f32");
    let found = exact.found(&["--tokens", "128"]);
    let modules = by_path(&found);
    for path in ["model.embed_tokens", "model.layers.0.self_attn.v_proj", "model.layers.1.mlp.down_proj"] {
        assert_eq!(modules[path]["weight"]["state"], "equal", "{path}");
        let alone = modules[path]["output"]["alone"]["sqnr_db"].as_f64().unwrap();
        assert!(alone > 100.0, "{path}: {alone} dB");
    }
    assert!(found["predictions"]["kl_mean"].as_f64().unwrap() < 1e-9, "{}", found["predictions"]);
    let alone: Vec<&str> =
        found["not_comparable"].as_array().unwrap().iter().map(|step| step["kernel"].as_str().unwrap()).collect();
    assert!(alone.contains(&"rotate") && alone.contains(&"norm"), "{alone:?}");
    assert!(!alone.iter().any(|kernel| kernel.ends_with("mul")), "{alone:?}");

    let packed = compiled("int8(per: channel)");
    let found = packed.found(&["--tokens", "128", "--each", "16"]);
    let modules = by_path(&found);
    let weight = modules["model.layers.1.mlp.down_proj"]["weight"]["sqnr_db"].as_f64().unwrap();
    let report = files::read_json(&packed.out().join("report.json"));
    let reported = by_path(&report)["model.layers.1.mlp.down_proj"]["sqnr_db"].as_f64().unwrap();
    assert!((weight - reported).abs() < 0.05, "{weight} {reported}");
    assert!(modules["model.layers.1.mlp.down_proj"]["kl_alone"].as_f64().unwrap() > 0.0);
}
