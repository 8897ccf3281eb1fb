//! Launchers of `product*.cu`: products of activations with packed weights.

use super::few::{self, ProductArgs};
use super::product_many::{many_scratch, product_many, takes_many};
use super::{NormParameters, Outputs};
use crate::cuda::layout::{MatrixArgs, TILE_ROWS};
use crate::cuda::{CudaError, DeviceMatrix, Gpu, Grid, Kernel, Layout, Slice};
use crate::formats::Granularity;
use crate::ops::{MAX_INT8_INNER, Unary};

/// Rows that are multiplied, in the precision of the product.
#[derive(Debug, Clone, Copy)]
pub enum ProductInput {
    /// In f32, with weights of any format: as [`crate::ops::matmul`] asks.
    Real(Slice<f32>),
    /// In bf16, with weights of any format; sums in f32. `|error| ≤ 2⁻⁸ Σ |x||w|` against the exact product, for x below 2¹¹⁰
    /// in magnitude; where weights that are small beside others of their group meet large x, 2⁻¹⁴ Σ |x| times their scale
    /// may be more.
    Bf16(Slice<u16>),
    /// The same, of rows that are normalized first, as rows of f32: the norm is part of the kernel where
    /// [`Gpu::normalizes_products`].
    NormalizedBf16(Slice<f32>, NormParameters),
    /// In int8, with weights of format int8, symmetric, per channel: as [`crate::ops::matmul_int8`], bit for bit.
    Int8 {
        /// `[rows, in]`
        codes: Slice<i8>,
        /// `[rows]`
        scales: Slice<f32>,
    },
    /// The same, of rows of f32 that the kernel rounds, as [`crate::ops::quantize_rows`], bit for bit: where
    /// [`Gpu::quantizes_products`].
    Quantized(Slice<f32>),
    /// The same, of rows of f32 that are normalized before they are rounded: where [`Gpu::normalizes_products`].
    NormalizedInt8(Slice<f32>, NormParameters),
}

impl ProductInput {
    /// Whether products are of integers.
    pub(super) fn is_int8(&self) -> bool {
        match self {
            ProductInput::Int8 { .. } | ProductInput::Quantized(_) | ProductInput::NormalizedInt8(..) => true,
            ProductInput::Real(_) | ProductInput::Bf16(_) | ProductInput::NormalizedBf16(..) => false,
        }
    }

    /// Whether only kernels for few rows take it.
    fn is_prepared_within(&self) -> bool {
        match self {
            ProductInput::NormalizedBf16(..) | ProductInput::NormalizedInt8(..) | ProductInput::Quantized(_) => true,
            ProductInput::Real(_) | ProductInput::Bf16(_) | ProductInput::Int8 { .. } => false,
        }
    }
}

/// One of the weights that share their rows.
#[derive(Debug, Clone, Copy)]
pub struct ProductPart<'a> {
    /// `[out, in]`
    pub weight: &'a DeviceMatrix,
    /// `[out]`, or none.
    pub bias: Slice<f32>,
    /// `[rows, out]`
    pub out: Slice<f32>,
}

/// What becomes of the product x Wᵀ + bias.
#[derive(Debug, Clone, Copy)]
pub enum Finish {
    /// It is written.
    Store,
    /// It is added to `[rows, out]` and the sum written; of one part. `out` may be that itself.
    Add(Slice<f32>),
    /// Of two parts, gate and value: `f(gate) · value` goes to the outputs (f32, bf16), and none of them to its `out`, which
    /// is [`Slice::NONE`].
    Gated(Unary, Outputs),
}

/// A product: of the same rows with up to four weights.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// `[rows, in]`
    pub x: ProductInput,
    /// How many.
    pub rows: usize,
    /// The weights. One launch does all of them where [`Gpu::joins_products`].
    pub parts: &'a [ProductPart<'a>],
    /// What becomes of it.
    pub finish: Finish,
    /// Memory that the product may use meanwhile, of [`Gpu::product_scratch`] bytes.
    pub scratch: Slice<u8>,
}

/// Weights of a launch at most.
pub(super) const PARTS: usize = 4;

/// `ProductPart`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct PartArgs {
    pub(super) weight: MatrixArgs,
    pub(super) bias: u64,
    pub(super) out: u64,
    pub(super) first_tile: u32,
}

impl PartArgs {
    pub(super) const NONE: PartArgs = PartArgs { weight: MatrixArgs::NONE, bias: 0, out: 0, first_tile: 0 };

    pub(super) fn of(part: &ProductPart<'_>, first_tile: usize) -> PartArgs {
        PartArgs {
            weight: part.weight.arguments(),
            bias: part.bias.address(),
            out: part.out.address(),
            first_tile: first_tile as u32,
        }
    }
}

