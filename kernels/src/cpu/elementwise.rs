//! Functions of single elements, and normalization.

use super::simd::{Kernel, Simd, exp, padded, store_partial};

/// A function of one element.
pub(crate) trait Unary: Copy {
    /// Lane by lane.
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32;
}

/// A function of two elements.
pub(crate) trait Binary: Copy {
    /// Lane by lane.
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32;
}

/// `x / (1 + exp(-x))`
#[derive(Clone, Copy)]
pub(crate) struct Silu;

/// `a + b`
#[derive(Clone, Copy)]
pub(crate) struct Add;

/// `a · b`
#[derive(Clone, Copy)]
pub(crate) struct Mul;

/// `silu(a) · b`
#[derive(Clone, Copy)]
pub(crate) struct SiluMul;

impl Unary for Silu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let denominator = simd.add(simd.splat(1.0), exp(simd, simd.sub(simd.splat(0.0), x)));
        simd.div(x, denominator)
    }
}

impl Binary for Add {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.add(a, b)
    }
}

impl Binary for Mul {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.mul(a, b)
    }
}

impl Binary for SiluMul {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.mul(Silu.apply(simd, a), b)
    }
}

/// `out[i] = function(x[i])`
pub(crate) struct Map<'a, F> {
    pub(crate) function: F,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl<F: Unary> Kernel for Map<'_, F> {
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

impl<F: Binary> Kernel for Zip<'_, F> {
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

/// One group of [`crate::ops::rms_norm`].
pub(crate) struct RmsNorm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) gain: Option<&'a [f32]>,
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let [squares] = super::dot::dots::<S, super::dense::Decoded, 1, 1>(simd, [self.x], [self.x])[0];
        let mean = f64::from(squares) / self.x.len() as f64;
        let factor = simd.splat((1.0 / (mean + f64::from(self.eps)).sqrt()) as f32);
        let (x, x_rest) = S::chunks(self.x);
        let (out, out_rest) = S::chunks_mut(self.out);
        let Some(gain) = self.gain else {
            for (x, out) in x.iter().zip(out) {
                simd.store(simd.mul(simd.load(x), factor), out);
            }
            if !out_rest.is_empty() {
                store_partial(simd, simd.mul(simd.load(&padded::<S, _>(x_rest)), factor), out_rest);
            }
            return;
        };
        let (gain, gain_rest) = S::chunks(gain);
        for ((x, gain), out) in x.iter().zip(gain).zip(out) {
            simd.store(simd.mul(simd.mul(simd.load(x), factor), simd.load(gain)), out);
        }
        if !out_rest.is_empty() {
            let (x, gain) = (simd.load(&padded::<S, _>(x_rest)), simd.load(&padded::<S, _>(gain_rest)));
            store_partial(simd, simd.mul(simd.mul(x, factor), gain), out_rest);
        }
    }
}
