//! Any definition is elaborated on a checkpoint or refused. What is elaborated is a valid graph, and has no mistake that the
//! check without a checkpoint would find, but in parts that are never evaluated: the check looks at all of them.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use lathe_compiler::definition;
use lathe_compiler::elaborate::{elaborate, lint};
use lathe_compiler::ir::verify;
use lathe_compiler::model::Checkpoint;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::ast::Model;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use libfuzzer_sys::fuzz_target;

const CONFIG: &str = r#"{"hidden_size": 8, "vocab_size": 16, "num_layers": 2, "heads": 2, "nothing": null, "eps": 1e-6,
    "types": ["a", "b"], "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}"#;
/// Tensors of f32 and their shapes: apart, fused, one stack for all experts, one for each, of positions.
const TENSORS: [(&str, &[u64]); 9] = [
    ("embed.weight", &[16, 8]),
    ("up.weight", &[8, 8]),
    ("norm.weight", &[8]),
    ("norm.bias", &[8]),
    ("fused.weight", &[24, 8]),
    ("stack", &[2, 8, 8]),
    ("experts.0.weight", &[8, 8]),
    ("experts.1.weight", &[8, 8]),
    ("places.weight", &[10, 8]),
];

fn header() -> (String, usize) {
    let (mut entries, mut end) = (Vec::new(), 0);
    for (name, shape) in TENSORS {
        let begin = end;
        end += 4 * shape.iter().product::<u64>() as usize;
        entries.push(format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#));
    }
    (format!("{{{}}}", entries.join(",")), end)
}

static CHECKPOINT: LazyLock<Checkpoint> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (header, bytes) = header();
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.as_bytes());
    weights.resize(weights.len() + bytes, 0);
    fs::write(folder.path().join("config.json"), CONFIG).expect("the folder can be written");
    fs::write(folder.path().join("model.safetensors"), weights).expect("the folder can be written");
    Checkpoint::open(folder.path()).expect("the checkpoint is whole")
});

static BOOKKEEPING: LazyLock<Model> =
    LazyLock::new(|| model(lathe_specs::BOOKKEEPING.text).expect("the shipped text is right"));

/// The first model of a text, with what it extends: others of the text or of the library.
fn model(text: &str) -> Option<Model> {
    let mut sources = Sources::new();
    let source = sources.add("fuzz.lathe", text);
    let entry = Entry { source, place: Place::File("fuzz.lathe".into()), name: None };
    let mut diagnostics = Vec::new();
    let models = definition::load(&entry, true, &mut sources, &NoFiles, &mut diagnostics);
    models.into_iter().next().filter(|_| !diagnostics.iter().any(Diagnostic::is_error))
}

/// Whether some of a definition may never be evaluated: what stands in braces other than those of the model and its graph,
/// and the operands that an operator chooses from.
fn has_idle_parts(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    text.matches('{').count() > 2
        || ["&&", "||"].iter().any(|choice| text.contains(choice))
        || words.any(|word| ["when", "or"].contains(&word))
}

fuzz_target!(|text: &str| {
    if let Some(model) = model(text) {
        match elaborate(&model, &BOOKKEEPING, &CHECKPOINT, false) {
            Ok((elaborated, _)) => {
                verify(&elaborated.graph).expect("elaboration yields valid graphs");
                let found = lint(&model);
                assert!(has_idle_parts(text) || !found.iter().any(Diagnostic::is_error), "the check knows better");
            }
            Err(diagnostics) => {
                assert!(diagnostics.iter().any(Diagnostic::is_error));
                lint(&model);
            }
        }
    }
});