/// `Finish`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FinishArgs {
    add: u64,
    real: u64,
    half: u64,
    gated: u32,
    function: u32,
}

impl FinishArgs {
    pub(super) const STORE: FinishArgs = FinishArgs { add: 0, real: 0, half: 0, gated: 0, function: 0 };

    pub(super) fn of(finish: Finish) -> FinishArgs {
        match finish {
            Finish::Store => FinishArgs::STORE,
            Finish::Add(addend) => FinishArgs { add: addend.address(), ..FinishArgs::STORE },
            Finish::Gated(function, out) => FinishArgs {
                add: 0,
                real: out.real.address(),
                half: out.bf16.address(),
                gated: 1,
                function: function as u32,
            },
        }
    }
}

/// `RowNorm`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct NormArgs {
    along: u64,
    gain: u64,
    shift: u64,
    eps: f32,
    gain_offset: f32,
    centre: u32,
}

/// x as kernels take it: address, address of the scales, `XKind`, elements of how many bytes.
#[derive(Clone, Copy)]
pub(super) struct XArgs {
    pub(super) x: u64,
    pub(super) scales: u64,
    pub(super) kind: u32,
    bytes: usize,
    pub(super) norm: NormArgs,
}

impl XArgs {
    pub(super) fn of(input: &ProductInput) -> XArgs {
        let norm = NormArgs { along: 0, gain: 0, shift: 0, eps: 0.0, gain_offset: 0.0, centre: 0 };
        let args = |x, kind, bytes| XArgs { x, scales: 0, kind, bytes, norm };
        match *input {
            ProductInput::Real(x) | ProductInput::Quantized(x) => args(x.address(), 0, size_of::<f32>()),
            ProductInput::Bf16(x) => args(x.address(), 1, size_of::<u16>()),
            ProductInput::NormalizedBf16(x, norm) | ProductInput::NormalizedInt8(x, norm) => XArgs {
                norm: NormArgs {
                    along: norm.along.address(),
                    gain: norm.gain.address(),
                    shift: norm.shift.address(),
                    eps: norm.eps,
                    gain_offset: norm.gain_offset,
                    centre: u32::from(norm.centre),
                },
                ..args(x.address(), 2, size_of::<f32>())
            },
            ProductInput::Int8 { codes, scales } => {
                XArgs { scales: scales.address(), ..args(codes.address(), 3, size_of::<i8>()) }
            }
        }
    }

    /// Whether rows of `cols`, and the vectors of a norm, are aligned to what kernels load at once: 16 bytes, or 8 of int8.
    pub(super) fn vectors(&self, cols: usize) -> bool {
        let addresses = [self.x, self.norm.along, self.norm.gain, self.norm.shift];
        addresses.iter().all(|address| address.is_multiple_of(16))
            && (cols * self.bytes).is_multiple_of(self.bytes.min(2) * 8)
    }
}

/// `TilesArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct TilesArgs {
    parts: [PartArgs; 2],
    x: TileRows,
    x_scales: u64,
    finish: FinishArgs,
    partials: u64,
    rows: u32,
    split: u32,
}

/// `TileRows`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct TileRows {
    x: u64,
    kind: u32,
    vectors: u32,
}

impl TileRows {
    pub(super) fn of(x: &XArgs, cols: usize) -> TileRows {
        TileRows { x: x.x, kind: x.kind, vectors: u32::from(x.vectors(cols)) }
    }
}

/// `SplitsArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct SplitsArgs {
    partials: u64,
    bias: u64,
    out: u64,
    finish: FinishArgs,
    count: u64,
    outputs: u32,
    splits: u32,
}

static TILES_F32: Kernel<TilesArgs> = Kernel::new("product", "product_tiles_f32");
static TILES_INT8: Kernel<TilesArgs> = Kernel::new("product", "product_tiles_int8");
static SPLITS: Kernel<SplitsArgs> = Kernel::new("product", "product_splits");

/// Rows and columns of a tile of `tiles.cuh`.
pub(super) const TILE: usize = 64;

/// Fewest columns of a split.
const LEAST_SPLIT: usize = 256;

/// Tiles along rows at most; blocks take several of more.
const ROW_TILES: usize = 1 << 15;

