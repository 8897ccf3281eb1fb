//! Launchers of `experts.cu`: products with the weights of chosen experts.

use super::ProductInput;
use crate::cuda::{CudaError, DeviceMatrix, Gpu, Slice};

/// The weights of all experts of a step, alike in format and shape.
#[derive(Debug)]
pub struct DeviceExperts {
    matrices: Vec<DeviceMatrix>,
}

impl DeviceExperts {
    /// `biases` is one for each expert, `[out]`, or empty.
    ///
    /// # Panics
    /// When there is no matrix, or they differ in format or shape.
    pub fn new(gpu: &Gpu, matrices: Vec<DeviceMatrix>, biases: &[Slice<f32>]) -> Result<DeviceExperts, CudaError> {
        let _ = (gpu, matrices, biases);
        panic!("not built yet")
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.matrices.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.matrices.is_empty()
    }

    /// Bytes of device memory.
    pub fn memory_bytes(&self) -> u64 {
        panic!("not built yet")
    }
}

/// As [`crate::ops::expert_matmul`]; of int8 as [`crate::ops::quantized_expert_matmul`].
#[derive(Debug, Clone, Copy)]
pub struct ExpertProduct<'a> {
    /// `[rows, in]`, or `[rows, k, in]`, and of int8 a scale for each `[in]`; not normalized.
    pub x: ProductInput,
    /// `[rows, k]`
    pub choice: Slice<u32>,
    /// Rows.
    pub rows: usize,
    /// Choices of a row.
    pub k: usize,
    /// Weights and biases.
    pub experts: &'a DeviceExperts,
    /// `[rows, k, out]`
    pub out: Slice<f32>,
    /// Of [`Gpu::expert_scratch`] bytes.
    pub scratch: Slice<u8>,
}

impl Gpu {
    /// Multiplies. A choice that is no expert gives NaN.
    pub fn expert_product(&self, product: &ExpertProduct<'_>) -> Result<(), CudaError> {
        let _ = product;
        panic!("not built yet")
    }

    /// Bytes of scratch for up to `rows` rows with `k` choices each.
    pub fn expert_scratch(&self, experts: &DeviceExperts, rows: usize, k: usize) -> usize {
        let _ = (experts, rows, k);
        panic!("not built yet")
    }
}
