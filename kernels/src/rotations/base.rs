//! Products with bases of Hadamard matrices, entry by entry.

#![allow(clippy::inline_always, reason = "code for vectors must end up in the function that has them enabled")]

use super::panel::Line;

/// Lines of a product that are added up side by side; divides the order of every base.
const SUMS: usize = 4;

/// A base in both of the ways in which it is read.
pub(crate) struct BaseMatrix {
    order: usize,
    /// Entries, row by row.
    rows: Vec<f32>,
    /// Entries, column by column.
    columns: Vec<f32>,
}

impl BaseMatrix {
    /// The matrix of these entries, `[order, order]` row-major.
    pub(super) fn new(order: usize, entries: &[i8]) -> BaseMatrix {
        assert_eq!(entries.len(), order * order, "entries of a matrix of order {order}");
        let rows = entries.iter().map(|&entry| f32::from(entry)).collect();
        let columns = (0..entries.len()).map(|i| f32::from(entries[i % order * order + i / order])).collect();
        BaseMatrix { order, rows, columns }
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
                for line in (0..order).step_by(SUMS) {
                    for (line, sum) in (line..).zip(sums(axis, &factors[line..], order)) {
                        block[line * after + first] = sum;
                    }
                }
            }
        }
    }
}

/// Sums of the lines of `axis`, each times its factor; the factors of a line are `order` behind those of the line before.
#[inline(always)]
fn sums(axis: &[Line], factors: &[f32], order: usize) -> [Line; SUMS] {
    let mut sums = [Line::default(); SUMS];
    for (line, factors) in axis.iter().zip(factors.chunks(order)) {
        let factors = factors.first_chunk::<SUMS>().expect("as many factors as sums");
        for (sum, &factor) in sums.iter_mut().zip(factors) {
            let factor = f64::from(factor);
            for (sum, value) in sum.iter_mut().zip(line) {
                *sum += factor * value;
            }
        }
    }
    sums
}
