//! Checks of what rounds rows to int8 and multiplies them.

use super::cases::{LENGTHS, Packed, Random, SPECIAL, Unaligned, sprinkled};
use super::products::{PRODUCTS, expert_products};
use super::{Comparison, both};
use crate::formats::Format;
use crate::ops::{self, MAX_INT8_INNER};

const FORMATS: [&str; 3] = ["int8(per: channel)", "int8(per: channel, scales: f16)", "int8(per: channel, scales: f32)"];

fn formats() -> impl Iterator<Item = Format> {
    FORMATS.into_iter().map(|text| text.parse().expect("the text of a format"))
}

pub(super) fn quantize_rows(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(21);
    for width in LENGTHS {
        let finite: Vec<f32> = SPECIAL.into_iter().filter(|x| x.is_finite()).collect();
        let mut row = |make: &mut dyn FnMut(usize, &mut Random) -> f32| -> Vec<f32> {
            (0..width).map(|i| make(i, &mut random)).collect()
        };
        let rows = [
            row(&mut |_, random| random.value()),
            row(&mut |_, random| 1e30 * random.value()),
            // In the middle between two codes, where the scale is 1.
            row(&mut |i, random| if i == 0 { -127.0 } else { (126.0 * random.value()).trunc() + 0.5 }),
            row(&mut |i, _| finite[i % finite.len()]),
            // Scales that are subnormal, or 0.
            row(&mut |_, random| 3e-43 * random.value()),
            row(&mut |_, random| 1e-44 * random.value()),
            row(&mut |i, _| if i % 2 == 0 { 0.0 } else { -0.0 }),
            vec![-0.0; width],
        ];
        compare_rows(comparison, &rows.concat(), width);
        compare_rows(comparison, sprinkled(&mut random, 7 * width).get(), width);
        if width > 0 {
            for special in SPECIAL {
                let mut row = vec![0.25; width];
                row[width - 1] = special;
                compare_rows(comparison, &row, width);
            }
        }
    }
}

fn compare_rows(comparison: &mut Comparison<'_>, x: &[f32], width: usize) {
    let rows = x.len().checked_div(width).unwrap_or(0);
    let x = Unaligned::new(x);
    // Codes first, then scales.
    let (got, expected) = both(comparison, x.get().len() + rows, |ops, out| {
        let (codes, scales) = out.split_at_mut(x.get().len());
        let mut integers = vec![99; codes.len() + 1];
        ops.quantize_rows(x.get(), width, &mut integers[1..], scales);
        for (code, integer) in codes.iter_mut().zip(&integers[1..]) {
            *code = f32::from(*integer);
        }
    });
    comparison.compare(&format!("{rows} rows of {width}"), &got, &expected, |_| 0.0);
}

pub(super) fn matmul_int8(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(22);
    for format in formats() {
        for (rows, outputs, inner) in PRODUCTS {
            let codes: Vec<i8> = (0..rows * inner).map(|_| (random.bits() % 255) as u8 as i8).collect();
            let mut scales = random.values(rows);
            for (scale, special) in scales.iter_mut().zip(SPECIAL).step_by(3) {
                *scale = special;
            }
            let weight = Packed::new(format, outputs, inner, &random.values(outputs * inner));
            let bias = random.values(outputs);
            let bias = random.bits().is_multiple_of(2).then_some(bias.as_slice());
            let (got, expected) = both(comparison, rows * outputs, |ops, out| {
                ops.matmul_int8(&codes, &scales, &weight.matrix(), bias, out);
            });
            let case = format!("{rows} rows times {:?}, bias: {}", weight.matrix(), bias.is_some());
            comparison.compare(&case, &got, &expected, |_| 0.0);
        }
    }
    largest_sums(comparison);
}

/// The longest rows of the largest codes.
fn largest_sums(comparison: &mut Comparison<'_>) {
    let inner = MAX_INT8_INNER;
    let format = formats().last().expect("a format");
    for sign in [1, -1] {
        let codes = vec![127 * sign; 5 * inner];
        let weight = Packed::new(format, 2, inner, &vec![-1.0; 2 * inner]);
        let (got, expected) = both(comparison, 10, |ops, out| {
            ops.matmul_int8(&codes, &[1.0; 5], &weight.matrix(), None, out);
        });
        comparison.compare("largest sums", &got, &expected, |_| 0.0);
        let (weights, scales) = (weight.matrix().plane(0), weight.matrix().plane(1));
        let sum: i64 = weights[..inner].iter().map(|&byte| i64::from(127 * sign) * i64::from(byte as i8)).sum();
        let exact = sum as f32 * f32::from_le_bytes(*scales.first_chunk().expect("scales of f32"));
        comparison.compare("largest sums, exactly", &expected, &[exact; 10], |_| 0.0);
    }
}

pub(super) fn expert_matmul_int8(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(23);
    for format in formats() {
        expert_products(comparison, &mut random, format, true, |x, weight, bias, out| {
            let (mut codes, mut scales) = (vec![0; x.len()], [0.0]);
            ops::quantize_rows_on(None, x, x.len(), &mut codes, &mut scales);
            ops::matmul_int8_on(None, &codes, &scales, weight, bias, out);
        });
    }
}
