//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864, equation 34).

use crate::scratch::{self, Scratch};
use rayon::prelude::*;

/// Elements that a task turns, at least.
const BLOCK: usize = 1 << 14;

thread_local! {
    static ANGLES: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

/// Frequencies of a rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeTable<'a> {
    /// Radians per position, one for each pair; twice their count is the rotary width of a head.
    pub inverse_frequencies: &'a [f32],
    /// Factor on sine and cosine.
    pub amplitude: f32,
    /// Which elements rotate together.
    pub pairing: Pairing,
}

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// Elements `i` and `i + width/2`.
    Half,
    /// Elements `2i` and `2i + 1`.
    Interleaved,
}

/// Rotates pair `(a, b)` of every head to `(a cos θ − b sin θ, a sin θ + b cos θ)`, where θ is the token's position
/// times the pair's inverse frequency; elements past the rotary width are copied.
///
/// `x` and `out` are `[tokens, heads, head_dim]`, `positions` is `[tokens]`. θ is rounded to f32, as checkpoints are
/// trained with; its sine and cosine are taken in f64 and rounded once.
///
/// # Panics
/// When `x` is not whole heads for each position, `out` has another length, or the rotary width exceeds `head_dim`.
pub fn rope(x: &[f32], positions: &[u32], table: &RopeTable<'_>, head_dim: usize, out: &mut [f32]) {
    let pairs = table.inverse_frequencies.len();
    assert!(2 * pairs <= head_dim, "{pairs} pairs do not fit a head of {head_dim}");
    assert_eq!(x.len(), out.len(), "out is as long as x");
    let tokens = positions.len();
    assert!(
        if tokens == 0 {
            x.is_empty()
        } else {
            x.len().is_multiple_of(tokens) && (x.len() / tokens).is_multiple_of(head_dim)
        },
        "{} elements are no whole heads of {head_dim} for {tokens} tokens",
        x.len()
    );
    if x.is_empty() {
        return;
    }
    let width = x.len() / tokens;
    let rows = out.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width)).zip(positions);
    rows.with_min_len(BLOCK.div_ceil(width)).for_each(|((out, x), &position)| {
        scratch::with(&ANGLES, 2 * pairs, |angles| {
            let (cos, sin) = angles.split_at_mut(pairs);
            for ((cos, sin), &frequency) in cos.iter_mut().zip(&mut *sin).zip(table.inverse_frequencies) {
                let angle = f64::from(position as f32 * frequency);
                *cos = angle.cos() as f32 * table.amplitude;
                *sin = angle.sin() as f32 * table.amplitude;
            }
            for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
                rotate(x, cos, sin, table.pairing, out);
            }
        });
    });
}

/// One head.
fn rotate(x: &[f32], cos: &[f32], sin: &[f32], pairing: Pairing, out: &mut [f32]) {
    let pairs = cos.len();
    match pairing {
        Pairing::Half => {
            let (a, b) = x[..2 * pairs].split_at(pairs);
            let (out_a, out_b) = out[..2 * pairs].split_at_mut(pairs);
            for i in 0..pairs {
                out_a[i] = a[i] * cos[i] - b[i] * sin[i];
                out_b[i] = b[i] * cos[i] + a[i] * sin[i];
            }
        }
        Pairing::Interleaved => {
            let (x, _) = x.as_chunks::<2>();
            let (out, _) = out.as_chunks_mut::<2>();
            for i in 0..pairs {
                let [a, b] = x[i];
                out[i] = [a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]];
            }
        }
    }
    out[2 * pairs..].copy_from_slice(&x[2 * pairs..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREQUENCIES: [f32; 3] = [1.0, 0.1, 0.01];

    fn rotated(x: &[f32], positions: &[u32], pairing: Pairing, head_dim: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len()];
        let table = RopeTable { inverse_frequencies: &FREQUENCIES, amplitude: 1.0, pairing };
        rope(x, positions, &table, head_dim, &mut out);
        out
    }

    #[test]
    fn pairs_turn_by_their_angle_and_the_rest_is_copied() {
        // Two tokens of two heads; the rotary width is 6 of 7.
        let x: Vec<f32> = (0..28).map(|i| i as f32 / 4.0).collect();
        let positions = [0, 1000];
        for pairing in [Pairing::Half, Pairing::Interleaved] {
            let out = rotated(&x, &positions, pairing, 7);
            assert_eq!(out[..14], x[..14], "position 0 turns nothing");
            for head in [14, 21] {
                assert_eq!(out[head + 6], x[head + 6]);
                for (pair, frequency) in FREQUENCIES.into_iter().enumerate() {
                    let (a, b) = match pairing {
                        Pairing::Half => (head + pair, head + pair + 3),
                        Pairing::Interleaved => (head + 2 * pair, head + 2 * pair + 1),
                    };
                    let (sin, cos) = f64::from(1000.0 * frequency).sin_cos();
                    let expected =
                        [f64::from(x[a]) * cos - f64::from(x[b]) * sin, f64::from(x[b]) * cos + f64::from(x[a]) * sin];
                    assert!((f64::from(out[a]) - expected[0]).abs() < 1e-6);
                    assert!((f64::from(out[b]) - expected[1]).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn amplitude_scales_the_rotary_part() {
        let table = RopeTable { inverse_frequencies: &[1.0], amplitude: 2.0, pairing: Pairing::Half };
        let mut out = [0.0; 3];
        rope(&[1.0, 2.0, 3.0], &[0], &table, 3, &mut out);
        assert_eq!(out, [2.0, 4.0, 3.0]);
    }

    #[test]
    fn no_tokens_are_fine() {
        assert!(rotated(&[], &[], Pairing::Half, 8).is_empty());
    }
}
