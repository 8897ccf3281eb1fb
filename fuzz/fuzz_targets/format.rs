//! Any text that is read without a mistake can be formatted, means the same then, and formatting it again changes nothing.

#![no_main]

use lathe_grammar::ast::File;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{SourceId, Sources};
use lathe_grammar::{format, parse};
use libfuzzer_sys::fuzz_target;

fn add(name: &str, text: &str) -> (Sources, SourceId) {
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    (sources, source)
}

fn read(sources: &Sources, source: SourceId) -> Option<File> {
    let parsed = parse(sources, source);
    parsed.file.filter(|_| !parsed.diagnostics.iter().any(Diagnostic::is_error))
}

fuzz_target!(|text: &str| {
    for name in ["fuzz.lathe", "fuzz.yaml"] {
        let (sources, source) = add(name, text);
        let Some(file) = read(&sources, source) else { continue };
        let formatted = match format(&sources, source) {
            Ok(formatted) => formatted,
            // Anchors. A mistake of the formatter itself has a note that says so.
            Err(faults) => {
                let is_refused = |fault: &Diagnostic| fault.code == "F0001" && fault.notes.is_empty();
                assert!(name == "fuzz.yaml" && faults.iter().all(is_refused), "{faults:?}");
                continue;
            }
        };
        let (sources, source) = add(name, &formatted);
        assert_eq!(read(&sources, source).as_ref(), Some(&file), "{formatted}");
        assert_eq!(format(&sources, source).as_ref(), Ok(&formatted));
    }
});
