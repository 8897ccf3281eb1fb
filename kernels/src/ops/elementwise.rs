//! Functions of single elements.

/// Each group of `gain.len()` elements of `x` times `gain`. `x` and `out` are `[n, gain.len()]`.
///
/// # Panics
/// When `x` is not whole groups, or `out` has another length.
pub fn gain(x: &[f32], gain: &[f32], out: &mut [f32]) {
    assert!(x.len().is_multiple_of(gain.len()), "{} elements are no whole groups of {}", x.len(), gain.len());
    assert_eq!(x.len(), out.len(), "out is as long as x");
    if x.is_empty() {
        return;
    }
    for (x, out) in x.chunks_exact(gain.len()).zip(out.chunks_exact_mut(gain.len())) {
        reference::mul(x, gain, out);
    }
}

/// `out = x / (1 + exp(-x))` (`SiLU`, Swish with β = 1: Ramachandran et al. 2017, arXiv:1710.05941).
///
/// # Panics
/// When the lengths differ.
pub fn silu(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "out is as long as x");
    reference::silu(x, out);
}

/// `out = a + b`.
///
/// # Panics
/// When the lengths differ.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() == out.len() && b.len() == out.len(), "a, b and out are equally long");
    reference::add(a, b, out);
}

/// `out = a · b`.
///
/// # Panics
/// When the lengths differ.
pub fn mul(a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() == out.len() && b.len() == out.len(), "a, b and out are equally long");
    reference::mul(a, b, out);
}

/// `out = silu(gate) · value`.
///
/// # Panics
/// When the lengths differ.
pub fn silu_mul(gate: &[f32], value: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && value.len() == out.len(), "gate, value and out are equally long");
    reference::silu_mul(gate, value, out);
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