impl Gpu {
    /// Multiplies.
    ///
    /// # Panics
    /// When lengths do not fit together, or rows are to be normalized or rounded where [`Gpu::normalizes_products`] and
    /// [`Gpu::quantizes_products`] say no.
    pub fn product(&self, product: &Product<'_>) -> Result<(), CudaError> {
        let Some(first) = product.parts.first().map(|part| part.weight) else { return Ok(()) };
        assert_shapes(product, first);
        if product.rows == 0 {
            return Ok(());
        }
        let gated = matches!(product.finish, Finish::Gated(..));
        if gated && first.rows() == 0 {
            return Ok(());
        }
        let joined = are_alike(product.parts.iter().map(|part| part.weight));
        if !joined && !gated {
            let mut parts = product.parts.chunks(1);
            return parts.try_for_each(|parts| self.product(&Product { parts, ..*product }));
        }
        let x = XArgs::of(&product.x);
        let few = few::plan(self, first, &product.x, product.rows).filter(|_| joined);
        let is_int8 = product.x.is_int8();
        if let Some(plan) = few {
            self.few(&plan, product, &x)
        } else if product.x.is_prepared_within() {
            panic!("{} rows are not normalized or rounded in products with {first:?}", product.rows)
        } else if !matches!(product.x, ProductInput::Real(_)) && joined && takes_many(first, is_int8) {
            product_many(self, product)
        } else if gated {
            self.tiles(product, product.parts, &x)
        } else {
            product.parts.chunks(1).try_for_each(|part| self.tiles(product, part, &x))
        }
    }

    /// Whether so many rows are normalized within the product with weights of this kind: in bf16, and in int8 where
    /// [`Gpu::quantizes_products`].
    pub fn normalizes_products(&self, weight: &DeviceMatrix, rows: usize) -> bool {
        (1..=few::PREPARED_ROWS).contains(&rows) && few::plan_bf16(self, weight, rows).is_some()
    }

    /// Whether so many rows are rounded to int8 within the product with weights of this kind.
    pub fn quantizes_products(&self, weight: &DeviceMatrix, rows: usize) -> bool {
        let has_few = || few::plan_int8(self, weight, rows).is_some();
        is_int8(weight) && (1..=few::PREPARED_ROWS).contains(&rows) && has_few()
    }

    /// Whether weights can be parts of one launch: alike in format and columns.
    pub fn joins_products(&self, weights: &[&DeviceMatrix]) -> bool {
        are_alike(weights.iter().copied())
    }

    /// Bytes of scratch for up to `rows` rows.
    pub fn product_scratch(&self, weight: &DeviceMatrix, rows: usize) -> usize {
        many_scratch(self, weight, rows).max(self.split_scratch(weight, rows))
    }

    /// One launch of a kernel for few rows.
    fn few(&self, plan: &few::Plan<ProductArgs>, product: &Product<'_>, x: &XArgs) -> Result<(), CudaError> {
        let finish = FinishArgs::of(product.finish);
        let mut parts = [PartArgs::NONE; PARTS];
        let (mut count, mut tiles) = (0, 0);
        for part in product.parts.iter().filter(|part| part.weight.rows() > 0) {
            parts[count] = PartArgs::of(part, tiles);
            count += 1;
            tiles += part.weight.rows().div_ceil(TILE_ROWS);
        }
        let units = if finish.gated != 0 { tiles / 2 } else { tiles };
        if units == 0 {
            return Ok(());
        }
        let arguments =
            ProductArgs { few: plan.arguments(x, &parts[..count], finish, units), rows: product.rows as u32 };
        self.launch(plan.kernel, plan.grid(self, units, 1), &arguments)
    }

    /// Splits of the columns of a product in tiles: so many that there are blocks for two on each multiprocessor.
    fn tile_splits(&self, weight: &DeviceMatrix, rows: usize) -> usize {
        let tiles = weight.rows().div_ceil(TILE) * rows.div_ceil(TILE);
        let wanted = 2 * self.info().multiprocessors as usize / tiles.max(1);
        wanted.min(weight.cols() / LEAST_SPLIT).max(1)
    }

    /// Bytes of the partial sums of up to `rows` rows: never more than of a tile for each of the blocks that are wanted.
    fn split_scratch(&self, weight: &DeviceMatrix, rows: usize) -> usize {
        let most = weight.cols() / LEAST_SPLIT;
        if most < 2 {
            return 0;
        }
        let elements = rows.saturating_mul(weight.rows()).saturating_mul(most);
        elements.min(2 * self.info().multiprocessors as usize * TILE * TILE).saturating_mul(size_of::<f32>())
    }

