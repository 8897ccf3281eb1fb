//! The checks.

use super::cases::{LENGTHS, Packed, Random, SPECIAL, Unaligned};
use super::{Check, Comparison};
use crate::cpu::Vectors;
use crate::formats::{FORMATS, Format};
use crate::ops::{self, AttentionShape, accuracy};

/// Every op that has more than one version.
pub static CHECKS: &[Check] = &[
    Check { name: "embed", accuracy: accuracy::EMBED, body: embed },
    Check { name: "matmul", accuracy: accuracy::MATMUL, body: matmul },
    Check { name: "rms_norm", accuracy: accuracy::RMS_NORM, body: rms_norm },
    Check { name: "gain", accuracy: accuracy::GAIN, body: gain },
    Check { name: "silu", accuracy: accuracy::SILU, body: silu },
    Check { name: "silu_mul", accuracy: accuracy::SILU_MUL, body: |c| binary(c, ops::silu_mul_on, 2f64.powi(-96)) },
    Check { name: "add", accuracy: accuracy::ADD, body: |c| binary(c, ops::add_on, 0.0) },
    Check { name: "mul", accuracy: accuracy::MUL, body: |c| binary(c, ops::mul_on, 0.0) },
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
            _ => {}
        }
    }
    Unaligned::new(&values)
}

fn silu(comparison: &mut Comparison) {
    let mut random = Random::new(1);
    for len in LENGTHS {
        let x = sprinkled(&mut random, len);
        let (got, expected) = both(comparison, len, |vectors, out| ops::silu_on(vectors, x.get(), out));
        comparison.compare(&format!("{len} elements"), &got, &expected, |i| f64::from(expected[i]).abs());
    }
}

type BinaryOp = fn(Option<Vectors>, &[f32], &[f32], &mut [f32]);

/// The magnitude is that of the result, or `floor` of the right operand where larger; with a floor, that operand is not
/// infinite.
fn binary(comparison: &mut Comparison, op: BinaryOp, floor: f64) {
    let mut random = Random::new(2);
    for len in LENGTHS {
        let (a, mut b) = (sprinkled(&mut random, len), sprinkled(&mut random, len));
        if floor > 0.0 {
            b.get_mut().iter_mut().filter(|b| b.is_infinite()).for_each(|b| *b = f32::MAX);
        }
        let (got, expected) = both(comparison, len, |vectors, out| op(vectors, a.get(), b.get(), out));
        comparison.compare(&format!("{len} elements"), &got, &expected, |i| {
            f64::from(expected[i]).abs().max(floor * f64::from(b.get()[i]).abs())
        });
    }
}

fn gain(comparison: &mut Comparison) {
    let mut random = Random::new(3);
    for (groups, width) in [(0, 4), (1, 1), (3, 7), (2, 16), (5, 33), (300, 128), (3, 40_001)] {
        let (x, gain) = (sprinkled(&mut random, groups * width), sprinkled(&mut random, width));
        let (got, expected) =
            both(comparison, groups * width, |vectors, out| ops::gain_on(vectors, x.get(), gain.get(), out));
        comparison.compare(&format!("[{groups}, {width}]"), &got, &expected, |_| 0.0);
    }
}

fn rms_norm(comparison: &mut Comparison) {
    let mut random = Random::new(4);
    for (groups, width) in [(0, 4), (1, 1), (3, 7), (2, 16), (5, 33), (300, 128), (9, 4096)] {
        for scale in [0.0, 1.0e-30, 1.0, 1.0e15, f32::NAN] {
            for with_gain in [false, true] {
                let mut values = random.values(groups * width);
                values.iter_mut().take(width).for_each(|x| *x *= scale);
                let (x, gain) = (Unaligned::new(&values), Unaligned::new(&random.values(width)));
                let gain = with_gain.then_some(gain.get());
                let (got, expected) = both(comparison, groups * width, |vectors, out| {
                    ops::rms_norm_on(vectors, x.get(), gain, width, 1.0e-6, out);
                });
                let case = format!("[{groups}, {width}], first group by {scale:e}, gain: {with_gain}");
                comparison.compare(&case, &got, &expected, |i| f64::from(expected[i]).abs());
            }
        }
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
            let ids: Vec<_> = (0..tokens).map(|_| (random.bits() % rows as u64) as u32).collect();
            let (got, expected) = both(comparison, tokens * cols, |vectors, out| {
                ops::embed_on(vectors, &table.matrix(), &ids, out);
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
struct AttentionCase {
    shape: AttentionShape,
    tokens: usize,
    past: usize,
    capacity: usize,
}

fn attention_cases() -> Vec<AttentionCase> {
    let case = |heads, kv_heads, head_dim, window, tokens, past, spare| AttentionCase {
        shape: AttentionShape { heads, kv_heads, head_dim, scale: (head_dim as f32).powf(-0.5), window },
        tokens,
        past,
        capacity: tokens + past + spare,
    };
    vec![
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
    ]
}

fn attention(comparison: &mut Comparison) {
    let mut random = Random::new(7);
    for case in attention_cases() {
        let AttentionCase { shape, tokens, past, capacity } = case;
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
        let (got, expected) = both(comparison, q.get().len(), |vectors, out| {
            ops::attention_on(vectors, &shape, q.get(), keys.get(), values.get(), capacity, past, out);
        });
        // |q|, |k|, |v| ≤ 1: a score is at most the root of the width.
        let magnitude = 1.0 + f64::from(shape.head_dim as u32).sqrt();
        let case = format!("{tokens} tokens behind {past}, {shape:?}");
        comparison.compare(&case, &got, &expected, |_| magnitude);
    }
    attention_special(comparison, &mut random);
}

/// A NaN value is seen by later tokens of its heads only; large scores do not overflow.
fn attention_special(comparison: &mut Comparison, random: &mut Random) {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, scale: 1.0, window: Some(10) };
    let (tokens, capacity) = (30, 30);
    let q: Vec<_> = random.values(tokens * 64).iter().map(|q| q * 1000.0).collect();
    let keys = random.values(2 * capacity * 16);
    let mut values = random.values(2 * capacity * 16);
    values[12 * 16 + 3] = f32::NAN;
    let (got, expected) = both(comparison, q.len(), |vectors, out| {
        ops::attention_on(vectors, &shape, &q, &keys, &values, capacity, 0, out);
    });
    comparison.compare("a NaN value", &got, &expected, |_| 16_000.0);
}
