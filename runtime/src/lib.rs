//! runtime
pub mod program;
