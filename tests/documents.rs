//! The documents under docs/ and the README: their tables are those of the compiler, their examples are read by it.
//!
//! `LATHE_BLESS=1` writes tables, and the YAML below an example in the Lathe language, anew.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use lathe_compiler::reference::TOPICS;
use lathe_grammar::ast::File;
use lathe_grammar::span::Sources;

use crate::support::{self, files};

/// A block between fences.
struct Block<'t> {
    language: &'t str,
    /// The number of the line that opens it.
    line: usize,
    text: String,
}

fn documents() -> Vec<PathBuf> {
    let root = support::root().parent().expect("the tests lie in the repository");
    let docs = files::list(&root.join("docs")).into_iter();
    docs.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|it| it == "md")).collect()
}

/// The blocks of a document, in their order.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => {
                blocks.push(Block { language, line: index + 1, text: String::new() });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => {
                let block = blocks.last_mut().expect("a block is open");
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, false) => {}
        }
    }
    assert!(!open, "a block is not closed");
    blocks
}

/// What an example says; it must be without a fault.
#[track_caller]
fn parsed(name: &str, text: &str) -> File {
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    let parsed = lathe_grammar::parse(&sources, source);
    assert!(parsed.diagnostics.is_empty(), "{name}\n{text}{:#?}", parsed.diagnostics);
    parsed.file.expect("a text without a fault is a file")
}

#[test]
fn examples_are_read_without_a_fault() {
    for path in documents() {
        for block in blocks(&files::read_text(&path)) {
            let extension = match block.language {
                "lathe" => "lathe",
                "yaml" => "yaml",
                _ => continue,
            };
            parsed(&format!("{}:{}.{extension}", path.display(), block.line), &block.text);
        }
    }
}

/// The document with its tables, and with the YAML that follows an example at once, made anew.
fn refreshed(path: &Path, text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut made = String::new();
    let mut example: Option<String> = None;
    while let Some(line) = lines.next() {
        made.push_str(line);
        made.push('\n');
        if let Some(name) = line.strip_prefix("<!-- table: ").and_then(|rest| rest.strip_suffix(" -->")) {
            let topic = TOPICS.iter().find(|topic| topic.name == name);
            let topic = topic.unwrap_or_else(|| panic!("{}: there is no table `{name}`", path.display()));
            made.extend(["\n", &(topic.table)().markdown(), "\n<!-- end -->\n"]);
            lines.by_ref().find(|line| *line == "<!-- end -->").expect("a table has an end");
            continue;
        }
        let Some(language) = line.strip_prefix("```") else {
            if !line.is_empty() {
                example = None;
            }
            continue;
        };
        let mut block = String::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            block.push_str(line);
            block.push('\n');
        }
        if let (Some(example), "yaml") = (&example, language) {
            let twin = lathe_grammar::print_yaml(&parsed("example.lathe", example));
            block = twin.expect("an example with YAML below it can be written in YAML");
        }
        made.push_str(&block);
        made.push_str("```\n");
        example = (language == "lathe").then_some(block);
    }
    made
}

#[test]
fn tables_and_yaml_are_current() {
    for path in documents() {
        let text = files::read_text(&path);
        let refreshed = refreshed(&path, &text);
        if refreshed != text && env::var_os("LATHE_BLESS").is_some() {
            fs::write(&path, &refreshed).expect("documents can be written");
        } else {
            assert!(refreshed == text, "{} is not current: run the tests with LATHE_BLESS=1", path.display());
        }
    }
}

#[test]
fn every_table_is_in_the_reference() {
    let reference = files::read_text(&support::root().join("../docs/language.md"));
    // What ships changes with the library, not with the language.
    for topic in TOPICS.iter().filter(|topic| !["specs", "models"].contains(&topic.name)) {
        assert!(reference.contains(&format!("<!-- table: {} -->", topic.name)), "{} is missing", topic.name);
    }
}

/// Links to files of the repository lead somewhere, in every document of it.
#[test]
fn links_lead_to_files() {
    let root = support::root().parent().expect("the tests lie in the repository").to_owned();
    let others = ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name));
    let mut links = 0;
    for document in documents().into_iter().chain(others) {
        let text = files::read_text(&document);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = target.split('#').next().unwrap_or_default();
            let folder = document.parent().expect("documents lie in folders");
            assert!(folder.join(path).exists(), "{} links to {target}", document.display());
            links += 1;
        }
    }
    assert!(links > 20, "{links}");
}
