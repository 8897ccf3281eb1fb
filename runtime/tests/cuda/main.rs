//! Programs on a CUDA device, against the reference and the processor. The device is the host driver of `lathe-kernels`,
//! which runs the same kernels on the processor.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "cli")]
mod binary;
mod programs;
mod sessions;

use std::path::Path;

use lathe_kernels::check::host_driver;
use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::{Backend, CpuBackend, CudaBackend, Session};
use lathe_runtime::exec::SessionOptions;

use common::SmallModel;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn options(max_step_tokens: usize) -> SessionOptions {
    SessionOptions { capacity: 40, max_step_tokens, max_logits: 40, min_positions: 0 }
}

/// The device; `None` where there is no compiler to build one.
fn device() -> Option<CudaBackend> {
    host_driver::is_loaded(folder()).then(|| CudaBackend::open(0, None).unwrap())
}

/// Opens the model on a backend and makes a session.
fn with_session(
    backend: &dyn Backend,
    model: &SmallModel,
    options: &SessionOptions,
    test: impl FnOnce(&mut dyn Session),
) {
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let mut session = backend.session(&artifact.program, &matrices, options).unwrap();
    test(&mut *session);
}

fn processor() -> CpuBackend {
    CpuBackend::new(2).unwrap()
}

/// Largest difference of a value, relative to the largest value.
fn difference(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let apart = |(&found, expected): (&f32, &f64)| (f64::from(found) - expected).abs() / largest;
    let differences = found.iter().zip(expected).map(apart);
    // A maximum would hide what is no number.
    differences.fold(0.0, |worst, apart| if apart <= worst { worst } else { apart })
}
