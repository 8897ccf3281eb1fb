//! Launcher of `embed.cu`: rows of a packed table.

use crate::cuda::{CudaError, DeviceMatrix, Gpu, Slice};

impl Gpu {
    /// As [`crate::ops::embed`]: `out[t] = table[first + index[t]]`, `index` `[tokens]`, `out` `[tokens, table.cols()]`. An
    /// index past the table gives NaN.
    pub fn embed(&self, table: &DeviceMatrix, index: Slice<u32>, first: u32, out: Slice<f32>) -> Result<(), CudaError> {
        let _ = (table, index, first, out);
        panic!("not built yet")
    }
}
