//! Rotations as programs hold them, and the matrices that they stand for.

use std::sync::Arc;

use lathe_kernels::rotations::{self, Construction, ConstructionError, Kind};

use super::types::{Rotation, WeightId};

/// Why a rotation cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RotationError {
    /// It is not what it says.
    #[error(transparent)]
    Hadamard(#[from] HadamardError),
    /// There is no such matrix, or the values that were brought along are not one.
    #[error(transparent)]
    Matrix(#[from] rotations::RotationError),
}

/// Most entries of the bases of Hadamard matrices and elements of their rows, together.
const MAX_HADAMARD_ELEMENTS: u64 = 1 << 25;
/// Most elements of other matrices together.
const MAX_DENSE_ELEMENTS: u64 = 1 << 30;

/// What the rotations of a file hold together: a few words of it can stand for large matrices. It is counted before they
/// are made.
#[derive(Debug, Clone, Copy, Default)]
pub struct RotationSizes {
    hadamard: u64,
    dense: u64,
}

/// Rotations that hold too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {found}, expected at most {most}")]
pub struct RotationSizesError {
    /// What was counted.
    pub what: &'static str,
    /// How many.
    pub found: u64,
    /// How many there may be.
    pub most: u64,
}

impl RotationSizes {
    /// Adds a Hadamard matrix; none of its entries is made.
    ///
    /// # Errors
    /// When the bases of all have more than 2²⁵ entries, together with one element for each of their rows.
    pub fn add_hadamard(&mut self, construction: &Construction) -> Result<(), RotationSizesError> {
        let elements = construction.base_entries() as u64 + construction.order() as u64;
        add("elements of Hadamard matrices", &mut self.hadamard, elements, MAX_HADAMARD_ELEMENTS)
    }

    /// Adds another matrix of this width.
    ///
    /// # Errors
    /// When all of them have more than 2³⁰ elements.
    pub fn add_dense(&mut self, width: u64) -> Result<(), RotationSizesError> {
        add("elements of rotations", &mut self.dense, width.saturating_mul(width), MAX_DENSE_ELEMENTS)
    }
}

fn add(what: &'static str, sum: &mut u64, elements: u64, most: u64) -> Result<(), RotationSizesError> {
    let found = sum.saturating_add(elements);
    *sum = found;
    if found <= most { Ok(()) } else { Err(RotationSizesError { what, found, most }) }
}

/// Why a rotation is not the Hadamard matrix that it says it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HadamardError {
    /// The text of the construction.
    #[error("construction `{}`: {source}", text.escape_debug())]
    Construction {
        /// As stated.
        text: String,
        /// What is wrong with it.
        source: ConstructionError,
    },
    /// A construction of another order than the width.
    #[error("construction `{text}` has order {order}, expected {width}")]
    Order {
        /// The construction.
        text: String,
        /// Its order.
        order: usize,
        /// The width.
        width: u32,
    },
    /// A construction that comes to other entries here.
    #[error("the base of `{text}` has the BLAKE3 {expected}, found {}", found.escape_debug())]
    Base {
        /// The construction.
        text: String,
        /// Of its base here.
        expected: String,
        /// As stated.
        found: String,
    },
    /// Signs that are not as many as there are elements, or not spelt as they should be.
    #[error("expected the signs of {width} elements in lower-case hexadecimal")]
    Signs {
        /// The width.
        width: u32,
    },
}

impl Rotation {
    /// A rotation as a program holds it; `weight` gives the weight for the values of a matrix that was brought along, f32
    /// `[width, width]`.
    pub fn of(rotation: &rotations::Rotation, weight: impl FnOnce(&Arc<[f32]>) -> WeightId) -> Rotation {
        let width = rotation.width() as u32;
        match rotation.kind() {
            Kind::Hadamard { construction, signs } => Rotation::Hadamard {
                width,
                construction: construction.to_string(),
                base_blake3: base_blake3(construction),
                signs: signs.as_deref().map(signs_to_text),
            },
            &Kind::Orthogonal { seed } => Rotation::Orthogonal { width, seed },
            Kind::Matrix { values } => Rotation::Matrix { width, weight: weight(values) },
        }
    }

