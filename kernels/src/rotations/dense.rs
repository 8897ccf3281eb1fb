//! Products with square matrices, entry by entry.

#![allow(clippy::inline_always, reason = "code for vectors must end up in the function that has them enabled")]

use super::panel::Line;
use std::sync::Arc;

/// Lines of a product that are added up side by side.
const SUMS: usize = 4;

/// A square matrix in both of the ways in which it is read.
pub(crate) struct Dense {
    order: usize,
    /// Entries, row by row.
    rows: Arc<[f32]>,
    /// Entries, column by column.
    columns: Vec<f32>,
}

impl Dense {
    /// The matrix of these entries, `[order, order]` row-major.
    pub(super) fn new(order: usize, rows: Arc<[f32]>) -> Dense {
        assert_eq!(rows.len(), order * order, "entries of a matrix of order {order}");
        let mut columns = vec![0.0; rows.len()];
        for (i, row) in rows.chunks_exact(order).enumerate() {
            for (column, &entry) in columns.chunks_exact_mut(order).zip(row) {
                column[i] = entry;
            }
        }
        Dense { order, rows, columns }
    }

    /// Number of rows.
    pub(crate) fn order(&self) -> usize {
        self.order
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.columns)
    }

    /// `[order, order]` row-major: line i has what element i of a vector is multiplied with for each element of its product
    /// with the matrix, or with the transposed matrix.
    pub(crate) fn factors(&self, transposed: bool) -> &[f32] {
        if transposed { &self.columns } else { &self.rows }
    }

    /// Multiplies an axis of a tensor with the matrix or its transpose; `after` lines belong to each index of the axis.
    /// Products are added up in the order of the axis. `axis` is overwritten; it has at least as many lines as the matrix.
    #[inline(always)]
    pub(super) fn multiply_axis(&self, tensor: &mut [Line], after: usize, transposed: bool, axis: &mut [Line]) {
        let (order, factors) = (self.order, self.factors(transposed));
        let axis = &mut axis[..order];
        for block in tensor.chunks_exact_mut(order * after) {
            for first in 0..after {
                for (copy, lines) in axis.iter_mut().zip(block.chunks_exact(after)) {
                    *copy = lines[first];
                }
                let whole = order / SUMS * SUMS;
                for line in (0..whole).step_by(SUMS) {
                    let sums = sums::<SUMS>(axis, &factors[line..], order);
                    for (line, sum) in (line..).zip(sums) {
                        block[line * after + first] = sum;
                    }
                }
                for line in whole..order {
                    [block[line * after + first]] = sums(axis, &factors[line..], order);
                }
            }
        }
    }
}

/// Sums of the lines of `axis`, each times its factor; the factors of a line are `order` behind those of the line before.
#[inline(always)]
fn sums<const N: usize>(axis: &[Line], factors: &[f32], order: usize) -> [Line; N] {
    let mut sums = [Line::default(); N];
    for (line, factors) in axis.iter().zip(factors.chunks(order)) {
        let factors = factors.first_chunk::<N>().expect("as many factors as sums");
        for (sum, &factor) in sums.iter_mut().zip(factors) {
            let factor = f64::from(factor);
            for (sum, value) in sum.iter_mut().zip(line) {
                *sum += factor * value;
            }
        }
    }
    sums
}
