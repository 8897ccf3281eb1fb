//! The memory that packing takes, known before it begins.

use std::sync::Arc;

use lathe_kernels::formats::Format;
use lathe_kernels::rotations::{Construction, Kind, Rotation};

use super::evaluate::{PIECE, least_common_multiple, panel};
use super::tiles::{Unit, packed};
use super::{PackError, PackOptions};
use crate::elaborate::Elaborated;
use crate::ir::{self, Basis, Chain, Factor, Graph, Param, Values, View};
use crate::lower::{Map, Recipe, Source};
use crate::model::{Checkpoint, StoredDtype};
use crate::plan::{Encoding, Plan, matrix};

/// Smallest tile, in bytes: below it a worker spends its time in system calls.
pub(super) const SMALLEST_TILE: u64 = 64 << 10;
/// Largest tile, in bytes: above it nothing gets faster.
pub(super) const LARGEST_TILE: u64 = 4 << 20;
/// What the process holds before it reads a weight, in bytes: code, stacks, library texts. Measured: 6 MB; rounded up.
const BASE: u64 = 16 << 20;
/// What headers become when they are read, in bytes for each byte of header: tables, graph, program, their texts.
/// Measured with 5 MB of headers (5000 layers): 40; rounded up.
const HEADER_FACTOR: u64 = 48;
/// What becomes of a packed tensor in names, places, digests and reports, in bytes. Measured with 5000 layers in `int4` with
/// zero points: 990; rounded up.
const PLANE: u64 = 1280;
/// What a worker holds besides its tile, in bytes.
pub(super) const WORKER: u64 = 256 << 10;
/// Most workers, whatever is asked for: files are not written faster by more.
const MAX_WORKERS: usize = 256;
/// What matrices that must be held whole take at most, where no bound is asked for, in bytes; one may take more.
const MATRICES: u64 = 4 << 30;
/// What becomes of a value that is known before packing, such as a factor of a scale, in bytes: itself, and its text.
const SCALE: u64 = 40;
/// What becomes of a fold in reports and locks, in bytes.
const FOLD: u64 = 4096;
/// What a thread holds to rotate rows, in bytes for each element of a row.
const ROTATION: u64 = 256;

/// What the memory that packing takes depends on, of a checkpoint and what becomes of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Demand {
    /// Bytes of headers.
    header_bytes: u64,
    /// Planes that are written.
    planes: u64,
    /// Bytes of rotations and scales, and of what is said of folds.
    bases: u64,
    /// The smallest tile that every weight can be packed with, in bytes: rows that share scales are packed whole, rows that
    /// a fold mixes together.
    smallest_tile: u64,
    /// The largest matrix that must be held whole besides, in bytes.
    matrix: u64,
    /// Bytes that a worker holds to rotate rows.
    rotating: u64,
}

impl Demand {
    /// Elements of the largest matrix that must be held whole.
    pub(super) fn matrix_elements(&self) -> usize {
        (self.matrix / 4) as usize
    }

    /// Of a plan.
    pub fn of_plan(plan: &Plan, model: &Elaborated, checkpoint: &Checkpoint) -> Demand {
        let Some(frames) = &plan.frames.edit else { return Demand::of_graph(&model.graph, plan, checkpoint) };
        let mut graph = model.graph.clone();
        graph.apply(frames);
        Demand::of_graph(&graph, plan, checkpoint)
    }

    /// Of a graph whose parameters know what is folded into them.
    fn of_graph(graph: &Graph, plan: &Plan, checkpoint: &Checkpoint) -> Demand {
        let scales = graph.scales().iter().map(|scale| scale.width.saturating_mul(SCALE));
        let rotations = graph.rotations().iter().map(rotation_bytes);
        let mut demand = Demand::new(checkpoint);
        demand.bases = scales.chain(rotations).fold(0, u64::saturating_add);
        for (param, encoding) in graph.params().iter().zip(&plan.encodings) {
            let mut source = param;
            while let Values::Tied(table) = source.values {
                source = &graph.params()[table.index()];
            }
            let stored = match &source.values {
                Values::Stored(view) => Some(view),
                Values::Tied(_) | Values::Uniform => None,
                Values::Zeros | Values::Scale { .. } => {
                    demand.bases += param.shape.iter().product::<u64>() * SCALE;
                    None
                }
            };
            demand.add(checkpoint, &param.shape, *encoding, stored, Folding::of_param(param, graph));
        }
        demand
    }

