//! Launchers of `product_many.cu` and `product_int8.cu`: products of many rows, in bf16 and in integers.
//!
//! Products in bf16 of more rows yet are those of cuBLASLt, where it is there and [`Gpu::use_library`] has not said otherwise:
//! from [`LIBRARY_ROWS`] rows on with weights of bf16, from [`LIBRARY_ROWS_DECODED`] on with others, whose rows are decoded to
//! scratch, as many at a time as it holds. Their scales are part of what is rounded to bf16 then.

#[cfg(feature = "check")]
use super::product::assert_shapes;
use super::product::{FinishArgs, PARTS};
use super::{Finish, Product, ProductInput};
use crate::cuda::cublaslt::{Library, MatrixProduct};
use crate::cuda::layout::{MatrixArgs, TILE_ROWS};
use crate::cuda::{CudaError, DeviceMatrix, Gpu, Grid, Kernel, Layout, Slice};

/// `ManyPart`
#[repr(C)]
#[derive(Clone, Copy)]
struct PartArgs {
    weight: MatrixArgs,
    bias: u64,
    out: u64,
}

/// `ManyArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct ManyArgs {
    parts: [PartArgs; PARTS],
    finish: FinishArgs,
    x: u64,
    row_scales: u64,
    partial: u64,
    x_bytes: u32,
    rows: u32,
    part_count: u32,
    slot_blocks: u32,
    token_blocks: u32,
    stages: u32,
    split_stages: u32,
    ring_stages: u32,
    width: u32,
    splits: u32,
    first: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DecodeArgs {
    weight: MatrixArgs,
    out: u64,
    first: u32,
    count: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct PadArgs {
    x: u64,
    out: u64,
    rows: u32,
    row_bytes: u32,
    padded_bytes: u32,
}

macro_rules! kernels {
    ($source:literal, $($constant:ident = $name:literal),* $(,)?) => {
        $(static $constant: Kernel<ManyArgs> = Kernel::new($source, $name);)*
    };
}

kernels! {
    "product_many",
    INT4_32 = "product_int4_32",
    INT4_64 = "product_int4_64",
    INT4_128 = "product_int4_128",
    INT8_WEIGHTS_32 = "product_int8_weights_32",
    INT8_WEIGHTS_64 = "product_int8_weights_64",
    INT8_WEIGHTS_128 = "product_int8_weights_128",
    BF16_32 = "product_bf16_32",
    BF16_64 = "product_bf16_64",
    BF16_128 = "product_bf16_128",
    FINISH = "product_finish",
}

kernels! {
    "product_int8",
    INT8_32 = "product_int8_32",
    INT8_64 = "product_int8_64",
    INT8_128 = "product_int8_128",
    INT8_256 = "product_int8_256",
    INT8_FINISH = "product_int8_finish",
}

static DECODE_INT4: Kernel<DecodeArgs> = Kernel::new("product_many", "decode_int4");
static DECODE_INT8: Kernel<DecodeArgs> = Kernel::new("product_many", "decode_int8");
static PAD: Kernel<PadArgs> = Kernel::new("product_many", "pad_rows");

/// Row tiles of weights of a block, columns of a stage, bytes that rows of x are padded to, and sums of a row of x: as in
/// `product_many.cuh`.
const SLOTS: usize = 8;
const STAGE: usize = 128;
const CHUNK: usize = 16;
const SUMS_STRIDE: usize = SLOTS * TILE_ROWS + 4;

/// Most splits of columns, and least stages of one.
const MOST_SPLITS: usize = 8;
const LEAST_STAGES: usize = 4;

/// Rows of x from which cuBLASLt multiplies them with weights of bf16. To be measured: below, weights are the limit of both.
const LIBRARY_ROWS: usize = 128;

/// The same for weights that have to be decoded first, which costs about as much as reading them twice as bf16. To be measured.
const LIBRARY_ROWS_DECODED: usize = 512;

/// Bytes of scratch for decoded weights and for sums, each, that products with cuBLASLt ask for at most, unless rows are so long
/// that they need more for [`PANEL_ROWS`].
const PANEL_BYTES: usize = 64 << 20;

/// Weight rows that are decoded at a time are a multiple of this.
const PANEL_ROWS: usize = 128;

/// What parts of scratch are aligned to, in bytes.
const ALIGNMENT: usize = 256;

/// A kernel for blocks of 128 weight rows and so many rows of x.
struct Block {
    kernel: &'static Kernel<ManyArgs>,
    tokens: usize,
    warps: u32,
    /// Blocks of a multiprocessor that its registers allow.
    most_blocks: usize,
    /// What a row of x costs in it, of those in the largest block.
    percent: usize,
}

/// What multiplies rows of a kind with weights of a layout.
struct Family {
    /// Largest first.
    blocks: &'static [Block],
    /// Bytes of 16 weight rows in a stage.
    slot_bytes: usize,
    /// Bytes of an element of x.
    x_bytes: usize,
    finish: &'static Kernel<ManyArgs>,
}

const fn block(
    kernel: &'static Kernel<ManyArgs>,
    tokens: usize,
    warps: u32,
    most_blocks: usize,
    percent: usize,
) -> Block {
    Block { kernel, tokens, warps, most_blocks, percent }
}

static INT4: Family = Family {
    blocks: &[block(&INT4_128, 128, 8, 1, 100), block(&INT4_64, 64, 4, 2, 115), block(&INT4_32, 32, 4, 3, 150)],
    slot_bytes: 1024,
    x_bytes: 2,
    finish: &FINISH,
};
static INT8_WEIGHTS: Family = Family {
    blocks: &[
        block(&INT8_WEIGHTS_128, 128, 8, 1, 100),
        block(&INT8_WEIGHTS_64, 64, 4, 2, 115),
        block(&INT8_WEIGHTS_32, 32, 4, 2, 150),
    ],
    slot_bytes: 2048,
    x_bytes: 2,
    finish: &FINISH,
};
static BF16: Family = Family {
    blocks: &[block(&BF16_128, 128, 8, 1, 100), block(&BF16_64, 64, 4, 2, 115), block(&BF16_32, 32, 4, 2, 150)],
    slot_bytes: 4096,
    x_bytes: 2,
    finish: &FINISH,
};
static INT8: Family = Family {
    blocks: &[
        block(&INT8_256, 256, 8, 1, 100),
        block(&INT8_128, 128, 4, 2, 110),
        block(&INT8_64, 64, 4, 2, 130),
        block(&INT8_32, 32, 4, 2, 160),
    ],
    slot_bytes: 2048,
    x_bytes: 1,
    finish: &INT8_FINISH,
};

impl Family {
    /// `x_is_int8` is what x is, else it is bf16.
    fn of(weight: &DeviceMatrix, x_is_int8: bool) -> Option<&'static Family> {
        let args = weight.arguments();
        let in_steps = args.groups() <= 1 || args.group().is_multiple_of(32);
        match weight.layout() {
            Layout::Int8 if x_is_int8 => {
                (weight.format().parameters().symmetric && args.groups() == 1).then_some(&INT8)
            }
            Layout::Int4 if in_steps => Some(&INT4).filter(|_| !x_is_int8),
            Layout::Int8 if in_steps => Some(&INT8_WEIGHTS),
            Layout::Bf16 if !x_is_int8 => Some(&BF16),
            Layout::F32 | Layout::F16 | Layout::Bf16 | Layout::Int4 | Layout::Int8 => None,
        }
    }

    fn stage_bytes(&self, block: &Block) -> usize {
        SLOTS * self.slot_bytes + block.tokens * self.x_bytes * STAGE
    }

    /// Shared memory of a block whose ring has so many stages; sums leave through it when the ring is done.
    fn shared_bytes(&self, block: &Block, ring_stages: usize) -> usize {
        (ring_stages * self.stage_bytes(block)).max(block.tokens * SUMS_STRIDE * size_of::<f32>())
    }
}

