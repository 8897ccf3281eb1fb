//! The processor: kernels on a pool of threads.

mod steps;

use std::ops::Range;
use std::sync::Arc;

use bytemuck::allocation::try_zeroed_vec;
use bytemuck::{Zeroable, cast_slice, cast_slice_mut};
use lathe_kernels::cpu::Isa;
use lathe_kernels::formats::Matrix;
use lathe_kernels::ops::{self, AttentionShape, Pairing};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{Backend, DeviceError, DeviceInfo, Session, Steps};
use crate::exec::{ExecError, Limits, Logits, Pass, SessionOptions, passes};
use crate::frequencies::{Frequencies, Text, can_switch};
use crate::memory::{MemoryPlan, Region};
use crate::program::{
    Binary, BufferId, Index, Op, Program, RopePairing, RopeTable, Rows, Step, Unary, Weight, WeightId, verify,
};

/// The processor.
#[derive(Debug)]
pub struct CpuBackend {
    pool: Arc<ThreadPool>,
    isa: Isa,
}

impl CpuBackend {
    /// Starts `threads` threads.
    pub fn new(threads: usize) -> Result<CpuBackend, DeviceError> {
        let isa = super::processor_isa()?;
        if threads == 0 {
            return Err(DeviceError::NoThreads);
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("lathe-{index}"))
            .build()
            .map_err(|source| DeviceError::Threads { threads, source })?;
        Ok(CpuBackend { pool: Arc::new(pool), isa })
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { name: "cpu".to_owned(), isa: self.isa.name().to_owned(), threads: self.pool.current_num_threads() }
    }

    fn session<'a>(
        &self,
        program: &'a Program,
        weights: &[Matrix<'a>],
        options: &SessionOptions,
    ) -> Result<Box<dyn Session + 'a>, ExecError> {
        verify(program)?;
        check_weights(program, weights)?;
        check_supported(program)?;
        let limits = Limits::new(program, options)?;
        let mut memory = Allocator { bytes: 0 };
        let machine = Machine::new(program, weights, &limits, &mut memory)?;
        let text = can_switch(program).then(|| memory.zeros("tokens", limits.capacity)).transpose()?.map(Text::new);
        let (pool, memory_bytes) = (Arc::clone(&self.pool), memory.bytes);
        Ok(Box::new(CpuSession { pool, machine, text, limits, position: 0, memory_bytes }))
    }

    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        self.pool.install(work);
    }
}

fn check_weights(program: &Program, weights: &[Matrix<'_>]) -> Result<(), ExecError> {
    if weights.len() != program.weights.len() {
        return Err(ExecError::WeightCount { found: weights.len(), expected: program.weights.len() });
    }
    for (weight, matrix) in program.weights.iter().zip(weights) {
        let (format, shape) = (&weight.format, weight.matrix_shape());
        if weight.find_format() != Some(matrix.format())
            || shape.is_none_or(|s| (s.rows, s.cols) != (matrix.rows(), matrix.cols()))
        {
            let expected = format!("{format} {:?}", weight.shape);
            return Err(ExecError::Weight { weight: weight.name.clone(), found: format!("{matrix:?}"), expected });
        }
    }
    Ok(())
}

fn check_supported(program: &Program) -> Result<(), ExecError> {
    let along = |step: &Step| match step.op {
        Op::Norm { along, .. } | Op::Centre { along, .. } => along.is_some(),
        _ => false,
    };
    if !program.rotations.is_empty() {
        return Err(ExecError::Unsupported { what: "has rotations" });
    }
    if program.steps.iter().any(along) {
        return Err(ExecError::Unsupported { what: "centres along a vector" });
    }
    Ok(())
}

struct CpuSession<'a> {
    pool: Arc<ThreadPool>,
    machine: Machine<'a>,
    /// Where it may have to be read again.
    text: Option<Text>,
    limits: Limits,
    position: usize,
    memory_bytes: u64,
}

impl CpuSession<'_> {
    /// Prepares for reading `tokens` next: rotary frequencies become those of the longer text, and what was read before is
    /// read again where they switch. Gives the rows of logits that are asked for.
    fn begin(&mut self, tokens: &[u32], logits: Logits) -> Result<usize, ExecError> {
        let rows = self.limits.check(tokens, logits, self.position)?;
        let (machine, position) = (&mut self.machine, self.position);
        let length = (position + tokens.len()).max(self.limits.min_positions);
        machine.frequencies.set_length(length);
        let again = self.text.as_mut().map_or(&[][..], |text| text.append(machine.program, position, tokens, length));
        if !again.is_empty() {
            self.pool.install(|| {
                for pass in passes(again.len(), 0, self.limits.max_step_tokens) {
                    machine.run(again, &pass, 0);
                }
            });
        }
        Ok(rows)
    }
}

