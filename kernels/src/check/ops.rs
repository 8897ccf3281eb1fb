//! The checks.

use super::cases::{LENGTHS, Packed, Random, SPECIAL, Unaligned};
use super::{Check, Comparison};
use crate::cpu::Vectors;
use crate::formats::{FORMATS, Format};
use crate::ops::{self, AttentionShape, Binary, Norm, Unary, accuracy};

/// Every op that has more than one version.
pub static CHECKS: &[Check] = &[
    Check { name: "embed", accuracy: accuracy::EMBED, body: embed },
    Check { name: "matmul", accuracy: accuracy::MATMUL, body: matmul },
    Check { name: "expert_matmul", accuracy: accuracy::EXPERT_MATMUL, body: expert_matmul },
    Check { name: "norm", accuracy: accuracy::NORM, body: norm },
    Check { name: "centre", accuracy: accuracy::CENTRE, body: centre },
    Check { name: "gain", accuracy: accuracy::GAIN, body: gain },
    Check { name: "shift", accuracy: accuracy::SHIFT, body: shift },
    Check { name: "unary", accuracy: accuracy::UNARY, body: unary },
    Check { name: "gated", accuracy: accuracy::GATED, body: gated },
    Check { name: "binary", accuracy: accuracy::BINARY, body: binary },
    Check { name: "affine", accuracy: accuracy::AFFINE, body: affine },
    Check { name: "softcap", accuracy: accuracy::SOFTCAP, body: softcap },
    Check { name: "softmax", accuracy: accuracy::SOFTMAX, body: softmax },
    Check { name: "combine", accuracy: accuracy::COMBINE, body: combine },
    Check { name: "attention", accuracy: accuracy::ATTENTION, body: attention },
];

/// Runs `op` on the vectors in question and on none, into outputs of `len` elements.
fn both(comparison: &Comparison, len: usize, op: impl Fn(Option<Vectors>, &mut [f32])) -> (Vec<f32>, Vec<f32>) {
    let run = |vectors| {
        let mut out = Unaligned::new(&vec![f32::NAN; len]);
        op(vectors, out.get_mut());
        out.get().to_vec()
    };
    (run(comparison.vectors), run(None))
}

/// Random values in which special ones are sprinkled.
fn sprinkled(random: &mut Random, len: usize) -> Unaligned {
    let mut values = random.values(len);
    for (i, value) in values.iter_mut().enumerate() {
        match random.bits() % 4 {
            0 => *value = SPECIAL[i % SPECIAL.len()],
            1 => *value *= 100.0,
            2 => *value *= 10.0,
            _ => {}
        }
    }
    Unaligned::new(&values)
}

/// What a function takes the exponential of, where that has to be computed.
fn exponent(function: Unary, x: f64) -> f64 {
    match function {
        Unary::Gelu => x * x / 2.0,
        Unary::GeluTanh => 2.0 * std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x.powi(3)),
        Unary::GeluQuick => 1.702 * x,
        Unary::Silu | Unary::Relu | Unary::ReluSquared | Unary::Sigmoid | Unary::Tanh => 0.0,
    }
}

fn unary(comparison: &mut Comparison) {
    let mut random = Random::new(1);
    for function in Unary::ALL {
        for len in LENGTHS {
            let x = sprinkled(&mut random, len);
            let (got, expected) = both(comparison, len, |vectors, out| ops::unary_on(vectors, function, x.get(), out));
            comparison.compare(&format!("{function:?} of {len} elements"), &got, &expected, |i| {
                f64::from(expected[i]).abs() * (1.0 + exponent(function, f64::from(x.get()[i])).abs())
            });
        }
    }
}

