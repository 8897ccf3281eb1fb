//! Root-mean-square normalization (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4).

use crate::cpu::Vectors;
use crate::cpu::elementwise::RmsNorm;
use rayon::prelude::*;

/// Elements that a task takes, at least.
const BLOCK: usize = 1 << 14;

/// Each group of `width` elements of `x` divided by its root mean square, `x / sqrt(mean(x²) + eps)`, then times
/// `gain`. `x` and `out` are `[n, width]`, `gain` is `[width]`.
///
/// # Panics
/// When `x` is not whole groups, or `gain` or `out` has another length.
pub fn rms_norm(x: &[f32], gain: Option<&[f32]>, width: usize, eps: f32, out: &mut [f32]) {
    rms_norm_on(Vectors::current(), x, gain, width, eps, out);
}

pub(crate) fn rms_norm_on(
    vectors: Option<Vectors>,
    x: &[f32],
    gain: Option<&[f32]>,
    width: usize,
    eps: f32,
    out: &mut [f32],
) {
    assert!(x.len().is_multiple_of(width), "{} elements are no whole groups of {width}", x.len());
    assert_eq!(x.len(), out.len(), "out is as long as x");
    assert!(gain.is_none_or(|gain| gain.len() == width), "gain has {width} elements");
    if x.is_empty() {
        return;
    }
    let block = BLOCK.next_multiple_of(width);
    out.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(out, x)| match vectors {
        None => reference(x, gain, width, eps, out),
        Some(vectors) => {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                vectors.run(RmsNorm { x, gain, eps, out });
            }
        }
    });
}

/// Sums in f64, rounded once.
pub(crate) fn reference(x: &[f32], gain: Option<&[f32]>, width: usize, eps: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mean = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / width as f64;
        let factor = 1.0 / (mean + f64::from(eps)).sqrt();
        for (i, (&x, out)) in x.iter().zip(out).enumerate() {
            let gain = gain.map_or(1.0, |gain| f64::from(gain[i]));
            *out = (f64::from(x) * factor * gain) as f32;
        }
    }
}
