//! What checks run on.

use crate::formats::Matrix;
use crate::ops::{AttentionShape, Binary, Norm, Unary};
use crate::rotations::Rotation;

/// The weight of each expert, and its bias.
pub type Experts<'f, 'm, 'w> = &'f (dyn Fn(usize) -> (&'m Matrix<'w>, Option<&'m [f32]>) + Sync);

/// A version of the ops. Each method is the op of this name in [`crate::ops`], and `expert_matmul_int8` the one that is
/// called `quantized_expert_matmul` there.
#[expect(missing_docs, reason = "each is the op of the same name in crate::ops")]
pub trait Implementation {
    fn embed(&self, table: &Matrix<'_>, index: &[u32], first: u32, out: &mut [f32]);

    fn matmul(&self, x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]);

    fn expert_matmul<'m, 'w: 'm>(
        &self,
        x: &[f32],
        choice: &[u32],
        k: usize,
        expert: Experts<'_, 'm, 'w>,
        experts: usize,
        out: &mut [f32],
    );

    fn expert_matmul_int8<'m, 'w: 'm>(
        &self,
        x: &[f32],
        choice: &[u32],
        k: usize,
        expert: Experts<'_, 'm, 'w>,
        experts: usize,
        out: &mut [f32],
    );

    fn quantize_rows(&self, x: &[f32], width: usize, codes: &mut [i8], scales: &mut [f32]);

    fn matmul_int8(&self, codes: &[i8], scales: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]);

    fn norm(&self, x: &[f32], norm: &Norm<'_>, out: &mut [f32]);

    fn centre(&self, x: &[f32], width: usize, along: Option<&[f32]>, out: &mut [f32]);

    fn gain(&self, x: &[f32], gain: &[f32], offset: f32, out: &mut [f32]);

    fn shift(&self, x: &[f32], shift: &[f32], out: &mut [f32]);

    fn rotate(&self, x: &[f32], rotation: &Rotation, inverse: bool, out: &mut [f32]);

    fn unary(&self, function: Unary, x: &[f32], out: &mut [f32]);

    fn gated(&self, function: Unary, gate: &[f32], value: &[f32], out: &mut [f32]);

    fn binary(&self, function: Binary, a: &[f32], b: &[f32], out: &mut [f32]);

    fn affine(&self, x: &[f32], factor: f32, offset: f32, out: &mut [f32]);

    fn softcap(&self, x: &[f32], cap: f32, out: &mut [f32]);

    fn softmax(&self, x: &[f32], width: usize, out: &mut [f32]);

    fn combine(&self, x: &[f32], weights: &[f32], k: usize, out: &mut [f32]);

    #[expect(clippy::too_many_arguments, reason = "as the op itself")]
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
    );
}
