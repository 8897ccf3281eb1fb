//! Launchers of `sample.cu`: choosing the next token.

use crate::cuda::{CudaError, Gpu, Slice};

/// Bytes of scratch that [`Gpu::sample`] needs.
pub const SAMPLE_SCRATCH_BYTES: usize = 1 << 20;

/// As the sampler of the runtime: logits divided by the temperature, the `top_k` likeliest of them, of these the likeliest
/// whose probabilities first add up to `top_p`; of equal ones the lowest token comes first.
#[derive(Debug, Clone, Copy)]
pub struct SampleStep {
    /// `[vocabulary]`
    pub logits: Slice<f32>,
    /// 0 takes the largest logit.
    pub temperature: f32,
    /// At least 1.
    pub top_k: Option<u32>,
    /// Above 0 and at most 1.
    pub top_p: Option<f32>,
    /// `[1]`: a number from 0 to below 1, read when the kernel runs, as f64 bits.
    pub uniform: Slice<u64>,
    /// `[1]`: the token; `u32::MAX` where a logit is NaN or +∞, or none is finite.
    pub token: Slice<u32>,
    /// Of [`SAMPLE_SCRATCH_BYTES`].
    pub scratch: Slice<u8>,
}

impl Gpu {
    /// Chooses a token.
    pub fn sample(&self, step: &SampleStep) -> Result<(), CudaError> {
        let _ = step;
        panic!("not built yet")
    }

    /// Moves on to the next token of a recorded step: `position[0] += 1`.
    pub fn advance(&self, position: Slice<u32>) -> Result<(), CudaError> {
        let _ = position;
        panic!("not built yet")
    }
}
