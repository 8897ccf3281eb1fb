//! Choosing experts, and bringing together what they give.

use super::blocks::for_each_group;
use crate::cpu::Vectors;
use crate::cpu::routing::WeightedSum;

/// The numbers of the `k` largest of each group of `width` scores, largest first; of equal ones the lowest number comes
/// first, NaN comes last. `scores` is `[n, width]`, `out` is `[n, k]`.
///
/// # Panics
/// When `scores` is not whole groups, `k` exceeds `width`, or `out` has another length.
///
/// ```
/// let mut chosen = [0; 2];
/// lathe_kernels::ops::top_k(&[0.5, 2.0, f32::NAN, 2.0], 4, 2, &mut chosen);
/// assert_eq!(chosen, [1, 3]);
/// ```
pub fn top_k(scores: &[f32], width: usize, k: usize, out: &mut [u32]) {
    assert!(k <= width, "the {k} largest of {width}");
    for_each_group(scores, width, out, k, |_, scores, out| {
        let before = |a: usize, b: u32| {
            let (a, b) = (scores[a], scores[b as usize]);
            a > b || b.is_nan() && !a.is_nan()
        };
        for number in 0..width {
            let taken = number.min(k);
            let place = out[..taken].partition_point(|&other| !before(number, other));
            if place < k {
                out.copy_within(place..taken.min(k - 1), place + 1);
                out[place] = number as u32;
            }
        }
    });
}

/// `out[r, j] = x[r, choice[r, j]]`: `x` is `[n, width]`, `choice` and `out` are `[n, k]`.
///
/// # Panics
/// When `x` is not whole groups, a choice is not below `width`, or another slice has another length.
pub fn gather(x: &[f32], width: usize, choice: &[u32], k: usize, out: &mut [f32]) {
    assert_eq!(choice.len(), out.len(), "out is as long as the choice");
    for_each_group(x, width, out, k, |row, x, out| {
        for (out, &number) in out.iter_mut().zip(&choice[row * k..]) {
            *out = x[number as usize];
        }
    });
}

/// `out[r] = Σ weights[r, j] · x[r, j]`: `x` is `[n, k, d]`, `weights` is `[n, k]`, `out` is `[n, d]`.
///
/// # Panics
/// When `weights` is not whole rows of `k`, or the lengths do not fit together.
pub fn combine(x: &[f32], weights: &[f32], k: usize, out: &mut [f32]) {
    combine_on(Vectors::current(), x, weights, k, out);
}

pub(crate) fn combine_on(vectors: Option<Vectors>, x: &[f32], weights: &[f32], k: usize, out: &mut [f32]) {
    assert!(weights.len().is_multiple_of(k), "{} weights are no whole rows of {k}", weights.len());
    if k == 0 {
        assert!(x.is_empty(), "x has 0 parts");
        out.fill(0.0);
        return;
    }
    let rows = weights.len() / k;
    let width = out.len().checked_div(rows).unwrap_or(0);
    assert_eq!(out.len(), rows * width, "out is {rows} rows");
    assert_eq!(x.len(), weights.len() * width, "x is {rows} rows of {k} parts of {width}");
    for_each_group(x, k * width, out, width, |row, x, out| {
        let weights = &weights[row * k..(row + 1) * k];
        match vectors {
            None => reference(x, weights, out),
            Some(vectors) => vectors.run(WeightedSum { x, weights, out }),
        }
    });
}

/// The specification of one row of [`combine`]: in f64, rounded once.
fn reference(x: &[f32], weights: &[f32], out: &mut [f32]) {
    let width = out.len();
    for (column, out) in out.iter_mut().enumerate() {
        let parts = weights.iter().zip(x[column..].iter().step_by(width));
        *out = parts.map(|(&weight, &x)| f64::from(weight) * f64::from(x)).sum::<f64>() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(scores: &[f32], width: usize, k: usize) -> Vec<u32> {
        let mut out = vec![u32::MAX; scores.len() / width * k];
        top_k(scores, width, k, &mut out);
        out
    }

    #[test]
    fn the_largest_come_first_and_equal_ones_in_order() {
        let scores = [1.0, 3.0, 3.0, -1.0, 3.0, 0.0];
        assert_eq!(chosen(&scores, 6, 0), []);
        assert_eq!(chosen(&scores, 6, 2), [1, 2]);
        assert_eq!(chosen(&scores, 6, 6), [1, 2, 4, 0, 5, 3]);
        assert_eq!(chosen(&scores, 3, 1), [1, 1]);
        assert_eq!(chosen(&[-0.0, 0.0], 2, 2), [0, 1]);
    }

    #[test]
    fn nan_comes_last() {
        let scores = [f32::NAN, f32::NEG_INFINITY, f32::NAN, f32::INFINITY];
        assert_eq!(chosen(&scores, 4, 4), [3, 1, 0, 2]);
        assert_eq!(chosen(&scores, 4, 3), [3, 1, 0]);
    }

    #[test]
    fn chosen_elements_are_gathered() {
        let mut out = [f32::NAN; 4];
        gather(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, &[2, 0, 1, 1], 2, &mut out);
        assert_eq!(out, [3.0, 1.0, 5.0, 5.0]);
    }

    #[test]
    fn parts_of_all_sizes_are_combined() {
        let mut out = [f32::NAN; 2];
        combine(&[1.0, 2.0, 3.0, 4.0], &[0.5, 2.0], 2, &mut out);
        assert_eq!(out, [6.5, 9.0]);
        combine(&[], &[], 2, &mut []);
        combine(&[], &[1.0, 1.0], 2, &mut []);
    }
}
