//! Launchers of `rotate.cu`: rotations of any kind and width.

use super::rows::{Rows, base_threads, row_floats};
use super::{Finish, Outputs, Product, ProductInput, ProductPart, RowStep};
use crate::cuda::{CudaError, DeviceMatrix, Gpu, Grid, Kernel, Memory, Slice};
use crate::rotations::{Form, Hadamard, Orthogonal, Rotation};

/// A rotation on a device.
#[derive(Debug)]
pub struct DeviceRotation {
    width: usize,
    form: DeviceForm,
}

/// What kernels need of a rotation.
#[derive(Debug)]
pub(super) enum DeviceForm {
    /// A product of small factors.
    Hadamard(DeviceHadamard),
    /// A product of reflections.
    Orthogonal { vectors: Memory, factors: Memory, signs: Memory },
    /// Entry by entry, for both directions, with memory for products of [`MATRIX_ROWS`] rows.
    Matrix { forward: DeviceMatrix, inverse: DeviceMatrix, scratch: Memory },
}

/// `diag(signs) H / √width`
#[derive(Debug)]
pub(super) struct DeviceHadamard {
    bases: Vec<DeviceBase>,
    sylvester: usize,
    /// A bit for each sign; none where all are +.
    signs: Option<Memory>,
    scale: f32,
    /// Of a width that does not fit into shared memory, the factors that rows do: the number of the first base, and the
    /// order of a Sylvester matrix.
    inner: Option<(usize, usize)>,
}

/// Factors of a base, as `HadamardFactors` has them, for both directions.
#[derive(Debug)]
struct DeviceBase {
    order: usize,
    forward: Memory,
    inverse: Memory,
}

/// Bases of a Hadamard matrix at most: of order 12 or more, and together below the widest rotation.
const MOST_BASES: usize = 5;

/// The largest order of a base that is multiplied on tensor cores.
pub(super) const TILED_BASE: usize = 256;

/// Outputs of a larger base are padded to a multiple of this.
pub(super) const BASE_OUTPUTS: usize = 8;

/// `HadamardFactors`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct HadamardFactors {
    bases: [u64; MOST_BASES],
    signs: u64,
    orders: [u32; MOST_BASES],
    base_count: u32,
    sylvester: u32,
    width: u32,
    scale: f32,
    inverse: u32,
}

impl HadamardFactors {
    /// The largest order of a base, 1 without bases.
    pub(super) fn largest_base(&self) -> usize {
        self.orders[..self.base_count as usize].iter().copied().max().unwrap_or(1) as usize
    }

    /// Elements of a block.
    pub(super) fn width(&self) -> usize {
        self.width as usize
    }

    /// Orders of the bases.
    pub(super) fn orders(&self) -> impl Iterator<Item = usize> {
        self.orders[..self.base_count as usize].iter().map(|&order| order as usize)
    }
}

/// `ColumnArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct ColumnArguments {
    x: u64,
    out: u64,
    factors: HadamardFactors,
    inner: u32,
    columns: u32,
    tiles: u32,
}

/// `ReflectArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct ReflectArguments {
    x: u64,
    out: u64,
    vectors: u64,
    factors: u64,
    signs: u64,
    rows: u32,
    width: u32,
    reflections: u32,
    inverse: u32,
}

static COLUMNS: Kernel<ColumnArguments> = Kernel::new("rotate", "rotate_columns");
static REFLECT: Kernel<ReflectArguments> = Kernel::new("rotate", "reflect_rows");

/// Rows of a product with a matrix.
const MATRIX_ROWS: usize = 512;

/// Columns of a tile of `rotate_columns` at most: a line of memory.
const TILE_COLUMNS: usize = 32;

/// Elements of narrow blocks that make up a row for a warp.
const NARROW: usize = 128;

