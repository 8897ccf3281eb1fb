//! How a weight lies in the weight files: one definition for the packer that writes them and the reader that binds them.

use lathe_kernels::formats::{Format, PlaneDtype};

use super::types::Weight;

/// A tensor of the weight files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Unique among all weight files of an artifact.
    pub name: String,
    /// Dtype of the elements.
    pub dtype: PlaneDtype,
    /// Row-major.
    pub shape: Vec<usize>,
}

impl StoredTensor {
    /// Size in bytes; `None` past `usize`.
    pub fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.bytes(), |product, &dimension| product.checked_mul(dimension))
    }
}

/// The shape under which a format sees a weight: a vector `[n]` is a matrix `[1, n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixShape {
    /// Outputs, or 1.
    pub rows: usize,
    /// Inputs, or the elements of the vector.
    pub cols: usize,
}

impl Weight {
    /// The format, if the text is that of one.
    pub fn find_format(&self) -> Option<Format> {
        self.format.parse().ok()
    }

    /// Rows and columns; `None` unless the rank is 1 or 2 and both fit a `usize`.
    pub fn matrix_shape(&self) -> Option<MatrixShape> {
        let (rows, cols) = match *self.shape {
            [cols] => (1, cols),
            [rows, cols] => (rows, cols),
            _ => return None,
        };
        Some(MatrixShape { rows: rows.try_into().ok()?, cols: cols.try_into().ok()? })
    }

    /// The tensors that hold this weight, in the order of its format's planes: the weight's name with the plane's
    /// suffix. A vector's planes lose their leading dimension of 1. `None` if the format is unknown, refuses the
    /// shape, or the rank is neither 1 nor 2.
    pub fn stored_tensors(&self) -> Option<Vec<StoredTensor>> {
        let (format, shape) = (self.find_format()?, self.matrix_shape()?);
        format.constraints(shape.rows, shape.cols).ok()?;
        let vector = self.shape.len() == 1;
        let tensors = format.planes(shape.rows, shape.cols).into_iter().map(|mut plane| {
            if vector && plane.shape.len() > 1 && plane.shape[0] == 1 {
                plane.shape.remove(0);
            }
            StoredTensor { name: format!("{}{}", self.name, plane.suffix), dtype: plane.dtype, shape: plane.shape }
        });
        Some(tensors.collect())
    }
}
