//! What the crate promises to its users, from text to text.

mod files;
mod mistakes;
mod robustness;
mod round_trip;

use lathe_grammar::span::{SourceId, Sources};
use lathe_grammar::{Parsed, ast::File, parse};

/// A text under a name, whose extension chooses the syntax.
fn parse_named(name: &str, text: &str) -> (Sources, SourceId, Parsed) {
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    let parsed = parse(&sources, source);
    (sources, source, parsed)
}

/// The AST of a text without mistakes.
fn ast(name: &str, text: &str) -> File {
    let (_, _, parsed) = parse_named(name, text);
    assert!(parsed.diagnostics.is_empty(), "{text}\n{:#?}", parsed.diagnostics);
    parsed.file.expect("a text without mistakes has an AST")
}
