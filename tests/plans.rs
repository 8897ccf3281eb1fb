//! `lathe plan`, `diff` and `explain` through the real binary, and what the plan promises.

use std::fs::{self, File};
use std::path::Path;

use half::bf16;
use lathe_compiler::compile::{Input, Planned, plan};
use lathe_compiler::model::Checkpoint;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::span::Sources;
use serde_json::{Value, json};

use crate::support::command::{compile, ids, lathe, lathe_run, run, succeed, succeed_json};
use crate::support::forge::Forge;
use crate::support::published::Published;
use crate::support::{self, files};

/// Every form that a spec has, with formats that are built.
const MIXED: &str = "\
lathe 1

spec mixed {
    models llama, qwen3

    let body = f16

    rules {
        :linear                   => body
        layers[0, -1].mlp.**      => f32
        {embed_tokens, lm_head}   => bf16
        layers[0..2].self_attn.** => keep
        :router                   => keep optional
    }
    tied    => share
    compute => f32
}
";

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("temporary files can be written");
    path.to_str().expect("paths of the tests are UTF-8").to_owned()
}

fn planned(text: &str, checkpoint: &Checkpoint) -> Planned {
    let mut sources = Sources::new();
    let source = sources.add("spec.lathe", text);
    let spec = Entry { source, place: Place::File("spec.lathe".into()), name: None };
    let input = Input {
        spec: &spec,
        overrides: &[],
        files: &NoFiles,
        model: None,
        checkpoint,
        strict: false,
        calibration: None,
    };
    plan(input, &mut sources).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"))
}

#[test]
fn models_of_hundreds_of_gigabytes_are_planned_from_their_headers() {
    let folder = tempfile::tempdir().unwrap();
    let spec = write(folder.path(), "mixed.lathe", MIXED);
    for model in ["llama-3.1-70b", "llama-3.1-405b"].map(Published::named) {
        let checkpoint = folder.path().join(&model.name);
        let shards = model.write(&checkpoint);
        let arguments = ["plan".as_ref(), spec.as_ref(), checkpoint.as_os_str(), "--threads".as_ref(), "2".as_ref()];
        let table = succeed(lathe().args(arguments));
        support::snapshot("plan", &model.name, &table);

        // With the headers read, the weights may go: nobody misses them.
        let opened = Checkpoint::open(&checkpoint).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
        for (path, header) in shards {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(header).unwrap();
        }
        assert!(planned(MIXED, &opened).unbuilt.is_empty());
    }
}

#[test]
fn the_plan_as_json_says_who_decided_and_what_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    let spec = write(folder.path(), "mixed.lathe", MIXED);
    let plan = succeed_json(lathe().arg("plan").arg(&spec).arg(support::model("tiny-qwen3")).arg("--json"));
    let modules = plan["modules"].as_array().expect("a list of modules");
    let module = |path: &str| {
        let found = modules.iter().find(|module| module["path"] == path);
        found.unwrap_or_else(|| panic!("no module {path}")).clone()
    };
    let rule = |line: u64| json!({"file": spec, "line": line, "column": 9});
    let up = module("model.layers.4.mlp.up_proj");
    let expected = json!({
        "path": "model.layers.4.mlp.up_proj",
        "kind": "linear",
        "shape": [448, 192],
        "format": "f32",
        "input": null,
        "rule": rule(10),
        "input_rule": null,
        "bytes_before": 448 * 192 * 2,
        "bytes_after": 448 * 192 * 4,
        "tied_to": null,
    });
    assert_eq!(up, expected);
    assert_eq!(module("model.layers.2.mlp.up_proj")["rule"], rule(9));
    assert_eq!(module("model.layers.1.self_attn.q_proj")["rule"], rule(12));
    assert_eq!(module("model.norm")["rule"], Value::Null);
    let head = module("lm_head");
    assert_eq!((&head["tied_to"], &head["bytes_after"]), (&json!("model.embed_tokens"), &json!(0)));
    for key in ["bytes_before", "bytes_after"] {
        let sum: u64 = modules.iter().filter_map(|module| module[key].as_u64()).sum();
        assert_eq!(plan[key], sum);
    }
    assert!(plan["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 16 << 20));

    let out = folder.path().join("out");
    succeed(&mut compile(&spec, &support::model("tiny-qwen3"), &out));
    assert_eq!(files::read_json(&out.join("report.json"))["bytes_written"], plan["bytes_after"]);
}

#[test]
fn both_syntaxes_give_one_plan_and_one_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let spec = write(folder.path(), "mixed.lathe", MIXED);
    let twin = folder.path().join("mixed.yaml");
    succeed(lathe().arg("convert").arg(&spec).arg("-o").arg(&twin));
    let back = folder.path().join("back.lathe");
    succeed(lathe().arg("convert").arg(&twin).arg("-o").arg(&back));
    succeed(lathe().args(["fmt", "--check"]).arg(&back));
    let model = support::model("tiny-qwen3");
    let artifact = |spec: &str, name: &str| {
        let out = folder.path().join(name);
        succeed(&mut compile(spec, &model, &out));
        files::contents(&out)
    };
    let twin = twin.to_str().unwrap();
    assert!(artifact(&spec, "a") == artifact(twin, "b"));
    let without_places = |spec: &str| {
        let mut plan = succeed_json(lathe().arg("plan").arg(spec).arg(&model).arg("--json"));
        for module in plan["modules"].as_array_mut().unwrap() {
            module.as_object_mut().unwrap().retain(|key, _| !key.ends_with("rule"));
        }
        plan
    };
    assert_eq!(without_places(&spec), without_places(twin));
}

