//! Matrices that somebody brings along.

#![allow(clippy::inline_always, reason = "code for vectors must end up in the function that has them enabled")]

use super::dense::Dense;
use super::panel::{Line, with_axis};
use super::{Rotation, RotationError};
use crate::cpu::Vectors;
use crate::cpu::simd::{Kernel, Simd};
use crate::ops;

/// The largest element of `|Q Qᵀ − I|` of a matrix that counts as orthogonal.
pub const TOLERANCE: f32 = 1e-4;

/// Elements of the product that are looked at together.
const CHECKED: usize = 1 << 22;

/// Refuses a matrix, of finite `values`, that is not orthogonal.
pub(super) fn check(matrix: &Rotation, values: &[f32]) -> Result<(), RotationError> {
    let width = matrix.width();
    let rows = (CHECKED / width).clamp(1, width);
    let mut products = vec![0.0; rows * width];
    let (mut error, mut row, mut column) = (0.0, 0, 0);
    for (first, chunk) in (0..).step_by(rows).zip(values.chunks(rows * width)) {
        let products = &mut products[..chunk.len()];
        ops::rotate(chunk, matrix, true, products);
        for (index, &product) in products.iter().enumerate() {
            let (i, j) = (first + index / width, index % width);
            let difference = (product - if i == j { 1.0 } else { 0.0 }).abs();
            // Sums that overflow may be NaN.
            let difference = if difference.is_nan() { f32::INFINITY } else { difference };
            if difference > error {
                (error, row, column) = (difference, i, j);
            }
        }
    }
    if error > TOLERANCE { Err(RotationError::NotOrthogonal { error, row, column }) } else { Ok(()) }
}

/// A product of the columns of a panel with a matrix. Compiled for an instruction set it does the same operations, only more
/// of them at a time.
struct Product<'a> {
    matrix: &'a Dense,
    panel: &'a mut [Line],
    inverse: bool,
    axis: &'a mut [Line],
}

impl Dense {
    /// Rotates the columns of `panel`.
    pub(super) fn apply_to_panel(&self, vectors: Option<Vectors>, panel: &mut [Line], inverse: bool) {
        with_axis(self.order(), |axis| {
            let product = Product { matrix: self, panel, inverse, axis };
            match vectors {
                None => product.multiply(),
                Some(vectors) => vectors.run(product),
            }
        });
    }
}

impl Product<'_> {
    #[inline(always)]
    fn multiply(self) {
        self.matrix.multiply_axis(self.panel, 1, self.inverse, self.axis);
    }
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.multiply();
    }
}
