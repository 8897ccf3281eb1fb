//! Vector code that is written once and compiled for every instruction set.
//!
//! A [`Kernel`] is a piece of vector code, generic over [`Simd`]. [`super::Vectors::run`] compiles its `run` into a
//! function that has the instruction set enabled. For that to reach the intrinsics, `run` and all generic functions
//! under it must be `#[inline(always)]`, and hot loops must not be closures: what is not inlined is compiled without
//! the instruction set, which is correct but slow.

/// Vector code that any instruction set can run.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// Runs it. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set with f32 vectors. A value of it is proof that the processor has it.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Elements of a vector.
    const LANES: usize;

    /// Vector registers that a kernel may plan with.
    const REGISTERS: usize;

    /// A vector of `LANES` f32.
    type F32: Copy;

    /// `[T; LANES]`
    type Array<T: Copy>: Copy + AsRef<[T]> + AsMut<[T]>;

    /// `LANES` copies of `value`.
    fn array<T: Copy>(value: T) -> Self::Array<T>;

    /// `values` as whole arrays, and the rest.
    fn chunks<T: Copy>(values: &[T]) -> (&[Self::Array<T>], &[T]);

    /// As [`Simd::chunks`].
    fn chunks_mut<T: Copy>(values: &mut [T]) -> (&mut [Self::Array<T>], &mut [T]);

    /// All lanes `value`.
    fn splat(self, value: f32) -> Self::F32;

    /// Lane `i` is `values[i]`; needs no alignment.
    fn load(self, values: &Self::Array<f32>) -> Self::F32;

    /// Inverse of [`Simd::load`].
    fn store(self, vector: Self::F32, values: &mut Self::Array<f32>);

    /// Little-endian binary16.
    fn load_f16(self, values: &Self::Array<[u8; 2]>) -> Self::F32;

    /// Little-endian bfloat16.
    fn load_bf16(self, values: &Self::Array<[u8; 2]>) -> Self::F32;

    /// Little-endian binary32.
    fn load_f32(self, values: &Self::Array<[u8; 4]>) -> Self::F32;

    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a · b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a / b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a · b + c`, rounded once.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// The larger one; `b` where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// The smaller one; `b` where either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F32) -> Self::F32;

    /// `a · 2ⁿ`, rounded once, for integers n from -150 to 128 and 0.5 ≤ a ≤ 2.
    fn scale_exponent(self, a: Self::F32, n: Self::F32) -> Self::F32;

    /// Sum of the lanes.
    fn sum(self, a: Self::F32) -> f32;

    /// Largest lane; any value when one is NaN.
    fn maximum(self, a: Self::F32) -> f32;
}

/// Fewer than `LANES` elements, followed by zeros.
#[inline(always)]
pub(crate) fn padded<S: Simd, T: Copy + Default>(values: &[T]) -> S::Array<T> {
    let mut array = S::array(T::default());
    array.as_mut()[..values.len()].copy_from_slice(values);
    array
}

/// Stores the first `out.len()` lanes.
#[inline(always)]
pub(crate) fn store_partial<S: Simd>(simd: S, vector: S::F32, out: &mut [f32]) {
    let mut array = S::array(0.0);
    simd.store(vector, &mut array);
    out.copy_from_slice(&array.as_ref()[..out.len()]);
}

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
    let mut series = simd.splat(TAYLOR[0]);
    for coefficient in &TAYLOR[1..] {
        series = simd.mul_add(series, r, simd.splat(*coefficient));
    }
    simd.scale_exponent(series, n)
}

#[cfg(test)]
mod tests {
    use super::*;
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