/// How a product is shared out.
struct Shares {
    block: &'static Block,
    ring_stages: usize,
    slot_blocks: usize,
    token_blocks: usize,
    stages: usize,
    split_stages: usize,
}

impl Shares {
    /// `slots`: row tiles of all weights. Splits write what fits `scratch` bytes, of `sum_bytes` each.
    fn of(
        gpu: &Gpu,
        family: &Family,
        rows: usize,
        slots: usize,
        cols: usize,
        scratch: usize,
        sum_bytes: usize,
    ) -> Shares {
        let limit = gpu.info().shared_memory_per_block as usize;
        let fitting = family.blocks.iter().filter(|block| family.shared_bytes(block, 2) <= limit);
        // The smallest fits every device that bf16 tensor cores are in.
        let block = fitting
            .min_by_key(|block| rows.div_ceil(block.tokens) * block.tokens * block.percent)
            .unwrap_or(&family.blocks[family.blocks.len() - 1]);
        // A block has another KiB that the device takes for itself.
        let stages_of = |blocks: usize| ((limit + 1024) / blocks - 1024) / family.stage_bytes(block);
        let resident = (1..=block.most_blocks).rev().find(|&blocks| stages_of(blocks) >= 3).unwrap_or(1);
        let ring_stages = stages_of(resident).clamp(2, 4);
        let (slot_blocks, token_blocks) = (slots.div_ceil(SLOTS), rows.div_ceil(block.tokens));
        let stages = cols.div_ceil(STAGE);
        let wanted = gpu.info().multiprocessors as usize * resident / (slot_blocks * token_blocks);
        let splits = wanted.min(stages / LEAST_STAGES).min(MOST_SPLITS).min(scratch / sum_bytes.max(1)).max(1);
        Shares { block, ring_stages, slot_blocks, token_blocks, stages, split_stages: stages.div_ceil(splits).max(1) }
    }