impl DeviceHadamard {
    fn upload(gpu: &Gpu, hadamard: &Hadamard) -> Result<DeviceHadamard, CudaError> {
        let bases = hadamard.bases.iter().map(|base| {
            let factors = |transposed| {
                if base.order() <= TILED_BASE {
                    gpu.upload("a rotation", &tiles(base.order(), base.factors(transposed)))
                } else {
                    gpu.upload("a rotation", &padded_rows(base.order(), base.factors(transposed)))
                }
            };
            Ok(DeviceBase { order: base.order(), forward: factors(false)?, inverse: factors(true)? })
        });
        let bases = bases.collect::<Result<Vec<_>, CudaError>>()?;
        assert!(bases.len() <= MOST_BASES, "{} bases within the widest rotation", bases.len());
        let mut words = vec![0_u32; hadamard.scales.len().div_ceil(32)];
        for (i, _) in hadamard.scales.iter().enumerate().filter(|(_, scale)| **scale < 0.0) {
            words[i / 32] |= 1 << (i % 32);
        }
        let has_signs = words.iter().any(|&word| word != 0);
        let signs = has_signs.then(|| gpu.upload("a rotation", &words)).transpose()?;
        let scale = hadamard.scales[0].abs();
        let inner = inner_factors(gpu, hadamard);
        Ok(DeviceHadamard { bases, sylvester: hadamard.sylvester, signs, scale, inner })
    }

    /// All factors, for rows of whole blocks; none for a matrix that is too wide.
    pub(super) fn factors(&self, inverse: bool) -> Option<HadamardFactors> {
        let whole = HadamardFactors {
            signs: self.signs.as_ref().map_or(0, |signs| signs.slice::<u32>().address()),
            scale: self.scale,
            ..self.product(0..self.bases.len(), self.sylvester, inverse)
        };
        self.inner.is_none().then_some(whole)
    }

    /// Some of the factors, without scale and signs.
    fn product(&self, bases: std::ops::Range<usize>, sylvester: usize, inverse: bool) -> HadamardFactors {
        let bases = &self.bases[bases];
        let width = bases.iter().map(|base| base.order).product::<usize>() * sylvester;
        let mut factors = HadamardFactors {
            base_count: bases.len() as u32,
            sylvester: sylvester as u32,
            width: width as u32,
            scale: 1.0,
            inverse: u32::from(inverse),
            ..HadamardFactors::default()
        };
        for (i, base) in bases.iter().enumerate() {
            let memory = if inverse { &base.inverse } else { &base.forward };
            factors.bases[i] = memory.slice::<f32>().address();
            factors.orders[i] = base.order as u32;
        }
        factors
    }

    fn memory_bytes(&self) -> usize {
        let bases: usize = self.bases.iter().map(|base| base.forward.bytes() + base.inverse.bytes()).sum();
        bases + self.signs.as_ref().map_or(0, Memory::bytes)
    }
}

/// Rows of the factors of each input, padded with zeros.
fn padded_rows(order: usize, factors: &[f32]) -> Vec<f32> {
    let width = order.next_multiple_of(BASE_OUTPUTS);
    let mut padded = vec![0.0; order * width];
    for (to, from) in padded.chunks_exact_mut(width).zip(factors.chunks(order)) {
        to[..order].copy_from_slice(from);
    }
    padded
}

/// Tiles of 16 outputs and 16 inputs, as `mma_bf16` takes them for a: lane 4g + c has outputs g and g + 8 of inputs 2c and
/// 2c + 1, then of 2c + 8 and 2c + 9.
fn tiles(order: usize, factors: &[f32]) -> Vec<u32> {
    let count = order.div_ceil(16);
    let bits = |output: usize, input: usize| {
        if output.max(input) < order { factors[input * order + output].to_bits() >> 16 } else { 0 }
    };
    let mut words = Vec::with_capacity(count * count * 128);
    for tile in 0..count * count {
        for lane in 0..32 {
            for word in 0..4 {
                let output = tile / count * 16 + lane / 4 + word % 2 * 8;
                let input = tile % count * 16 + lane % 4 * 2 + word / 2 * 8;
                words.push(bits(output, input) | bits(output, input + 1) << 16);
            }
        }
    }
    words
}

