//! Published checkpoints at full size: configs in the spellings of their day, tensors named as their publishers did.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lathe_compiler::compile::define;
use lathe_compiler::elaborate::Elaborated;
use lathe_compiler::ir::Values;
use lathe_compiler::plan::fold;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::span::Sources;
use lathe_runtime::program::{RopeGrowth, RopePairing};

use crate::support::command::{lathe, run};
use crate::support::compiler::open;
use crate::support::published::Published;
use crate::support::{self, files};

/// Operations that a plan shows, or that nothing can be set of.
const UNSET: [&str; 19] = [
    "param",
    "tokens",
    "positions",
    "selection",
    "embed",
    "linear",
    "expert_linear",
    "centre",
    "normalize",
    "gain",
    "shift",
    "split_heads",
    "merge_heads",
    "add",
    "mul",
    "gather",
    "combine",
    "select",
    "output",
];

/// Where the definition of a checkpoint lies, unless the library has it.
pub(crate) fn definition(model: &Published) -> Option<PathBuf> {
    let architecture = format!("{:?}", model.architecture());
    if lathe_specs::MODELS.iter().any(|entry| entry.text.contains(&architecture)) {
        return None;
    }
    let folders = files::list(&support::root().join("families"));
    let mut texts = folders.iter().map(|folder| folder.join("model.lathe")).filter(|path| path.is_file());
    let found = texts.find(|path| files::read_text(path).contains(&architecture));
    Some(found.unwrap_or_else(|| panic!("nothing describes {architecture}")))
}

/// The model that a definition, or the library, makes of a checkpoint.
pub(crate) fn elaborated(definition: Option<PathBuf>, checkpoint: &Path) -> Elaborated {
    let mut sources = Sources::new();
    let entry = definition.map(|path| {
        let source = sources.add("model.lathe", files::read_text(&path));
        Entry { source, place: Place::File(path), name: None }
    });
    let entry = entry.as_ref().map(|entry| (entry, &NoFiles as _));
    let mut found = Vec::new();
    let elaborated = define(entry, &open(checkpoint), true, &mut sources, &mut found);
    elaborated.unwrap_or_else(|| panic!("{found:#?}"))
}

/// Values that a model reads from its checkpoint.
fn parameters(model: &Elaborated) -> u64 {
    let stored = model.graph.params().iter().filter(|param| matches!(param.values, Values::Stored(_)));
    stored.map(|param| param.shape.iter().product::<u64>()).sum()
}

/// What a plan does not show: rotary frequencies, and the settings of operations with the layers that they hold in.
fn settings(model: &Elaborated) -> String {
    let mut text = String::new();
    for (index, table) in model.graph.rope_tables().iter().enumerate() {
        let frequencies = &table.inverse_frequencies;
        let [first, .., last] = frequencies[..] else { panic!("rotary widths are 4 or more") };
        let (pairs, amplitude) = (frequencies.len(), table.amplitude);
        let pairing = match table.pairing {
            RopePairing::Half => "half",
            RopePairing::Interleaved => "interleaved",
        };
        writeln!(text, "r{index}: {pairs} pairs, {pairing}, {first:?} to {last:?}, amplitude {amplitude:?}").unwrap();
        match &table.growth {
            None => {}
            Some(RopeGrowth::Dynamic { positions, .. }) => writeln!(text, "    above {positions}: dynamic").unwrap(),
            Some(RopeGrowth::Switch { positions, inverse_frequencies: beyond }) => {
                let (first, last) = (beyond[0], beyond[pairs - 1]);
                writeln!(text, "    above {positions}: {first:?} to {last:?}").unwrap();
            }
        }
    }
    let listing = model.graph.to_string();
    let mut seen = BTreeSet::new();
    let nodes = listing.lines().filter(|line| line.starts_with('%')).filter_map(|line| {
        let (call, rest) = line.split_once(" : ").expect("nodes have facts");
        let mut words = call.split(' ').filter(|word| !word.starts_with('%'));
        let operation = words.next().expect("nodes have operations");
        let (_, label) = rest.split_once("  // ").expect("nodes have labels");
        let row = (label.to_owned(), words.collect::<Vec<_>>().join(" "));
        (!UNSET.contains(&operation) && seen.insert(row.clone())).then_some(row)
    });
    for row in fold(nodes) {
        writeln!(text, "{}", format!("{} {}", row.path, row.common).trim_end()).unwrap();
    }
    text
}

#[test]
fn published_checkpoints_are_planned_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    for model in Published::all() {
        let checkpoint = folder.path().join(&model.name);
        model.write(&checkpoint);
        let definition = definition(&model);
        let mut plan = lathe();
        plan.args(["plan", "keep", "--strict", "--threads", "2"]).arg(&checkpoint);
        plan.args(definition.iter().flat_map(|path| ["--model-def".as_ref(), path.as_os_str()]));
        let ended = run(&mut plan);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", model.name);

        let elaborated = elaborated(definition, &checkpoint);
        assert_eq!(parameters(&elaborated), model.parameters, "{}", model.name);
        support::snapshot("published", &model.name, &format!("{}\n{}", ended.stdout, settings(&elaborated)));
    }
}
