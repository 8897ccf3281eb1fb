//! Architectures are data: no Rust source knows one, and names and order in a definition mean nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lathe_compiler::compile::{Prepared, architectures};
use lathe_grammar::ast::Model;
use lathe_grammar::span::Sources;

use crate::support::compiler::{Texts, open};
use crate::support::{self, files};

/// The shipped definitions.
fn shipped() -> Vec<Model> {
    let parse = |entry: &lathe_specs::Entry| {
        let mut sources = Sources::new();
        let source = sources.add(entry.path, entry.text);
        lathe_grammar::parse(&sources, source).file.expect("shipped definitions parse")
    };
    lathe_specs::MODELS.iter().map(parse).flat_map(|file| file.models().cloned().collect::<Vec<_>>()).collect()
}

/// Every architecture that a shipped definition describes.
pub(crate) fn shipped_architectures() -> BTreeSet<String> {
    shipped().iter().flat_map(architectures).collect()
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for path in files::list(folder) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_source_names_an_architecture() {
    let mut names = shipped_architectures();
    names.extend(lathe_specs::MODELS.iter().map(|entry| entry.name.to_string()));
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.to_lowercase())).collect();
    let mut paths = Vec::new();
    for part in ["grammar", "kernels", "runtime", "compiler"] {
        let root = support::root().parent().expect("this package lies in the workspace");
        sources(&root.join(part).join("src"), &mut paths);
    }
    assert!(paths.len() > 50);
    for path in paths {
        let text = files::read_text(&path);
        // What unit tests at the end of a file call their examples does not reach the binary.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_lowercase();
        for name in &quoted {
            assert!(!text.contains(name.as_str()), "{} names {name}", path.display());
        }
    }
}

/// The names that a definition binds: its lets, the variables of its loops and of its graph.
fn bound_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let graph = text.find("graph(").expect("definitions have a graph");
    let mut offset = 0;
    for line in text.lines() {
        let trimmed = line.trim();
        let words: Vec<&str> = trimmed.split_whitespace().collect();
        match words[..] {
            ["let" | "repeat", name, ..] => drop(names.insert(name.to_string())),
            ["for", ..] => {
                let variables = trimmed.trim_start_matches("for ").split(" in ").next().unwrap_or_default();
                names.extend(variables.split(", ").map(str::to_string));
            }
            [name, "=", ..] if offset > graph => drop(names.insert(name.to_string())),
            _ => {}
        }
        offset += line.len() + 1;
    }
    names
}

/// Replaces every bound name, but not members, named arguments, nor words of strings and comments.
fn renamed(text: &str, names: &BTreeSet<String>) -> String {
    let fresh: BTreeMap<&str, String> =
        names.iter().enumerate().map(|(index, name)| (name.as_str(), format!("renamed_{index}"))).collect();
    let mut out = String::new();
    let mut in_string = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if !in_string && rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            rest = &rest[end..];
            continue;
        }
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if length == 0 || in_string {
            in_string ^= first == '"';
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(length);
        let is_member = out.ends_with('.');
        let is_argument = after.starts_with(':');
        match fresh.get(word) {
            Some(name) if !is_member && !is_argument => out.push_str(name),
            _ => out.push_str(word),
        }
        rest = after;
    }
    out
}

/// The declarations of a definition in reverse order.
fn reversed(text: &str) -> String {
    let open = text.find("{\n").expect("definitions have a body") + 2;
    let close = text.rfind('}').expect("definitions have a body");
    let (mut declarations, mut depth) = (vec![String::new()], 0i64);
    for line in text[open..close].lines() {
        let last = declarations.last_mut().expect("there always is one");
        last.push_str(line);
        last.push('\n');
        let count = |brackets: [char; 2]| line.chars().filter(|c| brackets.contains(c)).count() as i64;
        depth += count(['{', '(']) - count(['}', ')']);
        if depth == 0 {
            declarations.push(String::new());
        }
    }
    declarations.reverse();
    format!("{}{}{}", &text[..open], declarations.concat(), &text[close..])
}

/// The plan as it is hashed.
fn plan(prepared: &Prepared) -> String {
    prepared.plan.listing(&prepared.model)
}

#[test]
fn names_and_order_mean_nothing() {
    for (definition, model) in [("llama", "micro-llama"), ("qwen3", "tiny-qwen3")] {
        let entry = lathe_specs::MODELS.iter().find(|entry| entry.name == definition).expect("it is shipped");
        let checkpoint = open(&support::model(model));
        let original = Texts::library("keep").prepared(&checkpoint);
        let names = bound_names(entry.text);
        assert!(
            ["d", "hd", "rotary", "layer", "i", "x", "q", "a"].iter().all(|name| names.contains(*name)),
            "{names:?}"
        );
        let text = reversed(&renamed(entry.text, &names));
        assert_ne!(text, entry.text);
        let changed = Texts::library("keep").with_model("shuffled.lathe", &text).prepared(&checkpoint);
        assert_eq!(plan(&changed), plan(&original));
        assert_eq!(changed.lowered.program, original.lowered.program);
    }
}