/// How a matrix that is wider than shared memory is split: as many of the last factors as fit.
fn inner_factors(gpu: &Gpu, hadamard: &Hadamard) -> Option<(usize, usize)> {
    let fits = |width| row_floats(gpu, width).is_some();
    if fits(hadamard.scales.len()) {
        return None;
    }
    let (mut first, mut width) = (hadamard.bases.len(), hadamard.sylvester);
    if !fits(width) {
        while !fits(width) {
            width /= 2;
        }
        return Some((first, width));
    }
    while first > 0 && fits(width * hadamard.bases[first - 1].order()) {
        first -= 1;
        width *= hadamard.bases[first].order();
    }
    Some((first, hadamard.sylvester))
}

impl DeviceRotation {
    /// Copies what kernels need of it: factors and signs of a Hadamard matrix, the reflections or the values of others.
    pub fn upload(gpu: &Gpu, rotation: &Rotation) -> Result<DeviceRotation, CudaError> {
        let form = match rotation.form() {
            Form::Hadamard(hadamard) => DeviceForm::Hadamard(DeviceHadamard::upload(gpu, hadamard)?),
            Form::Orthogonal(orthogonal) => upload_reflections(gpu, orthogonal)?,
            Form::Matrix(matrix) => {
                let [forward, inverse] =
                    [false, true].map(|inverse| DeviceMatrix::upload(gpu, &matrix.weight(inverse)));
                let (forward, inverse) = (forward?, inverse?);
                let bytes = gpu.product_scratch(&forward, MATRIX_ROWS);
                DeviceForm::Matrix { forward, inverse, scratch: gpu.allocate("a rotation", bytes as u64)? }
            }
        };
        Ok(DeviceRotation { width: rotation.width(), form })
    }

    /// Elements of a block.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of device memory.
    pub fn memory_bytes(&self) -> u64 {
        match &self.form {
            DeviceForm::Hadamard(hadamard) => hadamard.memory_bytes() as u64,
            DeviceForm::Orthogonal { vectors, factors, signs } => {
                (vectors.bytes() + factors.bytes() + signs.bytes()) as u64
            }
            DeviceForm::Matrix { forward, inverse, scratch } => {
                forward.memory_bytes() + inverse.memory_bytes() + scratch.bytes() as u64
            }
        }
    }

    /// The factors of a Hadamard matrix that kernels take in one piece.
    pub(super) fn factors(&self, inverse: bool) -> Option<HadamardFactors> {
        match &self.form {
            DeviceForm::Hadamard(hadamard) => hadamard.factors(inverse),
            DeviceForm::Orthogonal { .. } | DeviceForm::Matrix { .. } => None,
        }
    }
}

fn upload_reflections(gpu: &Gpu, orthogonal: &Orthogonal) -> Result<DeviceForm, CudaError> {
    let reflections = (0..orthogonal.reflections()).map(|k| orthogonal.reflection(k));
    let factors: Vec<_> = reflections.map(|reflection| reflection.factor as f32).collect();
    let signs: Vec<_> = orthogonal.signs.iter().map(|&negative| if negative { -1.0_f32 } else { 1.0 }).collect();
    Ok(DeviceForm::Orthogonal {
        vectors: gpu.upload("a rotation", orthogonal.vectors())?,
        factors: gpu.upload("a rotation", &factors)?,
        signs: gpu.upload("a rotation", &signs)?,
    })
}