impl Session for CpuSession<'_> {
    fn forward(&mut self, tokens: &[u32], logits: Logits) -> Result<&[f32], ExecError> {
        let (rows, position, max_step_tokens) =
            (self.begin(tokens, logits)?, self.position, self.limits.max_step_tokens);
        let machine = &mut self.machine;
        self.pool.install(|| {
            for pass in passes(tokens.len(), rows, max_step_tokens) {
                machine.run(tokens, &pass, position);
            }
        });
        self.position += tokens.len();
        Ok(self.machine.logits(rows))
    }

    fn steps<'s>(&'s mut self, tokens: &'s [u32], logits: Logits) -> Result<Box<dyn Steps + 's>, ExecError> {
        let rows = self.begin(tokens, logits)?;
        Ok(Box::new(steps::CpuSteps::new(self, tokens, rows)))
    }

    fn position(&self) -> usize {
        self.position
    }

    fn truncate(&mut self, positions: usize) {
        self.position = self.position.min(positions);
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

/// Everything that a pass reads and writes.
struct Machine<'a> {
    program: &'a Program,
    plan: MemoryPlan,
    weights: Vec<WeightValues<'a>>,
    caches: Vec<KeysValues>,
    capacity: usize,
    /// The regions, one after the other; indices lie in it by their bits.
    arena: Vec<f32>,
    /// First element of each region.
    regions: Regions,
    /// Positions of the tokens of a pass.
    positions: Vec<u32>,
    frequencies: Frequencies<'a>,
}

