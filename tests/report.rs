//! The page about a compiled model, parsed and in a browser.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use roxmltree::{Document, Node};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::browser::Browser;
use crate::support::command::{compile, lathe, run, succeed};
use crate::support::{files, model, skipped};

/// Formats of two families, in two variants each, and a layer that is exact but for one module.
const MIXED: &str = "lathe 1
spec mixed {
    rules {
        **:linear               => int4(group: 32, symmetric: false, fit: mse)
        **.down_proj            => int8(group: 32)
        model.layers[0].**      => keep
        **.o_proj               => int4(group: 64)
        {**:embedding, **:head} => int8(per: channel)
    }
}
";

/// A compiled model and the page that was written beside it.
struct Compiled {
    folder: TempDir,
}

impl Compiled {
    #[track_caller]
    fn new(spec: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spec.lathe");
        fs::write(&file, spec).unwrap();
        let mut command = compile(file.to_str().unwrap(), &model("tiny-qwen3"), &folder.path().join("out"));
        succeed(command.arg("--report").arg(folder.path().join("page.html")));
        Compiled { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn page(&self) -> String {
        files::read_text(&self.path("page.html"))
    }

    fn report(&self) -> Value {
        files::read_json(&self.path("out/report.json"))
    }
}

/// Digest of the plan of [`artifact`].
const PLAN: &str = "0123456789abcdef";

/// A folder with the files of an artifact that a page is made of.
fn artifact(folder: &Path, report: &Value) -> String {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("report.json"), report.to_string()).unwrap();
    let lock = json!({
        "version": 2, "compiler": "lathe 0.0.0", "plan_blake3": PLAN, "program_blake3": "0", "sources": [], "outputs": []
    });
    fs::write(folder.join("lathe.lock"), lock.to_string()).unwrap();
    succeed(lathe().arg("report").arg(folder))
}

fn packed(path: &str, kind: &str, format: &str, bytes: u64, decibels: Option<f64>) -> Value {
    let mut module = json!({
        "path": path, "kind": kind, "shape": [64, bytes / 64], "format": format, "packed": format,
        "stored_parameters": bytes, "parameters": bytes, "stored_bytes": 2 * bytes, "bytes": bytes
    });
    if let Some(decibels) = decibels {
        module["sqnr_db"] = decibels.into();
    }
    module
}

fn report(modules: &[Value]) -> Value {
    json!({
        "spec": "spec", "model": "model", "modules": modules, "tied": [], "bytes_read": 0, "bytes_written": 0,
        "warnings": []
    })
}

/// A page without its scripts, as XML: what is not well-formed fails.
fn markup(page: &str) -> String {
    let page = page.strip_prefix("<!doctype html>").expect("a page begins with its type");
    let (before, script) = page.split_once("<script>").expect("a page has a script");
    let (script, after) = script.split_once("</script>").expect("a script ends");
    assert!(!after.contains("<script") && !script.contains("innerHTML"));
    format!("{before}{after}")
}

fn parse(markup: &str) -> Document<'_> {
    Document::parse(markup).unwrap_or_else(|error| panic!("{error}"))
}

fn of_class<'a>(document: &'a Document<'a>, class: &str) -> Vec<Node<'a, 'a>> {
    let has = |node: &Node<'_, '_>| node.attribute("class").is_some_and(|all| all.split(' ').any(|one| one == class));
    document.descendants().filter(has).collect()
}

fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

/// The text of a section.
fn section(document: &Document<'_>, id: &str) -> String {
    let found = document.descendants().find(|node| node.attribute("id") == Some(id));
    text(found.unwrap_or_else(|| panic!("no section {id}")))
}

