//! Functions of single elements.

use crate::cpu::Vectors;
use crate::cpu::elementwise::{Add, Binary, Map, Mul, Silu, SiluMul, Zip};
use rayon::prelude::*;

/// Elements that a task takes; less than two tasks' worth is not split.
const BLOCK: usize = 1 << 14;

/// Each group of `gain.len()` elements of `x` times `gain`. `x` and `out` are `[n, gain.len()]`.
///
/// # Panics
/// When `x` is not whole groups, or `out` has another length.
pub fn gain(x: &[f32], gain: &[f32], out: &mut [f32]) {
    gain_on(Vectors::current(), x, gain, out);
}

/// `out = x / (1 + exp(-x))` (`SiLU`, Swish with β = 1: Ramachandran et al. 2017, arXiv:1710.05941).
///
/// # Panics
/// When the lengths differ.
pub fn silu(x: &[f32], out: &mut [f32]) {
    silu_on(Vectors::current(), x, out);
}

/// `out = a + b`.
///
/// # Panics
/// When the lengths differ.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    add_on(Vectors::current(), a, b, out);
}

/// `out = a · b`.
///
/// # Panics
/// When the lengths differ.
pub fn mul(a: &[f32], b: &[f32], out: &mut [f32]) {
    mul_on(Vectors::current(), a, b, out);
}

/// `out = silu(gate) · value`.
///
/// # Panics
/// When the lengths differ.
pub fn silu_mul(gate: &[f32], value: &[f32], out: &mut [f32]) {
    silu_mul_on(Vectors::current(), gate, value, out);
}

pub(crate) fn gain_on(vectors: Option<Vectors>, x: &[f32], gain: &[f32], out: &mut [f32]) {
    assert!(x.len().is_multiple_of(gain.len()), "{} elements are no whole groups of {}", x.len(), gain.len());
    assert_eq!(x.len(), out.len(), "out is as long as x");
    if x.is_empty() {
        return;
    }
    let groups = BLOCK.div_ceil(gain.len());
    out.par_chunks_mut(groups * gain.len()).zip(x.par_chunks(groups * gain.len())).for_each(|(out, x)| {
        for (x, out) in x.chunks_exact(gain.len()).zip(out.chunks_exact_mut(gain.len())) {
            match vectors {
                None => reference::mul(x, gain, out),
                Some(vectors) => vectors.run(Zip { function: Mul, a: x, b: gain, out }),
            }
        }
    });
}

pub(crate) fn silu_on(vectors: Option<Vectors>, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "out is as long as x");
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| match vectors {
        None => reference::silu(x, out),
        Some(vectors) => vectors.run(Map { function: Silu, x, out }),
    });
}

pub(crate) fn add_on(vectors: Option<Vectors>, a: &[f32], b: &[f32], out: &mut [f32]) {
    binary(vectors, Add, reference::add, a, b, out);
}

pub(crate) fn mul_on(vectors: Option<Vectors>, a: &[f32], b: &[f32], out: &mut [f32]) {
    binary(vectors, Mul, reference::mul, a, b, out);
}

pub(crate) fn silu_mul_on(vectors: Option<Vectors>, gate: &[f32], value: &[f32], out: &mut [f32]) {
    binary(vectors, SiluMul, reference::silu_mul, gate, value, out);
}

fn binary(
    vectors: Option<Vectors>,
    function: impl Binary + Send + Sync,
    reference: fn(&[f32], &[f32], &mut [f32]),
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
) {
    assert!(a.len() == out.len() && b.len() == out.len(), "operands and out are equally long");
    out.par_chunks_mut(BLOCK).zip(a.par_chunks(BLOCK)).zip(b.par_chunks(BLOCK)).for_each(
        |((out, a), b)| match vectors {
            None => reference(a, b, out),
            Some(vectors) => vectors.run(Zip { function, a, b, out }),
        },
    );
}

/// The specification: through f64, rounded once.
pub(crate) mod reference {
    fn silu_of(x: f32) -> f64 {
        f64::from(x) / (1.0 + (-f64::from(x)).exp())
    }

    pub(crate) fn silu(x: &[f32], out: &mut [f32]) {
        for (&x, out) in x.iter().zip(out) {
            *out = silu_of(x) as f32;
        }
    }

    pub(crate) fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
        for ((&a, &b), out) in a.iter().zip(b).zip(out) {
            *out = a + b;
        }
    }

    pub(crate) fn mul(a: &[f32], b: &[f32], out: &mut [f32]) {
        for ((&a, &b), out) in a.iter().zip(b).zip(out) {
            *out = a * b;
        }
    }

    pub(crate) fn silu_mul(gate: &[f32], value: &[f32], out: &mut [f32]) {
        for ((&gate, &value), out) in gate.iter().zip(value).zip(out) {
            *out = (silu_of(gate) * f64::from(value)) as f32;
        }
    }
}
