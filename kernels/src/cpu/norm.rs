//! Normalization of one group.

use super::simd::{Kernel, Simd, padded, padded_with, store_partial};
use crate::ops::Norm;

/// One group of [`crate::ops::norm`].
pub(crate) struct NormGroup<'a> {
    /// Not empty.
    pub(crate) x: &'a [f32],
    pub(crate) norm: &'a Norm<'a>,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for NormGroup<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match (self.norm.gain.is_some(), self.norm.shift.is_some()) {
            (false, false) => self.with::<S, false, false>(simd),
            (false, true) => self.with::<S, false, true>(simd),
            (true, false) => self.with::<S, true, false>(simd),
            (true, true) => self.with::<S, true, true>(simd),
        }
    }
}

impl NormGroup<'_> {
    /// `GAIN` and `SHIFT` say whether there are some.
    #[inline(always)]
    fn with<S: Simd, const GAIN: bool, const SHIFT: bool>(self, simd: S) {
        let mean = if self.norm.centre { mean(simd, self.x) } else { 0.0 };
        let variance = f64::from(total::<S, true>(simd, self.x, mean)) / self.x.len() as f64;
        let factor = simd.splat((1.0 / (variance + f64::from(self.norm.eps)).sqrt()) as f32);
        let (mean, offset) = (simd.splat(mean), simd.splat(self.norm.gain_offset));

        let (x, x_rest) = S::chunks(self.x);
        let (out, out_rest) = S::chunks_mut(self.out);
        let (gain, gain_rest) = S::chunks(self.norm.gain.unwrap_or_default());
        let (shift, shift_rest) = S::chunks(self.norm.shift.unwrap_or_default());
        for i in 0..x.len() {
            let mut y = simd.mul(simd.sub(simd.load(&x[i]), mean), factor);
            if GAIN {
                y = simd.mul(y, simd.add(offset, simd.load(&gain[i])));
            }
            if SHIFT {
                y = simd.add(y, simd.load(&shift[i]));
            }
            simd.store(y, &mut out[i]);
        }
        if !out_rest.is_empty() {
            let mut y = simd.mul(simd.sub(simd.load(&padded::<S, _>(x_rest)), mean), factor);
            if GAIN {
                y = simd.mul(y, simd.add(offset, simd.load(&padded::<S, _>(gain_rest))));
            }
            if SHIFT {
                y = simd.add(y, simd.load(&padded::<S, _>(shift_rest)));
            }
            store_partial(simd, y, out_rest);
        }
    }
}

/// One group of [`crate::ops::centre`].
pub(crate) struct Centre<'a> {
    /// Not empty.
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Centre<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mean = simd.splat(mean(simd, self.x));
        let (x, x_rest) = S::chunks(self.x);
        let (out, out_rest) = S::chunks_mut(self.out);
        for (x, out) in x.iter().zip(out) {
            simd.store(simd.sub(simd.load(x), mean), out);
        }
        if !out_rest.is_empty() {
            store_partial(simd, simd.sub(simd.load(&padded::<S, _>(x_rest)), mean), out_rest);
        }
    }
}

/// Mean of the elements, of which there are some.
#[inline(always)]
fn mean<S: Simd>(simd: S, x: &[f32]) -> f32 {
    (f64::from(total::<S, false>(simd, x, 0.0)) / x.len() as f64) as f32
}

/// `Σ (x − subtrahend)`, or of the squares of that.
#[inline(always)]
fn total<S: Simd, const SQUARED: bool>(simd: S, x: &[f32], subtrahend: f32) -> f32 {
    /// Sums side by side, so that an addition need not wait for the one before it.
    const SUMS: usize = 4;

    let (chunks, rest) = S::chunks(x);
    let (groups, chunks_rest) = chunks.as_chunks::<SUMS>();
    let mut sums = [simd.splat(0.0); SUMS];
    for group in groups {
        for i in 0..SUMS {
            sums[i] = add_term::<S, SQUARED>(simd, &group[i], subtrahend, sums[i]);
        }
    }
    for (chunk, sum) in chunks_rest.iter().zip(&mut sums) {
        *sum = add_term::<S, SQUARED>(simd, chunk, subtrahend, *sum);
    }
    // Padding adds nothing.
    let rest = padded_with::<S, _>(rest, subtrahend);
    sums[SUMS - 1] = add_term::<S, SQUARED>(simd, &rest, subtrahend, sums[SUMS - 1]);
    let [a, b, c, d] = sums;
    simd.sum(simd.add(simd.add(a, b), simd.add(c, d)))
}

#[inline(always)]
fn add_term<S: Simd, const SQUARED: bool>(simd: S, x: &S::Array<f32>, subtrahend: f32, sum: S::F32) -> S::F32 {
    let difference = simd.sub(simd.load(x), simd.splat(subtrahend));
    if SQUARED { simd.mul_add(difference, difference, sum) } else { simd.add(sum, difference) }
}
