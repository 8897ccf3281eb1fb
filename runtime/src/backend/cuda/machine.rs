//! Everything that a pass reads and writes on a device, and what launches a schedule.

use lathe_kernels::cuda::ops::{
    Angles, AttentionStep, DeviceCache, ExpertProduct, Finish, HeadPart, HeadTarget, NormParameters, Outputs, Product,
    ProductInput, ProductPart, RowStep,
};
use lathe_kernels::cuda::{CudaError, Gpu, Memory, Slice};
use lathe_kernels::ops::AttentionShape;

use super::plan::{Arrangement, caches_bf16};
use super::resident::Resident;
use super::schedule::{self, Call, Form, Forms, Head, HeadTo, Key, Launch, Norm, Operand, Part};
use crate::backend::kernels::{binary, pairing, unary};
use crate::exec::{ExecError, Limits, Pass};
use crate::frequencies::Frequencies;
use crate::memory::Region;
use crate::program::{BufferId, Index, Op, Program, RopeId, Rows};

/// Everything that a pass reads and writes, but for what a schedule places.
pub(super) struct Machine<'a> {
    pub(super) program: &'a Program,
    pub(super) resident: Resident,
    caches: Vec<DeviceCache>,
    /// See [`Control`].
    control: Memory,
    /// Tokens of a pass of several, then their positions: u32 `[2, max_step_tokens]`.
    tokens: Memory,
    max_step_tokens: usize,
    /// f32 `[max_logits, vocabulary]`
    logits: Memory,
    /// Zeros at first, and used by attention only.
    attention_scratch: Memory,
    /// By rope table: what is in device memory, and a copy of it.
    frequencies: Vec<(Memory, Vec<f32>)>,
    pub(super) in_effect: Frequencies<'a>,
}

/// What changes from one replay of a recorded step to the next, as it lies in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Control {
    /// Position of the first token of the pass.
    pub(super) position: u32,
    /// The token of a pass of one.
    pub(super) token: u32,
    /// Bits of the random number of a choice.
    pub(super) uniform: u64,
}

impl Control {
    const WORDS: usize = 4;

    fn words(self) -> [u32; Control::WORDS] {
        [self.position, self.token, self.uniform as u32, (self.uniform >> 32) as u32]
    }
}

/// A schedule with memory for its values.
pub(super) struct Stage {
    pub(super) arrangement: Arrangement,
    arena: Memory,
    scratch: Memory,
}

impl Stage {
    /// Allocates, for passes of at most as many tokens as the arrangement is for.
    pub(super) fn new(gpu: &Gpu, machine: &Machine<'_>, arrangement: Arrangement) -> Result<Stage, ExecError> {
        let arena = gpu.allocate("activations", arrangement.arena_bytes())?;
        let scratch = gpu.allocate("scratch", machine.scratch(gpu, &arrangement) as u64)?;
        Ok(Stage { arrangement, arena, scratch })
    }

    /// Bytes of device memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        (self.arena.bytes() + self.scratch.bytes()) as u64
    }
}

