//! Random programs of every kernel.

use lathe_kernels::rotations::Rotation;
use lathe_runtime::program::{
    Binary, BufferId, Cache, CacheId, Op, Program, RopeId, RopePairing, RopeTable, RotationId, Rows, Unary, WeightId,
};

use super::Random;
use super::testing::{Builder, SMALL};

/// All kernels that there are.
pub(crate) const KERNELS: usize = 22;
const STEPS: usize = 8;
const WIDTH: u32 = SMALL.hidden;
/// Divisors of the width.
const GROUPS: [u32; 5] = [3, 6, 8, 12, 24];
/// Of Hadamard matrices, divisors of the width.
const ORDERS: [usize; 5] = [2, 4, 8, 12, 24];
const EXPERTS: u32 = 6;

struct Maker {
    random: Random,
    builder: Builder,
    /// `[Tokens, WIDTH]` each.
    buffers: Vec<BufferId>,
    labels: usize,
}

impl Maker {
    fn below(&mut self, bound: usize) -> usize {
        (f32::midpoint(self.random.next(), 1.0) * bound as f32) as usize % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn real(&mut self) -> f32 {
        2.0 * self.random.next()
    }

    fn operand(&mut self) -> BufferId {
        let at = self.below(self.buffers.len());
        self.buffers[at]
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("step.{}", self.labels)
    }

    fn step(&mut self, width: u32, op: impl FnOnce(BufferId) -> Op) -> BufferId {
        let label = self.label();
        self.builder.step(&label, Rows::Tokens, width, op)
    }

    fn linear(&mut self, x: BufferId, outputs: u32) -> BufferId {
        let (label, biased) = (self.label(), self.coin());
        self.builder.linear(&label, x, [outputs, WIDTH], biased)
    }

    /// A vector to centre along.
    fn direction(&mut self, length: u32) -> WeightId {
        let label = self.label();
        self.builder.weight(&format!("{label}.along"), "f32", &[length])
    }

    fn vector(&mut self, length: u32) -> WeightId {
        let label = self.label();
        self.builder.weight(&label, "f32", &[length])
    }

    /// A step, or the few that belong together, from existing buffers to a new one.
    fn grow(&mut self) {
        let (x, y, group) = (self.operand(), self.operand(), self.pick(&GROUPS));
        let function = self.pick(&Unary::ALL).1;
        let grown = match self.below(17) {
            0 => self.linear(x, WIDTH),
            1 => self.norm(x, group),
            2 => {
                let along = self.coin().then(|| self.direction(group));
                self.step(WIDTH, |out| Op::Centre { x, along, width: group, out })
            }
            3 => {
                let (gain, offset) = (self.vector(group), self.real());
                self.step(WIDTH, |out| Op::Gain { x, gain, offset, out })
            }
            4 => {
                let shift = self.vector(group);
                self.step(WIDTH, |out| Op::Shift { x, shift, out })
            }
            5 => self.rope(x),
            6 => self.attention(x, y),
            7 => self.step(WIDTH, |out| Op::Unary { function, x, out }),
            8 => {
                let function = self.pick(&Binary::ALL).1;
                self.step(WIDTH, |out| Op::Binary { function, a: x, b: y, out })
            }
            9 => self.step(WIDTH, |out| Op::Gated { function, gate: x, value: y, out }),
            10 => {
                let (factor, offset) = (self.real(), self.real());
                self.step(WIDTH, |out| Op::Affine { x, factor, offset, out })
            }
            11 => {
                let (low, high) = self.pick(&[(Some(-0.5), Some(0.5)), (None, Some(0.25)), (Some(0.0), None)]);
                self.step(WIDTH, |out| Op::Clamp { x, low, high, out })
            }
            12 => self.step(WIDTH, |out| Op::Softcap { x, cap: 1.5, out }),
            13 => self.step(WIDTH, |out| Op::Softmax { x, width: group, out }),
            14 => {
                // Far from a sum of zero.
                let positive = self.step(WIDTH, |out| Op::Unary { function: Unary::Sigmoid, x, out });
                self.step(WIDTH, |out| Op::NormalizeSum { x: positive, width: group, out })
            }
            15 => self.rotate(x),
            _ => self.experts(x),
        };
        // So that no chain of steps leaves the range where logits can be compared.
        let tame = self.step(WIDTH, |out| Op::Softcap { x: grown, cap: 4.0, out });
        self.buffers.push(tame);
    }

    fn norm(&mut self, x: BufferId, width: u32) -> BufferId {
        let gain = self.coin().then(|| self.vector(width));
        let shift = self.coin().then(|| self.vector(width));
        let (centre, gain_offset) = (self.coin(), if gain.is_some() { self.real() } else { 0.0 });
        let along = (centre && self.coin()).then(|| self.direction(width));
        self.step(WIDTH, |out| Op::Norm { x, centre, along, width, eps: 0.01, gain, gain_offset, shift, out })
    }

    /// By a new rotation or by an earlier one.
    fn rotate(&mut self, x: BufferId) -> BufferId {
        let (order, group) = (self.pick(&ORDERS), self.pick(&GROUPS));
        let (seed, label) = (self.below(100) as u64, self.label());
        let known = self.builder.program.rotations.len();
        let rotation = match self.below(5) {
            0 => self.builder.rotation(&Rotation::random_hadamard(order, seed).unwrap()),
            1 => self.builder.rotation(&Rotation::hadamard(order).unwrap()),
            2 => self.builder.rotation(&Rotation::orthogonal(group as usize, seed).unwrap()),
            3 if known > 0 => RotationId(self.below(known) as u32),
            _ => self.builder.matrix_rotation(&format!("{label}.matrix"), group),
        };
        let inverse = self.coin();
        self.builder.rotate(&label, x, rotation, inverse)
    }

    fn rope(&mut self, x: BufferId) -> BufferId {
        let head_dim = self.pick(&GROUPS);
        let pairs = 1 + self.below(head_dim as usize / 2);
        let table = RopeTable {
            pairing: self.pick(&[RopePairing::Half, RopePairing::Interleaved]),
            inverse_frequencies: (0..pairs).map(|_| self.real()).collect(),
            amplitude: self.real(),
            growth: None,
        };
        self.builder.program.rope_tables.push(table);
        let table = RopeId(self.builder.program.rope_tables.len() as u32 - 1);
        self.step(WIDTH, |out| Op::Rope { x, table, head_dim, out })
    }

    fn attention(&mut self, q: BufferId, v: BufferId) -> BufferId {
        let head_dim = self.pick(&GROUPS);
        let heads = WIDTH / head_dim;
        let kv_heads = if heads.is_multiple_of(2) && self.coin() { heads / 2 } else { heads };
        let (k, v) = (self.linear(q, kv_heads * head_dim), self.linear(v, kv_heads * head_dim));
        let cache = CacheId(self.builder.program.caches.len() as u32);
        self.builder.program.caches.push(Cache { heads: kv_heads, head_dim });
        let window = self.coin().then_some(3);
        let softcap = self.coin().then_some(2.0);
        let sinks = self.coin().then(|| self.vector(heads));
        self.step(WIDTH, |out| Op::Attention { q, k, v, cache, heads, scale: 0.3, window, softcap, sinks, out })
    }

    /// Each chosen expert's product with `x`, in one step or two, weighted.
    fn experts(&mut self, x: BufferId) -> BufferId {
        let k = 1 + self.below(EXPERTS as usize) as u32;
        let scores = self.linear(x, EXPERTS);
        let label = self.label();
        let choice = self.builder.top_k(&label, scores, EXPERTS, k);
        let weights = self.step(k, |out| Op::Gather { x: scores, choice, out });
        let weights = self.step(k, |out| Op::Softmax { x: weights, width: k, out });
        let mut product = self.expert_linear(x, choice, k);
        if self.coin() {
            product = self.expert_linear(product, choice, k);
        }
        self.step(WIDTH, |out| Op::Combine { x: product, weights, out })
    }

    fn expert_linear(&mut self, x: BufferId, choice: BufferId, k: u32) -> BufferId {
        let label = self.label();
        let weight = |maker: &mut Self, expert| {
            maker.builder.weight(&format!("{label}.{expert}.weight"), "bf16", &[WIDTH, WIDTH])
        };
        let weights = (0..EXPERTS).map(|expert| weight(self, expert)).collect();
        let biased = if self.coin() { EXPERTS } else { 0 };
        let biases = (0..biased).map(|_| self.vector(WIDTH)).collect();
        self.step(k * WIDTH, |out| Op::ExpertMatMul { x, input: None, choice, weights, biases, out })
    }
}

/// The program of a seed.
pub(crate) fn random_program(seed: u64) -> Program {
    let mut maker = Maker { random: Random(seed), builder: Builder::new(SMALL), buffers: Vec::new(), labels: 0 };
    let table = maker.builder.weight("embed.weight", "bf16", &[SMALL.vocabulary, WIDTH]);
    let x = maker.builder.embed("embed", table, WIDTH);
    maker.buffers.push(x);
    for _ in 0..STEPS {
        maker.grow();
    }
    let x = maker.buffers[STEPS];
    let mut builder = maker.builder;
    let x = builder.step("select", Rows::Selected, WIDTH, |out| Op::Select { x, out });
    let weight = builder.weight("head.weight", "f32", &[SMALL.vocabulary, WIDTH]);
    let bias = Some(builder.weight("head.bias", "f32", &[SMALL.vocabulary]));
    let head = |out| Op::MatMul { x, input: None, weight, bias, out };
    builder.program.output = builder.step("head", Rows::Selected, SMALL.vocabulary, head);
    builder.program
}
