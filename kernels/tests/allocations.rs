//! A decode step allocates nothing.

use lathe_kernels::formats::{Format, Matrix};
use lathe_kernels::ops::{self, AttentionShape, Binary, Norm, Pairing, RopeTable, Unary};
use lathe_kernels::rotations::Rotation;
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
    rotations: &[Rotation],
    frequencies: &[f32],
    cache: &mut [Vec<f32>; 2],
    past: usize,
    x: &mut [f32],
    y: &mut [f32],
) {
    let shape = AttentionShape { heads: 8, kv_heads: 2, head_dim: 64, scale: 0.125, window: None, softcap: None };
    let table = RopeTable { inverse_frequencies: frequencies, amplitude: 1.0, pairing: Pairing::Half };
    let width = frequencies.len();
    let (gain, shift) = (Some(frequencies), Some(frequencies));
    let norm = Norm { width, eps: 1e-6, centre: true, along: None, gain, gain_offset: 0.0, shift };
    for rotation in rotations {
        let blocks = ..512 / rotation.width() * rotation.width();
        ops::rotate(&x[blocks], rotation, false, &mut y[blocks]);
        ops::rotate(&y[blocks], rotation, true, &mut x[blocks]);
    }
    for weight in weights {
        ops::embed(weight, &[3], 1, x);
        ops::norm(x, &norm, y);
        ops::gain(y, frequencies, 1.0, x);
        ops::matmul(x, weight, None, y);
        ops::rope(y, &[past as u32], &table, 64, x);
        for cache in &mut *cache {
            ops::append_cache(&x[..128], cache, 2, 64, 300, past);
        }
        ops::attention(&shape, x, &cache[0], &cache[1], Some(&frequencies[..8]), 300, past, y);
        ops::softmax(y, 32, x);
        let mut choice = [0; 2];
        ops::top_k(&x[..4], 4, 2, &mut choice);
        let experts = [weight, weight, weight, weight];
        ops::expert_matmul(y, &choice, 2, |number| (experts[number], None), 4, &mut cache[1][..1024]);
        ops::combine(&cache[1][..1024], &x[..2], 2, y);
        // Two rows, so that rows are sorted by expert.
        let choice = [1, 3, 3, (past % 4) as u32];
        let [out, x_of_experts] = &mut *cache;
        let (x_of_experts, out) = (&x_of_experts[..1024], &mut out[..2048]);
        ops::expert_matmul(x_of_experts, &choice, 2, |number| (experts[number], None), 4, out);
        ops::unary(Unary::Gelu, y, x);
        ops::gated(Unary::Silu, x, y, &mut cache[0][..512]);
        ops::binary(Binary::Add, x, &cache[0][..512], y);
        ops::binary(Binary::Mul, y, &cache[0][..512], x);
    }
}

#[test]
fn decode_steps_allocate_nothing() {
    let bytes = vec![0x3c; 512 * 512 * 4];
    let formats = [
        "f32",
        "f16",
        "bf16",
        "int8(per: channel)",
        "int8(group: 16, symmetric: false)",
        "int4(group: 32, symmetric: false)",
        "int4(group: 128, scales: f16)",
    ];
    let weights = formats.map(|text| {
        let format: Format = text.parse().unwrap();
        let planes: Vec<_> = format.planes(512, 512).iter().map(|plane| &bytes[..plane.bytes().unwrap()]).collect();
        Matrix::new(format, 512, 512, &planes).unwrap()
    });
    let identity = (0..128 * 128).map(|i| if i % 129 == 0 { 1.0 } else { 0.0 }).collect();
    let rotations = [
        Rotation::hadamard(4),
        Rotation::hadamard(60),
        Rotation::random_hadamard(512, 1),
        Rotation::orthogonal(64, 1),
        Rotation::matrix(128, identity),
    ];
    let rotations = rotations.map(Result::unwrap);
    let frequencies = vec![0.5; 32];
    let mut cache = [vec![0.25; 2 * 300 * 64], vec![0.25; 2 * 300 * 64]];
    let (mut x, mut y) = (vec![0.0; 512], vec![0.0; 512]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    // A thread's scratch grows in the first step in which it takes part in an op, which may be a late one.
    let counts: Vec<_> = (0..200)
        .map(|round| {
            pool.install(|| {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                step(&weights, &rotations, &frequencies, &mut cache, 256 + round % 16, &mut x, &mut y);
                ALLOCATIONS.load(Ordering::Relaxed) - before
            })
        })
        .collect();
    let quiet = counts.iter().filter(|&&count| count == 0).count();
    assert!(quiet > 180, "allocations in 200 steps: {counts:?}");
}
