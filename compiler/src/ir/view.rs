//! Which elements of a stored tensor a parameter is made of, and in which order.
//!
//! A [`View`] enumerates elements of a tensor by axes of a size and a stride, the last axis fastest: a slice of rows, a
//! transpose, every third group of rows of a fused tensor, one expert of a stack. It says nothing of the shape of the
//! parameter, which the elements fill in row-major order. [`Shaped`] is a view with a shape, for taking parts of it.

use std::fmt;

use super::graph::TensorId;

/// One loop over elements of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Axis {
    /// How many steps; at least 1.
    pub size: u64,
    /// Elements of the tensor from one step to the next.
    pub stride: u64,
}

/// Elements of a stored tensor in an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// Which tensor.
    pub tensor: TensorId,
    /// The first element.
    pub offset: u64,
    /// Outermost first. No two that could be one, and none of size 1: equal views are equal.
    pub axes: Vec<Axis>,
}

impl View {
    /// Elements one after the other.
    pub fn contiguous(tensor: TensorId, offset: u64, elements: u64) -> View {
        View::new(tensor, offset, [Axis { size: elements, stride: 1 }])
    }

    /// The elements that these axes enumerate.
    pub fn new(tensor: TensorId, offset: u64, axes: impl IntoIterator<Item = Axis>) -> View {
        let mut merged: Vec<Axis> = Vec::new();
        for axis in axes.into_iter().filter(|axis| axis.size != 1) {
            match merged.last_mut() {
                Some(outer) if Some(outer.stride) == axis.size.checked_mul(axis.stride) => {
                    *outer = Axis { size: outer.size.saturating_mul(axis.size), stride: axis.stride };
                }
                _ => merged.push(axis),
            }
        }
        View { tensor, offset, axes: merged }
    }

    /// How many elements.
    pub fn elements(&self) -> u64 {
        self.axes.iter().fold(1, |product, axis| product.saturating_mul(axis.size))
    }

    /// The elements as a range of the tensor, where they lie one after the other.
    pub fn range(&self) -> Option<std::ops::Range<u64>> {
        match self.axes[..] {
            [] => Some(self.offset..self.offset.checked_add(1)?),
            [Axis { size, stride: 1 }] => Some(self.offset..self.offset.checked_add(size)?),
            _ => None,
        }
    }

    /// One past the last element of the tensor that is touched. `None` beyond 2^64.
    pub fn end(&self) -> Option<u64> {
        self.axes.iter().try_fold(self.offset.checked_add(1)?, |end, axis| {
            end.checked_add(axis.size.checked_sub(1)?.checked_mul(axis.stride)?)
        })
    }

    /// Where in the tensor element `index` of the enumeration lies.
    pub fn locate(&self, mut index: u64) -> u64 {
        let mut at = self.offset;
        for axis in self.axes.iter().rev() {
            at += index % axis.size * axis.stride;
            index /= axis.size;
        }
        at
    }
}

/// Why a part of a view cannot be taken, or a view not be shaped anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// More subscripts than dimensions.
    #[error("expected at most {dimensions} subscripts for shape {shape}, found {found}")]
    Rank {
        /// Dimensions of the view.
        dimensions: usize,
        /// Its shape.
        shape: ShapeText,
        /// Subscripts.
        found: usize,
    },
    /// A subscript outside of its dimension.
    #[error("expected a subscript within 0..{size} for dimension {dimension} of shape {shape}, found {found}")]
    Bounds {
        /// Which dimension.
        dimension: usize,
        /// Its size.
        size: u64,
        /// The shape.
        shape: ShapeText,
        /// The subscript.
        found: String,
    },
    /// Another number of elements.
    #[error("shape {from} has {elements} elements, expected as many in {to}")]
    Elements {
        /// Shape of the view.
        from: ShapeText,
        /// Its elements.
        elements: u64,
        /// Shape asked for.
        to: ShapeText,
    },
    /// Elements that no loops with fixed strides go through.
    #[error("{what} of shape {shape} is no view: its elements do not lie at fixed strides")]
    Strides {
        /// What was asked for.
        what: String,
        /// Shape of the view.
        shape: ShapeText,
    },
}

/// A shape in messages: `[4, 64]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeText(pub Vec<u64>);

