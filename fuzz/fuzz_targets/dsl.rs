//! Any text in the Lathe language is read or refused. What is read without a mistake prints to a text that is read
//! without a mistake and prints the same.

#![no_main]

use lathe_grammar::ast::File;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use lathe_grammar::{parse, print};
use libfuzzer_sys::fuzz_target;

fn read(text: &str) -> Option<File> {
    let mut sources = Sources::new();
    let source = sources.add("fuzz.lathe", text);
    let parsed = parse(&sources, source);
    for diagnostic in &parsed.diagnostics {
        for label in &diagnostic.labels {
            assert!(sources.get(source).text.get(label.span.range()).is_some(), "{diagnostic:?}");
        }
    }
    parsed.file.filter(|_| !parsed.diagnostics.iter().any(Diagnostic::is_error))
}

fuzz_target!(|text: &str| {
    if let Some(file) = read(text) {
        let printed = print(&file);
        let again = read(&printed).unwrap_or_else(|| panic!("printed text has a mistake:\n{printed}"));
        assert_eq!(print(&again), printed);
    }
});
