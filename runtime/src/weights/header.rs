//! The header of a safetensors file: eight bytes of length, little-endian, then JSON that says where each tensor lies.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::{LENGTH_BYTES, MAX_HEADER_BYTES, METADATA};

/// Why the bytes of a file are not those of a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than its header.
    #[error("expected {expected} bytes of header, found a file of {found} bytes")]
    Truncated {
        /// Bytes of the file.
        found: u64,
        /// Bytes up to the end of the header.
        expected: u64,
    },
    /// A header longer than [`MAX_HEADER_BYTES`].
    #[error("expected a header of at most {MAX_HEADER_BYTES} bytes, found {found}")]
    TooLarge {
        /// Its stated length.
        found: u64,
    },
    /// Not JSON, or not of the form of a header.
    #[error("the header is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A tensor that overlaps the one before it, or leaves a hole after it.
    #[error("tensor `{tensor}`: expected offset {expected}, where {previous} ends, found {begin}: {}", if begin < expected { "they overlap" } else { "a hole" })]
    Offset {
        /// The tensor.
        tensor: String,
        /// Its first byte of the data.
        begin: u64,
        /// The end of what is before it.
        expected: u64,
        /// What is before it.
        previous: String,
    },
    /// A tensor that ends before it begins, or after the file.
    #[error("tensor `{tensor}`: expected offsets within the {data} bytes of data, found {begin}..{end}")]
    Outside {
        /// The tensor.
        tensor: String,
        /// Its first byte of the data.
        begin: u64,
        /// Its end.
        end: u64,
        /// Bytes after the header.
        data: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("expected the data to end at byte {end}, where {last} ends, found {data} bytes")]
    Trailing {
        /// The last tensor.
        last: String,
        /// Its end.
        end: u64,
        /// Bytes after the header.
        data: u64,
    },
}

/// Where a tensor lies and what it says of itself.
#[derive(Debug)]
pub struct HeaderEntry {
    /// Its name.
    pub name: String,
    /// Its dtype, as the file spells it.
    pub dtype: String,
    /// Its shape; whether it agrees with dtype and range is for the reader to check.
    pub shape: Vec<u64>,
    /// Its bytes, counted from the start of the file.
    pub range: Range<u64>,
}

impl HeaderEntry {
    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// How long the JSON behind the first eight bytes of a file is.
///
/// # Errors
/// When that is more than a file of `file_bytes` bytes can hold, or more than anyone reads.
pub fn header_json_bytes(length: [u8; LENGTH_BYTES], file_bytes: u64) -> Result<u64, HeaderError> {
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(HeaderError::TooLarge { found: length });
    }
    let expected = LENGTH_BYTES as u64 + length;
    if expected > file_bytes {
        return Err(HeaderError::Truncated { found: file_bytes, expected });
    }
    Ok(length)
}

/// Reads the JSON of a header and checks that the tensors fill the rest of a file of `file_bytes` bytes without holes or
/// overlaps. The entries come in the order of their bytes.
///
/// # Errors
/// The first lie.
pub fn parse_header(json: &[u8], file_bytes: u64) -> Result<Vec<HeaderEntry>, HeaderError> {
    let Tensors(mut tensors) = serde_json::from_slice(json)?;
    tensors.sort_by(|(name_a, a), (name_b, b)| a.data_offsets.cmp(&b.data_offsets).then_with(|| name_a.cmp(name_b)));
    let data_start = LENGTH_BYTES as u64 + json.len() as u64;
    let data = file_bytes.saturating_sub(data_start);
    let mut expected = 0;
    let mut entries: Vec<HeaderEntry> = Vec::with_capacity(tensors.len());
    let last = |entries: &[HeaderEntry]| match entries.last() {
        Some(entry) => format!("tensor `{}`", entry.name),
        None => "the header".to_owned(),
    };
    for (name, info) in tensors {
        let [begin, end] = info.data_offsets;
        if end < begin || end > data {
            return Err(HeaderError::Outside { tensor: name, begin, end, data });
        }
        if begin != expected {
            return Err(HeaderError::Offset { tensor: name, begin, expected, previous: last(&entries) });
        }
        expected = end;
        let range = data_start + begin..data_start + end;
        entries.push(HeaderEntry { name, dtype: info.dtype, shape: info.shape, range });
    }
    if expected != data {
        return Err(HeaderError::Trailing { last: last(&entries), end: expected, data });
    }
    Ok(entries)
}

