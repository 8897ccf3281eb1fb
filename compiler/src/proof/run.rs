//! Runs two programs in lockstep on values that recipes make as steps ask for them.

use std::ops::Range;

use lathe_runtime::backend::{CpuBackend, StepOutput, StreamError, StreamOptions, Streamed, WantedRows, WeightSource};
use lathe_runtime::exec::Logits;
use lathe_runtime::program::WeightId;

use super::ProofError;
use super::lockstep::{self, Compared, Run, Subjects};
use crate::lower::{Lowered, Recipe};
use crate::pack::evaluate::{EvaluateError, Evaluation, Evaluator};
use crate::pack::{Demand, least_memory};

/// Tile of a weight, in bytes: above it nothing gets faster.
const TILE: u64 = 4 << 20;
/// The same where memory is bounded.
const BOUNDED_TILE: u64 = 256 << 10;
/// What the program of the original and the recipes of its weights take, in bytes for each byte of header: less than half of
/// what all stages of a compilation take.
const HEADER_FACTOR: u64 = 24;

/// Runs them over `tokens`, of which the first `text` are text. As [`lockstep::run`].
pub(super) fn run(
    subjects: Subjects<'_>,
    backend: &CpuBackend,
    (tokens, text): (&[u32], usize),
    is_bounded: bool,
) -> Result<(Vec<Compared>, usize), ProofError> {
    let tile = if is_bounded { BOUNDED_TILE } else { TILE };
    let [mut original, mut compiled] = streams(subjects, backend, tokens, tile)?;
    lockstep::run(subjects, text, &mut original, &mut compiled)
}

/// What a bound on memory leaves for something else, in bytes, beside a proof over some number of tokens.
pub(super) fn memory_left(
    subjects: Subjects<'_>,
    backend: &CpuBackend,
    tokens: usize,
    asked: u64,
) -> Result<u64, ProofError> {
    let (Lowered { recipes, .. }, Evaluator { checkpoint, rotations, .. }) = subjects.compiled;
    let demand = Demand::of_recipes(recipes, rotations, checkpoint);
    let tokens = vec![0; tokens];
    let runs = streams(subjects, backend, &tokens, BOUNDED_TILE)?;
    // Beside its tile, each has the one that its source has evaluated.
    let held = runs.iter().map(|run| run.memory_bytes() + BOUNDED_TILE).sum::<u64>();
    let minimum = least_memory(demand).saturating_add(checkpoint.header_bytes * HEADER_FACTOR + held);
    asked.checked_sub(minimum).ok_or(ProofError::TooLittleMemory { asked, minimum })
}

fn streams<'a>(
    Subjects { original, compiled, .. }: Subjects<'a>,
    backend: &'a CpuBackend,
    tokens: &'a [u32],
    tile: u64,
) -> Result<[Streamed<'a, Recipes<'a>>; 2], ProofError> {
    let options = StreamOptions { logits: Logits::All, tile_bytes: tile as usize };
    Ok([
        backend.stream(&original.0.program, Recipes::new(original), tokens, &options)?,
        backend.stream(&compiled.0.program, Recipes::new(compiled), tokens, &options)?,
    ])
}

impl From<StreamError<EvaluateError>> for ProofError {
    fn from(error: StreamError<EvaluateError>) -> Self {
        match error {
            StreamError::Exec(error) => ProofError::Exec(error),
            StreamError::Source(error) => ProofError::Evaluate(error),
        }
    }
}

impl Run for Streamed<'_, Recipes<'_>> {
    fn next(&mut self) -> Result<StepOutput<'_>, ProofError> {
        let output = self.next_step()?;
        Ok(output.expect("invariant: all rows are selected, so that every step runs"))
    }
}

/// Values of weights as their recipes make them. Of the weight that was asked for last it holds the rows that were
/// evaluated together: a few, or all of them where a rotation mixes all.
struct Recipes<'a> {
    all: &'a [Recipe],
    evaluator: Evaluator<'a>,
    last: Option<Held<'a>>,
}

struct Held<'a> {
    weight: WeightId,
    evaluation: Evaluation<'a>,
    rows: Range<u64>,
    values: Vec<f32>,
}

impl<'a> Recipes<'a> {
    fn new((lowered, evaluator): (&'a Lowered, Evaluator<'a>)) -> Self {
        Recipes { all: &lowered.recipes, evaluator, last: None }
    }

    fn held(&mut self, weight: WeightId) -> Result<&mut Held<'a>, EvaluateError> {
        let held = match self.last.take().filter(|held| held.weight == weight) {
            Some(held) => held,
            None => {
                let evaluation = self.evaluator.open(&self.all[weight.index()])?;
                Held { weight, evaluation, rows: 0..0, values: Vec::new() }
            }
        };
        Ok(self.last.insert(held))
    }
}

impl WeightSource for Recipes<'_> {
    type Error = EvaluateError;

    fn read(&mut self, weight: WeightId, rows: &WantedRows<'_>, out: &mut [f32]) -> Result<(), EvaluateError> {
        let held = self.held(weight)?;
        match rows {
            WantedRows::Range(rows) => held.read(rows.start as u64..rows.end as u64, out),
            WantedRows::List(rows) => {
                let width = out.len() / rows.len();
                let mut each = rows.iter().zip(out.chunks_exact_mut(width));
                each.try_for_each(|(&row, out)| held.read(row as u64..row as u64 + 1, out))
            }
        }
    }
}

impl Held<'_> {
    fn read(&mut self, rows: Range<u64>, out: &mut [f32]) -> Result<(), EvaluateError> {
        if rows.start < self.rows.start || rows.end > self.rows.end {
            let step = self.evaluation.step();
            let whole = rows.start / step * step..rows.end.next_multiple_of(step);
            self.rows = 0..0;
            self.evaluation.evaluate(whole.clone(), &mut self.values)?;
            self.rows = whole;
        }
        let first = ((rows.start - self.rows.start) * self.evaluation.columns()) as usize;
        out.copy_from_slice(&self.values[first..first + out.len()]);
        Ok(())
    }
}
