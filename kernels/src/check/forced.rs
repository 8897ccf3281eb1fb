//! Ops on an instruction set of one's choice.

use crate::cpu::{Isa, Vectors};
use crate::formats::Matrix;
use crate::ops::{self, AttentionShape, Binary, Norm, Unary};
use crate::rotations::Rotation;

/// The ops that have more than one version, on a given instruction set; arguments as in [`crate::ops`].
#[derive(Clone, Copy)]
pub struct Forced(Option<Vectors>);

#[expect(missing_docs, reason = "each is the op of the same name in crate::ops")]
impl Forced {
    /// On `isa`, where the processor has it.
    pub fn on(isa: Isa) -> Option<Forced> {
        isa.is_supported().then(|| Forced(Vectors::of(isa)))
    }

    pub fn embed(self, table: &Matrix<'_>, index: &[u32], first: u32, out: &mut [f32]) {
        ops::embed_on(self.0, table, index, first, out);
    }

    pub fn matmul(self, x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
        ops::matmul_on(self.0, x, weight, bias, out);
    }

    pub fn expert_matmul<'m, 'w: 'm>(
        self,
        x: &[f32],
        choice: &[u32],
        k: usize,
        expert: impl Fn(usize) -> (&'m Matrix<'w>, Option<&'m [f32]>) + Sync,
        experts: usize,
        out: &mut [f32],
    ) {
        ops::expert_matmul_on(ops::Product::Real(self.0), x, choice, k, expert, experts, out);
    }

    pub fn quantize_rows(self, x: &[f32], width: usize, codes: &mut [i8], scales: &mut [f32]) {
        ops::quantize_rows_on(self.0, x, width, codes, scales);
    }

    pub fn matmul_int8(self, codes: &[i8], scales: &[f32], weight: &Matrix<'_>, out: &mut [f32]) {
        ops::matmul_int8_on(self.0, codes, scales, weight, None, out);
    }

    pub fn norm(self, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
        ops::norm_on(self.0, x, norm, out);
    }

    pub fn centre(self, x: &[f32], width: usize, along: Option<&[f32]>, out: &mut [f32]) {
        ops::centre_on(self.0, x, width, along, out);
    }

    pub fn gain(self, x: &[f32], gain: &[f32], offset: f32, out: &mut [f32]) {
        ops::gain_on(self.0, x, gain, offset, out);
    }

    pub fn shift(self, x: &[f32], shift: &[f32], out: &mut [f32]) {
        ops::shift_on(self.0, x, shift, out);
    }

    pub fn rotate(self, x: &[f32], rotation: &Rotation, inverse: bool, out: &mut [f32]) {
        ops::rotate_on(self.0, x, rotation, inverse, out);
    }

    pub fn unary(self, function: Unary, x: &[f32], out: &mut [f32]) {
        ops::unary_on(self.0, function, x, out);
    }

    pub fn gated(self, function: Unary, gate: &[f32], value: &[f32], out: &mut [f32]) {
        ops::gated_on(self.0, function, gate, value, out);
    }

    pub fn binary(self, function: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
        ops::binary_on(self.0, function, a, b, out);
    }

    pub fn affine(self, x: &[f32], factor: f32, offset: f32, out: &mut [f32]) {
        ops::affine_on(self.0, x, factor, offset, out);
    }

    pub fn softcap(self, x: &[f32], cap: f32, out: &mut [f32]) {
        ops::softcap_on(self.0, x, cap, out);
    }

    pub fn softmax(self, x: &[f32], width: usize, out: &mut [f32]) {
        ops::softmax_on(self.0, x, width, out);
    }

    pub fn combine(self, x: &[f32], weights: &[f32], k: usize, out: &mut [f32]) {
        ops::combine_on(self.0, x, weights, k, out);
    }

    #[expect(clippy::too_many_arguments, reason = "as the op itself")]
    pub fn attention(
        self,
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
