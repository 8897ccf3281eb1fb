//! What the machine can do at best, measured beside the kernels so that results are shares of it.
#![allow(unsafe_code, reason = "intrinsics")]

use lathe_kernels::cpu::Isa;
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Reads `bytes` with all threads of the pool, four streams each, and adds them up.
pub(crate) fn read(bytes: &[u8]) -> u64 {
    let share = bytes.len() / rayon::current_num_threads();
    bytes.par_chunks(share.next_multiple_of(4096)).map(four_streams).reduce(|| 0, u64::wrapping_add)
}

/// Bytes read and written in a second by copying `len` f32 again and again, for `seconds`, with all threads of the pool.
pub(crate) fn copy(len: usize, seconds: f64) -> f64 {
    let (from, mut to) = (vec![1.0_f32; len], vec![0.0_f32; len]);
    let share = len.div_ceil(rayon::current_num_threads());
    let (start, mut copies) = (Instant::now(), 0.0);
    while start.elapsed().as_secs_f64() < seconds {
        to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&mut to);
        copies += 1.0;
    }
    copies * (8 * len) as f64 / start.elapsed().as_secs_f64()
}

/// Runs `steps` rounds of independent f32 multiply-adds on all threads of the pool, with the vectors of `isa`; gives the
/// operations done, two for each multiply-add.
pub(crate) fn multiply_add(isa: Isa, steps: usize) -> f64 {
    rayon::broadcast(|_| chains(isa, steps)).iter().sum()
}

#[cfg(target_arch = "x86_64")]
fn four_streams(bytes: &[u8]) -> u64 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_extract_epi64, _mm256_loadu_si256, _mm256_setzero_si256,
    };

    #[target_feature(enable = "avx2")]
    fn sum(bytes: &[u8]) -> u64 {
        let (blocks, _) = bytes.as_chunks::<64>();
        let quarter = blocks.len() / 4;
        let mut sums: [__m256i; 8] = [_mm256_setzero_si256(); 8];
        for i in 0..quarter {
            for stream in 0..4 {
                let block = &blocks[stream * quarter + i];
                for half in 0..2 {
                    // SAFETY: 32 bytes from the start or the middle of a block of 64.
                    let value = unsafe { _mm256_loadu_si256(block.as_ptr().add(32 * half).cast()) };
                    sums[2 * stream + half] = _mm256_add_epi64(sums[2 * stream + half], value);
                }
            }
        }
        sums.iter().fold(0, |total, &sum| total.wrapping_add(_mm256_extract_epi64::<0>(sum) as u64))
    }

    assert!(is_x86_feature_detected!("avx2"), "the limit is measured with AVX2");
    // SAFETY: checked just above.
    unsafe { sum(bytes) }
}

#[cfg(not(target_arch = "x86_64"))]
fn four_streams(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    let quarter = words.len() / 4;
    let stream = |stream: usize| words[stream * quarter..].iter().map(|word| u64::from_le_bytes(*word));
    let sums = stream(0).zip(stream(1)).zip(stream(2)).zip(stream(3)).take(quarter);
    sums.fold(0, |total, (((a, b), c), d)| [a, b, c, d].into_iter().fold(total, u64::wrapping_add))
}

fn chains(isa: Isa, steps: usize) -> f64 {
    assert!(isa.is_supported());
    match isa {
        Isa::Scalar => scalar(steps),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: checked just above.
        Isa::Avx2 => unsafe { avx2(steps) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: checked just above.
        Isa::Avx512 => unsafe { avx512(steps) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => unreachable!("not on this processor"),
    }
}

/// Products and sums, since not every processor has a multiply-add.
fn scalar(steps: usize) -> f64 {
    let mut sums = black_box([1.0_f32; 32]);
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = *sum * 0.999 + 0.001;
        }
    }
    black_box(sums);
    (steps * 32 * 2) as f64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(steps: usize) -> f64 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};

    let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
    let mut sums = [_mm512_set1_ps(1.0); 24];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, a, b);
        }
    }
    for sum in sums {
        black_box(_mm512_reduce_add_ps(sum));
    }
    (steps * 24 * 16 * 2) as f64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(steps: usize) -> f64 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};

    let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
    let mut sums = [_mm256_set1_ps(1.0); 12];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, a, b);
        }
    }
    for sum in sums {
        black_box(_mm256_cvtss_f32(sum));
    }
    (steps * 12 * 8 * 2) as f64
}
