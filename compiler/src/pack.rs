//! Runs recipes: stored tensors in, packed tensors out, one tile at a time.
//!
//! Memory is bounded whatever the model: every worker holds one tile, and what grows with the model is the headers.
//! Every stored byte is read once; the digests of sources and outputs are taken from the same bytes as they pass through.
//! (A probe that finds a head stored with the very bytes of its table has read both before; only the table is packed.)
//! Which worker packs which tensor does not change a byte of the result.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use lathe_kernels::formats::{self, Matrix};
use lathe_runtime::program::{StoredTensor, Weight};
use lathe_runtime::weights::{WeightsWriter, WriteError, weight_file_name};

use crate::ir::View;
use crate::lower::Recipe;
use crate::model::{Checkpoint, StoredDtype};
use crate::source::{ReadTensorError, TensorReader};

/// Smallest tile, in bytes: below it a worker spends its time in system calls.
const SMALLEST_TILE: u64 = 64 << 10;
/// Largest tile, in bytes: above it nothing gets faster.
const LARGEST_TILE: u64 = 4 << 20;
/// What the process holds before it reads a weight, in bytes: code, stacks, library texts. Measured: 6 MB; rounded up.
const BASE: u64 = 16 << 20;
/// What headers become when they are read, in bytes for each byte of header: tables, graph, program, their texts.
/// Measured with 5 MB of headers (5000 layers): 40; rounded up.
const HEADER_FACTOR: u64 = 48;
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
        format: &'static str,
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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
    /// Bytes of the packed tensors.
    pub bytes_written: u64,
}

/// Memory that packing this checkpoint may take, in bytes, for these workers and tiles.
fn bound(header_bytes: u64, workers: u64, tile: u64) -> u64 {
    BASE + header_bytes * HEADER_FACTOR + workers * (tile + WORKER)
}

/// Refuses a bound on memory that this checkpoint cannot be packed in.
///
/// # Errors
/// [`PackError::TooLittleMemory`].
pub fn check_memory(checkpoint: &Checkpoint, options: PackOptions<'_>) -> Result<(), PackError> {
    share(checkpoint.header_bytes, options).map(|_| ())
}

/// Most memory that packing this checkpoint takes, in bytes.
///
/// # Errors
/// As [`check_memory`].
pub fn peak_memory(checkpoint: &Checkpoint, options: PackOptions<'_>) -> Result<u64, PackError> {
    let (workers, tile) = share(checkpoint.header_bytes, options)?;
    Ok(bound(checkpoint.header_bytes, workers as u64, tile))
}

