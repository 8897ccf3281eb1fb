//! Functions that no instruction set has.

use super::simd::Simd;

/// `eˣ` with less than 2 ulp of error, subnormal results included; 0 and ∞ at the ends, NaN for NaN.
///
/// `x = n ln 2 + r` with ln 2 in two parts (Cody and Waite 1980, chapter 6), then the Taylor series of `eʳ` for
/// |r| ≤ ln 2 / 2, whose eighth term is below 2⁻²⁷.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    /// Upper bits of ln 2: a product with |n| ≤ 150 is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    /// ln 2 minus the upper bits.
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// 1/7!, 1/6!, …, 1/0!
    const TAYLOR: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 1.0 / 2.0, 1.0, 1.0];

    // Beyond these the result is 0 or infinite anyway. `x` comes last, so that NaN stays.
    let x = simd.min(simd.splat(89.0), simd.max(simd.splat(-104.0), x));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.mul_add(n, simd.splat(-LN_2_HIGH), x);
    let r = simd.mul_add(n, simd.splat(-LN_2_LOW), r);
    simd.scale_exponent(polynomial(simd, r, &TAYLOR), n)
}

/// `1 / (1 + e⁻ˣ)`; 0 below −88, where `e⁻ˣ` overflows.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    simd.div(one, simd.add(one, exp(simd, simd.sub(simd.splat(0.0), x))))
}

/// `tanh(x)` with less than 4 ulp of error.
///
/// Below 5/8, where `1 − 2 / (e²ˣ + 1)` would lose digits, `x + x³ P(x²)` with a polynomial that was fitted to the least
/// relative error.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    /// Highest power first; off by less than 2⁻²⁷ of tanh.
    const P: [f32; 5] = [-0.005_704_938, 0.020_639_04, -0.053_739_7, 0.133_314_42, -0.333_332_8];

    let (zero, one, two) = (simd.splat(0.0), simd.splat(1.0), simd.splat(2.0));
    let magnitude = simd.max(simd.sub(zero, x), x);
    let square = simd.mul(magnitude, magnitude);
    let cube = simd.mul(magnitude, square);
    let small = simd.mul_add(cube, polynomial(simd, square, &P), magnitude);
    let large = simd.sub(one, simd.div(two, simd.add(exp(simd, simd.add(magnitude, magnitude)), one)));
    let result = simd.select_less(magnitude, simd.splat(0.625), small, large);
    simd.select_less(x, zero, simd.sub(zero, result), result)
}

/// `Φ(−x)`, the share of a normal distribution beyond x, for x ≥ 0; NaN for NaN. Off by less than 8 ulp besides what
/// rounding x²/2 does to its exponential.
///
/// `exp(−x²/2) s P(s)` with `s = 1 / (1 + x/√8)`, whose polynomial was fitted to the least relative error for x up to √200,
/// where the result is 0.
#[inline(always)]
pub(crate) fn normal_tail<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    /// Highest power first; off by less than 2⁻²⁴ of the result.
    const P: [f32; 9] = [
        -0.029_535_256,
        0.142_291_15,
        -0.243_607_26,
        0.139_041_59,
        -0.013_318_081,
        0.101_345_53,
        0.121_551_39,
        0.141_187_72,
        0.141_043_2,
    ];
    /// 1/√8
    const SCALE: f32 = 0.353_553_4;

    let one = simd.splat(1.0);
    let s = simd.div(one, simd.mul_add(x, simd.splat(SCALE), one));
    let density = exp(simd, simd.mul(simd.mul(x, x), simd.splat(-0.5)));
    simd.mul(density, simd.mul(s, polynomial(simd, s, &P)))
}

