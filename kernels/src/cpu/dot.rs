//! Dot products of rows with rows: the matrix product for a few activations, where reading the weight is what takes
//! time.

use super::dense::{Decoded, Element};
use super::simd::{Kernel, Simd, padded};
use crate::tiles::Tile;

/// Weight rows that are read side by side, from distant places: one stream does not use all of a core's bandwidth.
pub(crate) const WEIGHT_ROWS: usize = 4;

/// Activation rows that share a pass over the weight rows.
const X_ROWS: usize = 4;

/// `tile[t, first + i] = x[t] · weight[i]` for all rows of `weight`.
pub(crate) struct DotTile<'a, 'b, E: Element> {
    /// `[tile rows, inner]`
    pub(crate) x: &'a [f32],
    /// `[n, inner]`
    pub(crate) weight: &'a [E::Stored],
    /// Elements of a row, at least 1.
    pub(crate) inner: usize,
    /// Column within the tile of the first weight row.
    pub(crate) first: usize,
    /// Where the products go.
    pub(crate) tile: &'a mut Tile<'b>,
}

impl<E: Element> Kernel for DotTile<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let DotTile { x, weight, inner, first, tile } = self;
        let rows = tile.rows();
        assert_eq!(x.len(), rows.len() * inner, "rows of x");
        let count = weight.len() / inner;
        let x_row = |t: usize| &x[t * inner..(t + 1) * inner];
        let weight_row = |i: usize| &weight[i * inner..(i + 1) * inner];
        let stride = count / WEIGHT_ROWS;
        for i in 0..stride {
            let streams = [0, 1, 2, 3].map(|stream| i + stream * stride);
            let group = streams.map(weight_row);
            let mut write = |t: usize, products: [f32; WEIGHT_ROWS]| {
                let out = tile.row(rows.start + t);
                for (stream, product) in streams.into_iter().zip(products) {
                    out[first + stream] = product;
                }
            };
            let mut t = 0;
            while t + X_ROWS <= rows.len() {
                let products = dots::<S, E, X_ROWS, WEIGHT_ROWS>(simd, [0, 1, 2, 3].map(|i| x_row(t + i)), group);
                for (i, products) in products.into_iter().enumerate() {
                    write(t + i, products);
                }
                t += X_ROWS;
            }
            if t + 2 <= rows.len() {
                let products = dots::<S, E, 2, WEIGHT_ROWS>(simd, [x_row(t), x_row(t + 1)], group);
                write(t, products[0]);
                write(t + 1, products[1]);
                t += 2;
            }
            if t < rows.len() {
                write(t, dots::<S, E, 1, WEIGHT_ROWS>(simd, [x_row(t)], group)[0]);
            }
        }
        for i in stride * WEIGHT_ROWS..count {
            for t in 0..rows.len() {
                tile.row(rows.start + t)[first + i] = dots::<S, E, 1, 1>(simd, [x_row(t)], [weight_row(i)])[0][0];
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