    fn splits(&self) -> usize {
        self.stages.div_ceil(self.split_stages).max(1)
    }
}

/// Whether [`product_many`] multiplies rows in bf16, or in int8, with a weight: for int8 one that [`ProductInput::Int8`] takes,
/// else bf16, and integers with a scale for each row or for groups of a multiple of 32 columns.
pub(super) fn takes_many(weight: &DeviceMatrix, x_is_int8: bool) -> bool {
    Family::of(weight, x_is_int8).is_some()
}

/// Multiplies any number of rows: [`ProductInput::Bf16`] or [`ProductInput::Int8`] with up to four weights that
/// [`takes_many`] says yes to, alike in format and columns.
pub(super) fn product_many(gpu: &Gpu, product: &Product<'_>) -> Result<(), CudaError> {
    let Some(first) = product.parts.first().map(|part| part.weight) else { return Ok(()) };
    let (x, scales, x_is_int8) = match product.x {
        ProductInput::Bf16(x) => (x.cast::<u8>(), Slice::NONE, false),
        ProductInput::Int8 { codes, scales } => (codes.cast::<u8>(), scales, true),
        ProductInput::Real(_)
        | ProductInput::Quantized(_)
        | ProductInput::NormalizedBf16(..)
        | ProductInput::NormalizedInt8(..) => panic!("rows are of bf16 or int8"),
    };
    let family = Family::of(first, x_is_int8).unwrap_or_else(|| panic!("{first:?} is multiplied by other kernels"));
    if product.rows == 0 || product.parts.iter().all(|part| part.weight.rows() == 0) {
        return Ok(());
    }
    if let Some(panel) = library_panel(product)
        && let Some(library) = gpu.cublaslt()
    {
        return with_library(gpu, library, product, x, panel);
    }
    with_kernels(gpu, family, product, x, scales)
}

#[cfg(feature = "check")]
impl Gpu {
    /// [`Gpu::product`] with the kernels for many rows, however few there are, for tests and measurements of these.
    pub fn product_of_many(&self, product: &Product<'_>) -> Result<(), CudaError> {
        if let Some(first) = product.parts.first() {
            assert_shapes(product, first.weight);
        }
        product_many(self, product)
    }

    /// Bytes of scratch for [`Gpu::product_of_many`].
    pub fn product_of_many_scratch(&self, weight: &DeviceMatrix, rows: usize) -> usize {
        many_scratch(self, weight, rows)
    }
}

