//! Reading weight files: mapped into memory, checked against the program, handed out as matrices.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use lathe_kernels::formats::{Format, Matrix, MatrixError};

use super::header::{HeaderEntry, HeaderError, read_header};
use super::{ALIGNMENT, MappedFile, PADDING_PREFIX, is_weight_file};
use crate::program::{MatrixShape, Program, StoredTensor, Weight};

/// Why the weights of a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file or folder that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A folder without weight files.
    #[error("{} has no weight files (weights-*.safetensors)", folder.display())]
    NoFiles {
        /// The folder.
        folder: PathBuf,
    },
    /// Not a safetensors file.
    #[error("{}: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// A tensor in two files.
    #[error("tensor `{tensor}` is in {} and in {}", first.display(), second.display())]
    Duplicate {
        /// The tensor.
        tensor: String,
        /// A file.
        first: PathBuf,
        /// Another file.
        second: PathBuf,
    },
    /// A tensor that the program needs.
    #[error("{} has no tensor `{tensor}` ({expected})", folder.display())]
    Missing {
        /// Where it should be.
        folder: PathBuf,
        /// The tensor.
        tensor: String,
        /// Dtype and shape that it should have.
        expected: String,
    },
    /// A tensor that the program does not know.
    #[error("{}: tensor `{tensor}` belongs to no weight of the program", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of another dtype, shape or size.
    #[error("{}: tensor `{tensor}` is {found}, expected {expected}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Dtype, shape and bytes of the program's weight.
        expected: String,
        /// Those of the file.
        found: String,
    },
    /// A weight that is none: the program is not valid.
    #[error("weight `{weight}` has no layout: format `{format}`, shape {shape:?}")]
    NoLayout {
        /// The weight.
        weight: String,
        /// Its format.
        format: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A matrix that its format does not take.
    #[error("weight `{weight}`: {source}")]
    Matrix {
        /// The weight.
        weight: String,
        /// What is wrong.
        source: Box<MatrixError>,
    },
}

impl WeightsError {
    /// Whether the files are at fault, rather than the system that should read them.
    pub fn is_input_fault(&self) -> bool {
        !matches!(self, WeightsError::Io { .. })
    }
}

/// The weights of a program, mapped from the files of a folder.
///
/// The files must not change while this value lives: a file that is cut short ends the process when its lost part is
/// read.
#[derive(Debug)]
pub struct Weights {
    files: Vec<WeightFile>,
    bound: Vec<BoundWeight>,
}

#[derive(Debug)]
struct WeightFile {
    path: PathBuf,
    mapped: MappedFile,
}

/// Where the planes of a weight lie.
#[derive(Debug)]
struct BoundWeight {
    name: String,
    format: Format,
    shape: MatrixShape,
    planes: Vec<PlaneBytes>,
}

/// Bytes `range` of file `file`.
#[derive(Debug)]
struct PlaneBytes {
    file: usize,
    range: Range<usize>,
}

/// Where a stored tensor lies.
#[derive(Debug, Clone, Copy)]
pub struct StoredPlace<'a> {
    /// Its weight file.
    pub file: &'a Path,
    /// Its first byte, counted from the start of the file.
    pub offset: u64,
    /// Its bytes, mapped.
    pub bytes: &'a [u8],
}

impl Weights {
    /// Maps the weight files of a folder and finds every weight of the program in them. No weight is read.
    pub fn open(folder: &Path, program: &Program) -> Result<Weights, WeightsError> {
        let files = map_files(folder)?;
        let mut tensors = index_tensors(&files)?;
        let mut bound = Vec::with_capacity(program.weights.len());
        for weight in &program.weights {
            bound.push(bind(folder, &files, &mut tensors, weight)?);
        }
        if let Some((file, entry)) = tensors.into_values().min_by(|(_, a), (_, b)| a.name.cmp(&b.name)) {
            return Err(WeightsError::Unexpected { path: files[file].path.clone(), tensor: entry.name });
        }
        let weights = Weights { files, bound };
        weights.matrices()?;
        Ok(weights)
    }