fn gated(comparison: &mut Comparison) {
    let mut random = Random::new(2);
    for function in Unary::ALL {
        for len in LENGTHS {
            let (gate, mut value) = (sprinkled(&mut random, len), sprinkled(&mut random, len));
            value.get_mut().iter_mut().filter(|value| value.is_infinite()).for_each(|value| *value = f32::MAX);
            let (got, expected) = both(comparison, len, |vectors, out| {
                ops::gated_on(vectors, function, gate.get(), value.get(), out);
            });
            comparison.compare(&format!("{function:?} of {len} elements"), &got, &expected, |i| {
                let factor = 1.0 + exponent(function, f64::from(gate.get()[i])).abs();
                (f64::from(expected[i]).abs() * factor).max(2f64.powi(-96) * f64::from(value.get()[i]).abs())
            });
        }
    }
}

fn binary(comparison: &mut Comparison) {
    let mut random = Random::new(3);
    for function in [Binary::Add, Binary::Sub, Binary::Mul] {
        for len in LENGTHS {
            let (a, b) = (sprinkled(&mut random, len), sprinkled(&mut random, len));
            let (got, expected) = both(comparison, len, |vectors, out| {
                ops::binary_on(vectors, function, a.get(), b.get(), out);
            });
            comparison.compare(&format!("{function:?} of {len} elements"), &got, &expected, |_| 0.0);
        }
    }
}

fn affine(comparison: &mut Comparison) {
    let mut random = Random::new(8);
    for (factor, offset) in [(1.0, 0.0), (0.3, -0.7), (-1.0e30, 1.0), (1.0e-30, -0.0)] {
        for len in LENGTHS {
            let x = sprinkled(&mut random, len);
            let (got, expected) = both(comparison, len, |vectors, out| {
                ops::affine_on(vectors, x.get(), factor, offset, out);
            });
            comparison.compare(&format!("{len} elements by {factor:e} and {offset:e}"), &got, &expected, |_| 0.0);
        }
    }
}

fn softcap(comparison: &mut Comparison) {
    let mut random = Random::new(9);
    for cap in [1.0e-3, 1.0, 30.0, 1.0e30] {
        for len in LENGTHS {
            let x = sprinkled(&mut random, len);
            let (got, expected) = both(comparison, len, |vectors, out| ops::softcap_on(vectors, x.get(), cap, out));
            comparison
                .compare(&format!("{len} elements, cap {cap:e}"), &got, &expected, |i| f64::from(expected[i]).abs());
        }
    }
}

/// Groups and their width, around the blocks of every instruction set.
const GROUPS: [(usize, usize); 9] =
    [(0, 4), (1, 1), (3, 7), (2, 16), (5, 33), (300, 128), (9, 4096), (2, 151), (40, 63)];

fn gain(comparison: &mut Comparison) {
    let mut random = Random::new(4);
    for (groups, width) in GROUPS {
        for offset in [0.0, 1.0] {
            let (x, gain) = (sprinkled(&mut random, groups * width), sprinkled(&mut random, width));
            let (got, expected) = both(comparison, groups * width, |vectors, out| {
                ops::gain_on(vectors, x.get(), gain.get(), offset, out);
            });
            comparison.compare(&format!("[{groups}, {width}], offset {offset}"), &got, &expected, |_| 0.0);
        }
    }
}

fn shift(comparison: &mut Comparison) {
    let mut random = Random::new(10);
    for (groups, width) in GROUPS {
        let (x, shift) = (sprinkled(&mut random, groups * width), sprinkled(&mut random, width));
        let (got, expected) = both(comparison, groups * width, |vectors, out| {
            ops::shift_on(vectors, x.get(), shift.get(), out);
        });
        comparison.compare(&format!("[{groups}, {width}]"), &got, &expected, |_| 0.0);
    }
}

/// Random groups, the first of which is scaled and moved.
fn groups_with_first(random: &mut Random, len: usize, width: usize, scale: f32, offset: f32) -> Unaligned {
    let mut values = random.values(len);
    values.iter_mut().take(width).for_each(|x| *x = *x * scale + offset);
    Unaligned::new(&values)
}

/// Scale and offset of the first group.
const FIRST: [(f32, f32); 7] =
    [(0.0, 0.0), (1.0e-30, 0.0), (1.0, 0.0), (1.0e15, 0.0), (1.0, 1000.0), (0.0, 3.0), (f32::NAN, 0.0)];

