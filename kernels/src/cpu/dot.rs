//! Dot products of rows with rows: the matrix product for a few activations, where reading the weight is what takes
//! time.

use super::dense::{Decoded, Element};
use super::simd::{Kernel, Simd, padded};
use crate::tiles::Tile;

/// Weight rows that are read side by side, from distant places: one stream does not use all of a core's bandwidth.
pub(crate) const WEIGHT_ROWS: usize = 4;

/// Activation rows that share a pass over the weight rows.
const X_ROWS: usize = 4;

/// Rows of a weight, as vectors read them.
pub(crate) trait WeightRows {
    /// How many there are.
    fn count(&self) -> usize;

    /// All dot products of `R` activation rows with the weight rows `rows`: `[R][W]`. Implementations are
    /// `#[inline(always)]`.
    fn dots<S: Simd, const R: usize, const W: usize>(&self, simd: S, x: [&[f32]; R], rows: [usize; W])
    -> [[f32; W]; R];
}

/// Rows of elements that stand for themselves, `[count, inner]`.
pub(crate) struct DenseRows<'a, E: Element> {
    /// All of them.
    pub(crate) elements: &'a [E::Stored],
    /// Elements of a row, at least 1.
    pub(crate) inner: usize,
}

impl<E: Element> WeightRows for DenseRows<'_, E> {
    fn count(&self) -> usize {
        self.elements.len() / self.inner
    }

    #[inline(always)]
    fn dots<S: Simd, const R: usize, const W: usize>(
        &self,
        simd: S,
        x: [&[f32]; R],
        rows: [usize; W],
    ) -> [[f32; W]; R] {
        dots::<S, E, R, W>(simd, x, rows.map(|row| &self.elements[row * self.inner..(row + 1) * self.inner]))
    }
}

/// `tile[t, first + i] = x[t] · weight[i]` for all rows of `weight`.
pub(crate) struct DotTile<'a, 'b, M> {
    /// `[tile rows, inner]`
    pub(crate) x: &'a [f32],
    /// `[n, inner]`
    pub(crate) weight: M,
    /// Elements of a row, at least 1.
    pub(crate) inner: usize,
    /// Column within the tile of the first weight row.
    pub(crate) first: usize,
    /// Where the products go.
    pub(crate) tile: &'a mut Tile<'b>,
}

impl<M: WeightRows> Kernel for DotTile<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let DotTile { x, weight, inner, first, tile } = self;
        let rows = tile.rows();
        assert_eq!(x.len(), rows.len() * inner, "rows of x");
        let count = weight.count();
        let x_row = |t: usize| &x[t * inner..(t + 1) * inner];
        let stride = count / WEIGHT_ROWS;
        for i in 0..stride {
            let streams = [0, 1, 2, 3].map(|stream| i + stream * stride);
            let mut write = |t: usize, products: [f32; WEIGHT_ROWS]| {
                let out = tile.row(rows.start + t);
                for (stream, product) in streams.into_iter().zip(products) {
                    out[first + stream] = product;
                }
            };
            let mut t = 0;
            while t + X_ROWS <= rows.len() {
                let x = [0, 1, 2, 3].map(|i| x_row(t + i));
                let products = weight.dots::<S, X_ROWS, WEIGHT_ROWS>(simd, x, streams);
                for (i, products) in products.into_iter().enumerate() {
                    write(t + i, products);
                }
                t += X_ROWS;
            }
            if t + 2 <= rows.len() {
                let products = weight.dots::<S, 2, WEIGHT_ROWS>(simd, [x_row(t), x_row(t + 1)], streams);
                write(t, products[0]);
                write(t + 1, products[1]);
                t += 2;
            }
            if t < rows.len() {
                write(t, weight.dots::<S, 1, WEIGHT_ROWS>(simd, [x_row(t)], streams)[0]);
            }
        }
        for i in stride * WEIGHT_ROWS..count {
            for t in 0..rows.len() {
                tile.row(rows.start + t)[first + i] = weight.dots::<S, 1, 1>(simd, [x_row(t)], [i])[0][0];
            }
        }
    }
}

/// All dot products of `R` activation rows with `W` weight rows of the same length: `[R][W]`.
///
/// Lane `l` of a vector sums elements `l`, `l + LANES`, …; the lanes are added at the end.
#[inline(always)]
pub(crate) fn dots<S: Simd, E: Element, const R: usize, const W: usize>(
    simd: S,
    x: [&[f32]; R],
    weight: [&[E::Stored]; W],
) -> [[f32; W]; R] {
    let inner = x[0].len();
    let whole = inner / S::LANES;
    let x_chunks = x.map(|row| &S::chunks(row).0[..whole]);
    let weight_chunks = weight.map(|row| &S::chunks(row).0[..whole]);
    let mut sums = [[simd.splat(0.0); W]; R];
    for chunk in 0..whole {
        for w in 0..W {
            let weight = E::load(simd, &weight_chunks[w][chunk]);
            for r in 0..R {
                sums[r][w] = simd.mul_add(simd.load(&x_chunks[r][chunk]), weight, sums[r][w]);
            }
        }
    }
    if whole * S::LANES < inner {
        for w in 0..W {
            let weight = E::load(simd, &padded::<S, _>(&weight[w][whole * S::LANES..]));
            for r in 0..R {
                let x = Decoded::load(simd, &padded::<S, _>(&x[r][whole * S::LANES..]));
                sums[r][w] = simd.mul_add(x, weight, sums[r][w]);
            }
        }
    }
    let mut products = [[0.0; W]; R];
    for r in 0..R {
        for w in 0..W {
            products[r][w] = simd.sum(sums[r][w]);
        }
    }
    products
}
