//! Orthogonal matrices that act on rows.
//!
//! A [`Rotation`] is a matrix Q `[width, width]` with Q Qᵀ = I. It turns a row x into x Q, and its inverse into x Qᵀ; a row
//! whose length is a multiple of the width is rotated block by block. What each kind is, down to the bit, is in
//! `docs/rotations.md`. A rotation is the same on every machine, and so is what [`Rotation::apply`] makes of a row:
//! artifacts rest on it. How activations are rotated fast is [`crate::ops::rotate`].

#![warn(clippy::disallowed_methods)]

mod base;
mod generator;
mod hadamard;
mod matrix;
pub mod orders;
mod orthogonal;
mod panel;

pub(crate) use base::BaseMatrix;
pub(crate) use hadamard::Hadamard;
pub(crate) use matrix::Square;
pub(crate) use orthogonal::Orthogonal;

pub use generator::SplitMix64;
pub use matrix::TOLERANCE;
pub use orders::{Construction, ConstructionError};

use crate::cpu::Vectors;
use panel::Line;
use std::fmt;
use std::sync::Arc;

/// The widest rotation.
pub const MAX_WIDTH: usize = 1 << 20;

/// The widest rotation that is not a Hadamard matrix: its memory and its time grow with the square of the width.
pub const MAX_DENSE: usize = 1 << 14;

/// An orthogonal matrix Q `[width, width]`. Cloning copies none of what it holds.
#[derive(Clone)]
pub struct Rotation {
    kind: Kind,
    form: Form,
}

/// What a rotation is made of. Rotations of the same kind and width are the same matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `diag(signs) H / √width` with a Hadamard matrix H.
    Hadamard {
        /// How H is built.
        construction: Construction,
        /// Whether each sign is −; without them all are +.
        signs: Option<Arc<[bool]>>,
    },
    /// The random orthogonal matrix of this seed.
    Orthogonal {
        /// Of [`SplitMix64`].
        seed: u64,
    },
    /// A matrix that somebody brought along.
    Matrix {
        /// `[width, width]`, row-major.
        values: Arc<[f32]>,
    },
}

/// What a rotation is computed with.
#[derive(Clone)]
pub(crate) enum Form {
    /// A product of small factors.
    Hadamard(Arc<Hadamard>),
    /// A product of reflections.
    Orthogonal(Arc<Orthogonal>),
    /// Entry by entry.
    Matrix(Arc<Square>),
}

/// Why there is no such rotation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RotationError {
    /// No Hadamard matrix of this order is known here.
    #[error("no Hadamard matrix of order {order} is known")]
    Order {
        /// The order.
        order: usize,
    },
    /// A width that is 0 or too large.
    #[error("a rotation of this kind has a width of 1 to {most}, not {width}")]
    Width {
        /// The width.
        width: usize,
        /// The largest.
        most: usize,
    },
    /// Fewer or more signs than the width.
    #[error("a rotation of width {width} has as many signs, not {found}")]
    Signs {
        /// The width.
        width: usize,
        /// Signs given.
        found: usize,
    },
    /// A matrix of another size.
    #[error("a matrix of width {width} has {expected} values, not {found}")]
    Size {
        /// The width.
        width: usize,
        /// Its square.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A matrix with an infinite value or one that is no number.
    #[error("the value in row {row} and column {column} is not finite")]
    NotFinite {
        /// The row, from 0.
        row: usize,
        /// The column, from 0.
        column: usize,
    },
    /// A matrix that is not orthogonal.
    #[error("Q Qᵀ differs from the identity by {error:.1e} in row {row} and column {column}; {TOLERANCE:e} is allowed")]
    NotOrthogonal {
        /// The largest element of `|Q Qᵀ − I|`, as f32 sums give it.
        error: f32,
        /// Its row, from 0.
        row: usize,
        /// Its column, from 0.
        column: usize,
    },
}

