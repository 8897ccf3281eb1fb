//! Launchers of `sample.cu`: choosing the next token.

use crate::cuda::{CudaError, Gpu, Grid, Kernel, Slice};

/// Bytes of scratch that [`Gpu::sample`] needs.
pub const SAMPLE_SCRATCH_BYTES: usize = 1 << 20;

/// Tokens of a vocabulary at most.
pub const MAX_VOCABULARY: usize = 1 << 20;

/// Blocks of a launch at most, one for each slice of the vocabulary.
const MAX_BLOCKS: u32 = 128;

/// Tokens of a slice, where there are not more slices than blocks.
const SLICE: u32 = 1024;

/// Threads of a block.
const THREADS: u32 = 256;

/// `SampleArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct Arguments {
    logits: u64,
    uniform: u64,
    token: u64,
    scratch: u64,
    temperature: f64,
    top_p: f64,
    count: u32,
    top_k: u32,
    blocks: u32,
    search: u32,
    level: u32,
    limit: u32,
}

/// A search of `sample.cu`; `None` stands for no limit.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Search {
    TopK,
    TopP,
    Draw,
    None,
}

static BEST: Kernel<Arguments> = Kernel::new("sample", "sample_best");
static GREEDY: Kernel<Arguments> = Kernel::new("sample", "sample_greedy");
static SUMS: Kernel<Arguments> = Kernel::new("sample", "sample_sums");
static DRAW: Kernel<Arguments> = Kernel::new("sample", "sample_draw");
static HISTOGRAM: Kernel<Arguments> = Kernel::new("sample", "sample_histogram");
static CLASSES: Kernel<Arguments> = Kernel::new("sample", "sample_classes");
static FIND: Kernel<Arguments> = Kernel::new("sample", "sample_find");
static ADVANCE: Kernel<AdvanceArguments> = Kernel::new("sample", "sample_advance");

/// `AdvanceArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct AdvanceArguments {
    position: u64,
}

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
    /// Chooses a token: of the largest logit in 2 launches, of all in 3, with top-k or top-p in 9, with both in 12.
    /// Sums of weights are rounded otherwise than where they are added up one by one, by about 2⁻⁵² of them.
    ///
    /// # Panics
    /// When a slice has another length, the scratch begins at no multiple of 16 bytes, there are more than 2²⁰ logits, the
    /// temperature is no number from 0 on, or top-k or top-p is out of range.
    pub fn sample(&self, step: &SampleStep) -> Result<(), CudaError> {
        let SampleStep { logits, temperature, top_k, top_p, uniform, token, scratch } = *step;
        assert!(logits.len() <= MAX_VOCABULARY, "{} logits", logits.len());
        assert!(temperature.is_finite() && temperature >= 0.0, "a temperature of {temperature}");
        assert!(top_k != Some(0), "a top-k of 0");
        assert!(top_p.is_none_or(|p| p > 0.0 && p <= 1.0), "a top-p of {top_p:?}");
        assert!(uniform.len() == 1 && token.len() == 1, "one number and one token");
        assert!(scratch.len() == SAMPLE_SCRATCH_BYTES, "scratch of {} bytes", scratch.len());
        assert!(scratch.address().is_multiple_of(16), "the scratch begins at a multiple of 16 bytes");
        let count = logits.len() as u32;
        let blocks = count.div_ceil(SLICE).clamp(1, MAX_BLOCKS);
        let top_k = top_k.filter(|&k| k < count);
        let arguments = Arguments {
            logits: logits.address(),
            uniform: uniform.address(),
            token: token.address(),
            scratch: scratch.address(),
            temperature: f64::from(temperature),
            top_p: top_p.map_or(1.0, f64::from),
            count,
            top_k: top_k.unwrap_or(0),
            blocks,
            search: Search::None as u32,
            level: 0,
            limit: Search::None as u32,
        };
        let launch = |kernel, blocks, arguments: Arguments| {
            self.launch(kernel, Grid { overlaps: true, ..Grid::new(blocks, THREADS) }, &arguments)
        };
        launch(&BEST, blocks, arguments)?;
        if temperature == 0.0 {
            return launch(&GREEDY, 1, arguments);
        }
        if step.top_k.is_none() && top_p.is_none() {
            launch(&SUMS, blocks, arguments)?;
            return launch(&DRAW, 1, arguments);
        }
        launch(&HISTOGRAM, blocks, arguments)?;
        let searches = [top_k.map(|_| Search::TopK), top_p.map(|_| Search::TopP), Some(Search::Draw)];
        let mut limit = Search::None;
        for search in searches.into_iter().flatten() {
            let arguments = Arguments { search: search as u32, limit: limit as u32, ..arguments };
            launch(&HISTOGRAM, blocks, Arguments { level: 1, ..arguments })?;
            launch(&HISTOGRAM, blocks, Arguments { level: 2, ..arguments })?;
            launch(&CLASSES, blocks, Arguments { level: 3, ..arguments })?;
            if let Search::Draw = search {
                launch(&FIND, 1, arguments)?;
            }
            limit = search;
        }
        Ok(())
    }

    /// Moves on to the next token of a recorded step: `position[0] += 1`.
    ///
    /// # Panics
    /// When it is not one number.
    pub fn advance(&self, position: Slice<u32>) -> Result<(), CudaError> {
        assert_eq!(position.len(), 1, "one position");
        let grid = Grid { overlaps: true, ..Grid::new(1, 32) };
        self.launch(&ADVANCE, grid, &AdvanceArguments { position: position.address() })
    }
}
