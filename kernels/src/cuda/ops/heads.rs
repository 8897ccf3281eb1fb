//! Launchers of `heads.cu`: what happens to the heads of queries, keys and values before attention.

use super::{DeviceCache, DeviceRotation, NormParameters};
use crate::cuda::{CudaError, Gpu, Slice};
use crate::ops::Pairing;

/// Sines and cosines of a rotary embedding for the tokens of a pass, from [`Gpu::angles`].
#[derive(Debug, Clone, Copy)]
pub struct Angles {
    /// `[tokens, 2, pairs]`: cosines, then sines, times the amplitude.
    pub table: Slice<f32>,
    /// Pairs of a head that turn.
    pub pairs: usize,
    /// Which elements form a pair.
    pub pairing: Pairing,
}

/// One of queries, keys and values: each head is normalized, then turned, then rotated, then written.
#[derive(Debug, Clone, Copy)]
pub struct HeadPart<'a> {
    /// `[tokens, heads, head_dim]`
    pub x: Slice<f32>,
    /// Heads.
    pub heads: usize,
    /// Of groups of `head_dim` elements.
    pub norm: Option<NormParameters>,
    /// Rotary embedding.
    pub angles: Option<Angles>,
    /// Of blocks whose width divides `head_dim`, a Hadamard matrix, and whether to rotate back.
    pub rotation: Option<(&'a DeviceRotation, bool)>,
    /// Where it goes.
    pub to: HeadTarget<'a>,
}

/// Where heads go.
#[derive(Debug, Clone, Copy)]
pub enum HeadTarget<'a> {
    /// `[tokens, heads, head_dim]`; may be `x` itself.
    Buffer(Slice<f32>),
    /// To the keys of a cache, from the position of the first token on.
    Keys(&'a DeviceCache),
    /// To its values.
    Values(&'a DeviceCache),
}

impl Gpu {
    /// Sines and cosines for the tokens of a pass: `frequencies` `[pairs]` are radians per position, `position` `[1]` is that
    /// of the first token, `out` is `[tokens, 2, pairs]`. Angles are rounded to f32 and their functions taken in f64, as
    /// [`crate::ops::rope`] does.
    pub fn angles(
        &self,
        frequencies: Slice<f32>,
        amplitude: f32,
        position: Slice<u32>,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let _ = (frequencies, amplitude, position, out);
        panic!("not built yet")
    }

    /// Prepares up to three parts in one launch. `position` `[1]` is that of the first token; what would go past the end of a
    /// cache is not written.
    pub fn heads(
        &self,
        parts: &[HeadPart<'_>],
        tokens: usize,
        head_dim: usize,
        position: Slice<u32>,
    ) -> Result<(), CudaError> {
        let _ = (parts, tokens, head_dim, position);
        panic!("not built yet")
    }
}
