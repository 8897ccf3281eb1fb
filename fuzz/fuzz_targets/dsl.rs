//! Any text in the Lathe language is read or refused. What is read without a mistake prints to a text that is read as
//! the same, in the language and, where YAML can hold it, in YAML.

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
    if let Some(file) = read("fuzz.lathe", text) {
        let printed = print(&file);
        let again = read("printed.lathe", &printed);
        assert_eq!(again.as_ref(), Some(&file), "{printed}");
        if let Some(printed) = print_yaml(&file) {
            let again = read("printed.yaml", &printed);
            assert_eq!(again.as_ref(), Some(&file), "{printed}");
        }
    }
});
