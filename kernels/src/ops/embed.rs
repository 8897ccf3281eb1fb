//! Lookup of rows in a packed table.

use crate::formats::Matrix;

/// `out[t] = table[ids[t]]`; `out` is `[ids.len(), table.cols]`. Decodes only the rows that are asked for.
///
/// # Panics
/// When an id is not below `table.rows`, or `out` has another length. Callers check ids, which come from outside.
pub fn embed(table: &Matrix<'_>, ids: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), ids.len() * table.cols(), "out is [{}, {}]", ids.len(), table.cols());
    if table.cols() == 0 {
        return;
    }
    for (&id, row) in ids.iter().zip(out.chunks_exact_mut(table.cols())) {
        table.decode_row(id as usize, row);
    }
}
