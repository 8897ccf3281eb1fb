//! Launcher of `rows.cu`: whole rows, in one kernel: addition, norm, rotation, rounding to operands of products.

use super::rotate::{BASE_OUTPUTS, HadamardFactors, TILED_BASE};
use super::{DeviceRotation, Outputs};
use crate::cuda::{CudaError, Gpu, Grid, Kernel, Slice};

/// As [`crate::ops::Norm`], with vectors on the device.
#[derive(Debug, Clone, Copy)]
pub struct NormParameters {
    /// Elements of a group.
    pub width: usize,
    /// Added to the mean of the squares.
    pub eps: f32,
    /// Whether the mean is subtracted first, or the part along `along`.
    pub centre: bool,
    /// A unit vector, `[width]`, or none.
    pub along: Slice<f32>,
    /// Factors, `[width]`, or none.
    pub gain: Slice<f32>,
    /// Added to each element of `gain`, where there is one.
    pub gain_offset: f32,
    /// Added at the end, `[width]`, or none.
    pub shift: Slice<f32>,
}

impl NormParameters {
    /// What changes nothing, unless groups are divided.
    pub(super) fn none(width: usize) -> NormParameters {
        NormParameters {
            width,
            eps: 0.0,
            centre: false,
            along: Slice::NONE,
            gain: Slice::NONE,
            gain_offset: 0.0,
            shift: Slice::NONE,
        }
    }

    pub(super) fn assert_lengths(&self) {
        let fits = |vector: Slice<f32>| vector.is_empty() || vector.len() == self.width;
        assert!(
            fits(self.along) && fits(self.gain) && fits(self.shift),
            "vectors of a norm have {} elements",
            self.width
        );
        assert!(self.centre || self.along.is_empty(), "nothing is taken off along a vector without centre");
    }
}

/// What [`Gpu::row_step`] does to each row: `y = x + add` (kept in `sum`), then the norm, then the rotation, then it writes.
/// Each of them may be absent.
#[derive(Debug, Clone, Copy)]
pub struct RowStep<'a> {
    /// `[rows, width]`
    pub x: Slice<f32>,
    /// `[rows, width]`, or none.
    pub add: Slice<f32>,
    /// Where x + add goes, `[rows, width]`, or none. May be `x` or `add` itself.
    pub sum: Slice<f32>,
    /// Elements in a row.
    pub width: usize,
    /// Of groups of a row, whose width divides that of the row.
    pub norm: Option<NormParameters>,
    /// Of blocks of a row, and whether to rotate back. One that [`Gpu::rotates_rows`].
    pub rotation: Option<(&'a DeviceRotation, bool)>,
    /// Where the result goes. Its int8 form has one scale for each row. The f32 form may be `x` or `add` itself.
    pub out: Outputs,
}

impl RowStep<'_> {
    /// Rows that stay what they are, and go nowhere.
    pub fn of<'a>(x: Slice<f32>, width: usize) -> RowStep<'a> {
        RowStep { x, add: Slice::NONE, sum: Slice::NONE, width, norm: None, rotation: None, out: Outputs::NONE }
    }
}

/// `Norm`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct NormArguments {
    along: u64,
    gain: u64,
    shift: u64,
    width: u32,
    centre: u32,
    divide: u32,
    eps: f32,
    gain_offset: f32,
}

impl NormArguments {
    /// With `divide` false, groups are centred at most.
    pub(super) fn of(norm: &NormParameters, divide: bool) -> NormArguments {
        NormArguments {
            along: norm.along.address(),
            gain: norm.gain.address(),
            shift: norm.shift.address(),
            width: u32::try_from(norm.width).expect("groups below 2³² elements"),
            centre: u32::from(norm.centre),
            divide: u32::from(divide),
            eps: norm.eps,
            gain_offset: norm.gain_offset,
        }
    }
}

/// `RowArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct RowArguments {
    x: u64,
    add: u64,
    sum: u64,
    real: u64,
    bf16: u64,
    codes: u64,
    scales: u64,
    rotation: HadamardFactors,
    norm: NormArguments,
    rows: u32,
    width: u32,
    stride: u32,
}

/// [`RowStep`] as the kernels take it.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    x: Slice<f32>,
    add: Slice<f32>,
    sum: Slice<f32>,
    width: usize,
    norm: NormParameters,
    /// Whether groups are divided by the root of the mean of their squares.
    normalize: bool,
    /// Of width 0 where there is none.
    rotation: HadamardFactors,
    out: Outputs,
}

impl Rows {
    /// Rows of one block each that are rotated only.
    pub(super) fn rotated(x: Slice<f32>, out: Slice<f32>, rotation: HadamardFactors) -> Rows {
        let step = RowStep { out: Outputs::real(out), ..RowStep::of(x, rotation.width()) };
        Rows { rotation, ..Rows::of(&step) }
    }