#[test]
fn the_page_says_what_the_report_says() {
    let compiled = Compiled::new(MIXED);
    let page = compiled.page();
    assert_eq!(succeed(lathe().arg("report").arg(compiled.path("out"))), page);
    let markup = markup(&page);
    let document = parse(&markup);
    let report = compiled.report();
    let modules = report["modules"].as_array().unwrap();
    let in_layers = |module: &&Value| module["path"].as_str().unwrap().contains(".layers.");
    let lossy = modules.iter().filter(in_layers).filter(|module| module["sqnr_db"].is_f64()).count();
    assert_eq!((lossy, of_class(&document, "point").len()), (29, 29));
    assert_eq!(of_class(&document, "hollow").len(), 1);
    // Of the whole model, of the table, of all layers, of the last norm; the head has nothing of its own.
    assert_eq!(of_class(&document, "bar").len(), 4);
    let columns = of_class(&document, "columns")[0];
    let segments =
        columns.descendants().filter(|node| node.attribute("class").is_some_and(|c| c.starts_with("segment")));
    assert_eq!(segments.count(), 2 + 4 * 4);
    let rows = |id: &str| {
        let section = document.descendants().find(|node| node.attribute("id") == Some(id)).unwrap();
        let body = section.descendants().rfind(|node| node.has_tag_name("tbody")).unwrap();
        body.children().filter(Node::is_element).map(text).collect::<Vec<String>>()
    };
    assert_eq!(rows("modules").len(), modules.len());
    for (row, module) in rows("modules").iter().zip(modules) {
        let sqnr = module["sqnr_db"].as_f64().map_or("exact".to_owned(), |decibels| format!("{decibels:.2} dB"));
        assert!(row.starts_with(module["path"].as_str().unwrap()) && row.ends_with(&sqnr), "{row}");
    }
    assert_eq!(rows("ties").len(), 1);
    let saved = "lm_headnot stored: it is the tablereads the table of model.embed_tokens794.62 kB less than";
    assert!(rows("ties")[0].starts_with(saved), "{}", rows("ties")[0]);
    assert!(section(&document, "kept").contains("27 of 58 modules hold exactly the values of the checkpoint"));
    assert!(section(&document, "verified").contains("lathe verify OUT CHECKPOINT --json"));
    assert!(section(&document, "warnings").contains("None."));
}

#[test]
fn what_is_exact_has_no_distance() {
    let compiled = Compiled::new("lathe 1\nspec kept { rules { ** => keep } }\n");
    let markup = markup(&compiled.page());
    let document = parse(&markup);
    assert!(section(&document, "sqnr").contains("Every weight is exact: no value changed."));
    assert!(of_class(&document, "point").is_empty());
    assert!(section(&document, "kept").contains("57 of 58 modules"));
}

const HOSTILE: &str =
    "</title></script><script>faults.push(1)</script><img src=x onerror='faults.push(2)'> \" & 語\u{202e}";

fn hostile_report() -> Value {
    let module = |path: String, decibels| packed(&path, HOSTILE, &format!("int8{HOSTILE}"), 64, decibels);
    let mut modules = vec![module(HOSTILE.to_owned(), Some(30.0)), module(format!("{HOSTILE}x"), None)];
    modules.extend((0..300).map(|layer| module(format!("{HOSTILE}.{layer}.{HOSTILE}"), Some(20.0))));
    modules[1]["shares"] = HOSTILE.into();
    let mut report = report(&modules);
    for key in ["spec", "model"] {
        report[key] = HOSTILE.into();
    }
    report["warnings"] = json!([HOSTILE]);
    report
}

#[test]
fn names_are_text_whatever_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let page = artifact(folder.path(), &hostile_report());
    assert_eq!(page.matches("<script").count(), 1);
    let markup = markup(&page);
    let document = parse(&markup);
    assert!(document.descendants().all(|node| !node.has_tag_name("img")));
    for section_of in ["bytes", "sqnr", "ties", "warnings", "modules"] {
        assert!(section(&document, section_of).contains(HOSTILE), "{section_of}");
    }
}

#[test]
fn what_verify_writes_is_shown() {
    let compiled = Compiled::new(MIXED);
    let mut verify = lathe();
    verify.arg("verify").arg(compiled.path("out")).arg(model("tiny-qwen3")).args(["--json", "--tokens", "32"]);
    let file = compiled.path("verify.json");
    fs::write(&file, succeed(&mut verify)).unwrap();
    let found = files::read_json(&file);
    let page = succeed(lathe().arg("report").arg(compiled.path("out")).arg("--verify").arg(&file));
    let markup = markup(&page);
    let document = parse(&markup);
    let outputs = |key: &str| {
        let modules = found["modules"].as_array().unwrap().iter();
        let in_layers = modules.filter(|module| module["path"].as_str().unwrap().contains(".layers."));
        in_layers.filter(|module| module["output"][key]["sqnr_db"].is_f64()).count()
    };
    let measured = [29, outputs("alone"), outputs("in_model")];
    let plots = of_class(&document, "series").into_iter();
    let points = plots.map(|plot| plot.descendants().filter(|node| node.attribute("class") == Some("point")).count());
    assert_eq!(points.collect::<Vec<_>>(), measured);
    let ratio = format!("ratio {:.4}", found["predictions"]["perplexity_ratio"].as_f64().unwrap());
    assert!(section(&document, "verified").contains(&ratio), "{ratio}");
}

