//! Reading stored tensors in pieces. The only place that reads weights.
//!
//! A probe may keep the first bytes of a tensor here, so that packing does not read them a second time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use lathe_runtime::files::open_regular;

use crate::model::{Checkpoint, Tensor};

/// A tensor could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{file}: cannot read bytes {begin}..{end}{}: {source}", tensor.as_ref().map(|name| format!(" of tensor `{name}`")).unwrap_or_default())]
pub struct ReadTensorError {
    /// The weight file.
    pub file: String,
    /// The tensor, when one was being read.
    pub tensor: Option<String>,
    /// First byte, from the start of the tensor.
    pub begin: u64,
    /// One past the last.
    pub end: u64,
    /// The operating system's reason.
    pub source: io::Error,
}

/// Open weight files, and a count of what was read from them. Can be shared between threads.
#[derive(Debug)]
pub struct TensorReader {
    files: Vec<(String, File)>,
    /// First bytes of tensors, by name.
    kept: BTreeMap<String, Vec<u8>>,
    bytes_read: AtomicU64,
}

impl TensorReader {
    /// Opens every weight file.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, ReadTensorError> {
        let open = |path: &std::path::PathBuf| {
            let file = path.display().to_string();
            match open_regular(path) {
                Ok((handle, _)) => Ok((file, handle)),
                Err(source) => Err(ReadTensorError { file, tensor: None, begin: 0, end: 0, source }),
            }
        };
        let files = checkpoint.files.iter().map(open).collect::<Result<_, _>>()?;
        Ok(TensorReader { files, kept: BTreeMap::new(), bytes_read: AtomicU64::new(0) })
    }

    /// Keeps the first bytes of a tensor, as they were read.
    pub fn keep(&mut self, tensor: &Tensor, first: Vec<u8>) {
        self.kept.insert(tensor.name.clone(), first);
    }

    /// Reads `range` of a tensor's bytes into `into`, which takes its length.
    ///
    /// # Errors
    /// When the file ends early or cannot be read.
    pub fn read(&self, tensor: &Tensor, range: Range<u64>, into: &mut Vec<u8>) -> Result<(), ReadTensorError> {
        debug_assert!(range.start <= range.end && range.end <= tensor.bytes);
        into.resize((range.end - range.start) as usize, 0);
        let kept = self.kept.get(&tensor.name).and_then(|kept| kept.get(range.start as usize..)).unwrap_or_default();
        let length = kept.len().min(into.len());
        let (front, rest) = into.split_at_mut(length);
        front.copy_from_slice(&kept[..front.len()]);
        if rest.is_empty() {
            return Ok(());
        }
        let (name, file) = &self.files[tensor.file];
        let begin = range.start + front.len() as u64;
        read_exact_at(file, rest, tensor.offset + begin).map_err(|source| ReadTensorError {
            file: name.clone(),
            tensor: Some(tensor.name.clone()),
            begin,
            end: range.end,
            source,
        })?;
        self.bytes_read.fetch_add(rest.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of weights read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut into: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !into.is_empty() {
        match file.seek_read(into, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                into = &mut into[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}
