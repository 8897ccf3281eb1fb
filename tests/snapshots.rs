//! What our own printers say of every shipped spec on every shipped model, and what the binaries say of themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lathe_compiler::spec::Tied;
use lathe_runtime::program::Layers;

use crate::support::command::{lathe, lathe_run, run, succeed};
use crate::support::compiler::{Texts, open};
use crate::support::published::Published;
use crate::support::{model, snapshot};

/// The models in `models/`.
const SMALL: [&str; 2] = ["micro-llama", "tiny-qwen3"];

/// Descriptions in `published/` on which the first specs are shown, all of the others but the special ones on some.
const PUBLISHED: [&str; 8] = [
    "llama-3-8b",
    "llama-3.2-1b",
    "qwen2.5-0.5b",
    "qwen3-8b",
    "gemma-2-2b",
    "opt-1.3b",
    "phi-3-mini-4k",
    "mixtral-8x7b",
];

/// Models that each spec is shown on; those without a line on all of [`SMALL`] and [`PUBLISHED`].
const SHOWN: &[(&str, &[&str])] = &[
    ("bf16", &["micro-llama", "llama-3-8b"]),
    ("f16", &["micro-llama", "llama-3-8b"]),
    ("f32-rotated", &["micro-llama", "opt-1.3b", "gemma-2-2b"]),
    ("gemma/w4-quarot", &["gemma-2-2b", "gemma-3-1b-it"]),
    ("gemma/w4-table4", &["gemma-2-2b", "gemma-3-1b-it"]),
    ("gemma/w4-table8", &["gemma-2-2b", "gemma-3-1b-it"]),
    ("llama/w4-down8", &["micro-llama", "llama-3-8b"]),
    ("llama/w4-mix", &["micro-llama", "llama-3-8b"]),
    ("llama/w4-quarot", &["micro-llama", "llama-3.2-1b"]),
    ("llama/w4-quarot-cache", &["llama-3-8b"]),
    ("llama/w4-spinquant", &["llama-3-8b", "llama-3.2-1b"]),
    ("mixtral/experts4", &["mixtral-8x7b"]),
    ("mixtral/experts4-quarot", &["mixtral-8x7b"]),
    ("opt/w4", &["opt-125m", "opt-1.3b"]),
    ("opt/w4-quarot", &["opt-125m", "opt-1.3b"]),
    ("opt/w8", &["opt-125m", "opt-1.3b"]),
    ("phi/w4-quarot", &["phi-2", "phi-3-mini-4k"]),
    ("phi/w4-shards", &["phi-3-mini-4k", "phi-4-mini"]),
    ("qwen/moe-experts4", &["qwen1.5-moe-a2.7b", "qwen3-30b-a3b"]),
    ("qwen/moe-experts4-rotated", &["qwen1.5-moe-a2.7b", "qwen3-30b-a3b"]),
    ("qwen/w4-mix", &["tiny-qwen3", "qwen3-8b"]),
    ("qwen/w4-quarot", &["tiny-qwen3", "qwen2.5-0.5b"]),
    ("w4-edges8", &["tiny-qwen3", "llama-3-8b"]),
    ("w4-head4", &["llama-3-8b", "mixtral-8x7b"]),
    ("w4-head4-split", &["tiny-qwen3", "qwen2.5-0.5b"]),
    ("w4-small", &["micro-llama", "llama-3.2-1b"]),
    ("w4-table4", &["tiny-qwen3", "gemma-2-2b"]),
    ("w4g128", &["llama-3-8b", "qwen3-8b"]),
    ("w4g128-ends16", &["llama-3-8b", "opt-1.3b"]),
    ("w4g32-quarot", &["phi-2", "olmo-2-7b"]),
    ("w8-attention16", &["tiny-qwen3", "llama-3-8b"]),
    ("w8-head16", &["tiny-qwen3", "qwen2.5-0.5b"]),
    ("w8-rotated", &["tiny-qwen3", "llama-3-8b"]),
    ("w8a8", &["micro-llama", "llama-3-8b", "mixtral-8x7b"]),
    ("w8a8-hadamard", &["tiny-qwen3", "llama-3-8b"]),
    ("w8g64", &["micro-llama", "phi-3-mini-4k"]),
];

/// The models that a spec is shown on.
fn shown(spec: &str) -> Vec<&'static str> {
    match SHOWN.iter().find(|(name, _)| *name == spec) {
        Some((_, models)) => models.to_vec(),
        None => SMALL.into_iter().chain(PUBLISHED).collect(),
    }
}

/// A model with weights that a shipped spec is for, if there is one.
pub(crate) fn small_model(spec: &str) -> Option<PathBuf> {
    shown(spec).into_iter().find(|name| SMALL.contains(name)).map(model)
}

/// What does not depend on the machine in what `lathe plan` prints.
fn plan(spec: &str, checkpoint: &Path) -> String {
    let mut command = lathe();
    command.args(["plan", spec, "--strict", "--probe", "--threads", "2"]).arg(checkpoint);
    let text = succeed(&mut command);
    let end = text.find("\ncompiling takes").or_else(|| text.find("\npacking takes"));
    text[..end.expect("plans end with their memory")].to_owned()
}

#[test]
fn stages_of_every_spec() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = BTreeMap::new();
    let mut graphs: BTreeMap<(&str, Vec<bool>), String> = BTreeMap::new();
    for spec in lathe_specs::SPECS {
        for name in shown(spec.name) {
            let path = checkpoints.entry(name).or_insert_with(|| {
                if SMALL.contains(&name) {
                    return model(name);
                }
                let written = folder.path().join(name);
                Published::named(name).write(&written);
                written
            });
            let checkpoint = open(path);
            let prepared = Texts::library(spec.name).prepared(&checkpoint);
            let input = format!("{}__{name}", spec.path.replace('/', "__"));
            snapshot("plan", &input, &plan(spec.name, path));
            snapshot("program", &input, &prepared.lowered.program.listing(Layers::Folded));

            // Formats of weights do not change the graph; those of inputs, rotations and what is tied do.
            let listing = prepared.graph.listing(&|tensor| checkpoint.tensor(tensor).name.clone());
            let rounds = prepared.plan.inputs.iter().any(Option::is_some);
            if rounds || !prepared.plan.rotations.is_empty() {
                snapshot("ir", &input, &listing);
                continue;
            }
            let shared: Vec<bool> = prepared.plan.ties.iter().map(|tie| tie.shared).collect();
            let split = if prepared.plan.tied == Tied::Split { "__split" } else { "" };
            match graphs.get(&(name, shared.clone())) {
                Some(known) => assert_eq!(&listing, known, "{input}"),
                None => {
                    snapshot("ir", &format!("{name}{split}"), &listing);
                    graphs.insert((name, shared), listing);
                }
            }
        }
    }
}

#[test]
fn specs_that_are_shown_on_some_models_are_shipped() {
    for (name, models) in SHOWN {
        assert!(lathe_specs::spec(name).is_some() && !models.is_empty(), "{name}");
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
    for stage in ["plan", "ir", "program"] {
        snapshot("dump", stage, &dump(stage));
    }
    let folded = |stage: &str| {
        let mut command = lathe();
        run(command.arg("compile").arg("keep").arg(&checkpoint).args(["--dump", stage, "--fold-layers"]))
    };
    let opened = open(&checkpoint);
    assert_eq!(folded("ir").stdout, prepared.graph.listing(&|tensor| opened.tensor(tensor).name.clone()));
    assert_eq!(folded("program").stdout, prepared.lowered.program.listing(Layers::Folded));
    assert_eq!(folded("plan").code, Some(2));
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
