//! Runs recipes: stored tensors in, packed tensors out, one tile at a time.
//!
//! Memory is bounded whatever the model: every worker holds one tile, and what grows with the model is the headers.
//! Every stored byte is read once; the digests of sources and outputs are taken from the same bytes as they pass through.
//! (A probe that finds a head stored with the very bytes of its table has read both before; only the table is packed.)
//! Which worker packs which tensor does not change a byte of the result.

mod tiles;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use lathe_kernels::formats::Format;
use lathe_runtime::program::{StoredTensor, Weight};
use lathe_runtime::weights::{WeightsWriter, WriteError, weight_file_name};

use crate::elaborate::Elaborated;
use crate::ir::{Values, View};
use crate::lower::Recipe;
use crate::model::{Checkpoint, StoredDtype};
use crate::plan::{Encoding, Plan, matrix};
use crate::source::{ReadTensorError, TensorReader};
pub use tiles::Noise;
use tiles::{Tiles, Unit};

/// Smallest tile, in bytes: below it a worker spends its time in system calls.
const SMALLEST_TILE: u64 = 64 << 10;
/// Largest tile, in bytes: above it nothing gets faster.
const LARGEST_TILE: u64 = 4 << 20;
/// What the process holds before it reads a weight, in bytes: code, stacks, library texts. Measured: 6 MB; rounded up.
const BASE: u64 = 16 << 20;
/// What headers become when they are read, in bytes for each byte of header: tables, graph, program, their texts.
/// Measured with 5 MB of headers (5000 layers): 40; rounded up.
const HEADER_FACTOR: u64 = 48;
/// What becomes of a packed tensor in names, places, digests and reports, in bytes. Measured with 5000 layers in `int4` with
/// zero points: 990; rounded up.
const PLANE: u64 = 1280;
/// What a worker holds besides its tile, in bytes.
const WORKER: u64 = 256 << 10;
/// Most workers, whatever is asked for: files are not written faster by more.
const MAX_WORKERS: usize = 256;
/// Largest weight file of an artifact, in bytes; a single tensor may be larger.
const SHARD: u64 = 8 << 30;

/// How packing is to be done.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions<'a> {
    /// Bound on the memory of the whole process, in bytes.
    pub memory: Option<u64>,
    /// Most workers.
    pub threads: usize,
    /// Set from elsewhere, packing ends with [`PackError::Interrupted`].
    pub interrupted: &'a AtomicBool,
}

/// Why packing stopped.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// `--memory` is below what this checkpoint needs.
    #[error("expected a memory bound of {minimum} bytes or more for this checkpoint, found {asked}")]
    TooLittleMemory {
        /// The bound that was asked for, in bytes.
        asked: u64,
        /// The smallest that can be kept, in bytes.
        minimum: u64,
    },
    /// A weight is NaN or infinite.
    #[error("{file}: tensor `{tensor}`: expected finite values, found {value} at row {row}, column {column}")]
    NotFinite {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Row of the value.
        row: u64,
        /// Its place in the row.
        column: u64,
        /// NaN, inf or -inf.
        value: f32,
    },
    /// A value is too large for the format that it is written in.
    #[error("{file}: tensor `{tensor}`: {value} at row {row}, column {column} is beyond what {format} can hold")]
    TooLarge {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Row of the value.
        row: u64,
        /// Its place in the row.
        column: u64,
        /// As stored.
        value: f32,
        /// The format.
        format: Format,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Not even one worker could be started.
    #[error("cannot start a thread: {source}")]
    NoThread {
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A tensor could not be read.
    #[error(transparent)]
    Read(#[from] ReadTensorError),
    /// The artifact could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A tensor and the BLAKE3 hash of its bytes, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Digest {
    /// The tensor.
    pub name: String,
    /// Of its bytes.
    pub blake3: String,
}

/// What packing did.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// Stored tensors that went in, in the order of the weights.
    pub sources: Vec<Digest>,
    /// Packed tensors that came out.
    pub outputs: Vec<Digest>,
    /// What each weight lost, in the order of the recipes; `None` where every value is as it was.
    pub noise: Vec<Option<Noise>>,
    /// Bytes of the packed tensors.
    pub bytes_written: u64,
}

/// What the memory that packing takes depends on, of a checkpoint and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// Bytes of headers.
    header_bytes: u64,
    /// Planes that are written.
    planes: u64,
    /// The smallest tile that every weight can be packed with, in bytes: rows that share scales are packed whole.
    smallest_tile: u64,
}

