//! Rounding of rows to int8, and products of such rows with int8 weights. Sums are of integers, so their order is free.

use super::simd::{Kernel, Simd, padded};
use crate::formats::Matrix;
use crate::ops::int8::{LARGEST, scaled};
use crate::tiles::Tile;

/// Rounds one row as [`crate::ops::quantize_rows`] does, and gives its scale.
pub(crate) struct QuantizeRow<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) codes: &'a mut [i8],
}

impl Kernel for QuantizeRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (x, x_rest) = S::chunks(self.x);
        let (codes, codes_rest) = S::chunks_mut(self.codes);
        let x_rest = simd.load(&padded::<S, _>(x_rest));

        let zero = simd.splat(0.0);
        // NaN where an element is not finite, as x − x is, else 0.
        let mut differences = simd.sub(x_rest, x_rest);
        let mut largest = simd.max(simd.sub(zero, x_rest), x_rest);
        for x in x {
            let x = simd.load(x);
            differences = simd.add(differences, simd.sub(x, x));
            largest = simd.max(largest, simd.max(simd.sub(zero, x), x));
        }
        let scale =
            if simd.sum(differences).is_nan() { f32::NAN } else { simd.maximum(simd.max(largest, zero)) / LARGEST };
        if scale.is_nan() || scale == 0.0 {
            codes.fill(S::array(0));
            codes_rest.fill(0);
            return scale;
        }

        let (scales, low, high) = (simd.splat(scale), simd.splat(-LARGEST), simd.splat(LARGEST));
        for (x, codes) in x.iter().zip(codes) {
            let code = simd.round(simd.div(simd.load(x), scales));
            simd.store_i8(simd.min(simd.max(code, low), high), codes);
        }
        let code = simd.round(simd.div(x_rest, scales));
        let mut rest = S::array(0);
        simd.store_i8(simd.min(simd.max(code, low), high), &mut rest);
        codes_rest.copy_from_slice(&rest.as_ref()[..codes_rest.len()]);
        scale
    }
}

/// A tile of [`crate::ops::matmul_int8`].
pub(crate) struct Int8Tile<'a, 'b> {
    /// `[tile rows, inner]`
    pub(crate) codes: &'a [i8],
    /// `[tile rows]`
    pub(crate) scales: &'a [f32],
    pub(crate) weight: &'a Matrix<'a>,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) tile: &'a mut Tile<'b>,
}

/// Rows of activations that share a pass over weight rows.
const ROWS: usize = 4;

impl Kernel for Int8Tile<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // With so many weight rows beside them, sums fill the registers.
        if S::REGISTERS >= 32 {
            self.columns_of::<S, 4>(simd);
        } else {
            self.columns_of::<S, 2>(simd);
        }
    }
}

impl Int8Tile<'_, '_> {
    #[inline(always)]
    fn columns_of<S: Simd, const W: usize>(mut self, simd: S) {
        let columns = self.tile.columns();
        let whole = columns.len() / W * W;
        for first in (columns.start..columns.start + whole).step_by(W) {
            self.rows_of::<S, W>(simd, first);
        }
        for column in columns.start + whole..columns.end {
            self.rows_of::<S, 1>(simd, column);
        }
    }

    /// All rows of the tile, of `W` of its columns.
    #[inline(always)]
    fn rows_of<S: Simd, const W: usize>(&mut self, simd: S, first: usize) {
        let inner = self.weight.cols();
        let row = |index: usize| &self.codes[index * inner..][..inner];
        let plane = bytemuck::cast_slice(self.weight.plane(0));
        let weight: [&[i8]; W] = std::array::from_fn(|w| &plane[(first + w) * inner..][..inner]);
        let rows = self.tile.rows().len();
        let whole = rows / ROWS * ROWS;
        for t in (0..whole).step_by(ROWS) {
            let sums = dots::<S, ROWS, W>(simd, std::array::from_fn(|r| row(t + r)), weight);
            self.write(t, first, sums);
        }
        for t in whole..rows {
            let sums = dots::<S, 1, W>(simd, [row(t)], weight);
            self.write(t, first, sums);
        }
    }

    /// Scales sums and adds the bias. `t` is the first row and `first` the first column of the sums.
    #[inline(always)]
    fn write<const R: usize, const W: usize>(&mut self, t: usize, first: usize, sums: [[i32; W]; R]) {
        let (rows, columns) = (self.tile.rows(), self.tile.columns());
        let channel_scales = self.weight.format().parameters().scales;
        for (r, sums) in sums.into_iter().enumerate() {
            let out = &mut self.tile.row(rows.start + t + r)[first - columns.start..][..W];
            for (w, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                let channel = channel_scales.read(self.weight.plane(1), first + w);
                *out = scaled(sum, self.scales[t + r], channel, self.bias.map(|bias| bias[first + w]));
            }
        }
    }
}

/// Dot products of `R` rows with `W` rows of the same length.
#[inline(always)]
fn dots<S: Simd, const R: usize, const W: usize>(simd: S, x: [&[i8]; R], weight: [&[i8]; W]) -> [[i32; W]; R] {
    let inner = x[0].len();
    let whole = inner / (2 * S::LANES);
    let x_chunks = x.map(|row| &S::chunks(row.as_chunks::<2>().0).0[..whole]);
    let weight_chunks = weight.map(|row| &S::chunks(row.as_chunks::<2>().0).0[..whole]);
    let mut sums = [[simd.no_sums(); W]; R];
    for chunk in 0..whole {
        let mut weight = [simd.load_words(&weight_chunks[0][chunk]); W];
        for w in 1..W {
            weight[w] = simd.load_words(&weight_chunks[w][chunk]);
        }
        for r in 0..R {
            let x = simd.load_words(&x_chunks[r][chunk]);
            for w in 0..W {
                sums[r][w] = simd.add_products(x, weight[w], sums[r][w]);
            }
        }
    }
    let mut totals = [[0; W]; R];
    for r in 0..R {
        for w in 0..W {
            let mut rest = 0;
            for (&x, &weight) in x[r][whole * 2 * S::LANES..].iter().zip(&weight[w][whole * 2 * S::LANES..]) {
                rest += i32::from(x) * i32::from(weight);
            }
            totals[r][w] = simd.total(sums[r][w]) + rest;
        }
    }
    totals
}
