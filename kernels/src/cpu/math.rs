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
    const P: [f32; 5] = [-0.005_704_938, 0.020_639_04, -0.053_739_7, 0.133_314_42, -0.333_332_82];

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

    struct Exp<'a>(&'a mut [f32]);

    impl Kernel for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for chunk in S::chunks_mut(self.0).0 {
                simd.store(exp(simd, simd.load(chunk)), chunk);
            }
        }
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for vectors in Isa::ALL.into_iter().filter_map(Vectors::of) {
            let x: Vec<f32> = (0..1 << 20).map(|i| -110.0 + 200.0 * i as f32 / (1 << 20) as f32).collect();
            let mut results = x.clone();
            vectors.run(Exp(&mut results));
            for (x, result) in x.into_iter().zip(results) {
                let expected = f64::from(x).exp() as f32;
                let distance = result.to_bits().abs_diff(expected.to_bits());
                assert!(distance <= 2, "exp({x}) = {result:e} instead of {expected:e}");
            }
        }
    }

    #[test]
    fn exp_has_its_limits_at_the_ends() {
        for vectors in Isa::ALL.into_iter().filter_map(Vectors::of) {
            let mut results = [0.0; 16];
            let ends = [f32::NEG_INFINITY, f32::MIN, f32::INFINITY, f32::MAX, 0.0, -0.0, 1.0e-45];
            results[..ends.len()].copy_from_slice(&ends);
            results[ends.len()] = f32::NAN;
            vectors.run(Exp(&mut results));
            assert_eq!(results[..ends.len()], [0.0, 0.0, f32::INFINITY, f32::INFINITY, 1.0, 1.0, 1.0]);
            assert!(results[ends.len()].is_nan());
        }
    }
}
