//! Launchers of `attention_decode.cu` and `attention_prefill.cu`: keys and values of the past, and attention over them.

use super::Outputs;
use crate::cuda::{CudaError, Gpu, Grid, Kernel, Memory, Slice};
use crate::ops::AttentionShape;

/// Widest head that attention takes.
pub const MAX_HEAD_DIM: usize = 512;

/// Tokens that share no tiles: each splits its positions among blocks. From about as many on, reading the cache once for each
/// costs more than a tile that few blocks work on.
const DECODE_TOKENS: usize = 8;

/// Query heads of a unit (`attention_decode.cu`).
const UNIT_HEADS: usize = 8;

/// Positions that a block of a split takes at least.
const SHARE: usize = 64;

/// Blocks that split the positions of a unit at most.
const MAX_SPLITS: usize = 256;

/// Counters of units, at the start of the scratch. More units are split among no blocks.
const COUNTERS: usize = 1024;

/// Threads of a block, of every kernel here.
const THREADS: u32 = 128;

/// `AttentionArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct Arguments {
    q: u64,
    keys: u64,
    values: u64,
    sinks: u64,
    position: u64,
    out: u64,
    out_bf16: u64,
    counters: u64,
    partials: u64,
    tokens: u32,
    heads: u32,
    group: u32,
    head_dim: u32,
    capacity: u32,
    window: u32,
    splits: u32,
    scale: f32,
    softcap: f32,
    aligned: u32,
}

/// A kernel for heads of up to `width` elements.
struct Version {
    width: usize,
    /// Rows of a block, where tokens share tiles.
    rows: usize,
    shared_bytes: usize,
    kernel: Kernel<Arguments>,
}

impl Version {
    /// Tensor cores, 64 positions for each of four warps: in shared memory sums of 4 · 8 rows.
    const fn decode(width: usize, name: &'static str) -> Version {
        let kernel = Kernel::new("attention_decode", name);
        Version { width, rows: UNIT_HEADS, shared_bytes: 4 * UNIT_HEADS * (width + 4) * 4, kernel }
    }

    /// Tensor cores: queries, keys and values of 64 rows each in shared memory.
    const fn tiles(width: usize, name: &'static str) -> Version {
        let kernel = Kernel::new("attention_prefill", name);
        Version { width, rows: 64, shared_bytes: 3 * 64 * (width + 8) * 2, kernel }
    }

    /// Multiply-adds: queries, two buffers of 64 × 64 and weights in shared memory.
    const fn wide_tiles(width: usize, rows: usize, name: &'static str) -> Version {
        let kernel = Kernel::new("attention_prefill", name);
        let floats = rows * (width + 4) + (2 * 64 + rows) * (64 + 4);
        Version { width, rows, shared_bytes: floats * 4, kernel }
    }
}

static DECODE_BF16: [Version; 3] = [
    Version::decode(64, "attention_decode_bf16_64"),
    Version::decode(128, "attention_decode_bf16_128"),
    Version::decode(256, "attention_decode_bf16_256"),
];
static DECODE_F32: [Version; 3] = [
    Version::decode(128, "attention_decode_f32_128"),
    Version::decode(256, "attention_decode_f32_256"),
    Version::decode(512, "attention_decode_f32_512"),
];
static DECODE_ANY_BF16: [Version; 3] = [
    Version::decode(128, "attention_decode_any_bf16_128"),
    Version::decode(256, "attention_decode_any_bf16_256"),
    Version::decode(512, "attention_decode_any_bf16_512"),
];
static PREFILL_BF16: [Version; 4] = [
    Version::tiles(64, "attention_prefill_bf16_64"),
    Version::tiles(96, "attention_prefill_bf16_96"),
    Version::tiles(128, "attention_prefill_bf16_128"),
    Version::tiles(256, "attention_prefill_bf16_256"),
];
static PREFILL_F32: [Version; 4] = [
    Version::wide_tiles(64, 64, "attention_prefill_f32_64"),
    Version::wide_tiles(128, 64, "attention_prefill_f32_128"),
    Version::wide_tiles(256, 32, "attention_prefill_f32_256"),
    Version::wide_tiles(512, 16, "attention_prefill_f32_512"),
];
static PREFILL_ANY_BF16: [Version; 4] = [
    Version::wide_tiles(64, 64, "attention_prefill_any_bf16_64"),
    Version::wide_tiles(128, 64, "attention_prefill_any_bf16_128"),
    Version::wide_tiles(256, 32, "attention_prefill_any_bf16_256"),
    Version::wide_tiles(512, 16, "attention_prefill_any_bf16_512"),
];

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
    /// At least [`Gpu::attention_scratch`] elements, all bytes 0 before it is first used, and used by nothing but attention: each
    /// launch leaves the counters in it as it found them.
    pub scratch: Slice<f32>,
    /// `[tokens, heads, head_dim]`, as f32, bf16 or both; no int8.
    pub out: Outputs,
}

