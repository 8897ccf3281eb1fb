//! Ops: one file each, with the scalar reference that specifies it and the function that runs its fastest version.
//!
//! Activations are f32, row-major, heads side by side in a row. Lengths that do not fit together are a mistake of the
//! caller, not of its input: they panic, as each function documents. Any size may be zero.

mod attention;
mod cache;
mod elementwise;
mod embed;
mod matmul;
mod norm;
mod rope;

pub use attention::{AttentionShape, attention};
pub use cache::append_cache;
pub use elementwise::{add, gain, mul, silu, silu_mul};
pub use embed::embed;
pub use matmul::matmul;
pub use norm::rms_norm;
pub use rope::{Pairing, RopeTable, rope};