/// Mean of |x| in the group of element `i`.
fn mean_magnitude(x: &[f32], width: usize, i: usize) -> f64 {
    let group = &x[i / width * width..][..width];
    group.iter().map(|&x| f64::from(x).abs()).sum::<f64>() / width as f64
}

fn centre(comparison: &mut Comparison) {
    let mut random = Random::new(11);
    for (groups, width) in GROUPS {
        for (scale, offset) in FIRST {
            let x = groups_with_first(&mut random, groups * width, width, scale, offset);
            let (got, expected) = both(comparison, groups * width, |vectors, out| {
                ops::centre_on(vectors, x.get(), width, out);
            });
            let case = format!("[{groups}, {width}], first group by {scale:e} and {offset}");
            comparison
                .compare(&case, &got, &expected, |i| f64::from(x.get()[i]).abs() + mean_magnitude(x.get(), width, i));
        }
    }
}

fn norm(comparison: &mut Comparison) {
    let mut random = Random::new(12);
    for (groups, width) in GROUPS {
        for first in FIRST {
            for centre in [false, true] {
                let x = groups_with_first(&mut random, groups * width, width, first.0, first.1);
                let (gain, shift) = (Unaligned::new(&random.values(width)), Unaligned::new(&random.values(width)));
                for (gain, gain_offset, shift) in
                    [(None, 0.0, None), (Some(gain.get()), 0.0, None), (Some(gain.get()), 1.0, Some(shift.get()))]
                {
                    let norm = Norm { width, eps: 1.0e-6, centre, gain, gain_offset, shift };
                    norm_case(comparison, x.get(), &norm, first);
                }
            }
        }
    }
}

fn norm_case(comparison: &mut Comparison, x: &[f32], norm: &Norm<'_>, first: (f32, f32)) {
    let width = norm.width;
    let (got, expected) = both(comparison, x.len(), |vectors, out| ops::norm_on(vectors, x, norm, out));
    let case = format!("{} groups, first by {first:?}, {norm:?}", x.len() / width);
    let factor = |i: usize| {
        let group = x[i / width * width..][..width].iter().map(|&x| f64::from(x));
        let mean = if norm.centre { group.clone().sum::<f64>() / width as f64 } else { 0.0 };
        let variance = group.map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        1.0 / (variance + f64::from(norm.eps)).sqrt()
    };
    comparison.compare(&case, &got, &expected, |i| {
        let shift = norm.shift.map_or(0.0, |shift| f64::from(shift[i % width]));
        if norm.centre {
            let gain = norm.gain.map_or(1.0, |gain| f64::from(norm.gain_offset + gain[i % width]));
            let x = f64::from(x[i]).abs() + mean_magnitude(x, width, i);
            x * factor(i) * gain.abs() + shift.abs()
        } else {
            (f64::from(expected[i]) - shift).abs() + shift.abs()
        }
    });
}

fn softmax(comparison: &mut Comparison) {
    let mut random = Random::new(13);
    for (groups, width) in GROUPS {
        for scale in [0.0, 1.0, 100.0, f32::MAX] {
            for special in [0.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN] {
                let mut x = groups_with_first(&mut random, groups * width, width, scale, 0.0);
                x.get_mut().iter_mut().step_by(5).take(3).for_each(|x| *x = special);
                let (got, expected) = both(comparison, groups * width, |vectors, out| {
                    ops::softmax_on(vectors, x.get(), width, out);
                });
                let case = format!("[{groups}, {width}], first group by {scale:e} with {special}");
                comparison.compare(&case, &got, &expected, |i| {
                    let group = &x.get()[i / width * width..][..width];
                    let maximum = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    f64::from(expected[i]) * (1.0 + f64::from(maximum) - f64::from(x.get()[i]))
                });
            }
        }
    }
}

