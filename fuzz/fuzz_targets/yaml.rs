//! Any YAML text is read or refused. What is read without a mistake prints to a text that is read as the same, in both
//! syntaxes.

#![no_main]

use lathe_grammar::ast::File;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use lathe_grammar::{parse, print, print_yaml};
use libfuzzer_sys::fuzz_target;

fn read(name: &str, text: &str) -> Option<File> {
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    let parsed = parse(&sources, source);
    for diagnostic in &parsed.diagnostics {
        for label in &diagnostic.labels {
            assert!(sources.get(source).text.get(label.span.range()).is_some(), "{diagnostic:?}");
        }
    }
    parsed.file.filter(|_| !parsed.diagnostics.iter().any(Diagnostic::is_error))
}

fuzz_target!(|text: &str| {
    let Some(file) = read("fuzz.yaml", text) else { return };
    let lathe = print(&file);
    let twin = read("printed.lathe", &lathe);
    assert_eq!(twin.as_ref(), Some(&file), "{lathe}");
    let yaml = print_yaml(&file).expect("what YAML held, it can hold");
    let again = read("printed.yaml", &yaml);
    assert_eq!(again.as_ref(), Some(&file), "{yaml}");
});