impl<'a> Machine<'a> {
    /// Allocates all that passes of a valid program need, besides its stages.
    pub(super) fn new(
        gpu: &Gpu,
        program: &'a Program,
        resident: Resident,
        limits: &Limits,
    ) -> Result<Machine<'a>, ExecError> {
        let is_bf16 = caches_bf16(program);
        let cache = |cache: &crate::program::Cache| {
            let (heads, head_dim) = (cache.heads as usize, cache.head_dim as usize);
            DeviceCache::new(gpu, heads, head_dim, limits.capacity, is_bf16)
        };
        let caches = program.caches.iter().map(cache).collect::<Result<_, _>>()?;
        let in_effect = Frequencies::new(program);
        let table = |table: &crate::program::RopeTable| {
            let values = table.inverse_frequencies.clone();
            Ok((gpu.upload("rotary frequencies", &values)?, values))
        };
        let frequencies = program.rope_tables.iter().map(table).collect::<Result<_, CudaError>>()?;
        let bytes = |elements: usize| 4 * elements as u64;
        let logits = limits.max_logits.saturating_mul(program.vocabulary());
        let shapes = program.steps.iter().filter_map(|step| attention_shape(program, &step.op));
        let scratch = shapes.map(|shape| gpu.attention_scratch(&shape, limits.capacity, limits.max_step_tokens));
        let attention_scratch = gpu.allocate("attention", bytes(scratch.max().unwrap_or(0)))?;
        gpu.fill(attention_scratch.slice::<u8>(), 0)?;
        Ok(Machine {
            program,
            resident,
            caches,
            control: gpu.allocate("control", bytes(Control::WORDS))?,
            tokens: gpu.allocate("tokens", bytes(2 * limits.max_step_tokens))?,
            max_step_tokens: limits.max_step_tokens,
            logits: gpu.allocate("logits", bytes(logits))?,
            attention_scratch,
            frequencies,
            in_effect,
        })
    }

    /// Bytes of device memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        let caches = self.caches.iter().map(DeviceCache::memory_bytes).sum::<u64>();
        let frequencies = self.frequencies.iter().map(|(memory, _)| memory.bytes() as u64).sum::<u64>();
        let small =
            [&self.control, &self.tokens, &self.logits, &self.attention_scratch].map(|memory| memory.bytes() as u64);
        self.resident.memory_bytes() + caches + frequencies + small.iter().sum::<u64>()
    }

    /// Copies the frequencies that have changed to the device.
    pub(super) fn write_frequencies(&mut self, gpu: &Gpu) -> Result<(), CudaError> {
        for (index, (memory, held)) in self.frequencies.iter_mut().enumerate() {
            let wanted = self.in_effect.of(RopeId(index as u32));
            if wanted != held.as_slice() {
                held.copy_from_slice(wanted);
                gpu.write(memory.slice(), held)?;
            }
        }
        Ok(())
    }

    /// Copies the tokens of a pass to the device, the first of them at `position`.
    pub(super) fn write_tokens(&self, gpu: &Gpu, tokens: &[u32], position: usize) -> Result<(), CudaError> {
        self.write_control(gpu, Control { position: position as u32, token: tokens[0], uniform: 0 })?;
        if tokens.len() > 1 {
            gpu.write(self.token_list(0, tokens.len()), tokens)?;
            if self.program.steps.iter().any(|step| matches!(step.op, Op::Embed { index: Index::Positions, .. })) {
                let positions: Vec<u32> = (position as u32..).take(tokens.len()).collect();
                gpu.write(self.token_list(1, tokens.len()), &positions)?;
            }
        }
        Ok(())
    }

    pub(super) fn write_control(&self, gpu: &Gpu, control: Control) -> Result<(), CudaError> {
        gpu.write(self.control.slice(), &control.words())
    }

    fn token_list(&self, list: usize, count: usize) -> Slice<u32> {
        let start = list * self.max_step_tokens;
        self.tokens.slice().range(start..start + count)
    }

    /// `[1]`: the position of the first token of a pass.
    pub(super) fn position(&self) -> Slice<u32> {
        self.control.slice().range(0..1)
    }

    /// `[1]`: the token of a pass of one, which a choice overwrites.
    pub(super) fn token(&self) -> Slice<u32> {
        self.control.slice().range(1..2)
    }

    /// `[1]`: the bits of the random number of a choice.
    pub(super) fn uniform(&self) -> Slice<u64> {
        self.control.slice::<u32>().range(2..4).cast()
    }

    /// Rows of logits of the last call that asked for so many.
    pub(super) fn logits(&self, rows: std::ops::Range<usize>) -> Slice<f32> {
        let vocabulary = self.program.vocabulary();
        self.logits.slice().range(rows.start * vocabulary..rows.end * vocabulary)
    }

    /// Launches all of a schedule, of whose pass tokens and frequencies are on the device.
    pub(super) fn run(&self, gpu: &Gpu, stage: &Stage, pass: &Pass) -> Result<(), CudaError> {
        self.run_range(gpu, stage, pass, 0..stage.arrangement.schedule.launches.len())
    }

    /// Launches a part of a schedule.
    pub(super) fn run_range(
        &self,
        gpu: &Gpu,
        stage: &Stage,
        pass: &Pass,
        launches: std::ops::Range<usize>,
    ) -> Result<(), CudaError> {
        let launcher = Launcher { machine: self, gpu, stage, tokens: pass.tokens.len(), pass };
        stage.arrangement.schedule.launches[launches].iter().try_for_each(|launch| launcher.launch(launch))
    }

    /// The elements that a step has written in f32, or as indices.
    pub(super) fn output(&self, gpu: &Gpu, stage: &Stage, pass: &Pass, buffer: BufferId) -> Slice<f32> {
        Launcher { machine: self, gpu, stage, tokens: pass.tokens.len(), pass }.real(buffer)
    }

    /// Bytes of scratch that the launches of a schedule need.
    fn scratch(&self, gpu: &Gpu, arrangement: &Arrangement) -> usize {
        let rows = arrangement.rows;
        let bytes = |launch: &Launch| match &launch.call {
            Call::Product { parts, .. } => {
                let part = |part: &Part| gpu.product_scratch(self.resident.matrix(part.weight), rows);
                parts.iter().map(part).sum()
            }
            Call::Experts { step, .. } => {
                let choices = self.program.steps[*step].op.inputs().nth(1);
                let k = choices.map_or(0, |choice| self.width(choice));
                gpu.expert_scratch(self.resident.experts(*step), rows, k)
            }
            Call::Angles(_)
            | Call::Embed { .. }
            | Call::Rows { .. }
            | Call::Round { .. }
            | Call::Heads { .. }
            | Call::Attention { .. }
            | Call::Step { .. } => 0,
        };
        arrangement.schedule.launches.iter().map(bytes).max().unwrap_or(0)
    }

    fn width(&self, buffer: BufferId) -> usize {
        self.program.buffers[buffer.index()].width as usize
    }

    fn norm(&self, norm: &Norm) -> NormParameters {
        let resident = &self.resident;
        NormParameters {
            width: norm.width as usize,
            eps: norm.eps,
            centre: norm.centre,
            along: resident.optional(norm.along),
            gain: resident.optional(norm.gain),
            gain_offset: norm.gain_offset,
            shift: resident.optional(norm.shift),
        }
    }
}

