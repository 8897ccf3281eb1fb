//! Launchers, one file for each source of kernels: methods of [`super::Gpu`] that check shapes and choose grids.
//!
//! Activations are f32, row-major, in [`Slice`]s of exactly as many elements as the shapes say; lengths that do not fit
//! are a mistake of the caller and panic. What is optional is [`Slice::NONE`] where it is not there. Any number of rows
//! may be zero: then nothing is launched. Results are close to the references in [`crate::ops`] as
//! [`crate::ops::accuracy`] states for vector code, unless a launcher says otherwise.

mod attention;
mod elementwise;
mod embed;
mod experts;
mod few;
mod heads;
#[cfg(feature = "check")]
mod limits;
mod product;
mod product_many;
mod rotate;
mod routing;
mod rows;
mod sample;

pub use attention::{AttentionStep, DeviceCache, MAX_HEAD_DIM};
pub use experts::{DeviceExperts, ExpertProduct};
pub use heads::{Angles, HeadPart, HeadTarget, MAX_HEAD_ELEMENTS, rotates_heads};
pub use product::{Finish, Product, ProductInput, ProductPart};
pub use rotate::DeviceRotation;
pub use rows::{NormParameters, RowStep};
pub use sample::{MAX_VOCABULARY, SAMPLE_SCRATCH_BYTES, SampleStep};

use super::memory::Slice;

/// Where a kernel writes what it computes, `[rows, width]` in each form that is wanted; the others are [`Slice::NONE`].
#[derive(Debug, Clone, Copy)]
pub struct Outputs {
    /// As it is.
    pub real: Slice<f32>,
    /// Rounded to bf16: an operand of products.
    pub bf16: Slice<u16>,
    /// Rounded to int8 with a scale for each row (see [`crate::ops::quantize_rows`]): an operand of products.
    pub int8: Slice<i8>,
    /// Those scales, `[rows]`.
    pub scales: Slice<f32>,
}

impl Outputs {
    /// Nothing is wanted.
    pub const NONE: Outputs = Outputs { real: Slice::NONE, bf16: Slice::NONE, int8: Slice::NONE, scales: Slice::NONE };

    /// As it is.
    pub fn real(real: Slice<f32>) -> Outputs {
        Outputs { real, ..Outputs::NONE }
    }
}
