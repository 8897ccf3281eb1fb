//! Everything that a pass reads and writes, and what runs a step.

use std::ops::Range;

use bytemuck::allocation::try_zeroed_vec;
use bytemuck::{Zeroable, cast_slice, cast_slice_mut};
use lathe_kernels::ops::{self, AttentionShape};
use lathe_kernels::rotations::Rotation;

use super::weights::StepWeights;
use crate::backend::kernels::{binary, pairing, unary};
use crate::backend::{StepOutput, StepValues};
use crate::exec::{ExecError, Limits, Pass};
use crate::frequencies::Frequencies;
use crate::memory::{MemoryPlan, Region};
use crate::program::{BufferId, Elements, Index, Op, Program, RopeTable, Rows, Step};

/// Everything that a pass reads and writes.
pub(super) struct Machine<'a, W> {
    pub(super) program: &'a Program,
    plan: MemoryPlan,
    pub(super) weights: W,
    rotations: Vec<Rotation>,
    caches: Vec<KeysValues>,
    capacity: usize,
    /// The regions, one after the other; indices lie in it by their bits.
    arena: Vec<f32>,
    /// First element of each region.
    regions: Regions,
    /// Positions of the tokens of a pass.
    positions: Vec<u32>,
    pub(super) frequencies: Frequencies<'a>,
}

/// f32 `[heads, capacity, head_dim]` each.
struct KeysValues {
    keys: Vec<f32>,
    values: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Regions {
    selected: usize,
    output: usize,
    end: usize,
}

impl<'a, W: StepWeights> Machine<'a, W> {
    /// Allocates all memory that passes of a valid program need, besides that of its weights and rotations.
    pub(super) fn new(
        program: &'a Program,
        weights: W,
        rotations: Vec<Rotation>,
        limits: &Limits,
        memory: &mut Allocator,
    ) -> Result<Self, ExecError> {
        let plan = MemoryPlan::new(program);
        let regions = Regions::new(&plan, limits)?;
        let arena = memory.zeros("activations", regions.end)?;
        let positions = memory.zeros("positions", limits.max_step_tokens)?;
        let mut caches = Vec::with_capacity(program.caches.len());
        for cache in &program.caches {
            let length = (cache.heads as usize)
                .checked_mul(cache.head_dim as usize)
                .and_then(|width| width.checked_mul(limits.capacity))
                .ok_or(ExecError::Memory { what: CACHES, bytes: u64::MAX })?;
            caches.push(KeysValues { keys: memory.zeros(CACHES, length)?, values: memory.zeros(CACHES, length)? });
        }
        let (capacity, frequencies) = (limits.capacity, Frequencies::new(program));
        Ok(Machine { program, plan, weights, rotations, caches, capacity, arena, regions, positions, frequencies })
    }

    /// Sends the tokens of a pass through the program. `position` is that of the first token of the call.
    pub(super) fn run(&mut self, tokens: &[u32], pass: &Pass, position: usize) -> Result<(), W::Error> {
        self.set_positions(pass, position);
        for step in &self.program.steps {
            self.step(step, tokens, pass, position)?;
        }
        Ok(())
    }

    /// Prepares for the steps of a pass.
    pub(super) fn set_positions(&mut self, pass: &Pass, position: usize) {
        for (offset, at) in self.positions[..pass.tokens.len()].iter_mut().enumerate() {
            *at = (position + pass.tokens.start + offset) as u32;
        }
    }

    /// Runs a step of a pass, unless there is nothing to do for it, and says whether there was. One that fails can be run
    /// again.
    pub(super) fn step(&mut self, step: &Step, tokens: &[u32], pass: &Pass, position: usize) -> Result<bool, W::Error> {
        let rows = self.program.buffers[step.op.out().index()].rows;
        let runs = pass.selected > 0 || rows == Rows::Tokens;
        if runs {
            self.call(&step.op, &tokens[pass.tokens.clone()], pass, position + pass.tokens.start)?;
        }
        Ok(runs)
    }