#[test]
fn weights_are_rounded_once_to_the_format_of_the_spec() {
    let folder = tempfile::tempdir().unwrap();
    let source = Forge::open(&support::model("micro-llama").join("model.safetensors"));
    let stored = |name: &str| {
        let mut source = source.clone();
        let bytes = source.bytes(name).to_vec();
        bytes.chunks_exact(2).map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect::<Vec<f32>>()
    };
    let text = "lathe 1\nspec s {\n    rules {\n        ** => f32\n        layers[1].** => f16\n    }\n}\n";
    let spec = write(folder.path(), "s.lathe", text);
    let out = folder.path().join("out");
    succeed(compile(&spec, &support::model("micro-llama"), &out).args(["--memory", "20M"]));
    let bytes = files::read(&out.join("weights-00001-of-00001.safetensors"));
    let packed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, view) in packed.iter() {
        let expected: Vec<u8> = match stored(name) {
            values if name.contains("layernorm") || name.contains("model.norm") => {
                values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect()
            }
            values if name.starts_with("model.layers.1.") => {
                values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
            }
            values => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        assert!(view.data() == expected, "{name}");
    }

    // bf16 as f32 is the same model.
    let exact = write(folder.path(), "f32.lathe", &text.replace("f16", "f32").replace("layers[1].**", ":linear"));
    let (kept, widened) = (folder.path().join("kept"), folder.path().join("widened"));
    succeed(&mut compile("keep", &support::model("micro-llama"), &kept));
    succeed(&mut compile(&exact, &support::model("micro-llama"), &widened));
    let logits = |artifact: &Path| {
        let file = artifact.with_extension("logits");
        succeed(lathe_run().arg("logits").arg(artifact).args(["--ids", &ids(&[5, 6, 7, 8])]).arg("-o").arg(&file));
        files::read(&file)
    };
    let (kept, widened) = (logits(&kept), logits(&widened));
    assert_eq!(kept.len(), widened.len());
    let values = |bytes: &[u8]| -> Vec<f32> {
        let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let logits = tensors.tensor("logits").unwrap();
        logits.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    };
    for (a, b) in values(&kept).into_iter().zip(values(&widened)) {
        assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "{a} and {b}");
    }
}