/// [`parse_header`] for a whole file in memory.
#[cfg(feature = "exec")]
pub(super) fn read_header(file: &[u8]) -> Result<Vec<HeaderEntry>, HeaderError> {
    let found = file.len() as u64;
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(HeaderError::Truncated { found, expected: LENGTH_BYTES as u64 });
    };
    let length = header_json_bytes(*length, found)? as usize;
    parse_header(&rest[..length], found)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The tensors of a header; a name that comes twice is an error.
struct Tensors(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TensorsVisitor)
    }
}

struct TensorsVisitor;

impl<'de> Visitor<'de> for TensorsVisitor {
    type Value = Tensors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names to tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
        let (mut tensors, mut names) = (Vec::new(), HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("tensor `{name}` comes twice")));
            }
            if name == METADATA {
                map.next_value::<serde::de::IgnoredAny>()?;
            } else {
                let entry = map.next_value::<serde_json::Value>()?;
                let info = serde_json::from_value(entry)
                    .map_err(|error| A::Error::custom(format_args!("tensor `{name}`: {error}")))?;
                tensors.push((name, info));
            }
        }
        Ok(Tensors(tensors))
    }
}

#[cfg(all(test, feature = "exec"))]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn error(header: &str, data: usize) -> String {
        read_header(&file(header, data)).unwrap_err().to_string()
    }

    #[test]
    fn tensors_come_in_the_order_of_their_bytes() {
        let header = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},"__metadata__":{"x":"y"},
            "a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
        let entries = read_header(&file(header, 5)).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(entries[1].range, header.len() as u64 + 11..header.len() as u64 + 13);
    }

    #[test]
    fn broken_files_are_refused() {
        assert_eq!(
            read_header(&[0; 7]).unwrap_err().to_string(),
            "expected 8 bytes of header, found a file of 7 bytes"
        );
        assert_eq!(
            read_header(&100u64.to_le_bytes()).unwrap_err().to_string(),
            "expected 108 bytes of header, found a file of 8 bytes"
        );
        assert!(read_header(&u64::MAX.to_le_bytes()).unwrap_err().to_string().contains("at most 100000000"));
        assert!(error("[]", 0).starts_with("the header is not valid"));
        assert!(error(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, 1).contains("not valid"));
        assert_eq!(error("{}", 1), "expected the data to end at byte 0, where the header ends, found 1 bytes");
        let tensor = |name, begin: u64, end: u64| {
            format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{begin},{end}]}}"#)
        };
        let two = |a: [u64; 2], b: [u64; 2]| format!("{{{},{}}}", tensor("a", a[0], a[1]), tensor("b", b[0], b[1]));
        assert_eq!(
            error(&two([0, 2], [1, 3]), 3),
            "tensor `b`: expected offset 2, where tensor `a` ends, found 1: they overlap"
        );
        assert_eq!(
            error(&two([0, 2], [3, 4]), 4),
            "tensor `b`: expected offset 2, where tensor `a` ends, found 3: a hole"
        );
        for end in [1, 5, u64::MAX] {
            assert_eq!(
                error(&two([0, 2], [2, end]), 4),
                format!("tensor `b`: expected offsets within the 4 bytes of data, found 2..{end}")
            );
        }
        assert_eq!(
            error(&two([0, 1], [1, 2]), 3),
            "expected the data to end at byte 2, where tensor `b` ends, found 3 bytes"
        );
        let twice = format!("{{{},{}}}", tensor("a", 0, 1), tensor("a", 1, 2));
        assert!(error(&twice, 2).contains("tensor `a` comes twice"));
    }
}
