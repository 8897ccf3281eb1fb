//! Runs two programs in lockstep on the values that recipes make.

use lathe_kernels::formats::{Format, Matrix};
use lathe_runtime::backend::{self, DeviceChoice, StepOutput, Steps};
use lathe_runtime::exec::{Logits, SessionOptions};
use lathe_runtime::program::Program;

use super::ProofError;
use super::lockstep::{self, Compared, Run, Subjects};
use crate::lower::Lowered;
use crate::pack::evaluate::Evaluator;

/// Runs them over `tokens`, of which the first `text` are text.
pub(super) fn run(
    subjects: Subjects<'_>,
    (tokens, text): (&[u32], usize),
    models: [(&Lowered, Evaluator<'_>); 2],
    threads: usize,
) -> Result<Vec<Compared>, ProofError> {
    let backend = backend::open(DeviceChoice::Cpu, threads)?;
    let count = tokens.len();
    let options = SessionOptions { capacity: count, max_step_tokens: count, max_logits: count, min_positions: count };
    let [original, compiled] = models;
    let (a, b) = (values(original)?, values(compiled)?);
    let (a_matrices, b_matrices) = (matrices(&a), matrices(&b));
    let mut a = backend.session(&a.0, &a_matrices, &options)?;
    let mut b = backend.session(&b.0, &b_matrices, &options)?;
    let mut a = a.steps(tokens, Logits::All)?;
    let mut b = b.steps(tokens, Logits::All)?;
    lockstep::run(subjects, text, &mut Running(&mut *a), &mut Running(&mut *b))
}

fn values((lowered, evaluator): (&Lowered, Evaluator<'_>)) -> Result<(Program, Vec<Vec<f32>>), ProofError> {
    let mut program = lowered.program.clone();
    let mut all = Vec::new();
    for (weight, recipe) in program.weights.iter_mut().zip(&lowered.recipes) {
        weight.format = Format::F32.to_string();
        let mut evaluation = evaluator.open(recipe)?;
        let mut values = Vec::new();
        evaluation.evaluate(0..evaluation.rows(), &mut values)?;
        all.push(values);
    }
    Ok((program, all))
}

fn matrices((program, values): &(Program, Vec<Vec<f32>>)) -> Vec<Matrix<'_>> {
    program
        .weights
        .iter()
        .zip(values)
        .map(|(weight, values)| {
            let shape = weight.matrix_shape().unwrap();
            Matrix::new(
                Format::F32,
                shape.rows,
                shape.cols,
                &[&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().leak()[..]],
            )
            .unwrap()
        })
        .collect()
}

struct Running<'a>(&'a mut dyn Steps);

impl Run<ProofError> for Running<'_> {
    fn next(&mut self) -> Result<StepOutput<'_>, ProofError> {
        Ok(self.0.next().expect("one pass with all rows selected, in which every step runs once"))
    }
}
