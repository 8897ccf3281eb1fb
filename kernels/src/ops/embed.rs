//! Lookup of rows in a packed table.

use crate::cpu::{Vectors, fast_format};
use crate::formats::Matrix;
use rayon::prelude::*;

/// Elements that a task decodes, at least.
const BLOCK: usize = 1 << 14;

/// `out[t] = table[ids[t]]`; `out` is `[ids.len(), table.cols]`. Decodes only the rows that are asked for.
///
/// # Panics
/// When an id is not below `table.rows`, or `out` has another length. Callers check ids, which come from outside.
pub fn embed(table: &Matrix<'_>, ids: &[u32], out: &mut [f32]) {
    embed_on(Vectors::current(), table, ids, out);
}

pub(crate) fn embed_on(vectors: Option<Vectors>, table: &Matrix<'_>, ids: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), ids.len() * table.cols(), "out is [{}, {}]", ids.len(), table.cols());
    let cols = table.cols();
    if out.is_empty() {
        return;
    }
    let fast = fast_format(table.format());
    let rows = out.par_chunks_exact_mut(cols).zip(ids).with_min_len(BLOCK.div_ceil(cols));
    rows.for_each(|(row, &id)| match vectors {
        None => table.decode_row(id as usize, row),
        Some(vectors) => fast.decode(vectors, table, id as usize, 0..cols, row),
    });
}
