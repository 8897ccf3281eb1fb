//! What a program means, in f64: every step for the whole text at once, without caches. Too simple to be wrong, too slow for
//! anything but tests.
//!
//! Nothing is rounded to f32 on the way, and weights are given in f64, so that models which should compute the same can be
//! told from models which nearly do.

use std::borrow::Cow;
use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::slice::ChunksExact;

use lathe_kernels::rotations::Rotation;

use crate::exec::{ExecError, check_tokens};
use crate::program::{
    Binary, BufferId, Index, InputFormat, Op, Program, RopeGrowth, RopePairing, RopeTable, Unary, WeightId, verify,
};

/// Rows of a buffer, one for each token. Indices are whole numbers.
pub type Table = Vec<Vec<f64>>;

/// The logits of every token, `[tokens, vocabulary]`, of a text that is read at once. `values` are those of the program's
/// weights, in its order, row-major; the matrix of a rotation is rounded to f32, which is what programs store.
///
/// # Errors
/// When the program is not valid, `values` are not those of its weights, a token is none of its vocabulary or there is no
/// token, or the matrix of a rotation is not orthogonal.
pub fn logits(program: &Program, values: &[Vec<f64>], tokens: &[u32]) -> Result<Table, ExecError> {
    logits_in_calls(program, values, tokens, &vec![tokens.len(); tokens.len()])
}

/// As [`logits`], of a text whose length was `lengths[p]` after the call that read the token at position p: rotary
/// frequencies may depend on it.
///
/// # Errors
/// As of [`logits`].
///
/// # Panics
/// When there are not as many lengths as tokens.
pub fn logits_in_calls(
    program: &Program,
    values: &[Vec<f64>],
    tokens: &[u32],
    lengths: &[usize],
) -> Result<Table, ExecError> {
    assert_eq!(lengths.len(), tokens.len(), "a length for each token");
    verify(program)?;
    check_values(program, values)?;
    check_tokens(tokens, program.vocabulary())?;
    if tokens.is_empty() {
        return Err(ExecError::NoTokens);
    }
    if let Some(max_positions) = program.max_positions.filter(|&most| tokens.len() > most as usize) {
        return Err(ExecError::MaxPositions { capacity: tokens.len(), max_positions });
    }
    let rotation = |(index, rotation): (usize, &crate::program::Rotation)| {
        let matrix = rotation.weight().map(|weight| values[weight.index()].iter().map(|&value| value as f32).collect());
        let built = rotation.build(matrix.unwrap_or_default());
        built.map_err(|source| ExecError::Rotation { rotation: index, source })
    };
    let rotations: Vec<Rotation> =
        program.rotations.iter().enumerate().map(rotation).collect::<Result<_, ExecError>>()?;
    let mut buffers: Vec<Table> = vec![Table::new(); program.buffers.len()];
    for step in &program.steps {
        let interpreter = Interpreter { program, values, rotations: &rotations, tokens, lengths, buffers: &buffers };
        buffers[step.op.out().index()] = interpreter.run(&step.op);
    }
    Ok(buffers.swap_remove(program.output.index()))
}

fn check_values(program: &Program, values: &[Vec<f64>]) -> Result<(), ExecError> {
    if values.len() != program.weights.len() {
        return Err(ExecError::WeightCount { found: values.len(), expected: program.weights.len() });
    }
    for (weight, values) in program.weights.iter().zip(values) {
        if values.len() as u64 != weight.shape.iter().product::<u64>() {
            let (found, expected) = (format!("{} values", values.len()), format!("{:?}", weight.shape));
            return Err(ExecError::Weight { weight: weight.name.clone(), found, expected });
        }
    }
    Ok(())
}

struct Interpreter<'a> {
    program: &'a Program,
    values: &'a [Vec<f64>],
    rotations: &'a [Rotation],
    tokens: &'a [u32],
    lengths: &'a [usize],
    buffers: &'a [Table],
}

