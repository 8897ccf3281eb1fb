//! Products with orthogonal matrices.

use super::matmul::matmul_on;
use crate::cpu::Vectors;
use crate::cpu::rotate::{ReflectedBlocks, hadamard_blocks};
use crate::rotations::{Form, Rotation};
use crate::scratch::{self, Scratch};
use rayon::prelude::*;

/// Elements that a task takes at least.
const TASK: usize = 1 << 14;

/// Blocks that go through the reflections of an orthogonal matrix together, so that these are read once for all of them.
const TOGETHER: usize = 8;

thread_local! {
    static ROWS: Scratch<f64> = const { Scratch::new(Vec::new()) };
}

/// `out = x Q`, or with `inverse` `x Qᵀ`, for each block of `rotation.width()` elements of `x`. `x` and `out` are
/// `[n, width]`.
///
/// # Panics
/// When `x` is not whole blocks, or `out` has another length.
///
/// ```
/// use lathe_kernels::ops;
/// use lathe_kernels::rotations::Rotation;
///
/// let mut out = [0.0; 4];
/// ops::rotate(&[1.0, 2.0, 3.0, 4.0], &Rotation::hadamard(4)?, false, &mut out);
/// assert_eq!(out, [5.0, -1.0, -2.0, 0.0]);
/// # Ok::<(), lathe_kernels::rotations::RotationError>(())
/// ```
pub fn rotate(x: &[f32], rotation: &Rotation, inverse: bool, out: &mut [f32]) {
    rotate_on(Vectors::current(), x, rotation, inverse, out);
}

pub(crate) fn rotate_on(vectors: Option<Vectors>, x: &[f32], rotation: &Rotation, inverse: bool, out: &mut [f32]) {
    let width = rotation.width();
    assert!(x.len().is_multiple_of(width), "{} elements are no whole blocks of {width}", x.len());
    assert_eq!(x.len(), out.len(), "out is as long as x");
    let Some(vectors) = vectors else {
        return for_each_task(x, TOGETHER * width, out, |x, out| reference(x, rotation, inverse, out));
    };
    match rotation.form() {
        Form::Hadamard(hadamard) => for_each_task(x, TASK.div_ceil(width) * width, out, |x, out| {
            hadamard_blocks(vectors, x, hadamard, inverse, out);
        }),
        Form::Orthogonal(orthogonal) => for_each_task(x, TOGETHER * width, out, |x, out| {
            vectors.run(ReflectedBlocks { x, orthogonal, inverse, out });
        }),
        Form::Matrix(matrix) => matmul_on(Some(vectors), x, &matrix.weight(inverse), None, out),
    }
}

fn for_each_task(x: &[f32], task: usize, out: &mut [f32], body: impl Fn(&[f32], &mut [f32]) + Sync) {
    out.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(out, x)| body(x, out));
}

/// The specification: in f64 as [`Rotation::apply`], rounded once.
fn reference(x: &[f32], rotation: &Rotation, inverse: bool, out: &mut [f32]) {
    scratch::with(&ROWS, x.len(), |rows| {
        rows.iter_mut().zip(x).for_each(|(row, &x)| *row = f64::from(x));
        rotation.apply_on(None, rows, inverse);
        out.iter_mut().zip(rows).for_each(|(out, row)| *out = *row as f32);
    });
}
