//! A decode step allocates nothing.

use lathe_kernels::formats::{Matrix, find};
use lathe_kernels::ops::{self, AttentionShape, Pairing, RopeTable};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with a count of what is asked for.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise; `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The ops of one layer for one token.
fn step(
    weights: &[Matrix<'_>],
    frequencies: &[f32],
    cache: &mut [Vec<f32>; 2],
    past: usize,
    x: &mut [f32],
    y: &mut [f32],
) {
    let shape = AttentionShape { heads: 8, kv_heads: 2, head_dim: 64, scale: 0.125, window: None };
    let table = RopeTable { inverse_frequencies: frequencies, amplitude: 1.0, pairing: Pairing::Half };
    for weight in weights {
        ops::embed(weight, &[3], x);
        ops::rms_norm(x, Some(frequencies), frequencies.len(), 1e-6, y);
        ops::gain(y, frequencies, x);
        ops::matmul(x, weight, None, y);
        ops::rope(y, &[past as u32], &table, 64, x);
        for cache in &mut *cache {
            ops::append_cache(&x[..128], cache, 2, 64, 300, past);
        }
        ops::attention(&shape, x, &cache[0], &cache[1], 300, past, y);
        ops::silu(y, x);
        ops::silu_mul(x, y, &mut cache[0][..512]);
        ops::add(x, &cache[0][..512], y);
        ops::mul(y, &cache[0][..512], x);
    }
}

#[test]
fn decode_steps_allocate_nothing() {
    let planes = vec![0x3c; 512 * 512 * 4];
    let weights = ["f32", "f16", "bf16"].map(|name| {
        let format = find(name).unwrap();
        let bytes = format.planes(512, 512)[0].bytes().unwrap();
        Matrix::new(format, 512, 512, &[&planes[..bytes]]).unwrap()
    });
    let frequencies = vec![0.5; 32];
    let mut cache = [vec![0.25; 2 * 300 * 64], vec![0.25; 2 * 300 * 64]];
    let (mut x, mut y) = (vec![0.0; 512], vec![0.0; 512]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    // A thread's scratch grows in the first step in which it takes part in an op, which may be a late one.
    let counts: Vec<_> = (0..200)
        .map(|round| {
            pool.install(|| {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                step(&weights, &frequencies, &mut cache, 256 + round % 16, &mut x, &mut y);
                ALLOCATIONS.load(Ordering::Relaxed) - before
            })
        })
        .collect();
    let quiet = counts.iter().filter(|&&count| count == 0).count();
    assert!(quiet > 180, "allocations in 200 steps: {counts:?}");
}
