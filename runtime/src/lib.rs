//! The machine that compiled models run on: its instruction set, its memory, its executor.
//!
//! A [`program::Program`] and the weight files beside it are all that there is to a compiled model; how they came to
//! be is of no interest here.
//!
//! Without features this crate is what writes compiled models: the types of programs and the writer of weight files. The
//! feature `exec` adds what runs them, `reference` what they should compute, `text` their tokenizer, `cli` the pieces of the
//! `lathe-run` binary.

#![deny(unsafe_code)]

#[cfg(feature = "exec")]
pub mod artifact;
#[cfg(feature = "exec")]
pub mod backend;
#[cfg(feature = "exec")]
pub mod exec;
pub mod files;
#[cfg(feature = "exec")]
mod frequencies;
pub mod memory;
pub mod program;
#[cfg(feature = "reference")]
pub mod reference;
#[cfg(feature = "cli")]
pub mod sample;
#[cfg(feature = "cli")]
pub mod template;
#[cfg(feature = "text")]
pub mod tokenizer;
pub mod weights;

/// Version of Lathe, with the commit where it is known: `0.1.0 (0123abcdef)`. For people; never part of an artifact.
pub const VERSION: &str = env!("LATHE_VERSION");

#[cfg(test)]
extern crate self as lathe_runtime;
#[cfg(test)]
mod testing;
