//! Launchers of `rotate.cu`: rotations of any kind and width.

use crate::cuda::{CudaError, Gpu, Slice};
use crate::rotations::Rotation;

/// A rotation on a device.
#[derive(Debug)]
pub struct DeviceRotation {
    width: usize,
}

impl DeviceRotation {
    /// Copies what kernels need of it: factors and signs of a Hadamard matrix, the reflections or the values of others.
    pub fn upload(gpu: &Gpu, rotation: &Rotation) -> Result<DeviceRotation, CudaError> {
        let _ = (gpu, rotation);
        panic!("not built yet")
    }

    /// Elements of a block.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of device memory.
    pub fn memory_bytes(&self) -> u64 {
        panic!("not built yet")
    }
}

impl Gpu {
    /// As [`crate::ops::rotate`]. `x` and `out` are `[n, rotation.width()]`; `out` is not `x`.
    pub fn rotate(
        &self,
        x: Slice<f32>,
        rotation: &DeviceRotation,
        inverse: bool,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let _ = (x, rotation, inverse, out);
        panic!("not built yet")
    }
}