impl fmt::Display for ShapeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A view with a shape. Each dimension is enumerated by axes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaped {
    tensor: TensorId,
    offset: u64,
    dimensions: Vec<Vec<Axis>>,
}

impl Shaped {
    /// A whole tensor of this shape.
    pub fn whole(tensor: TensorId, shape: &[u64]) -> Shaped {
        let mut stride = 1u64;
        let mut dimensions: Vec<Vec<Axis>> = Vec::with_capacity(shape.len());
        for &size in shape.iter().rev() {
            dimensions.push(vec![Axis { size, stride }]);
            stride = stride.saturating_mul(size);
        }
        dimensions.reverse();
        Shaped { tensor, offset: 0, dimensions }
    }

    /// Its shape.
    pub fn shape(&self) -> Vec<u64> {
        self.dimensions.iter().map(|axes| size_of(axes)).collect()
    }

    fn shape_text(&self) -> ShapeText {
        ShapeText(self.shape())
    }

    /// Which tensor it views.
    pub fn tensor(&self) -> TensorId {
        self.tensor
    }

    /// Its elements.
    pub fn view(&self) -> View {
        View::new(self.tensor, self.offset, self.dimensions.iter().flatten().copied())
    }

    /// Element `at` of a dimension, which goes.
    pub fn index(mut self, dimension: usize, at: u64) -> Result<Shaped, ViewError> {
        let part = self.clone().range(dimension, at, at.saturating_add(1)).map_err(|error| match error {
            ViewError::Bounds { dimension, size, shape, .. } => {
                ViewError::Bounds { dimension, size, shape, found: at.to_string() }
            }
            other => other,
        })?;
        self = part;
        self.dimensions.remove(dimension);
        Ok(self)
    }

    /// Elements `from..to` of a dimension.
    pub fn range(mut self, dimension: usize, from: u64, to: u64) -> Result<Shaped, ViewError> {
        let shape = self.shape_text();
        let rank = self.dimensions.len();
        let Some(axes) = self.dimensions.get_mut(dimension) else {
            return Err(ViewError::Rank { dimensions: rank, shape, found: dimension + 1 });
        };
        let size = size_of(axes);
        if from >= to || to > size {
            return Err(ViewError::Bounds { dimension, size, shape, found: format!("{from}..{to}") });
        }
        let (mut from, mut to) = (from, to);
        for index in 0..axes.len() {
            let inner: u64 = size_of(&axes[index + 1..]);
            if from.is_multiple_of(inner) && to.is_multiple_of(inner) {
                self.offset += from / inner * axes[index].stride;
                axes[index].size = (to - from) / inner;
                return Ok(self);
            }
            let step = from / inner;
            if (to - 1) / inner != step {
                break;
            }
            self.offset += step * axes[index].stride;
            axes[index].size = 1;
            (from, to) = (from - step * inner, to - step * inner);
        }
        Err(ViewError::Strides { what: format!("{from}..{to} of dimension {dimension}"), shape })
    }

    /// The same elements in the same order, in another shape.
    pub fn reshape(&self, shape: &[u64]) -> Result<Shaped, ViewError> {
        let elements = size_of(&self.dimensions.concat());
        if shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size)) != Some(elements) {
            let (from, to) = (self.shape_text(), ShapeText(shape.to_vec()));
            return Err(ViewError::Elements { from, elements, to });
        }
        let strides = || ViewError::Strides {
            what: format!("reshape to {}", ShapeText(shape.to_vec())),
            shape: self.shape_text(),
        };
        let mut waiting: Vec<Axis> = self.dimensions.concat();
        waiting.retain(|axis| axis.size != 1);
        waiting.reverse();
        let mut dimensions = Vec::with_capacity(shape.len());
        for &size in shape {
            let (mut axes, mut left) = (Vec::new(), size);
            while left > 1 {
                let axis = waiting.pop().ok_or_else(strides)?;
                if left.is_multiple_of(axis.size) {
                    left /= axis.size;
                    axes.push(axis);
                } else if axis.size.is_multiple_of(left) {
                    let inner = Axis { size: axis.size / left, stride: axis.stride };
                    axes.push(Axis { size: left, stride: inner.size * inner.stride });
                    waiting.push(inner);
                    left = 1;
                } else {
                    return Err(strides());
                }
            }
            if axes.is_empty() {
                axes.push(Axis { size: 1, stride: 1 });
            }
            dimensions.push(axes);
        }
        Ok(Shaped { tensor: self.tensor, offset: self.offset, dimensions })
    }

    /// The last two dimensions exchanged. `None` when there are fewer.
    pub fn transpose(mut self) -> Option<Shaped> {
        let rank = self.dimensions.len();
        (rank >= 2).then(|| {
            self.dimensions.swap(rank - 2, rank - 1);
            self
        })
    }
}