    /// The matrix. `values` are those of [`Rotation::weight`], and none where there is no weight.
    ///
    /// # Errors
    /// When it is not what it says, which is so for no rotation of a valid program, or `values` are not an orthogonal
    /// matrix.
    pub fn build(&self, values: Vec<f32>) -> Result<rotations::Rotation, RotationError> {
        let built = match *self {
            Rotation::Hadamard { width, ref construction, base_blake3: ref base, ref signs } => {
                let (construction, signs) = hadamard(width, construction, base, signs.as_deref())?;
                rotations::Rotation::with_construction(construction, signs)?
            }
            Rotation::Orthogonal { width, seed } => rotations::Rotation::orthogonal(width as usize, seed)?,
            Rotation::Matrix { width, .. } => rotations::Rotation::matrix(width as usize, values.into())?,
        };
        Ok(built)
    }

    /// Elements of a block.
    pub fn width(&self) -> u32 {
        match *self {
            Rotation::Hadamard { width, .. } | Rotation::Orthogonal { width, .. } | Rotation::Matrix { width, .. } => {
                width
            }
        }
    }

    /// The weight that holds the matrix, where it was brought along.
    pub fn weight(&self) -> Option<WeightId> {
        if let Rotation::Matrix { weight, .. } = *self { Some(weight) } else { None }
    }
}

/// Whether each sign is −.
type Signs = Arc<[bool]>;

/// The construction of a [`Rotation::Hadamard`] with these fields. None of its entries is made.
///
/// # Errors
/// When they contradict each other, or say what this build cannot make.
pub(super) fn construction(width: u32, text: &str) -> Result<Construction, HadamardError> {
    let construction: Construction =
        text.parse().map_err(|source| HadamardError::Construction { text: text.to_owned(), source })?;
    let (text, order) = (text.to_owned(), construction.order());
    if order == width as usize { Ok(construction) } else { Err(HadamardError::Order { text, order, width }) }
}

/// What a [`Rotation::Hadamard`] with these fields is made of.
///
/// # Errors
/// When they contradict each other, or say what this build cannot make.
pub(super) fn hadamard(
    width: u32,
    text: &str,
    base: &str,
    signs: Option<&str>,
) -> Result<(Construction, Option<Signs>), HadamardError> {
    let construction = construction(width, text)?;
    let (text, order) = (text.to_owned(), construction.order());
    let expected = base_blake3(&construction);
    if base != expected {
        return Err(HadamardError::Base { text, expected, found: base.to_owned() });
    }
    let signs = signs.map(|signs| signs_from_text(signs, order).ok_or(HadamardError::Signs { width }));
    Ok((construction, signs.transpose()?.map(Arc::from)))
}

fn base_blake3(construction: &Construction) -> String {
    blake3::hash(&construction.base_bytes()).to_hex().to_string()
}

/// Which signs are −, as [`Rotation::Hadamard`] spells them.
pub fn signs_to_text(negative: &[bool]) -> String {
    let byte = |bits: &[bool]| bits.iter().enumerate().fold(0u8, |byte, (at, &bit)| byte | u8::from(bit) << at);
    let digits = |byte: u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    negative.chunks(8).flat_map(|bits| digits(byte(bits))).collect()
}

/// The signs of a text, if it is that of `width` of them.
pub fn signs_from_text(text: &str, width: usize) -> Option<Vec<bool>> {
    let (digits, _) = text.as_bytes().as_chunks::<2>();
    if text.len() != 2 * width.div_ceil(8) {
        return None;
    }
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut negative = Vec::with_capacity(8 * digits.len());
    for &[high, low] in digits {
        let byte = digit(high)? << 4 | digit(low)?;
        negative.extend((0..8).map(|bit| byte >> bit & 1 == 1));
    }
    let past = negative.split_off(width);
    past.iter().all(|&negative| !negative).then_some(negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_have_one_text() {
        let signs = [true, false, false, true, false, false, false, false, false, true];
        assert_eq!(signs_to_text(&signs), "0902");
        assert_eq!(signs_from_text("0902", 10).as_deref(), Some(&signs[..]));
        for (text, width) in
            [("0902", 8), ("0902", 17), ("09", 10), ("0906", 10), ("0a0G", 16), ("0A02", 10), ("é00", 16)]
        {
            assert_eq!(signs_from_text(text, width), None, "{text}");
        }
        assert_eq!(signs_to_text(&[]), "");
        assert_eq!(signs_from_text("", 0), Some(Vec::new()));
    }
}