    /// One matrix for each weight of the program, in its order; a vector `[n]` is a matrix `[1, n]`.
    pub fn matrices(&self) -> Result<Vec<Matrix<'_>>, WeightsError> {
        let matrix = |weight: &BoundWeight| {
            let planes: Vec<&[u8]> =
                weight.planes.iter().map(|plane| &self.files[plane.file].mapped.bytes()[plane.range.clone()]).collect();
            Matrix::new(weight.format, weight.shape.rows, weight.shape.cols, &planes)
                .map_err(|source| WeightsError::Matrix { weight: weight.name.clone(), source: Box::new(source) })
        };
        self.bound.iter().map(matrix).collect()
    }

    /// Where the stored tensors of each weight of the program lie, in its order; those of a weight in the order of its
    /// planes, as in [`Weight::stored_tensors`].
    pub fn places(&self) -> impl Iterator<Item = Vec<StoredPlace<'_>>> {
        let place = |plane: &PlaneBytes| {
            let file = &self.files[plane.file];
            let bytes = &file.mapped.bytes()[plane.range.clone()];
            StoredPlace { file: &file.path, offset: plane.range.start as u64, bytes }
        };
        self.bound.iter().map(move |weight| weight.planes.iter().map(place).collect())
    }

    /// Bytes of all planes, without headers and alignment.
    pub fn stored_bytes(&self) -> u64 {
        self.bound.iter().flat_map(|weight| &weight.planes).map(|plane| plane.range.len() as u64).sum()
    }
}

/// The weight files of a folder in the order of their names.
fn map_files(folder: &Path) -> Result<Vec<WeightFile>, WeightsError> {
    let failed = |source| WeightsError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(is_weight_file) {
            paths.push(entry.path());
        }
    }
    if paths.is_empty() {
        return Err(WeightsError::NoFiles { folder: folder.to_owned() });
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| match MappedFile::open(&path) {
            Ok(mapped) => Ok(WeightFile { path, mapped }),
            Err(source) => Err(WeightsError::Io { path, source }),
        })
        .collect()
}

/// Every tensor of every file with the index of its file.
fn index_tensors(files: &[WeightFile]) -> Result<HashMap<String, (usize, HeaderEntry)>, WeightsError> {
    let mut tensors: HashMap<String, (usize, HeaderEntry)> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        let entries = read_header(file.mapped.bytes())
            .map_err(|source| WeightsError::Header { path: file.path.clone(), source })?;
        for entry in entries.into_iter().filter(|entry| !is_padding(entry)) {
            if let Some((first, entry)) = tensors.insert(entry.name.clone(), (index, entry)) {
                let (first, second) = (files[first].path.clone(), file.path.clone());
                return Err(WeightsError::Duplicate { tensor: entry.name, first, second });
            }
        }
    }
    Ok(tensors)
}

/// Whether a tensor is there for alignment only. Its name alone does not make it so.
fn is_padding(entry: &HeaderEntry) -> bool {
    entry.name.starts_with(PADDING_PREFIX)
        && entry.dtype == "U8"
        && entry.bytes() < ALIGNMENT
        && *entry.shape == [entry.bytes()]
}

/// Takes the tensors of a weight out of the index.
fn bind(
    folder: &Path,
    files: &[WeightFile],
    tensors: &mut HashMap<String, (usize, HeaderEntry)>,
    weight: &Weight,
) -> Result<BoundWeight, WeightsError> {
    let (Some(format), Some(shape), Some(stored)) =
        (weight.find_format(), weight.matrix_shape(), weight.stored_tensors())
    else {
        let Weight { name, format, shape } = weight.clone();
        return Err(WeightsError::NoLayout { weight: name, format, shape });
    };
    let mut planes = Vec::with_capacity(stored.len());
    for tensor in stored {
        let Some((file, entry)) = tensors.remove(&tensor.name) else {
            let (folder, expected) = (folder.to_owned(), description(tensor.dtype.name(), &shape_of(&tensor)));
            return Err(WeightsError::Missing { folder, tensor: tensor.name, expected });
        };
        check_tensor(&files[file].path, &tensor, &entry)?;
        // The file is mapped, so its offsets fit a `usize`.
        planes.push(PlaneBytes { file, range: entry.range.start as usize..entry.range.end as usize });
    }
    Ok(BoundWeight { name: weight.name.clone(), format, shape, planes })
}

fn check_tensor(path: &Path, expected: &StoredTensor, found: &HeaderEntry) -> Result<(), WeightsError> {
    let shape = shape_of(expected);
    let bytes = expected.bytes();
    if found.dtype == expected.dtype.name() && found.shape == shape && Some(found.bytes() as usize) == bytes {
        return Ok(());
    }
    let in_bytes = |description, bytes: Option<usize>| match bytes {
        Some(bytes) => format!("{description} in {bytes} bytes"),
        None => description,
    };
    Err(WeightsError::Mismatch {
        path: path.to_owned(),
        tensor: found.name.clone(),
        expected: in_bytes(description(expected.dtype.name(), &shape), bytes),
        found: in_bytes(description(&found.dtype, &found.shape), Some(found.bytes() as usize)),
    })
}

fn shape_of(tensor: &StoredTensor) -> Vec<u64> {
    tensor.shape.iter().map(|&dimension| dimension as u64).collect()
}

fn description(dtype: &str, shape: &[u64]) -> String {
    format!("{} {shape:?}", dtype.escape_debug())
}