impl Demand {
    /// Of a plan.
    pub fn of_plan(plan: &Plan, model: &Elaborated, checkpoint: &Checkpoint) -> Demand {
        let params = model.graph.params().iter().zip(&plan.encodings);
        let weights = params.filter_map(|(param, encoding)| match &param.values {
            Values::Stored(view) => Some((&*param.shape, *encoding, view)),
            Values::Tied(table) => match &model.graph.params()[table.index()].values {
                Values::Stored(view) => Some((&*param.shape, *encoding, view)),
                Values::Tied(_) => None,
            },
        });
        Demand::new(checkpoint, weights)
    }

    /// Of recipes.
    pub fn of_recipes(recipes: &[Recipe], checkpoint: &Checkpoint) -> Demand {
        Demand::new(checkpoint, recipes.iter().map(|recipe| (&*recipe.shape, recipe.encoding, &recipe.source)))
    }

    fn new<'a>(checkpoint: &Checkpoint, weights: impl Iterator<Item = (&'a [u64], Encoding, &'a View)>) -> Demand {
        let mut demand = Demand { header_bytes: checkpoint.header_bytes, planes: 0, smallest_tile: SMALLEST_TILE };
        for (shape, encoding, view) in weights {
            let unit = Unit::new(encoding.format, matrix(shape).1, stored_dtype(checkpoint, view), view);
            demand.smallest_tile = demand.smallest_tile.max(unit.bytes.next_multiple_of(SMALLEST_TILE));
            demand.planes += encoding.format.planes(0, 0).len() as u64;
        }
        demand
    }
}

fn stored_dtype(checkpoint: &Checkpoint, view: &View) -> StoredDtype {
    checkpoint.tensor(view.tensor).stored_dtype().expect("elaboration refuses dtypes that cannot be read")
}

/// Memory that packing may take, in bytes, with these workers and tiles.
fn bound(demand: Demand, workers: u64, tile: u64) -> u64 {
    BASE + demand.header_bytes * HEADER_FACTOR + demand.planes * PLANE + workers * (tile + WORKER)
}

/// Refuses a bound on memory that a checkpoint cannot be packed in.
///
/// # Errors
/// [`PackError::TooLittleMemory`].
pub fn check_memory(demand: Demand, options: PackOptions<'_>) -> Result<(), PackError> {
    share(demand, options).map(|_| ())
}

/// Most memory that packing a checkpoint takes, in bytes.
///
/// # Errors
/// As [`check_memory`].
pub fn peak_memory(demand: Demand, options: PackOptions<'_>) -> Result<u64, PackError> {
    let (workers, tile) = share(demand, options)?;
    Ok(bound(demand, workers as u64, tile))
}

/// Workers and the size of their tiles under a bound.
fn share(demand: Demand, options: PackOptions<'_>) -> Result<(usize, u64), PackError> {
    let Demand { smallest_tile, .. } = demand;
    let largest_tile = smallest_tile.max(LARGEST_TILE);
    let threads = options.threads.clamp(1, MAX_WORKERS) as u64;
    let Some(memory) = options.memory else { return Ok((threads as usize, largest_tile)) };
    let minimum = bound(demand, 1, smallest_tile);
    if memory < minimum {
        return Err(PackError::TooLittleMemory { asked: memory, minimum });
    }
    let free = memory - bound(demand, 0, 0);
    let workers = threads.min(free / (smallest_tile + WORKER));
    let tile = (free / workers - WORKER).min(largest_tile);
    Ok((workers as usize, tile - tile % SMALLEST_TILE))
}

/// One weight and where it goes.
struct Job<'a> {
    recipe: &'a Recipe,
    shard: usize,
    /// Index among the tensors of the shard.
    index: usize,
}

