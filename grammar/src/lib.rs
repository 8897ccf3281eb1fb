//! text to AST

#![forbid(unsafe_code)]

pub mod ast;
pub mod codes;
pub mod diag;
mod dsl;
mod parse;
pub mod pattern;
mod print;
pub mod span;
mod yaml;

pub use parse::{LANGUAGE_VERSION, MAX_SOURCE_LENGTH, Parsed, parse};
pub use print::{print, print_yaml};
