//! The intrinsics of x86-64.
#![allow(unsafe_code, reason = "intrinsics need it; this folder is their place")]

mod avx2;
mod avx512;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;

/// The parts of [`Simd`](super::simd::Simd) that differ only in the number of lanes.
macro_rules! arrays {
    ($lanes:literal) => {
        const LANES: usize = $lanes;

        type Array<T: Copy> = [T; $lanes];

        #[inline(always)]
        fn array<T: Copy>(value: T) -> [T; $lanes] {
            [value; $lanes]
        }

        #[inline(always)]
        fn chunks<T: Copy>(values: &[T]) -> (&[[T; $lanes]], &[T]) {
            values.as_chunks()
        }

        #[inline(always)]
        fn chunks_mut<T: Copy>(values: &mut [T]) -> (&mut [[T; $lanes]], &mut [T]) {
            values.as_chunks_mut()
        }
    };
}
use arrays;

/// Calls intrinsics in a method of an instruction set's proof.
macro_rules! intrinsics {
    ($body:expr) => {{
        // SAFETY: `self` is made by `detect` only, which checks that the processor has the instructions. Pointers
        // come from references to whole arrays of the vector's size; unaligned loads and stores are used. Prefetches may
        // name any address.
        unsafe { $body }
    }};
}
use intrinsics;
