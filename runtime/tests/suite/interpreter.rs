//! What a program means: every step for the whole sequence at once, in f64, without caches.

use lathe_runtime::program::{
    Binary, BufferId, Index, Op, Program, RopeGrowth, RopePairing, RopeTable, Rows, Unary, WeightId,
};

/// Rows of a buffer. Indices are whole numbers.
type Table = Vec<Vec<f64>>;

/// The logits of every token, `[tokens, vocabulary]`, of a text that is read at once. `values` are those of the weights,
/// row-major.
pub(crate) fn logits(program: &Program, values: &[Vec<f32>], tokens: &[u32]) -> Table {
    logits_in_calls(program, values, tokens, &vec![tokens.len(); tokens.len()])
}

/// The logits of a text whose length was `lengths[p]` after the call that read the token at position p.
pub(crate) fn logits_in_calls(program: &Program, values: &[Vec<f32>], tokens: &[u32], lengths: &[usize]) -> Table {
    let mut buffers: Vec<Table> = vec![Table::new(); program.buffers.len()];
    for step in &program.steps {
        let result = Interpreter { program, values, tokens, lengths, buffers: &buffers }.run(&step.op);
        let shape = &program.buffers[step.op.out().index()];
        assert!(result.len() == tokens.len() && result[0].len() == shape.width as usize, "{}", step.label);
        buffers[step.op.out().index()] = result;
    }
    assert_eq!(program.buffers[program.output.index()].rows, Rows::Selected);
    buffers.swap_remove(program.output.index())
}

struct Interpreter<'a> {
    program: &'a Program,
    values: &'a [Vec<f32>],
    tokens: &'a [u32],
    lengths: &'a [usize],
    buffers: &'a [Table],
}

