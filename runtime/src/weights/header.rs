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
    #[error("the file has {found} bytes, its header needs {expected}")]
    Truncated {
        /// Bytes of the file.
        found: u64,
        /// Bytes up to the end of the header.
        expected: u64,
    },
    /// A header longer than [`MAX_HEADER_BYTES`].
    #[error("the header has {found} bytes, at most {MAX_HEADER_BYTES} are read")]
    TooLarge {
        /// Its stated length.
        found: u64,
    },
    /// Not JSON, or not of the form of a header.
    #[error("the header is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A tensor that overlaps the one before it, leaves a hole after it, or ends before it begins.
    #[error("tensor `{tensor}` lies at bytes {begin}..{end} of the data, expected it to begin at {expected}")]
    Offsets {
        /// The tensor.
        tensor: String,
        /// Its first byte.
        begin: u64,
        /// Its end.
        end: u64,
        /// The end of the tensor before it.
        expected: u64,
    },
    /// The tensors end elsewhere than the file.
    #[error("the tensors take {expected} bytes, the file has {found} for them")]
    DataSize {
        /// End of the last tensor.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
}

/// Where a tensor lies and what it says of itself.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    /// Bytes of the file.
    pub(super) range: Range<usize>,
}

/// Reads the header of a whole file and checks that its tensors fill the rest of the file without holes or overlaps.
/// The entries come in the order of their bytes.
pub(super) fn read_header(file: &[u8]) -> Result<Vec<Entry>, HeaderError> {
    let found = file.len() as u64;
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(HeaderError::Truncated { found, expected: LENGTH_BYTES as u64 });
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(HeaderError::TooLarge { found: length });
    }
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        return Err(HeaderError::Truncated { found, expected: LENGTH_BYTES as u64 + length });
    };
    let Tensors(mut tensors) = serde_json::from_slice(header)?;
    tensors.sort_by(|(name_a, a), (name_b, b)| a.data_offsets.cmp(&b.data_offsets).then_with(|| name_a.cmp(name_b)));

    let data_start = file.len() - data.len();
    let mut expected = 0;
    let mut entries = Vec::new();
    for (name, info) in tensors {
        let [begin, end] = info.data_offsets;
        if begin != expected || end < begin {
            return Err(HeaderError::Offsets { tensor: name, begin, end, expected });
        }
        if end > data.len() as u64 {
            return Err(HeaderError::DataSize { expected: end, found: data.len() as u64 });
        }
        expected = end;
        let range = data_start + begin as usize..data_start + end as usize;
        entries.push(Entry { name, dtype: info.dtype, shape: info.shape, range });
    }
    if expected != data.len() as u64 {
        return Err(HeaderError::DataSize { expected, found: data.len() as u64 });
    }
    Ok(entries)
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
                let info = map.next_value::<Info>()?;
                tensors.push((name, info));
            }
        }
        Ok(Tensors(tensors))
    }
}

#[cfg(test)]
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
        assert_eq!(entries[1].range, header.len() + 11..header.len() + 13);
    }

    #[test]
    fn broken_files_are_refused() {
        assert_eq!(read_header(&[0; 7]).unwrap_err().to_string(), "the file has 7 bytes, its header needs 8");
        assert_eq!(
            read_header(&100u64.to_le_bytes()).unwrap_err().to_string(),
            "the file has 8 bytes, its header needs 108"
        );
        assert!(read_header(&u64::MAX.to_le_bytes()).unwrap_err().to_string().contains("at most 100000000"));
        assert!(error("[]", 0).starts_with("the header is not valid"));
        assert!(error(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, 1).contains("not valid"));
        assert_eq!(error("{}", 1), "the tensors take 0 bytes, the file has 1 for them");
        let tensor = |name, begin: u64, end: u64| {
            format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{begin},{end}]}}"#)
        };
        let two = |a: [u64; 2], b: [u64; 2]| format!("{{{},{}}}", tensor("a", a[0], a[1]), tensor("b", b[0], b[1]));
        assert_eq!(
            error(&two([0, 2], [1, 3]), 3),
            "tensor `b` lies at bytes 1..3 of the data, expected it to begin at 2"
        );
        assert_eq!(
            error(&two([0, 2], [3, 4]), 4),
            "tensor `b` lies at bytes 3..4 of the data, expected it to begin at 2"
        );
        assert_eq!(
            error(&two([0, 2], [2, 1]), 2),
            "tensor `b` lies at bytes 2..1 of the data, expected it to begin at 2"
        );
        assert_eq!(
            error(&two([0, 2], [2, u64::MAX]), 4),
            format!("the tensors take {} bytes, the file has 4 for them", u64::MAX)
        );
        assert_eq!(error(&two([0, 1], [1, 2]), 3), "the tensors take 2 bytes, the file has 3 for them");
        let twice = format!("{{{},{}}}", tensor("a", 0, 1), tensor("a", 1, 2));
        assert!(error(&twice, 2).contains("tensor `a` comes twice"));
    }
}