fn combine(comparison: &mut Comparison) {
    let mut random = Random::new(14);
    for (rows, k, width) in [(0, 2, 4), (3, 0, 5), (2, 3, 0), (1, 1, 1), (4, 2, 7), (3, 8, 33), (60, 4, 1000)] {
        let (x, weights) = (Unaligned::new(&random.values(rows * k * width)), random.values(rows * k));
        let (got, expected) = both(comparison, rows * width, |vectors, out| {
            ops::combine_on(vectors, x.get(), &weights, k, out);
        });
        comparison.compare(&format!("[{rows}, {k}, {width}]"), &got, &expected, |i| {
            let parts = weights[i / width * k..][..k].iter().enumerate();
            let part = |j: usize| x.get()[(i / width * k + j) * width + i % width];
            parts.map(|(j, &weight)| f64::from(weight * part(j)).abs()).sum()
        });
    }
}

fn embed(comparison: &mut Comparison) {
    let mut random = Random::new(5);
    for &format in FORMATS {
        for (rows, cols, tokens) in [(1, 0, 1), (1, 1, 0), (3, 7, 5), (5, 16, 4), (9, 33, 20), (40, 1024, 50)] {
            if format.constraints(rows, cols).is_err() {
                continue;
            }
            let table = Packed::new(format, rows, cols, sprinkled(&mut random, rows * cols).get());
            let first = rows as u32 / 3;
            let index: Vec<_> = (0..tokens).map(|_| (random.bits() % u64::from(rows as u32 - first)) as u32).collect();
            let (got, expected) = both(comparison, tokens * cols, |vectors, out| {
                ops::embed_on(vectors, &table.matrix(), &index, first, out);
            });
            comparison.compare(&format!("{tokens} of {:?}", table.matrix()), &got, &expected, |_| 0.0);
        }
    }
}

/// Rows, outputs, inner: each around the blocks of all versions.
const PRODUCTS: [(usize, usize, usize); 32] = [
    (0, 3, 4),
    (3, 0, 4),
    (3, 4, 0),
    (20, 4, 0),
    (20, 0, 4),
    (1, 1, 1),
    (1, 3, 7),
    (1, 4, 8),
    (1, 5, 9),
    (1, 64, 15),
    (1, 513, 256),
    (2, 9, 16),
    (3, 8, 17),
    (4, 12, 31),
    (5, 13, 33),
    (7, 96, 64),
    (15, 6, 100),
    (16, 7, 511),
    (17, 1, 1),
    (17, 11, 512),
    (18, 12, 513),
    (24, 13, 15),
    (25, 95, 16),
    (31, 96, 17),
    (32, 97, 33),
    (33, 193, 1025),
    (48, 5, 3),
    (64, 100, 200),
    (65, 24, 1536),
    (511, 3, 20),
    (513, 13, 40),
    (1100, 30, 70),
];

fn matmul(comparison: &mut Comparison) {
    let mut random = Random::new(6);
    for &format in FORMATS {
        for (rows, outputs, inner) in PRODUCTS {
            if format.constraints(outputs, inner).is_ok() {
                product(comparison, &mut random, format, [rows, outputs, inner], false);
                product(comparison, &mut random, format, [rows, outputs, inner], true);
            }
        }
        for rows in [1, 40] {
            special_product(comparison, format, rows);
        }
    }
}

fn product(
    comparison: &mut Comparison,
    random: &mut Random,
    format: &'static dyn Format,
    [rows, outputs, inner]: [usize; 3],
    with_bias: bool,
) {
    let x = Unaligned::new(&random.values(rows * inner));
    let weight = Packed::new(format, outputs, inner, &random.values(outputs * inner));
    let bias = random.values(outputs);
    let bias = with_bias.then_some(bias.as_slice());
    let (got, expected) = both(comparison, rows * outputs, |vectors, out| {
        ops::matmul_on(vectors, x.get(), &weight.matrix(), bias, out);
    });
    let decoded = weight.decoded();
    let case = format!("{rows} rows times {:?}, bias: {with_bias}", weight.matrix());
    comparison.compare(&case, &got, &expected, |i| {
        let (row, output) = (i / outputs, i % outputs);
        let pairs = x.get()[row * inner..(row + 1) * inner].iter().zip(&decoded[output * inner..(output + 1) * inner]);
        let bias = bias.map_or(0.0, |bias| f64::from(bias[output]).abs());
        bias + pairs.map(|(&x, &w)| (f64::from(x) * f64::from(w)).abs()).sum::<f64>()
    });
}

