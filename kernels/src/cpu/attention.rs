//! Attention of some tokens and query heads over one key/value head, by online softmax (Milakov and Gimelshein 2018,
//! arXiv:1805.02867, algorithm 3) over blocks of positions.

use super::dense::Decoded;
use super::dot::dots;
use super::elementwise::{OneOperand, Softcap};
use super::math::exp;
use super::simd::{Kernel, Simd, padded, store_partial};
use crate::ops::AttentionShape;
use crate::tiles::Tile;

/// Positions that are scored at a time; their keys and values stay in a cache for all queries of the tile.
const POSITIONS: usize = 64;

/// Scores of a block of positions.
type Scores = [f32; POSITIONS];

/// Computes a tile of [`crate::ops::attention`]: rows are tokens, columns are heads that share a key/value head.
pub(crate) struct AttentionTile<'a, 'b> {
    pub(crate) shape: &'a AttentionShape,
    pub(crate) q: &'a [f32],
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) sinks: Option<&'a [f32]>,
    pub(crate) capacity: usize,
    pub(crate) past: usize,
    pub(crate) tile: &'a mut Tile<'b>,
    /// [`scratch_len`] elements of any value.
    pub(crate) scratch: &'a mut [f32],
}

/// Scratch for a tile of so many tokens and heads.
pub(crate) fn scratch_len(shape: &AttentionShape, tokens: usize, heads: usize) -> usize {
    tokens * heads * (shape.head_dim + 2)
}

impl Kernel for AttentionTile<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AttentionShape { heads, kv_heads, head_dim, scale, softcap, .. } = *self.shape;
        let (tokens, columns) = (self.tile.rows(), self.tile.columns());
        let first_head = columns.start / head_dim;
        let tile_heads = columns.len() / head_dim;
        let queries = tokens.len() * tile_heads;
        let cache = first_head / (heads / kv_heads) * self.capacity * head_dim;
        let (weighted, rest) = self.scratch.split_at_mut(queries * head_dim);
        let (maxima, totals) = rest.split_at_mut(queries);
        weighted.fill(0.0);
        match self.sinks {
            None => {
                maxima.fill(f32::NEG_INFINITY);
                totals.fill(0.0);
            }
            // A sink is the first score; its value adds nothing.
            Some(sinks) => {
                for maxima in maxima.chunks_exact_mut(tile_heads) {
                    maxima.copy_from_slice(&sinks[first_head..first_head + tile_heads]);
                }
                totals.fill(1.0);
            }
        }

        let end = self.past + tokens.end;
        for start in (self.shape.visible(self.past + tokens.start).start..end).step_by(POSITIONS) {
            for (i, token) in tokens.clone().enumerate() {
                let visible = self.shape.visible(self.past + token);
                let (from, to) = (start.max(visible.start), (start + POSITIONS).min(visible.end));
                if from >= to {
                    continue;
                }
                let cached = cache + from * head_dim..cache + to * head_dim;
                let (keys, values) = (&self.keys[cached.clone()], &self.values[cached]);
                let block = Block { keys, values, head_dim, scale, softcap };
                let q = &self.q[token * heads * head_dim..][columns.clone()];
                let queries = i * tile_heads..(i + 1) * tile_heads;
                let mut state = State {
                    weighted: &mut weighted[queries.start * head_dim..queries.end * head_dim],
                    maxima: &mut maxima[queries.clone()],
                    totals: &mut totals[queries],
                };
                let mut head = 0;
                while head + 4 <= tile_heads {
                    block.add_to::<S, 4>(simd, q, head, &mut state);
                    head += 4;
                }
                if head + 2 <= tile_heads {
                    block.add_to::<S, 2>(simd, q, head, &mut state);
                    head += 2;
                }
                if head < tile_heads {
                    block.add_to::<S, 1>(simd, q, head, &mut state);
                }
            }
        }

        let weighted_rows = weighted.chunks_exact(tile_heads * head_dim).zip(totals.chunks_exact(tile_heads));
        for (token, (weighted, totals)) in tokens.zip(weighted_rows) {
            let sums = weighted.chunks_exact(head_dim).zip(totals);
            for ((sums, total), out) in sums.zip(self.tile.row(token).chunks_exact_mut(head_dim)) {
                for (sum, out) in sums.iter().zip(out) {
                    *out = sum / total;
                }
            }
        }
    }
}

/// Online softmax of the queries of one token.
struct State<'a> {
    /// Σ exp(score − maximum) · value, `[queries, head_dim]`.
    weighted: &'a mut [f32],
    /// Largest score so far, `[queries]`.
    maxima: &'a mut [f32],
    /// Σ exp(score − maximum), `[queries]`.
    totals: &'a mut [f32],
}

/// At most [`POSITIONS`] positions that all queries of a token see.
struct Block<'a> {
    /// `[positions, head_dim]`
    keys: &'a [f32],
    /// `[positions, head_dim]`
    values: &'a [f32],
    head_dim: usize,
    scale: f32,
    softcap: Option<f32>,
}

