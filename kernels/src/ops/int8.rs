//! Products in integers: rows of activations that are rounded to int8 as they come, times int8 weights.
//!
//! ```text
//! s[r]    = max |x[r, ·]| / 127                                     f32
//! q[r, i] = x[r, i] / s[r], to the nearest integer, ties to even, within ±127
//! out[r, o] = (f32(Σ_i q[r, i] · w[o, i]) · s[r]) · v[o] + bias[o]
//! ```
//!
//! w are the codes of a weight and v its scales, one for each row. The sum is exact; its conversion, the two products, in
//! this order, and the bias each round once. So every version gives the same bits (scales per token and per channel: Xiao et
//! al. 2023, arXiv:2211.10438, §3).

use crate::cpu::Vectors;
use crate::cpu::int8::{Int8Tile, QuantizeRow};
use crate::formats::{Granularity, Matrix};
use crate::scratch::{self, Scratch};
use crate::tiles::{Tile, for_each_tile};
use rayon::prelude::*;

use super::matmul::{column_block, is_parallel};

/// Most elements of a row: the sum of so many products of codes, at most 2¹⁴ each, is at most 2³⁰ and so an i32.
pub const MAX_INT8_INNER: usize = 1 << 16;

/// Largest code.
pub(crate) const LARGEST: f32 = 127.0;

/// Elements of x that a task rounds.
const BLOCK_ELEMENTS: usize = 1 << 14;

/// Rows of activations of a tile.
const ROWS: usize = 64;