fn expert_matmul(comparison: &mut Comparison) {
    let mut random = Random::new(15);
    for &format in FORMATS {
        for (rows, k, experts, outputs, inner) in [
            (0, 2, 3, 4, 5),
            (1, 1, 1, 5, 9),
            (1, 4, 9, 300, 600),
            (3, 2, 4, 0, 7),
            (3, 2, 4, 7, 0),
            (40, 3, 5, 33, 20),
        ] {
            if format.constraints(outputs, inner).is_ok() {
                for each in [false, true] {
                    expert_product(comparison, &mut random, format, [rows, k, experts, outputs, inner], each);
                }
            }
        }
    }
}

/// `each`: a row of `x` for each choice.
fn expert_product(
    comparison: &mut Comparison,
    random: &mut Random,
    format: &'static dyn Format,
    [rows, k, experts, outputs, inner]: [usize; 5],
    each: bool,
) {
    let sharing = if each { 1 } else { k };
    let x = Unaligned::new(&random.values(rows * k / sharing * inner));
    let choice: Vec<_> = (0..rows * k).map(|_| (random.bits() % experts as u64) as u32).collect();
    let packed: Vec<_> =
        (0..experts).map(|_| Packed::new(format, outputs, inner, &random.values(outputs * inner))).collect();
    let weights: Vec<_> = packed.iter().map(Packed::matrix).collect();
    let biases: Vec<_> = (0..experts).map(|_| random.values(outputs)).collect();
    let (got, expected) = both(comparison, rows * k * outputs, |vectors, out| {
        let expert = |number: usize| (&weights[number], (number > 0).then_some(biases[number].as_slice()));
        ops::expert_matmul_on(vectors, x.get(), &choice, k, expert, experts, out);
    });
    let case = format!("{rows} rows, {k} of {experts} experts {:?}, a row for each: {each}", weights.first());
    // |x|, |w| and |bias| are at most 1.
    comparison.compare(&case, &got, &expected, |_| inner as f64 + 1.0);
    // The reference itself, against products of single rows.
    for (pair, (&number, expected)) in choice.iter().zip(expected.chunks_exact(outputs.max(1))).enumerate() {
        let mut single = vec![f32::NAN; outputs];
        let x = &x.get()[pair / sharing * inner..][..inner];
        let bias = (number > 0).then_some(biases[number as usize].as_slice());
        ops::matmul_on(None, x, &weights[number as usize], bias, &mut single);
        comparison.compare(&format!("{case}, pair {pair} of the reference"), expected, &single, |_| 0.0);
    }
}

/// NaN and infinities stay in their row of `x` or their row of the weight; subnormals count.
fn special_product(comparison: &mut Comparison, format: &'static dyn Format, rows: usize) {
    let (outputs, inner) = (14, 48);
    if format.constraints(outputs, inner).is_err() {
        return;
    }
    for (i, special) in SPECIAL.into_iter().enumerate() {
        let mut x = vec![0.5; rows * inner];
        let mut weight = vec![0.25; outputs * inner];
        x[(rows - 1) * inner + i] = special;
        weight[(i % outputs) * inner + 40] = special;
        let weight = Packed::new(format, outputs, inner, &weight);
        let (got, expected) = both(comparison, rows * outputs, |vectors, out| {
            ops::matmul_on(vectors, &x, &weight.matrix(), None, out);
        });
        let case = format!("{rows} rows with {special:e} times {:?}", weight.matrix());
        comparison.compare(&case, &got, &expected, |i| f64::from(expected[i]).abs().max(1.0));
    }
}

