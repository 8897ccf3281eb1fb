//! program
mod types;
pub use types::*;
