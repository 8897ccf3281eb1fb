//! Steps to launches.

use std::collections::{BTreeMap, BTreeSet};

use lathe_kernels::cuda::ops::rotates_heads;

use super::{Abilities, Call, Finish, Form, Forms, Head, HeadTo, Kind, Launch, Norm, Operand, Part};
use crate::program::{Binary, BufferId, Compute, InputFormat, Op, Program, RopeId, Rotation, RotationId, WeightId};

/// Most weights that one launch multiplies by.
const MOST_PARTS: usize = 4;

/// A launch for each step, two for those with a cache.
pub(super) fn single(program: &Program) -> Vec<Launch> {
    let calls = |step: usize| match program.steps[step].op {
        Op::Attention { q, k, v, .. } => {
            let plain =
                [q, k, v].map(|buffer| Chain { steps: Vec::new(), head: Head::plain(buffer, HeadTo::Buffer(buffer)) });
            attention(program, step, plain).to_vec()
        }
        _ => vec![Launch { call: own_call(program, step), steps: vec![step] }],
    };
    (0..program.steps.len()).flat_map(calls).collect()
}

/// The call that computes a step and nothing else, but for attention.
fn own_call(program: &Program, step: usize) -> Call {
    match program.steps[step].op {
        Op::Embed { table, index, first, out } => Call::Embed { table, index, first, out },
        Op::MatMul { x, input, weight, bias, out } => Call::Product {
            x: Operand { x, form: operand_form(program, input, 1), within: false },
            norm: None,
            parts: vec![Part { weight, bias, out: Some(out) }],
            finish: Finish::Store,
        },
        Op::ExpertMatMul { x, input, ref weights, .. } => {
            let columns = program.weights[weights[0].index()].shape[1];
            let parts = u64::from(program.buffers[x.index()].width) / columns;
            let form = operand_form(program, input, parts as u32);
            Call::Experts { x: Operand { x, form, within: false }, step }
        }
        Op::Norm { x, out, .. } => {
            let norm = norm_of(&program.steps[step].op);
            Call::Rows { x, add: None, sum: None, norm, turn: None, out, forms: Forms::REAL }
        }
        Op::Rope { x, table, head_dim, out } => {
            let head = Head { rope: Some(table), ..Head::plain(x, HeadTo::Buffer(out)) };
            Call::Heads { heads: vec![head], head_dim }
        }
        _ => Call::Step { step, forms: Forms::REAL },
    }
}

/// The form in which a product takes its x, which has so many rows to round in a row.
fn operand_form(program: &Program, input: Option<InputFormat>, parts: u32) -> Form {
    match (input, program.compute) {
        (Some(InputFormat::Int8PerToken), _) => Form::Int8 { parts },
        (None, Compute::F32) => Form::Real,
        (None, Compute::Bf16) => Form::Bf16,
    }
}

fn norm_of(op: &Op) -> Option<Norm> {
    match *op {
        Op::Norm { centre, along, width, eps, gain, gain_offset, shift, .. } => {
            Some(Norm { centre, along, width, eps, gain, gain_offset, shift })
        }
        _ => None,
    }
}

impl Head {
    fn plain(x: BufferId, to: HeadTo) -> Head {
        Head { x, norm: None, rope: None, turn: None, to }
    }
}

/// Steps that lead to an operand of an attention, in order, and what they come to.
struct Chain {
    steps: Vec<usize>,
    head: Head,
}

/// What fills the cache of an attention, and the attention itself. Chains are of queries, keys and values.
fn attention(program: &Program, step: usize, [q, k, v]: [Chain; 3]) -> [Launch; 2] {
    let Op::Attention { cache, .. } = program.steps[step].op else {
        unreachable!("called for attention only");
    };
    let mut steps: Vec<usize> = [&q.steps[..], &k.steps, &v.steps, &[step]].concat();
    steps.sort_unstable();
    steps.dedup();
    let queries = (!q.steps.is_empty()).then_some(q.head);
    let keys = Head { to: HeadTo::Keys(cache), ..k.head };
    let values = Head { to: HeadTo::Values(cache), ..v.head };
    let head_dim = program.caches[cache.index()].head_dim;
    let heads = Call::Heads { heads: queries.into_iter().chain([keys, values]).collect(), head_dim };
    let attention = Call::Attention { step, forms: Forms::REAL };
    [Launch { call: heads, steps }, Launch { call: attention, steps: vec![step] }]
}

