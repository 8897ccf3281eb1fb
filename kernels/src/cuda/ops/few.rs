//! Launches of the kernels of `few.cuh`: products of few rows.

use super::ProductInput;
use super::product::{FinishArgs, NormArgs, PARTS, PartArgs, XArgs};
use crate::cuda::{DeviceMatrix, Gpu, Grid, Kernel, Layout};
use crate::formats::Granularity;

/// Rows that are normalized or rounded to int8 in a product, at most: each block does it for all of them.
pub(super) const PREPARED_ROWS: usize = 2;

/// Floats from one row of x to the next in the sums of a warp: as in `few.cuh`.
const SUM_STRIDE: usize = 20;

/// Stages that the ring of a warp can have.
const RING_STAGES: [usize; 3] = [3, 4, 6];

/// Bytes under way on a multiprocessor that are enough to keep memory busy, with what the end of a tile costs: three times
/// what a round trip of 1 µs takes at a 132nd of 4.3 TB/s.
const UNDER_WAY: usize = 96 << 10;

/// Vectors of 16 bytes that each lane has of a stage, and bytes of all of them.
const VECTORS: usize = 4;
const STAGE_CODES: usize = 32 * 16 * VECTORS;

/// Warps of a block at most.
const WARPS: usize = 8;

/// Columns of a block of a stage.
const BLOCK: usize = 32;

/// What parts of shared memory are aligned to, in bytes.
const ALIGNMENT: usize = 16;

/// Bytes of shared memory that a device takes for itself for each block.
const RESERVED: usize = 1024;

/// Bytes of static shared memory of the kernels.
const STATIC_SHARED: usize = 128;

/// `FewArgs`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FewArgs {
    parts: [PartArgs; PARTS],
    x: u64,
    x_scales: u64,
    norm: NormArgs,
    finish: FinishArgs,
    x_kind: u32,
    x_vectors: u32,
    part_count: u32,
    units: u32,
    steps: u32,
    tail_vectors: u32,
    flushes_per_group: u32,
    ring_stages: u32,
    stage_bytes: u32,
    x_stride: u32,
    sums_at: u32,
    ring_at: u32,
    partials_at: u32,
    gates_at: u32,
}

/// A kernel, for weights of a layout whose groups are multiples of `group` columns.
pub(super) struct Few<A: 'static> {
    kernel: Kernel<A>,
    layout: Layout,
    group: usize,
    /// Rows at most.
    rows: usize,
    /// Blocks of a multiprocessor that its registers allow.
    blocks: usize,
}

/// `ProductArgs`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ProductArgs {
    pub(super) few: FewArgs,
    pub(super) rows: u32,
}

macro_rules! few_kernels {
    ($source:literal, $($layout:ident $group:literal $rows:literal $blocks:literal $name:literal),* $(,)?) => {
        &[$($crate::cuda::ops::few::Few::new($source, $name, $crate::cuda::Layout::$layout, $group, $rows, $blocks)),*]
    };
}
pub(super) use few_kernels;

impl<A> Few<A> {
    /// A kernel of a source for a layout, a group, rows and blocks.
    pub(super) const fn new(
        source: &'static str,
        name: &'static str,
        layout: Layout,
        group: usize,
        rows: usize,
        blocks: usize,
    ) -> Few<A> {
        Few { kernel: Kernel::new(source, name), layout, group, rows, blocks }
    }
}

/// The kernels of a product: in f32, in bf16, in int8. The first that fits is taken.
pub(super) struct Kernels<A: 'static> {
    pub(super) f32: &'static [Few<A>],
    pub(super) bf16: &'static [Few<A>],
    pub(super) int8: &'static [Few<A>],
}

static BF16: &[Few<ProductArgs>] = few_kernels!["product",
    Int4 128 8 3 "few_bf16_int4_128_8",
    Int4 64 8 3 "few_bf16_int4_64_8",
    Int4 32 8 3 "few_bf16_int4_32_8",
    Int8 64 8 3 "few_bf16_int8_64_8",
    Int8 32 8 3 "few_bf16_int8_32_8",
    Bf16 32 8 3 "few_bf16_bf16_8",
    Int4 128 16 2 "few_bf16_int4_128_16",
    Int4 64 16 2 "few_bf16_int4_64_16",
    Int4 32 16 2 "few_bf16_int4_32_16",
    Int8 64 16 2 "few_bf16_int8_64_16",
    Int8 32 16 2 "few_bf16_int8_32_16",
    Bf16 32 16 2 "few_bf16_bf16_16",
];

static INT8: &[Few<ProductArgs>] = few_kernels!["product",
    Int8 64 8 3 "few_int8_8",
    Int8 64 16 2 "few_int8_16",
];

