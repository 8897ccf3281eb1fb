//! Programs run from files, against an interpreter that is too simple to be wrong.

#![cfg(feature = "exec")]

#[path = "../common/mod.rs"]
mod common;

mod artifacts;
#[cfg(feature = "cli")]
mod cli;
mod executor;
mod experts;
mod interpreter;
mod random;