/// The arguments that do not depend on how the product is shared out.
fn arguments(product: &Product<'_>, x: u64, scales: Slice<f32>, x_bytes: usize) -> ManyArgs {
    let mut parts = [PartArgs { weight: MatrixArgs::NONE, bias: 0, out: 0 }; PARTS];
    let mut count = 0;
    for part in product.parts.iter().filter(|part| part.weight.rows() > 0) {
        let weight = part.weight.arguments();
        parts[count] = PartArgs { weight, bias: part.bias.address(), out: part.out.address() };
        count += 1;
    }
    ManyArgs {
        parts,
        finish: FinishArgs::of(product.finish),
        x,
        row_scales: scales.address(),
        partial: 0,
        x_bytes: x_bytes as u32,
        rows: product.rows as u32,
        part_count: count as u32,
        slot_blocks: 0,
        token_blocks: 0,
        stages: 0,
        split_stages: 0,
        ring_stages: 0,
        width: product.parts.iter().map(|part| part.weight.rows() as u32).sum(),
        splits: 1,
        first: 0,
    }
}

fn with_kernels(
    gpu: &Gpu,
    family: &Family,
    product: &Product<'_>,
    x: Slice<u8>,
    scales: Slice<f32>,
) -> Result<(), CudaError> {
    let cols = product.parts[0].weight.cols();
    let (rows, row_bytes) = (product.rows, cols * family.x_bytes);
    let padded_bytes = row_bytes.next_multiple_of(CHUNK);
    let mut scratch = product.scratch;
    assert!(scratch.address().is_multiple_of(CHUNK as u64), "scratch is aligned to {CHUNK} bytes");
    let mut address = x.address();
    if padded_bytes != row_bytes || !address.is_multiple_of(CHUNK as u64) {
        let bytes = (rows * padded_bytes).next_multiple_of(ALIGNMENT);
        address = scratch.range(0..rows * padded_bytes).address();
        pad_rows(gpu, x, address, rows, padded_bytes)?;
        scratch = scratch.range(bytes.min(scratch.len())..scratch.len());
    }
    let mut arguments = arguments(product, address, scales, padded_bytes);
    let slots = product.parts.iter().map(|part| part.weight.rows().div_ceil(TILE_ROWS)).sum();
    let sum_bytes = rows * arguments.width as usize * size_of::<f32>();
    let shares = Shares::of(gpu, family, rows, slots, cols, scratch.len(), sum_bytes);
    let splits = shares.splits();
    arguments.slot_blocks = shares.slot_blocks as u32;
    arguments.token_blocks = shares.token_blocks as u32;
    arguments.stages = shares.stages as u32;
    arguments.split_stages = shares.split_stages as u32;
    arguments.ring_stages = shares.ring_stages as u32;
    arguments.splits = splits as u32;
    if splits > 1 {
        arguments.partial = scratch.range(0..splits * sum_bytes).address();
    }
    let grid = Grid {
        blocks: [arguments.slot_blocks * arguments.token_blocks, splits as u32, 1],
        threads: 32 * shares.block.warps,
        shared_bytes: family.shared_bytes(shares.block, shares.ring_stages) as u32,
        overlaps: true,
    };
    gpu.launch(shares.block.kernel, grid, &arguments)?;
    if splits > 1 { finish(gpu, family.finish, product, &arguments) } else { Ok(()) }
}

/// Rows of x one after another at `out`, `padded_bytes` each.
fn pad_rows(gpu: &Gpu, x: Slice<u8>, out: u64, rows: usize, padded_bytes: usize) -> Result<(), CudaError> {
    let row_bytes = x.len() / rows;
    let words = rows * padded_bytes / 4;
    if words == 0 {
        return Ok(());
    }
    let (rows, row_bytes, padded_bytes) = (rows as u32, row_bytes as u32, padded_bytes as u32);
    let arguments = PadArgs { x: x.address(), out, rows, row_bytes, padded_bytes };
    let blocks = words.div_ceil(256).min(8 * gpu.info().multiprocessors as usize);
    gpu.launch(&PAD, Grid { overlaps: true, ..Grid::new(blocks as u32, 256) }, &arguments)
}

