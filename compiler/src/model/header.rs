//! The header of a safetensors file, trusted in nothing.
//!
//! Layout: u64 little-endian length n, n bytes of JSON (`{name: {dtype, shape, data_offsets: [begin, end]}}`, offsets
//! from the end of the header), then the data without holes.
//! Source: <https://github.com/huggingface/safetensors#format>.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use lathe_grammar::diag::Diagnostic;
use safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Largest header that is read, in bytes; the format's own reader has the same limit.
const MAX_HEADER: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Debug, Clone)]
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

/// The JSON object, with every duplicate kept so that it can be refused.
struct Entries(Vec<(String, Option<TensorInfo>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        entries.push((name, None));
                    } else {
                        entries.push((name, Some(map.next_value()?)));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Reads and checks the header of a file; every lie is a diagnostic of its own.
pub(super) fn read(path: &Path) -> Result<Header, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let unreadable = |error: std::io::Error| {
        vec![Diagnostic::error("C0001", format!("cannot read {file}: {error}")).file(file.as_str())]
    };
    let mut input = File::open(path).map_err(unreadable)?;
    let size = input.metadata().map_err(unreadable)?.len();
    let damaged = |message: String| vec![Diagnostic::error("C0003", format!("{file}: {message}")).file(file.as_str())];

    let mut prefix = [0u8; 8];
    if size < 8 {
        return Err(damaged(format!("expected a header of 8 bytes or more, found a file of {size} bytes")));
    }
    input.read_exact(&mut prefix).map_err(unreadable)?;
    let json_length = u64::from_le_bytes(prefix);
    if json_length > MAX_HEADER {
        return Err(damaged(format!("expected a header of at most {MAX_HEADER} bytes, found {json_length}")));
    }
    let length = json_length + 8;
    if length > size {
        return Err(damaged(format!("expected a header of {length} bytes, found a file of {size} bytes")));
    }
    let mut json = vec![0u8; json_length as usize];
    input.read_exact(&mut json).map_err(unreadable)?;
    let Entries(raw) = serde_json::from_slice(&json).map_err(|error| {
        vec![Diagnostic::error("C0002", format!("{file}: the header is not valid: {error}")).file(file.as_str())]
    })?;
    check(&file, raw, length, size).map(|entries| Header { entries, length })
}

fn check(
    file: &str,
    raw: Vec<(String, Option<TensorInfo>)>,
    length: u64,
    size: u64,
) -> Result<Vec<Entry>, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut report = |name: &str, message: String| {
        let message = format!("{file}: tensor `{name}`: {message}");
        diagnostics.push(Diagnostic::error("C0003", message).file(file));
    };
    let data = size - length;
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for (name, info) in raw {
        if !seen.insert(name.clone()) {
            report(&name, "expected one entry, found two".into());
        }
        let Some(info) = info else { continue };
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let shape: Vec<u64> = info.shape.iter().map(|&n| n as u64).collect();
        let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let bits = elements.and_then(|n| n.checked_mul(info.dtype.bitsize() as u64));
        let Some(bits) = bits else {
            report(&name, format!("the shape {shape:?} overflows"));
            continue;
        };
        if begin > end || end > data {
            report(&name, format!("expected offsets within the {data} bytes of data, found {begin}..{end}"));
        } else if (end - begin).checked_mul(8) != Some(bits) {
            let found = end - begin;
            let dtype = info.dtype;
            report(&name, format!("expected {} bytes for {dtype} {shape:?}, found {found}", bits.div_ceil(8)));
        } else {
            entries.push(Entry { name, dtype: info.dtype, shape, offset: length + begin, bytes: end - begin });
        }
    }
    if diagnostics.is_empty() {
        entries.sort_by_key(|entry| (entry.offset, entry.bytes));
        let mut report = |message: String| {
            diagnostics.push(Diagnostic::error("C0003", format!("{file}: {message}")).file(file));
        };
        let mut next = length;
        let mut previous = "the header";
        for entry in &entries {
            let (name, offset) = (&entry.name, entry.offset - length);
            if entry.offset < next {
                let end = next - length;
                report(format!("tensor `{name}` overlaps `{previous}`: expected offset {end} or more, found {offset}"));
            } else if entry.offset > next {
                let end = next - length;
                report(format!("expected tensor `{name}` at offset {end}, after `{previous}`, found {offset}: a hole"));
            }
            next = next.max(entry.offset + entry.bytes);
            previous = name;
        }
        if next < size {
            report(format!("expected the data to end with `{previous}` at byte {next}, found a file of {size} bytes"));
        }
    }
    if diagnostics.is_empty() { Ok(entries) } else { Err(diagnostics) }
}