impl Interpreter<'_> {
    fn run(&self, op: &Op) -> Table {
        match op {
            Op::Embed { table, index, first, .. } => {
                let (table, first) = (self.matrix(*table), *first as usize);
                let row = |(position, &token): (usize, &u32)| match index {
                    Index::Tokens => table[first + token as usize].clone(),
                    Index::Positions => table[first + position].clone(),
                };
                self.tokens.iter().enumerate().map(row).collect()
            }
            Op::MatMul { x, weight, bias, .. } => {
                let weight = self.matrix(*weight);
                self.buffer(*x).iter().map(|x| product(x, &weight, bias.map(|bias| self.vector(bias)))).collect()
            }
            Op::ExpertMatMul { x, choice, weights, biases, .. } => {
                let weights: Vec<Table> = weights.iter().map(|&weight| self.matrix(weight)).collect();
                let inputs = weights[0][0].len();
                let row = |(x, choice): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
                    let experts = choice.iter().map(|&expert| expert as usize);
                    let parts = x.chunks_exact(inputs).cycle();
                    let part = |(expert, x): (usize, &[f64])| {
                        product(x, &weights[expert], biases.get(expert).map(|&bias| self.vector(bias)))
                    };
                    experts.zip(parts).flat_map(part).collect()
                };
                self.buffer(*x).iter().zip(self.buffer(*choice)).map(row).collect()
            }
            Op::Norm { x, centre, width, eps, gain, gain_offset, shift, .. } => {
                let width = *width as usize;
                let gain = gain.map_or(vec![1.0; width], |gain| {
                    self.vector(gain).iter().map(|gain| f64::from(*gain_offset) + gain).collect()
                });
                let shift = shift.map_or(vec![0.0; width], |shift| self.vector(shift));
                self.by_group(*x, width, |group| {
                    let group = if *centre { centred(group) } else { group.to_vec() };
                    let root = (dot(&group, &group) / width as f64 + f64::from(*eps)).sqrt();
                    group.iter().zip(&gain).zip(&shift).map(|((x, gain), shift)| x / root * gain + shift).collect()
                })
            }
            Op::Centre { x, width, .. } => self.by_group(*x, *width as usize, centred),
            Op::Gain { x, gain, offset, .. } => {
                let gain = self.vector(*gain);
                self.by_group(*x, gain.len(), |x| {
                    x.iter().zip(&gain).map(|(x, gain)| x * (f64::from(*offset) + gain)).collect()
                })
            }
            Op::Shift { x, shift, .. } => {
                let shift = self.vector(*shift);
                self.by_group(*x, shift.len(), |x| x.iter().zip(&shift).map(|(x, shift)| x + shift).collect())
            }
            Op::Rope { x, table, head_dim, .. } => {
                let table = &self.program.rope_tables[table.index()];
                let heads = |(position, row): (usize, &Vec<f64>)| -> Vec<f64> {
                    let frequencies = frequencies(table, self.lengths[position]);
                    let rotate = |head| rotate(head, position, table, &frequencies);
                    row.chunks_exact(*head_dim as usize).flat_map(rotate).collect()
                };
                self.buffer(*x).iter().enumerate().map(heads).collect()
            }
            Op::Rotate { .. } => unreachable!("no program of these tests has rotations"),
            Op::Attention { .. } => self.attention(op),
            Op::Unary { function, x, .. } => self.by_element(*x, |x| unary(*function, x)),
            Op::Binary { function: Binary::Add, a, b, .. } => self.by_pair(*a, *b, |a, b| a + b),
            Op::Binary { function: Binary::Sub, a, b, .. } => self.by_pair(*a, *b, |a, b| a - b),
            Op::Binary { function: Binary::Mul, a, b, .. } => self.by_pair(*a, *b, |a, b| a * b),
            Op::Gated { function, gate, value, .. } => {
                self.by_pair(*gate, *value, |gate, value| unary(*function, gate) * value)
            }
            Op::Affine { x, factor, offset, .. } => {
                self.by_element(*x, |x| f64::from(*factor) * x + f64::from(*offset))
            }
            Op::Clamp { x, low, high, .. } => {
                let x_low = |x: f64| low.map_or(x, |low| x.max(low.into()));
                self.by_element(*x, |x| high.map_or(x_low(x), |high| x_low(x).min(high.into())))
            }
            Op::Softcap { x, cap, .. } => self.by_element(*x, |x| capped(x, *cap)),
            Op::Softmax { x, width, .. } => self.by_group(*x, *width as usize, |x| {
                let total: f64 = x.iter().map(|x| x.exp()).sum();
                x.iter().map(|x| x.exp() / total).collect()
            }),
            Op::NormalizeSum { x, width, .. } => self.by_group(*x, *width as usize, |x| {
                let total: f64 = x.iter().sum();
                x.iter().map(|x| x / total).collect()
            }),
            Op::TopK { x, k, .. } => {
                let row = |row: &Vec<f64>| {
                    let mut numbers: Vec<usize> = (0..row.len()).collect();
                    numbers.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
                    numbers[..*k as usize].iter().map(|&number| number as f64).collect()
                };
                self.buffer(*x).iter().map(row).collect()
            }
            Op::Gather { x, choice, .. } => {
                let row = |(x, choice): (&Vec<f64>, &Vec<f64>)| choice.iter().map(|&at| x[at as usize]).collect();
                self.buffer(*x).iter().zip(self.buffer(*choice)).map(row).collect()
            }
            Op::Combine { x, weights, out } => {
                let width = self.program.buffers[out.index()].width as usize;
                let row = |(x, weights): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
                    let sum = |at: usize| x.chunks_exact(width).zip(weights).map(|(x, weight)| weight * x[at]).sum();
                    (0..width).map(sum).collect()
                };
                self.buffer(*x).iter().zip(self.buffer(*weights)).map(row).collect()
            }
            Op::Select { x, .. } => self.buffer(*x).clone(),
        }
    }

    fn attention(&self, op: &Op) -> Table {
        let Op::Attention { q, k, v, cache, heads, scale, window, softcap, sinks, .. } = *op else {
            unreachable!("only called for attention")
        };
        let cache = &self.program.caches[cache.index()];
        let (heads, head_dim) = (heads as usize, cache.head_dim as usize);
        let shared = heads / cache.heads as usize;
        let window = window.map_or(usize::MAX, |window| window as usize);
        let (keys, values) = (self.buffer(k), self.buffer(v));
        let sinks = sinks.map(|sinks| self.vector(sinks));
        let attend = |(position, row): (usize, &Vec<f64>)| -> Vec<f64> {
            let first = (position + 1).saturating_sub(window);
            (0..heads)
                .flat_map(|head| {
                    let q = &row[head * head_dim..(head + 1) * head_dim];
                    let at = head / shared * head_dim..(head / shared + 1) * head_dim;
                    let seen = first..=position;
                    let weight = |p: usize| {
                        let score = f64::from(scale) * dot(q, &keys[p][at.clone()]);
                        softcap.map_or(score, |cap| capped(score, cap)).exp()
                    };
                    let sink = sinks.as_ref().map_or(0.0, |sinks| sinks[head].exp());
                    let total = sink + seen.clone().map(weight).sum::<f64>();
                    let mut sum = vec![0.0; head_dim];
                    for p in seen {
                        for (sum, value) in sum.iter_mut().zip(&values[p][at.clone()]) {
                            *sum += weight(p) / total * value;
                        }
                    }
                    sum
                })
                .collect()
        };
        self.buffer(q).iter().enumerate().map(attend).collect()
    }

    fn buffer(&self, id: BufferId) -> &Table {
        &self.buffers[id.index()]
    }

    fn matrix(&self, id: WeightId) -> Table {
        let columns = *self.program.weights[id.index()].shape.last().unwrap() as usize;
        let row = |row: &[f32]| row.iter().map(|&value| f64::from(value)).collect();
        self.values[id.index()].chunks_exact(columns).map(row).collect()
    }

    fn vector(&self, id: WeightId) -> Vec<f64> {
        self.matrix(id).remove(0)
    }

    fn by_element(&self, x: BufferId, f: impl Fn(f64) -> f64) -> Table {
        self.buffer(x).iter().map(|row| row.iter().map(|&x| f(x)).collect()).collect()
    }

    fn by_group(&self, x: BufferId, width: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Table {
        self.buffer(x).iter().map(|row| row.chunks_exact(width).flat_map(&f).collect()).collect()
    }

    fn by_pair(&self, a: BufferId, b: BufferId, f: impl Fn(f64, f64) -> f64) -> Table {
        let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect();
        self.buffer(a).iter().zip(self.buffer(b)).map(row).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn product(x: &[f64], weight: &Table, bias: Option<Vec<f64>>) -> Vec<f64> {
    let bias = bias.unwrap_or_else(|| vec![0.0; weight.len()]);
    weight.iter().zip(bias).map(|(row, bias)| dot(x, row) + bias).collect()
}

fn centred(x: &[f64]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|x| x - mean).collect()
}

fn capped(x: f64, cap: f32) -> f64 {
    f64::from(cap) * (x / f64::from(cap)).tanh()
}

fn unary(function: Unary, x: f64) -> f64 {
    match function {
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Gelu => x * normal_distribution(x),
        Unary::GeluTanh => x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh()),
        Unary::GeluQuick => x / (1.0 + (-1.702 * x).exp()),
        Unary::Relu => x.max(0.0),
        Unary::ReluSquared => x.max(0.0).powi(2),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Tanh => x.tanh(),
    }
}

