//! A program whose weights come from a source computes what a session computes, and asks for no more than it needs.

use std::collections::BTreeSet;

use lathe_runtime::backend::{
    CpuBackend, StepOutput, StepValues, StreamError, StreamOptions, Streamed, WantedRows, WeightSource,
};
use lathe_runtime::exec::{ExecError, Logits};
use lathe_runtime::program::{Op, Program, WeightId};

use crate::common::testing::{SMALL, expert_program, rotated_program};
use crate::common::{SmallModel, model, small_program, tokens};
use crate::executor::{options, with_session};

/// Gives the values of a model and remembers what it was asked for.
struct Source<'m> {
    model: &'m SmallModel,
    asked: Vec<(WeightId, Vec<usize>)>,
    /// The request, counted from 0, that fails the first time.
    lost: Option<usize>,
}

impl Source<'_> {
    fn columns(&self, weight: WeightId) -> usize {
        *self.model.program.weights[weight.index()].shape.last().unwrap() as usize
    }
}

impl WeightSource for Source<'_> {
    type Error = &'static str;

    fn read(&mut self, weight: WeightId, rows: &WantedRows<'_>, out: &mut [f32]) -> Result<(), &'static str> {
        if self.lost == Some(self.asked.len()) {
            self.lost = None;
            return Err("lost");
        }
        let rows = match rows {
            WantedRows::Range(rows) => rows.clone().collect(),
            WantedRows::List(rows) => rows.to_vec(),
        };
        let columns = self.columns(weight);
        let values: Vec<&[f32]> = self.model.values[weight.index()].chunks_exact(columns).collect();
        assert_eq!(out.len(), rows.len() * columns);
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(columns)) {
            out.copy_from_slice(values[row]);
        }
        self.asked.push((weight, rows));
        Ok(())
    }
}

fn source(model: &SmallModel) -> Source<'_> {
    Source { model, asked: Vec::new(), lost: None }
}

fn models() -> [SmallModel; 3] {
    [small_program(), expert_program(SMALL), rotated_program(SMALL)].map(model)
}

/// The bits of what a step has given.
fn bits(output: &StepOutput<'_>) -> (usize, Vec<u32>) {
    let values = match &output.values {
        StepValues::Real(values) => values.iter().map(|value| value.to_bits()).collect(),
        StepValues::Index(values) => values.to_vec(),
    };
    (output.step, values)
}