    /// All of a step but its rotation.
    fn of(step: &RowStep<'_>) -> Rows {
        let no_norm = NormParameters::none(step.width);
        Rows {
            x: step.x,
            add: step.add,
            sum: step.sum,
            width: step.width,
            norm: step.norm.unwrap_or(no_norm),
            normalize: step.norm.is_some(),
            rotation: HadamardFactors::default(),
            out: step.out,
        }
    }
}

macro_rules! kernels {
    ($($constant:ident = $name:literal),* $(,)?) => {
        $(static $constant: Kernel<RowArguments> = Kernel::new("rows", $name);)*
    };
}

kernels! {
    WARPS = "rows_of_warps",
    WARPS_BY_FOUR = "rows_of_warps_by_four",
    WARPS_WITH_BASES = "rows_of_warps_with_bases",
    WARPS_BY_FOUR_WITH_BASES = "rows_of_warps_by_four_with_bases",
    BLOCKS = "rows_of_blocks",
    BLOCKS_BY_FOUR = "rows_of_blocks_by_four",
    BLOCKS_WITH_BASES = "rows_of_blocks_with_bases",
    BLOCKS_BY_FOUR_WITH_BASES = "rows_of_blocks_by_four_with_bases",
    LONG = "long_rows",
    LONG_BY_FOUR = "long_rows_by_four",
}

/// The widest row that a warp takes.
const WARP_WIDTH: usize = 512;

/// The largest base that a warp takes: it holds sums of so many outputs.
pub(super) const WARP_BASE: usize = 64;

/// Warps of a block where each has a row.
const WARPS_OF_BLOCK: usize = 4;

/// Threads of a block that multiplies bases at most: two blocks of them have the registers for it.
const BASE_THREADS: usize = 448;

/// Columns of a base of which a thread holds sums.
const BASE_COLUMNS: usize = 4;

/// Bytes of shared memory that kernels use besides rows.
const STATIC_BYTES: usize = 128;

/// Floats of shared memory that a row takes, where it fits in.
pub(super) fn row_floats(gpu: &Gpu, width: usize) -> Option<usize> {
    let floats = padded_floats(width);
    (floats * size_of::<f32>() + STATIC_BYTES <= gpu.info().shared_memory_per_block as usize).then_some(floats)
}

/// As `padded` places elements, in whole chunks of four.
pub(super) fn padded_floats(width: usize) -> usize {
    (width + width / 32 * 4).next_multiple_of(4)
}

/// Threads for rows of `count` elements that are multiplied with bases: as few rounds as there must be, all of them full, and a
/// thread for each [`BASE_OUTPUTS`] of each base.
pub(super) fn base_threads(factors: &HadamardFactors, count: usize) -> u32 {
    let threads = |order: usize| {
        // Threads for all outputs of a few columns, and how many such columns there are.
        let (parts, chunks) = if order <= TILED_BASE {
            (order.div_ceil(WARP_BASE) * 32, (count / order).div_ceil(8))
        } else {
            (order.div_ceil(BASE_OUTPUTS), (count / order).div_ceil(BASE_COLUMNS))
        };
        let at_once = (BASE_THREADS / parts).max(1);
        let rounds = chunks.div_ceil(at_once).max(1);
        chunks.div_ceil(rounds) * parts
    };
    let threads = factors.orders().map(threads).max().unwrap_or(256);
    threads.next_multiple_of(32).clamp(64, BASE_THREADS) as u32
}

impl Gpu {
    /// Computes rows.
    ///
    /// # Panics
    /// When lengths do not fit together, or the rotation is one that [`Gpu::rotates_rows`] refuses.
    pub fn row_step(&self, step: &RowStep<'_>) -> Result<(), CudaError> {
        let rotation = step.rotation.map_or_else(HadamardFactors::default, |(rotation, inverse)| {
            assert!(self.rotates_rows(rotation, step.width), "rows of {} are rotated by {rotation:?}", step.width);
            rotation.factors(inverse).expect("a Hadamard matrix that fits")
        });
        self.launch_rows(&Rows { rotation, ..Rows::of(step) })
    }

    /// As [`crate::ops::centre`]. `out` may be `x`.
    pub fn centre(&self, x: Slice<f32>, width: usize, along: Slice<f32>, out: Slice<f32>) -> Result<(), CudaError> {
        let rows = Rows::of(&RowStep { out: Outputs::real(out), ..RowStep::of(x, width) });
        self.launch_rows(&Rows { norm: NormParameters { centre: true, along, ..rows.norm }, ..rows })
    }

