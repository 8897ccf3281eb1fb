//! Launchers of `experts.cu`: products with the weights of chosen experts.

use super::ProductInput;
use super::few::{FewArgs, Kernels, Plan, few_kernels};
use super::product::{FinishArgs, PartArgs, ProductPart, TILE, TileRows, XArgs, assert_int8};
use crate::cuda::layout::{MatrixArgs, TILE_ROWS};
use crate::cuda::{CudaError, DeviceMatrix, Gpu, Grid, Kernel, Memory, Slice};

/// The weights of all experts of a step, alike in format and shape.
#[derive(Debug)]
pub struct DeviceExperts {
    matrices: Vec<DeviceMatrix>,
    /// `Expert` for each.
    table: Memory,
}

impl DeviceExperts {
    /// `biases` is one for each expert, `[out]`, or empty.
    ///
    /// # Panics
    /// When there is no matrix, or they differ in format or shape.
    pub fn new(gpu: &Gpu, matrices: Vec<DeviceMatrix>, biases: &[Slice<f32>]) -> Result<DeviceExperts, CudaError> {
        let first = matrices.first().expect("an expert");
        let shape = |matrix: &DeviceMatrix| (matrix.format(), matrix.rows(), matrix.cols());
        assert!(matrices.iter().all(|matrix| shape(matrix) == shape(first)), "all experts have one format and shape");
        assert!(biases.is_empty() || biases.len() == matrices.len(), "a bias for each expert");
        assert!(biases.iter().all(|bias| bias.len() == first.rows()), "biases of {first:?}");
        let bias = |number: usize| biases.get(number).map_or(0, |bias| bias.address());
        let entries = matrices.iter().enumerate().flat_map(|(number, matrix)| {
            let [codes, scales, zero_points] = matrix.arguments().addresses();
            [codes, scales, zero_points, bias(number)]
        });
        let table = gpu.upload("a table of experts", &entries.collect::<Vec<_>>())?;
        Ok(DeviceExperts { matrices, table })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.matrices.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.matrices.is_empty()
    }

    /// Bytes of device memory.
    pub fn memory_bytes(&self) -> u64 {
        let matrices: u64 = self.matrices.iter().map(DeviceMatrix::memory_bytes).sum();
        matrices + self.table.bytes() as u64
    }

    /// Any of them.
    fn like(&self) -> &DeviceMatrix {
        &self.matrices[0]
    }
}

/// As [`crate::ops::expert_matmul`]; of int8 as [`crate::ops::quantized_expert_matmul`].
#[derive(Debug, Clone, Copy)]
pub struct ExpertProduct<'a> {
    /// `[rows, in]`, or `[rows, k, in]`, and of int8 a scale for each `[in]`; neither normalized nor rounded within.
    pub x: ProductInput,
    /// `[rows, k]`
    pub choice: Slice<u32>,
    /// Rows.
    pub rows: usize,
    /// Choices of a row.
    pub k: usize,
    /// Weights and biases.
    pub experts: &'a DeviceExperts,
    /// `[rows, k, out]`
    pub out: Slice<f32>,
    /// Of [`Gpu::expert_scratch`] bytes.
    pub scratch: Slice<u8>,
}

/// `SortArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct SortArgs {
    choice: u64,
    counts: u64,
    next: u64,
    order: u64,
    blocks: u64,
    out: u64,
    pairs: u32,
    experts: u32,
    outputs: u32,
    block_count: u32,
    block_rows: u32,
}

/// `PairArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct PairArgs {
    experts: u64,
    choice: u64,
    order: u64,
    blocks: u64,
    expert_count: u32,
    sharing: u32,
}

/// `FewExpertsArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct FewExpertsArgs {
    few: FewArgs,
    pairs: PairArgs,
}

/// `TileExpertsArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct TileExpertsArgs {
    like: MatrixArgs,
    x: TileRows,
    x_scales: u64,
    out: u64,
    pairs: PairArgs,
}

