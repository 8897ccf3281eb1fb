//! Reading stored tensors in pieces. The only place that reads weights.
//!
//! A probe may keep the first bytes of a tensor here, so that packing does not read them a second time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use lathe_runtime::files::open_regular;

use crate::ir::{Axis, View};
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
        self.read_at(tensor, range.start, into)
    }

    fn read_at(&self, tensor: &Tensor, start: u64, into: &mut [u8]) -> Result<(), ReadTensorError> {
        let kept = self.kept.get(&tensor.name).and_then(|kept| kept.get(start as usize..)).unwrap_or_default();
        let length = kept.len().min(into.len());
        let (front, rest) = into.split_at_mut(length);
        front.copy_from_slice(&kept[..front.len()]);
        if rest.is_empty() {
            return Ok(());
        }
        let (name, file) = &self.files[tensor.file];
        let begin = start + front.len() as u64;
        read_exact_at(file, rest, tensor.offset + begin).map_err(|source| ReadTensorError {
            file: name.clone(),
            tensor: Some(tensor.name.clone()),
            begin,
            end: begin + rest.len() as u64,
            source,
        })?;
        self.bytes_read.fetch_add(rest.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Reads elements `range` of a view, in its order, into `into`, which takes their length. Elements are `width` bytes.
    /// Where they do not lie one after the other, `scratch` takes what lies between them, at most `room` bytes or one
    /// element.
    ///
    /// # Errors
    /// When the file ends early or cannot be read.
    pub fn read_view(
        &self,
        (tensor, view): (&Tensor, &View),
        width: u64,
        range: Range<u64>,
        (scratch, room): (&mut Vec<u8>, u64),
        into: &mut Vec<u8>,
    ) -> Result<(), ReadTensorError> {
        into.resize(((range.end - range.start) * width) as usize, 0);
        let reach = |stride: u64| 1 + (room / width).saturating_sub(1) / stride;
        let mut at = range.start;
        while at < range.end {
            let out = &mut into[((at - range.start) * width) as usize..];
            let left = range.end - at;
            let (row, axis) = match view.axes[..] {
                [] => (None, Axis { size: 1, stride: 1 }),
                [axis] => (None, axis),
                [.., row, axis] => (Some(row), axis),
            };
            let column = at % axis.size;
            let block = Block { tensor, width, first: view.locate(at), count: 0, stride: axis.stride, step: 1 };
            match row.filter(|row| row.stride < axis.stride && column == 0 && left >= axis.size) {
                // Rows lie closer together than the elements of a row: a block is a column of several rows.
                Some(row) => {
                    let rows = row.size - at / axis.size % row.size;
                    let count = rows.min(left / axis.size).min(reach(row.stride));
                    for column in 0..axis.size {
                        let first = block.first + column * axis.stride;
                        let block = Block { first, count, stride: row.stride, step: axis.size, ..block };
                        self.read_block(&block, scratch, &mut out[(column * width) as usize..])?;
                    }
                    at += count * axis.size;
                }
                None => {
                    let reach = if axis.stride == 1 { u64::MAX } else { reach(axis.stride) };
                    let count = (axis.size - column).min(left).min(reach);
                    self.read_block(&Block { count, ..block }, scratch, out)?;
                    at += count;
                }
            }
        }
        Ok(())
    }

    fn read_block(&self, block: &Block<'_>, scratch: &mut Vec<u8>, out: &mut [u8]) -> Result<(), ReadTensorError> {
        let Block { tensor, width, first, count, stride, step } = *block;
        if stride == 1 && step == 1 {
            return self.read_at(tensor, first * width, &mut out[..(count * width) as usize]);
        }
        scratch.resize((((count - 1) * stride + 1) * width) as usize, 0);
        self.read_at(tensor, first * width, scratch)?;
        let (width, stride, step) = (width as usize, (stride * width) as usize, (step * width) as usize);
        for (element, out) in scratch.chunks(stride).zip(out.chunks_mut(step)) {
            out[..width].copy_from_slice(&element[..width]);
        }
        Ok(())
    }

    /// Bytes of weights read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

/// Elements that are read at once: `count` of them, of `width` bytes, `stride` elements apart in the tensor and `step`
/// apart where they go.
#[derive(Clone, Copy)]
struct Block<'t> {
    tensor: &'t Tensor,
    width: u64,
    /// Place of the first in the tensor.
    first: u64,
    count: u64,
    stride: u64,
    step: u64,
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
