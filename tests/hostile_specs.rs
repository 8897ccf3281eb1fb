//! Texts that are as large as a text may be and written to take long: what grows faster than their length is bounded.

use lathe_compiler::compile::{define, load_specs};
use lathe_compiler::resolve::resolve;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::MAX_SOURCE_LENGTH;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use crate::support;
use crate::support::compiler::open;

/// What is said of every spec of a text.
fn said(text: String) -> Vec<Diagnostic> {
    assert!(text.len() <= MAX_SOURCE_LENGTH, "{} bytes", text.len());
    let checkpoint = open(&support::model("micro-llama"));
    let mut sources = Sources::new();
    let mut found = Vec::new();
    let model = define(None, &checkpoint, false, &mut sources, &mut found).expect("a shipped definition fits");
    let place = Place::File("hostile.lathe".into());
    let entry = Entry { source: sources.add("hostile.lathe", text), place, name: None };
    for spec in load_specs(&entry, true, &[], &NoFiles, &mut sources, &mut found) {
        resolve(&spec, &model, &checkpoint, &sources, &mut found);
    }
    found
}

fn count(found: &[Diagnostic], code: &str) -> usize {
    found.iter().filter(|diagnostic| diagnostic.code == code).count()
}

/// As many lines as there is room for, made from their numbers.
fn lines(bytes: usize, line: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for line in (0..).map(line) {
        if text.len() + line.len() > bytes {
            break;
        }
        text.push_str(&line);
    }
    text
}

fn in_rules(rules: &str) -> String {
    format!("lathe 1\nspec a {{\nrules {{\n{rules}}}\n}}\n")
}

/// Each is compared with each below it, up to a bound: then a rule is taken for one that decides something.
#[test]
fn thousands_of_rules() {
    let found = said(in_rules(&lines(250_000, |rule| format!("a{rule} => keep\n"))));
    assert!(count(&found, "S0101") > 10_000 && count(&found, "S0103") == 0);
    let found =
        said(in_rules(&format!("mlp.* => keep\n{}** => keep\n", lines(1000, |rule| format!("a{rule} => keep\n")))));
    assert_eq!(count(&found, "S0101"), count(&found, "S0103") - 1);
}

fn numbers() -> String {
    (0..900).map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

/// Each alternative is compared with each of the rules below.
#[test]
fn rules_of_hundreds_of_alternatives() {
    let numbers = numbers();
    let found = said(in_rules(&format!("a{{{numbers}}} => keep\n").repeat(3)));
    assert_eq!(count(&found, "S0103"), 2);
    let rule = |rule: usize| format!("r{rule}.a{{{numbers}}} => keep\n");
    let found = said(in_rules(&(0..35).map(rule).collect::<String>()));
    assert_eq!((count(&found, "S0101"), count(&found, "S0103")), (35, 0));
}

/// Each has its place in the text.
#[test]
fn hundreds_of_dead_alternatives() {
    let found = said(in_rules(&format!("{{down_proj,x{{{}}}}} => keep\n", numbers())));
    assert_eq!(count(&found, "S0106"), 16);
    assert_eq!(found.last().unwrap().notes.last().unwrap(), "884 more alternatives of this pattern match nothing");
}

/// One that is misspelt is compared with no name that is as long.
#[test]
fn a_name_of_many_thousand_letters() {
    let name = "a".repeat(120_000);
    let found = said(format!("lathe 1\nlet {name}b = keep\nspec a {{ rules {{ ** => {name}c }} }}\n"));
    assert_eq!(count(&found, "S0201"), 1);
}

#[test]
fn thousands_of_names_and_of_others() {
    let lets = lines(125_000, |at| format!("let name{at} = keep\n"));
    let rules = lines(125_000, |at| format!("** => nome{at}\n"));
    let found = said(format!("lathe 1\n{lets}spec a {{\nrules {{\n{rules}}}\n}}\n"));
    let unknown: Vec<&Diagnostic> = found.iter().filter(|diagnostic| diagnostic.code == "S0201").collect();
    assert!(unknown.len() > 5000);
    assert_eq!(unknown[0].help.as_deref(), Some("did you mean `name0`?"));
    assert_eq!(unknown[5000].help.as_deref(), Some("`lathe list formats` shows all"));
}

#[test]
fn thousands_of_names_for_one_another() {
    let lets = lines(125_000, |at| format!("let a{at} = a{}\n", at + 1));
    let rules = lines(125_000, |_| "** => a0\n".to_owned());
    let found = said(format!("lathe 1\n{lets}spec a {{\nrules {{\n{rules}}}\n}}\n"));
    let first = found.iter().find(|diagnostic| diagnostic.code == "S0003").expect("a chain that is too long");
    assert_eq!(first.message, "more than 64 `let`s stand for one another here");
}

#[test]
fn thousands_of_specs_with_thousands_of_names() {
    let lets = lines(125_000, |at| format!("let a{at} = keep\n"));
    let specs = lines(125_000, |at| format!("spec s{at} extends t{at} {{ }}\n"));
    let found = said(format!("lathe 1\n{lets}{specs}"));
    assert_eq!((count(&found, "P0001"), count(&found, "S0006")), (1, 64));
}