    /// Whether [`Gpu::row_step`] takes this rotation for rows of `width`: a Hadamard matrix, and rows that fit into shared
    /// memory. Others go through [`Gpu::rotate`].
    pub fn rotates_rows(&self, rotation: &DeviceRotation, width: usize) -> bool {
        let is_hadamard = rotation.factors(false).is_some();
        is_hadamard && width.is_multiple_of(rotation.width()) && row_floats(self, width).is_some()
    }

    pub(super) fn launch_rows(&self, rows: &Rows) -> Result<(), CudaError> {
        let Rows { width, out, .. } = *rows;
        let length = rows.x.len();
        let fits = |len: usize| len == 0 || len == length;
        assert!(length == 0 || length.is_multiple_of(width), "{length} elements are no whole rows of {width}");
        assert!(fits(rows.add.len()) && fits(rows.sum.len()), "add and sum are as long as x");
        assert!(fits(out.real.len()) && fits(out.bf16.len()) && fits(out.int8.len()), "out is as long as x");
        rows.norm.assert_lengths();
        assert!(length == 0 || width.is_multiple_of(rows.norm.width), "groups of {} divide {width}", rows.norm.width);
        if width == 0 {
            return self.fill(out.scales, 0);
        }
        let count = length / width;
        assert_eq!(out.scales.len(), if out.int8.is_empty() { 0 } else { count }, "a scale for each row");
        if count == 0 {
            return Ok(());
        }
        if rows.norm.width < width && rows.rotation.width() == 0 && out.int8.is_empty() {
            // Groups are rows of their own.
            return self.launch_rows(&Rows { width: rows.norm.width, ..*rows });
        }
        let [count, width_u32] =
            [count, width].map(|number| u32::try_from(number).expect("below 2³² rows and columns"));
        let four_byte = [rows.x, rows.add, rows.sum, rows.norm.along, rows.norm.gain, rows.norm.shift, out.real];
        let vectors = width.is_multiple_of(4)
            && rows.norm.width.is_multiple_of(4)
            && four_byte.iter().all(|slice| slice.address().is_multiple_of(16))
            && out.bf16.address().is_multiple_of(8)
            && out.int8.address().is_multiple_of(4);
        let mut arguments = RowArguments {
            x: rows.x.address(),
            add: rows.add.address(),
            sum: rows.sum.address(),
            real: out.real.address(),
            bf16: out.bf16.address(),
            codes: out.int8.address(),
            scales: out.scales.address(),
            rotation: rows.rotation,
            norm: NormArguments::of(&rows.norm, rows.normalize),
            rows: count,
            width: width_u32,
            stride: 0,
        };
        let (kernels, grid) = self.row_grid(&mut arguments);
        self.launch(kernels[usize::from(vectors)], grid, &arguments)
    }

    /// The kernels for elements one by one and by four, and how many threads run them.
    fn row_grid(&self, arguments: &mut RowArguments) -> ([&'static Kernel<RowArguments>; 2], Grid) {
        let (rows, width) = (arguments.rows, arguments.width as usize);
        let multiprocessors = self.info().multiprocessors;
        let has_bases = arguments.rotation.orders().next().is_some();
        let row_bytes = |floats: usize| (floats * size_of::<f32>()) as u32;
        if width <= WARP_WIDTH && arguments.rotation.largest_base() <= WARP_BASE {
            let floats = padded_floats(width);
            arguments.stride = floats as u32;
            let warps = if rows <= multiprocessors { 1 } else { WARPS_OF_BLOCK };
            let kernels =
                if has_bases { [&WARPS_WITH_BASES, &WARPS_BY_FOUR_WITH_BASES] } else { [&WARPS, &WARPS_BY_FOUR] };
            let blocks = rows.div_ceil(warps as u32);
            let grid = Grid { shared_bytes: row_bytes(warps * floats), ..Grid::new(blocks, 32 * warps as u32) };
            return (kernels, Grid { overlaps: true, ..grid });
        }
        let Some(floats) = row_floats(self, width) else {
            assert!(arguments.rotation.width() == 0, "rows of {width} elements fit into shared memory");
            return ([&LONG, &LONG_BY_FOUR], Grid { overlaps: true, ..Grid::new(rows, 1024) });
        };
        let (kernels, threads) = if has_bases {
            ([&BLOCKS_WITH_BASES, &BLOCKS_BY_FOUR_WITH_BASES], base_threads(&arguments.rotation, width))
        } else {
            // Few rows: as little as possible for each thread. Many: few barriers for each element.
            let elements = if rows <= 2 * multiprocessors { 4 } else { 32 };
            ([&BLOCKS, &BLOCKS_BY_FOUR], (width.div_ceil(elements).next_multiple_of(32)).clamp(64, 1024) as u32)
        };
        (kernels, Grid { shared_bytes: row_bytes(floats), overlaps: true, ..Grid::new(rows, threads) })
    }
}
