//! Ops: one file each, with the scalar reference that specifies it and the function that runs its fastest version.
//!
//! Activations are f32, row-major, heads side by side in a row. Lengths that do not fit together are a mistake of the
//! caller, not of its input: they panic, as each function documents. Any size may be zero.

pub mod accuracy;
mod attention;
mod cache;
mod elementwise;
mod embed;
mod matmul;
mod norm;
mod rope;

pub use accuracy::Accuracy;
pub use attention::{AttentionShape, attention};
pub use cache::append_cache;
pub use elementwise::{add, gain, mul, silu, silu_mul};
pub use embed::embed;
pub use matmul::matmul;
pub use norm::rms_norm;
pub use rope::{Pairing, RopeTable, rope};

#[cfg(any(test, feature = "check"))]
pub(crate) use attention::attention_on;
#[cfg(any(test, feature = "check"))]
pub(crate) use elementwise::{add_on, gain_on, mul_on, silu_mul_on, silu_on};
#[cfg(any(test, feature = "check"))]
pub(crate) use embed::embed_on;
#[cfg(any(test, feature = "check"))]
pub(crate) use matmul::matmul_on;
#[cfg(any(test, feature = "check"))]
pub(crate) use norm::rms_norm_on;