/// What all steps give, of which one is changed.
fn stream(
    model: &SmallModel,
    tokens: &[u32],
    options: &StreamOptions,
    test: impl FnOnce(&Source<'_>, Vec<(usize, Vec<u32>)>),
) {
    let backend = CpuBackend::new(2).unwrap();
    let mut streamed = backend.stream(&model.program, source(model), tokens, options).unwrap();
    let results = results(&mut streamed);
    test(streamed.source(), results);
}

fn results(streamed: &mut Streamed<'_, Source<'_>>) -> Vec<(usize, Vec<u32>)> {
    let mut results = Vec::new();
    while let Some(mut output) = streamed.next_step().unwrap() {
        results.push(bits(&output));
        change(&mut output);
    }
    results
}

/// Changes what the second step has given.
fn change(output: &mut StepOutput<'_>) {
    if let (1, StepValues::Real(values)) = (output.step, &mut output.values) {
        for value in &mut **values {
            *value = 0.5 - *value;
        }
    }
}

/// As [`stream`], by a session.
fn session_results(model: &SmallModel, tokens: &[u32], logits: Logits) -> Vec<(usize, Vec<u32>)> {
    let mut results = Vec::new();
    with_session(model, &options(tokens.len()), |session| {
        let mut steps = session.steps(tokens, logits).unwrap();
        while let Some(mut output) = steps.next().unwrap() {
            results.push(bits(&output));
            change(&mut output);
        }
    });
    results
}

#[test]
fn every_step_is_that_of_a_session() {
    for model in models() {
        for (count, logits) in [(23, Logits::All), (9, Logits::Last(3)), (1, Logits::Last(1)), (4, Logits::Last(0))] {
            let tokens = tokens(count);
            let expected = session_results(&model, &tokens, logits);
            for tile_bytes in [0, 500, StreamOptions::DEFAULT_TILE_BYTES] {
                stream(&model, &tokens, &StreamOptions { logits, tile_bytes }, |_, found| {
                    assert!(found == expected, "{count} tokens of {}, tiles of {tile_bytes}", model.program.model);
                });
            }
        }
    }
}

/// Weights of the steps of a program, for each of them the rows that are needed.
fn needed(program: &Program, tokens: &[u32], choices: &[Vec<u32>]) -> Vec<(WeightId, BTreeSet<usize>)> {
    let mut choices = choices.iter();
    let mut chosen: Vec<u32> = Vec::new();
    let mut needed: Vec<(WeightId, BTreeSet<usize>)> = Vec::new();
    let whole = |weight: WeightId| {
        let shape = &program.weights[weight.index()].shape;
        (weight, (0..if shape.len() == 1 { 1 } else { shape[0] as usize }).collect())
    };
    needed.extend(program.rotations.iter().filter_map(|rotation| Some(whole(rotation.weight()?))));
    for step in &program.steps {
        match &step.op {
            Op::Embed { table, index, first, .. } => {
                let rows = tokens.iter().enumerate().map(|(position, &token)| match index {
                    lathe_runtime::program::Index::Tokens => *first as usize + token as usize,
                    lathe_runtime::program::Index::Positions => *first as usize + position,
                });
                needed.push((*table, rows.collect()));
            }
            Op::TopK { .. } => chosen.clone_from(choices.next().unwrap()),
            Op::ExpertMatMul { weights, biases, .. } => {
                for expert in chosen.iter().copied().collect::<BTreeSet<u32>>() {
                    let ids = [Some(&weights[expert as usize]), biases.get(expert as usize)];
                    needed.extend(ids.into_iter().flatten().map(|&weight| whole(weight)));
                }
            }
            op => needed.extend(op.weights().map(whole)),
        }
    }
    needed.sort();
    needed
}

#[test]
fn only_what_is_needed_is_asked_for_and_that_once_for_each_step() {
    for model in models() {
        let tokens = [7, 3, 3, 0, 36, 7];
        for tile_bytes in [0, 500, StreamOptions::DEFAULT_TILE_BYTES] {
            let options = StreamOptions { logits: Logits::All, tile_bytes };
            stream(&model, &tokens, &options, |source, results| {
                let is_choice = |step: &usize| matches!(model.program.steps[*step].op, Op::TopK { .. });
                let choices: Vec<Vec<u32>> =
                    results.iter().filter(|(step, _)| is_choice(step)).map(|(_, choice)| choice.clone()).collect();
                let mut asked: Vec<(WeightId, BTreeSet<usize>)> = Vec::new();
                for (weight, rows) in &source.asked {
                    assert!(rows.is_sorted_by(|a, b| a < b), "{rows:?}");
                    let bytes = 4 * rows.len() * source.columns(*weight);
                    assert!(rows.len() == 1 || bytes <= tile_bytes || is_matrix(&model, *weight), "{bytes} bytes");
                    match asked.last_mut() {
                        // The next tile of the same matrix.
                        Some((last, known)) if last == weight && known.last() < rows.first() => known.extend(rows),
                        _ => asked.push((*weight, rows.iter().copied().collect())),
                    }
                }
                asked.sort();
                assert_eq!(asked, needed(&model.program, &tokens, &choices), "tiles of {tile_bytes}");
            });
        }
    }
}

/// Whether a weight is the matrix of a rotation, which is held as a whole.
fn is_matrix(model: &SmallModel, weight: WeightId) -> bool {
    model.program.rotations.iter().any(|rotation| rotation.weight() == Some(weight))
}

#[test]
fn a_step_without_its_weights_can_be_tried_again() {
    let options = StreamOptions { logits: Logits::All, tile_bytes: 0 };
    let (backend, tokens) = (CpuBackend::new(1).unwrap(), tokens(5));
    for model in models() {
        let expected = session_results(&model, &tokens, Logits::All);
        // Reading the matrix of a rotation comes first, and is not a step.
        let matrices = model.program.rotations.iter().filter(|rotation| rotation.weight().is_some()).count();
        for lost in [matrices, matrices + 1, matrices + 20] {
            let source = Source { lost: Some(lost), ..source(&model) };
            let mut streamed = backend.stream(&model.program, source, &tokens, &options).unwrap();
            let (mut found, mut failures) = (Vec::new(), 0);
            loop {
                match streamed.next_step() {
                    Ok(Some(mut output)) => {
                        found.push(bits(&output));
                        change(&mut output);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(error, "lost");
                        failures += 1;
                    }
                }
            }
            assert!(found == expected && failures == 1, "request {lost}: {failures} failures");
        }
    }
}

#[test]
fn streams_that_cannot_begin_are_errors() {
    let model = model(rotated_program(SMALL));
    let options = StreamOptions { logits: Logits::All, tile_bytes: 0 };
    let backend = CpuBackend::new(1).unwrap();
    let error = |source, tokens: &[u32]| backend.stream(&model.program, source, tokens, &options).err().unwrap();
    assert!(matches!(error(source(&model), &[]), StreamError::Exec(ExecError::NoTokens)));
    assert!(matches!(error(source(&model), &[1, 37]), StreamError::Exec(ExecError::Token { index: 1, .. })));
    assert!(matches!(error(source(&model), &[1; 65]), StreamError::Exec(ExecError::MaxPositions { .. })));
    let lost = Source { lost: Some(0), ..source(&model) };
    assert!(matches!(error(lost, &[1]), StreamError::Source("lost")));
}

#[test]
fn smaller_tiles_take_less_memory() {
    let (model, backend) = (model(small_program()), CpuBackend::new(1).unwrap());
    let bytes = |tile_bytes| {
        let options = StreamOptions { logits: Logits::Last(1), tile_bytes };
        backend.stream(&model.program, source(&model), &[1, 2], &options).unwrap().memory_bytes()
    };
    // Of the largest matrix, 40 × 24 (but for the transposed one), a row and its products instead of all.
    assert!(bytes(0) + 4 * 900 < bytes(StreamOptions::DEFAULT_TILE_BYTES));
}
