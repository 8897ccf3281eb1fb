//! One square matrix of a safetensors file that is no checkpoint.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use half::{bf16, f16};
use lathe_runtime::files::open_regular;
use safetensors::tensor::Dtype;

use super::header::{self, Entry};

/// Why a matrix cannot be had: text that names the file, the tensor, what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatrixError {
    /// The file cannot be read, or is no file of safetensors.
    File(String),
    /// No tensor of the file is the one that was named.
    Key(String),
    /// The tensor has another shape or dtype.
    Tensor(String),
}

/// Reads a matrix `[width, width]`, row-major. Without a key the file must hold one tensor.
///
/// # Errors
/// When there is no such file, tensor or matrix.
pub fn read_matrix(path: &Path, key: Option<&str>, width: u64) -> Result<Vec<f32>, MatrixError> {
    let file = path.display();
    let header = header::read(path).map_err(|faults| {
        let message = faults.first().map_or_else(|| format!("{file}: cannot be read"), |fault| fault.message.clone());
        MatrixError::File(message)
    })?;
    let entry = find(&header.entries, key).map_err(|message| MatrixError::Key(format!("{file}: {message}")))?;
    let Entry { name, dtype, shape, offset, bytes } = entry;
    if shape[..] != [width, width] {
        let message = format!("{file}: tensor `{name}`: expected shape [{width}, {width}], found {shape:?}");
        return Err(MatrixError::Tensor(message));
    }
    let size = match dtype {
        Dtype::F64 => 8,
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::BF16 => 2,
        other => {
            let message = format!("{file}: tensor `{name}`: expected F64, F32, F16 or BF16, found {other}");
            return Err(MatrixError::Tensor(message));
        }
    };
    let (mut input, _) =
        open_regular(path).map_err(|error| MatrixError::File(format!("{file}: cannot be read: {error}")))?;
    // The header was checked against the size of the file.
    let mut stored = vec![0; *bytes as usize];
    let read = input.seek(SeekFrom::Start(*offset)).and_then(|_| input.read_exact(&mut stored));
    read.map_err(|error| MatrixError::File(format!("{file}: tensor `{name}` cannot be read: {error}")))?;
    let value = |bytes: &[u8]| match *bytes {
        [a, b] if *dtype == Dtype::F16 => f16::from_le_bytes([a, b]).to_f32(),
        [a, b] => bf16::from_le_bytes([a, b]).to_f32(),
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
        _ => unreachable!("invariant: chunks are as long as an element"),
    };
    Ok(stored.chunks_exact(size).map(value).collect())
}

fn find<'e>(entries: &'e [Entry], key: Option<&str>) -> Result<&'e Entry, String> {
    let names = || {
        let shown: Vec<String> = entries.iter().take(4).map(|entry| format!("`{}`", entry.name)).collect();
        let more = if entries.len() > shown.len() { ", …" } else { "" };
        format!("{}{more}", shown.join(", "))
    };
    match (key, entries) {
        (Some(key), _) => entries
            .iter()
            .find(|entry| entry.name == key)
            .ok_or_else(|| format!("expected a tensor `{key}`, found {}", names())),
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("expected one tensor, as no key is given; found {}: {}", entries.len(), names())),
    }
}
