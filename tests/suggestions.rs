//! What `lathe check` says to someone who describes an architecture: what is missing, and what to write.

use std::fs;
use std::path::{Path, PathBuf};

use lathe_compiler::compile::define;
use lathe_compiler::model::Checkpoint;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use crate::end_to_end::{families, trained};
use crate::support::command::{lathe, run};
use crate::support::compiler::open;
use crate::support::{self};

/// What is wrong with a definition on a checkpoint.
fn faults(text: &str, checkpoint: &Checkpoint) -> Vec<Diagnostic> {
    let mut sources = Sources::new();
    let source = sources.add("mine.lathe", text);
    let entry = Entry { source, place: Place::File("mine.lathe".into()), name: None };
    let mut found = Vec::new();
    define(Some((&entry, &NoFiles)), checkpoint, false, &mut sources, &mut found);
    found
}

fn definition(body: &str) -> String {
    format!("lathe 1\nmodel mine {{\narchitectures \"X\"\n{body}\n}}\n")
}

/// The declarations that are suggested for what an empty definition lacks.
fn skeleton(folder: &Path) -> String {
    let found = faults(&definition(""), &open(folder));
    let codes: Vec<&str> = found.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, ["C0006", "M0006", "C0010"], "{}", folder.display());
    let help = found[0].help.clone().unwrap_or_default();
    let (_, text) = help.split_once("\n\n").unwrap_or_else(|| panic!("{}: {help}", folder.display()));
    text.to_owned()
}

#[test]
fn what_is_suggested_claims_every_tensor() {
    let all: Vec<PathBuf> = families().into_iter().map(|(folder, _)| folder).chain(trained()).collect();
    for folder in all {
        let text = skeleton(&folder);
        let found = faults(&definition(&text), &open(&folder));
        let others: Vec<&Diagnostic> =
            found.iter().filter(|fault| fault.code != "C0010" && !fault.message.ends_with("has no graph")).collect();
        assert!(others.is_empty(), "{}\n{text}\n{others:#?}", folder.display());
    }
}

#[test]
fn sizes_are_named_by_keys_and_layers_are_repeated() {
    for family in ["gpt2", "gpt_oss", "glm4_moe", "cohere"] {
        let text = skeleton(&support::root().join("families").join(family));
        support::snapshot("suggestion", family, &text);
    }
}

#[test]
fn a_definition_is_checked_without_a_spec() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine.lathe");
    fs::write(&mine, definition("")).unwrap();
    let family = support::root().join("families/granite");
    for arguments in [&["--model-def"][..], &[]] {
        let ended = run(lathe().arg("check").args(arguments).arg(&mine).arg(&family));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        for part in ["error[C0006]", "has no graph", "warning[C0010]", "logits_scaling = 0.5", "repeat i in 0..config."]
        {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    }
    let ended = run(lathe().arg("check").arg(support::model("micro-llama")));
    assert!(ended.code == Some(0) && ended.stderr.contains("model llama has 21 modules"), "{}", ended.stderr);
    let ended = run(lathe().arg("check").arg(&family));
    assert!(ended.stderr.contains("is like `llama`, which reads 20 of the 20"), "{}", ended.stderr);
    assert!(ended.stderr.contains("lathe check --model-def mine.lathe"), "{}", ended.stderr);
    let ended = run(lathe().args(["check", "--set", "a=1"]).arg(&family));
    assert!(ended.code == Some(2) && ended.stderr.contains("--set is for specs"), "{}", ended.stderr);
}
