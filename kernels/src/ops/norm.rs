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
    /// Whether the mean is subtracted first, or the part along `along`.
    pub centre: bool,
    /// A unit vector, `[width]`, for rows that are rotated: what taking the mean off becomes there. Only with `centre`.
    pub along: Option<&'a [f32]>,
    /// Factors, `[width]`; 1 without them.
    pub gain: Option<&'a [f32]>,
    /// Added to each element of `gain`, where there is one.
    pub gain_offset: f32,
    /// Added at the end, `[width]`.
    pub shift: Option<&'a [f32]>,
}

/// `out = c / sqrt(mean(c²) + eps) · (gain_offset + gain) + shift` for each group of `x`, where c is x, or with `centre`
/// that of [`centre`]. `x` and `out` are `[n, width]`.
///
/// # Panics
/// When `x` is not whole groups, the vector, the gain, the shift or `out` has another length, or there is a vector but no
/// `centre`.
///
/// ```
/// use lathe_kernels::ops::{Norm, norm};
///
/// let layer_norm =
///     Norm { width: 2, eps: 0.0, centre: true, along: None, gain: Some(&[1.0, 2.0]), gain_offset: 1.0, shift: Some(&[0.5; 2]) };
/// let mut out = [0.0; 2];
/// norm(&[1.0, 5.0], &layer_norm, &mut out);
/// assert_eq!(out, [-1.5, 3.5]);
/// ```
pub fn norm(x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
    norm_on(Vectors::current(), x, norm, out);
}

/// `out = x − mean(x)` for each group of `width` elements, or with a unit vector u = `along`, `[width]`,
/// `out = x − (x · u) u`. That is the same in rows that are rotated, x' = x Q, where u = 1 Q / √width. `x` and `out` are
/// `[n, width]`.
///
/// # Panics
/// When `x` is not whole groups, or the vector or `out` has another length.
///
/// ```
/// use lathe_kernels::ops;
///
/// let mut out = [0.0; 2];
/// ops::centre(&[1.0, 5.0], 2, Some(&[0.6, -0.8]), &mut out);
/// assert!((out[0] - 3.04).abs() < 1e-6 && (out[1] - 2.28).abs() < 1e-6);
/// ```
pub fn centre(x: &[f32], width: usize, along: Option<&[f32]>, out: &mut [f32]) {
    centre_on(Vectors::current(), x, width, along, out);
}

pub(crate) fn norm_on(vectors: Option<Vectors>, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
    let width = norm.width;
    assert!(norm.centre || norm.along.is_none(), "nothing is taken off along a vector without centre");
    assert!(norm.along.is_none_or(|along| along.len() == width), "the vector has {width} elements");
    assert!(norm.gain.is_none_or(|gain| gain.len() == width), "gain has {width} elements");
    assert!(norm.shift.is_none_or(|shift| shift.len() == width), "shift has {width} elements");
    for_each_group(x, width, out, width, |_, x, out| match vectors {
        None => reference::norm(x, norm, out),
        Some(vectors) => vectors.run(NormGroup { x, norm, out }),
    });
}

pub(crate) fn centre_on(vectors: Option<Vectors>, x: &[f32], width: usize, along: Option<&[f32]>, out: &mut [f32]) {
    assert!(along.is_none_or(|along| along.len() == width), "the vector has {width} elements");
    for_each_group(x, width, out, width, |_, x, out| match vectors {
        None => reference::centre(x, along, out),
        Some(vectors) => vectors.run(Centre { x, along, out }),
    });
}

/// The specification, of one group: in f64, rounded once.
mod reference {
    use super::Norm;

    pub(super) fn norm(x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
        let part = if norm.centre { part(x, norm.along) } else { 0.0 };
        let centred = |i: usize| less(x, part, norm.along, i);
        let squares: f64 = (0..x.len()).map(|i| centred(i) * centred(i)).sum();
        let factor = 1.0 / (squares / x.len() as f64 + f64::from(norm.eps)).sqrt();
        for (i, out) in out.iter_mut().enumerate() {
            let gain = norm.gain.map_or(1.0, |gain| f64::from(norm.gain_offset) + f64::from(gain[i]));
            let shift = norm.shift.map_or(0.0, |shift| f64::from(shift[i]));
            *out = (centred(i) * factor * gain + shift) as f32;
        }
    }

    pub(super) fn centre(x: &[f32], along: Option<&[f32]>, out: &mut [f32]) {
        let part = part(x, along);
        for (i, out) in out.iter_mut().enumerate() {
            *out = less(x, part, along, i) as f32;
        }
    }

    /// The mean, or the length of the part along the vector.
    fn part(x: &[f32], along: Option<&[f32]>) -> f64 {
        match along {
            None => x.iter().copied().map(f64::from).sum::<f64>() / x.len() as f64,
            Some(along) => x.iter().zip(along).map(|(&x, &u)| f64::from(x) * f64::from(u)).sum(),
        }
    }

    /// Element `i` less that part.
    fn less(x: &[f32], part: f64, along: Option<&[f32]>, i: usize) -> f64 {
        f64::from(x[i]) - part * along.map_or(1.0, |along| f64::from(along[i]))
    }
}