#[test]
fn names_of_a_verification_are_text_too() {
    let folder = tempfile::tempdir().unwrap();
    let report = hostile_report();
    artifact(folder.path(), &report);
    let mut found = verification(&report["modules"].as_array().unwrap()[..1]);
    found["model"] = HOSTILE.into();
    found["text"]["source"] = HOSTILE.into();
    found["modules"][0]["format"] = report["modules"][0]["packed"].clone();
    found["groups"] = json!([{
        "kind": HOSTILE, "format": HOSTILE, "modules": 1, "equal": 0, "median_db": 1.0, "worst": HOSTILE, "worst_db": 1.0
    }]);
    found["not_comparable"] = json!([{ "label": HOSTILE, "kernel": HOSTILE, "only_in": "original" }]);
    let file = folder.path().join("verify.json");
    fs::write(&file, found.to_string()).unwrap();
    let page = succeed(lathe().arg("report").arg(folder.path()).arg("--verify").arg(&file));
    let markup = markup(&page);
    let document = parse(&markup);
    assert!(document.descendants().all(|node| !node.has_tag_name("img")));
    assert_eq!(section(&document, "verified").matches(HOSTILE).count(), 1 + 3 + 2 + 2);
}

/// Heads that were stored, that were not, and that got a table of their own.
#[test]
fn the_page_says_who_shares_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut modules = vec![packed("table", "embedding", "int8(per: channel)", 64_000, Some(40.0))];
    for (head, stored, own) in [("absent", 0, 0), ("stored", 128_000, 0), ("apart", 0, 64_000)] {
        let mut module = packed(head, "head", "int8(per: channel)", own, Some(40.0));
        module["stored_bytes"] = stored.into();
        if own == 0 {
            module["shares"] = "table".into();
        }
        modules.push(module);
    }
    let page = artifact(folder.path(), &report(&modules));
    let markup = markup(&page);
    let document = parse(&markup);
    let said = section(&document, "ties");
    for row in [
        "absentnot stored: it is the tablereads the table of table64.00 kB less than with a table of its own",
        "storedstored, and equal to the table in every valuereads the table of table64.00 kB less",
        "apartnot stored: it is the table of anotherhas a table of its own in int8(per: channel)64.00 kB more",
    ] {
        assert!(said.contains(row), "expected {row} in {said}");
    }
}

/// 400 layers with 24 experts each.
fn large_report() -> Value {
    let mut modules = vec![packed("model.embed_tokens", "embedding", "int8(per: channel)", 1 << 28, Some(41.5))];
    for layer in 0..400 {
        let path = |name: &str| format!("model.layers.{layer}.{name}");
        let decibels = |salt: usize| Some(20.0 + (layer * 7 + salt * 13 % 100) as f64 / 100.0);
        for (salt, name) in ["q", "k", "v", "o"].into_iter().enumerate() {
            let path = path(&format!("self_attn.{name}_proj"));
            modules.push(packed(&path, "linear", "int8(group: 128)", 1 << 20, decibels(salt)));
        }
        modules.push(packed(&path("input_layernorm"), "norm", "keep", 4096, None));
        for expert in 0..24 {
            for name in ["gate", "up", "down"] {
                let path = path(&format!("mlp.experts.{expert}.{name}_proj"));
                modules.push(packed(&path, "linear", "int4(group: 32)", 1 << 20, decibels(expert)));
            }
        }
    }
    report(&modules)
}

#[test]
fn pages_of_large_models_are_small() {
    let folder = tempfile::tempdir().unwrap();
    let report = large_report();
    assert!(report["modules"].as_array().unwrap().len() > 30_000);
    let page = artifact(folder.path(), &report);
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    let markup = markup(&page);
    let document = parse(&markup);
    assert_eq!(of_class(&document, "point").len(), 400 * 7);
    let members: usize = document.descendants().filter(|node| node.has_tag_name("li")).count();
    assert!(members > 400 * 76, "every module that lost something is on the page");
    let folded = "model.layers[0..400].mlp.experts[0..24].up_proj ×9600";
    assert!(section(&document, "modules").contains(folded));
}

