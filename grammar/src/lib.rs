//! text to AST
pub mod ast;
pub mod codes;
pub mod diag;
mod dsl;
mod parse;
pub mod pattern;
pub mod span;

pub use parse::{LANGUAGE_VERSION, MAX_SOURCE_LENGTH, Parsed, parse};
