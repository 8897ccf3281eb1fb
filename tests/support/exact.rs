//! What a prepared model computes in f64, from weights that nothing has rounded.

use lathe_compiler::lower::Lowered;
use lathe_compiler::model::Checkpoint;
use lathe_compiler::pack::evaluate::Evaluator;
use lathe_compiler::source::TensorReader;

/// Every weight as its recipe states it, in the order of the program.
#[track_caller]
pub(crate) fn weights(lowered: &Lowered, checkpoint: &Checkpoint, reader: &TensorReader) -> Vec<Vec<f64>> {
    let evaluator = Evaluator { checkpoint, reader, rotations: &lowered.rotations, flip: None, interrupted: None };
    let weight = |recipe| {
        let mut evaluation = evaluator.open(recipe).unwrap_or_else(|error| panic!("{error}"));
        let mut values = Vec::new();
        let rows = evaluation.rows();
        evaluation.evaluate(0..rows, &mut values).unwrap_or_else(|error| panic!("{error}"));
        values
    };
    lowered.recipes.iter().map(weight).collect()
}

/// The logits of every token, one row after the other.
#[track_caller]
pub(crate) fn logits(lowered: &Lowered, checkpoint: &Checkpoint, reader: &TensorReader, tokens: &[u32]) -> Vec<f64> {
    let weights = weights(lowered, checkpoint, reader);
    let logits = lathe_runtime::reference::logits(&lowered.program, &weights, tokens);
    logits.unwrap_or_else(|error| panic!("{error}")).concat()
}

/// The largest difference, relative to the range of what is expected.
pub(crate) fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let fold = |pick: fn(f64, f64) -> f64| expected.iter().copied().reduce(pick).unwrap_or(0.0);
    let range = (fold(f64::max) - fold(f64::min)).max(f64::MIN_POSITIVE);
    let difference = |(a, b): (&f64, &f64)| if a.is_finite() && b.is_finite() { (a - b).abs() } else { f64::INFINITY };
    found.iter().zip(expected).map(difference).fold(0.0, f64::max) / range
}