/// Absent is exact; null is a ratio that is no number.
#[test]
fn what_is_not_known_is_not_exact() {
    let folder = tempfile::tempdir().unwrap();
    let module = |path: &str, decibels| packed(path, "linear", "int8(per: channel)", 64, decibels);
    let mut modules: Vec<Value> = (0..300).map(|layer| module(&format!("layers.{layer}.up"), Some(30.0))).collect();
    modules.extend([module("head", None), module("layers.0.down", None), module("layers.1.down", None)]);
    for path in [3, 300, 302] {
        modules[path]["sqnr_db"] = Value::Null;
    }
    let page = artifact(folder.path(), &report(&modules));
    let markup = markup(&page);
    let document = parse(&markup);
    assert!(!markup.contains("NaN") && !markup.contains("inf\""));
    let said = section(&document, "sqnr");
    for part in [
        "headint8(per: channel)unknown",
        "layers.3.upint8(per: channel)unknown",
        "no number in some layers of up, down",
    ] {
        assert!(said.contains(part), "expected {part} in {said}");
    }
    assert!(!said.contains("Exact in every layer"), "{said}");
    assert_eq!(of_class(&document, "point").len(), 299);
    assert!(section(&document, "kept").contains("1 of 303 modules hold exactly"));
    let said = section(&document, "modules");
    for part in ["layers.3.up unknown", "layers.0.down exact", "layers.1.down unknown", "30.00 dB or unknown"] {
        assert!(said.contains(part), "expected {part} in {said}");
    }
}

/// However a report makes one: the page is not much larger than the report.
#[test]
fn pages_of_hostile_reports_are_small() {
    let folder = tempfile::tempdir().unwrap();
    let module = |path: String, format: &str, decibels| packed(&path, "linear", format, 64, decibels);
    let many = 0..4000;
    let formats =
        many.clone().map(|at| module(format!("layers.{}.w.{}", at % 500, at / 500), &format!("f{at}"), Some(20.0)));
    let containers = many.clone().map(|at| module(format!("l{}.{}.w", at / 2, at % 2), "int8", Some(20.0)));
    // Each module has a role of its own; half of them are exact.
    let role = |at: u32| format!("layers.{}.{}", at / 20, format!("{at:b}").replace('0', "a").replace('1', "b"));
    let roles = many.map(|at| module(role(at), "int8", (at % 2 == 0).then_some(20.0)));
    let name = format!("x{}", "y".repeat(50_000));
    let long = (0..100).map(|layer| module(format!("layers.{layer}.w"), &name, Some(20.0)));
    let reports: [(&str, Vec<Value>, &str); 4] = [
        ("formats", formats.collect(), "3969 other formats"),
        ("containers", containers.collect(), "1988 lists of layers have no chart"),
        ("roles", roles.collect(), "1965 more series are not shown"),
        ("long", long.collect(), "…"),
    ];
    for (what, modules, said) in reports {
        let report = report(&modules);
        let page = artifact(&folder.path().join(what), &report);
        let (length, of_report) = (page.len(), report.to_string().len());
        assert!(length < 3 * of_report, "{what}: {length} bytes of {of_report}");
        assert!(page.contains(said), "{what}");
        assert!(page.matches(&name).count() <= 1, "{what}");
        parse(&markup(&page));
    }
}

#[test]
fn formats_that_look_the_same_are_said_to() {
    let folder = tempfile::tempdir().unwrap();
    let page_of = |formats: u64| {
        let module = |at| packed(&format!("m{at}"), "linear", &format!("int4(group: {})", 2 << at), 64, Some(20.0));
        artifact(folder.path(), &report(&(0..formats).map(module).collect::<Vec<Value>>()))
    };
    for (formats, alike) in [(1, false), (8, false), (9, true)] {
        let page = page_of(formats);
        let markup = markup(&page);
        let document = parse(&markup);
        assert_eq!(section(&document, "bytes").contains("Some formats look the same"), alike);
        let lines = of_class(&document, "hatch").into_iter().map(|line| line.attribute("d"));
        let looks: BTreeSet<_> = lines.collect();
        assert_eq!(looks.len() as u64, formats.min(8) - 1);
    }
}

