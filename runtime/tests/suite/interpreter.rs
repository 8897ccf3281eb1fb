//! What a program means: every step for the whole sequence at once, in f64, without caches.

use lathe_runtime::program::{Binary, BufferId, Op, Program, RopePairing, RopeTable, Rows, Unary, WeightId};

/// Rows of a buffer.
type Table = Vec<Vec<f64>>;

/// The logits of every token, `[tokens, vocabulary]`. `values` are those of the weights, row-major.
pub(crate) fn logits(program: &Program, values: &[Vec<f32>], tokens: &[u32]) -> Table {
    let mut buffers: Vec<Table> = vec![Table::new(); program.buffers.len()];
    let matrix = |id: WeightId| -> Table {
        let columns = *program.weights[id.index()].shape.last().unwrap() as usize;
        let row = |row: &[f32]| row.iter().map(|&value| f64::from(value)).collect();
        values[id.index()].chunks_exact(columns).map(row).collect()
    };
    let vector = |id: WeightId| matrix(id).remove(0);
    for step in &program.steps {
        let buffer = |id: BufferId| &buffers[id.index()];
        let by_element = |x: &Table, f: &dyn Fn(f64) -> f64| -> Table {
            x.iter().map(|row| row.iter().map(|&x| f(x)).collect()).collect()
        };
        let by_pair = |a: &Table, b: &Table, f: &dyn Fn(f64, f64) -> f64| -> Table {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()).collect()
        };
        let result: Table = match &step.op {
            Op::Embed { table, .. } => {
                let table = matrix(*table);
                tokens.iter().map(|&token| table[token as usize].clone()).collect()
            }
            Op::MatMul { x, weight, bias, .. } => {
                let weight = matrix(*weight);
                let bias = bias.map_or(vec![0.0; weight.len()], vector);
                let product = |x: &Vec<f64>| weight.iter().zip(&bias).map(|(row, bias)| dot(x, row) + bias).collect();
                buffer(*x).iter().map(product).collect()
            }
            Op::RmsNorm { x, gain, width, eps, .. } => {
                let width = *width as usize;
                let gain = gain.map_or(vec![1.0; width], vector);
                let norm = |group: &[f64]| -> Vec<f64> {
                    let root = (dot(group, group) / width as f64 + f64::from(*eps)).sqrt();
                    group.iter().zip(&gain).map(|(x, gain)| x / root * gain).collect()
                };
                buffer(*x).iter().map(|row| row.chunks_exact(width).flat_map(norm).collect()).collect()
            }
            Op::Gain { x, gain, .. } => {
                let gain = vector(*gain);
                buffer(*x).iter().map(|row| row.iter().zip(gain.iter().cycle()).map(|(x, g)| x * g).collect()).collect()
            }
            Op::Rope { x, table, head_dim, .. } => {
                let table = &program.rope_tables[table.index()];
                let heads = |(position, row): (usize, &Vec<f64>)| -> Vec<f64> {
                    row.chunks_exact(*head_dim as usize).flat_map(|head| rotate(head, position, table)).collect()
                };
                buffer(*x).iter().enumerate().map(heads).collect()
            }
            Op::Attention { q, k, v, cache, heads, scale, window, .. } => {
                let cache = &program.caches[cache.index()];
                let (heads, head_dim) = (*heads as usize, cache.head_dim as usize);
                let shared = heads / cache.heads as usize;
                let window = window.map_or(usize::MAX, |window| window as usize);
                let (keys, values) = (buffer(*k), buffer(*v));
                let attend = |(position, row): (usize, &Vec<f64>)| -> Vec<f64> {
                    let first = (position + 1).saturating_sub(window);
                    (0..heads)
                        .flat_map(|head| {
                            let q = &row[head * head_dim..(head + 1) * head_dim];
                            let at = head / shared * head_dim..(head / shared + 1) * head_dim;
                            let seen = first..=position;
                            let weight = |p: usize| (f64::from(*scale) * dot(q, &keys[p][at.clone()])).exp();
                            let total: f64 = seen.clone().map(weight).sum();
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
                buffer(*q).iter().enumerate().map(attend).collect()
            }
            Op::Unary { function: Unary::Silu, x, .. } => by_element(buffer(*x), &silu),
            Op::Binary { function: Binary::Add, a, b, .. } => by_pair(buffer(*a), buffer(*b), &|a, b| a + b),
            Op::Binary { function: Binary::Mul, a, b, .. } => by_pair(buffer(*a), buffer(*b), &|a, b| a * b),
            Op::Gated { function: Unary::Silu, gate, value, .. } => {
                by_pair(buffer(*gate), buffer(*value), &|gate, value| silu(gate) * value)
            }
            Op::Select { x, .. } => buffer(*x).clone(),
        };
        let shape = &program.buffers[step.op.out().index()];
        assert!(result.len() == tokens.len() && result[0].len() == shape.width as usize, "{}", step.label);
        buffers[step.op.out().index()] = result;
    }
    assert_eq!(program.buffers[program.output.index()].rows, Rows::Selected);
    buffers.swap_remove(program.output.index())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn rotate(head: &[f64], position: usize, table: &RopeTable) -> Vec<f64> {
    let mut out = head.to_vec();
    let pairs = table.inverse_frequencies.len();
    for (pair, &frequency) in table.inverse_frequencies.iter().enumerate() {
        let (a, b) = match table.pairing {
            RopePairing::Half => (pair, pair + pairs),
            RopePairing::Interleaved => (2 * pair, 2 * pair + 1),
        };
        let (sin, cos) = (position as f64 * f64::from(frequency)).sin_cos();
        let amplitude = f64::from(table.amplitude);
        out[a] = amplitude * (head[a] * cos - head[b] * sin);
        out[b] = amplitude * (head[a] * sin + head[b] * cos);
    }
    out
}
