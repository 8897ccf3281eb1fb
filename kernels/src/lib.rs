//! Numbers and bytes: weight formats and ops, a scalar reference each, SIMD claims about it.
//!
//! Kernels know no spec, no graph and no file name. Every function states shapes, layout and dtypes; activations are
//! f32, row-major. Ops run on the current rayon pool and give the same result whatever its width.

#![deny(unsafe_code)]

#[cfg(any(test, feature = "check"))]
pub mod check;
pub mod cpu;
#[cfg(feature = "cuda")]
#[allow(unsafe_code, reason = "calls of the driver, each with its reason")]
pub mod cuda;
pub mod formats;
pub mod ops;
pub mod rotations;
mod scratch;
mod tiles;
