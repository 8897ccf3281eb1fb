//! Causal attention over the key/value cache.

use super::elementwise;
use crate::cpu::Vectors;
use crate::cpu::attention::{AttentionTile, scratch_len};
use crate::scratch::{self, Scratch};
use crate::tiles::{Tile, for_each_tile};

/// Queries that a task takes at least, where there are as many: they share what it reads of the cache.
const QUERIES: usize = 16;

/// Fewest products of queries and keys that are worth a fork.
const PARALLEL_PRODUCTS: usize = 1 << 16;

/// What stays the same from call to call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`. Query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements in a head.
    pub head_dim: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// A query at position p sees positions above `p - window` only, itself included; at least 1.
    pub window: Option<u32>,
    /// Scores become `cap · tanh(score / cap)`, before the softmax (Gemma 2: arXiv:2408.00118, section 2).
    pub softcap: Option<f32>,
}

impl AttentionShape {
    /// The positions that the query at `position` sees.
    pub(crate) fn visible(&self, position: usize) -> std::ops::Range<usize> {
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window as usize));
        start..position + 1
    }
}

thread_local! {
    static SUMS: Scratch<f32> = const { Scratch::new(Vec::new()) };
    static REFERENCE_SUMS: Scratch<f64> = const { Scratch::new(Vec::new()) };
}

/// `out[t, h] = Σ softmax(scale · q[t, h]·keys[p]) values[p]` over the positions p that token t sees.
///
/// `sinks`, `[heads]`, are finite scores without a position: each takes part in the softmax of its head, but has no value
/// (gpt-oss: arXiv:2508.10925).
///
/// `q` and `out` are `[tokens, heads, head_dim]`, at positions `past..past + tokens`. `keys` and `values` are
/// `[kv_heads, capacity, head_dim]`, filled up to `past + tokens`, the new ones included. Beyond them nothing is read.
/// The scratch is bounded: it does not grow with the context.
///
/// # Panics
/// When `q` is not whole tokens, another slice has another length, the tokens exceed the capacity, `heads` is not a
/// multiple of `kv_heads`, or the window is 0.
///
/// ```
/// use lathe_kernels::ops::{AttentionShape, append_cache, attention};
///
/// let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 2, scale: 1.0, window: None, softcap: None };
/// let (mut keys, mut values) = ([0.0; 8], [0.0; 8]);
/// append_cache(&[0.0, 0.0, 0.0, 0.0], &mut keys, 1, 2, 4, 0);
/// append_cache(&[1.0, 2.0, 3.0, 4.0], &mut values, 1, 2, 4, 0);
///
/// let mut out = [0.0; 4];
/// attention(&shape, &[1.0; 4], &keys, &values, None, 4, 0, &mut out);
/// assert_eq!(out, [1.0, 2.0, 2.0, 3.0]);
/// ```
#[expect(clippy::too_many_arguments, reason = "the shape is what stays, the rest comes anew with each call")]
pub fn attention(
    shape: &AttentionShape,
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    sinks: Option<&[f32]>,
    capacity: usize,
    past: usize,
    out: &mut [f32],
) {
    attention_on(Vectors::current(), shape, q, keys, values, sinks, capacity, past, out);
}

#[expect(clippy::too_many_arguments, reason = "as the op itself, and the vectors")]
pub(crate) fn attention_on(
    vectors: Option<Vectors>,
    shape: &AttentionShape,
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    sinks: Option<&[f32]>,
    capacity: usize,
    past: usize,
    out: &mut [f32],
) {
    let AttentionShape { heads, kv_heads, head_dim, window, .. } = *shape;
    let width = heads * head_dim;
    assert!(heads.is_multiple_of(kv_heads), "{heads} heads over {kv_heads} key/value heads");
    assert!(window != Some(0), "a window of 0 sees nothing");
    assert!(q.len().is_multiple_of(width), "{} elements are no whole tokens of {width}", q.len());
    assert_eq!(q.len(), out.len(), "out is as long as q");
    let cache_len = kv_heads * capacity * head_dim;
    assert!(keys.len() == cache_len && values.len() == cache_len, "caches are [{kv_heads}, {capacity}, {head_dim}]");
    assert!(sinks.is_none_or(|sinks| sinks.len() == heads), "sinks are [{heads}]");
    if q.is_empty() {
        return;
    }
    let tokens = q.len() / width;
    assert!(past + tokens <= capacity, "{tokens} tokens behind {past} exceed the capacity of {capacity}");
    let parallel = q.len() * (past + tokens) >= PARALLEL_PRODUCTS;
    let group = heads / kv_heads;
    let token_block = (QUERIES / group).max(1);
    let threads = if parallel { rayon::current_num_threads() } else { 1 };
    let task_heads = if kv_heads * tokens.div_ceil(token_block) >= threads { group } else { 1 };
    for_each_tile(out, width, token_block, task_heads * head_dim, parallel, |mut tile| match vectors {
        None => reference(shape, q, keys, values, sinks, capacity, past, &mut tile),
        Some(vectors) => scratch::with(&SUMS, scratch_len(shape, tile.rows().len(), task_heads), |scratch| {
            vectors.run(AttentionTile { shape, q, keys, values, sinks, capacity, past, tile: &mut tile, scratch });
        }),
    });
}

/// Some tokens and heads in f64, by online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867, algorithm 3).
#[expect(clippy::too_many_arguments, reason = "as the op itself, and the tile")]
fn reference(
    shape: &AttentionShape,
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    sinks: Option<&[f32]>,
    capacity: usize,
    past: usize,
    tile: &mut Tile<'_>,
) {
    let AttentionShape { heads, kv_heads, head_dim, scale, softcap, .. } = *shape;
    let first_head = tile.columns().start / head_dim;
    scratch::with(&REFERENCE_SUMS, head_dim, |weighted| {
        for token in tile.rows() {
            for (head, out) in (first_head..).zip(tile.row(token).chunks_exact_mut(head_dim)) {
                let q = &q[(token * heads + head) * head_dim..][..head_dim];
                let kv_head = head / (heads / kv_heads);
                // A sink is the first score; its value adds nothing.
                let (mut maximum, mut total) =
                    sinks.map_or((f64::NEG_INFINITY, 0.0), |sinks| (f64::from(sinks[head]), 1.0));
                weighted.fill(0.0);
                for position in shape.visible(past + token) {
                    let cached = (kv_head * capacity + position) * head_dim..;
                    let (key, value) = (&keys[cached.clone()][..head_dim], &values[cached][..head_dim]);
                    let dot: f64 = q.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                    let score = dot * f64::from(scale);
                    let score = softcap.map_or(score, |cap| elementwise::reference::softcap(score, cap));
                    if score > maximum {
                        let correction = (maximum - score).exp();
                        total *= correction;
                        for sum in &mut *weighted {
                            *sum *= correction;
                        }
                        maximum = score;
                    }
                    let weight = (score - maximum).exp();
                    total += weight;
                    for (sum, &value) in weighted.iter_mut().zip(value) {
                        *sum += weight * f64::from(value);
                    }
                }
                for (out, &sum) in out.iter_mut().zip(&*weighted) {
                    *out = (sum / total) as f32;
                }
            }
        }
    });
}
