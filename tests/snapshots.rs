//! What our own printers say of every shipped spec on every shipped model, and what the binaries say of themselves.

use std::process::Command;

use lathe_runtime::program::Layers;

use crate::support::command::{lathe, lathe_run, succeed};
use crate::support::compiler::{Texts, open};
use crate::support::{model, snapshot};

const MODELS: [&str; 2] = ["micro-llama", "tiny-qwen3"];

#[test]
fn stages_of_every_spec() {
    for spec in lathe_specs::SPECS {
        for name in MODELS {
            let checkpoint = open(&model(name));
            let prepared = Texts::library(spec.name).prepared(&checkpoint);
            let input = format!("{}__{name}", spec.path.replace('/', "__"));
            snapshot("plan", &input, &prepared.plan.listing(&prepared.model));
            snapshot("ir", &input, &prepared.graph.to_string());
            snapshot("program", &input, &prepared.lowered.program.listing(Layers::Folded));
        }
    }
}

#[test]
fn dumps_are_the_stages() {
    let checkpoint = model("micro-llama");
    let dump = |stage: &str| succeed(lathe().arg("compile").arg("keep").arg(&checkpoint).args(["--dump", stage]));
    let prepared = Texts::library("keep").prepared(&open(&checkpoint));
    assert_eq!(dump("plan"), prepared.plan.listing(&prepared.model));
    assert_eq!(dump("ir"), prepared.graph.to_string());
    assert_eq!(dump("ir-after=prune"), prepared.graph.to_string());
    assert_eq!(dump("program"), prepared.lowered.program.listing(Layers::All));
}

#[test]
fn passes_can_be_stopped_at_any_edit() {
    let checkpoint = model("micro-llama");
    let prepared = Texts::library("keep").prepared(&open(&checkpoint));
    let stopped = |stage: &str, edits: usize| {
        let mut command = lathe();
        command.arg("compile").arg("keep").arg(&checkpoint).args(["--dump", stage]);
        succeed(command.args(["--stop-after", &edits.to_string()]))
    };
    assert_eq!(stopped("ir", 0), prepared.model.graph.to_string());
    assert_eq!(stopped("ir-after=prune", 0), prepared.model.graph.to_string());
    let edits = prepared.log.edits.len();
    assert!((1..edits).all(|edit| stopped("ir", edit) != stopped("ir", edit - 1)));
    assert_eq!(stopped("ir", edits), prepared.graph.to_string());
}

#[test]
fn help_of_every_verb() {
    let help = |binary: fn() -> Command, name: &str, verbs: &[&str]| {
        snapshot("help", name, &succeed(binary().arg("--help")));
        for verb in verbs {
            snapshot("help", &format!("{name}__{verb}"), &succeed(binary().args([verb, "--help"])));
        }
    };
    let verbs = [
        "check",
        "plan",
        "explain",
        "diff",
        "compile",
        "inspect",
        "verify",
        "report",
        "fmt",
        "convert",
        "schema",
        "list",
        "completions",
    ];
    help(lathe, "lathe", &verbs);
    help(lathe_run, "lathe-run", &["generate", "chat", "perplexity", "logits", "bench"]);
}

#[test]
fn lists_of_what_ships() {
    snapshot("list", "specs", &succeed(lathe().args(["list", "specs"])));
    snapshot("list", "models", &succeed(lathe().args(["list", "models"])));
}
