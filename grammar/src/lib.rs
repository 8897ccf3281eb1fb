//! The language of Lathe: text → AST and diagnostics.
//!
//! A text holds specs, which map patterns of module paths to formats, and model definitions, which describe an
//! architecture as data. It is written in the Lathe language, or, when it is one spec, in YAML; both give the same
//! [`ast::File`]. All mistakes of a text are found in one run.
//!
//! ```
//! use lathe_grammar::span::Sources;
//!
//! let mut sources = Sources::new();
//! let source = sources.add("mine.lathe", "lathe 1\nspec mine {\n  rules {\n    ** => keep\n    mlp.* -> keep\n  }\n}\n");
//!
//! let parsed = lathe_grammar::parse(&sources, source);
//!
//! let [mistake] = parsed.diagnostics.as_slice() else { panic!("one mistake") };
//! assert_eq!(mistake.message, "expected `=>`, found `->`");
//! assert_eq!(sources.line_column(mistake.labels[0].span), (5, 11));
//!
//! let file = parsed.file.expect("what could be read is there all the same");
//! let rules = file.specs().next().and_then(|spec| spec.rules.as_ref()).expect("rules");
//! assert_eq!(rules.value[0].pattern.value.to_string(), "**");
//! ```
//!
//! The crate knows no tensors, no files and no terminal: texts come in as strings, diagnostics go out as data. It does
//! not panic on any text, and time and memory are bounded: texts by [`MAX_SOURCE_LENGTH`], brackets, expressions,
//! alternatives of patterns, specs and YAML aliases each by a limit of their own.

#![forbid(unsafe_code)]

pub mod ast;
pub mod codes;
pub mod diag;
mod dsl;
mod fmt;
mod parse;
pub mod pattern;
mod print;
pub mod span;
mod yaml;

pub use fmt::{comments, format};
pub use parse::{LANGUAGE_VERSION, MAX_SOURCE_LENGTH, Parsed, is_yaml, parse, parse_value, pattern_diagnostic};
pub use print::{Quoted, print, print_yaml};