    /// A product with one weight, or with gate and value, of any shape and format.
    fn tiles(&self, product: &Product<'_>, parts: &[ProductPart<'_>], x: &XArgs) -> Result<(), CudaError> {
        let (weight, rows) = (parts[0].weight, product.rows);
        let (outputs, cols) = (weight.rows(), weight.cols());
        if outputs == 0 {
            return Ok(());
        }
        let is_int8 = product.x.is_int8();
        let finish = FinishArgs::of(product.finish);
        let wanted = if is_int8 || finish.gated != 0 { 1 } else { self.tile_splits(weight, rows) };
        let split = cols.div_ceil(wanted).next_multiple_of(32).max(32);
        let splits = cols.div_ceil(split).max(1);
        let count = rows * outputs;
        let partials =
            if splits > 1 { product.scratch.range(0..splits * count * size_of::<f32>()).address() } else { 0 };
        let mut part_args = [PartArgs::NONE; 2];
        for (args, part) in part_args.iter_mut().zip(parts) {
            *args = PartArgs::of(part, 0);
        }
        let arguments = TilesArgs {
            parts: part_args,
            x: TileRows::of(x, cols),
            x_scales: x.scales,
            finish,
            partials,
            rows: rows as u32,
            split: split as u32,
        };
        let blocks = [outputs.div_ceil(TILE), rows.div_ceil(TILE).min(ROW_TILES), splits].map(|blocks| blocks as u32);
        let kernel = if is_int8 { &TILES_INT8 } else { &TILES_F32 };
        self.launch(kernel, Grid { blocks, overlaps: true, ..Grid::new(1, 256) }, &arguments)?;
        if splits == 1 {
            return Ok(());
        }
        let arguments = SplitsArgs {
            partials,
            bias: parts[0].bias.address(),
            out: parts[0].out.address(),
            finish,
            count: count as u64,
            outputs: outputs as u32,
            splits: splits as u32,
        };
        let blocks = count.div_ceil(256).min(8 * self.info().multiprocessors as usize);
        self.launch(&SPLITS, Grid { overlaps: true, ..Grid::new(blocks as u32, 256) }, &arguments)
    }
}

/// Whether there are weights for one launch at most, of one format and as many columns.
fn are_alike<'a>(mut weights: impl Iterator<Item = &'a DeviceMatrix>) -> bool {
    let Some(first) = weights.next() else { return true };
    let mut count = 1;
    weights.all(|weight| {
        count += 1;
        count <= PARTS && weight.format() == first.format() && weight.cols() == first.cols()
    })
}

/// Whether a weight is one for products in integers.
fn is_int8(weight: &DeviceMatrix) -> bool {
    let parameters = weight.format().parameters();
    let is_symmetric = weight.layout() == Layout::Int8 && parameters.symmetric;
    is_symmetric && parameters.granularity == Granularity::Channel && weight.cols() <= MAX_INT8_INNER
}

/// That a weight is one for products in integers.
pub(super) fn assert_int8(weight: &DeviceMatrix) {
    assert!(is_int8(weight), "{weight:?} is no int8(per: channel) of rows of at most {MAX_INT8_INNER}");
}

pub(super) fn assert_shapes(product: &Product<'_>, first: &DeviceMatrix) {
    let (rows, cols) = (product.rows, first.cols());
    assert!(u32::try_from(rows).is_ok(), "rows are counted in 32 bits");
    if product.x.is_int8() {
        product.parts.iter().for_each(|part| assert_int8(part.weight));
    }
    let elements = match product.x {
        ProductInput::Real(x) | ProductInput::Quantized(x) => x.len(),
        ProductInput::Bf16(x) => x.len(),
        ProductInput::NormalizedBf16(x, norm) | ProductInput::NormalizedInt8(x, norm) => {
            assert_eq!(norm.width, cols, "whole rows are normalized");
            assert!(norm.centre || norm.along.is_empty(), "nothing is taken off along a vector without centre");
            for vector in [norm.along, norm.gain, norm.shift] {
                assert!(vector.is_empty() || vector.len() == cols, "vectors of a norm of {cols}");
            }
            x.len()
        }
        ProductInput::Int8 { codes, scales } => {
            assert_eq!(scales.len(), rows, "scales of {rows} rows");
            codes.len()
        }
    };
    assert_eq!(elements, rows * cols, "x is {rows} rows times {first:?}");
    let gated = matches!(product.finish, Finish::Gated(..));
    for part in product.parts {
        let weight = part.weight;
        assert_eq!(weight.cols(), cols, "columns of {weight:?} beside {first:?}");
        assert!(part.bias.is_empty() || part.bias.len() == weight.rows(), "bias of {weight:?}");
        assert_eq!(part.out.len(), if gated { 0 } else { rows * weight.rows() }, "out is {rows} rows times {weight:?}");
    }
    match product.finish {
        Finish::Store => {}
        Finish::Add(addend) => {
            assert_eq!((product.parts.len(), addend.len()), (1, product.parts[0].out.len()), "what is added");
        }
        Finish::Gated(_, out) => {
            assert!(product.parts.len() == 2 && product.parts[1].weight.rows() == first.rows(), "gate and value");
            for len in [out.real.len(), out.bf16.len()] {
                assert!(len == 0 || len == rows * first.rows(), "gated outputs of {rows} rows times {first:?}");
            }
            assert!(out.int8.is_empty() && out.scales.is_empty(), "gated outputs are f32 and bf16");
        }
    }
}