    /// What a step of this pass, the last that was run, has given.
    pub(super) fn output(&mut self, step: usize, pass: &Pass) -> StepOutput<'_> {
        let out = self.program.steps[step].op.out();
        let range = self.range(out, pass);
        let values = &mut self.arena[range];
        let values = match self.program.buffers[out.index()].elements {
            Elements::Real => StepValues::Real(values),
            Elements::Index { .. } => StepValues::Index(cast_slice_mut(values)),
        };
        StepOutput { step, values }
    }

    /// The logits of the last call that asked for at least `rows` rows.
    pub(super) fn logits(&self, rows: usize) -> &[f32] {
        let start = self.regions.output;
        &self.arena[start..start + rows * self.plan.output_width as usize]
    }

    fn call(&mut self, op: &Op, tokens: &[u32], pass: &Pass, past: usize) -> Result<(), W::Error> {
        let out_range = self.range(op.out(), pass);
        // A plan never lets an output overlap an input, so every input lies wholly before or behind it.
        let input_range = |buffer| self.range(buffer, pass);
        let inputs: [Range<usize>; 3] = {
            let mut ranges = op.inputs().map(input_range);
            std::array::from_fn(|_| ranges.next().unwrap_or(0..0))
        };
        let (before, rest) = self.arena.split_at_mut(out_range.start);
        let (out, behind) = rest.split_at_mut(out_range.len());
        let inputs: [&[f32]; 3] = inputs.map(|range| {
            if range.end <= out_range.start {
                &before[range]
            } else {
                &behind[range.start - out_range.end..range.end - out_range.end]
            }
        });
        let [first, second, third] = inputs;
        let weights = &mut self.weights;
        match *op {
            Op::Embed { table, index, first, .. } => {
                let index = match index {
                    Index::Tokens => tokens,
                    Index::Positions => &self.positions[..tokens.len()],
                };
                weights.embed(table, index, first, out)?;
            }
            Op::MatMul { input, weight, bias, .. } => weights.matmul((first, input), weight, bias, out)?,
            Op::ExpertMatMul { input, choice, weights: ref matrices, ref biases, .. } => {
                let choices = self.plan.place(choice).width as usize;
                weights.expert_matmul((first, input), cast_slice(second), choices, [matrices, biases], out)?;
            }
            Op::Norm { centre, along, width, eps, gain, gain_offset, shift, .. } => {
                let [along, gain, shift] = weights.vectors([along, gain, shift])?;
                let norm = ops::Norm { width: width as usize, eps, centre, along, gain, gain_offset, shift };
                ops::norm(first, &norm, out);
            }
            Op::Centre { along, width, .. } => {
                let [along, ..] = weights.vectors([along, None, None])?;
                ops::centre(first, width as usize, along, out);
            }
            Op::Gain { gain, offset, .. } => ops::gain(first, weights.vector(gain)?, offset, out),
            Op::Shift { shift, .. } => ops::shift(first, weights.vector(shift)?, out),
            Op::Rope { table, head_dim, .. } => {
                let table = rope_table(&self.program.rope_tables[table.index()], self.frequencies.of(table));
                ops::rope(first, &self.positions[..tokens.len()], &table, head_dim as usize, out);
            }
            Op::Rotate { rotation, inverse, .. } => {
                ops::rotate(first, &self.rotations[rotation.index()], inverse, out);
            }
            Op::Attention { cache, heads, scale, window, softcap, sinks, .. } => {
                let cache_shape = &self.program.caches[cache.index()];
                let KeysValues { keys, values } = &mut self.caches[cache.index()];
                let (kv_heads, head_dim) = (cache_shape.heads as usize, cache_shape.head_dim as usize);
                ops::append_cache(second, keys, kv_heads, head_dim, self.capacity, past);
                ops::append_cache(third, values, kv_heads, head_dim, self.capacity, past);
                let shape = AttentionShape { heads: heads as usize, kv_heads, head_dim, scale, window, softcap };
                let [sinks, ..] = weights.vectors([sinks, None, None])?;
                ops::attention(&shape, first, keys, values, sinks, self.capacity, past, out);
            }
            Op::Unary { function, .. } => ops::unary(unary(function), first, out),
            Op::Binary { function, .. } => ops::binary(binary(function), first, second, out),
            Op::Gated { function, .. } => ops::gated(unary(function), first, second, out),
            Op::Affine { factor, offset, .. } => ops::affine(first, factor, offset, out),
            Op::Clamp { low, high, .. } => {
                ops::clamp(first, low.unwrap_or(f32::NEG_INFINITY), high.unwrap_or(f32::INFINITY), out);
            }
            Op::Softcap { cap, .. } => ops::softcap(first, cap, out),
            Op::Softmax { width, .. } => ops::softmax(first, width as usize, out),
            Op::NormalizeSum { width, .. } => ops::normalize_sum(first, width as usize, out),
            Op::TopK { x, k, .. } => {
                ops::top_k(first, self.plan.place(x).width as usize, k as usize, cast_slice_mut(out));
            }
            Op::Gather { x, choice, .. } => {
                let [width, choices] = [x, choice].map(|buffer| self.plan.place(buffer).width as usize);
                ops::gather(first, width, cast_slice(second), choices, out);
            }
            Op::Combine { weights, .. } => {
                ops::combine(first, second, self.plan.place(weights).width as usize, out);
            }
            Op::Select { .. } => out.copy_from_slice(&first[first.len() - out.len()..]),
        }
        Ok(())
    }

