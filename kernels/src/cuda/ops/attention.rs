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
    /// Bytes of device memory that it takes; `u64::MAX` where that is no number.
    pub fn bytes(kv_heads: usize, head_dim: usize, capacity: usize, bf16: bool) -> u64 {
        half_bytes(kv_heads, head_dim, capacity, bf16).saturating_mul(2)
    }

    /// A cache whose elements are undefined.
    pub fn new(
        gpu: &Gpu,
        kv_heads: usize,
        head_dim: usize,
        capacity: usize,
        bf16: bool,
    ) -> Result<DeviceCache, CudaError> {
        let memory = gpu.allocate("a key/value cache", DeviceCache::bytes(kv_heads, head_dim, capacity, bf16))?;
        Ok(DeviceCache { memory, kv_heads, head_dim, capacity, bf16 })
    }

    /// Bytes of an element.
    pub fn element_bytes(&self) -> usize {
        element_bytes(self.bf16)
    }

    /// The keys, as bytes of `[kv_heads, capacity, head_dim]`, aligned to 256.
    pub fn keys(&self) -> Slice<u8> {
        self.memory.part(0, self.used_bytes())
    }

    /// The values, as the keys.
    pub fn values(&self) -> Slice<u8> {
        self.memory.part(self.memory.bytes() / 2, self.used_bytes())
    }

    fn used_bytes(&self) -> usize {
        self.kv_heads * self.capacity * self.head_dim * self.element_bytes()
    }

    /// Bytes of device memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes() as u64
    }
}

fn element_bytes(bf16: bool) -> usize {
    if bf16 { 2 } else { 4 }
}

/// Bytes of keys or values, up to the next multiple of 256.
fn half_bytes(kv_heads: usize, head_dim: usize, capacity: usize, bf16: bool) -> u64 {
    [kv_heads, head_dim, capacity]
        .iter()
        .fold(element_bytes(bf16) as u64, |bytes, &factor| bytes.saturating_mul(factor as u64))
        .checked_next_multiple_of(256)
        .unwrap_or(u64::MAX)
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