/// Packs every recipe into `weights-*.safetensors` in `folder`. `weights` are those of the program, one for each recipe.
///
/// # Errors
/// The first that a worker meets; the files are then not whole.
pub fn pack(
    recipes: &[Recipe],
    weights: &[Weight],
    checkpoint: &Checkpoint,
    reader: &TensorReader,
    folder: &Path,
    options: PackOptions<'_>,
) -> Result<Packed, PackError> {
    let (workers, tile) = share(Demand::of_recipes(recipes, checkpoint), options)?;
    let (shards, jobs) = lay_out(recipes, weights);
    let count = shards.len();
    let mut bytes_written = 0;
    let mut writers = Vec::with_capacity(count);
    for (index, tensors) in shards.into_iter().enumerate() {
        let path = folder.join(weight_file_name(index + 1, count));
        bytes_written += tensors.iter().filter_map(StoredTensor::bytes).map(|bytes| bytes as u64).sum::<u64>();
        writers.push(WeightsWriter::create(&path, tensors)?);
    }

    let state = Worker { checkpoint, reader, tile, interrupted: options.interrupted };
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || -> Result<Vec<(usize, Done)>, PackError> {
        let (mut tiles, mut done) = (Tiles::default(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { break };
            let packed = state
                .run(job.recipe, &writers[job.shard], job.index, &mut tiles)
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            done.push((at, packed));
        }
        Ok(done)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let mut handles = Vec::with_capacity(workers);
        for _ in 0..workers.min(jobs.len()) {
            match thread::Builder::new().spawn_scoped(scope, worker) {
                Ok(handle) => handles.push(handle),
                Err(source) if handles.is_empty() => return Err(PackError::NoThread { source }),
                // Those that run do all the work, as the counter hands it out.
                Err(_) => break,
            }
        }
        let join = |handle: thread::ScopedJoinHandle<'_, _>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        Ok(handles.into_iter().map(join).collect())
    })?;
    let mut done = Vec::with_capacity(jobs.len());
    for result in results {
        done.extend(result?);
    }
    done.sort_by_key(|(at, _)| *at);
    for writer in writers {
        writer.finish()?;
    }
    let mut packed = Packed { bytes_written, ..Packed::default() };
    for ((_, done), (recipe, weight)) in done.iter().zip(recipes.iter().zip(weights)) {
        let digest = |name: String, hash: &blake3::Hash| Digest { name, blake3: hash.to_string() };
        let tensor = checkpoint.tensor(recipe.source.tensor);
        let whole = recipe.source.range() == Some(0..tensor.shape.iter().product());
        let source = if whole { tensor.name.clone() } else { format!("{} for {}", tensor.name, recipe.name) };
        packed.sources.push(digest(source, &done.source));
        let planes = weight.stored_tensors().unwrap_or_default();
        packed.outputs.extend(planes.into_iter().zip(&done.outputs).map(|(plane, hash)| digest(plane.name, hash)));
        packed.noise.push(done.noise);
    }
    Ok(packed)
}

/// Fills shards in the order of the recipes.
fn lay_out<'a>(recipes: &'a [Recipe], weights: &[Weight]) -> (Vec<Vec<StoredTensor>>, Vec<Job<'a>>) {
    let mut shards: Vec<Vec<StoredTensor>> = vec![Vec::new()];
    let mut jobs = Vec::with_capacity(recipes.len());
    let mut filled = 0u64;
    for (recipe, weight) in recipes.iter().zip(weights) {
        let planes = weight.stored_tensors().expect("invariant: weights of a verified program can be stored");
        let bytes: u64 = planes.iter().filter_map(StoredTensor::bytes).map(|bytes| bytes as u64).sum();
        if filled > 0 && filled + bytes > SHARD {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        let shard = shards.len() - 1;
        jobs.push(Job { recipe, shard, index: shards[shard].len() });
        shards[shard].extend(planes);
    }
    (shards, jobs)
}

/// What every worker needs.
struct Worker<'a> {
    checkpoint: &'a Checkpoint,
    reader: &'a TensorReader,
    tile: u64,
    interrupted: &'a AtomicBool,
}

