//! How much device memory a model takes, known without a device.

use lathe_kernels::cuda::DeviceMatrix;
use lathe_kernels::cuda::ops::DeviceCache;

use super::resident::{experts_of, matrix_of, vector_places};
use super::schedule::{Abilities, Kind, Places, Schedule};
use crate::exec::SessionOptions;
use crate::program::{Compute, Program, Rotation, RotationId, WeightId};

/// Tokens of a pass on a device, unless told otherwise: enough for its multiprocessors.
pub(super) const STEP_TOKENS: usize = 2048;

/// What sessions on a program take of the memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaMemoryPlan {
    /// Weights as they lie on the device, and rotations.
    pub weights: u64,
    /// Keys and values of each position.
    pub cache_per_position: u64,
    /// Activations of a pass, and logits.
    pub activations: u64,
    /// Of these, for each token of a pass.
    pub activations_per_token: u64,
    /// Largest number of positions that the model was made for.
    max_positions: u64,
}

impl CudaMemoryPlan {
    /// Of a valid program, for generation: passes of up to 2048 tokens, the logits of one.
    pub fn new(program: &Program) -> CudaMemoryPlan {
        CudaMemoryPlan::with_options(program, STEP_TOKENS, 1)
    }

    pub(super) fn with_options(program: &Program, max_step_tokens: usize, max_logits: usize) -> CudaMemoryPlan {
        let assumed = Assumed { program };
        let selected = max_logits.min(max_step_tokens);
        let many = Arrangement::new(program, Schedule::new(program, &assumed, Kind::Many), max_step_tokens, selected);
        let one = Arrangement::new(program, Schedule::new(program, &assumed, Kind::One), 1, 1);
        let is_bf16 = caches_bf16(program);
        let cache = |cache: &crate::program::Cache| {
            let (heads, head_dim) = (cache.heads as usize, cache.head_dim as usize);
            // What a cache takes for itself, whatever it holds, is nothing beside its positions.
            DeviceCache::bytes(heads, head_dim, CHUNK, is_bf16).div_ceil(CHUNK as u64)
        };
        let logits = 4u64.saturating_mul(program.vocabulary() as u64).saturating_mul(max_logits as u64);
        CudaMemoryPlan {
            weights: weights(program),
            cache_per_position: program.caches.iter().map(cache).fold(0, u64::saturating_add),
            activations: many.arena_bytes().saturating_add(one.arena_bytes()).saturating_add(logits),
            activations_per_token: many.places.tokens_width,
            max_positions: program.max_positions.unwrap_or(u32::MAX).into(),
        }
    }

    /// Bytes of a session of so many positions, but for what kernels need meanwhile.
    pub fn bytes(&self, positions: usize) -> u64 {
        let caches = self.cache_per_position.saturating_mul(positions as u64);
        self.weights.saturating_add(self.activations).saturating_add(caches)
    }

    /// The longest text that fits into so much free memory, within what the model was made for. A part of the memory is left
    /// to what kernels need meanwhile: their code and partial results. 0 where nothing fits.
    pub fn longest_context(&self, free: u64) -> usize {
        let reserve = (free / 32).min(MOST_RESERVE);
        let left = (free - reserve).saturating_sub(self.bytes(0));
        let positions = left.checked_div(self.cache_per_position).unwrap_or(if left > 0 { u64::MAX } else { 0 });
        positions.min(self.max_positions) as usize
    }
}

/// Positions over which the sizes of caches are averaged.
const CHUNK: usize = 1024;

/// Most bytes that are left to kernels.
const MOST_RESERVE: u64 = 512 << 20;

/// Whether keys and values are kept in bf16, f32 otherwise.
pub(super) fn caches_bf16(program: &Program) -> bool {
    program.compute == Compute::Bf16
}

fn weights(program: &Program) -> u64 {
    let bytes = |weight: WeightId| {
        let weight = &program.weights[weight.index()];
        match (weight.find_format(), weight.matrix_shape()) {
            (Some(format), Some(shape)) => DeviceMatrix::bytes(format, shape.rows, shape.cols),
            _ => unreachable!("invariant 4: weights have a format and a shape"),
        }
    };
    let mut matrices: Vec<WeightId> = program.steps.iter().filter_map(|step| matrix_of(&step.op)).collect();
    matrices.sort_unstable();
    matrices.dedup();
    let experts = experts_of(program);
    let experts = experts.iter().flat_map(|(weights, _, _)| weights.iter().copied());
    let matrices = matrices.into_iter().chain(experts).map(bytes).fold(0, u64::saturating_add);
    let rotations = program.rotations.iter().map(rotation_bytes).fold(0, u64::saturating_add);
    let (_, vectors) = vector_places(program);
    matrices.saturating_add(rotations).saturating_add(4 * vectors as u64)
}

/// About what a rotation takes.
fn rotation_bytes(rotation: &Rotation) -> u64 {
    let width = u64::from(rotation.width());
    match rotation {
        Rotation::Hadamard { .. } => 4 * width,
        Rotation::Orthogonal { .. } | Rotation::Matrix { .. } => 4 * width * width,
    }
}

/// A schedule and where its values lie, for passes of some size.
#[derive(Debug, Clone)]
pub(super) struct Arrangement {
    pub(super) schedule: Schedule,
    pub(super) places: Places,
    /// Most tokens of a pass.
    pub(super) rows: usize,
    /// Most selected rows of a pass.
    selected: usize,
}

impl Arrangement {
    pub(super) fn new(program: &Program, schedule: Schedule, rows: usize, selected: usize) -> Arrangement {
        let places = Places::new(program, &schedule);
        Arrangement { schedule, places, rows, selected }
    }

    /// Bytes of all values.
    pub(super) fn arena_bytes(&self) -> u64 {
        let bytes = |width: u64, rows: usize| width.saturating_mul(rows as u64);
        bytes(self.places.tokens_width, self.rows).saturating_add(bytes(self.places.selected_width, self.selected))
    }

    /// The first byte of values with a row for each selected token.
    pub(super) fn selected_start(&self) -> usize {
        self.places.tokens_width as usize * self.rows
    }
}

/// What devices can do, as far as it makes a difference for memory.
pub(super) struct Assumed<'a> {
    pub(super) program: &'a Program,
}

impl Abilities for Assumed<'_> {
    fn joins(&self, weights: &[WeightId]) -> bool {
        let kind = |weight: &WeightId| {
            let weight = &self.program.weights[weight.index()];
            (&weight.format, weight.shape.last())
        };
        weights.iter().all(|weight| kind(weight) == kind(&weights[0]))
    }

    fn normalizes(&self, _: WeightId) -> bool {
        true
    }

    fn quantizes(&self, _: WeightId) -> bool {
        true
    }

    fn rotates_rows(&self, rotation: RotationId, _: u32) -> bool {
        matches!(self.program.rotations[rotation.index()], Rotation::Hadamard { .. })
    }
}

impl SessionOptions {
    /// For generation on a device.
    pub(super) fn on_device(capacity: usize) -> SessionOptions {
        SessionOptions { max_step_tokens: STEP_TOKENS, ..SessionOptions::with_capacity(capacity) }
    }
}