/// Workers and the size of their tiles under a bound.
fn share(header_bytes: u64, options: PackOptions<'_>) -> Result<(usize, u64), PackError> {
    let threads = options.threads.clamp(1, MAX_WORKERS) as u64;
    let Some(memory) = options.memory else { return Ok((threads as usize, LARGEST_TILE)) };
    let minimum = bound(header_bytes, 1, SMALLEST_TILE);
    if memory < minimum {
        return Err(PackError::TooLittleMemory { asked: memory, minimum });
    }
    let free = memory - bound(header_bytes, 0, 0);
    let workers = threads.min(free / (SMALLEST_TILE + WORKER));
    let tile = (free / workers - WORKER).min(LARGEST_TILE);
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
    let (workers, tile) = share(checkpoint.header_bytes, options)?;
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
    let worker = || -> Result<Vec<(usize, Hashes)>, PackError> {
        let (mut tiles, mut done) = (Tiles::default(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { break };
            let hashes = state
                .run(job.recipe, &writers[job.shard], job.index, &mut tiles)
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            done.push((at, hashes));
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
    let mut hashes = Vec::with_capacity(jobs.len());
    for result in results {
        hashes.extend(result?);
    }
    hashes.sort_by_key(|(at, _)| *at);
    for writer in writers {
        writer.finish()?;
    }
    let digest = |name: &str, hash: &blake3::Hash| Digest { name: name.to_string(), blake3: hash.to_string() };
    let source_name = |recipe: &Recipe| {
        let tensor = checkpoint.tensor(recipe.source.tensor);
        let elements = tensor.shape.iter().product();
        let whole = recipe.source.range() == Some(0..elements);
        if whole { tensor.name.clone() } else { format!("{} for {}", tensor.name, recipe.name) }
    };
    Ok(Packed {
        sources: hashes.iter().map(|(at, hashes)| digest(&source_name(jobs[*at].recipe), &hashes.source)).collect(),
        outputs: hashes.iter().map(|(at, hashes)| digest(&jobs[*at].recipe.name, &hashes.output)).collect(),
        bytes_written,
    })
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

/// Of the bytes that went in, and of those that came out.
struct Hashes {
    source: blake3::Hash,
    output: blake3::Hash,
}

/// The memory of a worker, kept from one weight to the next.
#[derive(Default)]
struct Tiles {
    /// As stored.
    read: Vec<u8>,
    /// What lies between stored elements that are read.
    scratch: Vec<u8>,
    /// Decoded, where the format changes.
    values: Vec<f32>,
    /// As packed, where the format changes.
    packed: Vec<u8>,
}

impl Worker<'_> {
    /// Runs one recipe, tile by tile.
    fn run(
        &self,
        recipe: &Recipe,
        writer: &WeightsWriter,
        index: usize,
        tiles: &mut Tiles,
    ) -> Result<Hashes, PackError> {
        let view = &recipe.source;
        let tensor = self.checkpoint.tensor(view.tensor);
        let dtype = tensor.stored_dtype().expect("elaboration refuses dtypes that cannot be read");
        let target = StoredDtype::of_format(recipe.format).expect("invariant: this version's recipes write floats");
        let elements = view.elements();
        let step = tiles.make_room(self.tile, dtype, target, view);
        let (mut source, mut output) = (blake3::Hasher::new(), blake3::Hasher::new());
        let mut at = 0;
        while at < elements {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(PackError::Interrupted);
            }
            let next = elements.min(at + step);
            let room = tiles.scratch.capacity() as u64;
            let scratch = (&mut tiles.scratch, room);
            self.reader.read_view((tensor, view), dtype.bytes(), at..next, scratch, &mut tiles.read)?;
            let place = |element: usize| {
                let (element, columns) = (view.locate(at + element as u64), tensor.rows().1.max(1));
                (element / columns, element % columns)
            };
            if let Some((element, value)) = first_not_finite(dtype, &tiles.read) {
                let (row, column) = place(element);
                let (file, tensor) = (self.checkpoint.file_of(tensor), tensor.name.clone());
                return Err(PackError::NotFinite { file, tensor, row, column, value });
            }
            source.update(&tiles.read);
            if target == dtype {
                writer.write_at(index, at * dtype.bytes(), &tiles.read)?;
            } else {
                tiles.convert(dtype, target);
                if let Some((element, _)) = first_not_finite(target, &tiles.packed) {
                    let (row, column) = place(element);
                    return Err(PackError::TooLarge {
                        file: self.checkpoint.file_of(tensor),
                        tensor: tensor.name.clone(),
                        row,
                        column,
                        value: tiles.values[element],
                        format: recipe.format,
                    });
                }
                output.update(&tiles.packed);
                writer.write_at(index, at * target.bytes(), &tiles.packed)?;
            }
            at = next;
        }
        let source = source.finalize();
        Ok(Hashes { source, output: if target == dtype { source } else { output.finalize() } })
    }
}

impl Tiles {
    /// Allocates for moving values of a view from one dtype to another within `tile` bytes, and frees what was held for
    /// the weight before. Returns how many elements to read at a time.
    fn make_room(&mut self, tile: u64, stored: StoredDtype, target: StoredDtype, view: &View) -> u64 {
        let scattered = view.range().is_none();
        let converts = target != stored;
        // Of each element: what is read, the same again where it is picked from others, its f32 and what is written.
        let bytes = stored.bytes() * if scattered { 2 } else { 1 } + if converts { 4 + target.bytes() } else { 0 };
        let most = tile / bytes;
        // Whole rows, where they fit: a part of a row of a transposed tensor is read element by element.
        let row = view.axes.last().map_or(1, |axis| axis.size);
        let elements = if scattered && row <= most { most - most % row } else { most - most % 8 };
        let read = (elements * stored.bytes()) as usize;
        let scratch = if scattered { read } else { 0 };
        let (values, packed) =
            if converts { (elements as usize, (elements * target.bytes()) as usize) } else { (0, 0) };
        let held = [self.read.capacity(), self.scratch.capacity(), self.values.capacity(), self.packed.capacity()];
        if held != [read, scratch, values, packed] {
            *self = Tiles::default();
            self.read.reserve_exact(read);
            self.scratch.reserve_exact(scratch);
            self.values.reserve_exact(values);
            self.packed.reserve_exact(packed);
        }
        elements
    }

    /// Decodes what was read and packs it as `target`. Every value of f16 and bf16 is one of f32, so values are rounded
    /// once.
    fn convert(&mut self, stored: StoredDtype, target: StoredDtype) {
        let codec = |dtype: StoredDtype| formats::find(dtype.format()).expect("invariant: kernels know every dtype");
        let elements = self.read.len() / stored.bytes() as usize;
        self.values.resize(elements, 0.0);
        let matrix = Matrix::new(codec(stored), 1, elements, &[&self.read]);
        let matrix = matrix.expect("invariant: a tile is one row of whole elements");
        codec(stored).decode(&matrix, 0, 0..elements, &mut self.values);
        self.packed.resize(elements * target.bytes() as usize, 0);
        codec(target).encode(&self.values, elements, &mut [&mut self.packed]);
    }
}

/// The first element whose exponent is all ones, and its value.
fn first_not_finite(dtype: StoredDtype, bytes: &[u8]) -> Option<(usize, f32)> {
    /// The question without an early exit, which compiles to vector instructions; the place only when the answer is yes.
    fn find<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
        let (elements, _) = bytes.as_chunks::<N>();
        let any = |elements: &[[u8; N]]| elements.iter().fold(false, |any, &element| any | bad(element));
        let block = elements.chunks(4096).position(any)?;
        let within = elements[block * 4096..].iter().position(|&element| bad(element))?;
        Some(block * 4096 + within)
    }
    let half = |mask: u16| move |element: [u8; 2]| u16::from_le_bytes(element) & mask == mask;
    match dtype {
        StoredDtype::F32 => {
            let at = find(bytes, |element: [u8; 4]| u32::from_le_bytes(element) & 0x7f80_0000 == 0x7f80_0000)?;
            Some((at, f32::from_le_bytes(bytes[at * 4..at * 4 + 4].try_into().ok()?)))
        }
        StoredDtype::F16 => {
            let at = find(bytes, half(0x7c00))?;
            let bits = u16::from_le_bytes(bytes[at * 2..at * 2 + 2].try_into().ok()?);
            // The mantissa tells NaN from infinity, wherever its bits are.
            let value = if bits & 0x03ff == 0 { f32::INFINITY } else { f32::NAN };
            Some((at, if bits >> 15 == 1 { -value } else { value }))
        }
        StoredDtype::Bf16 => {
            let at = find(bytes, half(0x7f80))?;
            let bits = u16::from_le_bytes(bytes[at * 2..at * 2 + 2].try_into().ok()?);
            Some((at, f32::from_bits(u32::from(bits) << 16)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Axis, TensorId};

    #[test]
    fn non_finite_values_are_found_where_they_are() {
        let f32s = [1.0f32, -0.0, f32::MAX, f32::NEG_INFINITY];
        let bytes: Vec<u8> = f32s.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(first_not_finite(StoredDtype::F32, &bytes), Some((3, f32::NEG_INFINITY)));
        assert_eq!(first_not_finite(StoredDtype::F32, &bytes[..12]), None);

        let mut bf16 = vec![0u8; 2 * 10_000];
        bf16[2 * 7_777..2 * 7_778].copy_from_slice(&0x7fc0u16.to_le_bytes());
        let (at, value) = first_not_finite(StoredDtype::Bf16, &bf16).unwrap();
        assert!(at == 7_777 && value.is_nan());

        let f16: Vec<u8> = [0x7bffu16, 0xfc00].iter().flat_map(|bits| bits.to_le_bytes()).collect();
        assert_eq!(first_not_finite(StoredDtype::F16, &f16), Some((1, f32::NEG_INFINITY)));
    }

    #[test]
    fn whatever_the_dtypes_a_worker_holds_one_tile() {
        let dtypes = [StoredDtype::F32, StoredDtype::F16, StoredDtype::Bf16];
        for tile in [SMALLEST_TILE, 3 * SMALLEST_TILE, LARGEST_TILE] {
            let mut tiles = Tiles::default();
            let whole = View::contiguous(TensorId(0), 0, 1 << 20);
            let axes = [(1000, 1), (1000, 1000)].map(|(size, stride)| Axis { size, stride });
            for view in [whole, View::new(TensorId(0), 0, axes)] {
                for (stored, target) in dtypes.iter().flat_map(|stored| dtypes.map(|target| (*stored, target))) {
                    let step = tiles.make_room(tile, stored, target, &view);
                    assert!(step > 0 && step.is_multiple_of(8));
                    tiles.read.resize((step * stored.bytes()) as usize, 0);
                    if stored != target {
                        tiles.convert(stored, target);
                    }
                    let bytes = tiles.read.capacity() + tiles.scratch.capacity() + tiles.packed.capacity();
                    let held = bytes + 4 * tiles.values.capacity();
                    assert!(held as u64 <= tile, "{stored:?} to {target:?}: {held} bytes of {tile}");
                }
            }
        }
    }

    #[test]
    fn a_bound_is_shared_or_refused_with_the_minimum() {
        let interrupted = AtomicBool::new(false);
        let options = |memory| PackOptions { memory: Some(memory), threads: 8, interrupted: &interrupted };
        let minimum = bound(1000, 1, SMALLEST_TILE);
        assert!(matches!(share(1000, options(minimum)), Ok((1, SMALLEST_TILE))));
        match share(1000, options(minimum - 1)) {
            Err(PackError::TooLittleMemory { minimum: found, .. }) => assert_eq!(found, minimum),
            other => panic!("{other:?}"),
        }
        for memory in [minimum + 5_000_000, minimum + 123_456_789, 1 << 40] {
            let (workers, tile) = share(1000, options(memory)).unwrap();
            assert!(bound(1000, workers as u64, tile) <= memory && tile <= LARGEST_TILE && workers <= 8);
        }
    }
}