static SORT: Kernel<SortArgs> = Kernel::new("experts", "sort_pairs");
static TILES_F32: Kernel<TileExpertsArgs> = Kernel::new("experts", "tile_experts_f32");
static TILES_INT8: Kernel<TileExpertsArgs> = Kernel::new("experts", "tile_experts_int8");

static FEW: Kernels<FewExpertsArgs> = Kernels {
    bf16: few_kernels!["experts",
        Int4 128 8 3 "experts_bf16_int4_128",
        Int4 64 8 3 "experts_bf16_int4_64",
        Int4 32 8 3 "experts_bf16_int4_32",
        Int8 64 8 3 "experts_bf16_int8_64",
        Int8 32 8 3 "experts_bf16_int8_32",
        Bf16 32 8 3 "experts_bf16_bf16",
    ],
    int8: few_kernels!["experts", Int8 64 8 3 "experts_int8"],
    f32: few_kernels!["experts",
        Int4 32 4 2 "experts_f32_int4",
        Int8 32 4 2 "experts_f32_int8",
        Bf16 32 4 2 "experts_f32_bf16",
        F16 32 4 2 "experts_f32_f16",
        F32 32 4 2 "experts_f32_f32",
    ],
};

/// Pairs of a row and a choice up to which they are multiplied one by one.
const SINGLE_PAIRS: usize = 32;

/// Rows of a block of pairs that the kernels for few rows are tried with, the most first.
const BLOCK_ROWS: [usize; 3] = [8, 4, 1];

/// What parts of scratch are aligned to, in bytes.
const ALIGNMENT: usize = 256;

/// How a product is shared out.
enum Way {
    /// By kernels for few rows, in blocks of so many.
    Few(Plan<FewExpertsArgs>, usize),
    /// By tiles of [`TILE`] rows.
    Tiles,
}

impl Gpu {
    /// Multiplies. A choice that is no expert gives NaN.
    ///
    /// # Panics
    /// When lengths do not fit together, x is to be normalized or rounded, or is of int8 and the weights are not.
    pub fn expert_product(&self, product: &ExpertProduct<'_>) -> Result<(), CudaError> {
        let sharing = assert_shapes(product);
        if product.out.is_empty() {
            return Ok(());
        }
        let (like, pairs) = (product.experts.like(), product.rows * product.k);
        let x = XArgs::of(&product.x);
        let is_single = pairs <= SINGLE_PAIRS;
        let way = if is_single {
            Plan::of(self, &FEW, &product.x, like, 1).map_or(Way::Tiles, |plan| Way::Few(plan, 1))
        } else {
            let mut plans = BLOCK_ROWS.iter().map(|&rows| (rows, Plan::of(self, &FEW, &product.x, like, rows)));
            plans.find_map(|(rows, plan)| Some(Way::Few(plan?, rows))).unwrap_or(Way::Tiles)
        };
        let block_rows = match way {
            Way::Few(_, rows) => rows,
            Way::Tiles => TILE,
        };
        let mut pair_args = PairArgs {
            experts: product.experts.table.slice::<u64>().address(),
            choice: product.choice.address(),
            order: 0,
            blocks: 0,
            expert_count: product.experts.len() as u32,
            sharing: sharing as u32,
        };
        let mut blocks = pairs;
        if !is_single {
            let parts = Parts::of(pairs, product.experts.len(), block_rows);
            blocks = parts.blocks;
            let part = |number: usize| product.scratch.range(parts.starts[number]..parts.starts[number + 1]).address();
            pair_args = PairArgs { choice: 0, order: part(2), blocks: part(3), ..pair_args };
            let arguments = SortArgs {
                choice: product.choice.address(),
                counts: part(0),
                next: part(1),
                order: part(2),
                blocks: part(3),
                out: product.out.address(),
                pairs: pairs as u32,
                experts: product.experts.len() as u32,
                outputs: like.rows() as u32,
                block_count: blocks as u32,
                block_rows: block_rows as u32,
            };
            self.launch(&SORT, Grid { overlaps: true, ..Grid::new(1, 1024) }, &arguments)?;
        }
        match way {
            Way::Few(plan, _) => {
                let units = like.rows().div_ceil(TILE_ROWS);
                let part = PartArgs::of(&ProductPart { weight: like, bias: Slice::NONE, out: product.out }, 0);
                let few = plan.arguments(&x, &[part], FinishArgs::STORE, units);
                let arguments = FewExpertsArgs { few, pairs: pair_args };
                self.launch(plan.kernel, plan.grid(self, units, blocks), &arguments)
            }
            Way::Tiles => {
                let arguments = TileExpertsArgs {
                    like: like.arguments(),
                    x: TileRows::of(&x, like.cols()),
                    x_scales: x.scales,
                    out: product.out.address(),
                    pairs: pair_args,
                };
                // Rows without elements have no scales.
                let is_int8 = matches!(product.x, ProductInput::Int8 { .. }) && like.cols() > 0;
                let kernel = if is_int8 { &TILES_INT8 } else { &TILES_F32 };
                let blocks = [like.rows().div_ceil(TILE) as u32, blocks as u32, 1];
                self.launch(kernel, Grid { blocks, overlaps: true, ..Grid::new(1, 256) }, &arguments)
            }
        }
    }

