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
        let mean = if self.norm.centre { mean(simd, self.x) } else { 0.0 };
        let variance = f64::from(squares(simd, self.x, mean)) / self.x.len() as f64;
        let steps = Steps {
            mean: simd.splat(mean),
            factor: simd.splat((1.0 / (variance + f64::from(self.norm.eps)).sqrt()) as f32),
            offset: simd.splat(self.norm.gain_offset),
        };
        let (x, x_rest) = S::chunks(self.x);
        let (out, out_rest) = S::chunks_mut(self.out);
        let (gain, gain_rest) = self.norm.gain.map(S::chunks).unzip();
        let (shift, shift_rest) = self.norm.shift.map(S::chunks).unzip();
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            let (gain, shift) = (gain.map(|gain| &gain[i]), shift.map(|shift| &shift[i]));
            simd.store(steps.apply(simd, x, gain, shift), out);
        }
        if !out_rest.is_empty() {
            let x = padded::<S, _>(x_rest);
            let (gain, shift) = (gain_rest.map(padded::<S, _>), shift_rest.map(padded::<S, _>));
            store_partial(simd, steps.apply(simd, &x, gain.as_ref(), shift.as_ref()), out_rest);
        }
    }
}

/// What a group's elements go through.
struct Steps<S: Simd> {
    mean: S::F32,
    factor: S::F32,
    offset: S::F32,
}

impl<S: Simd> Steps<S> {
    #[inline(always)]
    fn apply(&self, simd: S, x: &S::Array<f32>, gain: Option<&S::Array<f32>>, shift: Option<&S::Array<f32>>) -> S::F32 {
        let mut y = simd.mul(simd.sub(simd.load(x), self.mean), self.factor);
        if let Some(gain) = gain {
            y = simd.mul(y, simd.add(self.offset, simd.load(gain)));
        }
        if let Some(shift) = shift {
            y = simd.add(y, simd.load(shift));
        }
        y
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
    let (chunks, rest) = S::chunks(x);
    let mut sums = simd.load(&padded::<S, _>(rest));
    for chunk in chunks {
        sums = simd.add(sums, simd.load(chunk));
    }
    (f64::from(simd.sum(sums)) / x.len() as f64) as f32
}

/// `Σ (x − mean)²`
#[inline(always)]
fn squares<S: Simd>(simd: S, x: &[f32], mean: f32) -> f32 {
    let (chunks, rest) = S::chunks(x);
    let splat = simd.splat(mean);
    let rest = simd.sub(simd.load(&padded_with::<S, _>(rest, mean)), splat);
    let mut sums = simd.mul(rest, rest);
    for chunk in chunks {
        let centred = simd.sub(simd.load(chunk), splat);
        sums = simd.mul_add(centred, centred, sums);
    }
    simd.sum(sums)
}
