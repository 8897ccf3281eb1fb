//! What `editors/` gives to editors speaks of the language as it is.

use lathe_grammar::pattern::Kind;
use serde_json::Value;

use crate::textmate::Grammar;
use crate::{ast, files_under, read, repository};

fn grammar() -> Grammar {
    Grammar::new(&read("editors/textmate/lathe.tmLanguage.json"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// The columns that an annotation speaks of: those over its carets, or, behind `<`, those of its dashes, tildes left out.
fn annotation(line: &str) -> Option<(std::ops::Range<usize>, Vec<&str>)> {
    let text = line.trim_start().strip_prefix("//")?.trim_start();
    let (marks, scopes) = text.split_once(' ')?;
    let column = line.len() - text.len();
    let columns = match marks.strip_prefix('<') {
        Some(marks) if marks.trim_start_matches('~').chars().all(|mark| mark == '-') => {
            marks.len() - marks.trim_start_matches('~').len()..marks.len()
        }
        None if marks.chars().all(|mark| mark == '^') => column..column + marks.len(),
        _ => return None,
    };
    Some((columns, scopes.split_whitespace().collect()))
}

#[test]
fn the_sample_is_shown_as_it_says() {
    let sample = read("editors/textmate/sample.lathe");
    let (scopes, open) = grammar().scopes(&sample);
    assert_eq!(open, 0);
    let mut line_spoken_of = 0;
    let mut annotations = 0;
    for (i, line) in sample.lines().enumerate() {
        let Some((columns, expected)) = annotation(line) else {
            line_spoken_of = i;
            continue;
        };
        annotations += 1;
        for column in columns {
            let found = &scopes[line_spoken_of][column];
            let missing = expected.iter().find(|scope| !found.iter().any(|found| found == *scope));
            assert_eq!(missing, None, "line {}, column {column}: {found:?}", i + 1);
        }
    }
    assert!(annotations > 100, "{annotations} annotations were found");
    ast("sample.lathe", &sample);
}

#[test]
fn every_word_of_every_shipped_file_is_shown_as_something() {
    let grammar = grammar();
    let files = files_under(&repository().join("specs"));
    assert!(!files.is_empty());
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "lathe")) {
        let text = read(file);
        let (scopes, open) = grammar.scopes(&text);
        assert_eq!(open, 0, "{}: a region does not end", file.display());
        for (i, (line, scopes)) in text.lines().zip(scopes).enumerate() {
            let comment = line.trim_start().starts_with("//");
            for (column, (byte, scopes)) in line.bytes().zip(scopes).enumerate() {
                let place = format!("{}:{}:{}", file.display(), i + 1, column + 1);
                let is_word = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'"');
                assert!(!is_word || scopes.iter().any(|scope| !scope.starts_with("meta.")), "{place}: nothing");
                let is_comment = scopes.iter().any(|scope| scope.starts_with("comment."));
                assert!(!comment || is_comment || byte == b' ', "{place}: {scopes:?} in a comment");
            }
        }
    }
}

/// The keywords that the grammar of the language has: `kw_NAME = @{ "WORD" … }`.
fn keywords() -> Vec<String> {
    let rules = read("grammar/src/dsl.pest");
    let word = |line: &str| Some(line.strip_prefix("kw_")?.split('"').nth(1)?.to_owned());
    rules.lines().filter_map(word).collect()
}

#[test]
fn the_words_of_the_language_are_known() {
    let grammar = grammar();
    let sample = read("editors/textmate/sample.lathe");
    let (scopes, _) = grammar.scopes(&sample);
    let is_shown = |word: &str, scope: &str| {
        sample.lines().zip(&scopes).any(|(line, scopes)| {
            line.match_indices(word).any(|(at, _)| {
                let bytes = &scopes[at..at + word.len()];
                bytes.iter().all(|scopes| scopes.iter().any(|found| found.starts_with(scope)))
            })
        })
    };
    let keywords = keywords();
    assert!(keywords.len() > 25, "{keywords:?}");
    for word in keywords {
        let is_known = is_shown(&word, "keyword.") || is_shown(&word, "storage.");
        assert!(is_known, "use {word} in sample.lathe, and show it as a keyword");
    }
    for kind in Kind::ALL {
        let (lines, _) = grammar.scopes(&format!("spec a {{\nrules {{\n:{} => keep", kind.name()));
        let is_known = lines[2][1..=kind.name().len()]
            .iter()
            .all(|scopes| scopes.ends_with(&["support.type.kind.lathe".to_owned()]));
        assert!(is_known, "{} is not shown as a kind", kind.name());
    }
}