fn size_of(axes: &[Axis]) -> u64 {
    axes.iter().fold(1, |product, axis| product.saturating_mul(axis.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements that a view goes through, in order.
    fn elements(view: &View) -> Vec<u64> {
        (0..view.elements()).map(|index| view.locate(index)).collect()
    }

    fn whole(shape: &[u64]) -> Shaped {
        Shaped::whole(TensorId(0), shape)
    }

    #[test]
    fn whole_tensors_and_slices_of_rows_are_ranges() {
        assert_eq!(whole(&[4, 6]).view().range(), Some(0..24));
        assert_eq!(whole(&[4, 6]).range(0, 1, 3).unwrap().view().range(), Some(6..18));
        assert_eq!(whole(&[]).view().range(), Some(0..1));
        assert_eq!(whole(&[3, 4, 6]).index(0, 2).unwrap().view().range(), Some(48..72));
    }

    #[test]
    fn every_third_group_of_rows() {
        // [2 heads, 3, 2 rows, 4] as in GPT-NeoX: the keys.
        let keys = whole(&[12, 4]).reshape(&[2, 3, 2, 4]).unwrap().index(1, 1).unwrap();
        assert_eq!(keys.shape(), [2, 2, 4]);
        let keys = keys.reshape(&[4, 4]).unwrap();
        assert_eq!(elements(&keys.view()), (8..16).chain(32..40).collect::<Vec<_>>());
        assert_eq!(keys.view().end(), Some(40));
        // Rows of it: within a head, or whole heads.
        assert_eq!(elements(&keys.clone().range(0, 1, 2).unwrap().view()), (12..16).collect::<Vec<_>>());
        assert_eq!(elements(&keys.clone().range(0, 2, 4).unwrap().view()), (32..40).collect::<Vec<_>>());
        assert!(matches!(keys.range(0, 1, 3), Err(ViewError::Strides { .. })));
    }

    #[test]
    fn transposes_and_interleaved_columns() {
        let transposed = whole(&[2, 3]).transpose().unwrap();
        assert_eq!(transposed.shape(), [3, 2]);
        assert_eq!(elements(&transposed.view()), [0, 3, 1, 4, 2, 5]);
        let odd = whole(&[2, 6]).reshape(&[2, 3, 2]).unwrap().index(2, 1).unwrap().transpose().unwrap();
        assert_eq!(elements(&odd.view()), [1, 7, 3, 9, 5, 11]);
        assert!(whole(&[3]).transpose().is_none());
    }

    #[test]
    fn what_is_no_view_is_refused() {
        assert!(matches!(whole(&[4]).reshape(&[5]), Err(ViewError::Elements { .. })));
        assert!(matches!(whole(&[4]).index(0, 4), Err(ViewError::Bounds { .. })));
        assert!(matches!(whole(&[4]).range(0, 2, 2), Err(ViewError::Bounds { .. })));
        assert!(matches!(whole(&[4]).index(1, 0), Err(ViewError::Rank { .. })));
        let transposed = whole(&[2, 3]).transpose().unwrap();
        assert!(matches!(transposed.reshape(&[2, 3]), Err(ViewError::Strides { .. })));
        assert_eq!(transposed.reshape(&[3, 2, 1]).unwrap().shape(), [3, 2, 1]);
    }

    #[test]
    fn axes_that_can_be_one_are_one() {
        let axes = [(4, 6), (2, 3), (3, 1), (1, 9)].map(|(size, stride)| Axis { size, stride });
        assert_eq!(View::new(TensorId(0), 0, axes), View::contiguous(TensorId(0), 0, 24));
    }
}
