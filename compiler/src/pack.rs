//! Runs recipes: stored tensors in, packed tensors out, one tile at a time.
//!
//! Memory is bounded whatever the model: every worker holds one tile, and what grows with the model is the headers. Only a
//! matrix whose rows a rotation mixes all with each other is held whole, and no more of them than there is room for.
//! Every stored byte of a weight is read once; the digests of sources and outputs are taken from the same bytes as they pass
//! through. (A probe that finds a head stored with the very bytes of its table has read both before; only the table is
//! packed. What is folded into several weights, such as a gain, is read for each.)
//! Which worker packs which tensor does not change a byte of the result.

pub mod evaluate;
mod maps;
mod memory;
mod queue;
mod stored_name;
mod tiles;
mod worker;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;

use lathe_kernels::formats::Format;
use lathe_runtime::program::{StoredTensor, Weight};
use lathe_runtime::weights::{WeightsWriter, WriteError, weight_file_name};

use crate::lower::Recipe;
use crate::source::ReadTensorError;
use evaluate::{EvaluateError, Evaluator};
pub use maps::Maps;
pub use memory::{Demand, check_memory, least_memory, peak_memory};
use memory::{Share, holds_matrix, share};
use queue::Queue;
pub(crate) use stored_name::{find_stored, stored_name};
pub use tiles::Noise;
use worker::{Done, Worker};

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
    /// What rotations and gains make of a weight is too large for the format that it is written in.
    #[error(
        "`{weight}`: {value} at row {row}, column {column}, with what is folded in, is beyond what {format} can hold"
    )]
    FoldedTooLarge {
        /// The weight.
        weight: String,
        /// Row of the value.
        row: u64,
        /// Its place in the row.
        column: u64,
        /// As it was to be written.
        value: f32,
        /// The format.
        format: Format,
    },
    /// A recipe that does not fit its checkpoint, or rows that cannot be held.
    #[error(transparent)]
    Evaluate(EvaluateError),
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

impl From<EvaluateError> for PackError {
    fn from(error: EvaluateError) -> Self {
        match error {
            EvaluateError::NotFinite { file, tensor, row, column, value } => {
                PackError::NotFinite { file, tensor, row, column, value }
            }
            EvaluateError::Interrupted => PackError::Interrupted,
            EvaluateError::Read(error) => PackError::Read(error),
            error @ (EvaluateError::Invalid { .. } | EvaluateError::Memory { .. }) => PackError::Evaluate(error),
        }
    }
}

/// A tensor, or elements of one, and the BLAKE3 hash of their bytes, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Digest {
    /// The tensor; behind it in brackets which elements, where they are not all in their order: `NAME[64: 4*768 32*1]`.
    pub name: String,
    /// Of its bytes.
    pub blake3: String,
}

/// What packing did.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// What was read, once each, in the order of the weights; for each as [`evaluate::Evaluation::sources`] has it.
    pub sources: Vec<Digest>,
    /// Packed tensors that came out.
    pub outputs: Vec<Digest>,
    /// What each weight lost, in the order of the recipes; `None` where every value is as it was.
    pub noise: Vec<Option<Noise>>,
    /// Bytes of the packed tensors.
    pub bytes_written: u64,
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
    evaluator: Evaluator<'_>,
    folder: &Path,
    options: PackOptions<'_>,
) -> Result<Packed, PackError> {
    let Evaluator { checkpoint, rotations, .. } = evaluator;
    let demand = Demand::of_recipes(recipes, rotations, checkpoint);
    let Share { workers, tile, matrices } = share(demand, options)?;
    let (shards, jobs) = lay_out(recipes, weights);
    let count = shards.len();
    let mut bytes_written = 0;
    let mut writers = Vec::with_capacity(count);
    for (index, tensors) in shards.into_iter().enumerate() {
        let path = folder.join(weight_file_name(index + 1, count));
        bytes_written += tensors.iter().filter_map(StoredTensor::bytes).map(|bytes| bytes as u64).sum::<u64>();
        writers.push(WeightsWriter::create(&path, tensors)?);
    }

    let (large, others): (Vec<_>, Vec<_>) = (0..jobs.len()).partition(|&at| holds_matrix(jobs[at].recipe, rotations));
    let queue = Queue::new(large.into(), others.into(), matrices);
    let evaluator = Evaluator { interrupted: Some(options.interrupted), ..evaluator };
    let state = Worker { evaluator, tile, matrix: demand.matrix_elements() };
    let worker = || -> Result<Vec<(usize, Done)>, PackError> {
        let mut done = Vec::new();
        while let Some(mut turn) = queue.next() {
            let job = &jobs[turn.job];
            let packed = state
                .run(job.recipe, &mut turn.matrix, &writers[job.shard], job.index)
                .inspect_err(|_| queue.stop())?;
            done.push((turn.job, packed));
        }
        Ok(done)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let mut handles = Vec::with_capacity(workers);
        for _ in 0..workers.min(jobs.len()) {
            match thread::Builder::new().spawn_scoped(scope, worker) {
                Ok(handle) => handles.push(handle),
                Err(source) if handles.is_empty() => return Err(PackError::NoThread { source }),
                // Those that run do all the work, as the queue hands it out.
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
    let mut read = BTreeSet::new();
    for ((_, done), weight) in done.into_iter().zip(weights) {
        packed.sources.extend(done.sources.into_iter().filter(|source| read.insert(source.name.clone())));
        let planes = weight.stored_tensors().unwrap_or_default();
        let digests = planes.into_iter().zip(&done.outputs);
        packed.outputs.extend(digests.map(|(plane, hash)| Digest { name: plane.name, blake3: hash.to_string() }));
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
