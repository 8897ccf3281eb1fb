//! Rotated models compute what the original does, rotations are where they belong, and only what has to runs online.

mod families;
mod graphs;
mod sizes;
mod weights;

use std::collections::BTreeMap;
use std::path::PathBuf;

use lathe_compiler::compile::Prepared;
use lathe_runtime::program::{Op, Program};

use crate::support::compiler::{Texts, open};
use crate::support::{self, exact, model, models_in, name};

/// R1 to R4 with a request each.
pub(crate) const ROTATIONS: [(&str, &str); 4] = [
    ("R1", "residual by random_hadamard(seed: 7)"),
    ("R2", "value by hadamard"),
    ("R3", "query_key by random_hadamard(seed: 3)"),
    ("R4", "ffn_hidden by hadamard"),
];

/// The spec that rotates the sites of a subset, by its bits; weights are f32.
pub(crate) fn spec_of(subset: usize, settings: &str) -> String {
    let requests = ROTATIONS.iter().enumerate().filter(|(index, _)| subset >> index & 1 == 1);
    spec(requests.map(|(_, (_, request))| *request), settings)
}

/// The spec with these requests; weights are f32.
fn spec<'a>(requests: impl Iterator<Item = &'a str>, settings: &str) -> String {
    let lines: Vec<&str> = requests.flat_map(|request| ["        ", request, "\n"]).collect();
    let rotate = if lines.is_empty() { String::new() } else { format!("    rotate {{\n{}    }}\n", lines.concat()) };
    format!("lathe 1\n\nspec rotated {{\n    rules {{\n        ** => f32\n    }}\n{rotate}    {settings}\n}}\n")
}

/// The names of a subset, for messages.
fn names(subset: usize) -> String {
    let named = ROTATIONS.iter().enumerate().filter(|(index, _)| subset >> index & 1 == 1);
    named.map(|(_, (name, _))| *name).collect::<Vec<_>>().join(" ")
}

/// The shipped models, and those that `LATHE_TEST_MODELS` names.
pub(crate) fn models() -> Vec<PathBuf> {
    let shipped = vec![model("micro-llama"), model("tiny-qwen3")];
    match std::env::var_os("LATHE_TEST_MODELS") {
        Some(folder) => models_in(&PathBuf::from(folder)),
        None => shipped,
    }
}

#[track_caller]
fn prepared(text: &str, model: &std::path::Path) -> Prepared {
    Texts::spec("rotated.lathe", text).prepared(&open(model))
}

/// How many steps of a program rotate, by the label of what they stand behind without numbers of layers.
fn rotations(program: &Program) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for step in program.steps.iter().filter(|step| matches!(step.op, Op::Rotate { .. })) {
        let segments = step.label.split('.').map(|segment| if segment.parse::<u32>().is_ok() { "#" } else { segment });
        *counts.entry(segments.collect::<Vec<_>>().join(".")).or_insert(0) += 1;
    }
    counts
}

#[test]
fn every_subset_of_rotations_leaves_the_function_in_f64() {
    let tokens: Vec<u32> = (0..9).map(|index| 37 + 411 * index % 3000).collect();
    for model in models() {
        let checkpoint = open(&model);
        let logits = |text: &str| {
            let prepared = Texts::spec("rotated.lathe", text).prepared(&checkpoint);
            exact::logits(&prepared.lowered, &checkpoint, &prepared.reader, &tokens)
        };
        let expected = logits(&spec_of(0, ""));
        for subset in 1..16 {
            let distance = exact::distance(&logits(&spec_of(subset, "")), &expected);
            support::measured(&format!("{} {}: {distance:.1e}", name(&model), names(subset)));
            assert!(distance <= 1e-9, "{} {}: {distance:.1e} of the range", model.display(), names(subset));
        }
    }
}

