//! Programs run from files, against the reference.

#[path = "../common/mod.rs"]
mod common;

mod artifacts;
#[cfg(feature = "cli")]
mod cli;
mod executor;
mod experts;
mod random;
mod rotated;
mod streamed;