impl Block<'_> {
    /// Adds the positions to the state of queries `first..first + R`.
    #[inline(always)]
    fn add_to<S: Simd, const R: usize>(&self, simd: S, q: &[f32], first: usize, state: &mut State<'_>) {
        let mut scores = self.scores::<S, R>(simd, q, first);
        let positions = self.keys.len() / self.head_dim;
        let mut corrections = [0.0; R];
        for r in 0..R {
            if let Some(cap) = self.softcap {
                apply_to_first(simd, Softcap { cap }, &mut scores[r], positions);
            }
            let (maximum, total) = (&mut state.maxima[first + r], &mut state.totals[first + r]);
            let (correction, sum) = softmax(simd, &mut scores[r], positions, maximum);
            *total = *total * correction + sum;
            corrections[r] = correction;
        }
        let weighted = &mut state.weighted[first * self.head_dim..(first + R) * self.head_dim];
        let mut column = 0;
        while column + 2 * S::LANES <= self.head_dim {
            self.add_values::<S, R, 2>(simd, &scores, &corrections, column, weighted);
            column += 2 * S::LANES;
        }
        if column + S::LANES <= self.head_dim {
            self.add_values::<S, R, 1>(simd, &scores, &corrections, column, weighted);
            column += S::LANES;
        }
        if column < self.head_dim {
            self.add_last_values::<S, R>(simd, &scores, &corrections, column, weighted);
        }
    }

    /// `scale · q · key` for each position; −∞ behind the last.
    #[inline(always)]
    fn scores<S: Simd, const R: usize>(&self, simd: S, q: &[f32], first: usize) -> [Scores; R] {
        let head_dim = self.head_dim;
        let mut queries: [&[f32]; R] = [&[]; R];
        for (r, query) in queries.iter_mut().enumerate() {
            *query = &q[(first + r) * head_dim..(first + r + 1) * head_dim];
        }
        let mut scores = [[f32::NEG_INFINITY; POSITIONS]; R];
        let mut position = 0;
        let mut fours = self.keys.chunks_exact(4 * head_dim);
        for four in &mut fours {
            let keys = [0, 1, 2, 3].map(|i| &four[i * head_dim..(i + 1) * head_dim]);
            let products = dots::<S, Decoded, R, 4>(simd, queries, keys);
            for r in 0..R {
                for (score, product) in scores[r][position..position + 4].iter_mut().zip(products[r]) {
                    *score = product * self.scale;
                }
            }
            position += 4;
        }
        for key in fours.remainder().chunks_exact(head_dim) {
            let products = dots::<S, Decoded, R, 1>(simd, queries, [key]);
            for r in 0..R {
                scores[r][position] = products[r][0] * self.scale;
            }
            position += 1;
        }
        scores
    }

    /// `weighted = weighted · correction + Σ score · value` for `V` vectors of columns.
    #[inline(always)]
    fn add_values<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        scores: &[Scores; R],
        corrections: &[f32; R],
        column: usize,
        weighted: &mut [f32],
    ) {
        let columns = column..column + V * S::LANES;
        let mut sums = [[simd.splat(0.0); V]; R];
        for r in 0..R {
            let (old, _) = S::chunks(&weighted[r * self.head_dim..][columns.clone()]);
            for v in 0..V {
                sums[r][v] = simd.mul(simd.load(&old[v]), simd.splat(corrections[r]));
            }
        }
        for (position, value) in (0..POSITIONS).zip(self.values.chunks_exact(self.head_dim)) {
            let (value, _) = S::chunks(&value[columns.clone()]);
            for v in 0..V {
                let value = simd.load(&value[v]);
                for r in 0..R {
                    sums[r][v] = simd.mul_add(simd.splat(scores[r][position]), value, sums[r][v]);
                }
            }
        }
        for r in 0..R {
            let (new, _) = S::chunks_mut(&mut weighted[r * self.head_dim..][columns.clone()]);
            for v in 0..V {
                simd.store(sums[r][v], &mut new[v]);
            }
        }
    }

    /// [`Block::add_values`] for the columns behind the last whole vector.
    #[inline(always)]
    fn add_last_values<S: Simd, const R: usize>(
        &self,
        simd: S,
        scores: &[Scores; R],
        corrections: &[f32; R],
        column: usize,
        weighted: &mut [f32],
    ) {
        for r in 0..R {
            let columns = r * self.head_dim + column..(r + 1) * self.head_dim;
            let old = simd.load(&padded::<S, _>(&weighted[columns.clone()]));
            let mut sum = simd.mul(old, simd.splat(corrections[r]));
            for (position, value) in (0..POSITIONS).zip(self.values.chunks_exact(self.head_dim)) {
                let value = simd.load(&padded::<S, _>(&value[column..]));
                sum = simd.mul_add(simd.splat(scores[r][position]), value, sum);
            }
            store_partial(simd, sum, &mut weighted[columns]);
        }
    }
}

/// Applies `function` to the first `positions` scores.
#[inline(always)]
fn apply_to_first<S: Simd>(simd: S, function: impl OneOperand, scores: &mut Scores, positions: usize) {
    let (chunks, _) = S::chunks_mut(&mut scores[..]);
    for chunk in &mut chunks[..positions.div_ceil(S::LANES)] {
        simd.store(function.apply(simd, simd.load(chunk)), chunk);
    }
    scores[positions..].fill(f32::NEG_INFINITY);
}

/// Turns the first `positions` scores into `exp(score − maximum)`, after raising `maximum` to theirs. Gives the factor
/// on what was summed with the old maximum, and the sum of the new scores.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut Scores, positions: usize, maximum: &mut f32) -> (f32, f32) {
    let (chunks, _) = S::chunks_mut(scores);
    let used = positions.div_ceil(S::LANES);
    let chunks = &mut chunks[..used];
    let mut largest = simd.splat(*maximum);
    for chunk in &*chunks {
        largest = simd.max(largest, simd.load(chunk));
    }
    let new_maximum = simd.maximum(largest);
    let subtrahend = simd.splat(new_maximum);
    let mut sums = simd.splat(0.0);
    for chunk in chunks {
        let score = exp(simd, simd.sub(simd.load(chunk), subtrahend));
        sums = simd.add(sums, score);
        simd.store(score, chunk);
    }
    let correction = (*maximum - new_maximum).exp();
    *maximum = new_maximum;
    (correction, simd.sum(sums))
}
