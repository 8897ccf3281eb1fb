//! Weight formats: how a logical f32 matrix `[rows, cols]` is stored as bytes.
//!
//! A packed tensor is one or more *planes* (codes, scales, zero points), each an ordinary tensor of the weight file.
//! A format is one file that holds its layout, [`Format::encode`] and [`Format::decode`], and one line in [`FORMATS`].
//! All planes are little-endian, row-major and need no alignment.

#![warn(clippy::disallowed_methods)]

mod bf16;
mod f16;
mod f32;
mod matrix;

pub use matrix::{Matrix, MatrixError};

use std::ops::Range;

/// Every format, in the order in which listings show them. Names are unique.
pub static FORMATS: &[&dyn Format] = &[&f32::F32, &f16::F16, &bf16::Bf16];

/// The format called `name`.
pub fn find(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|format| format.name() == name)
}

/// Most planes that any format has.
pub const MAX_PLANES: usize = 4;

/// A way to store a weight matrix. Rows are output channels, columns run along the inner dimension.
pub trait Format: Sync + Send {
    /// Name in specs and programs, unique in [`FORMATS`].
    fn name(&self) -> &'static str;

    /// One line for listings.
    fn summary(&self) -> &'static str;

    /// Whether a `[rows, cols]` matrix can be stored.
    ///
    /// # Errors
    /// The rule that the shape breaks, with its numbers.
    fn constraints(&self, rows: usize, cols: usize) -> Result<(), Constraint>;

    /// The planes of a `[rows, cols]` matrix that meets [`Format::constraints`]; 1 to [`MAX_PLANES`] of them. The
    /// rows of a matrix are contiguous in every plane, in order.
    fn planes(&self, rows: usize, cols: usize) -> Vec<Plane>;

    /// Encodes whole rows: `values` is `[n, cols]` row-major, `planes[i]` the bytes of these `n` rows in plane `i`.
    ///
    /// Rounds to nearest, ties to even. The bytes are the same on every machine.
    ///
    /// # Panics
    /// When the length of `values` or of a plane is not that of whole rows.
    fn encode(&self, values: &[f32], cols: usize, planes: &mut [&mut [u8]]);

    /// Decodes `columns` of one row of a matrix of this format into `out`, which has as many elements.
    ///
    /// # Panics
    /// When `row` or `columns` is outside of the matrix, or `out` has another length.
    fn decode(&self, matrix: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]);
}

impl std::fmt::Debug for dyn Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One stored array of a packed tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plane {
    /// Appended to the weight's name; empty for the first plane.
    pub suffix: &'static str,
    /// Dtype of the stored elements.
    pub dtype: PlaneDtype,
    /// Shape in elements, row-major.
    pub shape: Vec<usize>,
}

impl Plane {
    /// Size in bytes; `None` when it does not fit a `usize`.
    pub fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.bytes(), |bytes, &extent| bytes.checked_mul(extent))
    }
}

/// Dtype of a plane's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlaneDtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// Unsigned bytes, also for packed codes.
    U8,
    /// Signed bytes.
    I8,
    /// Unsigned 32-bit words, also for packed codes.
    U32,
}

impl PlaneDtype {
    /// Name as in safetensors headers.
    pub fn name(self) -> &'static str {
        match self {
            PlaneDtype::F32 => "F32",
            PlaneDtype::F16 => "F16",
            PlaneDtype::Bf16 => "BF16",
            PlaneDtype::U8 => "U8",
            PlaneDtype::I8 => "I8",
            PlaneDtype::U32 => "U32",
        }
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            PlaneDtype::U8 | PlaneDtype::I8 => 1,
            PlaneDtype::F16 | PlaneDtype::Bf16 => 2,
            PlaneDtype::F32 | PlaneDtype::U32 => 4,
        }
    }
}

/// Why a format cannot hold a matrix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Constraint {
    /// No address space holds the matrix.
    #[error("a {rows} × {cols} matrix of {bytes_per_element}-byte elements is larger than memory can be")]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Bytes that an element takes.
        bytes_per_element: usize,
    },
}

/// [`Constraint::TooLarge`] unless `rows * cols` elements fit the largest object that Rust allows.
fn fits_memory(rows: usize, cols: usize, bytes_per_element: usize) -> Result<(), Constraint> {
    rows.checked_mul(cols)
        .and_then(|elements| elements.checked_mul(bytes_per_element))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .map(|_| ())
        .ok_or(Constraint::TooLarge { rows, cols, bytes_per_element })
}

/// The bytes of elements `columns` of `row` in a plane that stores `[rows, cols]` elements of `N` bytes.
fn element_bytes<'a, const N: usize>(matrix: &Matrix<'a>, row: usize, columns: &Range<usize>) -> &'a [[u8; N]] {
    assert!(row < matrix.rows() && columns.end <= matrix.cols(), "row {row}, columns {columns:?} of {matrix:?}");
    let (elements, _) = matrix.plane(0).as_chunks::<N>();
    let start = row * matrix.cols();
    &elements[start + columns.start..start + columns.end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (i, format) in FORMATS.iter().enumerate() {
            assert!(FORMATS[..i].iter().all(|other| other.name() != format.name()), "{}", format.name());
            assert_eq!(find(format.name()).map(Format::name), Some(format.name()));
            let planes = format.planes(4, 64);
            assert!((1..=MAX_PLANES).contains(&planes.len()));
            assert_eq!(planes[0].suffix, "");
        }
        assert!(find("float32").is_none());
    }

    #[test]
    fn sizes_past_memory_are_refused() {
        for format in FORMATS {
            assert!(format.constraints(usize::MAX, 2).is_err());
            assert!(format.constraints(1 << 40, 1 << 30).is_err());
            assert!(format.constraints(0, usize::MAX).is_ok());
        }
    }
}
