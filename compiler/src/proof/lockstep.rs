//! Two programs step by step over the same tokens: what is compared, and how choices of experts are made the same.

use std::collections::BTreeSet;

use lathe_runtime::backend::{StepOutput, StepValues};
use lathe_runtime::program::{Elements, Op, Program};

use super::ProofError;
use super::distance::Distance;
use crate::lower::Lowered;
use crate::pack::evaluate::Evaluator;
use crate::verify::pairs::Pair;

/// What is run, each with what makes its weights.
#[derive(Clone, Copy)]
pub(super) struct Subjects<'a> {
    pub(super) original: (&'a Lowered, Evaluator<'a>),
    pub(super) compiled: (&'a Lowered, Evaluator<'a>),
    /// Steps that compute the same thing.
    pub(super) pairs: &'a [Pair],
}

/// What the result of a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The logits.
    Logits,
    /// What another step makes that has weights, in either program.
    Weights,
    /// Anything else.
    Other,
}

/// A step that both programs have run.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    /// In the original program.
    pub(super) step: usize,
    pub(super) role: Role,
    pub(super) distance: Distance,
}

/// Runs both and compares the results of steps that compute the same thing, in the basis of the model. The rows of the first
/// `text` tokens go to the experts that the original chooses, all others to every expert in turn. Gives the number of experts
/// as well that no row went to.
pub(super) fn run(
    subjects: Subjects<'_>,
    text: usize,
    original: &mut dyn Run,
    compiled: &mut dyn Run,
) -> Result<(Vec<Compared>, usize), ProofError> {
    let Subjects { original: (Lowered { program, .. }, _), compiled: (lowered, evaluator), pairs } = subjects;
    let mut results = Vec::with_capacity(pairs.len());
    let mut experts_left_out = 0;
    let (mut next, mut row) = (Pair { original: 0, compiled: 0 }, Vec::new());
    for pair in pairs {
        let expected = skip(original, pair.original - next.original)?;
        let found = skip(compiled, pair.compiled - next.compiled)?;
        next = Pair { original: pair.original + 1, compiled: pair.compiled + 1 };
        let op = &program.steps[pair.original].op;
        match (expected.values, found.values) {
            (StepValues::Real(expected), StepValues::Real(found)) => {
                let step = &lowered.program.steps[pair.compiled];
                let width = program.buffers[op.out().index()].width as usize;
                let basis = evaluator.maps(&step.label, &lowered.frames[step.op.out().index()], width as u64)?;
                let mut distance = Distance::from(expected, width);
                for (expected, found) in expected.chunks_exact(width).zip(found.chunks_exact(width)) {
                    row.clear();
                    row.extend(found.iter().map(|&value| f64::from(value)));
                    basis.apply(&mut row);
                    distance.add(expected, &row);
                }
                let has_weights = op.weights().chain(step.op.weights()).next().is_some();
                let role = match has_weights {
                    _ if op.out() == program.output => Role::Logits,
                    true => Role::Weights,
                    false => Role::Other,
                };
                results.push(Compared { step: pair.original, role, distance });
            }
            (StepValues::Index(expected), StepValues::Index(found)) => {
                let Elements::Index { below } = program.buffers[op.out().index()].elements else {
                    unreachable!("a step gives what the program says of its buffer")
                };
                let choices = program.buffers[op.out().index()].width as usize;
                send_everywhere(&mut expected[text * choices..], choices, below);
                experts_left_out += left_out(expected, below);
                found.copy_from_slice(expected);
            }
            _ => unreachable!("paired steps write buffers of the same elements"),
        }
    }
    Ok((results, experts_left_out))
}

/// A program that runs step by step.
pub(super) trait Run {
    /// Runs the next step.
    fn next(&mut self) -> Result<StepOutput<'_>, ProofError>;
}

/// Runs `skipped` steps, then one more, and gives the values of that.
fn skip(run: &mut dyn Run, skipped: usize) -> Result<StepOutput<'_>, ProofError> {
    for _ in 0..skipped {
        run.next()?;
    }
    run.next()
}

/// How many rows it takes to send one to each expert, see [`send_everywhere`].
pub(super) fn rows_for_every_expert(program: &Program) -> usize {
    let rows = |op: &Op| match *op {
        Op::TopK { x, k, .. } => program.buffers[x.index()].width.div_ceil((k.max(2)) - 1) as usize,
        _ => 0,
    };
    program.steps.iter().map(|step| rows(&step.op)).max().unwrap_or(0)
}

/// Sends rows of `choices` to the experts below a number, one after the other. The first choice of a row stays, as others
/// may have no weight at all in what is made of them; unless it is the only one.
fn send_everywhere(rows: &mut [u32], choices: usize, below: u32) {
    let mut turn = (0..below).cycle();
    for row in rows.chunks_exact_mut(choices) {
        for at in usize::from(choices > 1)..choices {
            let free = turn.by_ref().take(choices).find(|expert| !row[..at].contains(expert));
            row[at] = free.unwrap_or_else(|| unreachable!("a row has no more choices than there are experts"));
        }
    }
}

/// How many of the experts below a number are not chosen.
fn left_out(choices: &[u32], below: u32) -> usize {
    let chosen: BTreeSet<u32> = choices.iter().copied().collect();
    (below as usize).saturating_sub(chosen.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expert_gets_a_row() {
        for (choices, below) in [(1, 4), (2, 4), (4, 4), (2, 7), (8, 128), (1, 1)] {
            let count = (below as usize).div_ceil(choices.max(2) - 1);
            let mut rows: Vec<u32> = (0..count * choices).map(|at| (at % choices) as u32).collect();
            send_everywhere(&mut rows, choices, below);
            for row in rows.chunks_exact(choices) {
                assert!(choices == 1 || row[0] == 0, "the first choice stays");
                assert!(row.iter().all(|expert| *expert < below));
                assert!((1..choices).all(|at| !row[..at].contains(&row[at])), "{row:?}");
            }
            assert!((0..below).all(|expert| rows.contains(&expert)), "{choices} of {below}: {rows:?}");
            assert_eq!(left_out(&rows, below), 0);
        }
    }

    #[test]
    fn experts_without_a_row_are_counted() {
        assert_eq!(left_out(&[0, 3, 3, 0], 5), 3);
    }
}