/// Φ by its power series (Abramowitz and Stegun 26.2.11), whose terms have one sign: good to 1e-12 for the arguments of
/// tests, which are small.
fn normal_distribution(x: f64) -> f64 {
    assert!(x.abs() < 30.0, "{x}");
    let (mut term, mut sum, mut n) = (x, 0.0, 1.0);
    while term.abs() > 1e-17 * x.abs() {
        sum += term;
        n += 2.0;
        term *= x * x / n;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

fn frequencies(table: &RopeTable, length: usize) -> Vec<f64> {
    let of = |frequencies: &[f32]| frequencies.iter().map(|&frequency| f64::from(frequency)).collect();
    match &table.growth {
        Some(RopeGrowth::Switch { positions, inverse_frequencies }) if length > *positions as usize => {
            of(inverse_frequencies)
        }
        Some(RopeGrowth::Dynamic { positions, factor, theta }) if length > *positions as usize => {
            let pairs = table.inverse_frequencies.len();
            let width = 2.0 * pairs as f64;
            let growth = (factor * length as f64 / f64::from(*positions)) - (factor - 1.0);
            let base = theta * growth.powf(width / (width - 2.0));
            (0..pairs).map(|pair| base.powf(-2.0 * pair as f64 / width)).collect()
        }
        _ => of(&table.inverse_frequencies),
    }
}

fn rotate(head: &[f64], position: usize, table: &RopeTable, frequencies: &[f64]) -> Vec<f64> {
    let mut out = head.to_vec();
    let pairs = frequencies.len();
    for (pair, frequency) in frequencies.iter().enumerate() {
        let (a, b) = match table.pairing {
            RopePairing::Half => (pair, pair + pairs),
            RopePairing::Interleaved => (2 * pair, 2 * pair + 1),
        };
        let (sin, cos) = (position as f64 * frequency).sin_cos();
        let amplitude = f64::from(table.amplitude);
        out[a] = amplitude * (head[a] * cos - head[b] * sin);
        out[b] = amplitude * (head[a] * sin + head[b] * cos);
    }
    out
}