#[test]
fn a_value_beyond_the_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    files::copy(&support::model("micro-llama"), &checkpoint);
    let file = checkpoint.join("model.safetensors");
    let mut forge = Forge::open(&file);
    let down = forge.bytes("model.layers.1.mlp.down_proj.weight");
    // Row 2, column 3 of [64, 192].
    let at = 2 * (2 * 192 + 3);
    down[at..at + 2].copy_from_slice(&bf16::from_f32(70_144.0).to_le_bytes());
    forge.write(&file);
    let spec = write(folder.path(), "s.lathe", "lathe 1\nspec s { rules {\n** => f16\n} }\n");
    let out = folder.path().join("out");
    let ended = run(&mut compile(&spec, &checkpoint, &out));
    assert_eq!(ended.code, Some(1));
    let expected = "error[C0014]: ";
    assert!(ended.stderr.starts_with(expected), "{}", ended.stderr);
    let place = "tensor `model.layers.1.mlp.down_proj.weight`: 70144 at row 2, column 3 is beyond what f16 can hold";
    assert!(ended.stderr.contains(place), "{}", ended.stderr);
    assert!(!out.exists());
}

#[test]
fn what_cannot_be_built_is_planned_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "lathe 1\nspec s {\n    rules {\n        :linear => nf4(group: 32) with input int8(per: token)\n    }\n}\n";
    let spec = write(folder.path(), "s.lathe", text);
    let model = support::model("tiny-qwen3");
    let ended = run(lathe().arg("plan").arg(&spec).arg(&model).args(["--message-format", "short", "--threads", "2"]));
    assert_eq!(ended.code, Some(1));
    let stderr = ended.stderr.replace(&spec, "s.lathe");
    support::snapshot("plan", "unbuilt", &format!("{}\n{stderr}", ended.stdout));
    let ended = run(&mut compile(&spec, &model, &folder.path().join("out")));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("error[S0202]"), "{}", ended.stderr);
    assert!(!folder.path().join("out").exists());
}

#[test]
fn specs_are_compared_and_modules_explained() {
    let folder = tempfile::tempdir().unwrap();
    let spec = write(folder.path(), "mixed.lathe", MIXED);
    let model = support::model("tiny-qwen3");
    let plain = |text: String| text.replace(&spec, "mixed.lathe");
    let diff = succeed(lathe().arg("diff").args(["keep", &spec]).arg(&model));
    support::snapshot("diff", "keep_to_mixed", &plain(diff));
    // A name that one of the two has can be set.
    let diff = succeed(lathe().arg("diff").args(["keep", &spec]).arg(&model).args(["--set", "body=f32"]));
    assert!(diff.contains("keep → f32") && !diff.contains("keep → f16"), "{diff}");
    let ended = run(lathe().arg("diff").args(["keep", &spec]).arg(&model).args(["--set", "boddy=f32"]));
    assert_eq!((ended.code, ended.stderr.matches("error[S0007]").count()), (Some(1), 1), "{}", ended.stderr);
    let diff = succeed(lathe().arg("diff").args([&spec, &spec]).arg(&model));
    assert!(diff.starts_with("no module changes\n"), "{diff}");
    let changes = succeed_json(lathe().arg("diff").args(["keep", &spec]).arg(&model).arg("--json"));
    assert!(
        changes["modules"]
            .as_array()
            .is_some_and(|modules| modules.iter().any(|module| module["b"]["format"] == "f16"))
    );
    for module in ["model.layers.0.self_attn.q_proj", "mlp.up_proj", "lm_head", ":norm"] {
        let text = succeed(lathe().arg("explain").arg(&spec).arg(&model).arg(module));
        support::snapshot("explain", &module.replace([':', '.'], "_"), &plain(text));
    }
    let ended = run(lathe().arg("explain").arg(&spec).arg(&model).arg("mlp.up_prj"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("`mlp.up_prj` matches no module of qwen3"), "{}", ended.stderr);
    let ended = run(lathe().arg("explain").arg(&spec).arg(&model).arg("layers[0]"));
    assert!(ended.code == Some(1) && ended.stderr.contains("write `layers[0].**`"), "{}", ended.stderr);
}

#[test]
fn overrides_reach_lets_and_settings() {
    let folder = tempfile::tempdir().unwrap();
    let spec = write(folder.path(), "mixed.lathe", MIXED);
    let model = support::model("tiny-qwen3");
    let plan = succeed_json(lathe().arg("plan").arg(&spec).arg(&model).arg("--json"));
    let at = plan["modules"].as_array().unwrap().iter().position(|module| module["format"] == "f16").unwrap();
    let overridden =
        succeed_json(lathe().arg("plan").arg(&spec).arg(&model).arg("--json").args(["--set", "body=bf16"]));
    assert_eq!(overridden["modules"][at]["format"], "bf16");
    let ended = run(lathe().arg("plan").arg(&spec).arg(&model).args(["--set", "boddy=bf16"]));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("error[S0007]") && ended.stderr.contains("did you mean `body`?"), "{}", ended.stderr);
}

