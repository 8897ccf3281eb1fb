//! Checks of rotations.

use super::cases::{Random, Unaligned};
use super::{Comparison, both};
use crate::rotations::{Kind, Rotation};

/// Widths of Hadamard matrices: within a vector, with every kind of base, with axes that are shorter and longer than two
/// vectors, and with several bases.
const HADAMARD: [usize; 22] =
    [1, 2, 4, 8, 12, 16, 20, 28, 32, 36, 64, 76, 80, 96, 128, 144, 176, 304, 512, 1376, 1728, 7392];

/// Widths of other matrices.
const OTHERS: [usize; 9] = [1, 2, 3, 8, 17, 32, 64, 100, 300];

/// Numbers of blocks.
const BLOCKS: [usize; 4] = [0, 1, 5, 37];

pub(super) fn hadamard(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(15);
    for width in HADAMARD {
        let known = "a width with a Hadamard matrix";
        for rotation in [Rotation::hadamard(width).expect(known), Rotation::random_hadamard(width, 3).expect(known)] {
            rotate(comparison, &mut random, &rotation, |x, _| {
                let sum: f64 = x.iter().map(|&x| f64::from(x).abs()).sum();
                vec![sum / (width as f64).sqrt(); width]
            });
        }
    }
}

pub(super) fn orthogonal(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(16);
    for width in OTHERS {
        let rotation = Rotation::orthogonal(width, 3).expect("a small width");
        rotate(comparison, &mut random, &rotation, |x, _| {
            vec![x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt(); width]
        });
    }
}

pub(super) fn matrix(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(17);
    for width in OTHERS {
        let mut rows: Vec<_> = (0..width * width).map(|i| if i % (width + 1) == 0 { 1.0 } else { 0.0 }).collect();
        Rotation::orthogonal(width, 4).expect("a small width").apply(&mut rows, false);
        let values = rows.iter().map(|&value| value as f32).collect();
        let rotation = Rotation::matrix(width, values).expect("an orthogonal matrix");
        rotate(comparison, &mut random, &rotation, |x, inverse| {
            let entry = |i: usize, j: usize| if inverse { rows[j * width + i] } else { rows[i * width + j] };
            let terms = |j: usize| x.iter().enumerate().map(move |(i, &x)| (f64::from(x) * entry(i, j)).abs());
            (0..width).map(|j| terms(j).sum()).collect()
        });
    }
}

/// Compares both directions; `magnitudes` are those of a block and a direction.
fn rotate(
    comparison: &mut Comparison<'_>,
    random: &mut Random,
    rotation: &Rotation,
    magnitudes: impl Fn(&[f32], bool) -> Vec<f64>,
) {
    let width = rotation.width();
    for blocks in BLOCKS {
        let mut values = random.values(blocks * width);
        for (block, scale) in values.chunks_exact_mut(width).zip([1.0, 0.0, 1.0e-30, 1.0e30]) {
            for x in block {
                *x *= scale;
            }
        }
        if blocks > 5 && matches!(rotation.kind(), Kind::Hadamard { .. }) {
            values[5 * width] = f32::NAN;
            values[7 * width - 1] = f32::NEG_INFINITY;
        }
        let x = Unaligned::new(&values);
        for inverse in [false, true] {
            let (got, expected) = both(comparison, values.len(), |ops, out| {
                ops.rotate(x.get(), rotation, inverse, out);
            });
            let magnitudes: Vec<_> = x.get().chunks_exact(width).flat_map(|block| magnitudes(block, inverse)).collect();
            let case = format!("{blocks} blocks by {rotation:?}{}", if inverse { ", inverse" } else { "" });
            comparison.compare(&case, &got, &expected, |i| magnitudes[i]);
        }
    }
}
