//! Launchers of `attention.cu`: keys and values of the past, and attention over them.

use super::Outputs;
use crate::cuda::{CudaError, Gpu, Memory, Slice};
use crate::ops::AttentionShape;

/// Keys and values of an attention: `[kv_heads, capacity, head_dim]` each, f32 or bf16.
#[derive(Debug)]
pub struct DeviceCache {
    memory: Memory,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements in a head.
    pub head_dim: usize,
    /// Positions.
    pub capacity: usize,
    /// Whether elements are bf16; f32 otherwise.
    pub bf16: bool,
}

impl DeviceCache {
    /// Bytes of device memory that it takes.
    pub fn bytes(kv_heads: usize, head_dim: usize, capacity: usize, bf16: bool) -> u64 {
        let _ = (kv_heads, head_dim, capacity, bf16);
        panic!("not built yet")
    }

    /// A cache whose elements are undefined.
    pub fn new(
        gpu: &Gpu,
        kv_heads: usize,
        head_dim: usize,
        capacity: usize,
        bf16: bool,
    ) -> Result<DeviceCache, CudaError> {
        let _ = (gpu, kv_heads, head_dim, capacity, bf16);
        panic!("not built yet")
    }

    /// Bytes of device memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes() as u64
    }
}

/// Attention of some tokens over a cache that holds their own keys and values already.
#[derive(Debug, Clone, Copy)]
pub struct AttentionStep<'a> {
    /// Heads and scores.
    pub shape: AttentionShape,
    /// `[tokens, heads, head_dim]`
    pub q: Slice<f32>,
    /// Keys and values.
    pub cache: &'a DeviceCache,
    /// `[heads]`, or none.
    pub sinks: Slice<f32>,
    /// Tokens.
    pub tokens: usize,
    /// `[1]`: the position of the first token, which kernels read when they run, so that a recorded launch can be replayed at
    /// another.
    pub position: Slice<u32>,
    /// Partial results, [`Gpu::attention_scratch`] elements.
    pub scratch: Slice<f32>,
    /// `[tokens, heads, head_dim]`, as f32, bf16 or both; no int8.
    pub out: Outputs,
}

impl Gpu {
    /// Elements of scratch that attention of up to `tokens` tokens needs.
    pub fn attention_scratch(&self, shape: &AttentionShape, capacity: usize, tokens: usize) -> usize {
        let _ = (shape, capacity, tokens);
        panic!("not built yet")
    }

    /// As [`crate::ops::attention`], in one launch.
    pub fn attention(&self, step: &AttentionStep<'_>) -> Result<(), CudaError> {
        let _ = step;
        panic!("not built yet")
    }
}