impl Rotation {
    /// H / √width, H as [`Construction::of`] chooses it.
    ///
    /// # Errors
    /// When no Hadamard matrix of this order is known.
    ///
    /// ```
    /// use lathe_kernels::rotations::Rotation;
    ///
    /// let rotation = Rotation::hadamard(2)?;
    /// let mut row = [3.0, 1.0, 0.0, 2.0];
    /// rotation.apply(&mut row, false);
    /// let half = 0.5_f64.sqrt();
    /// assert!((row[0] - 4.0 * half).abs() < 1e-15 && (row[3] + 2.0 * half).abs() < 1e-15);
    /// # Ok::<(), lathe_kernels::rotations::RotationError>(())
    /// ```
    pub fn hadamard(width: usize) -> Result<Rotation, RotationError> {
        Rotation::with_signs(width, None)
    }

    /// `diag(signs) H / √width`: as [`Rotation::hadamard`], with signs from [`SplitMix64`]. Sign i is − where the top bit
    /// of output i of the seed is set.
    ///
    /// # Errors
    /// As [`Rotation::hadamard`].
    pub fn random_hadamard(width: usize, seed: u64) -> Result<Rotation, RotationError> {
        let construction = construction(width)?;
        let generator = SplitMix64::new(seed);
        let signs = (0..width as u64).map(|index| generator.output(index) >> 63 == 1).collect();
        Rotation::with_construction(construction, Some(signs))
    }

    /// `diag(signs) H / √width`; a sign is − where it is true.
    ///
    /// # Errors
    /// When no Hadamard matrix of this order is known, or there are not `width` signs.
    pub fn with_signs(width: usize, signs: Option<Arc<[bool]>>) -> Result<Rotation, RotationError> {
        Rotation::with_construction(construction(width)?, signs)
    }

    /// `diag(signs) H / √width`, H as `construction` says.
    ///
    /// # Errors
    /// When there are not as many signs as H has rows.
    pub fn with_construction(
        construction: Construction,
        signs: Option<Arc<[bool]>>,
    ) -> Result<Rotation, RotationError> {
        let width = construction.order();
        if let Some(signs) = signs.as_ref().filter(|signs| signs.len() != width) {
            return Err(RotationError::Signs { width, found: signs.len() });
        }
        let form = Form::Hadamard(Arc::new(Hadamard::new(&construction, signs.as_deref())));
        Ok(Rotation { kind: Kind::Hadamard { construction, signs }, form })
    }

    /// A random orthogonal matrix, each as likely as any other (Haar), as a product of reflections: `2 · width²` bytes, and
    /// as many operations for a row.
    ///
    /// # Errors
    /// When the width is 0 or above [`MAX_DENSE`].
    pub fn orthogonal(width: usize, seed: u64) -> Result<Rotation, RotationError> {
        if !(1..=MAX_DENSE).contains(&width) {
            return Err(RotationError::Width { width, most: MAX_DENSE });
        }
        let form = Form::Orthogonal(Arc::new(Orthogonal::new(width, seed)));
        Ok(Rotation { kind: Kind::Orthogonal { seed }, form })
    }

    /// The matrix of `values`, f32 `[width, width]` row-major. Takes a matrix product to check it, on the current rayon pool.
    ///
    /// # Errors
    /// When the width is 0 or above [`MAX_DENSE`], the number of values is another than its square, a value is not finite,
    /// or an element of `|Q Qᵀ − I|` is above [`TOLERANCE`].
    pub fn matrix(width: usize, values: Arc<[f32]>) -> Result<Rotation, RotationError> {
        if !(1..=MAX_DENSE).contains(&width) {
            return Err(RotationError::Width { width, most: MAX_DENSE });
        }
        if values.len() != width * width {
            return Err(RotationError::Size { width, expected: width * width, found: values.len() });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(RotationError::NotFinite { row: index / width, column: index % width });
        }
        let matrix = Square::new(width, &values);
        matrix.check(&values)?;
        Ok(Rotation { kind: Kind::Matrix { values }, form: Form::Matrix(Arc::new(matrix)) })
    }

