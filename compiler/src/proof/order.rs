//! The steps of one program in the order of another, as far as both are the same: steps that do not depend on each other may
//! stand in either order, and lockstep needs one.

use std::collections::BTreeMap;

use lathe_runtime::program::{BufferId, Program};

use crate::verify::pairs::keys;

/// Orders the steps of a valid program as those of another with the same keys, each behind what it reads.
pub(super) fn order_like(program: &mut Program, other: &Program) {
    let places: BTreeMap<_, usize> = keys(program).enumerate().map(|(index, key)| (key, index)).collect();
    let writers: BTreeMap<BufferId, usize> =
        program.steps.iter().enumerate().map(|(index, step)| (step.op.out(), index)).collect();
    let like_other = keys(other).filter_map(|key| places.get(&key).copied());
    let mut order = Vec::with_capacity(program.steps.len());
    let mut is_ordered = vec![false; program.steps.len()];
    for step in like_other.chain(0..program.steps.len()) {
        let mut wanted = vec![step];
        while let Some(&step) = wanted.last() {
            let read = program.steps[step].op.inputs().filter_map(|buffer| writers.get(&buffer).copied());
            let missing: Vec<usize> = read.filter(|&writer| !is_ordered[writer]).collect();
            if missing.is_empty() || is_ordered[step] {
                wanted.pop();
                if !is_ordered[step] {
                    is_ordered[step] = true;
                    order.push(step);
                }
            }
            wanted.extend(missing);
        }
    }
    program.steps = order.iter().map(|&step| program.steps[step].clone()).collect();
}

#[cfg(test)]
mod tests {
    use lathe_runtime::program::{Buffer, Compute, Elements, Op, PROGRAM_VERSION, Rows, Step, Unary};

    use super::*;

    /// A program of functions: the label of each, and the one whose result it reads.
    fn program(steps: &[(&str, Option<&str>)]) -> Program {
        let buffer = |label: &str| BufferId(u32::from(label.as_bytes()[0] - b'a'));
        let step = |&(label, read): &(&str, Option<&str>)| {
            let x = buffer(read.unwrap_or("a"));
            Step { label: label.to_owned(), op: Op::Unary { function: Unary::Relu, x, out: buffer(label) } }
        };
        Program {
            version: PROGRAM_VERSION,
            model: "test".to_owned(),
            compute: Compute::F32,
            max_positions: None,
            weights: Vec::new(),
            buffers: vec![Buffer { rows: Rows::Tokens, width: 8, elements: Elements::Real }; 26],
            caches: Vec::new(),
            rope_tables: Vec::new(),
            rotations: Vec::new(),
            steps: steps.iter().map(step).collect(),
            output: BufferId(25),
        }
    }

    #[test]
    fn steps_stand_as_in_the_other_behind_what_they_read() {
        let mut found = program(&[("b", None), ("c", None), ("d", Some("b")), ("e", Some("c")), ("f", Some("d"))]);
        order_like(&mut found, &program(&[("e", None), ("x", None), ("f", None), ("b", None)]));
        let labels: Vec<&str> = found.steps.iter().map(|step| &*step.label).collect();
        assert_eq!(labels, ["c", "e", "b", "d", "f"]);
    }
}