impl Gpu {
    /// As [`crate::ops::rotate`]. `x` and `out` are `[n, rotation.width()]`; `out` is not `x`.
    pub fn rotate(
        &self,
        x: Slice<f32>,
        rotation: &DeviceRotation,
        inverse: bool,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let width = rotation.width;
        assert!(x.len().is_multiple_of(width), "{} elements are no whole blocks of {width}", x.len());
        assert_eq!(x.len(), out.len(), "out is as long as x");
        if x.is_empty() {
            return Ok(());
        }
        match &rotation.form {
            DeviceForm::Hadamard(DeviceHadamard { inner: None, .. }) => {
                // Blocks that are narrow go side by side in rows; what is left over makes a row of its own.
                let together = (NARROW / width).max(1) * width;
                let whole = x.len() / together * together;
                for (range, width) in [(0..whole, together), (whole..x.len(), x.len() - whole)] {
                    self.row_step(&RowStep {
                        rotation: Some((rotation, inverse)),
                        out: Outputs::real(out.range(range.clone())),
                        ..RowStep::of(x.range(range), width)
                    })?;
                }
                Ok(())
            }
            DeviceForm::Hadamard(hadamard) => self.rotate_wide(x, hadamard, inverse, out),
            DeviceForm::Orthogonal { vectors, factors, signs } => {
                let rows = x.len() / width;
                let fitting = self.info().shared_memory_per_block as usize / (width * size_of::<f32>());
                // One row for each multiprocessor before a second one.
                let warps = rows.div_ceil(self.info().multiprocessors as usize).min(8).min(fitting).max(1);
                let arguments = ReflectArguments {
                    x: x.address(),
                    out: out.address(),
                    vectors: vectors.slice::<f32>().address(),
                    factors: factors.slice::<f32>().address(),
                    signs: signs.slice::<f32>().address(),
                    rows: u32::try_from(rows).expect("below 2³² rows"),
                    width: width as u32,
                    reflections: width as u32 - 1,
                    inverse: u32::from(inverse),
                };
                let grid = Grid {
                    shared_bytes: (warps * width * size_of::<f32>()) as u32,
                    overlaps: true,
                    ..Grid::new(rows.div_ceil(warps) as u32, 32 * warps as u32)
                };
                self.launch(&REFLECT, grid, &arguments)
            }
            DeviceForm::Matrix { forward, inverse: backward, scratch } => {
                let weight = if inverse { backward } else { forward };
                for first in (0..x.len()).step_by(MATRIX_ROWS * width) {
                    let range = first..(first + MATRIX_ROWS * width).min(x.len());
                    let part = ProductPart { weight, bias: Slice::NONE, out: out.range(range.clone()) };
                    self.product(&Product {
                        rows: range.len() / width,
                        x: ProductInput::Real(x.range(range)),
                        parts: &[part],
                        finish: Finish::Store,
                        scratch: scratch.slice(),
                    })?;
                }
                Ok(())
            }
        }
    }

    /// By columns and by rows, in the order in which the scale and signs come first, or with `inverse` last.
    fn rotate_wide(
        &self,
        x: Slice<f32>,
        hadamard: &DeviceHadamard,
        inverse: bool,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let (first_base, inner_sylvester) = hadamard.inner.expect("a wide matrix");
        let rows = hadamard.product(first_base..hadamard.bases.len(), inner_sylvester, inverse);
        let columns = HadamardFactors {
            signs: hadamard.signs.as_ref().map_or(0, |signs| signs.slice::<u32>().address()),
            scale: hadamard.scale,
            ..hadamard.product(0..first_base, hadamard.sylvester / inner_sylvester, inverse)
        };
        if inverse {
            self.launch_rows(&Rows::rotated(x, out, rows))?;
            self.rotate_columns(out, &columns, rows.width(), out)
        } else {
            self.rotate_columns(x, &columns, rows.width(), out)?;
            self.launch_rows(&Rows::rotated(out, out, rows))
        }
    }

    fn rotate_columns(
        &self,
        x: Slice<f32>,
        factors: &HadamardFactors,
        inner: usize,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let order = factors.width();
        let mut columns = TILE_COLUMNS;
        let floats = loop {
            match row_floats(self, order * columns) {
                Some(floats) => break floats,
                None => columns /= 2,
            }
            assert!(columns > 0, "a column of {order} elements fits into shared memory");
        };
        let tiles = inner.div_ceil(columns);
        let arguments = ColumnArguments {
            x: x.address(),
            out: out.address(),
            factors: *factors,
            inner: inner as u32,
            columns: columns as u32,
            tiles: tiles as u32,
        };
        let grid = Grid {
            shared_bytes: (floats * size_of::<f32>()) as u32,
            overlaps: true,
            ..Grid::new((x.len() / (order * inner) * tiles) as u32, base_threads(factors, order * columns))
        };
        self.launch(&COLUMNS, grid, &arguments)
    }
}