impl<'a> Interpreter<'a> {
    fn run(&self, op: &Op) -> Table {
        match op {
            Op::Embed { table, index, first, .. } => {
                let rows: Vec<&[f64]> = self.rows(*table).collect();
                let row = |(position, &token): (usize, &u32)| match index {
                    Index::Tokens => rows[*first as usize + token as usize].to_vec(),
                    Index::Positions => rows[*first as usize + position].to_vec(),
                };
                self.tokens.iter().enumerate().map(row).collect()
            }
            Op::MatMul { x, input, weight, bias, .. } => self
                .by_row(*x, |x| product(&rounded(x, *input), self.rows(*weight), bias.map(|bias| self.vector(bias)))),
            Op::ExpertMatMul { x, input, choice, weights, biases, .. } => {
                let inputs = self.rows(weights[0]).next().map_or(0, <[f64]>::len);
                self.by_row_and_choice(*x, *choice, |x, choice| {
                    let parts = x.chunks_exact(inputs).cycle();
                    let part = |(&expert, x): (&usize, &[f64])| {
                        product(
                            &rounded(x, *input),
                            self.rows(weights[expert]),
                            biases.get(expert).map(|&bias| self.vector(bias)),
                        )
                    };
                    choice.iter().zip(parts).flat_map(part).collect()
                })
            }
            Op::Norm { x, centre, along, width, eps, gain, gain_offset, shift, .. } => {
                let width = *width as usize;
                let gain = gain.map_or(vec![1.0; width], |gain| {
                    self.vector(gain).iter().map(|gain| f64::from(*gain_offset) + gain).collect()
                });
                let shift = shift.map_or(vec![0.0; width], |shift| self.vector(shift).to_vec());
                self.by_group(*x, width, |group| {
                    let group = if *centre { self.centred(group, *along) } else { group.to_vec() };
                    let root = (dot(&group, &group) / width as f64 + f64::from(*eps)).sqrt();
                    group.iter().zip(&gain).zip(&shift).map(|((x, gain), shift)| x / root * gain + shift).collect()
                })
            }
            Op::Centre { x, along, width, .. } => {
                self.by_group(*x, *width as usize, |group| self.centred(group, *along))
            }
            Op::Gain { x, gain, offset, .. } => {
                let gain = self.vector(*gain);
                self.by_group(*x, gain.len(), |x| {
                    x.iter().zip(gain).map(|(x, gain)| x * (f64::from(*offset) + gain)).collect()
                })
            }
            Op::Shift { x, shift, .. } => {
                let shift = self.vector(*shift);
                self.by_group(*x, shift.len(), |x| x.iter().zip(shift).map(|(x, shift)| x + shift).collect())
            }
            Op::Rope { x, table, head_dim, .. } => {
                let table = &self.program.rope_tables[table.index()];
                let heads = |(position, row): (usize, &Vec<f64>)| -> Vec<f64> {
                    let frequencies = frequencies(table, self.lengths[position]);
                    let turn = |head| turned(head, position, table, &frequencies);
                    row.chunks_exact(*head_dim as usize).flat_map(turn).collect()
                };
                self.buffer(*x).iter().enumerate().map(heads).collect()
            }
            Op::Rotate { x, rotation, inverse, .. } => self.by_row(*x, |x| {
                let mut row = x.to_vec();
                self.rotations[rotation.index()].apply(&mut row, *inverse);
                row
            }),
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
                let at_least = |x: f64| low.map_or(x, |low| x.max(low.into()));
                self.by_element(*x, |x| high.map_or(at_least(x), |high| at_least(x).min(high.into())))
            }
            Op::Softcap { x, cap, .. } => self.by_element(*x, |x| capped(x, *cap)),
            Op::Softmax { x, width, .. } => self.by_group(*x, *width as usize, |x| {
                let largest = largest(x);
                let total: f64 = x.iter().map(|x| (x - largest).exp()).sum();
                x.iter().map(|x| (x - largest).exp() / total).collect()
            }),
            Op::NormalizeSum { x, width, .. } => self.by_group(*x, *width as usize, |x| {
                let total: f64 = x.iter().sum();
                x.iter().map(|x| x / total).collect()
            }),
            Op::TopK { x, k, .. } => self.by_row(*x, |row| {
                let mut numbers: Vec<usize> = (0..row.len()).collect();
                // Stable: of equal ones the lowest number comes first.
                numbers.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
                numbers[..*k as usize].iter().map(|&number| number as f64).collect()
            }),
            Op::Gather { x, choice, .. } => {
                self.by_row_and_choice(*x, *choice, |x, choice| choice.iter().map(|&at| x[at]).collect())
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
        let attend = |position: usize, row: &[f64], head: usize| -> Vec<f64> {
            let at = head / shared * head_dim..(head / shared + 1) * head_dim;
            let q = &row[head * head_dim..(head + 1) * head_dim];
            let first = (position + 1).saturating_sub(window);
            let score = |key: &Vec<f64>| {
                let score = f64::from(scale) * dot(q, &key[at.clone()]);
                softcap.map_or(score, |cap| capped(score, cap))
            };
            let scores: Vec<f64> = keys[first..=position].iter().map(score).collect();
            let sink = sinks.map_or(f64::NEG_INFINITY, |sinks| sinks[head]);
            let largest = largest(&scores).max(sink);
            let total: f64 = scores.iter().chain([&sink]).map(|score| (score - largest).exp()).sum();
            let mut sum = vec![0.0; head_dim];
            for (score, values) in scores.iter().zip(&values[first..=position]) {
                for (sum, value) in sum.iter_mut().zip(&values[at.clone()]) {
                    *sum += (score - largest).exp() / total * value;
                }
            }
            sum
        };
        let row = |(position, row): (usize, &Vec<f64>)| -> Vec<f64> {
            (0..heads).flat_map(|head| attend(position, row, head)).collect()
        };
        self.buffer(q).iter().enumerate().map(row).collect()
    }

    /// A group less its mean, or less its part along a vector.
    fn centred(&self, x: &[f64], along: Option<WeightId>) -> Vec<f64> {
        match along {
            None => {
                let mean = x.iter().sum::<f64>() / x.len() as f64;
                x.iter().map(|x| x - mean).collect()
            }
            Some(along) => {
                let along = self.vector(along);
                let part = dot(x, along);
                x.iter().zip(along).map(|(x, along)| x - part * along).collect()
            }
        }
    }

    fn buffer(&self, id: BufferId) -> &'a Table {
        &self.buffers[id.index()]
    }

