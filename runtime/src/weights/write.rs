//! Writing weight files: the layout first, then the bytes of every tensor in any order, from any number of threads.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use super::{ALIGNMENT, LENGTH_BYTES, MAX_HEADER_BYTES, METADATA, PADDING_PREFIX};
use crate::program::StoredTensor;

/// Why a weight file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file cannot be created, grown or written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two tensors of one name.
    #[error("two tensors are called `{name}`")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A name that the file uses for itself.
    #[error("a tensor cannot be called `{name}`")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// Tensors of more than 2⁶³ bytes together.
    #[error("tensor `{name}` makes the file too large")]
    TooLarge {
        /// The first tensor that does not fit.
        name: String,
    },
    /// A header that no reader takes.
    #[error("the header has {found} bytes, at most {MAX_HEADER_BYTES} can be read")]
    HeaderTooLarge {
        /// Its size.
        found: u64,
    },
    /// Bytes outside of a tensor.
    #[error("bytes {offset}..{end} of tensor `{name}`, which has {size}")]
    OutOfRange {
        /// The tensor.
        name: String,
        /// First byte.
        offset: u64,
        /// End; saturates.
        end: u64,
        /// Size of the tensor in bytes.
        size: u64,
    },
    /// A tensor that was not written as often as it has bytes.
    #[error("{written} bytes of tensor `{name}` were written, which has {size}")]
    Incomplete {
        /// The tensor.
        name: String,
        /// Bytes written.
        written: u64,
        /// Size of the tensor in bytes.
        size: u64,
    },
}

/// Where everything lies in a weight file: a function of the tensors alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The file up to the data: the length and the header. Its size is a multiple of [`ALIGNMENT`].
    pub header: Vec<u8>,
    /// Bytes of the file that each tensor takes, in the order given; each begins at a multiple of [`ALIGNMENT`].
    pub tensors: Vec<Range<u64>>,
    /// Size of the file in bytes.
    pub file_bytes: u64,
}