/// The launches of a program in the order in which they run.
pub(super) fn fused(program: &Program, abilities: &dyn Abilities, kind: Kind) -> Vec<Launch> {
    let mut fuser = Fuser::new(program, abilities);
    fuser.fuse_heads();
    fuser.fuse_gated();
    fuser.fuse_additions();
    fuser.join_products();
    fuser.fuse_rows();
    if kind == Kind::One {
        fuser.normalize_in_products();
        fuser.round_in_products();
    }
    fuser.launches()
}

/// Weights that are multiplied by the same x, and their steps.
type Joint = (Operand, Vec<Part>, Vec<usize>);

struct Fuser<'a> {
    program: &'a Program,
    abilities: &'a dyn Abilities,
    /// The step that writes a buffer.
    writer: Vec<usize>,
    /// The steps that read a buffer, once for each operand.
    readers: Vec<Vec<usize>>,
    /// Launches of several steps, at the step where they run.
    made: Vec<(usize, Launch)>,
    /// Whether a launch of `made` computes a step.
    is_done: Vec<bool>,
}

impl<'a> Fuser<'a> {
    fn new(program: &'a Program, abilities: &'a dyn Abilities) -> Self {
        let mut writer = vec![0; program.buffers.len()];
        let mut readers = vec![Vec::new(); program.buffers.len()];
        for (index, step) in program.steps.iter().enumerate() {
            writer[step.op.out().index()] = index;
            for buffer in step.op.inputs() {
                readers[buffer.index()].push(index);
            }
        }
        // Whoever asked for the logits reads them.
        readers[program.output.index()].push(program.steps.len());
        Fuser { program, abilities, writer, readers, made: Vec::new(), is_done: vec![false; program.steps.len()] }
    }