    /// Of recipes and the rotations that they refer to.
    pub fn of_recipes(recipes: &[Recipe], rotations: &[Rotation], checkpoint: &Checkpoint) -> Demand {
        let mut demand = Demand::new(checkpoint);
        let given = |rotation: &Rotation| match rotation.kind() {
            Kind::Matrix { values } => 4 * values.len(),
            Kind::Hadamard { .. } | Kind::Orthogonal { .. } => 0,
        };
        demand.bases = rotations.iter().map(|rotation| (rotation.bytes() + given(rotation)) as u64).sum();
        let mut scales: Vec<&Arc<[f64]>> = Vec::new();
        for recipe in recipes {
            for map in recipe.folded.rows.iter().chain(&recipe.folded.columns) {
                scales.extend(if let Map::Scale { values, .. } = map { Some(values) } else { None });
            }
            if let Source::Values(values) = &recipe.source {
                demand.bases += 8 * values.len() as u64;
            }
            let stored = if let Source::Stored(view) = &recipe.source { Some(view) } else { None };
            let folding = Folding::of_recipe(recipe, rotations);
            demand.add(checkpoint, &recipe.shape, recipe.encoding, stored, folding);
        }
        scales.sort_by_key(|values| values.as_ptr());
        scales.dedup_by_key(|values| values.as_ptr());
        demand.bases += scales.iter().map(|values| SCALE * values.len() as u64).sum::<u64>();
        demand
    }

    fn new(checkpoint: &Checkpoint) -> Demand {
        Demand { header_bytes: checkpoint.header_bytes, smallest_tile: SMALLEST_TILE, ..Demand::default() }
    }

    /// One more weight. `folding` is what is folded into it, if anything.
    fn add(
        &mut self,
        checkpoint: &Checkpoint,
        shape: &[u64],
        encoding: Encoding,
        stored: Option<&View>,
        folding: Option<Folding>,
    ) {
        let stored = stored.map(|view| (stored_dtype(checkpoint, view), view));
        let tile = match (stored, folding) {
            (Some((dtype, view)), None) => Unit::new(encoding.format, matrix(shape).1, dtype, view).bytes,
            (_, folding) => {
                let folding = folding.unwrap_or_default();
                let unit = FoldedUnit::new(encoding.format, shape, stored, folding);
                self.bases += FOLD;
                self.rotating = self.rotating.max(folding.rotated.saturating_mul(ROTATION));
                self.matrix = self.matrix.max(unit.matrix());
                unit.tile()
            }
        };
        let tile = tile.checked_next_multiple_of(SMALLEST_TILE).unwrap_or(u64::MAX);
        self.smallest_tile = self.smallest_tile.max(tile);
        self.planes += encoding.format.planes(0, 0).len() as u64;
    }
}

pub(super) fn stored_dtype(checkpoint: &Checkpoint, view: &View) -> StoredDtype {
    checkpoint.tensor(view.tensor).stored_dtype().expect("elaboration refuses dtypes that cannot be read")
}

/// At most what a rotation holds, in bytes.
fn rotation_bytes(rotation: &ir::Rotation) -> u64 {
    let square = rotation.width.saturating_mul(rotation.width);
    match rotation.basis {
        Basis::Hadamard { .. } => {
            // Entries of the factors that are not Sylvester's, in f32, and transposed.
            let construction = usize::try_from(rotation.width).ok().and_then(Construction::of);
            let bases = construction.map_or(0, |construction| 8 * construction.base_bytes().len() as u64);
            bases.saturating_add(rotation.width.saturating_mul(16))
        }
        // Half of a square of f32.
        Basis::Orthogonal { .. } => square.saturating_mul(4),
        // As given, in f32 and transposed, and in f64 on its way to the artifact.
        Basis::Matrix { .. } => square.saturating_mul(12 + 8),
    }
}

