//! The header of a checkpoint's weight file: read alone, and trusted in nothing.
//!
//! What holds for every safetensors file is checked by [`parse_header`]; here, that the bytes of a tensor are as many as
//! its dtype and shape say. Source of the format: <https://github.com/huggingface/safetensors#format>.

use std::io::{self, Read};
use std::path::Path;

use lathe_grammar::diag::Diagnostic;
use lathe_runtime::files::open_regular;
use lathe_runtime::weights::{HeaderEntry, HeaderError, header_json_bytes, parse_header};
use safetensors::tensor::Dtype;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

/// One tensor of a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    /// First byte, from the start of the file.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) bytes: u64,
}

/// A header and how long it is.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) entries: Vec<Entry>,
    /// Bytes before the data.
    pub(super) length: u64,
}

/// Why a header cannot be used.
enum Fault {
    Io(io::Error),
    Header(HeaderError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

impl From<HeaderError> for Fault {
    fn from(error: HeaderError) -> Self {
        Fault::Header(error)
    }
}

/// Reads and checks the header of a file. Every tensor whose size is a lie is a diagnostic of its own.
pub(super) fn read(path: &Path) -> Result<Header, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let diagnostic = |code, message: String| Diagnostic::error(code, format!("{file}: {message}")).file(file.as_str());
    let (entries, length) = read_entries(path).map_err(|fault| {
        vec![match fault {
            Fault::Io(error) => diagnostic("C0001", format!("cannot be read: {error}")),
            Fault::Header(error @ HeaderError::Json(_)) => diagnostic("C0002", error.to_string()),
            Fault::Header(error) => diagnostic("C0003", error.to_string()),
        }]
    })?;
    let mut diagnostics = Vec::new();
    let mut checked = Vec::with_capacity(entries.len());
    for entry in entries {
        match check(entry) {
            Ok(entry) => checked.push(entry),
            Err(message) => diagnostics.push(diagnostic("C0003", message)),
        }
    }
    if diagnostics.is_empty() { Ok(Header { entries: checked, length }) } else { Err(diagnostics) }
}

fn read_entries(path: &Path) -> Result<(Vec<HeaderEntry>, u64), Fault> {
    let (mut input, size) = open_regular(path)?;
    let mut length = [0u8; 8];
    if size < length.len() as u64 {
        return Err(HeaderError::Truncated { found: size, expected: length.len() as u64 }.into());
    }
    input.read_exact(&mut length)?;
    let json_bytes = header_json_bytes(length, size)?;
    let mut json = vec![0u8; json_bytes as usize];
    input.read_exact(&mut json)?;
    Ok((parse_header(&json, size)?, json_bytes + length.len() as u64))
}

/// Checks that a tensor has as many bytes as its dtype and shape say.
fn check(entry: HeaderEntry) -> Result<Entry, String> {
    let HeaderEntry { name, shape, .. } = &entry;
    let spelled: StrDeserializer<'_, ValueError> = entry.dtype.as_str().into_deserializer();
    let Ok(dtype) = Dtype::deserialize(spelled) else {
        return Err(format!("tensor `{name}`: expected a dtype of the format, found {:?}", entry.dtype));
    };
    let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
    let Some(bits) = elements.and_then(|elements| elements.checked_mul(dtype.bitsize() as u64)) else {
        return Err(format!("tensor `{name}`: expected a size below 2^64 bits, found shape {shape:?}"));
    };
    let (expected, found) = (bits.div_ceil(8), entry.bytes());
    if expected != found {
        return Err(format!("tensor `{name}`: expected {expected} bytes for {dtype} {shape:?}, found {found}"));
    }
    let (offset, bytes) = (entry.range.start, found);
    Ok(Entry { name: entry.name, dtype, shape: entry.shape, offset, bytes })
}
