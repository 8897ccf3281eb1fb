//! Checks of what reads packed weights.

use super::cases::{Packed, Random, SPECIAL, Unaligned, sprinkled};
use super::{Comparison, both};
use crate::formats::{Format, Granularity, Matrix};
use crate::ops;

pub(super) fn embed(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(5);
    for format in super::formats() {
        for (rows, cols, tokens) in [
            (1, 0, 1),
            (1, 1, 0),
            (3, 7, 5),
            (5, 16, 4),
            (9, 33, 20),
            (7, 96, 9),
            (6, 198, 8),
            (5, 384, 6),
            (40, 1024, 50),
        ] {
            if format.constraints(rows, cols).is_err() {
                continue;
            }
            let table = Packed::new(format, rows, cols, sprinkled(&mut random, rows * cols).get());
            let first = rows as u32 / 3;
            let index: Vec<_> = (0..tokens).map(|_| (random.bits() % u64::from(rows as u32 - first)) as u32).collect();
            let (got, expected) = both(comparison, tokens * cols, |ops, out| {
                ops.embed(&table.matrix(), &index, first, out);
            });
            comparison.compare(&format!("{tokens} of {:?}", table.matrix()), &got, &expected, |_| 0.0);
        }
    }
}

/// Rows, outputs, inner: each around the blocks of all versions.
pub(super) const PRODUCTS: [(usize, usize, usize); 44] = [
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
    // Groups of 3, 6, 9, 16, 32 and 128: one, some, many.
    (1, 6, 18),
    (2, 5, 6),
    (1, 9, 32),
    (3, 7, 96),
    (4, 10, 48),
    (6, 13, 128),
    (1, 11, 640),
    (16, 5, 384),
    (1, 4, 2304),
    (18, 100, 384),
    (33, 9, 96),
    (20, 7, 198),
];

pub(super) fn matmul(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(6);
    for format in super::formats() {
        for (rows, outputs, inner) in PRODUCTS {
            if format.constraints(outputs, inner).is_ok() {
                let with_bias = random.bits().is_multiple_of(2);
                product(comparison, &mut random, format, [rows, outputs, inner], with_bias);
            }
        }
        for rows in [1, 40] {
            special_product(comparison, format, rows);
        }
    }
}

fn product(
    comparison: &mut Comparison<'_>,
    random: &mut Random,
    format: Format,
    [rows, outputs, inner]: [usize; 3],
    with_bias: bool,
) {
    let x = Unaligned::new(&random.values(rows * inner));
    let weight = Packed::new(format, outputs, inner, &random.values(outputs * inner));
    let bias = random.values(outputs);
    let bias = with_bias.then_some(bias.as_slice());
    let (got, expected) = both(comparison, rows * outputs, |ops, out| {
        ops.matmul(x.get(), &weight.matrix(), bias, out);
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

pub(super) fn expert_matmul(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(15);
    for format in super::formats() {
        expert_products(comparison, &mut random, format, false, |x, weight, bias, out| {
            ops::matmul_on(None, x, weight, bias, out);
        });
    }
}

/// Products of experts of one format, in integers or as they are, against `single` products of one row with one weight.
pub(super) fn expert_products(
    comparison: &mut Comparison<'_>,
    random: &mut Random,
    format: Format,
    int8: bool,
    single: Single,
) {
    for sizes in [
        [0, 2, 3, 4, 5],
        [1, 1, 1, 5, 9],
        [1, 4, 9, 300, 600],
        [3, 2, 4, 0, 7],
        [3, 2, 4, 7, 0],
        [40, 3, 5, 33, 20],
        [1, 2, 4, 9, 384],
        [20, 2, 4, 13, 96],
    ] {
        if format.constraints(sizes[3], sizes[4]).is_ok() {
            for each in [false, true] {
                expert_product(comparison, random, format, (int8, single), sizes, each);
            }
        }
    }
}

/// The reference of a product of one row with one weight.
type Single = fn(&[f32], &Matrix<'_>, Option<&[f32]>, &mut [f32]);

/// `each`: a row of `x` for each choice.
fn expert_product(
    comparison: &mut Comparison<'_>,
    random: &mut Random,
    format: Format,
    (int8, single): (bool, Single),
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
    let (got, expected) = both(comparison, rows * k * outputs, |ops, out| {
        let expert = |number: usize| (&weights[number], (number > 0).then_some(biases[number].as_slice()));
        if int8 {
            ops.expert_matmul_int8(x.get(), &choice, k, &expert, experts, out);
        } else {
            ops.expert_matmul(x.get(), &choice, k, &expert, experts, out);
        }
    });
    let case = format!("{rows} rows, {k} of {experts} experts {:?}, a row for each: {each}", weights.first());
    // |x|, |w| and |bias| are at most 1.
    comparison.compare(&case, &got, &expected, |_| inner as f64 + 1.0);
    // The reference itself, against products of single rows.
    for (pair, (&number, expected)) in choice.iter().zip(expected.chunks_exact(outputs.max(1))).enumerate() {
        let mut alone = vec![f32::NAN; outputs];
        let x = &x.get()[pair / sharing * inner..][..inner];
        let bias = (number > 0).then_some(biases[number as usize].as_slice());
        single(x, &weights[number as usize], bias, &mut alone);
        comparison.compare(&format!("{case}, pair {pair} of the reference"), expected, &alone, |_| 0.0);
    }
}

/// NaN and infinities stay in their row of `x` or their row of the weight; subnormals count.
fn special_product(comparison: &mut Comparison<'_>, format: Format, rows: usize) {
    let (outputs, inner) = (14, 48);
    if format.constraints(outputs, inner).is_err() {
        return;
    }
    // A scale that reaches a special value says little of the others of its group.
    let is_kept = format.parameters().granularity == Granularity::None;
    for (i, special) in SPECIAL.into_iter().enumerate() {
        let mut x = vec![0.5; rows * inner];
        let mut weight = vec![0.25; outputs * inner];
        x[(rows - 1) * inner + i] = special;
        weight[(i % outputs) * inner + 40] = if is_kept { special } else { -1.0 };
        let weight = Packed::new(format, outputs, inner, &weight);
        let (got, expected) = both(comparison, rows * outputs, |ops, out| {
            ops.matmul(&x, &weight.matrix(), None, out);
        });
        let case = format!("{rows} rows with {special:e} times {:?}", weight.matrix());
        comparison.compare(&case, &got, &expected, |i| f64::from(expected[i]).abs().max(1.0));
    }
}
