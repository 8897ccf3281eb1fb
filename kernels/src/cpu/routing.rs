//! What chosen experts give, brought together.

use super::simd::{Kernel, Simd, padded, store_partial};

/// One row of [`crate::ops::combine`]: `out = Σ weights[j] · x[j]`.
pub(crate) struct WeightedSum<'a> {
    /// `[weights.len(), out.len()]`
    pub(crate) x: &'a [f32],
    pub(crate) weights: &'a [f32],
    /// Not empty.
    pub(crate) out: &'a mut [f32],
}

impl Kernel for WeightedSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.out.len();
        let (out, out_rest) = S::chunks_mut(self.out);
        let whole = out.len() * S::LANES;
        for (i, out) in out.iter_mut().enumerate() {
            let mut sums = simd.splat(0.0);
            for (weight, x) in self.weights.iter().zip(self.x.chunks_exact(width)) {
                let x = &S::chunks(x).0[i];
                sums = simd.mul_add(simd.splat(*weight), simd.load(x), sums);
            }
            simd.store(sums, out);
        }
        if !out_rest.is_empty() {
            let mut sums = simd.splat(0.0);
            for (weight, x) in self.weights.iter().zip(self.x.chunks_exact(width)) {
                let x = simd.load(&padded::<S, _>(&x[whole..]));
                sums = simd.mul_add(simd.splat(*weight), x, sums);
            }
            store_partial(simd, sums, out_rest);
        }
    }
}
