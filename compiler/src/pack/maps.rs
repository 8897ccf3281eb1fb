//! Linear maps of rows in f64, ready to be applied.

use std::sync::Arc;

use lathe_kernels::rotations::Rotation;

/// A product of maps of rows, first applied first.
#[derive(Debug, Clone, Default)]
pub struct Maps<'a>(Vec<Linear<'a>>);

/// One map. Vectors are repeated along a row that is longer.
#[derive(Debug, Clone)]
pub(super) enum Linear<'a> {
    /// x ↦ x Q, or x Qᵀ.
    Rotate { rotation: &'a Rotation, inverse: bool },
    /// x ↦ x ⊙ s.
    Multiply(Arc<[f64]>),
    /// x ↦ x ⊘ s; no factor is 0.
    Divide(Arc<[f64]>),
}

impl<'a> Maps<'a> {
    pub(super) fn new(maps: Vec<Linear<'a>>) -> Maps<'a> {
        Maps(maps)
    }

    /// Whether they change nothing.
    pub fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// Maps rows, `[n, width]`, of the width that these were made for.
    pub fn apply(&self, rows: &mut [f64]) {
        for map in &self.0 {
            match map {
                Linear::Rotate { rotation, inverse } => rotation.apply(rows, *inverse),
                Linear::Multiply(factors) => each(rows, factors, |value, factor| value * factor),
                Linear::Divide(factors) => each(rows, factors, |value, factor| value / factor),
            }
        }
    }

    /// Maps the columns of some rows, `[n, columns]`, of a matrix; `first` is the place of the first row in it. Rows that a
    /// rotation mixes are all there.
    pub(super) fn apply_to_columns(&self, matrix: &mut [f64], columns: usize, first: usize) {
        for map in &self.0 {
            match map {
                Linear::Rotate { rotation, inverse } => rotation.apply_to_columns(matrix, columns, *inverse),
                Linear::Multiply(factors) => each_row(matrix, columns, first, factors, |value, factor| value * factor),
                Linear::Divide(factors) => each_row(matrix, columns, first, factors, |value, factor| value / factor),
            }
        }
    }

    /// What undoes them. `None` where a factor is 0.
    pub fn inverse(&self) -> Option<Maps<'a>> {
        let inverse = |map: &Linear<'a>| match map {
            Linear::Rotate { rotation, inverse } => Some(Linear::Rotate { rotation, inverse: !inverse }),
            Linear::Multiply(factors) if factors.contains(&0.0) => None,
            Linear::Multiply(factors) => Some(Linear::Divide(factors.clone())),
            Linear::Divide(factors) => Some(Linear::Multiply(factors.clone())),
        };
        self.0.iter().rev().map(inverse).collect::<Option<_>>().map(Maps)
    }
}

fn each(rows: &mut [f64], factors: &[f64], map: impl Fn(f64, f64) -> f64) {
    for row in rows.chunks_exact_mut(factors.len()) {
        row.iter_mut().zip(factors).for_each(|(value, &factor)| *value = map(*value, factor));
    }
}

fn each_row(matrix: &mut [f64], columns: usize, first: usize, factors: &[f64], map: impl Fn(f64, f64) -> f64) {
    for (row, values) in matrix.chunks_exact_mut(columns).enumerate() {
        let factor = factors[(first + row) % factors.len()];
        for value in values {
            *value = map(*value, factor);
        }
    }
}
