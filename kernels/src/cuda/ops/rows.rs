//! Launcher of `rows.cu`: whole rows, in one kernel: addition, norm, rotation, rounding to operands of products.

use super::{DeviceRotation, Outputs};
use crate::cuda::{CudaError, Gpu, Slice};

/// As [`crate::ops::Norm`], with vectors on the device.
#[derive(Debug, Clone, Copy)]
pub struct NormParameters {
    /// Elements of a group.
    pub width: usize,
    /// Added to the mean of the squares.
    pub eps: f32,
    /// Whether the mean is subtracted first, or the part along `along`.
    pub centre: bool,
    /// A unit vector, `[width]`, or none.
    pub along: Slice<f32>,
    /// Factors, `[width]`, or none.
    pub gain: Slice<f32>,
    /// Added to each element of `gain`, where there is one.
    pub gain_offset: f32,
    /// Added at the end, `[width]`, or none.
    pub shift: Slice<f32>,
}

/// What [`Gpu::row_step`] does to each row: `y = x + add` (kept in `sum`), then the norm, then the rotation, then it writes.
/// Each of them may be absent.
#[derive(Debug, Clone, Copy)]
pub struct RowStep<'a> {
    /// `[rows, width]`
    pub x: Slice<f32>,
    /// `[rows, width]`, or none.
    pub add: Slice<f32>,
    /// Where x + add goes, `[rows, width]`, or none. May be `x` or `add` itself.
    pub sum: Slice<f32>,
    /// Elements in a row.
    pub width: usize,
    /// Of groups of a row, whose width divides that of the row.
    pub norm: Option<NormParameters>,
    /// Of blocks of a row, and whether to rotate back. One that [`Gpu::rotates_rows`].
    pub rotation: Option<(&'a DeviceRotation, bool)>,
    /// Where the result goes. Its int8 form has one scale for each row.
    pub out: Outputs,
}

impl Gpu {
    /// Computes rows.
    pub fn row_step(&self, step: &RowStep<'_>) -> Result<(), CudaError> {
        let _ = step;
        panic!("not built yet")
    }

    /// As [`crate::ops::centre`].
    pub fn centre(&self, x: Slice<f32>, width: usize, along: Slice<f32>, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (x, width, along, out);
        panic!("not built yet")
    }

    /// Whether [`Gpu::row_step`] takes this rotation for rows of `width`: a Hadamard matrix, and rows that fit into shared
    /// memory. Others go through [`Gpu::rotate`].
    pub fn rotates_rows(&self, rotation: &DeviceRotation, width: usize) -> bool {
        let _ = (rotation, width);
        panic!("not built yet")
    }
}