/// Two heads on one table, as a definition can have.
const TWO_HEADS: &str = "\
lathe 1

model two {
    architectures \"Two\"
    context 16
    module embed = embedding(8, 8)
    module norm = rms_norm(8, eps: 1e-6)
    module a = head(8, 8, tied_to: embed, tied: true)
    module b = head(8, 8, tied_to: embed, tied: true)
    graph(tokens, positions) {
        x = norm(embed(tokens))
        return a(x) + b(x)
    }
}
";

#[test]
fn all_ends_of_a_table_get_one_format() {
    let folder = tempfile::tempdir().unwrap();
    let mut forge = Forge::default();
    forge.push("embed.weight", "BF16", &[8, 8], &[0; 128]);
    forge.push("norm.weight", "BF16", &[8], &[0; 16]);
    forge.write(&folder.path().join("model.safetensors"));
    write(folder.path(), "config.json", "{\"architectures\": [\"Two\"]}");
    let definition = write(folder.path(), "two.lathe", TWO_HEADS);
    let plan = |rules: &str| {
        let spec = write(folder.path(), "spec.lathe", &format!("lathe 1\nspec s {{\nrules {{\n{rules}\n}}\n}}\n"));
        let mut command = lathe();
        run(command.args(["plan", &spec, folder.path().to_str().unwrap(), "--json", "--model-def", &definition]))
    };
    for rules in ["a => f16", "b => f16", "embed => f16", "{a,b} => f16", "** => f32\n** => f16 optional"] {
        let ended = plan(rules);
        if rules.starts_with("**") {
            // The first of the two is shadowed.
            assert_eq!(ended.code, Some(1), "{}", ended.stderr);
            continue;
        }
        assert_eq!(ended.code, Some(0), "{rules}: {}", ended.stderr);
        let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
        for module in plan["modules"].as_array().unwrap().iter().filter(|module| module["kind"] != "norm") {
            assert_eq!(module["format"], "f16", "{rules}: {module}");
            assert_eq!(module["tied_to"].is_null(), module["path"] == "embed", "{rules}: {module}");
        }
    }
    for rules in ["a => f16\nb => f32", "embed => f16\nb => f32"] {
        let ended = plan(rules);
        assert_eq!(ended.code, Some(1), "{rules}");
        assert!(ended.stderr.contains("error[S0301]"), "{rules}: {}", ended.stderr);
    }
}

#[test]
fn overrides_reach_what_a_base_was_written_with() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "shared.lathe", "lathe 1\nlet size = 32\nlet common = int4(group: size)\n");
    let base = "lathe 1\nuse \"shared.lathe\"\nlet body = common\nspec base { rules {\n:linear => body\n} }\n";
    write(folder.path(), "base.lathe", base);
    let own = "lathe 1\nuse \"base.lathe\"\nuse \"shared.lathe\"\nspec own extends base {\nrotate {\nresidual by r\n}\n\
        let r = random_hadamard(seed: 1)\nkv_cache => cache\nlet cache = int8(per: head)\n}\n";
    let own = write(folder.path(), "own.lathe", own);
    let plan = |set: &str| {
        let mut command = lathe();
        let ended = run(command.args(["plan", &own]).arg(support::model("tiny-qwen3")).args(["--json", "--set", set]));
        let plan: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{set}: {}", ended.stderr));
        let modules = plan["modules"].as_array().unwrap();
        let linear = modules.iter().find(|module| module["kind"] == "linear").unwrap();
        let format = linear["format"].as_str().unwrap().to_owned();
        (format, plan["settings"].to_string())
    };
    assert_eq!(plan("size=64").0, "int4(group: 64)");
    assert_eq!(plan("common=int8(per: channel)").0, "int8(per: channel)");
    assert_eq!(plan("common.group=16").0, "int4(group: 16)");
    assert_eq!(plan("body.group=16").0, "int4(group: 16)");
    assert_eq!(plan("body=f16").0, "f16");
    assert!(plan("kv_cache.per=token").1.contains("int8(per: token)"));
    assert!(plan("residual.seed=9").1.contains("random_hadamard(seed: 9)"));
    assert!(plan("residual=hadamard").1.contains("residual by hadamard "));
}

