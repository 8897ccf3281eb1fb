//! Definitions that extend others: the same model where they say nothing new, another where they do.

use std::fs;
use std::path::Path;

use lathe_compiler::definition::{architectures, load};
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::span::Sources;

use crate::support;
use crate::support::command::{lathe, run, succeed};
use crate::support::compiler::{Texts, open};

fn plan(model: &str, folder: &Path) -> std::process::Command {
    let mut command = lathe();
    command.current_dir(folder).args(["plan", "keep"]).arg(support::model("micro-llama"));
    command.args(["--model-def", model]);
    command
}

#[test]
fn saying_nothing_changes_nothing() {
    let checkpoint = open(&support::model("micro-llama"));
    let shipped = Texts::library("keep").prepared(&checkpoint);
    let again = "lathe 1\nmodel again extends llama {\n}\n";
    let theirs = Texts::library("keep").with_model("again.lathe", again).prepared(&checkpoint);
    assert_eq!(theirs.lowered.program.steps, shipped.lowered.program.steps);
    assert_eq!(theirs.model.name, "again");
}

#[test]
fn what_is_declared_anew_replaces_what_the_base_has() {
    let checkpoint = open(&support::model("micro-llama"));
    let derived = "
lathe 1
model derived extends llama {
    assert config.hidden_act == \"silu\", \"another reason\"
    context 7
    repeat i in 0..config.num_hidden_layers {
        module model.layers[i] {
            input_layernorm = rms_norm(d, eps: 0.5)
        }
    }
}
";
    let prepared = Texts::library("keep").with_model("derived.lathe", derived).prepared(&checkpoint);
    assert_eq!(prepared.model.max_positions, Some(7));
    let graph = prepared.model.graph.to_string();
    assert!(graph.contains("eps=0.5"), "{graph}");
    // The other norms are as they were.
    assert!(graph.contains("eps=1e-5") || graph.contains("eps=1e-6"), "{graph}");
}

#[test]
fn architectures_are_not_inherited() {
    let mut sources = Sources::new();
    let source = sources.add("again.lathe", "lathe 1\nmodel again extends llama {\n}\n");
    let entry = Entry { source, place: Place::File("again.lathe".into()), name: None };
    let mut found = Vec::new();
    let models = load(&entry, false, &mut sources, &NoFiles, &mut found);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(models.iter().flat_map(architectures).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_base_in_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), format!("lathe 1\n{text}\n")).unwrap();
    write("base.lathe", "model base extends llama {\n    let eps = config.rms_norm_epsilon\n}");
    write("below.lathe", "model below extends \"./base.lathe\" {\n}");
    write("several.lathe", "model one extends llama {\n}\nmodel two extends one {\n}");
    succeed(&mut plan("below.lathe", folder.path()));
    succeed(&mut plan("several.lathe#two", folder.path()));
    let ended = run(&mut plan("several.lathe", folder.path()));
    assert!(ended.code == Some(1) && ended.stderr.contains("say which: `several.lathe#one`"), "{}", ended.stderr);
    let ended = run(&mut plan("several.lathe#three", folder.path()));
    assert!(ended.code == Some(1) && ended.stderr.contains("holds no model `three`"), "{}", ended.stderr);

    write("base.lathe", "model base extends llama {\n    assert false, \"it is another\"\n}");
    let ended = run(&mut plan("below.lathe", folder.path()));
    assert!(ended.code == Some(1) && ended.stderr.contains("base.lathe:3:12"), "{}", ended.stderr);
    let ended = run(lathe().current_dir(folder.path()).args(["check", "below.lathe"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    write("base.lathe", "model base extends llama {\n    let wrong = absent\n}");
    let ended = run(lathe().current_dir(folder.path()).args(["check", "below.lathe"]));
    assert!(ended.code == Some(1) && ended.stderr.contains("base.lathe:3:17"), "{}", ended.stderr);
}