impl Gpu {
    /// Elements of scratch that attention of up to `tokens` tokens needs.
    pub fn attention_scratch(&self, shape: &AttentionShape, capacity: usize, tokens: usize) -> usize {
        let partial = UNIT_HEADS * (shape.head_dim.next_multiple_of(4) + 2);
        let partials = (1..=tokens.min(DECODE_TOKENS)).map(|tokens| {
            let units = units(shape) * tokens;
            match self.attention_splits(units, capacity) {
                1 => 0,
                splits => units * splits * partial,
            }
        });
        COUNTERS + partials.max().unwrap_or(0)
    }

    /// Blocks for each unit, so that there are two on each multiprocessor.
    fn attention_splits(&self, units: usize, capacity: usize) -> usize {
        let wanted = 2 * self.info().multiprocessors as usize / units.max(1);
        let splits = wanted.min(capacity.div_ceil(SHARE)).clamp(1, MAX_SPLITS);
        if units > COUNTERS { 1 } else { splits }
    }

    /// As [`crate::ops::attention`], in one launch. Nothing behind the last token, or behind the end of the cache, is read. With
    /// f32 in the cache, products are f32. With bf16 they are exact to about 2⁻¹⁷ of Σ |q||k| and Σ |weight||v| for up to 8
    /// tokens; for more, q and weights are rounded to bf16 where the head is a multiple of 8 up to 256.
    ///
    /// # Panics
    /// When a slice has another length, the scratch begins at no multiple of 16 bytes, the cache is of another shape, or a head
    /// is wider than [`MAX_HEAD_DIM`].
    pub fn attention(&self, step: &AttentionStep<'_>) -> Result<(), CudaError> {
        let AttentionStep { shape, q, cache, sinks, tokens, position, scratch, out } = *step;
        let AttentionShape { heads, kv_heads, head_dim, scale, window, softcap } = shape;
        if tokens == 0 {
            return Ok(());
        }
        let capacity = cache.capacity;
        assert!(heads.is_multiple_of(kv_heads), "{heads} heads over {kv_heads} key/value heads");
        assert_eq!((cache.kv_heads, cache.head_dim), (kv_heads, head_dim), "the cache is of these heads");
        assert!((1..=MAX_HEAD_DIM).contains(&head_dim), "a head of {head_dim} elements");
        assert!(window != Some(0), "a window of 0 sees nothing");
        assert!(softcap.is_none_or(|cap| cap > 0.0), "a cap is above 0");
        assert!(tokens <= capacity, "{tokens} tokens exceed the capacity of {capacity}");
        assert_eq!(q.len(), tokens * heads * head_dim, "q is [{tokens}, {heads}, {head_dim}]");
        for len in [out.real.len(), out.bf16.len()] {
            assert!(len == 0 || len == q.len(), "out is as long as q");
        }
        assert!(out.int8.is_empty() && out.scales.is_empty(), "attention gives no int8");
        assert!(sinks.is_empty() || sinks.len() == heads, "sinks are [{heads}]");
        assert_eq!(position.len(), 1, "one position");
        assert!(scratch.len() >= self.attention_scratch(&shape, capacity, tokens), "the scratch is large enough");
        assert!(scratch.address().is_multiple_of(16), "the scratch begins at a multiple of 16 bytes");

        let number = |value: usize| u32::try_from(value).expect("sizes of a model fit in 32 bits");
        let decodes = tokens <= DECODE_TOKENS;
        let versions: &'static [Version] = match (decodes, cache.bf16, head_dim.is_multiple_of(8) && head_dim <= 256) {
            (true, false, _) => &DECODE_F32,
            (true, true, true) => &DECODE_BF16,
            (true, true, false) => &DECODE_ANY_BF16,
            (false, false, _) => &PREFILL_F32,
            (false, true, true) => &PREFILL_BF16,
            (false, true, false) => &PREFILL_ANY_BF16,
        };
        let version = versions.iter().find(|version| version.width >= head_dim).expect("no head is wider");
        let splits = self.attention_splits(units(&shape) * tokens, capacity);
        let blocks = if decodes {
            [number(splits), number(units(&shape)), number(tokens)]
        } else {
            [number((tokens * (heads / kv_heads)).div_ceil(version.rows)), number(kv_heads), 1]
        };
        let arguments = Arguments {
            q: q.address(),
            keys: cache.keys().address(),
            values: cache.values().address(),
            sinks: sinks.address(),
            position: position.address(),
            out: out.real.address(),
            out_bf16: out.bf16.address(),
            counters: scratch.address(),
            partials: scratch.range(COUNTERS..scratch.len()).address(),
            tokens: number(tokens),
            heads: number(heads),
            group: number(heads / kv_heads),
            head_dim: number(head_dim),
            capacity: number(capacity),
            window: window.unwrap_or(0),
            splits: number(splits),
            scale,
            softcap: softcap.unwrap_or(0.0),
            aligned: u32::from(head_dim.is_multiple_of(4) && q.address().is_multiple_of(16)),
        };
        let grid = Grid { blocks, threads: THREADS, shared_bytes: number(version.shared_bytes), overlaps: true };
        self.launch(&version.kernel, grid, &arguments)
    }
}

/// Units of a token: heads that share what they read, up to [`UNIT_HEADS`].
fn units(shape: &AttentionShape) -> usize {
    shape.kv_heads * (shape.heads / shape.kv_heads).div_ceil(UNIT_HEADS)
}
