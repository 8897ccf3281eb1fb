//! Functions of single elements.

use super::math::tanh;
use super::simd::{Kernel, Simd, padded, store_partial};

/// A function of one element.
pub(crate) trait OneOperand: Copy {
    /// Lane by lane.
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32;
}

/// A function of two elements.
pub(crate) trait TwoOperands: Copy {
    /// Lane by lane.
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32;
}

/// `a + b`
#[derive(Clone, Copy)]
pub(crate) struct Add;

/// `a − b`
#[derive(Clone, Copy)]
pub(crate) struct Sub;

/// `a · b`
#[derive(Clone, Copy)]
pub(crate) struct Mul;

/// `a · (offset + b)`
#[derive(Clone, Copy)]
pub(crate) struct ScaleBy {
    pub(crate) offset: f32,
}

/// `x · factor + offset`
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) factor: f32,
    pub(crate) offset: f32,
}

/// `cap · tanh(x / cap)`
#[derive(Clone, Copy)]
pub(crate) struct Softcap {
    pub(crate) cap: f32,
}

impl TwoOperands for Add {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.add(a, b)
    }
}

impl TwoOperands for Sub {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.sub(a, b)
    }
}

impl TwoOperands for Mul {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.mul(a, b)
    }
}

impl TwoOperands for ScaleBy {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.mul(a, simd.add(simd.splat(self.offset), b))
    }
}

impl OneOperand for Affine {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        simd.mul_add(x, simd.splat(self.factor), simd.splat(self.offset))
    }
}

impl OneOperand for Softcap {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let cap = simd.splat(self.cap);
        simd.mul(cap, tanh(simd, simd.div(x, cap)))
    }
}

/// `out[i] = function(x[i])`
pub(crate) struct Map<'a, F> {
    pub(crate) function: F,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl<F: OneOperand> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert_eq!(self.x.len(), self.out.len(), "equally long");
        let (x, x_rest) = S::chunks(self.x);
        let (out, out_rest) = S::chunks_mut(self.out);
        for (x, out) in x.iter().zip(out) {
            simd.store(self.function.apply(simd, simd.load(x)), out);
        }
        if !out_rest.is_empty() {
            let x = simd.load(&padded::<S, _>(x_rest));
            store_partial(simd, self.function.apply(simd, x), out_rest);
        }
    }
}

/// `out[i] = function(a[i], b[i])`
pub(crate) struct Zip<'a, F> {
    pub(crate) function: F,
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl<F: TwoOperands> Kernel for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert!(self.a.len() == self.out.len() && self.b.len() == self.out.len(), "equally long");
        let (a, a_rest) = S::chunks(self.a);
        let (b, b_rest) = S::chunks(self.b);
        let (out, out_rest) = S::chunks_mut(self.out);
        for ((a, b), out) in a.iter().zip(b).zip(out) {
            simd.store(self.function.apply(simd, simd.load(a), simd.load(b)), out);
        }
        if !out_rest.is_empty() {
            let (a, b) = (simd.load(&padded::<S, _>(a_rest)), simd.load(&padded::<S, _>(b_rest)));
            store_partial(simd, self.function.apply(simd, a, b), out_rest);
        }
    }
}
