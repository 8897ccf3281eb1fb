//! The key/value cache.

/// Writes keys or values of new tokens behind the `past` positions that the cache holds.
///
/// `new` is `[tokens, kv_heads, head_dim]`, `cache` is `[kv_heads, capacity, head_dim]`.
///
/// # Panics
/// When `new` is not whole tokens, `cache` has another length, or the tokens do not fit behind `past`.
pub fn append_cache(new: &[f32], cache: &mut [f32], kv_heads: usize, head_dim: usize, capacity: usize, past: usize) {
    let width = kv_heads * head_dim;
    assert!(new.len().is_multiple_of(width), "{} elements are no whole tokens of {width}", new.len());
    assert_eq!(cache.len(), kv_heads * capacity * head_dim, "the cache is [{kv_heads}, {capacity}, {head_dim}]");
    if new.is_empty() {
        return;
    }
    let tokens = new.len() / width;
    assert!(past + tokens <= capacity, "{tokens} tokens behind {past} exceed the capacity of {capacity}");
    for (head, cache) in cache.chunks_exact_mut(capacity * head_dim).enumerate() {
        for (token, new) in new.chunks_exact(width).enumerate() {
            let position = past + token;
            cache[position * head_dim..(position + 1) * head_dim]
                .copy_from_slice(&new[head * head_dim..(head + 1) * head_dim]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_behind_the_past_of_their_head() {
        let mut cache = [0.0; 2 * 4 * 2];
        append_cache(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut cache, 2, 2, 4, 1);
        assert_eq!(cache, [0.0, 0.0, 1.0, 2.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 7.0, 8.0, 0.0, 0.0]);
        append_cache(&[], &mut cache, 2, 2, 4, 4);
    }

    #[test]
    #[should_panic(expected = "2 tokens behind 3 exceed the capacity of 4")]
    fn a_full_cache_takes_no_more() {
        append_cache(&[0.0; 4], &mut [0.0; 8], 1, 2, 4, 3);
    }
}