/// Adds what splits have left in `partial` and finishes.
fn finish(
    gpu: &Gpu,
    kernel: &'static Kernel<ManyArgs>,
    product: &Product<'_>,
    arguments: &ManyArgs,
) -> Result<(), CudaError> {
    let columns = if is_gated(product) { arguments.width / 2 } else { arguments.width };
    let across = columns.div_ceil(256);
    let down = (16 * gpu.info().multiprocessors).div_ceil(across).min(arguments.rows);
    let grid = Grid { blocks: [across, down, 1], overlaps: true, ..Grid::new(1, 256) };
    gpu.launch(kernel, grid, arguments)
}

/// Whether the library multiplies so many rows with a weight: where rows and outputs are whole vectors of 16 bytes.
fn goes_to_library(weight: &DeviceMatrix, rows: usize) -> bool {
    let least = if weight.layout() == Layout::Bf16 { LIBRARY_ROWS } else { LIBRARY_ROWS_DECODED };
    rows >= least && weight.cols() > 0 && weight.cols().is_multiple_of(8) && weight.rows().is_multiple_of(4)
}

/// Bytes for each weight row of a panel: decoded, and of its sums.
fn panel_row_bytes(weight: &DeviceMatrix, rows: usize, has_sums: bool) -> [usize; 2] {
    let decoded = if weight.layout() == Layout::Bf16 { 0 } else { weight.padded_cols() * size_of::<u16>() };
    [decoded, if has_sums { rows * size_of::<f32>() } else { 0 }]
}

fn is_gated(product: &Product<'_>) -> bool {
    matches!(product.finish, Finish::Gated(..))
}

/// Whether sums go to scratch, as the library does not finish them.
fn has_sums(product: &Product<'_>) -> bool {
    is_gated(product) || product.parts.iter().any(|part| !part.bias.is_empty())
}

/// Weight rows of a panel, of all that are computed at a time: as many as scratch holds, shared out evenly. `None` where the
/// product does not go to the library, as it has no scratch for it or outputs that are not aligned.
fn library_panel(product: &Product<'_>) -> Option<usize> {
    let together = if is_gated(product) { 2 } else { 1 };
    let longest = product.parts.iter().map(|part| part.weight.rows()).max()?;
    let [decoded, sums] = panel_row_bytes(product.parts[0].weight, product.rows, has_sums(product));
    let aligned = |address: u64| address.is_multiple_of(CHUNK as u64);
    let ProductInput::Bf16(x) = product.x else { return None };
    if !aligned(x.address()) || product.parts.iter().any(|part| !goes_to_library(part.weight, product.rows)) {
        return None;
    }
    let addend = if let Finish::Add(addend) = product.finish { addend.address() } else { 0 };
    if !aligned(addend) || product.parts.iter().any(|part| !aligned(part.out.address())) {
        return None;
    }
    let row_bytes = together * (decoded + sums);
    if row_bytes == 0 {
        return Some(longest);
    }
    let fitting = product.scratch.len().saturating_sub(2 * ALIGNMENT) / row_bytes / PANEL_ROWS * PANEL_ROWS;
    panel_rows(longest, fitting)
}

/// At most `fitting`, a multiple of [`PANEL_ROWS`]; as few panels as that takes, alike.
fn panel_rows(rows: usize, fitting: usize) -> Option<usize> {
    (fitting > 0).then(|| rows.div_ceil(rows.div_ceil(fitting)).next_multiple_of(PANEL_ROWS))
}

