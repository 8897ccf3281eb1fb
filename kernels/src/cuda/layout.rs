//! Packed matrices in the memory of a device.

use std::fmt;

use super::device::Gpu;
use super::error::CudaError;
use super::memory::Memory;
use crate::formats::{Format, Matrix};

/// How the codes of a matrix lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Row-major f32, f16 or bf16.
    Rows,
    /// Tiles of nibbles, see `matrix.cuh`.
    Int4,
    /// Tiles of bytes, see `matrix.cuh`.
    Int8,
}

/// A packed `[rows, cols]` matrix on a device.
pub struct DeviceMatrix {
    format: Format,
    rows: usize,
    cols: usize,
    memory: Memory,
}

impl DeviceMatrix {
    /// Bytes of device memory that a matrix takes.
    pub fn bytes(format: Format, rows: usize, cols: usize) -> u64 {
        let _ = (format, rows, cols);
        panic!("not built yet")
    }

    /// Copies a matrix to a device, in its layout there; in pieces, so that the host holds a few MiB of it at most.
    pub fn upload(gpu: &Gpu, matrix: &Matrix<'_>) -> Result<DeviceMatrix, CudaError> {
        let _ = (gpu, matrix);
        panic!("not built yet")
    }

    /// What it was made of.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Output channels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of device memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes() as u64
    }
}

impl fmt::Debug for DeviceMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}, {}]", self.format, self.rows, self.cols)
    }
}
