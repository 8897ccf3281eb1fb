//! Scale, zero point and codes of a group of values: how integer formats choose them.
//!
//! A code q, an integer from `lowest` to `highest`, stands for `(q − z) · s`. For a scale s and a zero point z, a value w
//! has the code
//!
//! ```text
//! q = rint(clamp(w / s + z, lowest, highest))
//! ```
//!
//! **Absmax.** With `min ≤ 0 ≤ max` the ends of the values,
//!
//! ```text
//! symmetric    s = round(max(−min, max) / ((highest − lowest) / 2))    z = 0
//! else         s = round((max − min) / (highest − lowest))             z = rint(clamp(lowest − min / s, lowest, highest))
//! ```
//!
//! where `round` is to the dtype of the scales, and a scale of 0 becomes the epsilon of that dtype.
//!
//! **Mse.** Of several ranges, each with the scale and zero point that absmax has for its ends, the one with the least
//! `Σ (w − (q − z) s)²` is taken, the first of equals. They are
//!
//! ```text
//! 1    [min, max]
//! 2    [min, max] times each of NARROWER
//! 3    the best so far, times each of NEAR
//! 4    the best so far, times each of NEAREST
//! ```
//!
//! Steps 3 and 4 move both ends where the format is symmetric, else first the lower one, then the upper one of what was best
//! until then. As the first range is that of absmax, the error is never larger.
//!
//! All of it is f32 in the order written here, so the bytes are the same on every machine. NaN does not count
//! for the range and gets the lowest code; infinities make the scale the largest of its dtype.

use super::{Fit, Parameters};

/// The integers that are codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Codes {
    /// The smallest, −2ᵇ⁻¹.
    pub(super) lowest: f32,
    /// The largest, 2ᵇ⁻¹ − 1.
    pub(super) highest: f32,
}

impl Codes {
    /// Those of `bits`, at most 8.
    pub(super) const fn of(bits: u32) -> Codes {
        let half = (1 << (bits - 1)) as f32;
        Codes { lowest: -half, highest: half - 1.0 }
    }

    /// Steps from the lowest to the highest.
    fn steps(self) -> f32 {
        self.highest - self.lowest
    }

    /// The largest magnitude of values whose scale, as large as `largest`, can be stored.
    pub(super) fn limit(self, largest: f32) -> f32 {
        largest * (self.steps() / 2.0)
    }
}

/// How the values of a group are coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scaling {
    /// Not 0, finite, a number of the dtype of scales.
    pub(super) scale: f32,
    /// An integer within the codes.
    pub(super) zero_point: f32,
}

/// Ends of the values that codes reach.
#[derive(Debug, Clone, Copy)]
struct Range {
    /// At most 0.
    min: f32,
    /// At least 0.
    max: f32,
}

/// Factors of both ends of the values: the first ranges that [`Fit::Mse`] tries.
const NARROWER: [f32; 6] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4];

/// Factors of an end of the best range so far. Some are wider: where codes fall matters as much as how far they reach.
const NEAR: [f32; 4] = [1.08, 1.04, 0.96, 0.92];

/// Factors of an end of the best range at last.
const NEAREST: [f32; 2] = [1.02, 0.98];

/// Adding and subtracting it rounds to the nearest integer, ties to even, below a magnitude of 2²²; in between, the low
/// bits are the integer in two's complement.
const ROUND: f32 = 12_582_912.0;

/// Lanes of sums: element i of a group adds to lane i mod 8, but for the last elements, which follow one by one.
const LANES: usize = 8;

/// Elements that lanes sum in f32 before the lanes are added, in order, to a sum in f64.
const BLOCK: usize = 256;

impl Scaling {
    /// Scale and zero point of a group.
    pub(super) fn fit(codes: Codes, parameters: &Parameters, fit: Fit, values: &[f32]) -> Scaling {
        let range = Range::of(values);
        match fit {
            Fit::Absmax => Scaling::reaching(codes, parameters, range),
            Fit::Mse => least_error(codes, parameters, values, range),
        }
    }