fn with_library(
    gpu: &Gpu,
    library: &Library,
    product: &Product<'_>,
    x: Slice<u8>,
    panel: usize,
) -> Result<(), CudaError> {
    let rows = product.rows;
    let together = if is_gated(product) { 2 } else { 1 };
    let cols = product.parts[0].weight.cols();
    let [decoded_bytes, _] = panel_row_bytes(product.parts[0].weight, rows, false);
    let sums_at = (together * panel * decoded_bytes).next_multiple_of(ALIGNMENT);
    for parts in product.parts.chunks(together) {
        let outputs = parts[0].weight.rows();
        for first in (0..outputs).step_by(panel) {
            let count = panel.min(outputs - first);
            let mut arguments = arguments(&Product { parts, ..*product }, 0, Slice::NONE, 0);
            arguments.first = first as u32;
            arguments.width = (together * count) as u32;
            let to_scratch = has_sums(product);
            if to_scratch {
                let bytes = rows * together * count * size_of::<f32>();
                arguments.partial = product.scratch.range(sums_at..sums_at + bytes).address();
            }
            for (number, part) in parts.iter().enumerate() {
                let weight = if decoded_bytes == 0 {
                    part.weight.arguments().codes() + (first * part.weight.padded_cols() * size_of::<u16>()) as u64
                } else {
                    let at = number * panel * decoded_bytes;
                    let out = product.scratch.range(at..at + count * decoded_bytes).address();
                    decode(gpu, part.weight, first, count, out)?;
                    out
                };
                let mut addend = None;
                let (out, out_stride) = if to_scratch {
                    (arguments.partial + (number * count * size_of::<f32>()) as u64, together * count)
                } else {
                    let offset = (first * size_of::<f32>()) as u64;
                    if let Finish::Add(slice) = product.finish {
                        addend = Some(slice.address() + offset);
                    }
                    (part.out.address() + offset, outputs)
                };
                library.multiply(
                    gpu,
                    &MatrixProduct {
                        weight,
                        weight_stride: part.weight.padded_cols(),
                        outputs: count,
                        inner: cols,
                        x: x.address(),
                        rows,
                        addend,
                        out,
                        out_stride,
                    },
                )?;
            }
            if to_scratch {
                finish(gpu, &FINISH, product, &arguments)?;
            }
        }
    }
    Ok(())
}

/// Rows of a weight of integers in bf16, `[count, padded columns]`. `first` is a multiple of 16.
fn decode(gpu: &Gpu, weight: &DeviceMatrix, first: usize, count: usize, out: u64) -> Result<(), CudaError> {
    let (kernel, tile_cols) = if weight.layout() == Layout::Int4 { (&DECODE_INT4, 64) } else { (&DECODE_INT8, 32) };
    let tiles = count.div_ceil(TILE_ROWS) * (weight.padded_cols() / tile_cols);
    let arguments = DecodeArgs { weight: weight.arguments(), out, first: first as u32, count: count as u32 };
    gpu.launch(kernel, Grid { overlaps: true, ..Grid::new(tiles.div_ceil(8) as u32, 256) }, &arguments)
}

/// Bytes of scratch that up to `rows` rows need with a weight. A product of several needs the sum.
pub(super) fn many_scratch(gpu: &Gpu, weight: &DeviceMatrix, rows: usize) -> usize {
    let mut bytes = 0;
    for family in [Family::of(weight, false), Family::of(weight, true)].into_iter().flatten() {
        let padded = (rows * (weight.cols() * family.x_bytes).next_multiple_of(CHUNK)).next_multiple_of(ALIGNMENT);
        let sum_bytes = rows * weight.rows() * size_of::<f32>();
        // Splits are as many as there are blocks for; fewer rows may have more of them.
        let block_rows = family.blocks.iter().map(|block| block.tokens * block.most_blocks).max().unwrap_or(0);
        let most = gpu.info().multiprocessors as usize * block_rows * SLOTS * TILE_ROWS * size_of::<f32>();
        bytes = bytes.max(padded + (MOST_SPLITS * sum_bytes).min(most));
    }
    if goes_to_library(weight, rows) && gpu.cublaslt().is_some() {
        // With sums, as a bias or a gate may ask for them.
        let fitting = panel_row_bytes(weight, rows, true).map(|bytes| match bytes {
            0 => usize::MAX / PANEL_ROWS * PANEL_ROWS,
            bytes => (PANEL_BYTES / bytes / PANEL_ROWS).max(1) * PANEL_ROWS,
        });
        let panel = panel_rows(weight.rows(), fitting[0].min(fitting[1])).unwrap_or(PANEL_ROWS);
        let row_bytes: usize = panel_row_bytes(weight, rows, true).iter().sum();
        bytes = bytes.max(panel * row_bytes + 2 * ALIGNMENT);
    }
    bytes
}
