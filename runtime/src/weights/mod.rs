//! Weight files: safetensors files named `weights-*.safetensors`, every tensor at a multiple of [`ALIGNMENT`] bytes.
//!
//! The safetensors format leaves no holes between tensors, so alignment is made with tensors `pad.N` of zeros. A file
//! without alignment, as other tools write it, is read as well. Which tensors there must be is stated by
//! [`crate::program::Weight::stored_tensors`].

mod header;
#[cfg(feature = "exec")]
mod mapped;
#[cfg(feature = "exec")]
mod read;
mod write;

pub use header::{HeaderEntry, HeaderError, header_json_bytes, parse_header};
#[cfg(feature = "exec")]
pub use mapped::MappedFile;
#[cfg(feature = "exec")]
pub use read::{StoredPlace, Weights, WeightsError};
pub use write::{Layout, WeightsWriter, WriteError};

/// Where tensors begin: multiples of this many bytes, counted from the start of the file.
pub const ALIGNMENT: u64 = 64;

/// First characters of the names of tensors that are there for alignment.
pub const PADDING_PREFIX: &str = "pad.";

/// Largest header that is read or written, in bytes; the limit of the safetensors library.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes of the length in front of the header.
const LENGTH_BYTES: usize = 8;
/// The one entry of a header that is not a tensor.
const METADATA: &str = "__metadata__";

/// The name of weight file `index` of `count`, counted from 1.
pub fn weight_file_name(index: usize, count: usize) -> String {
    format!("weights-{index:05}-of-{count:05}.safetensors")
}

/// Whether a file name is that of a weight file.
pub fn is_weight_file(name: &str) -> bool {
    name.starts_with("weights-") && name.ends_with(".safetensors")
}
