//! Checks of functions of single elements.

use super::cases::{LENGTHS, Random, sprinkled};
use super::{Comparison, both};
use crate::ops::{Binary, Unary};

/// What a function takes the exponential of, where that has to be computed.
fn exponent(function: Unary, x: f64) -> f64 {
    match function {
        Unary::Gelu => x * x / 2.0,
        Unary::GeluTanh => 2.0 * std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x.powi(3)),
        Unary::GeluQuick => 1.702 * x,
        Unary::Silu | Unary::Relu | Unary::ReluSquared | Unary::Sigmoid | Unary::Tanh => 0.0,
    }
}

/// Functions that are approximated.
pub(super) const SMOOTH: [Unary; 6] =
    [Unary::Silu, Unary::Gelu, Unary::GeluTanh, Unary::GeluQuick, Unary::Sigmoid, Unary::Tanh];

/// Functions that are not.
pub(super) const RELUS: [Unary; 2] = [Unary::Relu, Unary::ReluSquared];

pub(super) fn unary(comparison: &mut Comparison<'_>, functions: &[Unary]) {
    let mut random = Random::new(1);
    for &function in functions {
        for len in LENGTHS {
            let x = sprinkled(&mut random, len);
            let (got, expected) = both(comparison, len, |ops, out| ops.unary(function, x.get(), out));
            comparison.compare(&format!("{function:?} of {len} elements"), &got, &expected, |i| {
                f64::from(expected[i]).abs() * (1.0 + exponent(function, f64::from(x.get()[i])).abs())
            });
        }
    }
}

pub(super) fn gated(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(2);
    for function in SMOOTH.into_iter().chain(RELUS) {
        for len in LENGTHS {
            let (gate, mut value) = (sprinkled(&mut random, len), sprinkled(&mut random, len));
            value.get_mut().iter_mut().filter(|value| value.is_infinite()).for_each(|value| *value = f32::MAX);
            let (got, expected) = both(comparison, len, |ops, out| {
                ops.gated(function, gate.get(), value.get(), out);
            });
            comparison.compare(&format!("{function:?} of {len} elements"), &got, &expected, |i| {
                let factor = 1.0 + exponent(function, f64::from(gate.get()[i])).abs();
                (f64::from(expected[i]).abs() * factor).max(2f64.powi(-96) * f64::from(value.get()[i]).abs())
            });
        }
    }
}

pub(super) fn binary(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(3);
    for function in [Binary::Add, Binary::Sub, Binary::Mul] {
        for len in LENGTHS {
            let (a, b) = (sprinkled(&mut random, len), sprinkled(&mut random, len));
            let (got, expected) = both(comparison, len, |ops, out| {
                ops.binary(function, a.get(), b.get(), out);
            });
            comparison.compare(&format!("{function:?} of {len} elements"), &got, &expected, |_| 0.0);
        }
    }
}

pub(super) fn affine(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(8);
    for (factor, offset) in [(1.0, 0.0), (0.3, -0.7), (-1.0e30, 1.0), (1.0e-30, -0.0)] {
        for len in LENGTHS {
            let x = sprinkled(&mut random, len);
            let (got, expected) = both(comparison, len, |ops, out| {
                ops.affine(x.get(), factor, offset, out);
            });
            comparison.compare(&format!("{len} elements by {factor:e} and {offset:e}"), &got, &expected, |_| 0.0);
        }
    }
}

pub(super) fn softcap(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(9);
    for cap in [1.0e-3, 1.0, 30.0, 1.0e30] {
        for len in LENGTHS {
            let x = sprinkled(&mut random, len);
            let (got, expected) = both(comparison, len, |ops, out| ops.softcap(x.get(), cap, out));
            comparison
                .compare(&format!("{len} elements, cap {cap:e}"), &got, &expected, |i| f64::from(expected[i]).abs());
        }
    }
}
