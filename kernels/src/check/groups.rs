//! Checks of functions of groups of elements.

use super::cases::{Random, Unaligned, sprinkled};
use super::{Comparison, both};
use crate::ops::Norm;

/// Groups and their width, around the blocks of every instruction set.
const GROUPS: [(usize, usize); 9] =
    [(0, 4), (1, 1), (3, 7), (2, 16), (5, 33), (300, 128), (9, 4096), (2, 151), (40, 63)];

pub(super) fn gain(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(4);
    for (groups, width) in GROUPS {
        for offset in [0.0, 1.0] {
            let (x, gain) = (sprinkled(&mut random, groups * width), sprinkled(&mut random, width));
            let (got, expected) = both(comparison, groups * width, |ops, out| {
                ops.gain(x.get(), gain.get(), offset, out);
            });
            comparison.compare(&format!("[{groups}, {width}], offset {offset}"), &got, &expected, |_| 0.0);
        }
    }
}

pub(super) fn shift(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(10);
    for (groups, width) in GROUPS {
        let (x, shift) = (sprinkled(&mut random, groups * width), sprinkled(&mut random, width));
        let (got, expected) = both(comparison, groups * width, |ops, out| {
            ops.shift(x.get(), shift.get(), out);
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

/// What is taken off each group of x, to be multiplied with the vector where there is one: the mean, or the length of the
/// part along the vector.
fn parts(x: impl Iterator<Item = f64>, width: usize, along: Option<&[f32]>) -> Vec<f64> {
    let mut parts = Vec::new();
    for (i, x) in x.enumerate() {
        if i % width == 0 {
            parts.push(0.0);
        }
        let factor = along.map_or(1.0 / width as f64, |along| f64::from(along[i % width]));
        parts[i / width] += x * factor;
    }
    parts
}

/// The same of the magnitudes: the largest that it can be.
fn magnitudes(x: &[f32], width: usize, along: Option<&[f32]>) -> Vec<f64> {
    let along: Option<Vec<_>> = along.map(|along| along.iter().map(|u| u.abs()).collect());
    parts(x.iter().map(|&x| f64::from(x).abs()), width, along.as_deref())
}

/// What a part is multiplied with at element `i`.
fn direction(along: Option<&[f32]>, width: usize, i: usize) -> f64 {
    along.map_or(1.0, |along| f64::from(along[i % width]))
}

/// A random unit vector.
fn unit_vector(random: &mut Random, width: usize) -> Unaligned {
    let mut values = random.values(width);
    let length = values.iter().map(|&u| u * u).sum::<f32>().sqrt();
    for u in &mut values {
        *u /= length;
    }
    Unaligned::new(&values)
}

pub(super) fn centre(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(11);
    for (groups, width) in GROUPS {
        let vector = unit_vector(&mut random, width);
        for (scale, offset) in FIRST {
            let x = groups_with_first(&mut random, groups * width, width, scale, offset);
            for along in [None, Some(vector.get())] {
                let (got, expected) = both(comparison, groups * width, |ops, out| {
                    ops.centre(x.get(), width, along, out);
                });
                let vector = if along.is_some() { ", along a vector" } else { "" };
                let case = format!("[{groups}, {width}]{vector}, first group by {scale:e} and {offset}");
                let magnitudes = magnitudes(x.get(), width, along);
                comparison.compare(&case, &got, &expected, |i| {
                    f64::from(x.get()[i]).abs() + magnitudes[i / width] * direction(along, width, i).abs()
                });
            }
        }
    }
}

pub(super) fn norm(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(12);
    for (groups, width) in GROUPS {
        let vector = unit_vector(&mut random, width);
        for first in FIRST {
            for (centre, along) in [(false, None), (true, None), (true, Some(vector.get()))] {
                let x = groups_with_first(&mut random, groups * width, width, first.0, first.1);
                let (gain, shift) = (Unaligned::new(&random.values(width)), Unaligned::new(&random.values(width)));
                for (gain, gain_offset, shift) in
                    [(None, 0.0, None), (Some(gain.get()), 0.0, None), (Some(gain.get()), 1.0, Some(shift.get()))]
                {
                    let norm = Norm { width, eps: 1.0e-6, centre, along, gain, gain_offset, shift };
                    norm_case(comparison, x.get(), &norm, first);
                }
            }
        }
    }
}

fn norm_case(comparison: &mut Comparison<'_>, x: &[f32], norm: &Norm<'_>, first: (f32, f32)) {
    let width = norm.width;
    let (got, expected) = both(comparison, x.len(), |ops, out| ops.norm(x, norm, out));
    let case = format!("{} groups, first by {first:?}, {norm:?}", x.len() / width);
    let (parts, magnitudes) =
        (parts(x.iter().map(|&x| f64::from(x)), width, norm.along), magnitudes(x, width, norm.along));
    let mut variances = vec![0.0; x.len() / width];
    for (i, &x) in x.iter().enumerate() {
        let part = if norm.centre { parts[i / width] * direction(norm.along, width, i) } else { 0.0 };
        variances[i / width] += (f64::from(x) - part).powi(2) / width as f64;
    }
    comparison.compare(&case, &got, &expected, |i| {
        let shift = norm.shift.map_or(0.0, |shift| f64::from(shift[i % width]));
        if norm.centre {
            let gain = norm.gain.map_or(1.0, |gain| f64::from(norm.gain_offset + gain[i % width]));
            let x = f64::from(x[i]).abs() + magnitudes[i / width] * direction(norm.along, width, i).abs();
            x / (variances[i / width] + f64::from(norm.eps)).sqrt() * gain.abs() + shift.abs()
        } else {
            (f64::from(expected[i]) - shift).abs() + shift.abs()
        }
    });
}

pub(super) fn softmax(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(13);
    for (groups, width) in GROUPS {
        for scale in [0.0, 1.0, 100.0, f32::MAX] {
            for special in [0.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN] {
                let mut x = groups_with_first(&mut random, groups * width, width, scale, 0.0);
                x.get_mut().iter_mut().step_by(5).take(3).for_each(|x| *x = special);
                let (got, expected) = both(comparison, groups * width, |ops, out| {
                    ops.softmax(x.get(), width, out);
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

pub(super) fn combine(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(14);
    for (rows, k, width) in [(0, 2, 4), (3, 0, 5), (2, 3, 0), (1, 1, 1), (4, 2, 7), (3, 8, 33), (60, 4, 1000)] {
        let (x, weights) = (Unaligned::new(&random.values(rows * k * width)), random.values(rows * k));
        let (got, expected) = both(comparison, rows * width, |ops, out| {
            ops.combine(x.get(), &weights, k, out);
        });
        comparison.compare(&format!("[{rows}, {k}, {width}]"), &got, &expected, |i| {
            let parts = weights[i / width * k..][..k].iter().enumerate();
            let part = |j: usize| x.get()[(i / width * k + j) * width + i % width];
            parts.map(|(j, &weight)| f64::from(weight * part(j)).abs()).sum()
        });
    }
}
