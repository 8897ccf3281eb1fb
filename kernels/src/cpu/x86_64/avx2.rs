//! AVX2, FMA and F16C.

use super::{arrays, intrinsics};
use crate::cpu::Isa;
use crate::cpu::simd::{Kernel, Simd};
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;

/// Proof that the processor has [`Isa::Avx2`].
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, where it holds.
    pub(crate) fn detect() -> Option<Avx2> {
        Isa::Avx2.is_supported().then_some(Avx2(()))
    }

    /// Runs `kernel` compiled for this instruction set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn enabled<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` is made by `detect` only, which checks that the processor has these features.
        unsafe { enabled(self, kernel) }
    }
}

impl Simd for Avx2 {
    arrays!(8);

    const REGISTERS: usize = 16;

    type F32 = __m256;

    type Words = __m256i;

    type Sums = __m256i;

    /// Zero and scale.
    type Nibbles = [__m256; 2];

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        intrinsics!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, values: &[f32; 8]) -> __m256 {
        intrinsics!(_mm256_loadu_ps(values.as_ptr()))
    }

    #[inline(always)]
    fn store(self, vector: __m256, values: &mut [f32; 8]) {
        intrinsics!(_mm256_storeu_ps(values.as_mut_ptr(), vector));
    }

    #[inline(always)]
    fn load_f16(self, values: &[[u8; 2]; 8]) -> __m256 {
        intrinsics!(_mm256_cvtph_ps(_mm_loadu_si128(values.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_bf16(self, values: &[[u8; 2]; 8]) -> __m256 {
        intrinsics!({
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(values.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        })
    }

    #[inline(always)]
    fn load_f32(self, values: &[[u8; 4]; 8]) -> __m256 {
        intrinsics!(_mm256_loadu_ps(values.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_i8(self, values: &[u8; 8]) -> __m256 {
        intrinsics!(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(values.as_ptr().cast()))))
    }

    #[inline(always)]
    fn store_i8(self, vector: __m256, values: &mut [i8; 8]) {
        intrinsics!({
            let integers = _mm256_cvtps_epi32(vector);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256::<1>(integers));
            _mm_storel_epi64(values.as_mut_ptr().cast(), _mm_packs_epi16(words, words));
        });
    }

    #[inline(always)]
    fn load_words(self, values: &[[i8; 2]; 8]) -> __m256i {
        intrinsics!(_mm256_cvtepi8_epi16(_mm_loadu_si128(values.as_ptr().cast())))
    }

    #[inline(always)]
    fn no_sums(self) -> __m256i {
        intrinsics!(_mm256_setzero_si256())
    }

    #[inline(always)]
    fn add_products(self, a: __m256i, b: __m256i, sums: __m256i) -> __m256i {
        intrinsics!(_mm256_add_epi32(sums, _mm256_madd_epi16(a, b)))
    }

    #[inline(always)]
    fn total(self, sums: __m256i) -> i32 {
        intrinsics!({
            let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        })
    }

    #[inline(always)]
    fn nibbles(self, zero: f32, scale: f32) -> [__m256; 2] {
        [self.splat(zero), self.splat(scale)]
    }

    #[inline(always)]
    fn load_nibbles(self, [zero, scale]: [__m256; 2], values: &[u8; 8]) -> [__m256; 2] {
        intrinsics!({
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(values.as_ptr().cast()));
            let low = _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(0xf)));
            let high = _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes));
            [_mm256_mul_ps(_mm256_sub_ps(low, zero), scale), _mm256_mul_ps(_mm256_sub_ps(high, zero), scale)]
        })
    }

    #[inline(always)]
    fn interleave(self, [a, b]: [__m256; 2]) -> [__m256; 2] {
        intrinsics!({
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
        })
    }

    #[inline(always)]
    fn deinterleave(self, [a, b]: [__m256; 2]) -> [__m256; 2] {
        intrinsics!({
            // Halves hold two elements of `a` and two of `b`; their pairs are put in order.
            let even = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
            let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
            [
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(even)),
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(odd)),
            ]
        })
    }

    #[inline(always)]
    fn prefetch<T>(self, value: &T, distance: usize) {
        let line = std::ptr::from_ref(value).cast::<i8>().wrapping_add(distance);
        intrinsics!(_mm_prefetch::<_MM_HINT_T0>(line));
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        intrinsics!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        intrinsics!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    /// In two factors, because one power of two reaches neither end of the range.
    #[inline(always)]
    fn scale_exponent(self, a: __m256, n: __m256) -> __m256 {
        intrinsics!({
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
            let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
            _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second))
        })
    }

    #[inline(always)]
    fn select_less(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        intrinsics!(_mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }

    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        intrinsics!({
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn maximum(self, a: __m256) -> f32 {
        intrinsics!({
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }
}