/// What `lathe verify --json` writes about a model with these modules.
fn verification(modules: &[Value]) -> Value {
    let differs = |decibels: f64| json!({ "state": "differs", "sqnr_db": decibels, "max_error": 0.5 });
    let modules: Vec<Value> = modules
        .iter()
        .map(|module| {
            json!({
                "path": module["path"], "kind": module["kind"], "format": module["packed"], "elements": 64,
                "output": { "tokens": 512, "elsewhere": 0, "alone": differs(25.0), "in_model": differs(15.0) }
            })
        })
        .collect();
    let group = json!({
        "kind": "linear", "format": "int8(per: channel)", "modules": modules.len(), "equal": 0, "median_db": 25.0,
        "worst": modules[0]["path"], "worst_db": 25.0
    });
    json!({
        "version": 1, "plan_blake3": PLAN, "model": "model",
        "text": { "source": "built-in", "tokens": 512, "window": 512 },
        "predictions": {
            "kl_mean": 0.0213, "kl_max": 0.9, "same_choice": 0.9571,
            "perplexity_original": 8.5, "perplexity_compiled": 8.75, "perplexity_ratio": 1.0294,
            "logits": differs(31.0), "logits_range": 40.0
        },
        "groups": [group], "modules": modules, "not_comparable": []
    })
}

#[test]
fn the_page_shows_a_verification_of_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let modules: Vec<Value> = (0..4)
        .map(|layer| packed(&format!("layers.{layer}.up"), "linear", "int8(per: channel)", 64, Some(30.0)))
        .collect();
    artifact(folder.path(), &report(&modules));
    let file = folder.path().join("verify.json");
    let with = |value: &Value| {
        fs::write(&file, value.to_string()).unwrap();
        run(lathe().arg("report").arg(folder.path()).arg("--verify").arg(&file))
    };
    let found = verification(&modules);
    let ended = with(&found);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let markup = markup(&ended.stdout);
    let document = parse(&markup);
    let said = section(&document, "verified");
    for part in ["8.7500", "8.5000 of the checkpoint", "0.0213 nats", "95.71 %", "31.00 dB", "25.00 dB", "15.00 dB"] {
        assert!(said.contains(part), "expected {part} in {said}");
    }
    assert_eq!(of_class(&document, "point").len(), 3 * 4);

    let refused = |key: &str, value: Value, reason: &str| {
        let mut other = found.clone();
        *other.pointer_mut(key).unwrap() = value;
        let ended = with(&other);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{key}");
        assert!(ended.stderr.contains("A0002") && ended.stderr.contains(reason), "{}", ended.stderr);
    };
    refused("/version", json!(2), "expected a verification of version 1, found version 2");
    refused("/model", json!("other"), "it verifies `other`, and this is `model`");
    refused("/modules/0/path", json!("layers.9.up"), "this one has no weight of `layers.9.up`");
    refused("/modules/0/format", json!("bf16"), "it has `layers.0.up` in bf16, and this one in int8(per: channel)");
    refused(
        "/plan_blake3",
        json!("fedcba9876543210"),
        "it verifies the plan fedcba987654, and this one was compiled by the plan 0123456789ab",
    );
    for (place, value, reason) in [
        ("modules/3/output/alone/sqnr_db", json!(-1e300), "within ±10000 dB, found -1e300 of `layers.3.up`"),
        ("groups/0/median_db", json!(1e300), "within ±10000 dB, found 1e300 of `layers.0.up`"),
        ("predictions/logits/sqnr_db", json!(1e300), "within ±10000 dB, found 1e300 of `predictions.logits`"),
        ("text/window", json!(0), "`text.window` of at least 1, found 0e0"),
        ("text/tokens", json!(0), "`text.tokens` of at least 1, found 0e0"),
        ("predictions/same_choice", json!(1.5), "`predictions.same_choice` from 0 to 1, found 1.5e0"),
        ("predictions/same_choice", json!(-1e308), "`predictions.same_choice` from 0 to 1, found -1e308"),
        ("predictions/kl_mean", json!(-0.5), "`predictions.kl_mean` of at least 0, found -5e-1"),
        ("predictions/kl_max", json!(-1), "`predictions.kl_max` of at least 0, found -1e0"),
        ("predictions/perplexity_original", json!(-8.5), "`predictions.perplexity_original` above 0, found -8.5e0"),
        ("predictions/perplexity_compiled", json!(0), "`predictions.perplexity_compiled` above 0, found 0e0"),
        ("predictions/perplexity_ratio", json!(-1), "`predictions.perplexity_ratio` above 0, found -1e0"),
        ("predictions/logits_range", json!(-1), "`predictions.logits_range` of at least 0, found -1e0"),
        ("predictions/logits/max_error", json!(-1), "`predictions.logits.max_error` of at least 0, found -1e0"),
        ("modules/1/output/alone/max_error", json!(-1), "`max_error of layers.1.up` of at least 0, found -1e0"),
    ] {
        refused(&format!("/{place}"), value, reason);
    }
}

