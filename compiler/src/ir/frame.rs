//! Frames: in which basis the values of an edge are, and what that does to parameters.
//!
//! Rows are row vectors. A [`Chain`] is a product of linear maps of rows, first applied first. The *frame* of an edge is the
//! chain F that turns its physical values x' to the logical ones: x = x' F. A parameter has a [`Fold`]: the chains that its
//! stored values go through before they are packed. With x' in frame F and y' in frame G, a linear y = x Wᵀ + b reads
//! W' = G⁻ᵀ W Fᵀ: every row of W is mapped by Fᵀ, every column by G⁻¹.

use std::fmt;
use std::sync::Arc;

use super::graph::ParamId;
use super::op::Real;

/// Index into the graph's table of rotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RotationId(pub u32);

impl RotationId {
    /// As an index into the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index into the graph's table of scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScaleId(pub u32);

impl ScaleId {
    /// As an index into the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An orthogonal matrix Q `[width, width]`, which acts on rows block by block: x ↦ x Q.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// How the spec writes it: `random_hadamard(seed: 7)`.
    pub name: String,
    /// Elements of a block.
    pub width: u64,
    /// What it is.
    pub basis: Basis,
}

/// What a rotation is.
#[derive(Debug, Clone, PartialEq)]
pub enum Basis {
    /// diag(signs) H / √width; all signs are + without a seed.
    Hadamard {
        /// Of the generator of signs.
        seed: Option<u64>,
    },
    /// A random orthogonal matrix.
    Orthogonal {
        /// Of the generator.
        seed: u64,
    },
    /// A matrix of the user.
    Matrix {
        /// Its values `[width, width]`, row-major, once they are read.
        values: Option<Arc<[f32]>>,
    },
}

/// Positive factors of channels `[width]`, which act on rows block by block: x ↦ x ⊙ s.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// How the spec writes it: `smooth(alpha: 0.5)`.
    pub name: String,
    /// Elements of a block.
    pub width: u64,
    /// The factors, once they are measured.
    pub values: Option<Arc<[f64]>>,
}

/// A linear map of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Factor {
    /// x ↦ x Q, or x Qᵀ.
    Rotation {
        /// Q.
        id: RotationId,
        /// Whether it is Qᵀ.
        inverse: bool,
    },
    /// x ↦ x ⊙ (offset + g).
    Gain {
        /// g.
        param: ParamId,
        /// Added to it.
        offset: Real,
    },
    /// x ↦ x ⊙ s, or x ⊘ s.
    Scale {
        /// s.
        id: ScaleId,
        /// Whether it divides.
        inverse: bool,
    },
}

impl Factor {
    /// The map that undoes this one. A gain may have zeros, and has none.
    pub fn inverse(self) -> Option<Factor> {
        match self {
            Factor::Rotation { id, inverse } => Some(Factor::Rotation { id, inverse: !inverse }),
            Factor::Scale { id, inverse } => Some(Factor::Scale { id, inverse: !inverse }),
            Factor::Gain { .. } => None,
        }
    }

    /// The transposed map.
    #[must_use]
    pub fn transpose(self) -> Factor {
        match self {
            Factor::Rotation { id, inverse } => Factor::Rotation { id, inverse: !inverse },
            diagonal @ (Factor::Scale { .. } | Factor::Gain { .. }) => diagonal,
        }
    }

    /// Whether it multiplies each channel by a number of its own.
    pub fn is_diagonal(self) -> bool {
        !matches!(self, Factor::Rotation { .. })
    }
}

/// A product of maps, first applied first. Neighbours that undo each other are left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Chain(Vec<Factor>);

impl Chain {
    /// The identity.
    pub const IDENTITY: Chain = Chain(Vec::new());

    /// One map.
    pub fn of(factor: Factor) -> Chain {
        Chain(vec![factor])
    }

    /// Its maps.
    pub fn factors(&self) -> &[Factor] {
        &self.0
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// This, then one more map.
    pub fn push(&mut self, factor: Factor) {
        if self.0.last().is_some_and(|last| last.inverse() == Some(factor)) {
            self.0.pop();
        } else {
            self.0.push(factor);
        }
    }

    /// This, then the other.
    #[must_use]
    pub fn then(&self, other: &Chain) -> Chain {
        let mut product = self.clone();
        other.0.iter().for_each(|&factor| product.push(factor));
        product
    }

    /// The chain that undoes this one; `None` where a gain is part of it.
    pub fn inverse(&self) -> Option<Chain> {
        self.0.iter().rev().map(|factor| factor.inverse()).collect::<Option<Vec<_>>>().map(Chain)
    }

    /// The transposed chain.
    #[must_use]
    pub fn transpose(&self) -> Chain {
        Chain(self.0.iter().rev().map(|factor| factor.transpose()).collect())
    }

    /// Whether all of its maps are rotations.
    pub fn is_orthogonal(&self) -> bool {
        self.0.iter().all(|factor| !factor.is_diagonal())
    }

    /// Whether all of its maps are diagonal.
    pub fn is_diagonal(&self) -> bool {
        self.0.iter().all(|factor| factor.is_diagonal())
    }
}

/// What becomes of the stored values of a parameter before they are packed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Fold {
    /// Added to each value first; gains that are stored as their difference from 1.
    pub offset: Option<Real>,
    /// Of a bias: added to it before anything else maps it.
    pub product: Option<Product>,
    /// Maps every row: acts on the last dimension.
    pub rows: Chain,
    /// Maps every column: acts on the first dimension of a matrix.
    pub columns: Chain,
}

impl Fold {
    /// Whether values stay as they are stored.
    pub fn is_identity(&self) -> bool {
        *self == Fold::default()
    }
}

/// s Wᵀ `[out]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Product {
    /// W `[out, in]` as stored.
    pub weight: ParamId,
    /// s `[in]` as stored.
    pub vector: ParamId,
    /// Multiplies all of it.
    pub factor: Real,
}

impl fmt::Display for RotationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q{}", self.0)
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |inverse: bool, mark: &'static str| if inverse { mark } else { "" };
        match self {
            Factor::Rotation { id, inverse } => write!(f, "{id}{}", mark(*inverse, "'")),
            Factor::Gain { param, offset } if offset.get() == 0.0 => write!(f, "diag(p{})", param.0),
            Factor::Gain { param, offset } => write!(f, "diag({offset} + p{})", param.0),
            Factor::Scale { id, inverse } => write!(f, "S{}{}", id.0, mark(*inverse, "'")),
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("1");
        }
        for (index, factor) in self.0.iter().enumerate() {
            write!(f, "{}{factor}", if index > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}
