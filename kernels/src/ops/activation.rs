//! Activation functions, alone and as gates.

use super::blocks::{for_each_block, for_each_pair_of_blocks};
use super::elementwise::reference as elements;
use crate::cpu::Vectors;
use crate::cpu::activation::{Gate, Gelu, GeluQuick, GeluTanh, Relu, ReluSquared, Sigmoid, Silu, Tanh};
use crate::cpu::elementwise::{Map, Zip};

/// A function of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unary {
    /// `x / (1 + exp(−x))` (Swish with β = 1: Ramachandran et al. 2017, arXiv:1710.05941).
    Silu,
    /// `x Φ(x) = x/2 · (1 + erf(x/√2))` (Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2).
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))` (same place).
    GeluTanh,
    /// `x / (1 + exp(−1.702 x))` (same place).
    GeluQuick,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)²` (So et al. 2021, arXiv:2109.08668, section 4).
    ReluSquared,
    /// `1 / (1 + exp(−x))`
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

/// `out = function(x)`, element by element.
///
/// # Panics
/// When the lengths differ.
pub fn unary(function: Unary, x: &[f32], out: &mut [f32]) {
    unary_on(Vectors::current(), function, x, out);
}

/// `out = function(gate) · value` (Shazeer 2020, arXiv:2002.05202, section 2).
///
/// # Panics
/// When the lengths differ.
pub fn gated(function: Unary, gate: &[f32], value: &[f32], out: &mut [f32]) {
    gated_on(Vectors::current(), function, gate, value, out);
}

/// The expression `$body` with the vector version of `$function` for `$vectorized`.
macro_rules! with_vectorized {
    ($function:expr, |$vectorized:ident| $body:expr) => {
        match $function {
            Unary::Silu => with_vectorized!(@ Silu, $vectorized, $body),
            Unary::Gelu => with_vectorized!(@ Gelu, $vectorized, $body),
            Unary::GeluTanh => with_vectorized!(@ GeluTanh, $vectorized, $body),
            Unary::GeluQuick => with_vectorized!(@ GeluQuick, $vectorized, $body),
            Unary::Relu => with_vectorized!(@ Relu, $vectorized, $body),
            Unary::ReluSquared => with_vectorized!(@ ReluSquared, $vectorized, $body),
            Unary::Sigmoid => with_vectorized!(@ Sigmoid, $vectorized, $body),
            Unary::Tanh => with_vectorized!(@ Tanh, $vectorized, $body),
        }
    };
    (@ $value:ident, $vectorized:ident, $body:expr) => {{
        let $vectorized = $value;
        $body
    }};
}

pub(crate) fn unary_on(vectors: Option<Vectors>, function: Unary, x: &[f32], out: &mut [f32]) {
    for_each_block(x, out, |x, out| match vectors {
        None => elements::map(x, out, |x| reference(function, f64::from(x)) as f32),
        Some(vectors) => with_vectorized!(function, |function| vectors.run(Map { function, x, out })),
    });
}

pub(crate) fn gated_on(vectors: Option<Vectors>, function: Unary, gate: &[f32], value: &[f32], out: &mut [f32]) {
    for_each_pair_of_blocks(gate, value, out, |a, b, out| match vectors {
        None => elements::zip(a, b, out, |a, b| (reference(function, f64::from(a)) * f64::from(b)) as f32),
        Some(vectors) => {
            with_vectorized!(function, |function| vectors.run(Zip { function: Gate(function), a, b, out }));
        }
    });
}

/// The specification. The forms that [`Unary`] gives lose digits for negative x; these are equal to them and do not.
fn reference(function: Unary, x: f64) -> f64 {
    match function {
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Gelu => x / 2.0 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        Unary::GeluTanh => {
            let argument = std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x.powi(3));
            x / (1.0 + (-2.0 * argument).exp())
        }
        Unary::GeluQuick => x / (1.0 + (-1.702 * x).exp()),
        Unary::Relu => relu(x),
        Unary::ReluSquared => relu(x) * relu(x),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Tanh => x.tanh(),
    }
}

fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}
