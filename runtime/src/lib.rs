//! The machine that compiled models run on: its instruction set, its memory, its executor.
//!
//! A [`program::Program`] and the weight files beside it are all that there is to a compiled model; how they came to
//! be is of no interest here.

pub mod program;

#[cfg(test)]
extern crate self as lathe_runtime;
#[cfg(test)]
mod testing;
