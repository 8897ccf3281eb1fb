//! Where the kernels find the weights of a step.

use std::convert::Infallible;

use lathe_kernels::formats::Matrix;
use lathe_kernels::ops;

use super::machine::Allocator;
use crate::exec::ExecError;
use crate::program::{InputFormat, Program, Weight, WeightId};

/// The weights of a valid program, in the way that its steps use them: matrices have rank 2, vectors rank 1.
pub(super) trait StepWeights {
    /// Why they cannot be had.
    type Error;

    /// The elements of some vectors.
    fn vectors(&mut self, vectors: [Option<WeightId>; 3]) -> Result<[Option<&[f32]>; 3], Self::Error>;

    /// The elements of a vector.
    fn vector(&mut self, vector: WeightId) -> Result<&[f32], Self::Error> {
        let [vector, ..] = self.vectors([Some(vector), None, None])?;
        Ok(vector.unwrap_or_default())
    }

    /// As [`ops::embed`].
    fn embed(&mut self, table: WeightId, index: &[u32], first: u32, out: &mut [f32]) -> Result<(), Self::Error>;

    /// As [`ops::matmul`], with x rounded as is said.
    fn matmul(
        &mut self,
        x: Operand<'_>,
        weight: WeightId,
        bias: Option<WeightId>,
        out: &mut [f32],
    ) -> Result<(), Self::Error>;

    /// As [`ops::expert_matmul`], with `k` choices a row; weights and biases by expert, no biases or as many.
    fn expert_matmul(
        &mut self,
        x: Operand<'_>,
        choice: &[u32],
        k: usize,
        experts: [&[WeightId]; 2],
        out: &mut [f32],
    ) -> Result<(), Self::Error>;
}

/// Activations, and what a product rounds them to.
pub(super) type Operand<'x> = (&'x [f32], Option<InputFormat>);

/// Weights in memory.
pub(super) struct Resident<'a>(Vec<Values<'a>>);

/// A weight as the kernels take it.
enum Values<'a> {
    /// `[out, in]`, packed.
    Matrix(Matrix<'a>),
    /// `[n]`, decoded.
    Vector(Vec<f32>),
}

impl<'a> Resident<'a> {
    /// Decodes vectors. The weights are those of the program.
    pub(super) fn new(
        program: &Program,
        weights: &[Matrix<'a>],
        memory: &mut Allocator,
    ) -> Result<Resident<'a>, ExecError> {
        let mut values = Vec::with_capacity(weights.len());
        for (Weight { shape, .. }, matrix) in program.weights.iter().zip(weights) {
            values.push(if shape.len() == 1 {
                let mut vector = memory.zeros("decoded vectors", matrix.cols())?;
                matrix.decode_row(0, &mut vector);
                Values::Vector(vector)
            } else {
                Values::Matrix(*matrix)
            });
        }
        Ok(Resident(values))
    }

    /// Decodes a matrix.
    pub(super) fn decode(&self, weight: WeightId, out: &mut [f32]) {
        let matrix = self.matrix(weight);
        for (row, out) in out.chunks_exact_mut(matrix.cols()).enumerate() {
            matrix.decode_row(row, out);
        }
    }

    fn matrix(&self, weight: WeightId) -> &Matrix<'a> {
        match &self.0[weight.index()] {
            Values::Matrix(matrix) => matrix,
            Values::Vector(_) => unreachable!("invariant 8: matrices have rank 2"),
        }
    }

    fn optional_vector(&self, weight: Option<WeightId>) -> Option<&[f32]> {
        match &self.0[weight?.index()] {
            Values::Vector(vector) => Some(vector),
            Values::Matrix(_) => unreachable!("invariant 8: vectors have rank 1"),
        }
    }
}

impl StepWeights for Resident<'_> {
    type Error = Infallible;

    fn vectors(&mut self, vectors: [Option<WeightId>; 3]) -> Result<[Option<&[f32]>; 3], Infallible> {
        Ok(vectors.map(|vector| self.optional_vector(vector)))
    }

    fn embed(&mut self, table: WeightId, index: &[u32], first: u32, out: &mut [f32]) -> Result<(), Infallible> {
        ops::embed(self.matrix(table), index, first, out);
        Ok(())
    }

    fn matmul(
        &mut self,
        (x, input): Operand<'_>,
        weight: WeightId,
        bias: Option<WeightId>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        let (weight, bias) = (self.matrix(weight), self.optional_vector(bias));
        match input {
            None => ops::matmul(x, weight, bias, out),
            Some(InputFormat::Int8PerToken) => ops::quantized_matmul(x, weight, bias, out),
        }
        Ok(())
    }

    fn expert_matmul(
        &mut self,
        (x, input): Operand<'_>,
        choice: &[u32],
        k: usize,
        [weights, biases]: [&[WeightId]; 2],
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        let expert = |expert: usize| (self.matrix(weights[expert]), self.optional_vector(biases.get(expert).copied()));
        match input {
            None => ops::expert_matmul(x, choice, k, expert, weights.len(), out),
            Some(InputFormat::Int8PerToken) => {
                ops::quantized_expert_matmul(x, choice, k, expert, weights.len(), out);
            }
        }
        Ok(())
    }
}