fn attention_shape(program: &Program, op: &Op) -> Option<AttentionShape> {
    let Op::Attention { cache, heads, scale, window, softcap, .. } = *op else { return None };
    let cache = &program.caches[cache.index()];
    let (kv_heads, head_dim) = (cache.heads as usize, cache.head_dim as usize);
    Some(AttentionShape { heads: heads as usize, kv_heads, head_dim, scale, window, softcap })
}

/// Launches for one pass.
struct Launcher<'l, 'a> {
    machine: &'l Machine<'a>,
    gpu: &'l Gpu,
    stage: &'l Stage,
    tokens: usize,
    pass: &'l Pass,
}

impl<'l> Launcher<'l, '_> {
    /// Launches, unless it is for selected rows and there are none.
    fn launch(&self, launch: &Launch) -> Result<(), CudaError> {
        let (machine, gpu) = (self.machine, self.gpu);
        let program = machine.program;
        let written = launch.writes(program);
        if written.first().is_some_and(|&(buffer, _)| self.rows(buffer) == 0) {
            return Ok(());
        }
        match &launch.call {
            Call::Angles(rope) => {
                let (memory, values) = &machine.frequencies[rope.index()];
                let amplitude = program.rope_tables[rope.index()].amplitude;
                let frequencies = memory.slice().range(0..values.len());
                gpu.angles(frequencies, amplitude, machine.position(), self.angles(*rope).table)
            }
            &Call::Embed { table, index, first, out } => {
                let index = match (index, self.tokens) {
                    (Index::Tokens, 1) => machine.token(),
                    (Index::Positions, 1) => machine.position(),
                    (Index::Tokens, count) => machine.token_list(0, count),
                    (Index::Positions, count) => machine.token_list(1, count),
                };
                gpu.embed(machine.resident.matrix(table), index, first, self.real(out))
            }
            &Call::Rows { x, add, sum, norm, turn, out, forms } => gpu.row_step(&RowStep {
                x: self.real(x),
                add: add.map_or(Slice::NONE, |add| self.real(add)),
                sum: sum.map_or(Slice::NONE, |sum| self.real(sum)),
                width: machine.width(x),
                norm: norm.as_ref().map(|norm| machine.norm(norm)),
                rotation: turn.map(|(rotation, inverse)| (machine.resident.rotation(rotation), inverse)),
                out: self.outputs(out, forms),
            }),
            &Call::Round { x, form } => self.round(x, form),
            Call::Product { x, norm, parts, finish } => self.product(x, norm.as_ref(), parts, *finish),
            Call::Experts { x, step } => self.experts(x, *step),
            Call::Heads { heads, head_dim } => {
                let parts: Vec<HeadPart<'_>> = heads.iter().map(|head| self.head(head, *head_dim)).collect();
                gpu.heads(&parts, self.tokens, *head_dim as usize, machine.position())
            }
            &Call::Attention { step, forms } => {
                let op = &program.steps[step].op;
                let (&Op::Attention { q, cache, sinks, out, .. }, Some(shape)) = (op, attention_shape(program, op))
                else {
                    unreachable!("attention is called for attention");
                };
                gpu.attention(&AttentionStep {
                    shape,
                    q: self.real(q),
                    cache: &machine.caches[cache.index()],
                    sinks: machine.resident.optional(sinks),
                    tokens: self.tokens,
                    position: machine.position(),
                    scratch: machine.attention_scratch.slice(),
                    out: self.outputs(out, forms),
                })
            }
            &Call::Step { step, forms } => self.step(step, forms),
        }
    }

    fn rows(&self, buffer: BufferId) -> usize {
        match self.machine.program.buffers[buffer.index()].rows {
            Rows::Tokens => self.tokens,
            Rows::Selected => self.pass.selected,
        }
    }

    /// All elements of a value of the arena, `bytes` each.
    fn place(&self, key: Key) -> (usize, usize) {
        let place = self.stage.arrangement.places.of(key);
        let (offset, width) = (place.offset as usize, place.width as usize);
        let (start, rows) = match place.region {
            Region::Tokens => (0, self.tokens),
            Region::Selected | Region::Output => (self.stage.arrangement.selected_start(), self.pass.selected),
        };
        (start + offset * rows, width * rows)
    }

    /// A buffer in a form whose elements are T.
    fn value<T: lathe_kernels::cuda::Element>(&self, buffer: BufferId, form: Form) -> Slice<T> {
        let (source, is_view) = self.stage.arrangement.schedule.source(buffer);
        let width = self.machine.width(source);
        let (start, _) = self.place(Key::Value(source, form));
        let all = self.stage.arena.part(start, self.rows(source) * width);
        if is_view { all.range(all.len() - self.rows(buffer) * width..all.len()) } else { all }
    }

    /// A buffer as the program says, indices by their bits.
    fn real(&self, buffer: BufferId) -> Slice<f32> {
        if buffer == self.machine.program.output {
            let first = self.pass.first_row;
            return self.machine.logits(first..first + self.pass.selected);
        }
        self.value(buffer, Form::Real)
    }

    fn scales(&self, buffer: BufferId, parts: u32) -> Slice<f32> {
        let (source, is_view) = self.stage.arrangement.schedule.source(buffer);
        let (start, _) = self.place(Key::Scales(source, parts));
        let all = self.stage.arena.part(start, self.rows(source) * parts as usize);
        if is_view { all.range(all.len() - self.rows(buffer) * parts as usize..all.len()) } else { all }
    }

    fn outputs(&self, buffer: BufferId, forms: Forms) -> Outputs {
        let int8 = Form::Int8 { parts: 1 };
        Outputs {
            real: if forms.real { self.real(buffer) } else { Slice::NONE },
            bf16: if forms.bf16 { self.value(buffer, Form::Bf16) } else { Slice::NONE },
            int8: if forms.int8 { self.value(buffer, int8) } else { Slice::NONE },
            scales: if forms.int8 { self.scales(buffer, 1) } else { Slice::NONE },
        }
    }

    fn scratch(&self) -> Slice<u8> {
        self.stage.scratch.slice()
    }

    fn angles(&self, rope: RopeId) -> Angles {
        let table = &self.machine.program.rope_tables[rope.index()];
        let pairs = table.inverse_frequencies.len();
        let (start, _) = self.place(Key::Angles(rope));
        Angles { table: self.stage.arena.part(start, self.tokens * 2 * pairs), pairs, pairing: pairing(table.pairing) }
    }

    fn round(&self, x: BufferId, form: Form) -> Result<(), CudaError> {
        let (parts, out) = match form {
            Form::Real => unreachable!("what is real is not rounded"),
            Form::Bf16 => (1, Outputs { bf16: self.value(x, form), ..Outputs::NONE }),
            Form::Int8 { parts } => {
                (parts, Outputs { int8: self.value(x, form), scales: self.scales(x, parts), ..Outputs::NONE })
            }
        };
        let width = self.machine.width(x) / parts as usize;
        let (add, sum) = (Slice::NONE, Slice::NONE);
        self.gpu.row_step(&RowStep { x: self.real(x), add, sum, width, norm: None, rotation: None, out })
    }

    fn input(&self, &Operand { x, form, within }: &Operand, norm: Option<&Norm>) -> ProductInput {
        let norm = norm.map(|norm| self.machine.norm(norm));
        match (form, norm) {
            (Form::Real, _) => ProductInput::Real(self.real(x)),
            (Form::Bf16, Some(norm)) => ProductInput::NormalizedBf16(self.real(x), norm),
            (Form::Bf16, None) => ProductInput::Bf16(self.value(x, form)),
            (Form::Int8 { .. }, Some(norm)) => ProductInput::NormalizedInt8(self.real(x), norm),
            (Form::Int8 { .. }, None) if within => ProductInput::Quantized(self.real(x)),
            (Form::Int8 { parts }, None) => {
                ProductInput::Int8 { codes: self.value(x, form), scales: self.scales(x, parts) }
            }
        }
    }

    fn product(
        &self,
        x: &Operand,
        norm: Option<&Norm>,
        parts: &[Part],
        finish: schedule::Finish,
    ) -> Result<(), CudaError> {
        let resident = &self.machine.resident;
        let part = |part: &Part| ProductPart {
            weight: resident.matrix(part.weight),
            bias: resident.optional(part.bias),
            out: part.out.map_or(Slice::NONE, |out| self.real(out)),
        };
        let finish = match finish {
            schedule::Finish::Store => Finish::Store,
            schedule::Finish::Add(other) => Finish::Add(self.real(other)),
            schedule::Finish::Gated(function, out, forms) => Finish::Gated(unary(function), self.outputs(out, forms)),
        };
        let parts: Vec<ProductPart<'_>> = parts.iter().map(part).collect();
        let (input, rows) = (self.input(x, norm), self.rows(x.x));
        self.gpu.product(&Product { x: input, rows, parts: &parts, finish, scratch: self.scratch() })
    }

    fn experts(&self, x: &Operand, step: usize) -> Result<(), CudaError> {
        let Op::ExpertMatMul { choice, out, .. } = self.machine.program.steps[step].op else {
            unreachable!("experts are called for products of experts");
        };
        self.gpu.expert_product(&ExpertProduct {
            x: self.input(x, None),
            choice: self.real(choice).cast(),
            rows: self.rows(choice),
            k: self.machine.width(choice),
            experts: self.machine.resident.experts(step),
            out: self.real(out),
            scratch: self.scratch(),
        })
    }

    fn head(&self, head: &Head, head_dim: u32) -> HeadPart<'l> {
        let machine = self.machine;
        HeadPart {
            x: self.real(head.x),
            heads: machine.width(head.x) / head_dim as usize,
            norm: head.norm.as_ref().map(|norm| machine.norm(norm)),
            angles: head.rope.map(|rope| self.angles(rope)),
            rotation: head.turn.map(|(rotation, inverse)| (machine.resident.rotation(rotation), inverse)),
            to: match head.to {
                HeadTo::Buffer(out) => HeadTarget::Buffer(self.real(out)),
                HeadTo::Keys(cache) => HeadTarget::Keys(&machine.caches[cache.index()]),
                HeadTo::Values(cache) => HeadTarget::Values(&machine.caches[cache.index()]),
            },
        }
    }

    /// A step as the program says it.
    fn step(&self, step: usize, forms: Forms) -> Result<(), CudaError> {
        let (machine, gpu) = (self.machine, self.gpu);
        let op = &machine.program.steps[step].op;
        let out = || self.real(op.out());
        match *op {
            Op::Centre { x, along, width, .. } => {
                gpu.centre(self.real(x), width as usize, machine.resident.optional(along), out())
            }
            Op::Gain { x, gain, offset, .. } => gpu.gain(self.real(x), machine.resident.vector(gain), offset, out()),
            Op::Shift { x, shift, .. } => gpu.shift(self.real(x), machine.resident.vector(shift), out()),
            Op::Rotate { x, rotation, inverse, .. } => {
                gpu.rotate(self.real(x), machine.resident.rotation(rotation), inverse, out())
            }
            Op::Unary { function, x, out } => gpu.unary(unary(function), self.real(x), &self.outputs(out, forms)),
            Op::Binary { function, a, b, .. } => gpu.binary(binary(function), self.real(a), self.real(b), out()),
            Op::Gated { function, gate, value, out } => {
                gpu.gated(unary(function), self.real(gate), self.real(value), &self.outputs(out, forms))
            }
            Op::Affine { x, factor, offset, .. } => gpu.affine(self.real(x), factor, offset, out()),
            Op::Clamp { x, low, high, .. } => {
                let (low, high) = (low.unwrap_or(f32::NEG_INFINITY), high.unwrap_or(f32::INFINITY));
                gpu.clamp(self.real(x), low, high, out())
            }
            Op::Softcap { x, cap, .. } => gpu.softcap(self.real(x), cap, out()),
            Op::Softmax { x, width, .. } => gpu.softmax(self.real(x), width as usize, out()),
            Op::NormalizeSum { x, width, .. } => gpu.normalize_sum(self.real(x), width as usize, out()),
            Op::TopK { x, k, .. } => gpu.top_k(self.real(x), machine.width(x), k as usize, out().cast()),
            Op::Gather { x, choice, .. } => {
                let (width, k) = (machine.width(x), machine.width(choice));
                gpu.gather(self.real(x), width, self.real(choice).cast(), k, out())
            }
            Op::Combine { x, weights, .. } => {
                gpu.combine(self.real(x), self.real(weights), machine.width(weights), out())
            }
            Op::Select { x, .. } => {
                let (from, to) = (self.real(x), out());
                gpu.copy(from.range(from.len() - to.len()..from.len()), to)
            }
            Op::Embed { .. }
            | Op::MatMul { .. }
            | Op::ExpertMatMul { .. }
            | Op::Norm { .. }
            | Op::Rope { .. }
            | Op::Attention { .. } => unreachable!("{} has a call of its own", op.kernel()),
        }
    }
}
