//! What the processor offers, and the code that uses it.

mod features;

pub use features::{Isa, IsaError, isa, isa_from_env};
