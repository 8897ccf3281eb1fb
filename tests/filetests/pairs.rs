//! Two mistakes in one text are two diagnostics: every pair of a list, in both syntaxes.

use std::fmt::Write as _;
use std::sync::LazyLock;

use lathe_compiler::compile::{define, load_specs};
use lathe_compiler::elaborate::Elaborated;
use lathe_compiler::model::Checkpoint;
use lathe_compiler::resolve::resolve;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use crate::support;
use crate::support::compiler::open;

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// In the spec, outside blocks; in YAML a key of the document.
    Section,
    /// A `let`.
    Let,
    /// In `rules`.
    Rules,
    /// In `rotate`.
    Rotate,
}

/// A mistake in one line of a spec, and its twin in YAML. Each is the code that it is to have, and the text.
struct Mistake {
    part: Part,
    lathe: (&'static str, &'static str),
    yaml: (&'static str, &'static str),
}

const fn mistake(part: Part, code: &'static str, lathe: &'static str, yaml: &'static str) -> Mistake {
    Mistake { part, lathe: (code, lathe), yaml: (code, yaml) }
}

/// The lines of a rule in YAML are its entries; `;` separates them.
const MISTAKES: &[Mistake] = &[
    // Text that is not in the language at all.
    Mistake {
        part: Part::Rules,
        lathe: ("P0001", "mlp.up_proj keep"),
        yaml: ("P0006", "match: **.up_proj; format: keep"),
    },
    Mistake {
        part: Part::Rules,
        lathe: ("P0001", "input_layernorm = keep"),
        yaml: ("P0006", "match: input_layernorm;\tformat: keep"),
    },
    Mistake {
        part: Part::Rules,
        lathe: ("P0001", "re:\"layers => keep"),
        yaml: ("P0006", "match: {up,gate}_proj; format: keep"),
    },
    mistake(Part::Rules, "P0001", "q_proj => int4(group: 64", "match: q_proj; format: \"int4(group: 64\""),
    mistake(Part::Rules, "P0001", "k_proj => int4(group 64)", "match: k_proj; format: int4(group 64)"),
    mistake(Part::Rotate, "P0001", "value by by hadamard", "site: value; by: by hadamard"),
    Mistake { part: Part::Section, lathe: ("P0001", "models 32"), yaml: ("P0008", "models: 32") },
    // Wrong with any model.
    mistake(Part::Section, "P0004", "rulse { }", "rulse: []"),
    mistake(Part::Section, "P0005", "tied => share\n    tied => share", "tied: share\ntied: share"),
    mistake(Part::Section, "S0501", "compute => f31", "compute: f31"),
    mistake(Part::Section, "S0208", "kv_cache => nf4(group: 64)", "kv_cache: \"nf4(group: 64)\""),
    mistake(Part::Let, "S0005", "let int4 = keep", "int4: keep"),
    mistake(Part::Let, "S0003", "let ring = ring", "ring: ring"),
    mistake(Part::Rules, "S0102", "mlp..up_proj => keep", "match: mlp..up_proj; format: keep"),
    mistake(Part::Rules, "S0201", "up_proj => int44", "match: up_proj; format: int44"),
    mistake(Part::Rules, "S0203", "v_proj => int4(size: 64)", "match: v_proj; format: \"int4(size: 64)\""),
    mistake(Part::Rules, "S0204", "o_proj => int4(group: many)", "match: o_proj; format: \"int4(group: many)\""),
    mistake(Part::Rules, "S0205", "gate_proj => int4(group: 1)", "match: gate_proj; format: \"int4(group: 1)\""),
    mistake(Part::Rules, "S0206", "down_proj => int4", "match: down_proj; format: int4"),
    mistake(Part::Rotate, "S0401", "residul by hadamard", "site: residul; by: hadamard"),
    mistake(Part::Rotate, "S0402", "residual by hadamrad", "site: residual; by: hadamrad"),
    // Wrong with this model.
    mistake(Part::Rules, "S0101", "mlp.upproj => keep", "match: mlp.upproj; format: keep"),
    mistake(Part::Rules, "S0104", "layers[0] => keep", "match: layers[0]; format: keep"),
    mistake(Part::Rules, "S0105", "layers[7].** => keep", "match: layers[7].**; format: keep"),
    mistake(Part::Rules, "S0106", "{k_proj,kproj} => keep(exact)", "match: \"{k_proj,kproj}\"; format: keep(exact)"),
    mistake(Part::Rules, "S0209", "lm_head => int4(group: 100)", "match: lm_head; format: \"int4(group: 100)\""),
    mistake(Part::Rules, "S0210", "model.norm => f16", "match: model.norm; format: f16"),
    mistake(
        Part::Rules,
        "S0211",
        "embed_tokens => with input int8(per: token)",
        "match: embed_tokens; input: \"int8(per: token)\"",
    ),
    mistake(Part::Rotate, "S0404", "input of norm by hadamard", "site: input; of: norm; by: hadamard"),
];

