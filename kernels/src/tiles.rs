//! Work on disjoint blocks of one row-major matrix, in parallel.
//!
//! A block of columns is no slice, so safe Rust cannot split a row-major matrix by columns without a slice per row and
//! block. This file holds the one unsafe step for it: blocks of a grid do not overlap.
#![allow(unsafe_code, reason = "disjoint column blocks of one slice, see above")]

use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// A block of a row-major f32 matrix; no other block shares an element with it.
pub(crate) struct Tile<'a> {
    matrix: Base,
    width: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    elements: PhantomData<&'a mut [f32]>,
}

/// First element of the matrix.
#[derive(Clone, Copy)]
struct Base(*mut f32);

// SAFETY: the pointer is used by tiles only, and tiles do not overlap; f32 is Send.
unsafe impl Send for Base {}
// SAFETY: as above; sharing the pointer itself gives access to nothing.
unsafe impl Sync for Base {}

impl Tile<'_> {
    /// Rows of the matrix that the tile covers.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Columns of the matrix that the tile covers.
    pub(crate) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The tile's part of row `row` of the matrix.
    ///
    /// # Panics
    /// When the tile does not cover `row`.
    #[inline]
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row), "row {row} of a tile of rows {:?}", self.rows);
        // SAFETY: `for_each_tile` made the tile within the matrix, which outlives it, and the assertion keeps `row`
        // within the tile. No other tile covers these elements, and `&mut self` keeps this one from handing out two.
        unsafe {
            let first = self.matrix.0.add(row * self.width + self.columns.start);
            std::slice::from_raw_parts_mut(first, self.columns.len())
        }
    }
}

/// Calls `body` for each tile of `row_block` rows and `column_block` columns of the matrix `out`, `[rows, width]`
/// row-major; tiles at the lower and right edge are smaller. Runs on the current rayon pool where `parallel`, else in
/// order on this thread.
///
/// # Panics
/// When `out` is not whole rows, or a block is 0.
pub(crate) fn for_each_tile(
    out: &mut [f32],
    width: usize,
    row_block: usize,
    column_block: usize,
    parallel: bool,
    body: impl Fn(Tile<'_>) + Sync,
) {
    if out.is_empty() {
        return;
    }
    assert!(out.len().is_multiple_of(width), "{} elements are no whole rows of {width}", out.len());
    let height = out.len() / width;
    let tiles_across = width.div_ceil(column_block);
    let tiles = tiles_across * height.div_ceil(row_block);
    let matrix = Base(out.as_mut_ptr());
    let run = |index: usize| {
        let (row, column) = (index / tiles_across * row_block, index % tiles_across * column_block);
        body(Tile {
            matrix,
            width,
            rows: row..height.min(row + row_block),
            columns: column..width.min(column + column_block),
            elements: PhantomData,
        });
    };
    if parallel && tiles > 1 {
        (0..tiles).into_par_iter().with_max_len(1).for_each(run);
    } else {
        (0..tiles).for_each(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_each_element_once() {
        for parallel in [false, true] {
            let mut out = vec![0.0; 7 * 10];
            for_each_tile(&mut out, 10, 3, 4, parallel, |mut tile| {
                for row in tile.rows() {
                    let columns = tile.columns();
                    for (value, column) in tile.row(row).iter_mut().zip(columns) {
                        *value += (row * 10 + column + 1) as f32;
                    }
                }
            });
            assert!(out.iter().enumerate().all(|(i, &value)| value == (i + 1) as f32));
        }
        for_each_tile(&mut [], 0, 3, 4, true, |_| unreachable!());
    }

    #[test]
    #[should_panic(expected = "row 3 of a tile of rows 0..3")]
    fn a_tile_ends_at_its_rows() {
        for_each_tile(&mut [0.0; 16], 4, 3, 4, false, |mut tile| {
            tile.row(3);
        });
    }
}
