//! Normalization of groups.

use super::blocks::for_each_group;
use crate::cpu::Vectors;
use crate::cpu::norm::{Centre, NormGroup};

/// What groups are normalized by: `RMSNorm` (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4), or with `centre`
/// `LayerNorm` (Ba et al. 2016, arXiv:1607.06450, equation 4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm<'a> {
    /// Elements of a group.
    pub width: usize,
    /// Added to the mean of the squares.
    pub eps: f32,
    /// Whether the mean is subtracted first.
    pub centre: bool,
    /// Factors, `[width]`; 1 without them.
    pub gain: Option<&'a [f32]>,
    /// Added to each element of `gain`, where there is one.
    pub gain_offset: f32,
    /// Added at the end, `[width]`.
    pub shift: Option<&'a [f32]>,
}

/// `out = c / sqrt(mean(c²) + eps) · (gain_offset + gain) + shift` for each group of `x`, where c is x, or with `centre`
/// `x − mean(x)`. `x` and `out` are `[n, width]`.
///
/// # Panics
/// When `x` is not whole groups, or the gain, the shift or `out` has another length.
///
/// ```
/// use lathe_kernels::ops::{Norm, norm};
///
/// let layer_norm =
///     Norm { width: 2, eps: 0.0, centre: true, gain: Some(&[1.0, 2.0]), gain_offset: 1.0, shift: Some(&[0.5, 0.5]) };
/// let mut out = [0.0; 2];
/// norm(&[1.0, 5.0], &layer_norm, &mut out);
/// assert_eq!(out, [-1.5, 3.5]);
/// ```
pub fn norm(x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
    norm_on(Vectors::current(), x, norm, out);
}

/// `out = x − mean(x)` for each group of `width` elements. `x` and `out` are `[n, width]`.
///
/// # Panics
/// When `x` is not whole groups, or `out` has another length.
pub fn centre(x: &[f32], width: usize, out: &mut [f32]) {
    centre_on(Vectors::current(), x, width, out);
}

pub(crate) fn norm_on(vectors: Option<Vectors>, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
    let width = norm.width;
    assert!(norm.gain.is_none_or(|gain| gain.len() == width), "gain has {width} elements");
    assert!(norm.shift.is_none_or(|shift| shift.len() == width), "shift has {width} elements");
    for_each_group(x, width, out, width, |_, x, out| match vectors {
        None => reference::norm(x, norm, out),
        Some(vectors) => vectors.run(NormGroup { x, norm, out }),
    });
}

pub(crate) fn centre_on(vectors: Option<Vectors>, x: &[f32], width: usize, out: &mut [f32]) {
    for_each_group(x, width, out, width, |_, x, out| match vectors {
        None => reference::centre(x, out),
        Some(vectors) => vectors.run(Centre { x, out }),
    });
}

/// The specification, of one group: in f64, rounded once.
mod reference {
    use super::Norm;

    pub(super) fn norm(x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
        let mean = if norm.centre { mean(x) } else { 0.0 };
        let squares: f64 = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
        let factor = 1.0 / (squares / x.len() as f64 + f64::from(norm.eps)).sqrt();
        for (i, (&x, out)) in x.iter().zip(out).enumerate() {
            let gain = norm.gain.map_or(1.0, |gain| f64::from(norm.gain_offset) + f64::from(gain[i]));
            let shift = norm.shift.map_or(0.0, |shift| f64::from(shift[i]));
            *out = ((f64::from(x) - mean) * factor * gain + shift) as f32;
        }
    }

    pub(super) fn centre(x: &[f32], out: &mut [f32]) {
        let mean = mean(x);
        for (&x, out) in x.iter().zip(out) {
            *out = (f64::from(x) - mean) as f32;
        }
    }

    fn mean(x: &[f32]) -> f64 {
        x.iter().copied().map(f64::from).sum::<f64>() / x.len() as f64
    }
}