/// A text for each way in which the placeholders of a snippet can be left: their defaults, and each choice once.
fn bodies(snippet: &Value) -> Vec<String> {
    let lines: Vec<&str> =
        snippet["body"].as_array().expect("lines").iter().map(|line| line.as_str().expect("text")).collect();
    let body = lines.join("\n");
    let choices = body.matches(',').count() + 1;
    let mut bodies: Vec<String> = (0..choices).map(|choice| filled_in(&body, choice)).collect();
    bodies.dedup();
    bodies
}

/// `$1` and `${1}` become nothing, `${1:default}` the default, `${1|a,b|}` the `choice`th of them, or the last; `\$` is
/// `$`.
fn filled_in(body: &str, choice: usize) -> String {
    let mut filled = String::new();
    let mut rest = body;
    while let Some((before, behind)) = rest.split_once('$') {
        if let Some(before) = before.strip_suffix('\\') {
            filled.push_str(before);
            filled.push('$');
            rest = behind;
            continue;
        }
        filled.push_str(before);
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if let Some(placeholder) = behind.strip_prefix('{') {
            let (inner, behind) = placeholder.split_once('}').expect("placeholders are closed");
            let value = &inner[digits(inner)..];
            match value.chars().next() {
                Some(':') => filled.push_str(&value[1..]),
                Some('|') => {
                    let choices: Vec<&str> = value.trim_matches('|').split(',').collect();
                    filled.push_str(choices[choice.min(choices.len() - 1)]);
                }
                _ => {}
            }
            rest = behind;
        } else {
            rest = &behind[digits(behind)..];
        }
    }
    filled + rest
}

#[test]
fn snippets_parse() {
    let snippets = json("editors/vscode/lathe.code-snippets");
    for (name, snippet) in snippets.as_object().expect("snippets by name") {
        let (file, before, after) = match (snippet["scope"].as_str(), snippet["prefix"].as_str()) {
            (Some("lathe"), Some("spec" | "extends" | "use" | "let" | "model")) => ("a.lathe", "lathe 1\n", ""),
            (Some("lathe"), Some("rules" | "rotate" | "settings")) => ("a.lathe", "lathe 1\nspec a {\n", "}"),
            (Some("lathe"), Some("rule" | "with")) => ("a.lathe", "lathe 1\nspec a {\nrules {\n", "}\n}"),
            (Some("lathe"), Some("input")) => ("a.lathe", "lathe 1\nspec a {\nrotate {\n", "}\n}"),
            (Some("lathe"), Some("module" | "repeat" | "block" | "graph")) => ("a.lathe", "lathe 1\nmodel a {\n", "}"),
            (Some("yaml"), Some("lathe")) => ("a.yaml", "", ""),
            (Some("yaml"), Some("rule")) => ("a.yaml", "lathe: 1\nspec: a\nrules:\n", ""),
            other => panic!("say here where {name} stands: {other:?}"),
        };
        for body in bodies(snippet) {
            ast(file, &format!("{before}{body}\n{after}"));
        }
    }
}

#[test]
fn the_extension_names_files_that_exist() {
    let manifest = json("editors/vscode/package.json");
    let contributes = &manifest["contributes"];
    let named = [
        &contributes["languages"][0]["configuration"],
        &contributes["grammars"][0]["path"],
        &contributes["snippets"][0]["path"],
    ];
    for path in named {
        let path = path.as_str().and_then(|path| path.strip_prefix("./")).expect("a path in the extension");
        let exists =
            ["vscode", "textmate"].iter().any(|folder| repository().join("editors").join(folder).join(path).exists());
        assert!(exists, "{path}");
    }
    let grammar = json("editors/textmate/lathe.tmLanguage.json");
    assert_eq!(contributes["grammars"][0]["scopeName"], grammar["scopeName"]);
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    let configuration = json("editors/vscode/language-configuration.json");
    assert_eq!(configuration["comments"]["lineComment"], "//");
}