static F32: &[Few<ProductArgs>] = few_kernels!["product",
    Int4 32 1 2 "few_f32_int4_1",
    Int8 32 1 2 "few_f32_int8_1",
    Bf16 32 1 2 "few_f32_bf16_1",
    F16 32 1 2 "few_f32_f16_1",
    F32 32 1 2 "few_f32_f32_1",
    Int4 32 4 2 "few_f32_int4_4",
    Int8 32 4 2 "few_f32_int8_4",
    Bf16 32 4 2 "few_f32_bf16_4",
    F16 32 4 2 "few_f32_f16_4",
    F32 32 4 2 "few_f32_f32_4",
    Int4 32 8 2 "few_f32_int4_8",
    Int8 32 8 2 "few_f32_int8_8",
    Bf16 32 8 2 "few_f32_bf16_8",
    F16 32 8 2 "few_f32_f16_8",
    F32 32 8 2 "few_f32_f32_8",
];

static PRODUCT: Kernels<ProductArgs> = Kernels { f32: F32, bf16: BF16, int8: INT8 };

/// What an element of x is in shared memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    F32,
    Bf16,
    Int8,
}

/// How a product of few rows is launched.
pub(super) struct Plan<A: 'static> {
    pub(super) kernel: &'static Kernel<A>,
    cols: usize,
    steps: usize,
    tail_vectors: usize,
    warps: usize,
    flushes_per_group: u32,
    ring_stages: usize,
    stage_bytes: usize,
    x_stride: usize,
    /// Sums of x or its scales, rings, sums of warps, gates.
    starts: [usize; 4],
    shared_bytes: usize,
    /// Blocks of a multiprocessor.
    blocks: usize,
}

/// How so many rows are multiplied with a weight; `None` where another kernel has to.
pub(super) fn plan(gpu: &Gpu, weight: &DeviceMatrix, x: &ProductInput, rows: usize) -> Option<Plan<ProductArgs>> {
    Plan::of(gpu, &PRODUCT, x, weight, rows)
}

/// As [`plan`], of rows of bf16 with weights that bf16 can hold.
pub(super) fn plan_bf16(gpu: &Gpu, weight: &DeviceMatrix, rows: usize) -> Option<Plan<ProductArgs>> {
    Plan::with(gpu, PRODUCT.bf16, Element::Bf16, weight, rows)
}

/// As [`plan`], of rows of int8 with weights that they are multiplied with.
pub(super) fn plan_int8(gpu: &Gpu, weight: &DeviceMatrix, rows: usize) -> Option<Plan<ProductArgs>> {
    Plan::with(gpu, PRODUCT.int8, Element::Int8, weight, rows)
}

impl<A> Plan<A> {
    /// How so many rows are multiplied with a weight by one of these kernels, if one does it.
    pub(super) fn of(
        gpu: &Gpu,
        kernels: &Kernels<A>,
        x: &ProductInput,
        weight: &DeviceMatrix,
        rows: usize,
    ) -> Option<Plan<A>> {
        let (table, element) = match x {
            ProductInput::Real(_) => (kernels.f32, Element::F32),
            // What bf16 cannot hold is multiplied in f32.
            ProductInput::Bf16(_) if matches!(weight.layout(), Layout::F16 | Layout::F32) => {
                (kernels.f32, Element::F32)
            }
            ProductInput::Bf16(_) | ProductInput::NormalizedBf16(..) => (kernels.bf16, Element::Bf16),
            ProductInput::Int8 { .. } | ProductInput::Quantized(_) | ProductInput::NormalizedInt8(..) => {
                (kernels.int8, Element::Int8)
            }
        };
        Plan::with(gpu, table, element, weight, rows)
    }

