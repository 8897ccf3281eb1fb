//! A packed matrix in memory.

use std::ops::Range;

use super::{Constraint, Format, MAX_PLANES};

/// A packed `[rows, cols]` matrix: borrowed planes whose sizes were checked against the format.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    planes: [&'a [u8]; MAX_PLANES],
}

impl<'a> Matrix<'a> {
    /// A matrix over the planes of [`Format::planes`], in that order.
    ///
    /// Allocates while it checks: make matrices when weights are loaded, not for each call.
    ///
    /// # Errors
    /// The shape breaks the format's constraints, or a plane is missing, left over, too short or too long.
    pub fn new(format: Format, rows: usize, cols: usize, planes: &[&'a [u8]]) -> Result<Matrix<'a>, MatrixError> {
        format.constraints(rows, cols)?;
        let expected_planes = format.planes(rows, cols);
        if planes.len() != expected_planes.len() {
            return Err(MatrixError::PlaneCount { format, expected: expected_planes.len(), found: planes.len() });
        }
        let mut checked: [&[u8]; MAX_PLANES] = [&[]; MAX_PLANES];
        for ((slot, &bytes), plane) in checked.iter_mut().zip(planes).zip(&expected_planes) {
            if plane.bytes() != Some(bytes.len()) {
                return Err(MatrixError::PlaneSize {
                    format,
                    suffix: plane.suffix,
                    shape: plane.shape.clone(),
                    dtype: plane.dtype.name(),
                    expected: plane.bytes(),
                    found: bytes.len(),
                });
            }
            *slot = bytes;
        }
        Ok(Matrix { format, rows, cols, planes: checked })
    }

    /// A matrix in the format f32 over its plane. Allocates nothing.
    pub(crate) fn of_f32(rows: usize, cols: usize, plane: &'a [u8]) -> Matrix<'a> {
        assert_eq!(plane.len(), rows * cols * size_of::<f32>(), "bytes of f32 [{rows}, {cols}]");
        let mut planes: [&[u8]; MAX_PLANES] = [&[]; MAX_PLANES];
        planes[0] = plane;
        Matrix { format: Format::F32, rows, cols, planes }
    }

    /// How it is stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Output channels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes of plane `index`; empty past the last one.
    ///
    /// # Panics
    /// When `index` is not below [`MAX_PLANES`].
    pub fn plane(&self, index: usize) -> &'a [u8] {
        self.planes[index]
    }

    /// Decodes `columns` of row `row` into `out`, which has as many elements.
    ///
    /// # Panics
    /// When `row` or `columns` is outside of the matrix, or `out` has another length.
    pub fn decode(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        self.format.codec.decode(self, row, columns, out);
    }

    /// Decodes row `row` into `out`, f32 `[cols]`.
    ///
    /// # Panics
    /// When there is no such row or `out` has another length.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.decode(row, 0..self.cols, out);
    }
}

impl std::fmt::Debug for Matrix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}, {}]", self.format, self.rows, self.cols)
    }
}

/// Why bytes are not the matrix that they are said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// The format cannot hold this shape.
    #[error(transparent)]
    Constraint(#[from] Constraint),
    /// Planes are missing or left over.
    #[error("format {format} has {expected} planes, found {found}")]
    PlaneCount {
        /// The format.
        format: Format,
        /// Planes of the format.
        expected: usize,
        /// Planes given.
        found: usize,
    },
    /// A plane has the wrong size.
    #[error(
        "plane \"{suffix}\" of format {format} is {dtype} {shape:?}: expected {} bytes, found {found}",
        .expected.map_or("more than can be addressed".to_owned(), |bytes| bytes.to_string())
    )]
    PlaneSize {
        /// The format.
        format: Format,
        /// Suffix of the plane.
        suffix: &'static str,
        /// Its shape in elements.
        shape: Vec<usize>,
        /// Its dtype.
        dtype: &'static str,
        /// Bytes that the shape needs; `None` when that does not fit a `usize`.
        expected: Option<usize>,
        /// Bytes given.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_must_have_the_exact_size() {
        let format = Format::BF16;
        let bytes = [0; 24];
        assert!(Matrix::new(format, 3, 4, &[&bytes]).is_ok());
        let error = Matrix::new(format, 3, 5, &[&bytes]).unwrap_err();
        assert_eq!(error.to_string(), "plane \"\" of format bf16 is BF16 [3, 5]: expected 30 bytes, found 24");
        let error = Matrix::new(format, 3, 4, &[&bytes, &bytes]).unwrap_err();
        assert_eq!(error.to_string(), "format bf16 has 1 planes, found 2");
        assert!(matches!(Matrix::new(format, usize::MAX, 4, &[&bytes]), Err(MatrixError::Constraint(_))));
    }

    #[test]
    fn empty_matrices_are_matrices() {
        let format = Format::F32;
        assert!(Matrix::new(format, 0, 7, &[&[]]).is_ok());
        let matrix = Matrix::new(format, 7, 0, &[&[]]).unwrap();
        matrix.decode_row(6, &mut []);
    }
}
