//! How ops over elements and over groups of elements are split.

use rayon::prelude::*;

/// Elements that a task takes; less than two tasks' worth is not split.
const BLOCK: usize = 1 << 14;

/// Calls `body` for blocks of `x` and `out`, which are equally long.
pub(super) fn for_each_block(x: &[f32], out: &mut [f32], body: impl Fn(&[f32], &mut [f32]) + Sync) {
    assert_eq!(x.len(), out.len(), "out is as long as x");
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| body(x, out));
}

/// Calls `body` for blocks of `a`, `b` and `out`, which are equally long.
pub(super) fn for_each_pair_of_blocks(
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    body: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
) {
    assert!(a.len() == out.len() && b.len() == out.len(), "operands and out are equally long");
    let blocks = out.par_chunks_mut(BLOCK).zip(a.par_chunks(BLOCK)).zip(b.par_chunks(BLOCK));
    blocks.for_each(|((out, a), b)| body(a, b, out));
}

/// Calls `body` with the number of each group, its `width` elements of `x` and its `out_width` elements of `out`.
pub(super) fn for_each_group<T: Send>(
    x: &[f32],
    width: usize,
    out: &mut [T],
    out_width: usize,
    body: impl Fn(usize, &[f32], &mut [T]) + Sync,
) {
    assert!(x.len().is_multiple_of(width), "{} elements are no whole groups of {width}", x.len());
    let groups = x.len().checked_div(width).unwrap_or(0);
    assert_eq!(out.len(), groups * out_width, "out is {groups} groups of {out_width}");
    if out.is_empty() {
        return;
    }
    let groups = out.par_chunks_exact_mut(out_width).zip(x.par_chunks_exact(width)).enumerate();
    groups.with_min_len(BLOCK.div_ceil(width)).for_each(|(group, (out, x))| body(group, x, out));
}
