//! Ops on an instruction set of one's choice.

use super::implementation::{Experts, Implementation};
use crate::cpu::{Isa, Vectors};
use crate::formats::Matrix;
use crate::ops::{self, AttentionShape, Binary, Norm, Unary};
use crate::rotations::Rotation;

/// The ops on the processor, on a given instruction set.
#[derive(Clone, Copy)]
pub struct Forced(Option<Vectors>);

impl Forced {
    /// The scalar references.
    pub const REFERENCE: Forced = Forced(None);

    /// On `isa`, where the processor has it.
    pub fn on(isa: Isa) -> Option<Forced> {
        isa.is_supported().then(|| Forced(Vectors::of(isa)))
    }
}

impl Implementation for Forced {
    fn embed(&self, table: &Matrix<'_>, index: &[u32], first: u32, out: &mut [f32]) {
        ops::embed_on(self.0, table, index, first, out);
    }

    fn matmul(&self, x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
        ops::matmul_on(self.0, x, weight, bias, out);
    }

    fn expert_matmul<'m, 'w: 'm>(
        &self,
        x: &[f32],
        choice: &[u32],
        k: usize,
        expert: Experts<'_, 'm, 'w>,
        experts: usize,
        out: &mut [f32],
    ) {
        ops::expert_matmul_on(ops::Product::Real(self.0), x, choice, k, expert, experts, out);
    }

    fn expert_matmul_int8<'m, 'w: 'm>(
        &self,
        x: &[f32],
        choice: &[u32],
        k: usize,
        expert: Experts<'_, 'm, 'w>,
        experts: usize,
        out: &mut [f32],
    ) {
        ops::expert_matmul_on(ops::Product::Int8(self.0), x, choice, k, expert, experts, out);
    }

    fn quantize_rows(&self, x: &[f32], width: usize, codes: &mut [i8], scales: &mut [f32]) {
        ops::quantize_rows_on(self.0, x, width, codes, scales);
    }

    fn matmul_int8(&self, codes: &[i8], scales: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
        ops::matmul_int8_on(self.0, codes, scales, weight, bias, out);
    }

    fn norm(&self, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
        ops::norm_on(self.0, x, norm, out);
    }

    fn centre(&self, x: &[f32], width: usize, along: Option<&[f32]>, out: &mut [f32]) {
        ops::centre_on(self.0, x, width, along, out);
    }

    fn gain(&self, x: &[f32], gain: &[f32], offset: f32, out: &mut [f32]) {
        ops::gain_on(self.0, x, gain, offset, out);
    }

    fn shift(&self, x: &[f32], shift: &[f32], out: &mut [f32]) {
        ops::shift_on(self.0, x, shift, out);
    }

    fn rotate(&self, x: &[f32], rotation: &Rotation, inverse: bool, out: &mut [f32]) {
        ops::rotate_on(self.0, x, rotation, inverse, out);
    }

    fn unary(&self, function: Unary, x: &[f32], out: &mut [f32]) {
        ops::unary_on(self.0, function, x, out);
    }

    fn gated(&self, function: Unary, gate: &[f32], value: &[f32], out: &mut [f32]) {
        ops::gated_on(self.0, function, gate, value, out);
    }

    fn binary(&self, function: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
        ops::binary_on(self.0, function, a, b, out);
    }

    fn affine(&self, x: &[f32], factor: f32, offset: f32, out: &mut [f32]) {
        ops::affine_on(self.0, x, factor, offset, out);
    }

    fn softcap(&self, x: &[f32], cap: f32, out: &mut [f32]) {
        ops::softcap_on(self.0, x, cap, out);
    }

    fn softmax(&self, x: &[f32], width: usize, out: &mut [f32]) {
        ops::softmax_on(self.0, x, width, out);
    }

    fn combine(&self, x: &[f32], weights: &[f32], k: usize, out: &mut [f32]) {
        ops::combine_on(self.0, x, weights, k, out);
    }

    fn attention(
        &self,
        shape: &AttentionShape,
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        sinks: Option<&[f32]>,
        capacity: usize,
        past: usize,
        out: &mut [f32],
    ) {
        ops::attention_on(self.0, shape, q, keys, values, sinks, capacity, past, out);
    }
}