fn lathe(first: &Mistake, second: &Mistake) -> String {
    let lines = |part: Part| -> Vec<&str> {
        [first, second].into_iter().filter(|mistake| mistake.part == part).map(|mistake| mistake.lathe.1).collect()
    };
    let mut text = "lathe 1\n\nspec pair {\n".to_owned();
    for line in lines(Part::Let).into_iter().chain(lines(Part::Section)) {
        writeln!(text, "    {line}").unwrap();
    }
    for (block, part) in [("rules", Part::Rules), ("rotate", Part::Rotate)] {
        writeln!(text, "    {block} {{").unwrap();
        for line in lines(part) {
            writeln!(text, "        {line}").unwrap();
        }
        text.push_str("    }\n");
    }
    text + "}\n"
}

fn yaml(first: &Mistake, second: &Mistake) -> String {
    let lines = |part: Part| -> Vec<&str> {
        [first, second].into_iter().filter(|mistake| mistake.part == part).map(|mistake| mistake.yaml.1).collect()
    };
    let mut text = "lathe: 1\nspec: pair\n".to_owned();
    for line in lines(Part::Section) {
        writeln!(text, "{line}").unwrap();
    }
    if !lines(Part::Let).is_empty() {
        text.push_str("let:\n");
    }
    for line in lines(Part::Let) {
        writeln!(text, "  {line}").unwrap();
    }
    for (key, part) in [("rules", Part::Rules), ("rotate", Part::Rotate)] {
        let entries = lines(part);
        if !entries.is_empty() {
            writeln!(text, "{key}:").unwrap();
        }
        for entry in entries {
            let lines: Vec<&str> = entry.split(';').collect();
            for (index, line) in lines.into_iter().enumerate() {
                // An entry that begins with a tab keeps it, in the place of the indentation.
                let indentation = if index == 0 {
                    "  - "
                } else if line.starts_with('\t') {
                    ""
                } else {
                    "    "
                };
                writeln!(text, "{indentation}{}", line.trim_start_matches(' ')).unwrap();
            }
        }
    }
    text
}

static MODEL: LazyLock<(Checkpoint, Elaborated)> = LazyLock::new(|| {
    let checkpoint = open(&support::model("micro-llama"));
    let mut sources = Sources::new();
    let model = define(None, &checkpoint, false, &mut sources, &mut Vec::new()).expect("a shipped definition fits");
    (checkpoint, model)
});

/// What is said of a text, in the order of the codes.
fn codes(name: &str, text: &str) -> Vec<&'static str> {
    let (checkpoint, model) = &*MODEL;
    let mut sources = Sources::new();
    let entry = Entry { source: sources.add(name, text), place: Place::File(name.into()), name: None };
    let mut found: Vec<Diagnostic> = Vec::new();
    for spec in load_specs(&entry, true, &[], &NoFiles, &mut sources, &mut found) {
        resolve(&spec, model, checkpoint, &sources, &mut found);
    }
    let mut codes: Vec<&str> = found.iter().map(|diagnostic| diagnostic.code).collect();
    codes.sort_unstable();
    codes
}

fn report(mut failures: Vec<String>) {
    let count = failures.len();
    failures.truncate(8);
    assert!(failures.is_empty(), "{count} texts, of them:\n{}", failures.join("\n"));
}

