//! Lookup of rows in a packed table.

use crate::cpu::{Vectors, fast_format};
use crate::formats::Matrix;
use rayon::prelude::*;

/// Elements that a task decodes, at least.
const BLOCK: usize = 1 << 14;

/// `out[t] = table[first + index[t]]`; `out` is `[index.len(), table.cols]`. Decodes only the rows that are asked for.
///
/// # Panics
/// When a row is not below `table.rows`, or `out` has another length. Callers check what comes from outside.
pub fn embed(table: &Matrix<'_>, index: &[u32], first: u32, out: &mut [f32]) {
    embed_on(Vectors::current(), table, index, first, out);
}

pub(crate) fn embed_on(vectors: Option<Vectors>, table: &Matrix<'_>, index: &[u32], first: u32, out: &mut [f32]) {
    assert_eq!(out.len(), index.len() * table.cols(), "out is [{}, {}]", index.len(), table.cols());
    let cols = table.cols();
    if out.is_empty() {
        return;
    }
    let fast = fast_format(table.format());
    let rows = out.par_chunks_exact_mut(cols).zip(index).with_min_len(BLOCK.div_ceil(cols));
    rows.for_each(|(out, &index)| {
        let row = first as usize + index as usize;
        match vectors {
            None => table.decode_row(row, out),
            Some(vectors) => fast.decode(vectors, table, row, 0..cols, out),
        }
    });
}
