//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864, equation 34).

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
    reference(x, positions, table, head_dim, out);
}

pub(crate) fn reference(x: &[f32], positions: &[u32], table: &RopeTable<'_>, head_dim: usize, out: &mut [f32]) {
    if x.is_empty() {
        return;
    }
    let width = x.len() / positions.len();
    let pairs = table.inverse_frequencies.len();
    for ((x, out), &position) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(positions) {
        out.copy_from_slice(x);
        for (pair, &inverse_frequency) in table.inverse_frequencies.iter().enumerate() {
            let (sin, cos) = f64::from(position as f32 * inverse_frequency).sin_cos();
            let (sin, cos) = (sin as f32 * table.amplitude, cos as f32 * table.amplitude);
            let (first, second) = match table.pairing {
                Pairing::Half => (pair, pair + pairs),
                Pairing::Interleaved => (2 * pair, 2 * pair + 1),
            };
            for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
                let (a, b) = (x[first], x[second]);
                out[first] = a * cos - b * sin;
                out[second] = b * cos + a * sin;
            }
        }
    }
}
