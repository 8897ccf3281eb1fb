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

    /// A vector of `2 · LANES` i16.
    type Words: Copy;

    /// A vector of `LANES` i32.
    type Sums: Copy;

    /// What each of the 16 nibbles stands for.
    type Nibbles: Copy;

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

    /// Bytes in two's complement.
    fn load_i8(self, values: &Self::Array<u8>) -> Self::F32;

    /// Integers from −128 to 127, as bytes.
    fn store_i8(self, vector: Self::F32, values: &mut Self::Array<i8>);

    /// Integers in the order of `values`.
    fn load_words(self, values: &Self::Array<[i8; 2]>) -> Self::Words;

    /// Lanes of 0.
    fn no_sums(self) -> Self::Sums;

    /// Lane i is `sums[i] + a[2i] · b[2i] + a[2i + 1] · b[2i + 1]`; elements come from [`Simd::load_words`], and sums fit.
    fn add_products(self, a: Self::Words, b: Self::Words, sums: Self::Sums) -> Self::Sums;

    /// Sum of the lanes, which fits.
    fn total(self, sums: Self::Sums) -> i32;

    /// Nibble n stands for `(n − zero) · scale`, both operations rounded.
    fn nibbles(self, zero: f32, scale: f32) -> Self::Nibbles;

    /// What the low nibbles of `values` stand for, and the high ones.
    fn load_nibbles(self, nibbles: Self::Nibbles, values: &Self::Array<u8>) -> [Self::F32; 2];

    /// Lanes in turn: `a[0], b[0], a[1], …`
    fn interleave(self, vectors: [Self::F32; 2]) -> [Self::F32; 2];

    /// Inverse of [`Simd::interleave`].
    fn deinterleave(self, vectors: [Self::F32; 2]) -> [Self::F32; 2];

    /// Asks for the cache line `distance` bytes behind the start of `value`, which may be past all data.
    fn prefetch<T>(self, value: &T, distance: usize);

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

    /// Lanes of `yes` where `a < b`, else of `no`; also of `no` where `a` or `b` is NaN.
    fn select_less(self, a: Self::F32, b: Self::F32, yes: Self::F32, no: Self::F32) -> Self::F32;

    /// Sum of the lanes.
    fn sum(self, a: Self::F32) -> f32;

    /// Largest lane; any value when one is NaN.
    fn maximum(self, a: Self::F32) -> f32;
}

/// Fewer than `LANES` elements, followed by zeros.
#[inline(always)]
pub(crate) fn padded<S: Simd, T: Copy + Default>(values: &[T]) -> S::Array<T> {
    padded_with::<S, T>(values, T::default())
}

/// Fewer than `LANES` elements, followed by `fill`.
#[inline(always)]
pub(crate) fn padded_with<S: Simd, T: Copy>(values: &[T], fill: T) -> S::Array<T> {
    let mut array = S::array(fill);
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
