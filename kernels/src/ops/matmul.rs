//! Product of activations with a packed weight.

use crate::formats::Matrix;
use crate::scratch::{self, Scratch};

thread_local! {
    static DECODED_ROW: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

/// `out = x Wᵀ + bias`: `x` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]`, `out` `[rows, out]`.
///
/// # Panics
/// When `x` is not whole rows of `weight.cols`, or `bias` or `out` has another length. Where `weight.cols` is 0, the
/// number of rows is that of `out`.
pub fn matmul(x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
    check_lengths(x, weight, bias, out);
    reference(x, weight, bias, out);
}

fn check_lengths(x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &[f32]) {
    let (outputs, inner) = (weight.rows(), weight.cols());
    assert!(x.len().is_multiple_of(inner.max(1)), "x has {} elements, rows of {weight:?} have {inner}", x.len());
    let rows = x.len().checked_div(inner).unwrap_or(out.len() / outputs.max(1));
    assert_eq!(out.len(), rows * outputs, "out is {rows} rows times {weight:?}");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "bias of {weight:?}");
    }
}

/// Sums in f64, rounded once.
pub(crate) fn reference(x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
    let (outputs, inner) = (weight.rows(), weight.cols());
    scratch::with(&DECODED_ROW, inner, |weight_row| {
        for output in 0..outputs {
            weight.decode_row(output, weight_row);
            let start = bias.map_or(0.0, |bias| f64::from(bias[output]));
            for (row, out) in out.chunks_exact_mut(outputs).enumerate() {
                let x_row = &x[row * inner..(row + 1) * inner];
                let products = x_row.iter().zip(&*weight_row).map(|(&x, &w)| f64::from(x) * f64::from(w));
                out[output] = (start + products.sum::<f64>()) as f32;
            }
        }
    });
}