thread_local! {
    static CODES: Scratch<i8> = const { Scratch::new(Vec::new()) };
    static SCALES: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

/// Rounds each row of `x`, `[rows, width]`, to `codes` `[rows, width]` times `scales` `[rows]`.
///
/// A row whose scale is 0, as it holds zeros or numbers below 2⁻¹⁴³ only, has the codes 0. One that holds a number that is not
/// finite has the codes 0 and the scale NaN, so that all of its products are NaN.
///
/// # Panics
/// When the lengths do not fit together.
///
/// ```
/// let (mut codes, mut scales) = ([0; 4], [0.0; 2]);
/// lathe_kernels::ops::quantize_rows(&[1.0, -127.0, 0.0, 254.0], 2, &mut codes, &mut scales);
/// assert_eq!((codes, scales), ([1, -127, 0, 127], [1.0, 2.0]));
/// ```
pub fn quantize_rows(x: &[f32], width: usize, codes: &mut [i8], scales: &mut [f32]) {
    quantize_rows_on(Vectors::current(), x, width, codes, scales);
}

pub(crate) fn quantize_rows_on(
    vectors: Option<Vectors>,
    x: &[f32],
    width: usize,
    codes: &mut [i8],
    scales: &mut [f32],
) {
    assert_eq!(x.len(), scales.len() * width, "x is {} rows of {width}", scales.len());
    assert_eq!(codes.len(), x.len(), "codes of {} elements", x.len());
    if width == 0 {
        scales.fill(0.0);
        return;
    }
    let rows = x.par_chunks_exact(width).zip(codes.par_chunks_exact_mut(width)).zip(scales);
    rows.with_min_len(BLOCK_ELEMENTS.div_ceil(width)).for_each(|((x, codes), scale)| {
        *scale = match vectors {
            Some(vectors) => vectors.run(QuantizeRow { x, codes }),
            None => quantize_row(x, codes),
        };
    });
}

/// The specification, of a row. Gives its scale.
fn quantize_row(x: &[f32], codes: &mut [i8]) -> f32 {
    if !x.iter().all(|x| x.is_finite()) {
        codes.fill(0);
        return f32::NAN;
    }
    let scale = x.iter().fold(0.0, |largest: f32, x| largest.max(x.abs())) / LARGEST;
    if scale == 0.0 {
        codes.fill(0);
        return scale;
    }
    for (code, x) in codes.iter_mut().zip(x) {
        *code = (x / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8;
    }
    scale
}

/// `out = x Wᵀ + bias` for x as [`quantize_rows`] has rounded it: `codes` `[rows, in]`, `scales` `[rows]`, `weight`
/// `[out, in]` of int8, symmetric, with a scale for each row, `bias` `[out]`, `out` `[rows, out]`.
///
/// # Panics
/// When the weight has another format or rows of more than [`MAX_INT8_INNER`], or the lengths do not fit together.
pub fn matmul_int8(codes: &[i8], scales: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
    matmul_int8_on(Vectors::current(), codes, scales, weight, bias, out);
}

pub(crate) fn matmul_int8_on(
    vectors: Option<Vectors>,
    codes: &[i8],
    scales: &[f32],
    weight: &Matrix<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (rows, outputs, inner) = (scales.len(), weight.rows(), weight.cols());
    assert_weight(weight);
    assert_eq!(codes.len(), rows * inner, "codes are {rows} rows of {inner}");
    assert_eq!(out.len(), rows * outputs, "out is {rows} rows times {weight:?}");
    assert!(bias.is_none_or(|bias| bias.len() == outputs), "bias of {weight:?}");
    let parallel = is_parallel(rows, outputs, inner);
    for_each_tile(out, outputs, ROWS, column_block(inner), parallel, |mut tile| {
        let rows = tile.rows();
        let codes = &codes[rows.start * inner..rows.end * inner];
        write_tile(vectors, codes, &scales[rows], weight, bias, &mut tile);
    });
}

/// [`quantize_rows`], then [`matmul_int8`]: `x` is `[rows, in]`.
///
/// # Panics
/// As these.
pub fn quantized_matmul(x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
    quantized_matmul_on(Vectors::current(), x, weight, bias, out);
}

pub(crate) fn quantized_matmul_on(
    vectors: Option<Vectors>,
    x: &[f32],
    weight: &Matrix<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let rows = x.len().checked_div(weight.cols()).unwrap_or(out.len() / weight.rows().max(1));
    with_codes(vectors, x, weight.cols(), rows, |codes, scales| {
        matmul_int8_on(vectors, codes, scales, weight, bias, out);
    });
}

/// Calls `body` with codes and scales of the `rows` rows of `x`.
pub(super) fn with_codes(
    vectors: Option<Vectors>,
    x: &[f32],
    width: usize,
    rows: usize,
    body: impl FnOnce(&[i8], &[f32]),
) {
    scratch::with(&CODES, x.len(), |codes| {
        scratch::with(&SCALES, rows, |scales| {
            quantize_rows_on(vectors, x, width, codes, scales);
            body(codes, scales);
        });
    });
}

/// That a weight is one for these products.
pub(super) fn assert_weight(weight: &Matrix<'_>) {
    let parameters = weight.format().parameters();
    let is_int8 = weight.format().name() == "int8" && parameters.symmetric;
    assert!(is_int8 && parameters.granularity == Granularity::Channel, "{weight:?} is no int8(per: channel)");
    assert!(weight.cols() <= MAX_INT8_INNER, "rows of {weight:?} are at most {MAX_INT8_INNER}");
}

/// A tile of a product; `codes` and `scales` are those of the tile's rows.
pub(super) fn write_tile(
    vectors: Option<Vectors>,
    codes: &[i8],
    scales: &[f32],
    weight: &Matrix<'_>,
    bias: Option<&[f32]>,
    tile: &mut Tile<'_>,
) {
    match vectors {
        Some(vectors) => vectors.run(Int8Tile { codes, scales, weight, bias, tile }),
        None => reference(codes, scales, weight, bias, tile),
    }
}

/// What a sum of products of codes stands for: the scale of the row first, then that of the channel, then the bias.
pub(crate) fn scaled(sum: i32, scale: f32, channel: f32, bias: Option<f32>) -> f32 {
    let product = sum as f32 * scale * channel;
    bias.map_or(product, |bias| product + bias)
}

/// The specification, of a tile with these rows.
fn reference(codes: &[i8], scales: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, tile: &mut Tile<'_>) {
    let inner = weight.cols();
    let dtype = weight.format().parameters().scales;
    for (i, output) in tile.columns().enumerate() {
        let weight_row = &weight.plane(0)[output * inner..][..inner];
        let channel = dtype.read(weight.plane(1), output);
        for (t, row) in tile.rows().enumerate() {
            let pairs = codes[t * inner..][..inner].iter().zip(weight_row);
            let sum: i32 = pairs.map(|(&code, &weight)| i32::from(code) * i32::from(weight as i8)).sum();
            tile.row(row)[i] = scaled(sum, scales[t], channel, bias.map(|bias| bias[output]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Fit, Format};

    /// The codes of `row`, and its scale.
    fn quantized<const N: usize>(row: [f32; N]) -> ([i8; N], f32) {
        let (mut codes, mut scales) = ([99; N], [f32::INFINITY]);
        quantize_rows(&row, N, &mut codes, &mut scales);
        (codes, scales[0])
    }

    #[test]
    fn rows_are_rounded_to_the_nearest_ties_to_even() {
        assert_eq!(quantized([127.0, 0.5, 1.5, -2.5, 2.6, -0.4]), ([127, 0, 2, -2, 3, 0], 1.0));
        assert_eq!(quantized([-0.0, 0.0]), ([0, 0], 0.0));
        assert_eq!(quantized([f32::MAX, f32::MIN]).0, [127, -127]);
        // A subnormal scale is too small by up to a half of itself.
        assert_eq!(quantized([f32::from_bits(180), f32::from_bits(60)]), ([127, 60], f32::from_bits(1)));
        assert_eq!(quantized([f32::from_bits(63), 0.0]), ([0, 0], 0.0));
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (codes, scale) = quantized([1.0, special, 2.0]);
            assert!(codes == [0; 3] && scale.is_nan(), "{special}");
        }
    }

    #[test]
    fn products_are_scaled_in_the_stated_order() {
        let format: Format = "int8(per: channel, scales: f32)".parse().unwrap();
        let (mut codes, mut scales) = ([0; 4], [0; 8]);
        format.encode(Fit::Absmax, &[1.0, -0.5, 3.0, 3.0], 2, &mut [&mut codes, &mut scales]);
        let weight = Matrix::new(format, 2, 2, &[&codes, &scales]).unwrap();
        let mut out = [f32::NAN; 4];
        matmul_int8(&[127, -3, 0, 1], &[0.1, f32::NAN], &weight, Some(&[0.25, 1e9]), &mut out);
        let channel = |row: usize| f32::from_le_bytes(scales.as_chunks().0[row]);
        let sum = |row: usize| 127 * i32::from(codes[2 * row] as i8) - 3 * i32::from(codes[2 * row + 1] as i8);
        assert_eq!(out[0], ((sum(0) as f32) * 0.1) * channel(0) + 0.25);
        assert_eq!(out[1], ((sum(1) as f32) * 0.1) * channel(1) + 1e9);
        assert!(out[2].is_nan() && out[3].is_nan());

        let mut of_rows = [f32::NAN; 2];
        let x = [0.3, -0.7];
        quantized_matmul(&x, &weight, None, &mut of_rows);
        let (codes, scale) = quantized(x);
        let mut out = [f32::NAN; 2];
        matmul_int8(&codes, &[scale], &weight, None, &mut out);
        assert_eq!(out, of_rows);
    }

    #[test]
    #[should_panic(expected = "int8(per: channel, symmetric: false)[1, 2] is no int8(per: channel)")]
    fn other_formats_are_refused() {
        let format: Format = "int8(per: channel, symmetric: false)".parse().unwrap();
        let weight = Matrix::new(format, 1, 2, &[&[0; 2], &[0; 2], &[0; 1]]).unwrap();
        matmul_int8(&[1, 2], &[1.0], &weight, None, &mut [0.0]);
    }

    #[test]
    #[should_panic(expected = "are at most 65536")]
    fn rows_whose_sums_may_not_fit_are_refused() {
        let plane = vec![0; MAX_INT8_INNER + 1];
        let format: Format = "int8(per: channel)".parse().unwrap();
        let weight = Matrix::new(format, 1, plane.len(), &[&plane, &[0; 2]]).unwrap();
        quantized_matmul(&vec![1.0; plane.len()], &weight, None, &mut [0.0]);
    }
}
