//! text to AST
pub mod ast;
pub mod codes;
pub mod diag;
pub mod span;
