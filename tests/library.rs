//! The shipped specs: each fits every published checkpoint that it is for, and says the same in both syntaxes.

use std::collections::BTreeSet;

use lathe_compiler::compile::{CompileError, Planned, load_specs, plan_on};
use lathe_compiler::elaborate::Elaborated;
use lathe_compiler::ir::Values;
use lathe_compiler::model::Checkpoint;
use lathe_compiler::spec::{Entry, NoFiles, Place, Spec};
use lathe_grammar::ast::File;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use crate::published::{definition, elaborated};
use crate::snapshots::small_model;
use crate::support::command::{compile, lathe, run, succeed};
use crate::support::compiler::open;
use crate::support::published::Published;
use crate::support::{self, files, snapshot};

/// A shipped spec, checked without a model.
fn shipped(entry: &lathe_specs::Entry, sources: &mut Sources) -> Spec {
    let source = sources.add(entry.path, entry.text);
    let entry = Entry { source, place: Place::Library(entry.path.to_owned()), name: None };
    let mut found = Vec::new();
    let mut specs = load_specs(&entry, false, &[], &NoFiles, sources, &mut found);
    assert!(found.is_empty(), "{found:#?}");
    specs.pop().expect("shipped specs are specs")
}

/// Whether a spec is for models like this one.
fn is_for(spec: &Spec, published: &Published, model: &Elaborated) -> bool {
    let kind = published.config["model_type"].as_str().expect("published configs name their type");
    let listed = spec.models.as_ref().map(|models| models.value.iter().map(|model| model.value.as_str()));
    listed.is_none_or(|mut listed| listed.any(|listed| listed == model.name || listed == kind))
}

/// The code of the error with which a spec is refused on a model that it is for.
fn refusal(name: &str, published: &str, model: &Elaborated) -> Option<&'static str> {
    let is_tied = |head: usize| matches!(model.graph.params()[head].values, Values::Tied(_));
    match name {
        "w4-head4" if model.ties.iter().any(|tie| is_tied(tie.head.index())) => Some("S0301"),
        // They have inputs of 4544 and of 1600.
        "w4g128" | "w4g128-ends16" if ["falcon-7b", "gpt2-xl"].contains(&published) => Some("S0209"),
        // Inside its feed-forwards it is 13696 wide, and no Hadamard matrix of 428 is built.
        "f32-rotated" | "w4g32-quarot" | "w8a8-hadamard" if published == "glm-4-9b-0414" => Some("S0406"),
        _ => None,
    }
}

/// What is said of a plan once the tables have been probed.
fn said(planned: &mut Planned, checkpoint: &Checkpoint) -> Vec<Diagnostic> {
    let mut said = match planned.probe(checkpoint) {
        Ok(_) => std::mem::take(&mut planned.warnings),
        Err(CompileError::Diagnostics(diagnostics)) => diagnostics,
        Err(error) => panic!("{error}"),
    };
    said.append(&mut planned.unbuilt);
    said
}

#[test]
fn every_spec_fits_the_published_checkpoints_that_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = Sources::new();
    let specs: Vec<_> = lathe_specs::SPECS.iter().map(|entry| (entry.name, shipped(entry, &mut sources))).collect();
    let mut fitting = BTreeSet::new();
    for published in Published::all() {
        let written = folder.path().join(&published.name);
        published.write(&written);
        let checkpoint = open(&written);
        let mut model = elaborated(definition(&published), &written);
        for (name, spec) in &specs {
            if !is_for(spec, &published, &model) {
                continue;
            }
            let expected = refusal(name, &published.name, &model);
            let mut warnings = Vec::new();
            let (plan, unbuilt) = plan_on(spec, &model, &checkpoint, &sources, &mut warnings);
            let mut planned = Planned { model, plan, warnings, unbuilt };
            let said = said(&mut planned, &checkpoint);
            let codes: BTreeSet<&str> = said.iter().map(|diagnostic| diagnostic.code).collect();
            assert_eq!(codes, BTreeSet::from_iter(expected), "{name} on {}: {said:#?}", published.name);
            if expected.is_none() {
                fitting.insert(*name);
            }
            model = planned.model;
        }
    }
    assert!(specs.iter().all(|(name, _)| fitting.contains(name)));
}

#[test]
fn specs_for_some_models_are_refused_on_others() {
    let ended = run(lathe().args(["plan", "opt/w8"]).arg(support::model("tiny-qwen3")));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    snapshot("refused", "opt__w8.yaml__tiny-qwen3", &ended.stderr);
}

#[test]
fn groups_that_do_not_divide_are_refused_with_those_that_do() {
    let ended = run(lathe().args(["plan", "w4g128"]).arg(support::model("tiny-qwen3")));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    snapshot("refused", "w4g128.lathe__tiny-qwen3", &ended.stderr);
}

#[test]
fn tied_tables_are_refused_two_formats_unless_they_are_split() {
    let model = support::model("tiny-qwen3");
    let ended = run(lathe().args(["plan", "w4-head4"]).arg(&model));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    snapshot("refused", "w4-head4.yaml__tiny-qwen3", &ended.stderr);
    succeed(lathe().args(["plan", "w4-head4-split", "--strict"]).arg(&model));
}

fn parsed(name: &str, text: &str) -> File {
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    lathe_grammar::parse(&sources, source).file.unwrap_or_else(|| panic!("{name} does not parse"))
}

/// Of some specs there is the same text in the other syntax, written by hand.
#[test]
fn twins_are_one_tree() {
    let mut twins = 0;
    for path in files::list(&support::root().join("twins")) {
        let twin = support::name(&path);
        let name = twin.rsplit_once('.').expect("twins have extensions").0.replace("__", "/");
        let entry = lathe_specs::spec(&name).unwrap_or_else(|| panic!("no spec {name}"));
        assert_ne!(lathe_grammar::is_yaml(entry.path), lathe_grammar::is_yaml(twin));
        assert_eq!(parsed(entry.path, entry.text), parsed(twin, &files::read_text(&path)), "{twin}");
        twins += 1;
    }
    assert_eq!(twins, 2);
}

#[test]
fn every_shipped_spec_is_the_same_in_both_syntaxes() {
    let folder = tempfile::tempdir().unwrap();
    for spec in lathe_specs::SPECS {
        let (name, other) = (spec.name, if lathe_grammar::is_yaml(spec.path) { "lathe" } else { "yaml" });
        let twin = folder.path().join(format!("{}.{other}", name.replace('/', "_")));
        succeed(lathe().arg("convert").arg(name).arg("-o").arg(&twin));
        assert_eq!(parsed(spec.path, spec.text), parsed(&twin.display().to_string(), &files::read_text(&twin)));
        let Some(model) = small_model(name) else { continue };
        let artifact = |spec: &str, name: &str| {
            let out = folder.path().join(name);
            succeed(&mut compile(spec, &model, &out));
            files::contents(&out)
        };
        let (shipped, twin) = (artifact(name, "shipped"), artifact(twin.to_str().unwrap(), "twin"));
        assert!(shipped == twin, "{name}");
    }
}