#[test]
fn a_page_that_cannot_be_made_says_why() {
    let compiled = Compiled::new(MIXED);
    let ends = |arguments: &[&str], code: i32, said: &str| {
        let ended = run(lathe().current_dir(compiled.folder.path()).args(arguments));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "expected {said} in {}", ended.stderr);
    };
    let before = compiled.page();
    ends(&["report", "nowhere"], 2, "cannot read nowhere/report.json");
    ends(&["report", "out", "--verify", "nowhere.json"], 2, "cannot read nowhere.json");
    ends(&["report", "out", "-o", "page.txt"], 2, "expected a file that ends in .html");
    ends(&["report", "out", "-o", "nowhere/page.html"], 2, "cannot write nowhere/page.html");
    ends(&["report", "out", "-o", "out/page.html"], 2, "out/page.html is in out");
    ends(&["compile", "keep", "checkpoint", "-o", "out", "--report", "out/page.html"], 2, "out/page.html is in out");
    ends(&["compile", "keep", "checkpoint", "--report", "page.html"], 2, "--output");
    assert_eq!(compiled.page(), before);
    let mut report = compiled.report();
    report["modules"][0]["sqnr_db"] = json!(-1e300);
    fs::write(compiled.path("out/report.json"), report.to_string()).unwrap();
    let said = "within ±10000 dB, found -1e300 of `model.embed_tokens`";
    ends(&["report", "out", "-o", "page.html"], 1, said);
    fs::write(compiled.path("out/report.json"), "{\"spec\": \"s\"}").unwrap();
    ends(&["report", "out", "-o", "page.html"], 1, "out/report.json: expected the report of a compilation");
    assert_eq!(compiled.page(), before);
}

/// Under whatever name the folder of the model goes, whether it is there or not.
#[test]
fn a_page_is_not_written_into_the_model() {
    let compiled = Compiled::new(MIXED);
    let folder = compiled.folder.path();
    fs::create_dir(compiled.path("other")).unwrap();
    let pages = ["out/page.html", "./out/page.html", "other/../out/page.html", "out/deep/page.html"];
    let absolute = compiled.path("out/page.html");
    let mut pages: Vec<&str> = pages.into_iter().chain(absolute.to_str()).collect();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("out", compiled.path("link")).unwrap();
        std::os::unix::fs::symlink("out/report.json", compiled.path("link.html")).unwrap();
        pages.extend(["link/page.html", "link.html"]);
    }
    let refused = |command: &mut Command| {
        let ended = run(command.current_dir(folder));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("which holds the compiled model and nothing else"), "{}", ended.stderr);
    };
    for page in pages {
        for artifact in ["out", "./out", "other/../out", compiled.path("out").to_str().unwrap()] {
            refused(lathe().args(["report", artifact, "-o", page]));
        }
        refused(compile("keep", &model("micro-llama"), Path::new("out")).args(["--report", page]));
    }
    refused(compile("keep", &model("micro-llama"), Path::new("new")).args(["--report", "./new/page.html"]));
    assert!(!compiled.path("new").exists());
    // Before there is a folder `made`, nothing can be said of what is beside it.
    let command = &mut compile("keep", &model("micro-llama"), Path::new("made/out"));
    refused(command.args(["--report", "made/../made/out/page.html"]));
    succeed(lathe().arg("inspect").arg(compiled.path("made/out")));
    for artifact in ["out", "made/out"] {
        succeed(&mut compile("keep", &model("micro-llama"), &compiled.path(artifact)));
    }
}

/// The model is whole before its page is written.
#[test]
fn a_page_that_cannot_be_written_leaves_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let page = folder.path().join("nowhere/page.html");
    let ended = run(compile("keep", &model("micro-llama"), &out).arg("--report").arg(&page));
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains(&format!("cannot write {}", page.display())), "{}", ended.stderr);
    succeed(lathe().arg("inspect").arg(&out));
}

/// What a browser measures: charts, text on text, what is out of the window, how readable text is, how tables sort.
const MEASURE: &str = include_str!("report/measure.js");