    fn with(
        gpu: &Gpu,
        table: &'static [Few<A>],
        element: Element,
        weight: &DeviceMatrix,
        rows: usize,
    ) -> Option<Plan<A>> {
        let (layout, parameters) = (weight.layout(), weight.format().parameters());
        let group = match parameters.granularity {
            Granularity::Group(size) => Some(size as usize),
            Granularity::None | Granularity::Channel => None,
        };
        let few = table.iter().find(|few| {
            few.layout == layout && rows <= few.rows && group.is_none_or(|group| group.is_multiple_of(few.group))
        })?;
        let padded_cols = weight.padded_cols();
        if padded_cols == 0 || rows == 0 {
            return None;
        }
        let blocks = match layout {
            Layout::Int4 => 8,
            Layout::Int8 => 4,
            Layout::F16 | Layout::Bf16 => 2,
            Layout::F32 => 1,
        };
        // As in `StageShape`: kernels in f32 scale each block for itself.
        let flush = few.group / BLOCK;
        let flushes = blocks / flush;
        let scaling_bytes = parameters.scales.bytes() + usize::from(!parameters.symmetric);
        let has_scales = matches!(layout, Layout::Int4 | Layout::Int8);
        let stage_bytes = STAGE_CODES + if has_scales { flushes * 16 * scaling_bytes } else { 0 };
        let steps = padded_cols.div_ceil(blocks * BLOCK);
        let tail_vectors = VECTORS * (padded_cols - (steps - 1) * blocks * BLOCK) / (blocks * BLOCK);
        let warps = steps.min(WARPS);
        // Rows of x start in banks of their own: see the loads of `few.cuh`, of 64 bytes a row, or 32 of int8.
        let x_bytes = steps * blocks * BLOCK;
        let x_stride = match element {
            Element::F32 => x_bytes * size_of::<f32>(),
            Element::Bf16 => skewed(x_bytes * size_of::<u16>(), 64),
            Element::Int8 => skewed(x_bytes, 32),
        };
        // Products of scaled codes in bf16 need the sums of x over what is scaled at once, those in int8 the scales of x.
        let sums = match element {
            Element::Bf16 if has_scales => steps * flushes * few.rows * size_of::<f32>(),
            Element::Int8 => few.rows * size_of::<f32>(),
            Element::F32 | Element::Bf16 => 0,
        };
        let limit = gpu.info().shared_memory_per_block as usize;
        let choices = RING_STAGES.into_iter().filter_map(|ring_stages| {
            let sizes = [
                rows * x_stride,
                sums,
                warps * ring_stages * stage_bytes,
                2 * warps * few.rows * SUM_STRIDE * size_of::<f32>(),
                16 * rows * size_of::<f32>(),
            ];
            let (mut starts, mut shared_bytes) = ([0; 5], 0_usize);
            for (start, size) in starts.iter_mut().zip(sizes) {
                *start = shared_bytes;
                shared_bytes = (shared_bytes + size).next_multiple_of(ALIGNMENT);
            }
            let used = shared_bytes + STATIC_SHARED;
            let blocks = ((limit + RESERVED) / (used + RESERVED)).min(few.blocks * WARPS / warps);
            (used <= limit).then_some((ring_stages, starts, shared_bytes, blocks))
        });
        let (ring_stages, [_, sums_at, ring_at, partials_at, gates_at], shared_bytes, blocks) =
            choices.max_by_key(|&(ring_stages, _, _, blocks)| {
                ((blocks * warps * (ring_stages - 1) * STAGE_CODES).min(UNDER_WAY), blocks)
            })?;
        Some(Plan {
            kernel: &few.kernel,
            cols: weight.cols(),
            steps,
            tail_vectors,
            warps,
            flushes_per_group: group.map_or(u32::MAX, |group| (group / few.group) as u32),
            ring_stages,
            stage_bytes,
            x_stride,
            starts: [sums_at, ring_at, partials_at, gates_at],
            shared_bytes,
            blocks,
        })
    }

    /// `parts`: at most four. `units`: row tiles of all of them, or of one where they are gate and value.
    pub(super) fn arguments(&self, x: &XArgs, parts: &[PartArgs], finish: FinishArgs, units: usize) -> FewArgs {
        let [sums_at, ring_at, partials_at, gates_at] = self.starts.map(|start| start as u32);
        let part_count = parts.len() as u32;
        let parts = std::array::from_fn(|number| parts.get(number).copied().unwrap_or(PartArgs::NONE));
        FewArgs {
            parts,
            x: x.x,
            x_scales: x.scales,
            norm: x.norm,
            finish,
            x_kind: x.kind,
            x_vectors: u32::from(x.vectors(self.cols)),
            part_count,
            units: units as u32,
            steps: self.steps as u32,
            tail_vectors: self.tail_vectors as u32,
            flushes_per_group: self.flushes_per_group,
            ring_stages: self.ring_stages as u32,
            stage_bytes: self.stage_bytes as u32,
            x_stride: self.x_stride as u32,
            sums_at,
            ring_at,
            partials_at,
            gates_at,
        }
    }

    /// As many blocks as run at once, for each of `copies` of the work.
    pub(super) fn grid(&self, gpu: &Gpu, units: usize, copies: usize) -> Grid {
        let at_once = (gpu.info().multiprocessors as usize * self.blocks).div_ceil(copies);
        Grid {
            blocks: [units.min(at_once) as u32, copies as u32, 1],
            threads: 32 * self.warps as u32,
            shared_bytes: self.shared_bytes as u32,
            overlaps: true,
        }
    }
}

/// At least `bytes`, and `skew` more than a multiple of 128: rows `skew` bytes wide then lie in banks side by side.
fn skewed(bytes: usize, skew: usize) -> usize {
    bytes + (128 + skew - bytes % 128) % 128
}

#[cfg(test)]
mod tests {
    use super::skewed;

    #[test]
    fn rows_are_skewed() {
        assert_eq!([0, 64, 100, 128, 192].map(|bytes| skewed(bytes, 64)), [64, 64, 192, 192, 192]);
        assert_eq!([64, 128].map(|bytes| skewed(bytes, 32)), [160, 160]);
    }
}
