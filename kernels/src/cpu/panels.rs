//! The matrix product for many activations, where multiplying is what takes time.
//!
//! Vectors run along activation rows: `x` is packed once into *panels* of two vectors of rows, `[inner][2 · LANES]`, so
//! that weights are decoded row by row, as they are stored, and broadcast. A task owns [`COLUMNS`] weight rows, of which
//! it decodes [`DEPTH`] elements at a time; sums of the whole inner dimension stay in its scratch, `[column][row]`, and are
//! transposed into `out` once at the end.

use super::simd::{Kernel, Simd};
use super::{Vectors, fast_format};
use crate::formats::Matrix;
use crate::scratch::{self, Scratch};
use crate::tiles::{Tile, for_each_tile};
use rayon::prelude::*;
use std::ops::Range;

/// Elements of the inner dimension that are decoded at a time.
const DEPTH: usize = 256;

/// Weight rows that a task decodes at a time.
const COLUMNS: usize = 96;

/// Activation rows that are packed at a time.
const ROWS: usize = 512;

/// Floats after each row of sums and decoded weights, so that a column of them does not fall into one set of a cache; at
/// least a line, which transposing may read.
const PADDING: usize = 16;

/// Elements of a cache line: the side of transposed blocks.
const LINE: usize = 16;

/// A decoded stretch of a weight row: [`DEPTH`] elements, and a cache line of padding.
type Stretch = [f32; DEPTH + PADDING];

thread_local! {
    static PACKED: Scratch<f32> = const { Scratch::new(Vec::new()) };
    static DECODED: Scratch<f32> = const { Scratch::new(Vec::new()) };
    static SUMS: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

/// `out = x Wᵀ + bias`; sizes as in [`crate::ops::matmul`], none of them 0.
pub(crate) fn matmul(
    vectors: Vectors,
    x: &[f32],
    weight: &Matrix<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
    parallel: bool,
) {
    let (outputs, inner) = (weight.rows(), weight.cols());
    let (lanes, group) = vectors.run(BlockShape);
    let panel_rows = 2 * lanes;
    let rows = x.len() / inner;
    let block = rows.div_ceil(rows.div_ceil(ROWS)).next_multiple_of(panel_rows);
    for (x, out) in x.chunks(block * inner).zip(out.chunks_mut(block * outputs)) {
        let padded_rows = (x.len() / inner).next_multiple_of(lanes);
        scratch::with(&PACKED, padded_rows * inner, |packed| {
            let panels = packed.par_chunks_mut(panel_rows * inner).zip(x.par_chunks(panel_rows * inner));
            let panels_per_task = if parallel { 1 } else { usize::MAX };
            panels.with_min_len(panels_per_task).for_each(|(packed, x)| pack_panel(x, inner, packed));
            let product = Product { vectors, group, packed, padded_rows, weight, bias };
            for_each_tile(out, outputs, block, COLUMNS, parallel, |mut tile| product.write_to(&mut tile));
        });
    }
}

/// Transposes rows of `x`, `[n, inner]`, to `packed`, `[inner, width]` with `width >= n`; zeros for rows that are missing.
fn pack_panel(x: &[f32], inner: usize, packed: &mut [f32]) {
    let width = packed.len() / inner;
    packed.fill(0.0);
    for (start, packed) in (0..inner).step_by(LINE).zip(packed.chunks_mut(LINE * width)) {
        for (row, x) in x.chunks_exact(inner).enumerate() {
            for (&x, packed) in x[start..].iter().zip(packed.chunks_exact_mut(width)) {
                packed[row] = x;
            }
        }
    }
}

/// A product with packed activations.
struct Product<'a> {
    vectors: Vectors,
    /// Weight rows of the innermost block.
    group: usize,
    /// Panels of `x`.
    packed: &'a [f32],
    padded_rows: usize,
    weight: &'a Matrix<'a>,
    bias: Option<&'a [f32]>,
}

