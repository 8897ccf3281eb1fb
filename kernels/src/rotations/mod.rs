//! Orthogonal matrices that act on rows.
//!
//! A [`Rotation`] is a matrix Q `[width, width]` with Q Qᵀ = I. A row whose length is a multiple of `width` is rotated
//! block by block: x ↦ x Q for each block.

use std::sync::Arc;

/// An orthogonal matrix Q `[width, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    width: usize,
    kind: Kind,
}

/// What a rotation is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `diag(signs) H / √width` with a Hadamard matrix H.
    Hadamard {
        /// How H is built, such as `paley1(11) * sylvester(64)`.
        construction: String,
        /// Whether each sign is −; no signs are all +.
        signs: Option<Arc<[bool]>>,
    },
    /// A random orthogonal matrix of this seed.
    Orthogonal {
        /// Of the generator.
        seed: u64,
    },
    /// Values `[width, width]`, row-major.
    Matrix {
        /// As given.
        values: Arc<[f32]>,
    },
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
    /// A matrix of another size.
    #[error("expected {expected} values for a matrix of width {width}, found {found}")]
    Size {
        /// The width.
        width: usize,
        /// Its square.
        expected: usize,
        /// Values given.
        found: usize,
    },
}

impl Rotation {
    /// H / √width.
    ///
    /// # Errors
    /// When no Hadamard matrix of this order is known.
    pub fn hadamard(width: usize) -> Result<Self, RotationError> {
        Self::with_signs(width, None)
    }

    /// diag(signs) H / √width.
    ///
    /// # Errors
    /// As [`Rotation::hadamard`].
    pub fn with_signs(width: usize, signs: Option<Arc<[bool]>>) -> Result<Self, RotationError> {
        if !width.is_power_of_two() {
            return Err(RotationError::Order { order: width });
        }
        Ok(Rotation { width, kind: Kind::Hadamard { construction: format!("sylvester({width})"), signs } })
    }

    /// Elements of a block.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What it is made of.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }
}