/// What folding takes, whatever the weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folding {
    /// Rows that are evaluated together.
    step: u64,
    /// Whether columns are mapped.
    columns: bool,
    /// Bytes of the vectors that multiply or are added.
    vectors: u64,
    /// The widest rotation.
    rotated: u64,
}

impl Default for Folding {
    /// Of values that are written as they are.
    fn default() -> Folding {
        Folding { step: 1, columns: false, vectors: 0, rotated: 0 }
    }
}

/// One map, as far as memory goes.
enum Factored {
    /// Of this width.
    Rotation(u64),
    /// A gain of this many elements.
    Gain(u64),
    /// Values that are held anyway.
    Scale,
}

impl Folding {
    /// `None` where values stay as they are.
    pub(super) fn of_recipe(recipe: &Recipe, rotations: &[Rotation]) -> Option<Folding> {
        let kind = |map: &Map| match map {
            Map::Rotate { rotation, .. } => {
                Factored::Rotation(rotations.get(*rotation).map_or(1, |rotation| rotation.width() as u64))
            }
            Map::Gain { gain, .. } => Factored::Gain(gain.elements()),
            Map::Scale { .. } => Factored::Scale,
        };
        let folded = &recipe.folded;
        let inputs = folded.product.as_ref().map(|product| product.vector.elements());
        let folding = || Folding::new(folded.rows.iter().map(kind), folded.columns.iter().map(kind));
        (!folded.is_identity()).then(|| folding().with_product(inputs, &recipe.shape))
    }

    fn of_param(param: &Param, graph: &Graph) -> Option<Folding> {
        let elements = |id: ir::ParamId| graph.param(id).map_or(1, |param| param.shape.iter().product());
        let kinds = |chain: &Chain| {
            let kind = |factor: &Factor| match *factor {
                Factor::Rotation { id, .. } => {
                    Factored::Rotation(graph.rotation(id).map_or(1, |rotation| rotation.width))
                }
                Factor::Gain { param, .. } => Factored::Gain(elements(param)),
                Factor::Scale { .. } => Factored::Scale,
            };
            chain.factors().iter().map(kind).collect::<Vec<_>>().into_iter()
        };
        let inputs = param.fold.product.map(|product| elements(product.vector));
        let folding = || Folding::new(kinds(&param.fold.rows), kinds(&param.fold.columns));
        (!param.fold.is_identity()).then(|| folding().with_product(inputs, &param.shape))
    }

    fn new(rows: impl Iterator<Item = Factored>, columns: impl Iterator<Item = Factored>) -> Folding {
        let mut folding = Folding::default();
        for (map, is_column) in rows.map(|map| (map, false)).chain(columns.map(|map| (map, true))) {
            folding.columns |= is_column;
            match map {
                Factored::Rotation(width) => {
                    folding.rotated = folding.rotated.max(width);
                    if is_column {
                        folding.step = least_common_multiple(folding.step, width);
                    }
                }
                // As stored, between elements, decoded, in f64 and once more where it is shared.
                Factored::Gain(elements) => {
                    folding.vectors = folding.vectors.saturating_add(elements.saturating_mul(32));
                }
                Factored::Scale => {}
            }
        }
        folding
    }

    /// With a product of a vector of `inputs` that is added to a bias of this shape.
    fn with_product(mut self, inputs: Option<u64>, shape: &[u64]) -> Folding {
        if let Some(inputs) = inputs {
            let (rows, columns) = matrix(shape);
            let sums = rows.saturating_mul(columns).saturating_mul(8);
            // The vector as a gain; rows of the matrix as stored, between elements, and decoded.
            let reading = inputs.saturating_mul(32).saturating_add(4 * PIECE.max(inputs.saturating_mul(4)));
            self.vectors = self.vectors.saturating_add(sums).saturating_add(reading);
        }
        self
    }
}

