//! Launchers of `routing.cu`: softmax of groups, choices of experts, and what is added up over them.

use crate::cuda::{CudaError, Gpu, Slice};

impl Gpu {
    /// As [`crate::ops::softmax`].
    pub fn softmax(&self, x: Slice<f32>, width: usize, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, width, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::normalize_sum`].
    pub fn normalize_sum(&self, x: Slice<f32>, width: usize, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, width, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::top_k`].
    pub fn top_k(&self, x: Slice<f32>, width: usize, k: usize, out: Slice<u32>) -> Result<(), CudaError> {
        let _ = (x, width, k, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::gather`].
    pub fn gather(
        &self,
        x: Slice<f32>,
        width: usize,
        choice: Slice<u32>,
        k: usize,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let _ = (x, width, choice, k, out);
        panic!("not built yet")
    }

    /// As [`crate::ops::combine`].
    pub fn combine(&self, x: Slice<f32>, weights: Slice<f32>, k: usize, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, weights, k, out);
        panic!("not built yet")
    }
}
