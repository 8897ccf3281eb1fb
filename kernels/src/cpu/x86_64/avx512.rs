//! AVX-512 F, BW, VL and DQ.

use super::{arrays, intrinsics};
use crate::cpu::Isa;
use crate::cpu::simd::{Kernel, Simd};
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;

/// Proof that the processor has [`Isa::Avx512`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, where it holds.
    pub(crate) fn detect() -> Option<Avx512> {
        Isa::Avx512.is_supported().then_some(Avx512(()))
    }

    /// Runs `kernel` compiled for this instruction set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
        fn enabled<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` is made by `detect` only, which checks that the processor has these features.
        unsafe { enabled(self, kernel) }
    }
}

impl Simd for Avx512 {
    arrays!(16);

    const REGISTERS: usize = 32;

    type F32 = __m512;

    type Words = __m512i;

    type Sums = __m512i;

    /// A table, for a permutation looks only at the low four bits of an index.
    type Nibbles = __m512;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        intrinsics!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, values: &[f32; 16]) -> __m512 {
        intrinsics!(_mm512_loadu_ps(values.as_ptr()))
    }

    #[inline(always)]
    fn store(self, vector: __m512, values: &mut [f32; 16]) {
        intrinsics!(_mm512_storeu_ps(values.as_mut_ptr(), vector));
    }

    #[inline(always)]
    fn load_f16(self, values: &[[u8; 2]; 16]) -> __m512 {
        intrinsics!(_mm512_cvtph_ps(_mm256_loadu_si256(values.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_bf16(self, values: &[[u8; 2]; 16]) -> __m512 {
        intrinsics!({
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(values.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        })
    }

    #[inline(always)]
    fn load_f32(self, values: &[[u8; 4]; 16]) -> __m512 {
        intrinsics!(_mm512_loadu_ps(values.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_i8(self, values: &[u8; 16]) -> __m512 {
        intrinsics!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(values.as_ptr().cast()))))
    }

    #[inline(always)]
    fn store_i8(self, vector: __m512, values: &mut [i8; 16]) {
        intrinsics!(_mm_storeu_si128(values.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(vector))));
    }

    #[inline(always)]
    fn load_words(self, values: &[[i8; 2]; 16]) -> __m512i {
        intrinsics!(_mm512_cvtepi8_epi16(_mm256_loadu_si256(values.as_ptr().cast())))
    }

    #[inline(always)]
    fn no_sums(self) -> __m512i {
        intrinsics!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn add_products(self, a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
        intrinsics!(_mm512_add_epi32(sums, _mm512_madd_epi16(a, b)))
    }

    #[inline(always)]
    fn total(self, sums: __m512i) -> i32 {
        intrinsics!(_mm512_reduce_add_epi32(sums))
    }

    #[inline(always)]
    fn nibbles(self, zero: f32, scale: f32) -> __m512 {
        let numbers = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        self.mul(self.sub(self.load(&numbers), self.splat(zero)), self.splat(scale))
    }

    #[inline(always)]
    fn load_nibbles(self, nibbles: __m512, values: &[u8; 16]) -> [__m512; 2] {
        intrinsics!({
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(values.as_ptr().cast()));
            let high = _mm512_srli_epi32::<4>(bytes);
            [_mm512_permutexvar_ps(bytes, nibbles), _mm512_permutexvar_ps(high, nibbles)]
        })
    }

    #[inline(always)]
    fn interleave(self, [a, b]: [__m512; 2]) -> [__m512; 2] {
        intrinsics!({
            let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            [_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(a, second, b)]
        })
    }

    #[inline(always)]
    fn deinterleave(self, [a, b]: [__m512; 2]) -> [__m512; 2] {
        intrinsics!({
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            [_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b)]
        })
    }

    #[inline(always)]
    fn prefetch<T>(self, value: &T, distance: usize) {
        let line = std::ptr::from_ref(value).cast::<i8>().wrapping_add(distance);
        intrinsics!(_mm_prefetch::<_MM_HINT_T0>(line));
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsics!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        intrinsics!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        intrinsics!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn scale_exponent(self, a: __m512, n: __m512) -> __m512 {
        intrinsics!(_mm512_scalef_ps(a, n))
    }

    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        intrinsics!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes))
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        intrinsics!(_mm512_reduce_add_ps(a))
    }

    #[inline(always)]
    fn maximum(self, a: __m512) -> f32 {
        intrinsics!(_mm512_reduce_max_ps(a))
    }
}
