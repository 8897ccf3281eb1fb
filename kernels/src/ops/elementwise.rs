//! Arithmetic on single elements.

use super::blocks::{for_each_block, for_each_group, for_each_pair_of_blocks};
use crate::cpu::Vectors;
use crate::cpu::elementwise::{Add, Affine, Map, Mul, ScaleBy, Softcap, Sub, Zip};

/// A function of two elements, rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a − b`
    Sub,
    /// `a · b`
    Mul,
}

/// `out = function(a, b)`, element by element.
///
/// # Panics
/// When the lengths differ.
pub fn binary(function: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
    binary_on(Vectors::current(), function, a, b, out);
}

/// `out = x · (offset + gain)` for each group of `gain.len()` elements of `x`; the sum and the product are rounded. `x`
/// and `out` are `[n, gain.len()]`.
///
/// # Panics
/// When `x` is not whole groups, or `out` has another length.
pub fn gain(x: &[f32], gain: &[f32], offset: f32, out: &mut [f32]) {
    gain_on(Vectors::current(), x, gain, offset, out);
}

/// `out = x + shift` for each group of `shift.len()` elements of `x`. `x` and `out` are `[n, shift.len()]`.
///
/// # Panics
/// When `x` is not whole groups, or `out` has another length.
pub fn shift(x: &[f32], shift: &[f32], out: &mut [f32]) {
    shift_on(Vectors::current(), x, shift, out);
}

/// `out = x · factor + offset`, rounded once.
///
/// # Panics
/// When the lengths differ.
pub fn affine(x: &[f32], factor: f32, offset: f32, out: &mut [f32]) {
    affine_on(Vectors::current(), x, factor, offset, out);
}

/// `out = min(max(x, low), high)`; NaN stays.
///
/// # Panics
/// When the lengths differ.
pub fn clamp(x: &[f32], low: f32, high: f32, out: &mut [f32]) {
    for_each_block(x, out, |x, out| {
        for (&x, out) in x.iter().zip(out) {
            let x = if x < low { low } else { x };
            *out = if x > high { high } else { x };
        }
    });
}

/// `out = cap · tanh(x / cap)` (Gemma 2: arXiv:2408.00118, section 2).
///
/// # Panics
/// When the lengths differ.
pub fn softcap(x: &[f32], cap: f32, out: &mut [f32]) {
    softcap_on(Vectors::current(), x, cap, out);
}

pub(crate) fn binary_on(vectors: Option<Vectors>, function: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
    for_each_pair_of_blocks(a, b, out, |a, b, out| match (vectors, function) {
        (None, Binary::Add) => reference::zip(a, b, out, |a, b| a + b),
        (None, Binary::Sub) => reference::zip(a, b, out, |a, b| a - b),
        (None, Binary::Mul) => reference::zip(a, b, out, |a, b| a * b),
        (Some(vectors), Binary::Add) => vectors.run(Zip { function: Add, a, b, out }),
        (Some(vectors), Binary::Sub) => vectors.run(Zip { function: Sub, a, b, out }),
        (Some(vectors), Binary::Mul) => vectors.run(Zip { function: Mul, a, b, out }),
    });
}

pub(crate) fn gain_on(vectors: Option<Vectors>, x: &[f32], gain: &[f32], offset: f32, out: &mut [f32]) {
    for_each_group(x, gain.len(), out, gain.len(), |_, x, out| match vectors {
        None => reference::zip(x, gain, out, |x, gain| x * (offset + gain)),
        Some(vectors) => vectors.run(Zip { function: ScaleBy { offset }, a: x, b: gain, out }),
    });
}

pub(crate) fn shift_on(vectors: Option<Vectors>, x: &[f32], shift: &[f32], out: &mut [f32]) {
    for_each_group(x, shift.len(), out, shift.len(), |_, x, out| match vectors {
        None => reference::zip(x, shift, out, |x, shift| x + shift),
        Some(vectors) => vectors.run(Zip { function: Add, a: x, b: shift, out }),
    });
}

pub(crate) fn affine_on(vectors: Option<Vectors>, x: &[f32], factor: f32, offset: f32, out: &mut [f32]) {
    for_each_block(x, out, |x, out| match vectors {
        None => reference::map(x, out, |x| x.mul_add(factor, offset)),
        Some(vectors) => vectors.run(Map { function: Affine { factor, offset }, x, out }),
    });
}

pub(crate) fn softcap_on(vectors: Option<Vectors>, x: &[f32], cap: f32, out: &mut [f32]) {
    for_each_block(x, out, |x, out| match vectors {
        None => reference::map(x, out, |x| reference::softcap(f64::from(x), cap) as f32),
        Some(vectors) => vectors.run(Map { function: Softcap { cap }, x, out }),
    });
}

/// The specification.
pub(crate) mod reference {
    pub(crate) fn map(x: &[f32], out: &mut [f32], function: impl Fn(f32) -> f32) {
        for (&x, out) in x.iter().zip(out) {
            *out = function(x);
        }
    }

    pub(crate) fn zip(a: &[f32], b: &[f32], out: &mut [f32], function: impl Fn(f32, f32) -> f32) {
        for ((&a, &b), out) in a.iter().zip(b).zip(out) {
            *out = function(a, b);
        }
    }

    pub(crate) fn softcap(x: f64, cap: f32) -> f64 {
        let cap = f64::from(cap);
        cap * (x / cap).tanh()
    }
}