    /// The elements of the arena that a buffer takes in a pass.
    fn range(&self, buffer: BufferId, pass: &Pass) -> Range<usize> {
        let place = self.plan.place(buffer);
        let (offset, width) = (place.offset as usize, place.width as usize);
        let (start, rows) = match place.region {
            Region::Tokens => (offset * pass.tokens.len(), pass.tokens.len()),
            Region::Selected => (self.regions.selected + offset * pass.selected, pass.selected),
            Region::Output => (self.regions.output + pass.first_row * width, pass.selected),
        };
        start..start + rows * width
    }
}

const CACHES: &str = "key/value caches";

impl Regions {
    fn new(plan: &MemoryPlan, limits: &Limits) -> Result<Regions, ExecError> {
        let elements = |width: u64, rows: usize| usize::try_from(width).ok()?.checked_mul(rows);
        let ends = || {
            let selected = elements(plan.tokens_width, limits.max_step_tokens)?;
            let selected_rows = limits.max_logits.min(limits.max_step_tokens);
            let output = selected.checked_add(elements(plan.selected_width, selected_rows)?)?;
            let end = output.checked_add(elements(plan.output_width, limits.max_logits)?)?;
            Some(Regions { selected, output, end })
        };
        ends().ok_or(ExecError::Memory { what: "activations", bytes: u64::MAX })
    }
}

/// Counts what is allocated.
#[derive(Default)]
pub(super) struct Allocator {
    pub(super) bytes: u64,
}

impl Allocator {
    /// Zeros that take memory only once they are written, where the system can.
    pub(super) fn zeros<T: Zeroable>(&mut self, what: &'static str, length: usize) -> Result<Vec<T>, ExecError> {
        let bytes = (length as u64).saturating_mul(size_of::<T>() as u64);
        let values = try_zeroed_vec(length).map_err(|()| ExecError::Memory { what, bytes })?;
        self.bytes += bytes;
        Ok(values)
    }
}

fn rope_table<'t>(table: &RopeTable, inverse_frequencies: &'t [f32]) -> ops::RopeTable<'t> {
    ops::RopeTable { inverse_frequencies, amplitude: table.amplitude, pairing: pairing(table.pairing) }
}