impl Layout {
    /// Lays tensors out in the order given.
    pub fn new(tensors: &[StoredTensor]) -> Result<Layout, WriteError> {
        let mut header = Map::new();
        let mut names = HashSet::new();
        let mut ranges = Vec::with_capacity(tensors.len());
        let mut end = 0u64;
        for (index, tensor) in tensors.iter().enumerate() {
            let name = &tensor.name;
            if name.starts_with(PADDING_PREFIX) || name == METADATA {
                return Err(WriteError::ReservedName { name: name.clone() });
            }
            if !names.insert(name) {
                return Err(WriteError::DuplicateTensor { name: name.clone() });
            }
            let too_large = || WriteError::TooLarge { name: name.clone() };
            let begin = end.next_multiple_of(ALIGNMENT);
            if begin > end {
                let size = begin - end;
                header.insert(
                    format!("{PADDING_PREFIX}{index}"),
                    json!({"dtype": "U8", "shape": [size], "data_offsets": [end, begin]}),
                );
            }
            let size = tensor.bytes().ok_or_else(too_large)? as u64;
            end = begin.checked_add(size).filter(|&end| end <= i64::MAX as u64 / 2).ok_or_else(too_large)?;
            header.insert(
                name.clone(),
                json!({"dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [begin, end]}),
            );
            ranges.push(begin..end);
        }
        let header = encode_header(header)?;
        let data_start = header.len() as u64;
        for range in &mut ranges {
            *range = range.start + data_start..range.end + data_start;
        }
        Ok(Layout { header, tensors: ranges, file_bytes: data_start + end })
    }
}

/// Length and header, filled up with spaces to a multiple of the alignment.
fn encode_header(header: Map<String, Value>) -> Result<Vec<u8>, WriteError> {
    let text = Value::Object(header).to_string();
    let padded = (LENGTH_BYTES + text.len()).next_multiple_of(ALIGNMENT as usize) - LENGTH_BYTES;
    if padded as u64 > MAX_HEADER_BYTES {
        return Err(WriteError::HeaderTooLarge { found: padded as u64 });
    }
    let mut bytes = (padded as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.resize(LENGTH_BYTES + padded, b' ');
    Ok(bytes)
}

/// Writes one weight file. Shared by reference among threads; every byte of every tensor is written exactly once.
///
/// ```
/// use lathe_kernels::formats::PlaneDtype;
/// use lathe_runtime::program::StoredTensor;
/// use lathe_runtime::weights::WeightsWriter;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("weights-00001.safetensors");
/// let gain = StoredTensor { name: "norm.weight".to_owned(), dtype: PlaneDtype::F32, shape: vec![2] };
/// let writer = WeightsWriter::create(&path, vec![gain])?;
/// writer.write_at(0, 4, &2.0f32.to_le_bytes())?;
/// writer.write_at(0, 0, &1.0f32.to_le_bytes())?;
/// writer.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WeightsWriter {
    path: PathBuf,
    file: File,
    tensors: Vec<StoredTensor>,
    layout: Layout,
    /// Bytes written so far, for each tensor.
    written: Vec<AtomicU64>,
}

impl WeightsWriter {
    /// Creates the file (an existing one is replaced) with its final size and its header.
    pub fn create(path: &Path, tensors: Vec<StoredTensor>) -> Result<WeightsWriter, WriteError> {
        let layout = Layout::new(&tensors)?;
        let failed = |source| WriteError::Io { path: path.to_owned(), source };
        let file = File::create(path).map_err(failed)?;
        file.set_len(layout.file_bytes).map_err(failed)?;
        write_all_at(&file, &layout.header, 0).map_err(failed)?;
        let written = tensors.iter().map(|_| AtomicU64::new(0)).collect();
        Ok(WeightsWriter { path: path.to_owned(), file, tensors, layout, written })
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes bytes of the tensor at index `tensor` of those given, from byte `offset` of it on.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn write_at(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let range = &self.layout.tensors[tensor];
        let size = range.end - range.start;
        let end = offset.saturating_add(bytes.len() as u64);
        if end > size {
            return Err(WriteError::OutOfRange { name: self.tensors[tensor].name.clone(), offset, end, size });
        }
        write_all_at(&self.file, bytes, range.start + offset).map_err(|source| self.failed(source))?;
        self.written[tensor].fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Checks that every tensor is whole and brings the file to the disk.
    pub fn finish(self) -> Result<(), WriteError> {
        for ((tensor, range), written) in self.tensors.iter().zip(&self.layout.tensors).zip(&self.written) {
            let (written, size) = (written.load(Ordering::Relaxed), range.end - range.start);
            if written != size {
                return Err(WriteError::Incomplete { name: tensor.name.clone(), written, size });
            }
        }
        self.file.sync_all().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> WriteError {
        WriteError::Io { path: self.path.clone(), source }
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lathe_kernels::formats::PlaneDtype;
    use safetensors::SafeTensors;

    use super::*;

    fn tensor(name: &str, dtype: PlaneDtype, shape: &[usize]) -> StoredTensor {
        StoredTensor { name: name.to_owned(), dtype, shape: shape.to_vec() }
    }

    fn tensors() -> Vec<StoredTensor> {
        vec![
            tensor("a", PlaneDtype::Bf16, &[3, 5]),
            tensor("b \"quoted\"", PlaneDtype::F32, &[16]),
            tensor("empty", PlaneDtype::U8, &[0, 4]),
            tensor("c", PlaneDtype::U8, &[1]),
            tensor("d", PlaneDtype::U32, &[2, 2]),
        ]
    }

    #[test]
    fn the_safetensors_library_reads_what_several_threads_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights-1.safetensors");
        let writer = WeightsWriter::create(&path, tensors()).unwrap();
        let bytes = |index: usize| -> Vec<u8> {
            let range = &writer.layout().tensors[index];
            (range.start..range.end).map(|at| (at * 7 + index as u64) as u8).collect()
        };
        let expected: Vec<Vec<u8>> = (0..tensors().len()).map(bytes).collect();
        std::thread::scope(|scope| {
            for (index, bytes) in expected.iter().enumerate().rev() {
                let writer = &writer;
                scope.spawn(move || {
                    for (offset, chunk) in bytes.chunks(7).enumerate() {
                        writer.write_at(index, offset as u64 * 7, chunk).unwrap();
                    }
                });
            }
        });
        let layout = writer.layout().clone();
        writer.finish().unwrap();

        let file = std::fs::read(&path).unwrap();
        assert_eq!(file.len() as u64, layout.file_bytes);
        assert!(layout.tensors.iter().all(|range| range.start % ALIGNMENT == 0));
        let read = SafeTensors::deserialize(&file).unwrap();
        for (tensor, bytes) in tensors().iter().zip(&expected) {
            let view = read.tensor(&tensor.name).unwrap();
            assert_eq!(view.shape(), tensor.shape);
            assert_eq!(view.dtype().to_string(), tensor.dtype.name());
            assert_eq!(view.data(), bytes);
        }
        let padding = read.tensors().into_iter().filter(|(name, _)| name.starts_with(PADDING_PREFIX));
        for (_, view) in padding {
            assert!(view.data().len() < ALIGNMENT as usize && view.data().iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn equal_tensors_give_equal_layouts() {
        assert_eq!(Layout::new(&tensors()).unwrap(), Layout::new(&tensors()).unwrap());
    }

    #[test]
    fn a_file_without_tensors_can_be_read() {
        let layout = Layout::new(&[]).unwrap();
        assert_eq!(layout.file_bytes, layout.header.len() as u64);
        assert!(SafeTensors::deserialize(&layout.header).unwrap().is_empty());
    }

    #[test]
    fn bad_tensors_are_refused() {
        let error = |tensors: &[StoredTensor]| Layout::new(tensors).unwrap_err().to_string();
        let byte = |name| tensor(name, PlaneDtype::U8, &[1]);
        assert_eq!(error(&[byte("a"), byte("a")]), "two tensors are called `a`");
        assert_eq!(error(&[byte("pad.7")]), "a tensor cannot be called `pad.7`");
        assert_eq!(error(&[byte("__metadata__")]), "a tensor cannot be called `__metadata__`");
        let huge = tensor("a", PlaneDtype::F32, &[usize::MAX / 2, 3]);
        assert_eq!(error(&[huge]), "tensor `a` makes the file too large");
    }

    #[test]
    fn every_byte_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        let writer = WeightsWriter::create(&path, vec![tensor("a", PlaneDtype::U8, &[3])]).unwrap();
        let error = writer.write_at(0, 2, &[0; 2]).unwrap_err();
        assert_eq!(error.to_string(), "bytes 2..4 of tensor `a`, which has 3");
        assert!(writer.write_at(0, u64::MAX, &[0; 2]).is_err());
        writer.write_at(0, 1, &[0; 2]).unwrap();
        let error = writer.finish().unwrap_err();
        assert_eq!(error.to_string(), "2 bytes of tensor `a` were written, which has 3");
    }
}
