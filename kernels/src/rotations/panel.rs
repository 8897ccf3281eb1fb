//! Row vectors side by side.
//!
//! Rotations in f64 work on *panels*, `[width, LANES]`, whose columns are vectors to rotate. All columns go through the same
//! operations, so that a vector comes out the same whatever stands beside it, and on every instruction set.

use crate::scratch::{self, Scratch};

/// Columns of a panel: a cache line of f64.
const LANES: usize = 8;

/// An element of each vector.
pub(super) type Line = [f64; LANES];

thread_local! {
    static PANEL: Scratch<Line> = const { Scratch::new(Vec::new()) };
    static AXIS: Scratch<Line> = const { Scratch::new(Vec::new()) };
}

/// Calls `body` with panels whose columns are the blocks of `rows`, `[n, width]`, and zeros where no block is left; what it
/// leaves in a panel goes back to where it came from.
pub(super) fn for_each_panel_of_rows(rows: &mut [f64], width: usize, body: impl Fn(&mut [Line])) {
    assert!(rows.len().is_multiple_of(width), "{} elements are no whole blocks of {width}", rows.len());
    for group in rows.chunks_mut(LANES * width) {
        scratch::with(&PANEL, width, |panel| {
            let mut columns = group.chunks_exact_mut(width);
            let mut columns: [&mut [f64]; LANES] = std::array::from_fn(|_| columns.next().unwrap_or_default());
            for (i, line) in panel.iter_mut().enumerate() {
                *line = std::array::from_fn(|column| columns[column].get(i).copied().unwrap_or(0.0));
            }
            body(panel);
            for (i, line) in panel.iter().enumerate() {
                for (column, &value) in columns.iter_mut().zip(line) {
                    if let Some(element) = column.get_mut(i) {
                        *element = value;
                    }
                }
            }
        });
    }
}

/// Calls `body` with panels of a few columns of each block `[width, columns]` of `matrix`, and zeros behind the last one;
/// what it leaves in a panel goes back to where it came from.
pub(super) fn for_each_panel_of_columns(matrix: &mut [f64], width: usize, columns: usize, body: impl Fn(&mut [Line])) {
    if matrix.is_empty() {
        return;
    }
    assert!(matrix.len().is_multiple_of(width * columns), "{} elements are no whole blocks", matrix.len());
    for block in matrix.chunks_exact_mut(width * columns) {
        for first in (0..columns).step_by(LANES) {
            let range = first..columns.min(first + LANES);
            scratch::with(&PANEL, width, |panel| {
                for (line, row) in panel.iter_mut().zip(block.chunks_exact(columns)) {
                    *line = Line::default();
                    line[..range.len()].copy_from_slice(&row[range.clone()]);
                }
                body(panel);
                for (line, row) in panel.iter().zip(block.chunks_exact_mut(columns)) {
                    row[range.clone()].copy_from_slice(&line[..range.len()]);
                }
            });
        }
    }
}

/// Calls `body` with `order` lines to write to.
///
/// What it calls within is compiled for no instruction set but the one of all machines, unless it asks for another: this is
/// for around [`Vectors::run`](crate::cpu::Vectors::run), not for below it.
pub(super) fn with_axis(order: usize, body: impl FnOnce(&mut [Line])) {
    scratch::with(&AXIS, order, body);
}
