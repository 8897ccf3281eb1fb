//! The JSON Schema of YAML specs takes what the parser takes, and refuses what it refuses.

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use lathe_compiler::schema::schema;
use lathe_grammar::is_yaml;
use lathe_grammar::span::Sources;
use serde_json::{Value, json};

use crate::support::command::{lathe, succeed_json};
use crate::support::{self, files};

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).expect("the schema is one")
}

/// A YAML text as the value that it is.
fn value(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What the schema says against a text.
fn complaints(text: &str) -> Vec<String> {
    let value = value(text);
    validator().iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The diagnostics of the parser, by code.
fn codes(text: &str) -> Vec<&'static str> {
    let mut sources = Sources::new();
    let source = sources.add("spec.yaml", text);
    lathe_grammar::parse(&sources, source).diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn the_schema_is_valid_and_printed() {
    assert!(jsonschema::meta::is_valid(&schema()));
    assert_eq!(succeed_json(lathe().arg("schema")), schema());
}

/// The shipped specs in YAML, also those that are written in the Lathe language.
fn shipped() -> impl Iterator<Item = (String, String)> {
    lathe_specs::SPECS.iter().map(|entry| {
        let mut sources = Sources::new();
        let source = sources.add(entry.path, entry.text);
        let file = lathe_grammar::parse(&sources, source).file.expect("shipped specs parse");
        let twin = || lathe_grammar::print_yaml(&file).expect("shipped specs can be written in YAML");
        let text = if is_yaml(entry.path) { entry.text.to_owned() } else { twin() };
        (entry.path.to_owned(), text)
    })
}

/// The specs in YAML of a folder of the file tests, with the folders in it.
fn of_tests(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in files::list(folder) {
        if path.is_dir() {
            found.extend(of_tests(&path));
        } else if is_yaml(&path) {
            found.push((path.display().to_string(), files::read_text(&path)));
        }
    }
    found
}

#[test]
fn specs_without_a_mistake_are_valid() {
    let filetests = support::root().join("filetests");
    let broken = filetests.join("diag").display().to_string();
    let sound = of_tests(&filetests).into_iter().filter(|(name, _)| !name.starts_with(&broken));
    for (name, text) in shipped().chain(sound) {
        assert_eq!(complaints(&text), Vec::<String>::new(), "{name}\n{text}");
    }
}

#[test]
fn unknown_keys_and_values_of_the_wrong_type_are_not() {
    let mut count = 0;
    for (name, text) in of_tests(&support::root().join("filetests/diag")) {
        let codes = codes(&text);
        let is_yaml = !codes.iter().any(|code| ["P0005", "P0006", "P0007"].contains(code));
        if is_yaml && codes.iter().any(|code| ["P0003", "P0004", "P0008"].contains(code)) {
            assert_ne!(complaints(&text), Vec::<String>::new(), "{name}\n{text}");
            count += 1;
        }
    }
    assert!(count > 0);
}

/// Everything that a spec can hold.
const WHOLE: &str = r#"
lathe: 1
use: ["./names.lathe", shared]
spec: whole-1.0
extends: ./base.yaml
models: [llama, qwen3]
let: { body: "int4(group: 128)", size: 64, flag: true }
rules:
  - match: "**"
    format: body
    input: "int8(per: token)"
    optional: true
  - { match: mlp.down_proj, input: keep }
rotate:
  - { site: residual, by: "random_hadamard(seed: 7)" }
  - { site: input, of: mlp.down_proj, by: hadamard, offline: true, optional: false }
kv_cache: "int4(per: head)"
tied: share
compute: bf16
"#;

/// Whether the parser finds no fault in form; formats and rotations are looked at later.
#[track_caller]
fn agree(text: &str, good: bool) {
    assert_eq!(codes(text).is_empty(), good, "the parser: {:?}\n{text}", codes(text));
    assert_eq!(complaints(text).is_empty(), good, "the schema: {:?}\n{text}", complaints(text));
}

#[test]
fn schema_and_parser_agree() {
    agree(WHOLE, true);
    agree("lathe: 1\nlet: { body: keep }\n", true);
    agree("lathe: 1\nspec: a\nrules: []\n", true);
    for (from, to) in [
        ("lathe: 1", "lathe: 2"),
        ("lathe: 1", "lathe: one"),
        ("spec: whole-1.0", "spec: 1whole"),
        ("spec: whole-1.0", "specs: whole"),
        ("extends: ./base.yaml", "extends: [./base.yaml]"),
        ("models: [llama, qwen3]", "models: llama"),
        ("models: [llama, qwen3]", "models: []"),
        ("models: [llama, qwen3]", "models: [llama, 3]"),
        ("size: 64", "size: [64]"),
        ("format: body", "format: 4"),
        ("format: body", "formats: body"),
        ("optional: true", "optional: yes please"),
        ("optional: true", "optional: 1"),
        ("{ match: mlp.down_proj, input: keep }", "{ match: mlp.down_proj }"),
        ("{ match: mlp.down_proj, input: keep }", "{ input: keep }"),
        ("{ match: mlp.down_proj, input: keep }", "mlp.down_proj"),
        ("site: residual, ", ""),
        ("offline: true", "ofline: true"),
        ("kv_cache: \"int4(per: head)\"", "kv_cache: { format: keep }"),
        ("tied: share", "tied: true"),
    ] {
        assert!(WHOLE.contains(from), "{from}");
        agree(&WHOLE.replacen(from, to, 1), false);
    }
}

/// The parser names the keys that it knows when it meets one that it does not.
#[test]
fn schema_and_parser_know_the_same_keys() {
    let known = |text: &str| -> BTreeSet<String> {
        let mut sources = Sources::new();
        let source = sources.add("spec.yaml", text);
        let diagnostics = lathe_grammar::parse(&sources, source).diagnostics;
        let mut unknown = diagnostics.iter().filter(|diagnostic| diagnostic.message.contains("`zzzzzzzz`"));
        let help = unknown.find_map(|diagnostic| diagnostic.help.as_deref()).expect("help that lists the keys");
        let (_, keys) = help.split_once(" are ").expect("help that lists the keys");
        keys.split(", ").map(str::to_owned).collect()
    };
    let keys = |value: &Value| value["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let schema = schema();
    let top = &schema["properties"];
    assert_eq!(keys(&schema), known("lathe: 1\nspec: a\nzzzzzzzz: 1\n"));
    assert_eq!(keys(&top["rules"]["items"]), known("lathe: 1\nspec: a\nrules: [{ zzzzzzzz: 1 }]\n"));
    assert_eq!(keys(&top["rotate"]["items"]), known("lathe: 1\nspec: a\nrotate: [{ zzzzzzzz: 1 }]\n"));
}

#[test]
fn sites_say_whether_a_pattern_follows() {
    let rotation = |site: &str, of: &str| {
        complaints(&format!("lathe: 1\nspec: a\nrotate:\n  - {{ site: {site}, {of} by: hadamard }}\n")).is_empty()
    };
    assert!(rotation("residual", "") && !rotation("residual", "of: mlp.down_proj,"));
    assert!(rotation("value", "") && rotation("value", "of: \"layers[0..4]\","));
    assert!(!rotation("input", "") && rotation("input", "of: mlp.down_proj,"));
    assert!(!rotation("residul", ""));
    let without = complaints("lathe: 1\nspec: a\nrotate:\n  - { by: hadamard }\n");
    assert!(matches!(&without[..], [only] if only.contains("site")), "{without:?}");
}

/// Editors complete the names of formats from the schema.
#[test]
fn formats_are_offered_where_they_may_stand() {
    let schema = schema();
    let offered = |format: &Value| {
        let names = format["anyOf"][0]["oneOf"].as_array().expect("names that are offered");
        names.iter().any(|name| name["const"] == json!("nf4"))
    };
    let rule = &schema["properties"]["rules"]["items"]["properties"];
    assert!(offered(&rule["format"]) && !offered(&rule["input"]));
}