#[test]
fn tables_are_stored_in_either_basis_and_split() {
    let tokens = [5, 900, 77, 12, 2048];
    for model in models() {
        let checkpoint = open(&model);
        let logits = |text: &str| {
            let prepared = Texts::spec("rotated.lathe", text).prepared(&checkpoint);
            exact::logits(&prepared.lowered, &checkpoint, &prepared.reader, &tokens)
        };
        let expected = logits(&spec_of(0, ""));
        for settings in ["table_basis => original", "table_basis => rotated", "tied => split"] {
            let distance = exact::distance(&logits(&spec_of(1, settings)), &expected);
            assert!(distance <= 1e-9, "{} {settings}: {distance:.1e} of the range", model.display());
        }
    }
}

/// What is left for run time: nothing for R1 and R2 but at shared heads and behind norms that additions follow.
#[test]
fn only_what_nothing_absorbs_runs_online() {
    for model in models() {
        let count = |subset: usize, settings: &str| {
            let prepared = prepared(&spec_of(subset, settings), &model);
            rotations(&prepared.lowered.program)
        };
        let checkpoint = open(&model);
        let layers = checkpoint.config.get(&["num_hidden_layers".to_owned()]).and_then(serde_json::Value::as_u64);
        let layers = layers.expect("configs of the tests say how many") as usize;
        let plain = prepared(&spec_of(0, ""), &model);
        let shares = plain.plan.ties.iter().any(|tie| tie.shared);
        // Norms between a linear and the stream.
        let behind_norms = |counts: &BTreeMap<String, usize>| -> usize {
            counts.iter().filter(|(label, _)| label.contains(".#.") && label.contains("norm")).map(|(_, n)| n).sum()
        };
        let residual = count(1, "");
        let posts = plain.model.graph.nodes().filter(|(id, node)| {
            let users = plain.model.graph.users(*id);
            let adds = |op: &lathe_compiler::ir::Op| op.name() == "add";
            node.op.name() == "gain" && users.iter().any(|(user, _)| adds(&plain.model.graph.node(*user).op))
        });
        let posts = posts.count();
        assert_eq!(behind_norms(&residual), posts, "{}: {residual:?}", model.display());
        let at_head = residual.values().sum::<usize>() - posts;
        assert_eq!(at_head, if shares { 2 } else { 0 }, "{}: {residual:?}", model.display());
        let split = count(1, "tied => split").values().sum::<usize>();
        assert_eq!(split, posts, "{}: {residual:?}", model.display());
        assert_eq!(count(2, "").values().sum::<usize>(), 0, "{}", model.display());
        // Without a rotary embedding nothing stands between the projections and attention.
        let rotary = plain.model.graph.nodes().filter(|(_, node)| node.op.name() == "rope").count();
        assert_eq!(count(4, "").values().sum::<usize>(), rotary, "{}", model.display());
        assert_eq!(count(8, "").values().sum::<usize>(), layers, "{}", model.display());
    }
}

/// One operation serves all that read its result.
#[test]
fn readers_of_one_edge_share_one_operation() {
    let spec = "lathe 1\n\nspec shared {\n    rotate {\n        input of {q_proj,k_proj,v_proj} by hadamard\n        \
        input of {gate_proj,up_proj} by hadamard(block: 16)\n    }\n}\n";
    let prepared = prepared(spec, &model("micro-llama"));
    let program = &prepared.lowered.program;
    let counts = rotations(program);
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [2, 2], "{counts:?}");
    let readers = |step: &lathe_runtime::program::Step| {
        let out = step.op.out();
        let readers = program.steps.iter().filter(|reader| reader.op.inputs().any(|input| input == out));
        readers.map(|reader| reader.label.rsplit('.').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    let of_rotations = program.steps.iter().filter(|step| matches!(step.op, Op::Rotate { .. })).map(readers);
    let expected = [vec!["q_proj", "k_proj", "v_proj"], vec!["gate_proj", "up_proj"]];
    for (index, found) in of_rotations.enumerate() {
        assert_eq!(found, expected[index % 2]);
    }
}
