//! Launchers of `elementwise.cu`: what computes each element on its own.

use super::Outputs;
use crate::cuda::{CudaError, Gpu, Slice};
use crate::ops::{Binary, Unary};

impl Gpu {
    /// As [`crate::ops::unary`], to f32 and bf16.
    pub fn unary(&self, function: Unary, x: Slice<f32>, out: &Outputs) -> Result<(), CudaError> {
        let _ = (function, x, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::gated`], to f32 and bf16.
    pub fn gated(&self, function: Unary, gate: Slice<f32>, value: Slice<f32>, out: &Outputs) -> Result<(), CudaError> {
        let _ = (function, gate, value, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::binary`].
    pub fn binary(&self, function: Binary, a: Slice<f32>, b: Slice<f32>, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (function, a, b, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::affine`].
    pub fn affine(&self, x: Slice<f32>, factor: f32, offset: f32, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, factor, offset, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::clamp`].
    pub fn clamp(&self, x: Slice<f32>, low: f32, high: f32, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, low, high, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::softcap`].
    pub fn softcap(&self, x: Slice<f32>, cap: f32, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, cap, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::gain`].
    pub fn gain(&self, x: Slice<f32>, gain: Slice<f32>, offset: f32, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, gain, offset, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::shift`].
    pub fn shift(&self, x: Slice<f32>, shift: Slice<f32>, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, shift, out);
        panic!("not built yet")
    }
}
