//! Every family that a definition ships for or lies beside a checkpoint: rotations leave its function, and what they leave
//! for run time is written down.

use std::fmt::Write as _;
use std::path::Path;

use lathe_compiler::compile::{Input, plan};
use lathe_compiler::model::Checkpoint;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::span::Sources;

use crate::end_to_end::families;
use crate::support::compiler::{Texts, open};
use crate::support::{self, exact, files, snapshot};

/// Requests that fit every width.
const SITES: [(&str, &str); 8] = [
    ("R1", "residual by orthogonal(seed: 1)"),
    ("R2", "value by orthogonal(seed: 2)"),
    ("R3", "query_key by orthogonal(seed: 3)"),
    ("R4", "ffn_hidden by orthogonal(seed: 4) optional"),
    ("inputs", "input of :linear by orthogonal(seed: 5)"),
    ("smooth v", "value by smooth"),
    ("smooth ffn", "ffn_hidden by smooth optional"),
    ("smooth inputs", "input of :linear by smooth"),
];

fn spec(requests: &[&str], settings: &str) -> String {
    super::spec(requests.iter().copied(), settings)
}

fn texts(text: &str, definition: Option<&Path>) -> Texts {
    let texts = Texts::spec("rotated.lathe", text);
    match definition {
        Some(path) => texts.with_model(support::name(path), &files::read_text(path)),
        None => texts,
    }
}

#[test]
fn rotations_leave_the_function_of_every_family_in_f64() {
    let tokens: Vec<u32> = (0..7).map(|index| 3 + 13 * index).collect();
    for (model, definition) in families() {
        let checkpoint = open(&model);
        let logits = |text: &str| {
            let prepared = texts(text, definition.as_deref()).prepared(&checkpoint);
            exact::logits(&prepared.lowered, &checkpoint, &prepared.reader, &tokens)
        };
        let expected = logits(&spec(&[], ""));
        let all: Vec<&str> = SITES[..4].iter().map(|(_, request)| *request).collect();
        for (requests, settings) in [(&all[..], ""), (&all[..1], "tied => split"), (&[SITES[4].1][..], "")] {
            let distance = exact::distance(&logits(&spec(requests, settings)), &expected);
            let name = model.strip_prefix(support::root()).expect("families lie there").display();
            assert!(distance <= 1e-9, "{name} {requests:?}: {distance:.1e} of the range");
        }
    }
}

/// How many operations a request leaves for run time.
fn online(request: &str, checkpoint: &Checkpoint, definition: Option<&Path>) -> usize {
    let mut sources = Sources::new();
    let mut add =
        |name: &str, text: &str| Entry { source: sources.add(name, text), place: Place::File(name.into()), name: None };
    let spec = add("rotated.lathe", &spec(&[request], ""));
    let model = definition.map(|path| add(support::name(path), &files::read_text(path)));
    let input = Input {
        spec: &spec,
        overrides: &[],
        files: &NoFiles,
        model: model.as_ref(),
        checkpoint,
        strict: false,
        calibration: None,
    };
    let planned = plan(input, &mut sources).unwrap_or_else(|diagnostics| panic!("{request}: {diagnostics:#?}"));
    planned.plan.frames.online.len()
}

#[test]
fn what_families_leave_for_run_time() {
    let mut text = String::from("operations at run time by request, of each layer and the rest together\n\n");
    let heads: Vec<&str> = SITES.iter().map(|(name, _)| *name).collect();
    writeln!(text, "{:24}layers  {}", "family", heads.join("  ")).unwrap();
    for (model, definition) in families() {
        let checkpoint = open(&model);
        let name = model.strip_prefix(support::root().join("families")).expect("families lie there").display();
        let layers = ["num_hidden_layers", "n_layer", "num_layers", "n_layers"]
            .into_iter()
            .find_map(|key| checkpoint.config.get(&[key.to_owned()]).and_then(serde_json::Value::as_u64));
        let counts = SITES.iter().map(|(head, request)| {
            format!("{:>width$}", online(request, &checkpoint, definition.as_deref()), width = head.len())
        });
        let counts: Vec<String> = counts.collect();
        writeln!(text, "{:24}{:>6}  {}", name.to_string(), layers.unwrap_or(0), counts.join("  ")).unwrap();
    }
    snapshot("online", "families", &text);
}