/// Every pair, in both orders.
#[test]
fn two_mistakes_are_two_diagnostics() {
    let mut failures: Vec<String> = Vec::new();
    for (i, first) in MISTAKES.iter().enumerate() {
        for second in MISTAKES.iter().enumerate().filter(|(j, _)| i != *j).map(|(_, second)| second) {
            let twins = [
                ("pair.lathe", lathe(first, second), [first.lathe.0, second.lathe.0]),
                ("pair.yaml", yaml(first, second), [first.yaml.0, second.yaml.0]),
            ];
            for (name, text, mut expected) in twins {
                expected.sort_unstable();
                let found = codes(name, &text);
                if found != expected {
                    failures.push(format!("expected {expected:?}, found {found:?} in {name}:\n{text}"));
                }
            }
        }
    }
    report(failures);
}

/// What can stand in one place of a rule, each with the code that it is to have: the first is right.
type Choices = &'static [(&'static str, &'static str)];

const PATTERNS: Choices = &[
    ("", "q_proj"),
    ("S0102", ":linaer"),
    ("S0102", "q_proj..x"),
    ("S0102", "re:\"(x\""),
    ("S0101", "qq_proj"),
    ("S0104", "mlp"),
    ("S0105", "layers[9].mlp.up_proj"),
    ("S0106", "{q_proj,zz}"),
];
const FORMATS: Choices = &[
    ("", "f16"),
    ("P0001", "int4(group 3)"),
    ("S0201", "fp17"),
    ("S0203", "int4(gruop: 3)"),
    ("S0205", "int4(group: 1)"),
    ("S0206", "int4"),
    ("S0208", "int8(per: token)"),
];
const INPUTS: Choices = &[("", ""), ("P0001", "int8(per token)"), ("S0201", "fp18"), ("S0208", "nf4(group: 64)")];

/// Every pattern, format and input, in one rule between two that match the same: of two texts that are not in the
/// language on one line, the first is reported.
#[test]
fn mistakes_of_one_rule_are_told_apart() {
    let mut failures: Vec<String> = Vec::new();
    for (in_pattern, pattern) in PATTERNS {
        for (in_format, format) in FORMATS {
            for (in_input, input) in INPUTS {
                let mut expected = vec![*in_pattern, *in_format, *in_input];
                expected.retain(|code| !code.is_empty());
                expected.sort_unstable();
                let (with, entry) = match *input {
                    "" => (String::new(), String::new()),
                    input => (format!(" with input {input}"), format!("    input: '{input}'\n")),
                };
                let text =
                    format!("lathe 1\nspec one {{\n    rules {{\n        {pattern} => {format}{with}\n    }}\n}}\n");
                let twin =
                    format!("lathe: 1\nspec: one\nrules:\n  - match: '{pattern}'\n    format: '{format}'\n{entry}");
                let mut on_one_line = expected.clone();
                on_one_line.dedup_by(|a, b| a == b && *a == "P0001");
                for (name, text, expected) in [("one.lathe", text, on_one_line), ("one.yaml", twin, expected)] {
                    let found = codes(name, &text);
                    if found != expected {
                        failures.push(format!("expected {expected:?}, found {found:?} in {name}:\n{text}"));
                    }
                }
            }
        }
    }
    report(failures);
}

/// A rule that could not be read as a whole says nothing about others, nor they about it.
#[test]
fn what_could_not_be_read_shadows_nothing() {
    for (broken, code) in [
        (":linaer => f16", "S0102"),
        ("q_proj => int4(group 3)", "P0001"),
        ("** => with input int8(per token)", "P0001"),
    ] {
        for lines in [format!("{broken}\n** => f16"), format!("q_proj => f16\n{broken}"), format!("{broken}\n{broken}")]
        {
            let expected = vec![code; lines.matches(broken).count()];
            let text = format!("lathe 1\nspec one {{\nrules {{\n{lines}\n}}\n}}\n");
            assert_eq!(codes("one.lathe", &text), expected, "{text}");
        }
    }
    let text = "lathe 1\nspec one {\nrotate {\nvalue of ..x by hadamard\nvalue of ..x by hadamard\n}\n}\n";
    assert_eq!(codes("one.lathe", text), ["S0102", "S0102"]);
}