/// What became of a weight.
struct Done {
    /// Hash of the bytes that went in.
    source: blake3::Hash,
    /// Of those that came out, for each plane.
    outputs: Vec<blake3::Hash>,
    noise: Option<Noise>,
}

impl Worker<'_> {
    /// Runs one recipe, tile by tile.
    fn run(&self, recipe: &Recipe, writer: &WeightsWriter, index: usize, tiles: &mut Tiles) -> Result<Done, PackError> {
        let view = &recipe.source;
        let stored = stored_dtype(self.checkpoint, view);
        let (rows, columns) = matrix(&recipe.shape);
        let unit = Unit::new(recipe.encoding.format, columns, stored, view);
        let step = tiles.make_room(self.tile, &unit, recipe.encoding.format);
        let mut source = blake3::Hasher::new();
        let mut outputs = vec![blake3::Hasher::new(); tiles.planes()];
        let mut offsets = vec![0; tiles.planes()];
        let mut noise = unit.encodes.then(Noise::default);
        let (mut at, end) = (0, unit.count(rows, columns));
        while at < end {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(PackError::Interrupted);
            }
            let next = end.min(at + step);
            let elements = at * unit.elements..next * unit.elements;
            tiles.read(self.reader, (self.checkpoint.tensor(view.tensor), view), stored, elements.clone())?;
            let place = |element: usize| self.place(view, elements.start + element as u64);
            if let Some((element, value)) = tiles::first_not_finite(stored, tiles.stored()) {
                let (file, tensor, row, column) = place(element);
                return Err(PackError::NotFinite { file, tensor, row, column, value });
            }
            source.update(tiles.stored());
            if let Some(noise) = &mut noise {
                let units = (next - at) as usize;
                if let Err((element, value)) = tiles.encode(recipe.encoding, &unit, units, stored, noise) {
                    let (file, tensor, row, column) = place(element);
                    let format = recipe.encoding.format;
                    return Err(PackError::TooLarge { file, tensor, row, column, value, format });
                }
            }
            for (plane, (offset, hash)) in offsets.iter_mut().zip(&mut outputs).enumerate() {
                let bytes = tiles.plane(plane);
                if unit.encodes {
                    hash.update(bytes);
                }
                writer.write_at(index + plane, *offset, bytes)?;
                *offset += bytes.len() as u64;
            }
            at = next;
        }
        let source = source.finalize();
        let outputs = outputs.iter().map(|hash| if unit.encodes { hash.finalize() } else { source }).collect();
        Ok(Done { source, outputs, noise: noise.filter(|noise| !noise.is_none()) })
    }

    /// Where element `at` of a view is: file, tensor, row and column.
    fn place(&self, view: &View, at: u64) -> (String, String, u64, u64) {
        let tensor = self.checkpoint.tensor(view.tensor);
        let (element, columns) = (view.locate(at), tensor.rows().1.max(1));
        (self.checkpoint.file_of(tensor), tensor.name.clone(), element / columns, element % columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_shared_or_refused_with_the_minimum() {
        let interrupted = AtomicBool::new(false);
        let options = |memory| PackOptions { memory: Some(memory), threads: 8, interrupted: &interrupted };
        for smallest_tile in [SMALLEST_TILE, 3 * SMALLEST_TILE, 2 * LARGEST_TILE] {
            let demand = Demand { header_bytes: 1000, planes: 10, smallest_tile };
            let minimum = bound(demand, 1, smallest_tile);
            assert!(matches!(share(demand, options(minimum)), Ok((1, tile)) if tile == smallest_tile));
            match share(demand, options(minimum - 1)) {
                Err(PackError::TooLittleMemory { minimum: found, .. }) => assert_eq!(found, minimum),
                other => panic!("{other:?}"),
            }
            for memory in [minimum + 5_000_000, minimum + 123_456_789, 1 << 40] {
                let (workers, tile) = share(demand, options(memory)).unwrap();
                assert!(bound(demand, workers as u64, tile) <= memory && workers <= 8);
                assert!(tile >= smallest_tile && tile <= smallest_tile.max(LARGEST_TILE));
            }
        }
    }
}