/// The memory to pack a weight that something is folded into, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoldedUnit {
    /// Rows that are evaluated together.
    step: u64,
    /// What is held whatever the number of rows.
    fixed: u64,
    /// For each row that is read, mapped and encoded at once.
    row: u64,
    /// For each row that is evaluated at once.
    held: u64,
}

/// How many rows of a weight are evaluated, and how many of them read or encoded, at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pieces {
    /// A multiple of those that are mixed.
    pub(super) evaluated: u64,
    /// At least one.
    pub(super) encoded: u64,
}

impl FoldedUnit {
    pub(super) fn new(
        format: Format,
        shape: &[u64],
        stored: Option<(StoredDtype, &View)>,
        folding: Folding,
    ) -> FoldedUnit {
        let (_, columns) = matrix(shape);
        let read = match stored {
            Some((dtype, view)) if view.range().is_none() => 2 * dtype.bytes() + 4,
            Some((dtype, _)) => dtype.bytes() + 4,
            None => 0,
        };
        let (height, width) = panel(folding.step);
        let panel = if folding.columns { 8 * (height as u64).saturating_mul(columns.min(width as u64)) } else { 0 };
        // As stored and decoded, mapped in f64, packed, and what that stands for.
        let row = columns.saturating_mul(read + 8 + 4).saturating_add(packed(format, columns));
        FoldedUnit {
            step: folding.step,
            fixed: folding.vectors.saturating_add(panel),
            row,
            held: columns.saturating_mul(4),
        }
    }

    /// Bytes of rows that must be held together, where they are too many for a tile.
    pub(super) fn matrix(&self) -> u64 {
        let held = self.held.saturating_mul(self.step);
        if held > LARGEST_TILE { held } else { 0 }
    }

    /// Bytes of the smallest tile.
    pub(super) fn tile(&self) -> u64 {
        let held = if self.matrix() > 0 { 0 } else { self.held.saturating_mul(self.step) };
        self.fixed.saturating_add(self.row).saturating_add(held)
    }

    /// Divides a tile of at least [`FoldedUnit::tile`] bytes.
    pub(super) fn pieces(&self, tile: u64) -> Pieces {
        let spare = tile.saturating_sub(self.fixed);
        let encoded =
            |evaluated: u64, spare: u64| Pieces { evaluated, encoded: (spare / self.row).clamp(1, evaluated) };
        if self.matrix() > 0 {
            return encoded(self.step, spare);
        }
        let together = (spare / (self.step * (self.held + self.row))).max(1) * self.step;
        encoded(together, spare.saturating_sub(together * self.held))
    }
}

/// Whether packing a weight holds a matrix besides a tile.
pub(super) fn holds_matrix(recipe: &Recipe, rotations: &[Rotation]) -> bool {
    let unit = |folding| FoldedUnit::new(recipe.encoding.format, &recipe.shape, None, folding);
    Folding::of_recipe(recipe, rotations).is_some_and(|folding| unit(folding).matrix() > 0)
}

/// Workers, their tiles, and how many of them may hold a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) workers: usize,
    /// In bytes.
    pub(super) tile: u64,
    pub(super) matrices: usize,
}

/// Memory that packing may take, in bytes.
fn bound(demand: Demand, workers: u64, tile: u64, matrices: u64) -> u64 {
    let model = (demand.header_bytes * HEADER_FACTOR + demand.planes * PLANE).saturating_add(demand.bases);
    let workers = workers.saturating_mul(tile.saturating_add(WORKER).saturating_add(demand.rotating));
    BASE.saturating_add(model).saturating_add(workers).saturating_add(matrices.saturating_mul(demand.matrix))
}

/// Refuses a bound on memory that a checkpoint cannot be packed in.
///
/// # Errors
/// [`PackError::TooLittleMemory`].
pub fn check_memory(demand: Demand, options: PackOptions<'_>) -> Result<(), PackError> {
    share(demand, options).map(|_| ())
}

