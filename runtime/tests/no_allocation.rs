//! A decode step allocates nothing: not in the executor, not in the kernels, not on any thread.

#![cfg(feature = "exec")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::testing::{Sizes, expert_program, program, rotated_program, with_int8_inputs};
use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::{Backend, CpuBackend, within};
use lathe_runtime::exec::{Logits, SessionOptions};
use lathe_runtime::program::Program;

/// Counts the allocations of all threads.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Large enough that kernels share their work among threads.
const SIZES: Sizes = Sizes { vocabulary: 1000, hidden: 512, head_dim: 64, feed_forward: 1024 };

/// One test, since the count is of the whole process.
#[test]
fn a_decode_step_allocates_nothing() {
    let quantized = [program(SIZES), expert_program(SIZES)].map(with_int8_inputs);
    for program in [program(SIZES), expert_program(SIZES), rotated_program(SIZES)].into_iter().chain(quantized) {
        assert_decoding_allocates_nothing(program);
    }
}

fn assert_decoding_allocates_nothing(program: Program) {
    let model = common::model(program);
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let tokens = common::tokens(50);
    for threads in [1, 2] {
        let backend = CpuBackend::new(threads).unwrap();
        let options = SessionOptions::with_capacity(64);
        let session = Mutex::new(backend.session(&artifact.program, &matrices, &options).unwrap());
        let decode = || {
            let mut session = session.lock().unwrap();
            session.truncate(0);
            for token in &tokens {
                session.forward(std::slice::from_ref(token), Logits::Last(1)).unwrap();
            }
        };
        let allocations = within(&backend, || {
            // Every thread goes through all kernels once: scratch is allocated where it is used first.
            rayon::broadcast(|_| decode());
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            decode();
            ALLOCATIONS.load(Ordering::Relaxed) - before
        });
        assert_eq!(allocations, 0, "with {threads} threads");
    }
}
