//! What is known of a value before it is computed: dtype and shape.

use std::fmt;

/// One dimension of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The tokens of a step.
    Tokens,
    /// The tokens whose logits are asked for.
    Selected,
    /// A number.
    Fixed(u64),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Tokens => f.write_str("T"),
            Dim::Selected => f.write_str("S"),
            Dim::Fixed(n) => write!(f, "{n}"),
        }
    }
}

/// What the elements of a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Ids of tokens.
    Token,
    /// Positions of tokens in their text.
    Position,
    /// Numbers of rows.
    Row,
    /// Numbers of things chosen from so many: experts.
    Choice(u64),
    /// Real numbers; how they are stored is decided later.
    Real,
}

/// Dtype and shape of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fact {
    /// What the elements are.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<Dim>,
}

impl Fact {
    /// Real numbers of this shape.
    pub fn real(shape: impl Into<Vec<Dim>>) -> Self {
        Fact { dtype: Dtype::Real, shape: shape.into() }
    }

    /// One token id for each of these rows.
    pub fn tokens(rows: Dim) -> Self {
        Fact { dtype: Dtype::Token, shape: vec![rows] }
    }

    /// One position for each of these rows.
    pub fn positions(rows: Dim) -> Self {
        Fact { dtype: Dtype::Position, shape: vec![rows] }
    }

    /// The numbers of the rows that were selected.
    pub fn selection() -> Self {
        Fact { dtype: Dtype::Row, shape: vec![Dim::Selected] }
    }

    /// A parameter of this shape.
    pub fn param(shape: &[u64]) -> Self {
        Fact::real(shape.iter().map(|&n| Dim::Fixed(n)).collect::<Vec<_>>())
    }

    /// The last dimension, when it is a number.
    pub fn last(&self) -> Option<u64> {
        match self.shape.last() {
            Some(Dim::Fixed(n)) => Some(*n),
            _ => None,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Dtype::Token => f.write_str("token[")?,
            Dtype::Position => f.write_str("position[")?,
            Dtype::Row => f.write_str("row[")?,
            Dtype::Choice(of) => write!(f, "choice({of})[")?,
            Dtype::Real => f.write_str("real[")?,
        }
        for (i, dim) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// Why operands do not fit an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What the operation takes.
    pub expected: String,
    /// What it was given.
    pub found: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}
