//! The check of attention.

use super::cases::{Random, Unaligned};
use super::{Comparison, both};
use crate::ops::AttentionShape;

/// What a case of attention is made of.
#[derive(Debug, Clone, Copy)]
pub struct AttentionCase {
    /// Heads and scores.
    pub shape: AttentionShape,
    /// Whether there are sinks.
    pub sinks: bool,
    /// Tokens, at least 0.
    pub tokens: usize,
    /// Position of the first one.
    pub past: usize,
    /// Positions of the cache.
    pub capacity: usize,
}

/// Cases of every kind: heads alone and in groups, of widths that vectors divide and others, windows, soft caps and sinks.
pub fn attention_cases() -> Vec<AttentionCase> {
    let case = |heads, kv_heads, head_dim, window, tokens, past, spare| AttentionCase {
        shape: AttentionShape { heads, kv_heads, head_dim, scale: (head_dim as f32).powf(-0.5), window, softcap: None },
        sinks: false,
        tokens,
        past,
        capacity: tokens + past + spare,
    };
    let plain = [
        case(1, 1, 1, None, 1, 0, 0),
        case(2, 1, 8, None, 0, 3, 0),
        case(2, 1, 7, None, 3, 5, 2),
        case(4, 4, 16, None, 17, 0, 0),
        case(7, 1, 20, None, 5, 63, 1),
        case(8, 2, 33, Some(1), 9, 4, 0),
        case(8, 2, 64, Some(5), 70, 0, 3),
        case(12, 4, 80, Some(64), 3, 200, 0),
        case(14, 2, 64, None, 1, 64, 7),
        case(14, 2, 64, None, 1, 1000, 0),
        case(6, 3, 128, None, 40, 129, 0),
        case(32, 4, 64, Some(100), 33, 300, 5),
        case(18, 1, 32, Some(130), 2, 140, 0),
        case(2, 1, 256, None, 10, 70, 0),
        case(2, 1, 300, Some(40), 10, 60, 1),
        case(3, 1, 512, None, 2, 90, 0),
    ];
    let variants =
        plain.into_iter().flat_map(|case| {
            [(None, false), (Some(0.5), false), (Some(30.0), true), (None, true)].map(|(softcap, sinks)| {
                AttentionCase { shape: AttentionShape { softcap, ..case.shape }, sinks, ..case }
            })
        });
    variants.collect()
}

pub(super) fn attention(comparison: &mut Comparison<'_>) {
    let mut random = Random::new(7);
    for case in attention_cases() {
        let AttentionCase { shape, sinks, tokens, past, capacity } = case;
        let q = Unaligned::new(&random.values(tokens * shape.heads * shape.head_dim));
        let cache_len = shape.kv_heads * capacity * shape.head_dim;
        let (mut keys, mut values) = (random.values(cache_len), random.values(cache_len));
        // What is behind the last position must not be read.
        for cache in [&mut keys, &mut values] {
            for head in cache.chunks_exact_mut((capacity * shape.head_dim).max(1)) {
                head[(past + tokens) * shape.head_dim..].fill(f32::NAN);
            }
        }
        let (keys, values) = (Unaligned::new(&keys), Unaligned::new(&values));
        let sinks = sinks.then(|| random.values(shape.heads).iter().map(|sink| sink * 5.0).collect::<Vec<_>>());
        let (got, expected) = both(comparison, q.get().len(), |ops, out| {
            let (keys, values, sinks) = (keys.get(), values.get(), sinks.as_deref());
            ops.attention(&shape, q.get(), keys, values, sinks, capacity, past, out);
        });
        // |q|, |k|, |v| ≤ 1: a score is at most the root of the width.
        let magnitude = 1.0 + f64::from(shape.head_dim as u32).sqrt();
        let case = format!("{tokens} tokens behind {past}, {shape:?}, sinks {sinks:?}");
        comparison.compare(&case, &got, &expected, |_| magnitude);
    }
    attention_special(comparison, &mut random);
}

/// A NaN value is seen by later tokens of its heads only; large scores and sinks do not overflow.
fn attention_special(comparison: &mut Comparison<'_>, random: &mut Random) {
    let (tokens, capacity) = (30, 30);
    let q: Vec<_> = random.values(tokens * 64).iter().map(|q| q * 1000.0).collect();
    let keys = random.values(2 * capacity * 16);
    let mut values = random.values(2 * capacity * 16);
    values[12 * 16 + 3] = f32::NAN;
    let sinks = [1.0e4, -1.0e4, f32::MIN, 0.0];
    for (softcap, sinks) in [(None, None), (None, Some(sinks.as_slice())), (Some(50.0), Some(sinks.as_slice()))] {
        let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, scale: 1.0, window: Some(10), softcap };
        let (got, expected) = both(comparison, q.len(), |ops, out| {
            ops.attention(&shape, &q, &keys, &values, sinks, capacity, 0, out);
        });
        let case = format!("a NaN value, softcap {softcap:?}, sinks {sinks:?}");
        comparison.compare(&case, &got, &expected, |_| 16_000.0);
    }
}