/// What a case of attention is made of.
#[derive(Clone, Copy)]
struct AttentionCase {
    shape: AttentionShape,
    sinks: bool,
    tokens: usize,
    past: usize,
    capacity: usize,
}

fn attention_cases() -> Vec<AttentionCase> {
    let case = |heads, kv_heads, head_dim, window, tokens, past, spare| AttentionCase {
        shape: AttentionShape { heads, kv_heads, head_dim, scale: (head_dim as f32).powf(-0.5), window, softcap: None },
        sinks: false,
        tokens,
        past,
        capacity: tokens + past + spare,
    };
    let plain = [
        case(1, 1, 1, None, 1, 0, 0),
        case(2, 1, 8, None, 0, 3, 0),
        case(2, 1, 7, None, 3, 5, 2),
        case(4, 4, 16, None, 17, 0, 0),
        case(7, 1, 20, None, 5, 63, 1),
        case(8, 2, 33, Some(1), 9, 4, 0),
        case(8, 2, 64, Some(5), 70, 0, 3),
        case(12, 4, 80, Some(64), 3, 200, 0),
        case(14, 2, 64, None, 1, 64, 7),
        case(14, 2, 64, None, 1, 1000, 0),
        case(6, 3, 128, None, 40, 129, 0),
        case(32, 4, 64, Some(100), 33, 300, 5),
    ];
    let variants =
        plain.into_iter().flat_map(|case| {
            [(None, false), (Some(0.5), false), (Some(30.0), true), (None, true)].map(|(softcap, sinks)| {
                AttentionCase { shape: AttentionShape { softcap, ..case.shape }, sinks, ..case }
            })
        });
    variants.collect()
}

fn attention(comparison: &mut Comparison) {
    let mut random = Random::new(7);
    for case in attention_cases() {
        let AttentionCase { shape, sinks, tokens, past, capacity } = case;
        let q = Unaligned::new(&random.values(tokens * shape.heads * shape.head_dim));
        let cache_len = shape.kv_heads * capacity * shape.head_dim;
        let (mut keys, mut values) = (random.values(cache_len), random.values(cache_len));
        // What is behind the last position must not be read.
        for cache in [&mut keys, &mut values] {
            for head in cache.chunks_exact_mut((capacity * shape.head_dim).max(1)) {
                head[(past + tokens) * shape.head_dim..].fill(f32::NAN);
            }
        }
        let (keys, values) = (Unaligned::new(&keys), Unaligned::new(&values));
        let sinks = sinks.then(|| random.values(shape.heads).iter().map(|sink| sink * 5.0).collect::<Vec<_>>());
        let (got, expected) = both(comparison, q.get().len(), |vectors, out| {
            let (keys, values, sinks) = (keys.get(), values.get(), sinks.as_deref());
            ops::attention_on(vectors, &shape, q.get(), keys, values, sinks, capacity, past, out);
        });
        // |q|, |k|, |v| ≤ 1: a score is at most the root of the width.
        let magnitude = 1.0 + f64::from(shape.head_dim as u32).sqrt();
        let case = format!("{tokens} tokens behind {past}, {shape:?}, sinks {sinks:?}");
        comparison.compare(&case, &got, &expected, |_| magnitude);
    }
    attention_special(comparison, &mut random);
}

/// A NaN value is seen by later tokens of its heads only; large scores do not overflow.
fn attention_special(comparison: &mut Comparison, random: &mut Random) {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, scale: 1.0, window: Some(10), softcap: None };
    let (tokens, capacity) = (30, 30);
    let q: Vec<_> = random.values(tokens * 64).iter().map(|q| q * 1000.0).collect();
    let keys = random.values(2 * capacity * 16);
    let mut values = random.values(2 * capacity * 16);
    values[12 * 16 + 3] = f32::NAN;
    let (got, expected) = both(comparison, q.len(), |vectors, out| {
        ops::attention_on(vectors, &shape, &q, &keys, &values, None, capacity, 0, out);
    });
    comparison.compare("a NaN value", &got, &expected, |_| 16_000.0);
}