    /// Bytes of scratch for up to `rows` rows with `k` choices each.
    pub fn expert_scratch(&self, experts: &DeviceExperts, rows: usize, k: usize) -> usize {
        let pairs = rows.saturating_mul(k);
        if pairs <= SINGLE_PAIRS { 0 } else { Parts::of(pairs, experts.len(), 1).starts[4] }
    }
}

/// Parts of scratch: counts, next places, order, blocks.
struct Parts {
    /// Blocks of pairs at most.
    blocks: usize,
    /// First bytes, and the end.
    starts: [usize; 5],
}

impl Parts {
    fn of(pairs: usize, experts: usize, block_rows: usize) -> Parts {
        let blocks = (pairs / block_rows).saturating_add(experts).min(pairs);
        let words = [experts, experts, pairs, blocks.saturating_mul(3)];
        let mut starts = [0_usize; 5];
        for (number, words) in words.into_iter().enumerate() {
            let bytes = words.saturating_mul(size_of::<u32>());
            let end = starts[number].saturating_add(bytes);
            starts[number + 1] = end.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
        }
        Parts { blocks, starts }
    }
}

/// Gives how many pairs share a row of x.
fn assert_shapes(product: &ExpertProduct<'_>) -> usize {
    let (rows, k, like) = (product.rows, product.k, product.experts.like());
    let pairs = rows * k;
    assert!(u32::try_from(pairs).is_ok(), "choices are counted in 32 bits");
    assert_eq!(product.choice.len(), pairs, "{k} choices for each of {rows} rows");
    assert_eq!(product.out.len(), pairs * like.rows(), "out is [{rows}, {k}, {}]", like.rows());
    let elements = match product.x {
        ProductInput::Real(x) => x.len(),
        ProductInput::Bf16(x) => x.len(),
        ProductInput::Int8 { codes, scales } => {
            assert_int8(like);
            assert!(like.cols() == 0 || codes.len() == scales.len() * like.cols(), "a scale for each row");
            codes.len()
        }
        ProductInput::Quantized(_) | ProductInput::NormalizedBf16(..) | ProductInput::NormalizedInt8(..) => {
            panic!("rows of experts are neither normalized nor rounded in products")
        }
    };
    assert!(
        elements == rows * like.cols() || elements == pairs * like.cols(),
        "x has {elements} elements, experts take {}, for {rows} rows with {k} choices each",
        like.cols()
    );
    if elements == pairs * like.cols() { 1 } else { k }
}
