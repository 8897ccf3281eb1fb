//! Ops: one file for each or for a few of a kind, with the scalar reference that specifies it and the function that runs
//! its fastest version.
//!
//! Activations are f32, row-major, heads side by side in a row. Lengths that do not fit together are a mistake of the
//! caller, not of its input: they panic, as each function documents. Any size may be zero.

pub mod accuracy;
mod activation;
mod attention;
mod blocks;
mod cache;
mod elementwise;
mod embed;
mod experts;
pub(crate) mod int8;
mod matmul;
mod norm;
mod rope;
mod rotate;
mod routing;
mod softmax;

pub use accuracy::Accuracy;
pub use activation::{Unary, gated, unary};
pub use attention::{AttentionShape, attention};
pub use cache::append_cache;
pub use elementwise::{Binary, affine, binary, clamp, gain, shift, softcap};
pub use embed::embed;
pub use experts::{expert_matmul, quantized_expert_matmul};
pub use int8::{MAX_INT8_INNER, matmul_int8, quantize_rows, quantized_matmul};
pub use matmul::matmul;
pub use norm::{Norm, centre, norm};
pub use rope::{Pairing, RopeTable, rope};
pub use rotate::rotate;
pub use routing::{combine, gather, top_k};
pub use softmax::{normalize_sum, softmax};

#[cfg(any(test, feature = "check"))]
pub(crate) use activation::{gated_on, unary_on};
#[cfg(any(test, feature = "check"))]
pub(crate) use attention::attention_on;
#[cfg(any(test, feature = "check"))]
pub(crate) use elementwise::{affine_on, binary_on, gain_on, shift_on, softcap_on};
#[cfg(any(test, feature = "check"))]
pub(crate) use embed::embed_on;
#[cfg(any(test, feature = "check"))]
pub(crate) use experts::{Product, expert_matmul_on};
#[cfg(any(test, feature = "check"))]
pub(crate) use int8::{matmul_int8_on, quantize_rows_on};
#[cfg(any(test, feature = "check"))]
pub(crate) use matmul::matmul_on;
#[cfg(any(test, feature = "check"))]
pub(crate) use norm::{centre_on, norm_on};
#[cfg(any(test, feature = "check"))]
pub(crate) use rotate::rotate_on;
#[cfg(any(test, feature = "check"))]
pub(crate) use routing::combine_on;
#[cfg(any(test, feature = "check"))]
pub(crate) use softmax::softmax_on;
