//! Rotary frequencies of every scaling, against what transformers computes: `rope/record.py` has recorded it.

use lathe_compiler::compile::define;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::span::Sources;
use lathe_runtime::program::{RopeGrowth, RopeTable};
use serde_json::Value;

use crate::support::compiler::open;
use crate::support::forge::Forge;
use crate::support::{self, files, llama};

/// Largest relative difference of a frequency: what was recorded is computed in f32.
const TOLERANCE: f64 = 1e-6;

const DEFINITION: &str = "\
lathe 1
model turned {
    context config.max_position_embeddings
    module table = embedding(4, config.width)
    module out   = head(config.width, 4, tied_to: table)
    graph(tokens, positions) {
        q = split_heads(table(tokens), config.width)
        q = rope(q, positions, rope_settings(config, width: config.width))
        return out(merge_heads(q))
    }
}
";

/// The table of frequencies for these keys of config.json.
fn table(config: &Value, width: u64) -> RopeTable {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config.clone();
    config["width"] = width.into();
    let mut tensors = Forge::default();
    tensors.push("table.weight", "BF16", &[4, width], &vec![0; 8 * width as usize]);
    llama::write(folder.path(), &config, &tensors);
    let mut sources = Sources::new();
    let source = sources.add("turned.lathe", DEFINITION);
    let entry = Entry { source, place: Place::File("turned.lathe".into()), name: None };
    let mut diagnostics = Vec::new();
    let model = define(Some((&entry, &NoFiles)), &open(folder.path()), true, &mut sources, &mut diagnostics);
    let model = model.unwrap_or_else(|| panic!("{config}: {diagnostics:#?}"));
    assert!(diagnostics.is_empty(), "{config}: {diagnostics:#?}");
    let [table] = model.graph.rope_tables() else { panic!("{config}: expected one table") };
    table.clone()
}

/// The frequencies of a text of this length, as [`RopeGrowth`] says.
fn frequencies(table: &RopeTable, length: u64) -> Vec<f64> {
    let reals = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
    match &table.growth {
        Some(RopeGrowth::Switch { positions, inverse_frequencies }) if length > u64::from(*positions) => {
            reals(inverse_frequencies)
        }
        Some(RopeGrowth::Dynamic { positions, factor, theta }) if length > u64::from(*positions) => {
            let pairs = table.inverse_frequencies.len();
            let width = 2.0 * pairs as f64;
            let stretch = factor * length as f64 / f64::from(*positions) - (factor - 1.0);
            let theta = theta * stretch.powf(width / (width - 2.0));
            (0..pairs).map(|pair| theta.powf(-2.0 * pair as f64 / width)).collect()
        }
        _ => reals(&table.inverse_frequencies),
    }
}

#[test]
fn every_scaling_gives_the_recorded_frequencies() {
    let recorded = files::read_json(&support::root().join("rope/recorded.json"));
    let cases = recorded["cases"].as_array().expect("there are cases");
    for case in cases {
        let name = &case["name"];
        let table = table(&case["config"], case["width"].as_u64().expect("a width"));
        let near = |found: f64, expected: f64| (found - expected).abs() <= TOLERANCE * expected.abs();
        let amplitude = case["amplitude"].as_f64().expect("an amplitude");
        assert!(near(table.amplitude.into(), amplitude), "{name}: expected {amplitude}, found {}", table.amplitude);
        for text in case["texts"].as_array().expect("there are texts") {
            let length = text["length"].as_u64().expect("a length");
            let expected: Vec<f64> =
                text["inverse_frequencies"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            let found = frequencies(&table, length);
            assert_eq!(found.len(), expected.len(), "{name}");
            for (pair, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
                assert!(near(found, expected), "{name}, length {length}, pair {pair}: {expected}, found {found}");
            }
        }
    }
    let kinds: Vec<&str> =
        cases.iter().filter_map(|case| case["config"]["rope_parameters"]["rope_type"].as_str()).collect();
    for kind in ["default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}
