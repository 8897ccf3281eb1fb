//! Activation functions: the vector versions of [`crate::ops::Unary`].

use super::elementwise::{OneOperand, TwoOperands};
use super::math::{normal_tail, sigmoid, tanh};
use super::simd::Simd;

/// `x · sigmoid(x)`
#[derive(Clone, Copy)]
pub(crate) struct Silu;

/// `x Φ(x)`
#[derive(Clone, Copy)]
pub(crate) struct Gelu;

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`
#[derive(Clone, Copy)]
pub(crate) struct GeluTanh;

/// `x · sigmoid(1.702 x)`
#[derive(Clone, Copy)]
pub(crate) struct GeluQuick;

/// `max(x, 0)`
#[derive(Clone, Copy)]
pub(crate) struct Relu;

/// `max(x, 0)²`
#[derive(Clone, Copy)]
pub(crate) struct ReluSquared;

/// `1 / (1 + exp(−x))`
#[derive(Clone, Copy)]
pub(crate) struct Sigmoid;

/// The hyperbolic tangent.
#[derive(Clone, Copy)]
pub(crate) struct Tanh;

/// `function(a) · b`
#[derive(Clone, Copy)]
pub(crate) struct Gate<F>(pub(crate) F);

impl OneOperand for Silu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        simd.mul(x, sigmoid(simd, x))
    }
}

impl OneOperand for Gelu {
    /// Φ(x) is the tail beyond |x| for negative x, and 1 minus it for others.
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let zero = simd.splat(0.0);
        let tail = normal_tail(simd, simd.max(simd.sub(zero, x), x));
        simd.mul(x, simd.select_less(x, zero, tail, simd.sub(simd.splat(1.0), tail)))
    }
}

impl OneOperand for GeluTanh {
    /// `(1 + tanh(u)) / 2` is `sigmoid(2u)`.
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        /// 2 √(2/π)
        const FACTOR: f32 = 1.595_769;
        let polynomial = simd.mul_add(simd.mul(x, x), simd.splat(0.044_715), simd.splat(1.0));
        simd.mul(x, sigmoid(simd, simd.mul(simd.mul(x, simd.splat(FACTOR)), polynomial)))
    }
}

impl OneOperand for GeluQuick {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        simd.mul(x, sigmoid(simd, simd.mul(x, simd.splat(1.702))))
    }
}

impl OneOperand for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        simd.max(simd.splat(0.0), x)
    }
}

impl OneOperand for ReluSquared {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let positive = Relu.apply(simd, x);
        simd.mul(positive, positive)
    }
}

impl OneOperand for Sigmoid {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        sigmoid(simd, x)
    }
}

impl OneOperand for Tanh {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        tanh(simd, x)
    }
}

impl<F: OneOperand> TwoOperands for Gate<F> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.mul(self.0.apply(simd, a), b)
    }
}
