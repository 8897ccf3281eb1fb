//! The values of a checkpoint where they lie: its files, mapped.

use std::borrow::Cow;
use std::io;

use lathe_kernels::formats::Matrix;
use lathe_runtime::program::{MatrixShape, Program};
use lathe_runtime::weights::MappedFile;

use super::VerifyError;
use crate::ir::View;
use crate::lower::Recipe;
use crate::model::Checkpoint;
use crate::source::{ReadTensorError, TensorReader};

/// Most bytes between elements that are read at once.
const ROOM: usize = 4 << 20;

/// The files of a checkpoint.
pub(crate) struct Stored<'a> {
    checkpoint: &'a Checkpoint,
    reader: &'a TensorReader,
    files: Vec<MappedFile>,
}

impl<'a> Stored<'a> {
    pub(crate) fn open(checkpoint: &'a Checkpoint, reader: &'a TensorReader) -> Result<Self, VerifyError> {
        let map = |path: &std::path::PathBuf| {
            MappedFile::open(path).map_err(|source| VerifyError::Map { file: path.clone(), source })
        };
        let files = checkpoint.files.iter().map(map).collect::<Result<_, _>>()?;
        Ok(Stored { checkpoint, reader, files })
    }

    /// The bytes of a view's elements, in its order: those of the file where they lie one after the other, else a copy.
    pub(crate) fn bytes(&self, view: &View) -> Result<Cow<'_, [u8]>, VerifyError> {
        let tensor = self.checkpoint.tensor(view.tensor);
        let width = tensor.stored_dtype().map_or(0, crate::model::StoredDtype::bytes);
        if let Some(elements) = view.range() {
            let place = |element: u64| usize::try_from(tensor.offset + element * width).unwrap_or(usize::MAX);
            let (begin, end) = (elements.start * width, elements.end * width);
            let bytes = self.files[tensor.file].bytes().get(place(elements.start)..place(elements.end));
            // Its size was right when its header was read.
            let shortened = || ReadTensorError {
                file: self.checkpoint.file_of(tensor),
                tensor: Some(tensor.name.clone()),
                begin,
                end,
                source: io::ErrorKind::UnexpectedEof.into(),
            };
            return Ok(Cow::Borrowed(bytes.ok_or_else(shortened)?));
        }
        let (mut bytes, size) = (Vec::new(), view.elements().saturating_mul(width));
        let too_large = |_| VerifyError::Memory { tensor: tensor.name.clone(), bytes: size };
        bytes.try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX)).map_err(too_large)?;
        let mut scratch = Vec::with_capacity(ROOM);
        self.reader.read_view((tensor, view), width, 0..view.elements(), (&mut scratch, ROOM as u64), &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    /// The bytes of every weight of a program that keeps the checkpoint as it is.
    pub(crate) fn weights(&self, recipes: &[Recipe]) -> Result<Vec<Cow<'_, [u8]>>, VerifyError> {
        recipes.iter().filter_map(|recipe| recipe.view()).map(|view| self.bytes(view)).collect()
    }
}

/// Matrices over the bytes of every weight.
pub(crate) fn matrices<'b>(program: &Program, weights: &'b [Cow<'_, [u8]>]) -> Vec<Matrix<'b>> {
    let matrix = |(weight, bytes): (&lathe_runtime::program::Weight, &'b Cow<'_, [u8]>)| {
        let format = weight.find_format().expect("invariant: a lowered program is valid");
        let MatrixShape { rows, cols } = weight.matrix_shape().expect("invariant: a lowered program is valid");
        Matrix::new(format, rows, cols, &[bytes]).expect("invariant: a view has as many elements as its parameter")
    };
    program.weights.iter().zip(weights).map(matrix).collect()
}