/// A weight as the kernels take it.
enum WeightValues<'a> {
    /// `[out, in]`, packed.
    Matrix(Matrix<'a>),
    /// `[n]`, decoded.
    Vector(Vec<f32>),
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

impl<'a> Machine<'a> {
    /// Allocates all memory that passes of a valid program need. The weights are those of the program.
    fn new(
        program: &'a Program,
        weights: &[Matrix<'a>],
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
        let mut values = Vec::with_capacity(weights.len());
        for (Weight { shape, .. }, matrix) in program.weights.iter().zip(weights) {
            values.push(if shape.len() == 1 {
                let mut vector = memory.zeros("decoded vectors", matrix.cols())?;
                matrix.decode_row(0, &mut vector);
                WeightValues::Vector(vector)
            } else {
                WeightValues::Matrix(*matrix)
            });
        }
        let (capacity, frequencies) = (limits.capacity, Frequencies::new(program));
        Ok(Machine { program, plan, weights: values, caches, capacity, arena, regions, positions, frequencies })
    }

    /// Sends the tokens of a pass through the program. `position` is that of the first token of the call.
    fn run(&mut self, tokens: &[u32], pass: &Pass, position: usize) {
        self.set_positions(pass, position);
        for step in &self.program.steps {
            self.step(step, tokens, pass, position);
        }
    }

    /// Prepares for the steps of a pass.
    fn set_positions(&mut self, pass: &Pass, position: usize) {
        for (offset, at) in self.positions[..pass.tokens.len()].iter_mut().enumerate() {
            *at = (position + pass.tokens.start + offset) as u32;
        }
    }

    /// Runs a step of a pass, unless there is nothing to do for it, and says whether there was.
    fn step(&mut self, step: &Step, tokens: &[u32], pass: &Pass, position: usize) -> bool {
        let rows = self.program.buffers[step.op.out().index()].rows;
        let runs = pass.selected > 0 || rows == Rows::Tokens;
        if runs {
            self.call(&step.op, &tokens[pass.tokens.clone()], pass, position + pass.tokens.start);
        }
        runs
    }

    /// The logits of the last call that asked for at least `rows` rows.
    fn logits(&self, rows: usize) -> &[f32] {
        let start = self.regions.output;
        &self.arena[start..start + rows * self.plan.output_width as usize]
    }

    fn call(&mut self, op: &Op, tokens: &[u32], pass: &Pass, past: usize) {
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
        let weights = Weights(&self.weights);
        match *op {
            Op::Embed { table, index, first, .. } => {
                let index = match index {
                    Index::Tokens => tokens,
                    Index::Positions => &self.positions[..tokens.len()],
                };
                ops::embed(weights.matrix(table), index, first, out);
            }
            Op::MatMul { weight, bias, .. } => {
                ops::matmul(first, weights.matrix(weight), weights.optional_vector(bias), out);
            }
            Op::ExpertMatMul { choice, weights: ref matrices, ref biases, .. } => {
                let expert = |expert: usize| {
                    (weights.matrix(matrices[expert]), weights.optional_vector(biases.get(expert).copied()))
                };
                let choices = self.plan.place(choice).width as usize;
                ops::expert_matmul(first, cast_slice(second), choices, expert, matrices.len(), out);
            }
            Op::Norm { centre, along, width, eps, gain, gain_offset, shift, .. } => {
                let (gain, shift) = (weights.optional_vector(gain), weights.optional_vector(shift));
                let along = weights.optional_vector(along);
                let norm = ops::Norm { width: width as usize, eps, centre, along, gain, gain_offset, shift };
                ops::norm(first, &norm, out);
            }
            Op::Centre { width, along, .. } => {
                ops::centre(first, width as usize, weights.optional_vector(along), out);
            }
            Op::Gain { gain, offset, .. } => ops::gain(first, weights.vector(gain), offset, out),
            Op::Shift { shift, .. } => ops::shift(first, weights.vector(shift), out),
            Op::Rope { table, head_dim, .. } => {
                let table = rope_table(&self.program.rope_tables[table.index()], self.frequencies.of(table));
                ops::rope(first, &self.positions[..tokens.len()], &table, head_dim as usize, out);
            }
            Op::Rotate { .. } => unreachable!("no session is made for a program with rotations"),
            Op::Attention { cache, heads, scale, window, softcap, sinks, .. } => {
                let cache_shape = &self.program.caches[cache.index()];
                let KeysValues { keys, values } = &mut self.caches[cache.index()];
                let (kv_heads, head_dim) = (cache_shape.heads as usize, cache_shape.head_dim as usize);
                ops::append_cache(second, keys, kv_heads, head_dim, self.capacity, past);
                ops::append_cache(third, values, kv_heads, head_dim, self.capacity, past);
                let shape = AttentionShape { heads: heads as usize, kv_heads, head_dim, scale, window, softcap };
                let sinks = weights.optional_vector(sinks);
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
struct Allocator {
    bytes: u64,
}

impl Allocator {
    /// Zeros that take memory only once they are written, where the system can.
    fn zeros<T: Zeroable>(&mut self, what: &'static str, length: usize) -> Result<Vec<T>, ExecError> {
        let bytes = (length as u64).saturating_mul(size_of::<T>() as u64);
        let values = try_zeroed_vec(length).map_err(|()| ExecError::Memory { what, bytes })?;
        self.bytes += bytes;
        Ok(values)
    }
}

/// Weights by what a verified program uses them for: matrices have rank 2, vectors rank 1.
#[derive(Clone, Copy)]
struct Weights<'m, 'a>(&'m [WeightValues<'a>]);

impl<'m, 'a> Weights<'m, 'a> {
    fn matrix(self, weight: WeightId) -> &'m Matrix<'a> {
        match &self.0[weight.index()] {
            WeightValues::Matrix(matrix) => matrix,
            WeightValues::Vector(_) => unreachable!("invariant 8: matrices have rank 2"),
        }
    }

    fn vector(self, weight: WeightId) -> &'m [f32] {
        match &self.0[weight.index()] {
            WeightValues::Vector(vector) => vector,
            WeightValues::Matrix(_) => unreachable!("invariant 8: vectors have rank 1"),
        }
    }

    fn optional_vector(self, weight: Option<WeightId>) -> Option<&'m [f32]> {
        weight.map(|weight| self.vector(weight))
    }
}

fn rope_table<'t>(table: &RopeTable, inverse_frequencies: &'t [f32]) -> ops::RopeTable<'t> {
    let pairing = match table.pairing {
        RopePairing::Half => Pairing::Half,
        RopePairing::Interleaved => Pairing::Interleaved,
    };
    ops::RopeTable { inverse_frequencies, amplitude: table.amplitude, pairing }
}

fn unary(function: Unary) -> ops::Unary {
    match function {
        Unary::Silu => ops::Unary::Silu,
        Unary::Gelu => ops::Unary::Gelu,
        Unary::GeluTanh => ops::Unary::GeluTanh,
        Unary::GeluQuick => ops::Unary::GeluQuick,
        Unary::Relu => ops::Unary::Relu,
        Unary::ReluSquared => ops::Unary::ReluSquared,
        Unary::Sigmoid => ops::Unary::Sigmoid,
        Unary::Tanh => ops::Unary::Tanh,
    }
}

fn binary(function: Binary) -> ops::Binary {
    match function {
        Binary::Add => ops::Binary::Add,
        Binary::Sub => ops::Binary::Sub,
        Binary::Mul => ops::Binary::Mul,
    }
}