/// The polynomial with these coefficients, that of the highest power first.
#[inline(always)]
fn polynomial<S: Simd>(simd: S, x: S::F32, coefficients: &[f32]) -> S::F32 {
    let mut value = simd.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        value = simd.mul_add(value, x, simd.splat(coefficient));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::Kernel;
    use crate::cpu::{Isa, Vectors};

    /// Replaces values, a whole number of vectors, by those of a function.
    struct InPlace<'a>(Function, &'a mut [f32]);

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Tanh,
        NormalTail,
    }

    impl Kernel for InPlace<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for chunk in S::chunks_mut(self.1).0 {
                let x = simd.load(chunk);
                let result = match self.0 {
                    Function::Exp => exp(simd, x),
                    Function::Tanh => tanh(simd, x),
                    Function::NormalTail => normal_tail(simd, x),
                };
                simd.store(result, chunk);
            }
        }
    }

    /// Compares a function with `expected` on 2²⁰ values from `from` to `to`; `allowed` ulp may depend on x.
    fn sweep(function: Function, [from, to]: [f32; 2], expected: impl Fn(f64) -> f64, allowed: impl Fn(f32) -> f32) {
        const STEPS: usize = 1 << 20;
        for vectors in Isa::ALL.into_iter().filter_map(Vectors::of) {
            let x: Vec<f32> = (0..STEPS).map(|i| from + (to - from) * (i as f32 / STEPS as f32)).collect();
            let mut results = x.clone();
            vectors.run(InPlace(function, &mut results));
            for (x, result) in x.into_iter().zip(results) {
                let expected = expected(f64::from(x)) as f32;
                let distance = result.to_bits().abs_diff(expected.to_bits()) as f32;
                assert!(distance <= allowed(x), "of {x}: {result:e} instead of {expected:e}");
            }
        }
    }

    /// Compares with `expected` on values that may be special.
    fn points(function: Function, points: &[(f32, f32)]) {
        for vectors in Isa::ALL.into_iter().filter_map(Vectors::of) {
            let mut results = [0.0; 16];
            for (&(x, _), result) in points.iter().zip(&mut results) {
                *result = x;
            }
            vectors.run(InPlace(function, &mut results));
            for (&(x, expected), result) in points.iter().zip(results) {
                assert!(result == expected || result.is_nan() && expected.is_nan(), "of {x:e}: {result:e}");
            }
        }
    }

    #[test]
    fn exp_is_within_two_ulp() {
        sweep(Function::Exp, [-110.0, 90.0], f64::exp, |_| 2.0);
    }

    #[test]
    fn exp_has_its_limits_at_the_ends() {
        let ends = [
            (f32::NEG_INFINITY, 0.0),
            (f32::MIN, 0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
            (0.0, 1.0),
            (-0.0, 1.0),
            (1.0e-45, 1.0),
            (f32::NAN, f32::NAN),
        ];
        points(Function::Exp, &ends);
    }

    #[test]
    fn tanh_is_within_four_ulp() {
        sweep(Function::Tanh, [-1.0, 1.0], f64::tanh, |_| 4.0);
        sweep(Function::Tanh, [-12.0, 12.0], f64::tanh, |_| 4.0);
        sweep(Function::Tanh, [-1.0e-30, 1.0e-30], f64::tanh, |_| 4.0);
    }

    #[test]
    fn tanh_has_its_limits_at_the_ends() {
        let ends = [
            (f32::NEG_INFINITY, -1.0),
            (f32::MIN, -1.0),
            (f32::INFINITY, 1.0),
            (f32::MAX, 1.0),
            (0.0, 0.0),
            (1.0e-45, 1.0e-45),
            (-1.0e-45, -1.0e-45),
            (f32::NAN, f32::NAN),
        ];
        points(Function::Tanh, &ends);
    }

    #[test]
    fn the_normal_tail_is_within_eight_ulp_and_the_rounding_of_its_exponent() {
        let tail = |x: f64| libm::erfc(x * std::f64::consts::FRAC_1_SQRT_2) / 2.0;
        sweep(Function::NormalTail, [0.0, 1.0], tail, |_| 8.0);
        sweep(Function::NormalTail, [0.0, 13.0], tail, |x| 8.0 + x * x / 2.0);
        // Subnormal results have fewer digits to agree in.
        sweep(Function::NormalTail, [13.0, 20.0], tail, |x| 8.0 + x * x / 2.0);
    }

    #[test]
    fn the_normal_tail_has_its_limits_at_the_ends() {
        let ends = [(15.0, 0.0), (1.0e30, 0.0), (f32::MAX, 0.0), (f32::INFINITY, 0.0), (f32::NAN, f32::NAN)];
        points(Function::NormalTail, &ends);
    }
}
