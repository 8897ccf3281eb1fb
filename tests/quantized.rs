//! Integer formats from checkpoint to logits: what they lose, what they weigh, and that nothing but the plan decides.

use std::fs;
use std::path::Path;

use half::bf16;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::end_to_end::trained;
use crate::support::command::{compile, lathe, lathe_run, least_memory, run, succeed, succeed_json};
use crate::support::forge::Forge;
use crate::support::{self, files};

/// Int8 per channel on all that can be quantized.
const W8: &str = "{:linear, :head, :embedding} => int8(per: channel)";
/// Int4 on linears, int8 per channel on head and table.
const W4: &str = ":linear => int4(group: 32, symmetric: false, fit: mse)\n{:head, :embedding} => int8(per: channel)";

/// Compiles a spec with these rules and settings to `folder/NAME`.
#[track_caller]
fn compiled(folder: &Path, name: &str, model: &Path, rules: &str, settings: &str) -> std::path::PathBuf {
    let out = folder.join(name);
    let spec = write_spec(folder, name, rules, settings);
    succeed(&mut compile(&spec, model, &out));
    out
}

fn write_spec(folder: &Path, name: &str, rules: &str, settings: &str) -> String {
    let path = folder.join(format!("{name}.lathe"));
    fs::write(&path, format!("lathe 1\nspec s {{\nrules {{\n{rules}\n}}\n{settings}\n}}\n")).unwrap();
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

fn weight_files(out: &Path) -> Vec<Vec<u8>> {
    let paths = files::list(out);
    let weights = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    weights.map(|path| files::read(path)).collect()
}

fn perplexity(out: &Path, text: &str, windows: u64) -> f64 {
    let mut command = lathe_run();
    command.arg("perplexity").arg(out).arg("--text").arg(support::model(text));
    let found = succeed_json(command.args(["--window", "256", "--windows", &windows.to_string(), "--json"]));
    found["perplexity"].as_f64().expect("perplexities are numbers")
}

/// w8 within 0.5 %, w4g32 within 5 % of the recorded perplexity, on every trained model and both texts.
#[test]
fn perplexities_stay_near_those_of_the_checkpoints() {
    let mut measured = String::new();
    for model in trained() {
        let recorded = files::read_json(&model.join("reference.json"));
        let folder = tempfile::tempdir().unwrap();
        for (name, rules, most) in [("w8", W8, 0.005), ("w4g32", W4, 0.05)] {
            let out = compiled(folder.path(), name, &model, rules, "");
            for text in ["heldout.txt", "wikitext2-test.txt"] {
                let expected = recorded["perplexity"][text]["value"].as_f64().expect("perplexities have a value");
                let windows = recorded["perplexity"][text]["windows"].as_u64().expect("and state their windows");
                let change = perplexity(&out, text, windows) / expected - 1.0;
                let case = format!("{} {name} {text}: {:+.3} %\n", support::name(&model), 100.0 * change);
                assert!(change.abs() <= most, "{case}");
                measured.push_str(&case);
            }
        }
    }
    support::measured(&measured);
}

/// What linears read in 8 bits costs as little as their weights do, with and without rotations, and is no step that is left out.
#[test]
fn inputs_in_8_bits_cost_little() {
    let model = support::model("tiny-qwen3");
    let folder = tempfile::tempdir().unwrap();
    let found = |spec: &str| {
        let out = folder.path().join(spec);
        succeed(&mut compile(spec, &model, &out));
        perplexity(&out, "heldout.txt", 8)
    };
    let weights_alone = found("w8");
    for spec in ["w8a8", "w8a8-hadamard"] {
        let change = found(spec) / weights_alone - 1.0;
        assert!(change != 0.0 && change.abs() < 0.003, "{spec}: {:+.3} %", 100.0 * change);
        let report = files::read_json(&folder.path().join(spec).join("report.json"));
        for module in report["modules"].as_array().unwrap() {
            let expected = if module["kind"] == "linear" { Value::from("int8(per: token)") } else { Value::Null };
            assert_eq!(module["input"], expected, "{module}");
        }
    }
}

/// `compute => bf16` lets devices round; the processor computes what it does without.
#[test]
fn the_processor_computes_in_f32_whatever_may_be_rounded() {
    let folder = tempfile::tempdir().unwrap();
    let model = support::model("micro-llama");
    let logits = |name: &str, settings: &str| {
        let out = compiled(folder.path(), name, &model, W8, settings);
        let program = files::read_json(&out.join("program.json"));
        let file = folder.path().join(format!("{name}.safetensors"));
        succeed(lathe_run().arg("logits").arg(&out).args(["--ids", "1,2,3,4,5", "--output"]).arg(&file));
        (program["compute"].as_str().unwrap().to_owned(), files::read(&file))
    };
    let (plain, rounded) = (logits("plain", ""), logits("rounded", "compute => bf16"));
    assert_eq!((plain.0.as_str(), rounded.0.as_str()), ("f32", "bf16"));
    assert!(plain.1 == rounded.1);
}

/// Bytes of the file, the plan's and the report's agree; a tied model has one table, and `split` costs what was said.
#[test]
fn artifacts_weigh_what_the_plan_says() {
    for model in trained() {
        let folder = tempfile::tempdir().unwrap();
        let config = files::read_json(&model.join("config.json"));
        let mut bytes = Vec::new();
        for (name, settings) in [("share", ""), ("split", "tied => split")] {
            let out = compiled(folder.path(), name, &model, W8, settings);
            let spec = folder.path().join(format!("{name}.lathe"));
            let plan = succeed_json(lathe().arg("plan").arg(&spec).arg(&model).args(["--probe", "--json"]));
            let report = files::read_json(&out.join("report.json"));
            assert_eq!(plan["bytes_after"], report["bytes_written"], "{name} of {}", model.display());
            let stored: u64 = weight_files(&out)
                .iter()
                .map(|file| {
                    let tensors = SafeTensors::deserialize(file).unwrap();
                    tensors
                        .iter()
                        .filter(|(name, _)| !name.starts_with("pad."))
                        .map(|(_, view)| view.data().len() as u64)
                        .sum::<u64>()
                })
                .sum();
            assert_eq!(plan["bytes_after"], stored, "{name} of {}", model.display());
            bytes.push((stored, plan, report));
        }
        let [(shared, plan, report), (split, ..)] = &bytes[..] else { unreachable!("two were compiled") };
        let Some(tie) = plan["ties"].as_array().and_then(|ties| ties.first()) else { continue };
        let said = tie["bytes_split"].as_u64().unwrap() - tie["bytes_shared"].as_u64().unwrap();
        if config["tie_word_embeddings"] == true {
            assert_eq!(tie["shared"], true, "{}", model.display());
            assert_eq!(split - shared, said, "{}", model.display());
            // A byte for each parameter, scales of two bytes for each row, and vectors as they were.
            let modules = report["modules"].as_array().unwrap();
            let scales: u64 = modules
                .iter()
                .filter(|module| module["packed"] == "int8(per: channel)" && module["shares"].is_null())
                .map(|module| 2 * module["shape"][0].as_u64().unwrap())
                .sum();
            let parameters: u64 = modules.iter().map(|module| module["parameters"].as_u64().unwrap()).sum();
            let most = parameters + parameters / 10 + scales;
            assert!(*shared <= most, "{}: {shared} bytes for {parameters} parameters", model.display());
        } else {
            assert_eq!(split, shared, "{}", model.display());
        }
    }
}

#[test]
fn two_formats_for_one_table_show_both_rules_and_can_be_split() {
    let folder = tempfile::tempdir().unwrap();
    let model = support::model("tiny-qwen3");
    let rules = ":head => int4(group: 32)\n:embedding => int8(per: channel)";
    let spec = write_spec(folder.path(), "two", rules, "");
    let ended = run(&mut compile(&spec, &model, &folder.path().join("two")));
    assert_eq!(ended.code, Some(1));
    for part in [
        "error[S0301]",
        "int4(group: 32)",
        "int8(per: channel)",
        "two.lathe:4:10",
        "for `lm_head`",
        "for `model.embed_tokens`",
        "tied => split",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert!(!folder.path().join("two").exists());
    // Written twice, each has its own; `auto` writes the larger one once, whichever end it is for.
    let formats = |name: &str, rules: &str, settings: &str| -> Vec<(String, String)> {
        let out = compiled(folder.path(), name, &model, rules, settings);
        let inspected = succeed_json(lathe().arg("inspect").arg(&out).arg("--json"));
        let weights = inspected["weights"].as_array().unwrap().iter();
        let text = |weight: &Value, key: &str| weight[key].as_str().unwrap().to_owned();
        weights
            .map(|weight| (text(weight, "name"), text(weight, "format")))
            .filter(|(name, _)| name.contains("embed_tokens") || name.contains("lm_head"))
            .collect()
    };
    let pair = |name: &str, format: &str| (name.to_owned(), format.to_owned());
    let both = [pair("model.embed_tokens.weight", "int8(per: channel)"), pair("lm_head.weight", "int4(group: 32)")];
    assert_eq!(formats("split", rules, "tied => split"), both);
    let table = [pair("model.embed_tokens.weight", "int8(per: channel)")];
    assert_eq!(formats("auto", rules, "tied => auto"), table);
    let reversed = ":head => int8(per: channel)\n:embedding => int4(group: 32)";
    assert_eq!(formats("auto_reversed", reversed, "tied => auto"), table);
    let one = [pair("model.embed_tokens.weight", "int4(group: 32)")];
    assert_eq!(formats("auto_one", ":head => int4(group: 32)", "tied => auto"), one);
    assert_eq!(formats("share_one", ":head => int4(group: 32)", ""), one);
}

/// Symmetric codes and scales of a whole artifact, computed here from the checkpoint.
#[test]
fn codes_and_scales_are_those_of_the_definition() {
    let folder = tempfile::tempdir().unwrap();
    let model = support::model("micro-llama");
    let rules = "** => int8(per: channel)\nmlp.* => int4(group: 32)\no_proj => int3(group: 32)";
    let out = compiled(folder.path(), "out", &model, rules, "");
    let (packed, source) = (&weight_files(&out)[0], files::read(&model.join("model.safetensors")));
    let (packed, source) = (SafeTensors::deserialize(packed).unwrap(), SafeTensors::deserialize(&source).unwrap());
    let mut seen = [0; 9];
    for (name, stored) in source.iter() {
        let [rows, columns] = *stored.shape() else { continue };
        let (bits, group, steps, least) = match name {
            _ if name.contains(".mlp.") => (4, 32, 7.5, -8.0),
            _ if name.contains(".o_proj.") => (3, 32, 3.5, -4.0),
            _ => (8, columns, 127.5, -128.0),
        };
        seen[bits] += 1;
        let (pairs, _) = stored.data().as_chunks::<2>();
        let values: Vec<f32> = pairs.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect();
        let (mut codes, mut scales): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        for group in values.chunks(group) {
            let largest = group.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let scale = bf16::from_f32(largest / steps);
            scales.extend(scale.to_le_bytes());
            let code = |value: &f32| (value / scale.to_f32()).round_ties_even().clamp(least, -1.0 - least) as i8;
            if bits == 8 {
                codes.extend(group.iter().map(|value| code(value) as u8));
            } else {
                // Groups are whole bytes.
                let stored = group.iter().map(|value| code(value) - least as i8);
                let stream: Vec<u8> =
                    stored.flat_map(|code| (0..bits).map(move |bit| (code >> bit & 1) as u8)).collect();
                codes.extend(stream.chunks(8).map(|byte| (0..8).map(|bit| byte[bit] << bit).sum::<u8>()));
            }
        }
        assert!(packed.tensor(name).unwrap().data() == codes, "codes of {name}");
        let found = packed.tensor(&format!("{name}.scales")).unwrap();
        assert_eq!(found.shape(), [rows, columns / group]);
        assert!(found.data() == scales, "scales of {name}");
    }
    assert!(seen[8] > 6 && seen[4] == 6 && seen[3] == 2, "{seen:?}");
}

/// Threads and the bound on memory change no byte, also where a row is larger than the smallest tile.
#[test]
fn bytes_do_not_depend_on_threads_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    let model = support::model("tiny-qwen3");
    let spec = write_spec(folder.path(), "s", W4, "");
    let compiled = |name: &str, options: &[&str]| {
        let out = folder.path().join(name);
        succeed(compile(&spec, &model, &out).args(options));
        (weight_files(&out), files::read(&out.join("lathe.lock")), files::read(&out.join("report.json")))
    };
    let one = compiled("one", &["--threads", "1"]);
    let least = least_memory(&mut compile(&spec, &model, &folder.path().join("least"))).to_string();
    assert!(compiled("small", &["--threads", "3", "--memory", &least]) == one);
    assert!(compiled("many", &["--threads", "5"]) == one);
}

/// Each part of a fused tensor has scales and a format of its own.
#[test]
fn parts_of_a_fused_tensor_have_their_own_formats() {
    let family = support::root().join("families").join("phi3").join("longrope");
    let folder = tempfile::tempdir().unwrap();
    let rules = "qkv_proj => int8(per: channel)\nself_attn.v_proj => int4(group: 8, symmetric: false)\ngate_proj => int4(per: channel)";
    let out = compiled(folder.path(), "out", &family, rules, "");
    let inspected = succeed_json(lathe().arg("inspect").arg(&out).arg("--json"));
    let format = |part: &str| {
        let weights = inspected["weights"].as_array().unwrap();
        let found: Vec<&Value> = weights
            .iter()
            .filter(|weight| weight["name"].as_str().unwrap().contains(part))
            .map(|weight| &weight["format"])
            .collect();
        assert!(!found.is_empty() && found.windows(2).all(|pair| pair[0] == pair[1]), "{part}: {found:?}");
        found[0].as_str().unwrap().to_owned()
    };
    assert_eq!(format("q_proj"), "int8(per: channel)");
    assert_eq!(format("k_proj"), "int8(per: channel)");
    assert_eq!(format("v_proj"), "int4(group: 8, symmetric: false)");
    assert_eq!(format("gate_proj"), "int4(per: channel)");
    assert_eq!(format("up_proj"), "bf16");
}

/// A weight of which nothing is left is compiled, with a warning that names it.
#[test]
fn a_weight_that_is_lost_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    fs::create_dir(&checkpoint).unwrap();
    for path in files::list(&support::model("micro-llama")) {
        fs::copy(&path, checkpoint.join(support::name(&path))).unwrap();
    }
    let (file, lost) = (checkpoint.join("model.safetensors"), "model.layers.1.mlp.up_proj.weight");
    let mut tensors = Forge::open(&file);
    let small = |bytes: &[u8; 2]| bf16::from_f32(bf16::from_le_bytes(*bytes).to_f32() * 1e-7).to_le_bytes();
    let bytes: Vec<u8> = tensors.bytes(lost).as_chunks().0.iter().flat_map(small).collect();
    let shape = tensors.entry(lost).shape.clone();
    tensors.remove(lost);
    tensors.push(lost, "BF16", &shape, &bytes);
    tensors.write(&file);
    for (format, warnings) in [("int4(group: 32, scales: f16)", 1), ("int4(group: 32)", 0)] {
        let spec = write_spec(folder.path(), "s", &format!(":linear => {format}"), "");
        let out = folder.path().join("out");
        let ended = run(&mut compile(&spec, &checkpoint, &out));
        assert_eq!(
            (ended.code, ended.stderr.matches("warning[C0015]").count()),
            (Some(0), warnings),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stderr.matches(lost).count(), warnings, "{}", ended.stderr);
        let report = files::read_json(&out.join("report.json"));
        assert_eq!(report["warnings"].as_array().map(Vec::len), Some(warnings), "{report}");
    }
}
