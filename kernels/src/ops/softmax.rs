//! Groups that sum to 1.

use super::blocks::for_each_group;
use crate::cpu::Vectors;
use crate::cpu::softmax::SoftmaxGroup;

/// `out = exp(x) / Σ exp(x)` for each group of `width` elements. `x` and `out` are `[n, width]`. −∞ has no share; a group
/// with nothing else, with +∞ or with NaN becomes NaN.
///
/// # Panics
/// When `x` is not whole groups, or `out` has another length.
pub fn softmax(x: &[f32], width: usize, out: &mut [f32]) {
    softmax_on(Vectors::current(), x, width, out);
}

/// `out = x / Σ x` for each group of `width` elements, in f64, rounded once. `x` and `out` are `[n, width]`.
///
/// # Panics
/// When `x` is not whole groups, or `out` has another length.
pub fn normalize_sum(x: &[f32], width: usize, out: &mut [f32]) {
    for_each_group(x, width, out, width, |_, x, out| {
        let sum: f64 = x.iter().copied().map(f64::from).sum();
        for (&x, out) in x.iter().zip(out) {
            *out = (f64::from(x) / sum) as f32;
        }
    });
}

pub(crate) fn softmax_on(vectors: Option<Vectors>, x: &[f32], width: usize, out: &mut [f32]) {
    for_each_group(x, width, out, width, |_, x, out| match vectors {
        None => reference(x, out),
        Some(vectors) => vectors.run(SoftmaxGroup { x, out }),
    });
}

/// The specification, of one group: in f64, rounded once.
fn reference(x: &[f32], out: &mut [f32]) {
    let maximum = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |x: f32| (f64::from(x) - f64::from(maximum)).exp();
    let total: f64 = x.iter().copied().map(weight).sum();
    for (&x, out) in x.iter().zip(out) {
        *out = (weight(x) / total) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_sum() {
        let mut out = [f32::NAN; 4];
        normalize_sum(&[1.0, 3.0, -2.0, 1.0], 2, &mut out);
        assert_eq!(out, [0.25, 0.75, 2.0, -1.0]);
        normalize_sum(&[], 2, &mut []);
    }
}