#[track_caller]
fn is_sound(found: &Value) {
    assert_eq!(found["faults"], json!([]), "{found:#}");
    assert!(found["texts"].as_f64() >= Some(4.5) && found["marks"].as_f64() >= Some(3.0), "{found:#}");
    for size in ["wide", "narrow"] {
        let found = &found[size];
        for chart in found["charts"].as_array().unwrap() {
            assert!(chart["width"].as_f64() > Some(200.0) && chart["height"].as_f64() > Some(20.0), "{size}: {chart}");
        }
        assert_eq!(found["overlaps"], json!([]), "{size}");
        assert_eq!(found["outside"], json!([]), "{size}");
        assert_eq!(found["strayed"], json!(0), "{size}");
    }
}

#[test]
fn a_browser_shows_every_chart() {
    let Some(browser) = Browser::find() else { return skipped("no browser: the page was only parsed") };
    let compiled = Compiled::new(MIXED);
    let page = compiled.page();
    let report = compiled.report();
    let measured = report["modules"].as_array().unwrap().iter().filter_map(|module| module["sqnr_db"].as_f64());
    let lowest = format!("{:.2} dB", measured.reduce(f64::min).unwrap());
    let light = browser.evaluate(&page, false, MEASURE);
    let dark = browser.evaluate(&page, true, MEASURE);
    for found in [&light, &dark] {
        is_sound(found);
        assert_eq!(found["scrolled"], json!(0), "the tables of bytes fit into 1000 pixels");
        let counts = |key: &str| found["wide"]["charts"].as_array().unwrap().iter().map(|c| c[key].clone()).collect();
        assert_eq!(Value::Array(counts("segments")), json!([5, 1, 4, 1, 18, 0]), "{found:#}");
        assert_eq!(Value::Array(counts("points")), json!([0, 0, 0, 0, 0, 29]));
        assert_eq!((&found["lowest"], &found["highest"]), (&json!(lowest), &json!("exact")));
        assert_eq!((&found["sorted"], &found["shown"]), (&json!("descending"), &json!(5)));
        assert!(found["tip"].as_str().unwrap().starts_with("model.layers.1.self_attn.q_proj: "), "{found:#}");
    }
    assert!(light["paper"].as_f64() > Some(0.9) && dark["paper"].as_f64() < Some(0.05));
}

#[test]
fn a_browser_shows_hostile_names_and_large_models() {
    let Some(browser) = Browser::find() else { return skipped("no browser: the pages were only parsed") };
    let folder = tempfile::tempdir().unwrap();
    is_sound(&browser.evaluate(&artifact(folder.path(), &hostile_report()), false, MEASURE));
    let found = browser.evaluate(&artifact(folder.path(), &large_report()), false, MEASURE);
    is_sound(&found);
    assert_eq!(found["wide"]["charts"].as_array().unwrap().last().unwrap()["points"], json!(2800));
}

#[test]
fn rotations_and_their_proof_are_shown() {
    let rotate = "rotate {\n        residual by random_hadamard(seed: 7)\n        query_key by hadamard\n    }\n";
    let compiled = Compiled::new(&format!("lathe 1\nspec rotated {{\n    {rotate}}}\n"));
    let (page, report) = (compiled.page(), compiled.report());
    let page = markup(&page);
    let document = parse(&page);
    let shown = section(&document, "frames");
    for online in report["frames"]["online"].as_array().unwrap() {
        for what in ["path", "operation", "site"] {
            assert!(shown.contains(online[what].as_str().unwrap()), "{online}:\n{shown}");
        }
        assert!(shown.contains(&online["cost"].to_string()), "{online}:\n{shown}");
    }
    assert!(report["frames"]["online"].as_array().unwrap().len() >= 2, "{report}");
    assert!(
        shown.contains("random_hadamard(seed: 7)") && shown.contains("paley") | shown.contains("sylvester"),
        "{shown}"
    );
    assert!(shown.contains("Proven before weights were encoded: logits differ by at most"), "{shown}");
    assert!(shown.contains(report["proof"]["proved"]["worst"].as_str().unwrap()), "{shown}");
    assert!(section(&document, "kept").contains("or what rotations and scales make of them"));
    let plain = Compiled::new(MIXED).page();
    let plain = markup(&plain);
    assert_eq!(
        section(&parse(&plain), "frames").trim(),
        "Rotations and scales\nNone: all values are held as the model states them."
    );
}