    /// The rows of a weight; a vector is one row.
    fn rows(&self, id: WeightId) -> ChunksExact<'a, f64> {
        let columns = self.program.weights[id.index()].shape.last().map_or(1, |&columns| columns as usize);
        self.values[id.index()].chunks_exact(columns)
    }

    fn vector(&self, id: WeightId) -> &'a [f64] {
        &self.values[id.index()]
    }

    fn by_row(&self, x: BufferId, f: impl Fn(&[f64]) -> Vec<f64>) -> Table {
        self.buffer(x).iter().map(|row| f(row)).collect()
    }

    fn by_row_and_choice(&self, x: BufferId, choice: BufferId, f: impl Fn(&[f64], &[usize]) -> Vec<f64>) -> Table {
        let row = |(x, choice): (&Vec<f64>, &Vec<f64>)| {
            let choice: Vec<usize> = choice.iter().map(|&number| number as usize).collect();
            f(x, &choice)
        };
        self.buffer(x).iter().zip(self.buffer(choice)).map(row).collect()
    }

    fn by_element(&self, x: BufferId, f: impl Fn(f64) -> f64) -> Table {
        self.by_row(x, |row| row.iter().map(|&x| f(x)).collect())
    }

    fn by_group(&self, x: BufferId, width: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Table {
        self.by_row(x, |row| row.chunks_exact(width).flat_map(&f).collect())
    }

    fn by_pair(&self, a: BufferId, b: BufferId, f: impl Fn(f64, f64) -> f64) -> Table {
        let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect();
        self.buffer(a).iter().zip(self.buffer(b)).map(row).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn product(x: &[f64], weight: ChunksExact<'_, f64>, bias: Option<&[f64]>) -> Vec<f64> {
    let bias = |output: usize| bias.map_or(0.0, |bias| bias[output]);
    weight.enumerate().map(|(output, row)| dot(x, row) + bias(output)).collect()
}

/// A row of x, in f64 what [`lathe_kernels::ops::quantize_rows`] makes of it where it is rounded.
fn rounded(x: &[f64], input: Option<InputFormat>) -> Cow<'_, [f64]> {
    match input {
        None => Cow::Borrowed(x),
        Some(InputFormat::Int8PerToken) => {
            let scale = x.iter().fold(0.0, |largest: f64, x| largest.max(x.abs())) / 127.0;
            let round = |x: &f64| if scale == 0.0 { 0.0 } else { (x / scale).round_ties_even() * scale };
            Cow::Owned(x.iter().map(round).collect())
        }
    }
}

fn largest(x: &[f64]) -> f64 {
    x.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn capped(x: f64, cap: f32) -> f64 {
    f64::from(cap) * (x / f64::from(cap)).tanh()
}

fn unary(function: Unary, x: f64) -> f64 {
    match function {
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Gelu => x * 0.5 * libm::erfc(-x * FRAC_1_SQRT_2),
        Unary::GeluTanh => x / 2.0 * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh()),
        Unary::GeluQuick => x / (1.0 + (-1.702 * x).exp()),
        Unary::Relu => x.max(0.0),
        Unary::ReluSquared => x.max(0.0).powi(2),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Tanh => x.tanh(),
    }
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

fn turned(head: &[f64], position: usize, table: &RopeTable, frequencies: &[f64]) -> Vec<f64> {
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
