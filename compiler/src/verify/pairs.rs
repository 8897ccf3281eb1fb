//! Which steps of two programs compute the same thing. Formats change weights and no labels, so steps go together by
//! their label, their kernel, and how many of both came before. A norm whose gain or shift went into what reads it computes
//! something else than one that has it.

use std::collections::BTreeMap;

use lathe_runtime::program::{Op, Program, Step};

use super::{NotComparable, Side};

/// A step of both programs, by its index in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) original: usize,
    pub(crate) compiled: usize,
}

/// The steps that both have, in an order that is that of both, and those that only one has.
pub(crate) fn pair(original: &Program, compiled: &Program) -> (Vec<Pair>, Vec<NotComparable>) {
    let places: BTreeMap<_, usize> = keys(original).enumerate().map(|(index, key)| (key, index)).collect();
    let (mut pairs, mut alone) = (Vec::new(), Vec::new());
    let mut unpaired = vec![true; original.steps.len()];
    let mut next = 0;
    for (at, key) in keys(compiled).enumerate() {
        let place = places.get(&key).copied();
        let place = place.filter(|&place| place >= next && have_equal_results((original, place), (compiled, at)));
        match place {
            Some(place) => {
                pairs.push(Pair { original: place, compiled: at });
                unpaired[place] = false;
                next = place + 1;
            }
            None => alone.push(not_comparable(&compiled.steps[at], Side::Compiled)),
        }
    }
    let of_original = original.steps.iter().zip(unpaired).filter(|(_, unpaired)| *unpaired);
    alone.splice(0..0, of_original.map(|(step, _)| not_comparable(step, Side::Original)));
    (pairs, alone)
}

/// What a step computes: label, kernel, and whether it has a gain and a shift of its own.
pub(crate) type What<'a> = (&'a str, &'static str, [bool; 2]);

/// What steps compute, and how many that compute the same come before. Logits go together whatever computes them.
pub(crate) fn keys(program: &Program) -> impl Iterator<Item = (What<'_>, usize)> {
    let mut counts: BTreeMap<What<'_>, usize> = BTreeMap::new();
    program.steps.iter().map(move |step| {
        let vectors = match step.op {
            Op::Norm { gain, shift, .. } => [gain.is_some(), shift.is_some()],
            _ => [false; 2],
        };
        let is_output = step.op.out() == program.output;
        let what = if is_output { ("", "output", [false; 2]) } else { (&*step.label, step.op.kernel(), vectors) };
        let count = counts.entry(what).or_default();
        *count += 1;
        (what, *count - 1)
    })
}

/// Whether the results have the same rows of the same elements.
fn have_equal_results((a, step_a): (&Program, usize), (b, step_b): (&Program, usize)) -> bool {
    let buffer = |program: &Program, step: usize| program.buffers[program.steps[step].op.out().index()].clone();
    buffer(a, step_a) == buffer(b, step_b)
}

fn not_comparable(step: &Step, only_in: Side) -> NotComparable {
    NotComparable { label: step.label.clone(), kernel: step.op.kernel().to_owned(), only_in }
}

#[cfg(test)]
mod tests {
    use lathe_runtime::program::{Buffer, BufferId, Compute, Elements, PROGRAM_VERSION, Rows, Unary};

    use super::*;

    /// A program of functions with these labels, each a buffer of a width.
    fn program(steps: &[(&str, Unary, u32)]) -> Program {
        let x = BufferId(0);
        let step = |(index, &(label, function, _)): (usize, &(&str, Unary, u32))| {
            let op = Op::Unary { function, x, out: BufferId(index as u32) };
            Step { label: label.to_owned(), op }
        };
        let buffer =
            |&(_, _, width): &(&str, Unary, u32)| Buffer { rows: Rows::Tokens, width, elements: Elements::Real };
        Program {
            version: PROGRAM_VERSION,
            model: "test".to_owned(),
            compute: Compute::F32,
            max_positions: None,
            weights: Vec::new(),
            buffers: steps.iter().map(buffer).collect(),
            caches: Vec::new(),
            rope_tables: Vec::new(),
            rotations: Vec::new(),
            steps: steps.iter().enumerate().map(step).collect(),
            output: BufferId(steps.len() as u32 - 1),
        }
    }

    /// Indices of the steps that go together, and the labels of the others.
    type Paired = (Vec<(usize, usize)>, Vec<(String, Side)>);

    fn paired(original: &[&str], compiled: &[&str]) -> Paired {
        let program =
            |labels: &[&str]| program(&labels.iter().map(|label| (*label, Unary::Relu, 8)).collect::<Vec<_>>());
        let (pairs, alone) = pair(&program(original), &program(compiled));
        let pairs = pairs.iter().map(|pair| (pair.original, pair.compiled)).collect();
        (pairs, alone.into_iter().map(|step| (step.label, step.only_in)).collect())
    }

    #[test]
    fn steps_go_together_by_label_and_number() {
        let (pairs, alone) = paired(&["a", "b", "a", "head"], &["a", "b", "a", "other head"]);
        assert_eq!(pairs, [(0, 0), (1, 1), (2, 2), (3, 3)]);
        assert!(alone.is_empty());
        let (pairs, alone) = paired(&["a", "b", "a", "head"], &["x", "a", "a", "c", "head"]);
        assert_eq!(pairs, [(0, 1), (2, 2), (3, 4)]);
        let side = |label: &str, side| (label.to_owned(), side);
        assert_eq!(alone, [side("b", Side::Original), side("x", Side::Compiled), side("c", Side::Compiled)]);
    }

    #[test]
    fn what_comes_in_another_order_is_not_compared() {
        let (pairs, alone) = paired(&["a", "b", "c"], &["b", "a", "c"]);
        assert_eq!(pairs, [(1, 0), (2, 2)]);
        assert_eq!(alone, [("a".to_owned(), Side::Original), ("a".to_owned(), Side::Compiled)]);
    }

    #[test]
    fn results_have_equal_shapes() {
        let [narrow, wide] = [8, 9].map(|width| program(&[("a", Unary::Relu, width)]));
        assert_eq!(pair(&narrow, &wide).0, []);
        assert_eq!(pair(&narrow, &wide).1.len(), 2);
        assert_eq!(pair(&narrow, &narrow).0, [Pair { original: 0, compiled: 0 }]);
    }
}
