//! Launchers of `product*.cu`: products of activations with packed weights.

use super::{NormParameters, Outputs};
use crate::cuda::{CudaError, DeviceMatrix, Gpu, Slice};
use crate::ops::Unary;

/// Rows that are multiplied, in the precision of the product.
#[derive(Debug, Clone, Copy)]
pub enum ProductInput {
    /// In f32, with weights of any format: as [`crate::ops::matmul`] asks.
    Real(Slice<f32>),
    /// In bf16, with weights of any format; sums in f32. `|error| ≤ 2⁻⁸ Σ |x||w|` against the exact product.
    Bf16(Slice<u16>),
    /// The same, of rows that are normalized first, as rows of f32: the norm is part of the kernel where
    /// [`Gpu::normalizes_products`], which no other input allows.
    NormalizedBf16(Slice<f32>, NormParameters),
    /// In int8, with weights of format int8, symmetric, per channel: as [`crate::ops::matmul_int8`], bit for bit.
    Int8 {
        /// `[rows, in]`
        codes: Slice<i8>,
        /// `[rows]`
        scales: Slice<f32>,
    },
}

/// One of the weights that share their rows.
#[derive(Debug, Clone, Copy)]
pub struct ProductPart<'a> {
    /// `[out, in]`
    pub weight: &'a DeviceMatrix,
    /// `[out]`, or none.
    pub bias: Slice<f32>,
    /// `[rows, out]`
    pub out: Slice<f32>,
}

/// What becomes of the product x Wᵀ + bias.
#[derive(Debug, Clone, Copy)]
pub enum Finish {
    /// It is written.
    Store,
    /// It is added to `[rows, out]` and the sum written; of one part. `out` may be that itself.
    Add(Slice<f32>),
    /// Of two parts, gate and value: `f(gate) · value` goes to the outputs (f32, bf16), and none of them to its `out`, which
    /// is [`Slice::NONE`].
    Gated(Unary, Outputs),
}

/// A product: of the same rows with up to four weights.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// `[rows, in]`
    pub x: ProductInput,
    /// How many.
    pub rows: usize,
    /// The weights. One launch does all of them where [`Gpu::joins_products`].
    pub parts: &'a [ProductPart<'a>],
    /// What becomes of it.
    pub finish: Finish,
    /// Memory that the product may use meanwhile, of [`Gpu::product_scratch`] bytes.
    pub scratch: Slice<u8>,
}

impl Gpu {
    /// Multiplies.
    pub fn product(&self, product: &Product<'_>) -> Result<(), CudaError> {
        let _ = product;
        panic!("not built yet")
    }

    /// Whether so many rows are normalized within the product with weights of this kind, in bf16.
    pub fn normalizes_products(&self, weight: &DeviceMatrix, rows: usize) -> bool {
        let _ = (weight, rows);
        panic!("not built yet")
    }

    /// Whether weights can be parts of one launch: alike in format and columns.
    pub fn joins_products(&self, weights: &[&DeviceMatrix]) -> bool {
        let _ = weights;
        panic!("not built yet")
    }

    /// Bytes of scratch for up to `rows` rows.
    pub fn product_scratch(&self, weight: &DeviceMatrix, rows: usize) -> usize {
        let _ = (weight, rows);
        panic!("not built yet")
    }
}