    /// Elements of a block: rows and columns of Q.
    pub fn width(&self) -> usize {
        match &self.form {
            Form::Hadamard(hadamard) => hadamard.width(),
            Form::Orthogonal(orthogonal) => orthogonal.width(),
            Form::Matrix(matrix) => matrix.width(),
        }
    }

    /// What it is computed with.
    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    /// What it is made of.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Bytes of memory that it and its clones hold together: of a matrix three times its values.
    pub fn bytes(&self) -> usize {
        let made_of = match &self.kind {
            Kind::Hadamard { construction, signs } => {
                let entries: usize = construction.bases().map(|(_, entries)| entries.len()).sum();
                entries + signs.as_ref().map_or(0, |signs| signs.len())
            }
            Kind::Orthogonal { .. } => 0,
            Kind::Matrix { values } => size_of_val(&**values),
        };
        made_of
            + match &self.form {
                Form::Hadamard(hadamard) => hadamard.bytes(),
                Form::Orthogonal(orthogonal) => orthogonal.bytes(),
                Form::Matrix(matrix) => matrix.bytes(),
            }
    }

    /// Replaces each block x of `rows` by x Q, or with `inverse` by x Qᵀ. `rows` is f64 `[n, width]`; blocks that are
    /// rotated together take less time than one by one, and come out the same.
    ///
    /// # Panics
    /// When `rows` is not whole blocks.
    pub fn apply(&self, rows: &mut [f64], inverse: bool) {
        self.apply_on(Vectors::current(), rows, inverse);
    }

    /// Replaces each block M `[width, columns]` of `matrix` by Qᵀ M, or with `inverse` by Q M: each column, read as a row
    /// vector, is rotated as by [`Rotation::apply`], to the bit. `matrix` is f64 `[n · width, columns]`, row-major.
    ///
    /// # Panics
    /// When `matrix` is not whole blocks.
    pub fn apply_to_columns(&self, matrix: &mut [f64], columns: usize, inverse: bool) {
        panel::for_each_panel_of_columns(matrix, self.width(), columns, |panel| {
            self.apply_to_panel(Vectors::current(), panel, inverse);
        });
    }

    /// [`Rotation::apply`]; vectors make it fast and change nothing.
    pub(crate) fn apply_on(&self, vectors: Option<Vectors>, rows: &mut [f64], inverse: bool) {
        panel::for_each_panel_of_rows(rows, self.width(), |panel| self.apply_to_panel(vectors, panel, inverse));
    }

    /// Rotates the columns of `panel`, of `width` lines.
    fn apply_to_panel(&self, vectors: Option<Vectors>, panel: &mut [Line], inverse: bool) {
        match &self.form {
            Form::Hadamard(hadamard) => hadamard.apply_to_panel(vectors, panel, inverse),
            Form::Orthogonal(orthogonal) => orthogonal.apply_to_panel(vectors, panel, inverse),
            Form::Matrix(matrix) => matrix.apply_to_panel(vectors, panel, inverse),
        }
    }
}

impl fmt::Debug for Rotation {
    /// In a line, however large it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Hadamard { construction, signs: None } => write!(f, "{construction}"),
            Kind::Hadamard { construction, signs: Some(_) } => write!(f, "signs * {construction}"),
            Kind::Orthogonal { seed } => write!(f, "orthogonal({}, seed {seed})", self.width()),
            Kind::Matrix { .. } => write!(f, "matrix({})", self.width()),
        }
    }
}

impl PartialEq for Rotation {
    fn eq(&self, other: &Rotation) -> bool {
        self.width() == other.width() && self.kind == other.kind
    }
}

#[cfg(test)]
mod tests;

fn construction(width: usize) -> Result<Construction, RotationError> {
    if !(1..=MAX_WIDTH).contains(&width) {
        return Err(RotationError::Width { width, most: MAX_WIDTH });
    }
    Construction::of(width).ok_or(RotationError::Order { order: width })
}