/// Least memory that a checkpoint can be packed in, in bytes.
pub fn least_memory(demand: Demand) -> u64 {
    bound(demand, 1, demand.smallest_tile, u64::from(demand.matrix > 0))
}

/// Most memory that packing a checkpoint takes, in bytes.
///
/// # Errors
/// As [`check_memory`].
pub fn peak_memory(demand: Demand, options: PackOptions<'_>) -> Result<u64, PackError> {
    let Share { workers, tile, matrices } = share(demand, options)?;
    Ok(bound(demand, workers as u64, tile, matrices as u64))
}

/// Divides the memory under a bound: as many workers as there are threads for, then as many of them as fit may hold a
/// matrix, then tiles as large as they get.
pub(super) fn share(demand: Demand, options: PackOptions<'_>) -> Result<Share, PackError> {
    let Demand { smallest_tile, matrix, rotating, .. } = demand;
    let largest_tile = smallest_tile.max(LARGEST_TILE);
    let threads = options.threads.clamp(1, MAX_WORKERS) as u64;
    let one = u64::from(matrix > 0);
    let more = |room: u64, workers: u64| one * (1 + (room / matrix.max(1)).min(workers - 1));
    let Some(memory) = options.memory else {
        let matrices = more(MATRICES.saturating_sub(matrix), threads) as usize;
        return Ok(Share { workers: threads as usize, tile: largest_tile, matrices });
    };
    let minimum = least_memory(demand);
    if memory < minimum {
        return Err(PackError::TooLittleMemory { asked: memory, minimum });
    }
    let free = memory - bound(demand, 0, 0, one);
    let beside = WORKER + rotating;
    let workers = threads.min(free / (smallest_tile + beside));
    let left = free - workers * (smallest_tile + beside);
    let matrices = more(left, workers);
    let free = free - matrix * matrices.saturating_sub(1);
    let tile = (free / workers - beside).min(largest_tile);
    Ok(Share { workers: workers as usize, tile: tile - tile % SMALLEST_TILE, matrices: matrices as usize })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_bound_is_shared_or_refused_with_the_minimum() {
        let interrupted = AtomicBool::new(false);
        let options = |memory| PackOptions { memory, threads: 8, interrupted: &interrupted };
        for smallest_tile in [SMALLEST_TILE, 3 * SMALLEST_TILE, 2 * LARGEST_TILE] {
            for (matrix, rotating) in [(0, 0), (50 << 20, 1 << 20)] {
                let demand = Demand { header_bytes: 1000, planes: 10, bases: 5000, smallest_tile, matrix, rotating };
                let one = u64::from(matrix > 0);
                let minimum = bound(demand, 1, smallest_tile, one);
                let least = share(demand, options(Some(minimum))).unwrap();
                assert_eq!(least, Share { workers: 1, tile: smallest_tile, matrices: one as usize });
                match share(demand, options(Some(minimum - 1))) {
                    Err(PackError::TooLittleMemory { minimum: found, .. }) => assert_eq!(found, minimum),
                    other => panic!("{other:?}"),
                }
                for memory in [minimum + 5_000_000, minimum + 123_456_789, 1 << 40] {
                    let Share { workers, tile, matrices } = share(demand, options(Some(memory))).unwrap();
                    assert!(bound(demand, workers as u64, tile, matrices as u64) <= memory && workers <= 8);
                    assert!(tile >= smallest_tile && tile <= smallest_tile.max(LARGEST_TILE));
                    assert!(matrices <= workers && (matrices > 0) == (matrix > 0));
                }
                let Share { workers, matrices, .. } = share(demand, options(None)).unwrap();
                assert_eq!((workers, matrices), (8, 8 * one as usize));
            }
        }
        let huge = Demand { matrix: MATRICES / 2 - 1, smallest_tile: SMALLEST_TILE, ..Demand::default() };
        assert_eq!(share(huge, options(None)).unwrap().matrices, 2);
        let larger = Demand { matrix: 2 * MATRICES, ..huge };
        assert_eq!(share(larger, options(None)).unwrap().matrices, 1);
    }
}
