//! Weight formats: how a logical f32 matrix `[rows, cols]` is stored as bytes.
//!
//! A packed tensor is one or more *planes* (codes, scales, zero points), each an ordinary tensor of the weight file.
//! A kind of format is one file that holds its layout, [`Codec::encode`] and [`Codec::decode`], and one line in
//! [`FORMATS`]; a [`Format`] is a kind with its parameters. All planes are little-endian, row-major and need no alignment.

#![warn(clippy::disallowed_methods)]

mod bf16;
mod f16;
mod f32;
mod int3;
mod int4;
mod int8;
mod integers;
mod matrix;
mod parameters;
mod scales;
mod scaling;

#[cfg(feature = "cuda")]
pub(crate) use int3::Int3;
pub(crate) use int4::Int4;
pub(crate) use int8::Int8;
pub(crate) use integers::{Packing, by_group, decoded, plane_row, scaling};
pub use matrix::{Matrix, MatrixError};
pub use parameters::{Fit, FormatError, Granularity, Parameters, ScaleDtype};

use std::hash::{Hash, Hasher};
use std::ops::Range;

/// Every kind of format, in the order in which listings show them. Names are unique.
pub static FORMATS: &[&dyn Codec] = &[
    &f32::F32,
    &f16::F16,
    &bf16::Bf16,
    &integers::Integers::<Int8>::NEW,
    &integers::Integers::<Int4>::NEW,
    &integers::Integers::<int3::Int3>::NEW,
];

/// Most planes that any format has.
pub const MAX_PLANES: usize = 4;

/// A way to store a weight matrix: a kind of format and its parameters. Rows are output channels, columns run along the
/// inner dimension. Written and read as in specs, `int4(group: 32)`.
#[derive(Clone, Copy)]
pub struct Format {
    codec: &'static dyn Codec,
    parameters: Parameters,
}

impl Format {
    /// IEEE single precision.
    pub const F32: Format = Format { codec: &f32::F32, parameters: Parameters::NONE };
    /// IEEE half precision.
    pub const F16: Format = Format { codec: &f16::F16, parameters: Parameters::NONE };
    /// The upper half of an IEEE single.
    pub const BF16: Format = Format { codec: &bf16::Bf16, parameters: Parameters::NONE };

    /// The format of this name with these parameters; `None` where there is no such kind, or it does not take them.
    pub fn new(name: &str, parameters: Parameters) -> Option<Format> {
        let codec = FORMATS.iter().copied().find(|codec| codec.name() == name)?;
        codec.takes(&parameters).then_some(Format { codec, parameters })
    }

    /// The format of a kind that is in no table.
    #[cfg(test)]
    pub(crate) fn of(codec: &'static dyn Codec) -> Format {
        Format { codec, parameters: Parameters::NONE }
    }

    /// Name of its kind.
    pub fn name(&self) -> &'static str {
        self.codec.name()
    }

    /// Its parameters.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Whether a `[rows, cols]` matrix can be stored.
    ///
    /// # Errors
    /// The rule that the shape breaks, with its numbers.
    pub fn constraints(&self, rows: usize, cols: usize) -> Result<(), Constraint> {
        self.codec.constraints(&self.parameters, rows, cols)
    }

    /// The planes of a `[rows, cols]` matrix that meets [`Format::constraints`]; 1 to [`MAX_PLANES`] of them. The
    /// rows of a matrix are contiguous in every plane, in order.
    pub fn planes(&self, rows: usize, cols: usize) -> Vec<Plane> {
        self.codec.planes(&self.parameters, rows, cols)
    }

    /// Bytes of all planes of a `[rows, cols]` matrix that meets [`Format::constraints`].
    pub fn bytes(&self, rows: usize, cols: usize) -> usize {
        self.planes(rows, cols).iter().filter_map(Plane::bytes).sum()
    }

    /// The largest magnitude that a value may have when it is encoded.
    pub fn limit(&self) -> f32 {
        self.codec.limit(&self.parameters)
    }

    /// Encodes whole rows: `values` is `[n, cols]` row-major, `planes[i]` the bytes of these `n` rows in plane `i`.
    ///
    /// Rounds to nearest, ties to even. The bytes are the same on every machine. What values that are not finite or
    /// beyond [`Format::limit`] become, each format says; it does not panic.
    ///
    /// # Panics
    /// When the length of `values` or of a plane is not that of whole rows.
    pub fn encode(&self, fit: Fit, values: &[f32], cols: usize, planes: &mut [&mut [u8]]) {
        self.codec.encode(&self.parameters, fit, values, cols, planes);
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        (self.name(), self.parameters) == (other.name(), other.parameters)
    }
}

impl Eq for Format {}

impl Hash for Format {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name(), self.parameters).hash(state);
    }
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A kind of format. Methods are those of [`Format`], which passes its parameters; they are such that [`Codec::takes`] holds.
pub trait Codec: Sync + Send {
    /// Name in specs and programs, unique in [`FORMATS`].
    fn name(&self) -> &'static str;

    /// One line for listings.
    fn summary(&self) -> &'static str;

    /// Whether there is a format of this kind with such parameters.
    fn takes(&self, parameters: &Parameters) -> bool;

    /// As [`Format::constraints`].
    ///
    /// # Errors
    /// The rule that the shape breaks, with its numbers.
    fn constraints(&self, parameters: &Parameters, rows: usize, cols: usize) -> Result<(), Constraint>;

    /// As [`Format::planes`].
    fn planes(&self, parameters: &Parameters, rows: usize, cols: usize) -> Vec<Plane>;

    /// As [`Format::limit`].
    fn limit(&self, parameters: &Parameters) -> f32;

    /// As [`Format::encode`].
    fn encode(&self, parameters: &Parameters, fit: Fit, values: &[f32], cols: usize, planes: &mut [&mut [u8]]);

    /// Decodes `columns` of one row of a matrix of this format into `out`, which has as many elements.
    ///
    /// # Panics
    /// When `row` or `columns` is outside of the matrix, or `out` has another length.
    fn decode(&self, matrix: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]);
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
    /// Rows are no whole groups.
    #[error("group {group} does not divide rows of {cols} columns")]
    Indivisible {
        /// Elements that share a scale.
        group: u32,
        /// Columns asked for.
        cols: usize,
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
        }
        for format in crate::check::formats() {
            assert_eq!(format.to_string().parse(), Ok(format));
            let planes = format.planes(4, 64);
            assert!((1..=MAX_PLANES).contains(&planes.len()));
            assert_eq!(planes[0].suffix, "");
        }
        for text in ["", "float32", "f32()", "bf16(per: channel)", "f16(", "f32(scales: f16)"] {
            assert_eq!(text.parse::<Format>(), Err(FormatError { text: text.to_owned() }));
        }
    }

    #[test]
    fn sizes_past_memory_are_refused() {
        for format in crate::check::formats() {
            assert!(format.constraints(usize::MAX, 2).is_err());
            assert!(format.constraints(1 << 40, 1 << 30).is_err());
            assert_eq!(format.constraints(0, 9 << 40), Ok(()));
            // Rows without elements may still have scales.
            let planes = format.planes(usize::MAX, 0);
            let is_empty = planes.iter().all(|plane| plane.shape.contains(&0));
            assert_eq!(format.constraints(usize::MAX, 0).is_ok(), is_empty, "{format}");
        }
    }
}