impl Product<'_> {
    /// Computes the part that the tile covers; it covers all rows.
    fn write_to(&self, tile: &mut Tile<'_>) {
        let padded_columns = tile.columns().len().next_multiple_of(self.group);
        let stride = self.padded_rows + PADDING;
        scratch::with(&DECODED, padded_columns * size_of::<Stretch>() / size_of::<f32>(), |decoded| {
            scratch::with(&SUMS, padded_columns * stride, |sums| {
                let (decoded, _) = decoded.as_chunks_mut();
                self.sum(tile.columns(), decoded, sums);
                self.transpose(sums, tile);
            });
        });
    }

    /// `tile[row][column] = sums[column][row] + bias[column]`
    fn transpose(&self, sums: &[f32], tile: &mut Tile<'_>) {
        let stride = self.padded_rows + PADDING;
        let (rows, columns) = (tile.rows(), tile.columns());
        let mut block = [[0.0; COLUMNS]; LINE];
        for first in rows.clone().step_by(LINE) {
            for (column, sums) in sums.chunks_exact(stride).take(columns.len()).enumerate() {
                let bias = self.bias.map_or(0.0, |bias| bias[columns.start + column]);
                let sums: &[f32; LINE] = sums[first..].first_chunk().expect("rows are padded to lines");
                for (row, sum) in block.iter_mut().zip(sums) {
                    row[column] = sum + bias;
                }
            }
            for (row, block) in (first..rows.end).zip(&block) {
                tile.row(row).copy_from_slice(&block[..columns.len()]);
            }
        }
    }

    /// `sums[i][row] = x[row] · weight[columns[i]]`
    fn sum(&self, columns: Range<usize>, decoded: &mut [Stretch], sums: &mut [f32]) {
        let fast = fast_format(self.weight.format());
        let inner = self.weight.cols();
        for stretch in &mut decoded[columns.len()..] {
            stretch.fill(0.0);
        }
        sums.fill(0.0);
        for start in (0..inner).step_by(DEPTH) {
            let depth = start..inner.min(start + DEPTH);
            for (column, stretch) in columns.clone().zip(&mut *decoded) {
                fast.decode(self.vectors, self.weight, column, depth.clone(), &mut stretch[..depth.len()]);
            }
            let (packed, padded_rows) = (self.packed, self.padded_rows);
            self.vectors.run(AddProducts { packed, inner, padded_rows, depth, decoded, sums });
        }
    }
}

/// Weight rows of the innermost block: with two vectors of activations each, their sums fill the registers.
const fn group_for(registers: usize) -> usize {
    if registers >= 32 { 12 } else { 6 }
}

/// Asks for the elements of a vector and the weight rows of the innermost block.
struct BlockShape;

impl Kernel for BlockShape {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (usize, usize) {
        (S::LANES, group_for(S::REGISTERS))
    }
}

/// Adds `x[.., depth] · decodedᵀ` to the sums.
struct AddProducts<'a> {
    /// Panels of `x`.
    packed: &'a [f32],
    inner: usize,
    padded_rows: usize,
    depth: Range<usize>,
    /// A whole number of groups of weight rows.
    decoded: &'a [Stretch],
    /// `[column][padded_rows + PADDING]`
    sums: &'a mut [f32],
}

impl Kernel for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match group_for(S::REGISTERS) {
            12 => self.groups_of::<S, 12>(simd),
            _ => self.groups_of::<S, 6>(simd),
        }
    }
}

impl AddProducts<'_> {
    #[inline(always)]
    fn groups_of<S: Simd, const N: usize>(mut self, simd: S) {
        let (groups, rest) = self.decoded.as_chunks::<N>();
        assert!(rest.is_empty(), "decoded rows come in groups");
        let wide = 2 * S::LANES;
        for row in (0..self.padded_rows).step_by(wide) {
            let width = wide.min(self.padded_rows - row);
            let panel = &self.packed[row * self.inner..][self.depth.start * width..self.depth.end * width];
            for (i, group) in groups.iter().enumerate() {
                if width == wide {
                    self.add::<S, 2, N>(simd, panel, group, i * N, row);
                } else {
                    self.add::<S, 1, N>(simd, panel, group, i * N, row);
                }
            }
        }
    }

    /// Adds the products of `V` vectors of rows with `N` weight rows.
    #[inline(always)]
    fn add<S: Simd, const V: usize, const N: usize>(
        &mut self,
        simd: S,
        panel: &[f32],
        weight: &[Stretch; N],
        column: usize,
        row: usize,
    ) {
        let mut products = [[simd.splat(0.0); V]; N];
        let (panel, _) = S::chunks(panel).0.as_chunks::<V>();
        for (x, depth) in panel.iter().zip(0..DEPTH) {
            for n in 0..N {
                let weight = simd.splat(weight[n][depth]);
                for v in 0..V {
                    products[n][v] = simd.mul_add(simd.load(&x[v]), weight, products[n][v]);
                }
            }
        }
        let stride = self.padded_rows + PADDING;
        for (n, products) in products.iter().enumerate() {
            let (sums, _) = S::chunks_mut(&mut self.sums[(column + n) * stride + row..][..V * S::LANES]);
            for (sum, &product) in sums.iter_mut().zip(products) {
                simd.store(simd.add(simd.load(sum), product), sum);
            }
        }
    }
}
