//! What rotations do, against their matrices.

use super::*;
use crate::check::Random;
use crate::cpu::Isa;

fn values(random: &mut Random, len: usize) -> Vec<f64> {
    (0..len).map(|_| f64::from(random.value())).collect()
}

/// Q, row by row: what the rotation makes of the unit vectors.
fn matrix(rotation: &Rotation) -> Vec<f64> {
    let width = rotation.width();
    let mut rows: Vec<_> = (0..width * width).map(|i| f64::from(u8::from(i % (width + 1) == 0))).collect();
    rotation.apply(&mut rows, false);
    rows
}

/// `x M`, M with the entries of `entry`.
fn product(x: &[f64], entry: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..x.len()).map(|j| x.iter().enumerate().map(|(i, x)| x * entry(i, j)).sum()).collect()
}

fn assert_close(case: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() < 1e-12, "{case}, element {i}: {got} instead of {expected}");
    }
}

/// Rotations of every form and of widths that vectors divide and others.
fn rotations() -> Vec<Rotation> {
    let hadamard = [1, 2, 4, 8, 12, 20, 28, 96, 144].map(|width| Rotation::hadamard(width).unwrap());
    let random = [1, 2, 12, 64, 80].map(|width| Rotation::random_hadamard(width, 7).unwrap());
    let orthogonal = [1, 2, 3, 17, 64].map(|width| Rotation::orthogonal(width, 5).unwrap());
    let dense = [1, 3, 6, 33].map(|width| {
        let rows = matrix(&Rotation::orthogonal(width, 9).unwrap());
        Rotation::matrix(width, rows.iter().map(|&value| value as f32).collect()).unwrap()
    });
    hadamard.into_iter().chain(random).chain(orthogonal).chain(dense).collect()
}

#[test]
fn hadamard_rotations_are_signs_times_a_matrix() {
    let mut random = Random::new(1);
    for (width, signs) in [(2, false), (4, true), (12, true), (20, false), (24, true), (144, true), (80, true)] {
        let signs: Option<Arc<[bool]>> = signs.then(|| (0..width).map(|_| random.bits() % 2 == 1).collect());
        let rotation = Rotation::with_signs(width, signs.clone()).unwrap();
        let construction = Construction::of(width).unwrap();
        let entry = |i: usize, j: usize| {
            let sign = if signs.as_ref().is_some_and(|signs| signs[i]) { -1.0 } else { 1.0 };
            sign * f64::from(construction.entry(i, j)) / (width as f64).sqrt()
        };
        let x = values(&mut random, width);
        let (mut forward, mut backward) = (x.clone(), x.clone());
        rotation.apply(&mut forward, false);
        rotation.apply(&mut backward, true);
        assert_close(&format!("{construction}"), &forward, &product(&x, entry));
        assert_close(&format!("{construction}, inverse"), &backward, &product(&x, |i, j| entry(j, i)));
    }
}

#[test]
fn dense_rotations_are_their_matrices() {
    let mut random = Random::new(2);
    for rotation in rotations() {
        let Kind::Matrix { values: entries } = rotation.kind() else { continue };
        let width = rotation.width();
        let x = values(&mut random, width);
        let (mut forward, mut backward) = (x.clone(), x.clone());
        rotation.apply(&mut forward, false);
        rotation.apply(&mut backward, true);
        assert_close("forward", &forward, &product(&x, |i, j| f64::from(entries[i * width + j])));
        assert_close("inverse", &backward, &product(&x, |i, j| f64::from(entries[j * width + i])));
    }
}

#[test]
fn the_inverse_takes_a_rotation_back() {
    let mut random = Random::new(3);
    for rotation in rotations() {
        let x = values(&mut random, rotation.width() * 11);
        let mut turned = x.clone();
        rotation.apply(&mut turned, false);
        rotation.apply(&mut turned, true);
        let back: Vec<_> = turned.iter().zip(&x).map(|(turned, x)| (turned - x).abs()).collect();
        let allowed = if matches!(rotation.kind(), Kind::Matrix { .. }) { 1e-5 } else { 1e-12 };
        assert!(back.iter().all(|&error| error < allowed), "{rotation:?}: {back:?}");
    }
}

/// Whatever stands beside a vector, as a row or as a column, on every instruction set: to the bit.
#[test]
fn a_vector_comes_out_the_same_everywhere() {
    let mut random = Random::new(4);
    for rotation in rotations() {
        let (width, count) = (rotation.width(), 19);
        let rows = values(&mut random, width * count);
        for inverse in [false, true] {
            let mut alone = rows.clone();
            alone.chunks_exact_mut(width).for_each(|row| rotation.apply_on(None, row, inverse));
            for isa in Isa::ALL {
                let mut together = rows.clone();
                rotation.apply_on(Vectors::of(isa), &mut together, inverse);
                assert_eq!(together, alone, "rows of {rotation:?} on {isa}");
            }
            let mut columns: Vec<_> = (0..rows.len()).map(|i| rows[i % count * width + i / count]).collect();
            rotation.apply_to_columns(&mut columns, count, inverse);
            let back: Vec<_> = (0..rows.len()).map(|i| columns[i % width * count + i / width]).collect();
            assert_eq!(back, alone, "columns of {rotation:?}");
        }
    }
}

#[test]
fn blocks_of_columns_are_rotated_each_on_its_own() {
    let rotation = Rotation::random_hadamard(12, 1).unwrap();
    let mut random = Random::new(5);
    let matrix = values(&mut random, 12 * 5 * 3);
    let (mut whole, mut blocks) = (matrix.clone(), matrix);
    rotation.apply_to_columns(&mut whole, 5, false);
    blocks.chunks_exact_mut(12 * 5).for_each(|block| rotation.apply_to_columns(block, 5, false));
    assert_eq!(whole, blocks);
    rotation.apply_to_columns(&mut [], 0, false);
}
