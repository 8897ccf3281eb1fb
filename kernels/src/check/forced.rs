//! Ops on an instruction set of one's choice.

use crate::cpu::{Isa, Vectors};
use crate::formats::Matrix;
use crate::ops::{self, AttentionShape};

/// The ops that have more than one version, on a given instruction set; arguments as in [`crate::ops`].
#[derive(Clone, Copy)]
pub struct Forced(Option<Vectors>);

#[expect(missing_docs, reason = "each is the op of the same name in crate::ops")]
impl Forced {
    /// On `isa`, where the processor has it.
    pub fn on(isa: Isa) -> Option<Forced> {
        isa.is_supported().then(|| Forced(Vectors::of(isa)))
    }

    pub fn embed(self, table: &Matrix<'_>, ids: &[u32], out: &mut [f32]) {
        ops::embed_on(self.0, table, ids, out);
    }

    pub fn matmul(self, x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
        ops::matmul_on(self.0, x, weight, bias, out);
    }

    pub fn rms_norm(self, x: &[f32], gain: Option<&[f32]>, width: usize, eps: f32, out: &mut [f32]) {
        ops::rms_norm_on(self.0, x, gain, width, eps, out);
    }

    pub fn silu_mul(self, gate: &[f32], value: &[f32], out: &mut [f32]) {
        ops::silu_mul_on(self.0, gate, value, out);
    }

    pub fn add(self, a: &[f32], b: &[f32], out: &mut [f32]) {
        ops::add_on(self.0, a, b, out);
    }

    #[expect(clippy::too_many_arguments, reason = "as the op itself")]
    pub fn attention(
        self,
        shape: &AttentionShape,
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        capacity: usize,
        past: usize,
        out: &mut [f32],
    ) {
        ops::attention_on(self.0, shape, q, keys, values, capacity, past, out);
    }
}
