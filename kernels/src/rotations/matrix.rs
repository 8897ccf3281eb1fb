//! Matrices that somebody brings along.

#![allow(clippy::inline_always, reason = "code for vectors must end up in the function that has them enabled")]

use super::RotationError;
use super::panel::{Line, with_axis};
use crate::cpu::Vectors;
use crate::cpu::simd::{Kernel, Simd};
use crate::formats::Matrix;
use crate::ops;
use crate::scratch::{self, Scratch};

/// The largest element of `|Q Qᵀ − I|` of a matrix that counts as orthogonal.
pub const TOLERANCE: f32 = 1e-4;

/// Rows of the matrix whose products with others are looked at together.
const CHECKED: usize = 256;

/// Elements of a product that are added up side by side.
const SUMS: usize = 4;

thread_local! {
    static FACTORS: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

/// A matrix Q `[width, width]`, as a weight in both directions.
pub(crate) struct Square {
    width: usize,
    /// Q in the format f32.
    rows: Vec<u8>,
    /// Qᵀ in the format f32.
    columns: Vec<u8>,
}

impl Square {
    /// The matrix of `values`, `[width, width]`.
    pub(super) fn new(width: usize, values: &[f32]) -> Square {
        assert_eq!(values.len(), width * width, "values of a matrix of width {width}");
        let rows = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut columns = vec![0; size_of_val(values)];
        let (elements, _) = columns.as_chunks_mut::<4>();
        for (i, row) in values.chunks_exact(width).enumerate() {
            for (column, value) in elements.chunks_exact_mut(width).zip(row) {
                column[i] = value.to_le_bytes();
            }
        }
        Square { width, rows, columns }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.len() + self.columns.len()
    }

    /// W with `x Wᵀ = x Q`, or with `inverse` `x Wᵀ = x Qᵀ`.
    pub(crate) fn weight(&self, inverse: bool) -> Matrix<'_> {
        Matrix::of_f32(self.width, self.width, if inverse { &self.rows } else { &self.columns })
    }

    /// Refuses a matrix, of finite values, that is not orthogonal.
    pub(super) fn check(&self, values: &[f32]) -> Result<(), RotationError> {
        let width = self.width;
        let mut products = vec![0.0; width * CHECKED.min(width)];
        let (mut error, mut row, mut column) = (0.0, 0, 0);
        // Products with earlier rows are those of the earlier rows with these.
        for (first, bytes) in (0..).step_by(CHECKED).zip(self.rows.chunks(CHECKED * width * size_of::<f32>())) {
            let count = CHECKED.min(width - first);
            let products = &mut products[..(width - first) * count];
            ops::matmul(&values[first * width..], &Matrix::of_f32(count, width, bytes), None, products);
            for (index, &product) in products.iter().enumerate() {
                let (i, j) = (index / count, index % count);
                let difference = (product - if i == j { 1.0 } else { 0.0 }).abs();
                // Sums that overflow may be NaN.
                let difference = if difference.is_nan() { f32::INFINITY } else { difference };
                if difference > error {
                    (error, row, column) = (difference, first + i, first + j);
                }
            }
        }
        if error > TOLERANCE { Err(RotationError::NotOrthogonal { error, row, column }) } else { Ok(()) }
    }

    /// Rotates the columns of `panel`: each element is a sum in the order of the vector.
    pub(super) fn apply_to_panel(&self, vectors: Option<Vectors>, panel: &mut [Line], inverse: bool) {
        let (width, weight) = (self.width, self.weight(inverse));
        with_axis(width, |axis| {
            axis.copy_from_slice(panel);
            scratch::with(&FACTORS, SUMS * width, |factors| {
                for (first, lines) in (0..).step_by(SUMS).zip(panel.chunks_mut(SUMS)) {
                    for (row, factors) in (first..first + lines.len()).zip(factors.chunks_exact_mut(width)) {
                        weight.decode_row(row, factors);
                    }
                    let products = Products { axis, factors, lines };
                    match vectors {
                        None => products.add_up(),
                        Some(vectors) => vectors.run(products),
                    }
                }
            });
        });
    }
}

/// A few lines of a product. Compiled for an instruction set it does the same operations, only more of them at a time.
struct Products<'a> {
    axis: &'a [Line],
    /// For each line as many as `axis` has; what is behind is left over from others.
    factors: &'a [f32],
    lines: &'a mut [Line],
}

impl Products<'_> {
    #[inline(always)]
    fn add_up(self) {
        let length = self.axis.len();
        let rows: [&[f32]; SUMS] = std::array::from_fn(|i| &self.factors[i * length..(i + 1) * length]);
        let mut sums = [Line::default(); SUMS];
        for (i, line) in self.axis.iter().enumerate() {
            for (sum, row) in sums.iter_mut().zip(rows) {
                let factor = f64::from(row[i]);
                for (sum, value) in sum.iter_mut().zip(line) {
                    *sum += factor * value;
                }
            }
        }
        self.lines.copy_from_slice(&sums[..self.lines.len()]);
    }
}

impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.add_up();
    }
}
