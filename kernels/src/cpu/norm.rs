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
        match (self.norm.centre, self.norm.along) {
            (false, _) => self.less(simd, Less(0.0), &[]),
            (true, None) => {
                let mean = Less(mean(simd, self.x));
                self.less(simd, mean, &[]);
            }
            (true, Some(along)) => {
                let part = LessAlong(total::<S, _, false>(simd, self.x, along, Times));
                self.less(simd, part, along);
            }
        }
    }
}

impl NormGroup<'_> {
    /// Normalizes what `centred` makes of the elements.
    #[inline(always)]
    fn less<S: Simd, V: Value>(self, simd: S, centred: V, along: &[f32]) {
        match (self.norm.gain.is_some(), self.norm.shift.is_some()) {
            (false, false) => self.with::<S, V, false, false>(simd, centred, along),
            (false, true) => self.with::<S, V, false, true>(simd, centred, along),
            (true, false) => self.with::<S, V, true, false>(simd, centred, along),
            (true, true) => self.with::<S, V, true, true>(simd, centred, along),
        }
    }

    /// `GAIN` and `SHIFT` say whether there are some.
    #[inline(always)]
    fn with<S: Simd, V: Value, const GAIN: bool, const SHIFT: bool>(self, simd: S, centred: V, along: &[f32]) {
        let variance = f64::from(total::<S, V, true>(simd, self.x, along, centred)) / self.x.len() as f64;
        let factor = simd.splat((1.0 / (variance + f64::from(self.norm.eps)).sqrt()) as f32);
        let offset = simd.splat(self.norm.gain_offset);

        let (x, x_rest) = S::chunks(self.x);
        let (along, along_rest) = S::chunks(along);
        let (out, out_rest) = S::chunks_mut(self.out);
        let (gain, gain_rest) = S::chunks(self.norm.gain.unwrap_or_default());
        let (shift, shift_rest) = S::chunks(self.norm.shift.unwrap_or_default());
        for i in 0..x.len() {
            let along = if V::ALONG { simd.load(&along[i]) } else { simd.splat(0.0) };
            let mut y = simd.mul(centred.of(simd, simd.load(&x[i]), along), factor);
            if GAIN {
                y = simd.mul(y, simd.add(offset, simd.load(&gain[i])));
            }
            if SHIFT {
                y = simd.add(y, simd.load(&shift[i]));
            }
            simd.store(y, &mut out[i]);
        }
        if !out_rest.is_empty() {
            let along = simd.load(&padded::<S, _>(along_rest));
            let mut y = simd.mul(centred.of(simd, simd.load(&padded::<S, _>(x_rest)), along), factor);
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
    pub(crate) along: Option<&'a [f32]>,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Centre<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.along {
            None => {
                let mean = Less(mean(simd, self.x));
                self.less(simd, mean, &[]);
            }
            Some(along) => {
                let part = LessAlong(total::<S, _, false>(simd, self.x, along, Times));
                self.less(simd, part, along);
            }
        }
    }
}

impl Centre<'_> {
    /// Writes what `centred` makes of the elements.
    #[inline(always)]
    fn less<S: Simd, V: Value>(self, simd: S, centred: V, along: &[f32]) {
        let (x, x_rest) = S::chunks(self.x);
        let (along, along_rest) = S::chunks(along);
        let (out, out_rest) = S::chunks_mut(self.out);
        for i in 0..x.len() {
            let along = if V::ALONG { simd.load(&along[i]) } else { simd.splat(0.0) };
            simd.store(centred.of(simd, simd.load(&x[i]), along), &mut out[i]);
        }
        if !out_rest.is_empty() {
            let (x, along) = (simd.load(&padded::<S, _>(x_rest)), simd.load(&padded::<S, _>(along_rest)));
            store_partial(simd, centred.of(simd, x, along), out_rest);
        }
    }
}

/// A function of an element of a group and of the one beside it in a vector.
trait Value: Copy {
    /// Whether it looks at the second one.
    const ALONG: bool;

    /// Lane by lane.
    fn of<S: Simd>(self, simd: S, x: S::F32, along: S::F32) -> S::F32;

    /// An element that gives 0 beside a 0.
    fn zero(self) -> f32;
}

/// `x − m`
#[derive(Clone, Copy)]
struct Less(f32);

/// `x u`
#[derive(Clone, Copy)]
struct Times;

/// `x − t u`
#[derive(Clone, Copy)]
struct LessAlong(f32);

impl Value for Less {
    const ALONG: bool = false;

    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32, _: S::F32) -> S::F32 {
        simd.sub(x, simd.splat(self.0))
    }

    #[inline(always)]
    fn zero(self) -> f32 {
        self.0
    }
}

impl Value for Times {
    const ALONG: bool = true;

    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32, along: S::F32) -> S::F32 {
        simd.mul(x, along)
    }

    #[inline(always)]
    fn zero(self) -> f32 {
        0.0
    }
}

impl Value for LessAlong {
    const ALONG: bool = true;

    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32, along: S::F32) -> S::F32 {
        simd.mul_add(simd.splat(-self.0), along, x)
    }

    #[inline(always)]
    fn zero(self) -> f32 {
        0.0
    }
}

/// Mean of the elements, of which there are some.
#[inline(always)]
fn mean<S: Simd>(simd: S, x: &[f32]) -> f32 {
    (f64::from(total::<S, _, false>(simd, x, &[], Less(0.0))) / x.len() as f64) as f32
}

/// Sum of the values, or of their squares.
#[inline(always)]
fn total<S: Simd, V: Value, const SQUARED: bool>(simd: S, x: &[f32], along: &[f32], value: V) -> f32 {
    /// Sums side by side, so that an addition need not wait for the one before it.
    const SUMS: usize = 4;

    let (x, x_rest) = S::chunks(x);
    let (along, along_rest) = S::chunks(along);
    let mut sums = [simd.splat(0.0); SUMS];
    let whole = x.len() / SUMS * SUMS;
    for first in (0..whole).step_by(SUMS) {
        for i in 0..SUMS {
            let along = if V::ALONG { simd.load(&along[first + i]) } else { simd.splat(0.0) };
            sums[i] = add_term::<S, SQUARED>(simd, value.of(simd, simd.load(&x[first + i]), along), sums[i]);
        }
    }
    for (i, sum) in (whole..x.len()).zip(&mut sums) {
        let along = if V::ALONG { simd.load(&along[i]) } else { simd.splat(0.0) };
        *sum = add_term::<S, SQUARED>(simd, value.of(simd, simd.load(&x[i]), along), *sum);
    }
    // Padding adds nothing.
    let x = simd.load(&padded_with::<S, _>(x_rest, value.zero()));
    let along = simd.load(&padded::<S, _>(along_rest));
    sums[SUMS - 1] = add_term::<S, SQUARED>(simd, value.of(simd, x, along), sums[SUMS - 1]);
    let [a, b, c, d] = sums;
    simd.sum(simd.add(simd.add(a, b), simd.add(c, d)))
}

#[inline(always)]
fn add_term<S: Simd, const SQUARED: bool>(simd: S, value: S::F32, sum: S::F32) -> S::F32 {
    if SQUARED { simd.mul_add(value, value, sum) } else { simd.add(sum, value) }
}
