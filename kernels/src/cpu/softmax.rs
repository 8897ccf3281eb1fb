//! Softmax of one group.

use super::math::exp;
use super::simd::{Kernel, Simd, padded_with, store_partial};

/// One group of [`crate::ops::softmax`].
pub(crate) struct SoftmaxGroup<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for SoftmaxGroup<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (x, x_rest) = S::chunks(self.x);
        let (out, out_rest) = S::chunks_mut(self.out);
        let x_rest = simd.load(&padded_with::<S, _>(x_rest, f32::NEG_INFINITY));

        let mut maxima = x_rest;
        for x in x {
            maxima = simd.max(maxima, simd.load(x));
        }
        let maximum = simd.splat(simd.maximum(maxima));

        // Padding has the weight 0, or NaN where everything has.
        let rest = exp(simd, simd.sub(x_rest, maximum));
        let mut totals = rest;
        for (x, out) in x.iter().zip(&mut *out) {
            let weight = exp(simd, simd.sub(simd.load(x), maximum));
            totals = simd.add(totals, weight);
            simd.store(weight, out);
        }
        let total = simd.splat(simd.sum(totals));

        for out in out {
            simd.store(simd.div(simd.load(out), total), out);
        }
        store_partial(simd, simd.div(rest, total), out_rest);
    }
}
