//! A checkpoint as its headers tell it: config.json and the names, dtypes, shapes and places of its tensors. No weight
//! is read here.

mod checkpoint;
mod config;
mod header;
mod matrix;

pub use checkpoint::{Checkpoint, StoredDtype, Tensor};
pub use config::{Config, UnreadKey, unread_keys};
pub use matrix::{MatrixError, read_matrix};
