//! Product of activations with a packed weight.

use crate::cpu::dot::WEIGHT_ROWS;
use crate::cpu::{Vectors, fast_format, panels};
use crate::formats::Matrix;
use crate::scratch::{self, Scratch};
use crate::tiles::{Tile, for_each_tile};

/// Most rows of activations for which the weight is read row by row instead of being decoded to panels.
const FEW_ROWS: usize = 16;

/// Fewest products that are worth a fork.
const PARALLEL_PRODUCTS: usize = 1 << 17;

/// Elements of the weight that a task reads when there are few rows.
const BLOCK_ELEMENTS: usize = 1 << 17;

thread_local! {
    static DECODED_ROW: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

/// `out = x Wᵀ + bias`: `x` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]`, `out` `[rows, out]`.
///
/// # Panics
/// When `x` is not whole rows of `weight.cols`, or `bias` or `out` has another length. Where `weight.cols` is 0, the
/// number of rows is that of `out`.
///
/// ```
/// use lathe_kernels::formats::{Fit, Format, Matrix};
/// use lathe_kernels::ops;
///
/// let mut plane = [0; 12];
/// Format::BF16.encode(Fit::Absmax, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, &mut [&mut plane]);
/// let weight = Matrix::new(Format::BF16, 2, 3, &[&plane])?;
///
/// let mut out = [0.0; 2];
/// ops::matmul(&[1.0, 0.0, -1.0], &weight, Some(&[0.5, 0.25]), &mut out);
/// assert_eq!(out, [-1.5, -1.75]);
/// # Ok::<(), lathe_kernels::formats::MatrixError>(())
/// ```
pub fn matmul(x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
    matmul_on(Vectors::current(), x, weight, bias, out);
}

pub(crate) fn matmul_on(
    vectors: Option<Vectors>,
    x: &[f32],
    weight: &Matrix<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (outputs, inner) = (weight.rows(), weight.cols());
    assert!(x.len().is_multiple_of(inner), "x has {} elements, rows of {weight:?} have {inner}", x.len());
    let rows = x.len().checked_div(inner).unwrap_or(out.len() / outputs.max(1));
    assert_eq!(out.len(), rows * outputs, "out is {rows} rows times {weight:?}");
    assert!(bias.is_none_or(|bias| bias.len() == outputs), "bias of {weight:?}");
    if out.is_empty() {
        return;
    }

    let parallel = is_parallel(rows, outputs, inner);
    match vectors {
        Some(vectors) if inner > 0 && rows > FEW_ROWS => {
            panels::matmul(vectors, x, weight, bias, out, parallel);
        }
        _ => for_each_tile(out, outputs, rows, column_block(inner), parallel, |mut tile| {
            write_tile(vectors, x, weight, bias, &mut tile);
        }),
    }
}

/// Whether a product is worth a fork.
pub(super) fn is_parallel(rows: usize, outputs: usize, inner: usize) -> bool {
    rows * outputs * inner >= PARALLEL_PRODUCTS
}

/// Rows of the weight that a task reads when there are few rows of activations.
pub(super) fn column_block(inner: usize) -> usize {
    (BLOCK_ELEMENTS / inner.max(1)).next_multiple_of(WEIGHT_ROWS).max(WEIGHT_ROWS)
}

/// A tile of a product with few rows; `x` is the tile's rows of activations.
pub(super) fn write_tile(
    vectors: Option<Vectors>,
    x: &[f32],
    weight: &Matrix<'_>,
    bias: Option<&[f32]>,
    tile: &mut Tile<'_>,
) {
    match vectors {
        Some(vectors) if weight.cols() > 0 => {
            fast_format(weight.format()).dot(vectors, x, weight, tile);
            if let Some(bias) = bias {
                add_bias(&bias[tile.columns()], tile);
            }
        }
        _ => reference(x, weight, bias, tile),
    }
}

fn add_bias(bias: &[f32], tile: &mut Tile<'_>) {
    for row in tile.rows() {
        for (out, bias) in tile.row(row).iter_mut().zip(bias) {
            *out += bias;
        }
    }
}

/// The specification, of a tile with the rows `x`. Sums in f64, rounded once.
fn reference(x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, tile: &mut Tile<'_>) {
    let inner = weight.cols();
    scratch::with(&DECODED_ROW, inner, |weight_row| {
        for (i, output) in tile.columns().enumerate() {
            weight.decode_row(output, weight_row);
            let start = bias.map_or(0.0, |bias| f64::from(bias[output]));
            for (t, row) in tile.rows().enumerate() {
                let x_row = &x[t * inner..(t + 1) * inner];
                let products = x_row.iter().zip(&*weight_row).map(|(&x, &w)| f64::from(x) * f64::from(w));
                tile.row(row)[i] = (start + products.sum::<f64>()) as f32;
            }
        }
    });
}
