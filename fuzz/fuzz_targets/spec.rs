//! Any text is a spec that is resolved on a model, or refused. A plan has a decision for each module.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use lathe_compiler::compile::{define, load_specs};
use lathe_compiler::elaborate::Elaborated;
use lathe_compiler::model::Checkpoint;
use lathe_compiler::plan::ReportedPlan;
use lathe_compiler::resolve::resolve;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use libfuzzer_sys::fuzz_target;

static MODEL: LazyLock<(Checkpoint, Elaborated)> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/micro-llama");
    let checkpoint = Checkpoint::open(&folder).expect("the checkpoint is whole");
    let model = define(None, &checkpoint, false, &mut Sources::new(), &mut Vec::new());
    (checkpoint, model.expect("the shipped definition describes it"))
});

fuzz_target!(|text: &str| {
    let (checkpoint, model) = &*MODEL;
    for name in ["fuzz.lathe", "fuzz.yaml"] {
        let mut sources = Sources::new();
        let source = sources.add(name, text);
        let entry = Entry { source, place: Place::File(name.into()), name: None };
        let mut diagnostics: Vec<Diagnostic> = Vec::new();
        for spec in load_specs(&entry, true, &[], &NoFiles, &mut sources, &mut diagnostics) {
            let plan = resolve(&spec, model, checkpoint, &sources, &mut diagnostics);
            assert_eq!(plan.decisions.len(), model.modules.len());
            ReportedPlan::new(&plan, model, checkpoint, &sources, 0);
        }
        for label in diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels) {
            assert!(sources.get(label.span.source).text.get(label.span.range()).is_some(), "{diagnostics:?}");
        }
    }
});
