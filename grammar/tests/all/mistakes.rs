//! What is said about typical mistakes: where, in which words, with which help.

use std::fmt::Write as _;

use crate::parse_named;

/// Every diagnostic of a text, with the line that it points at.
fn diagnose_named(name: &str, text: &str) -> String {
    let (sources, _, parsed) = parse_named(name, text);
    let mut report = String::new();
    for diagnostic in &parsed.diagnostics {
        for (i, label) in diagnostic.labels.iter().enumerate() {
            let (line, column) = sources.line_column(label.span);
            let width = text[label.span.range()].chars().count().max(1);
            let source = text.lines().nth(line - 1).unwrap_or_default();
            if i == 0 {
                let _ = writeln!(report, "{line}:{column} {}: {}", diagnostic.code, diagnostic.message);
            }
            let _ =
                writeln!(report, "  | {source}\n  | {:>2$} {}", "^".repeat(width), label.message, column + width - 1);
        }
        for help in diagnostic.notes.iter().chain(&diagnostic.help) {
            let _ = writeln!(report, "  = {help}");
        }
    }
    report.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn diagnose(text: &str) -> String {
    diagnose_named("a.lathe", text)
}

/// A spec with these rules.
fn rules(lines: &str) -> String {
    diagnose(&format!("lathe 1\nspec a {{\nrules {{\n{lines}\n}}\n}}\n"))
}

/// A model with these declarations.
fn model(lines: &str) -> String {
    diagnose(&format!("lathe 1\nmodel m {{\n{lines}\n}}\n"))
}

/// A graph with these statements.
fn graph(lines: &str) -> String {
    model(&format!("graph(tokens) {{\n{lines}\n}}"))
}

/// A YAML spec with these rules.
fn yaml_rules(lines: &str) -> String {
    diagnose_named("a.yaml", &format!("lathe: 1\nspec: a\nrules:\n{lines}\n"))
}

#[test]
fn versions() {
    insta::assert_snapshot!(diagnose("spec a { }"), @"");
    insta::assert_snapshot!(diagnose("lathe 2\nspec ((("), @"");
    insta::assert_snapshot!(diagnose("lathe\n"), @"");
    insta::assert_snapshot!(diagnose("lathe 1\nlathe 1\n"), @"");
    insta::assert_snapshot!(diagnose(""), @"");
}

#[test]
fn misspelt_keywords_do_not_hide_what_is_behind_them() {
    insta::assert_snapshot!(diagnose("lathe 1\nspce a {\nruels {\na -> keep\n}\n}\nmodle m { lte x = 3 4 }\n"), @"");
    insta::assert_snapshot!(model("repaet i in 0..3 {\nmodule a[i] = f(1 2)\n}\narchitecture \"A\"\nfrobnicate 3"), @"");
    insta::assert_snapshot!(graph("retrun x\nfro a in b { }"), @"");
}

#[test]
fn sections_of_later_versions() {
    insta::assert_snapshot!(diagnose(
        "lathe 1\nuse \"common\"\nspec a extends b {\nmodels llama\nlet x = int4(group: 3)\nrotate {\nresidual by hadamard\n}\n\
         kv_cache => int4\nrotat { }\nrules { a => keep with input int8(per: token) }\n}\n"
    ), @"");
    insta::assert_snapshot!(diagnose("lathe 1\nmodel a extends b {\n}\n"), @"");
}

#[test]
fn bad_rules() {
    insta::assert_snapshot!(rules("a keep\na -> keep\na = keep\na\na =>\n=> keep"), @"");
    insta::assert_snapshot!(rules("a => keep optinal\na => keep keep\na => 3\na => keep(exact, exact: 1, 2, exact: 3)"), @"");
    insta::assert_snapshot!(diagnose("lathe 1\nspec a {\nrules { }\nrules { }\nrules\n}\nspec 3 { }\nspec { }\n"), @"");
}

#[test]
fn bad_patterns() {
    insta::assert_snapshot!(rules("a..b => keep\n:linar => keep\nlayers[0 => keep\nlayers[] => keep\nlayers[1.5] => keep\na b => keep"), @"");
    insta::assert_snapshot!(rules("{a,} => keep\na/b => keep\na**b => keep\na.(b|c) => keep\nre:\"(\" => keep\nre:x => keep"), @"");
    insta::assert_snapshot!(model("ignore tensors \"a..b\", \"a.**\""), @"");
}

#[test]
fn open_brackets() {
    insta::assert_snapshot!(model("let a = f(1\nlet b = [1, 2\nlet c = 3)\nlet d = 3 4"), @"");
    insta::assert_snapshot!(diagnose("lathe 1\nmodel m {\n    repeat i in 0..3 {\n        module a = f()\n    let x = 3 4\n}\n"), @"");
    insta::assert_snapshot!(diagnose("lathe 1\nspec s {\nrules {\n{a,b => keep\nc} => keep\n}\n}\nspec t {\nrules { a -> keep }\n}\n"), @"");
    insta::assert_snapshot!(diagnose("lathe 1\nspec a {\n}\n}\n"), @"");
}

#[test]
fn strings_and_numbers() {
    insta::assert_snapshot!(model("let a = \"x\nlet b = \"\\d\"\nlet c = 'x'\nlet d = 99999999999999999999\nlet e = 1e999\nlet f = 3x"), @"");
}

#[test]
fn heads_of_blocks() {
    insta::assert_snapshot!(model("repeat i of 0..3 {\nlet a = 1 2\n}\nrepeat i in 3 {\n}\nif a = 1 {\nlet a = 1 2\n}\ngraph {\n}\ngraph(a b) {\nx = 1 2\n}"), @"");
    insta::assert_snapshot!(graph("for x of y {\nz = 1 2\n}\nif x and y {\n} else if {\n}"), @"");
}

#[test]
fn declarations_in_the_wrong_place() {
    insta::assert_snapshot!(model("x = f()\nmodule a {\nmodule b = f()\ngraph() { }\ncontext 3\n}\nreturn 3"), @"");
    insta::assert_snapshot!(graph("let x = 3\nmodule a = f()\nx + 1\nf(x)"), @"");
}

#[test]
fn declarations_cut_short() {
    insta::assert_snapshot!(model("architectures\nlet x\nlet = 3\nlet if = 3\nassert\nassert a, b\ncontext\nignore tensrs \"a\"\nmodule x\nmodule x ="), @"");
}

#[test]
fn slips_from_other_languages() {
    insta::assert_snapshot!(graph("x = a ** 2;\nx += 1\nx = not a\nx = a and b\nx = a ? b : c\nx = a if b else c\nx = #\nx = if a { b }"), @"");
    insta::assert_snapshot!(graph("if a {\n} elif b {\n}"), @"");
}

#[test]
fn yaml() {
    insta::assert_snapshot!(yaml_rules("- match: **\n  format: keep"), @"");
    insta::assert_snapshot!(yaml_rules("- match: {a,b}\n  format: keep\n- match: [a]\n  format: [keep]"), @"");
    insta::assert_snapshot!(yaml_rules("- macth: a\n  format: keep(\n  optional: no\n  input: int8\n- 3\n- match: a..b\n  format: 'keep keep'"), @"");
    insta::assert_snapshot!(yaml_rules("- match: \"a.\\tb\"\n  format: \"ke\\tep\"\n  match: c"), @"");
    insta::assert_snapshot!(diagnose_named("a.yaml", "lathe: 2\nrules: 3"), @"");
    insta::assert_snapshot!(diagnose_named("a.yaml", "spec: 3x\nrules: 3\nrotate:\n  residual: hadamard\nrulse: []"), @"");
    insta::assert_snapshot!(diagnose_named("a.yaml", "lathe: 1\nspec: a\nspec: b\n"), @"");
    insta::assert_snapshot!(diagnose_named("a.yaml", "- a\n"), @"");
    insta::assert_snapshot!(diagnose_named("a.yaml", "lathe: 1\nspec: [a\n"), @"");
    insta::assert_snapshot!(diagnose_named("a.yaml", "lathe: 1\n---\nlathe: 1\n"), @"");
}