#[test]
fn what_no_module_takes_need_not_be_built() {
    let folder = tempfile::tempdir().unwrap();
    let text = "lathe 1\nspec base { rules {\n** => mxfp4\n:router => mxfp8 optional\n} }\n\
        spec own extends base { rules {\n** => keep\n}\nrotate {\ninput of :router by hadamard optional\n}\n}\n";
    let spec = write(folder.path(), "spec.lathe", text);
    let own = format!("{spec}#own");
    succeed(lathe().arg("check").arg(&own).arg(support::model("tiny-qwen3")));
    succeed(&mut compile(&own, &support::model("tiny-qwen3"), &folder.path().join("out")));
    // Without a model all counts.
    let ended = run(lathe().arg("check").arg(&own));
    assert_eq!((ended.code, ended.stderr.matches("error[S0202]").count()), (Some(1), 2), "{}", ended.stderr);
}

#[test]
fn requests_take_edges_from_those_of_bases() {
    let folder = tempfile::tempdir().unwrap();
    let text = "lathe 1\nspec base { rotate {\nvalue by hadamard offline\nffn_hidden of layers[0, -1] by hadamard\n\
        query_key of layers[0] by none\nquery_key by hadamard\n} }\n\
        spec own extends base { rotate {\nvalue of layers[1..3] by random_hadamard(seed: 1)\n\
        input of mlp.down_proj by hadamard(block: 64)\nquery_key of layers[0, 1] by none\n} }\n";
    let spec = write(folder.path(), "spec.lathe", text);
    let plan = |name: &str| {
        let mut command = lathe();
        let ended =
            run(command.arg("plan").arg(format!("{spec}#{name}")).arg(support::model("tiny-qwen3")).arg("--json"));
        let plan: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.stderr));
        plan["settings"].clone()
    };
    let base = json!([
        "rotate value by hadamard offline (5 edges)",
        "rotate ffn_hidden of layers[0, -1] by hadamard (2 edges)",
        "rotate query_key by hadamard (8 edges)",
    ]);
    assert_eq!(plan("base"), base);
    let own = json!([
        "rotate value by hadamard offline (3 edges)",
        "rotate query_key by hadamard (6 edges)",
        "rotate value of layers[1..3] by random_hadamard(seed: 1) (2 edges)",
        "rotate input of mlp.down_proj by hadamard(block: 64) (5 edges)",
    ]);
    assert_eq!(plan("own"), own);
}

#[test]
fn names_alone_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let names = write(folder.path(), "names.lathe", "lathe 1\nlet a = int4(group: \"x\")\nlet b = c\nlet c = b\n");
    let ended = run(lathe().args(["check", &names, "--message-format", "short"]));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("error[S0204]") && ended.stderr.contains("error[S0003]"), "{}", ended.stderr);
    let ended = run(lathe().args(["check", &names, "--set", "kv_cache=keep"]));
    assert!(ended.stderr.contains("error[S0007]"), "{}", ended.stderr);
    let ended = run(lathe().arg("check").arg(&names).arg(support::model("tiny-qwen3")));
    assert!(ended.code == Some(1) && ended.stderr.contains("error[S0002]"), "{}", ended.stderr);
}

#[test]
fn options_that_would_change_nothing_are_refused() {
    let spec = "keep";
    for arguments in [
        &["check", spec, "--strict"][..],
        &["check", spec, "--model-def", "nowhere.lathe"],
        &["explain", "S0101", "--set", "a=keep"],
    ] {
        let ended = run(lathe().args(arguments));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.stderr);
    }
}