    fn op(&self, step: usize) -> &'a Op {
        &self.program.steps[step].op
    }

    fn width(&self, buffer: BufferId) -> u32 {
        self.program.buffers[buffer.index()].width
    }

    /// The step that writes a buffer which nobody but one operand reads, and that no launch computes yet.
    fn only_for(&self, buffer: BufferId) -> Option<usize> {
        let step = self.writer[buffer.index()];
        (self.readers[buffer.index()].len() == 1 && !self.is_done[step]).then_some(step)
    }

    /// Takes steps into a launch that runs at `at`.
    fn make(&mut self, at: usize, call: Call, mut steps: Vec<usize>) {
        steps.sort_unstable();
        for &step in &steps {
            self.is_done[step] = true;
        }
        self.made.push((at, Launch { call, steps }));
    }

    /// Attention takes the norms, rotary embeddings and rotations of its operands, and runs in its place: nobody else reads
    /// what they give.
    fn fuse_heads(&mut self) {
        for step in 0..self.program.steps.len() {
            let Op::Attention { q, k, v, cache, .. } = *self.op(step) else { continue };
            let head_dim = self.program.caches[cache.index()].head_dim;
            let chains = [q, k, v].map(|buffer| self.chain(buffer, head_dim));
            let [heads, attention] = attention(self.program, step, chains);
            for &step in &heads.steps {
                self.is_done[step] = true;
            }
            self.made.extend([(step, heads), (step, attention)]);
        }
    }

    fn chain(&self, operand: BufferId, head_dim: u32) -> Chain {
        let mut chain = Chain { steps: Vec::new(), head: Head::plain(operand, HeadTo::Buffer(operand)) };
        let head = &mut chain.head;
        if let Some(step) = self.only_for(head.x)
            && let Op::Rotate { x, rotation, inverse, .. } = *self.op(step)
            && self.rotates_heads(rotation, head_dim)
        {
            (head.x, head.turn) = (x, Some((rotation, inverse)));
            chain.steps.push(step);
        }
        if let Some(step) = self.only_for(head.x)
            && let Op::Rope { x, table, head_dim: width, .. } = *self.op(step)
            && width == head_dim
        {
            (head.x, head.rope) = (x, Some::<RopeId>(table));
            chain.steps.push(step);
        }
        if let Some(step) = self.only_for(head.x)
            && let Op::Norm { x, width, .. } = *self.op(step)
            && width == head_dim
        {
            (head.x, head.norm) = (x, norm_of(self.op(step)));
            chain.steps.push(step);
        }
        chain
    }

    fn rotates_heads(&self, rotation: RotationId, head_dim: u32) -> bool {
        let rotation = &self.program.rotations[rotation.index()];
        // Of no other kind, so nothing has to be read for it.
        matches!(rotation, Rotation::Hadamard { .. })
            && head_dim.is_multiple_of(rotation.width())
            && rotation.build(Vec::new()).is_ok_and(|rotation| rotates_heads(&rotation))
    }

    /// Two products of the same x that become one gated value.
    fn fuse_gated(&mut self) {
        for step in 0..self.program.steps.len() {
            let Op::Gated { function, gate, value, out } = *self.op(step) else { continue };
            let products = [gate, value].map(|buffer| self.only_for(buffer).and_then(|step| self.product(step)));
            let [Some((first, x, mut gate)), Some((second, other, mut value))] = products else { continue };
            if x == other && self.abilities.joins(&[gate.weight, value.weight]) {
                (gate.out, value.out) = (None, None);
                let finish = Finish::Gated(function, out, Forms::REAL);
                let call = Call::Product { x, norm: None, parts: vec![gate, value], finish };
                self.make(step, call, vec![first, second, step]);
            }
        }
    }

    /// A step that multiplies, with its x and weight.
    fn product(&self, step: usize) -> Option<(usize, Operand, Part)> {
        match own_call(self.program, step) {
            Call::Product { x, parts, .. } => Some((step, x, parts[0])),
            _ => None,
        }
    }

    /// Sums of a product and something else.
    fn fuse_additions(&mut self) {
        for step in 0..self.program.steps.len() {
            let Op::Binary { function: Binary::Add, a, b, out } = *self.op(step) else { continue };
            let products = [(b, a), (a, b)].map(|(product, other)| {
                let (step, x, part) = self.product(self.only_for(product)?)?;
                Some((step, x, part, other))
            });
            // The later one, where both are products: the other is there by then.
            if let Some((product, x, part, other)) = products.into_iter().flatten().max_by_key(|found| found.0) {
                let parts = vec![Part { out: Some(out), ..part }];
                let call = Call::Product { x, norm: None, parts, finish: Finish::Add(other) };
                self.make(step, call, vec![product, step]);
            }
        }
    }

    /// Products of the same x run where the first of them stands: x is there by then.
    fn join_products(&mut self) {
        let mut joint: BTreeMap<BufferId, Vec<Joint>> = BTreeMap::new();
        for step in (0..self.program.steps.len()).filter(|&step| !self.is_done[step]) {
            let Some((_, x, part)) = self.product(step) else { continue };
            let same_x = joint.entry(x.x).or_default();
            let fits = |(other, parts, _): &&mut Joint| {
                let weights: Vec<WeightId> = parts.iter().chain([&part]).map(|part| part.weight).collect();
                *other == x && weights.len() <= MOST_PARTS && self.abilities.joins(&weights)
            };
            match same_x.last_mut().filter(fits) {
                Some((_, parts, steps)) => {
                    parts.push(part);
                    steps.push(step);
                }
                None => same_x.push((x, vec![part], vec![step])),
            }
        }
        for (x, parts, steps) in joint.into_values().flatten() {
            self.make(steps[0], Call::Product { x, norm: None, parts, finish: Finish::Store }, steps);
        }
    }

    /// Additions, norms and rotations of rows, where the first of them stands.
    fn fuse_rows(&mut self) {
        for first in 0..self.program.steps.len() {
            if self.is_done[first] {
                continue;
            }
            let (addends, start) = match *self.op(first) {
                Op::Binary { function: Binary::Add, a, b, out } => (Some((a, b, out)), self.row_reader(out)),
                _ => (None, Some(first)),
            };
            let Some(start) = start else { continue };
            let mut steps = vec![first, start];
            let (own_x, norm, turn, out) = match *self.op(start) {
                Op::Norm { x, out, .. } => {
                    let next = (self.readers[out.index()].len() == 1).then(|| self.row_reader(out)).flatten();
                    let norm = norm_of(self.op(start));
                    match next.map(|next| (next, self.op(next))) {
                        Some((next, &Op::Rotate { rotation, inverse, out, .. })) => {
                            steps.push(next);
                            (x, norm, Some((rotation, inverse)), out)
                        }
                        _ => (x, norm, None, out),
                    }
                }
                Op::Rotate { x, rotation, inverse, out } if self.abilities.rotates_rows(rotation, self.width(x)) => {
                    (x, None, Some((rotation, inverse)), out)
                }
                _ => continue,
            };
            let (x, add, sum) = addends.map_or((own_x, None, None), |(a, b, sum)| (a, Some(b), Some(sum)));
            // Others may read the sum, too.
            let sum = sum.filter(|sum| self.readers[sum.index()].len() > 1);
            steps.dedup();
            self.make(first, Call::Rows { x, add, sum, norm, turn, out, forms: Forms::REAL }, steps);
        }
    }

    /// The first step that reads a buffer to normalize it or to rotate it as [`Abilities::rotates_rows`], and that no launch
    /// computes yet.
    fn row_reader(&self, buffer: BufferId) -> Option<usize> {
        let is_free = |step: &usize| *step < self.program.steps.len() && !self.is_done[*step];
        self.readers[buffer.index()].iter().copied().filter(is_free).find(|&step| match *self.op(step) {
            Op::Norm { .. } => true,
            Op::Rotate { rotation, .. } => self.abilities.rotates_rows(rotation, self.width(buffer)),
            _ => false,
        })
    }

    /// A norm that only one launch of products reads becomes part of it.
    fn normalize_in_products(&mut self) {
        let norms: BTreeMap<BufferId, (usize, BufferId, Norm)> =
            self.made.iter().enumerate().filter_map(|(index, (_, launch))| self.norm_alone(index, launch)).collect();
        let mut made: Vec<Option<(usize, Launch)>> = std::mem::take(&mut self.made).into_iter().map(Some).collect();
        for at in 0..made.len() {
            let Some((_, Launch { call: Call::Product { x, parts, .. }, steps })) = &made[at] else { continue };
            let is_only_reader = self.readers[x.x.index()].iter().all(|reader| steps.contains(reader));
            let can = match x.form {
                Form::Real => false,
                Form::Bf16 => parts.iter().all(|part| self.abilities.normalizes(part.weight)),
                Form::Int8 { .. } => {
                    let can =
                        |part: &Part| self.abilities.quantizes(part.weight) && self.abilities.normalizes(part.weight);
                    parts.iter().all(can)
                }
            };
            let Some(&(index, rows, norm)) = norms.get(&x.x).filter(|_| is_only_reader && can) else { continue };
            let taken = made[index].take().map_or_else(Vec::new, |(_, launch)| launch.steps);
            if let Some((_, Launch { call: Call::Product { x, norm: own, .. }, steps })) = &mut made[at] {
                (*x, *own) = (Operand { x: rows, within: true, ..*x }, Some(norm));
                steps.splice(0..0, taken);
            }
        }
        self.made = made.into_iter().flatten().collect();
    }

    /// Products round to int8 what no launch of rows rounds already.
    fn round_in_products(&mut self) {
        let out_of = |launch: &Launch| if let Call::Rows { out, .. } = launch.call { Some(out) } else { None };
        let rounded: BTreeSet<BufferId> = self.made.iter().filter_map(|(_, launch)| out_of(launch)).collect();
        for at in 0..self.made.len() {
            let Call::Product { x, parts, .. } = &self.made[at].1.call else { continue };
            let written = match *self.op(self.writer[x.x.index()]) {
                Op::Select { x, .. } => x,
                _ => x.x,
            };
            let is_int8 = x.form == Form::Int8 { parts: 1 } && !rounded.contains(&written);
            if is_int8
                && parts.iter().all(|part| self.abilities.quantizes(part.weight))
                && let Call::Product { x, .. } = &mut self.made[at].1.call
            {
                x.within = true;
            }
        }
    }

    /// By its output, a launch that normalizes whole rows and does nothing else: its index, its x and the norm.
    fn norm_alone(&self, index: usize, launch: &Launch) -> Option<(BufferId, (usize, BufferId, Norm))> {
        match launch.call {
            Call::Rows { x, add: None, norm: Some(norm), turn: None, out, .. } if norm.width == self.width(x) => {
                Some((out, (index, x, norm)))
            }
            _ => None,
        }
    }

    /// All launches: those that were made, and one for each other step.
    fn launches(mut self) -> Vec<Launch> {
        for step in 0..self.program.steps.len() {
            if !self.is_done[step] {
                self.make(step, own_call(self.program, step), vec![step]);
            }
        }
        // Stable: what fills a cache stays before what reads it.
        self.made.sort_by_key(|(at, _)| *at);
        self.made.into_iter().map(|(_, launch)| launch).collect()
    }
}
