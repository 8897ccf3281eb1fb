//! What the crate promises to its users, from text to text.

mod editors;
mod files;
mod formatting;
mod mistakes;
mod robustness;
mod round_trip;
mod textmate;

use std::path::{Path, PathBuf};

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

/// Where the repository lies.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}

/// A file of the repository.
fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// Every text of the language under a folder, in both syntaxes.
fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else if path.extension().is_some_and(|extension| extension == "lathe" || extension == "yaml") {
            files.push(path);
        }
    }
    files
}