    /// So that the codes reach the ends of `range`.
    fn reaching(codes: Codes, parameters: &Parameters, Range { min, max }: Range) -> Scaling {
        let width =
            if parameters.symmetric { larger(-min, max) / (codes.steps() / 2.0) } else { (max - min) / codes.steps() };
        let rounded = parameters.scales.round(width);
        if rounded == 0.0 {
            return Scaling { scale: parameters.scales.epsilon(), zero_point: 0.0 };
        }
        let zero_point = if parameters.symmetric { 0.0 } else { nearest(clamp(codes.lowest - min / rounded, codes)) };
        Scaling { scale: rounded, zero_point }
    }

    /// Codes of `values` in two's complement.
    pub(super) fn quantize(self, codes: Codes, values: &[f32], out: &mut [u8]) {
        for (code, &value) in out.iter_mut().zip(values) {
            *code = (clamp(value / self.scale + self.zero_point, codes) + ROUND).to_bits() as u8;
        }
    }

    /// Sum of the squared errors of `values`, in f64 from sums of up to [`BLOCK`] elements in f32. Quotients are
    /// products with the reciprocal here.
    fn squared_error(self, codes: Codes, values: &[f32]) -> f64 {
        let inverse = 1.0 / self.scale;
        let square = |value: f32| {
            let quotient = value * inverse;
            let error = quotient - (nearest(clamp(quotient + self.zero_point, codes)) - self.zero_point);
            error * error
        };
        let mut total = 0.0;
        let (vectors, rest) = values.as_chunks::<LANES>();
        for block in vectors.chunks(BLOCK / LANES) {
            let mut sums = [0.0; LANES];
            for vector in block {
                for (sum, &value) in sums.iter_mut().zip(vector) {
                    *sum += square(value);
                }
            }
            for sum in sums {
                total += f64::from(sum);
            }
        }
        for &value in rest {
            total += f64::from(square(value));
        }
        total * f64::from(self.scale) * f64::from(self.scale)
    }
}

/// The search of [`Fit::Mse`].
fn least_error(codes: Codes, parameters: &Parameters, values: &[f32], range: Range) -> Scaling {
    let scaling = Scaling::reaching(codes, parameters, range);
    let mut best = Best { range, scaling, error: scaling.squared_error(codes, values) };
    let sweep = |best: &mut Best, factors: &[f32], ends: [bool; 2]| {
        let start = best.range;
        for &factor in factors {
            let scaled = |end: f32, is_scaled: bool| if is_scaled { end * factor } else { end };
            let range = Range { min: scaled(start.min, ends[0]), max: scaled(start.max, ends[1]) };
            let scaling = Scaling::reaching(codes, parameters, range);
            let error = scaling.squared_error(codes, values);
            if error < best.error {
                *best = Best { range, scaling, error };
            }
        }
    };
    sweep(&mut best, &NARROWER, [true, true]);
    for factors in [&NEAR[..], &NEAREST] {
        if parameters.symmetric {
            sweep(&mut best, factors, [true, true]);
        } else {
            sweep(&mut best, factors, [true, false]);
            sweep(&mut best, factors, [false, true]);
        }
    }
    best.scaling
}

/// What the search has found so far.
struct Best {
    range: Range,
    scaling: Scaling,
    error: f64,
}

impl Range {
    /// Of values and 0.
    fn of(values: &[f32]) -> Range {
        let (mut min, mut max) = ([0.0; LANES], [0.0; LANES]);
        let (vectors, rest) = values.as_chunks::<LANES>();
        for vector in vectors {
            for (min, &value) in min.iter_mut().zip(vector) {
                *min = smaller(value, *min);
            }
            for (max, &value) in max.iter_mut().zip(vector) {
                *max = larger(value, *max);
            }
        }
        let min = min.iter().chain(rest).fold(0.0, |min, &value| smaller(value, min));
        let max = max.iter().chain(rest).fold(0.0, |max, &value| larger(value, max));
        Range { min, max }
    }
}

/// The smaller one; `b` where `a` is NaN.
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The larger one; `b` where `a` is NaN.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Within the codes; the lowest for NaN.
fn clamp(value: f32, codes: Codes) -> f32 {
    smaller(larger(value, codes.lowest), codes.highest)
}

/// The nearest integer, ties to even, of magnitudes below 2²².
fn nearest(value: f32) -> f32 {
    (value + ROUND) - ROUND
}
