//! The corpus of wrong specs: one file at least for each code that a spec can be at fault with, named after it.
//!
//! Comments at the top choose what a spec is checked against, `// KEY: VALUE` or `# KEY: VALUE`:
//!
//! - `checkpoint`: a folder of `models/`; or `config` and `tensors`, as in the tests of definitions. With neither the spec
//!   is checked without a model.
//! - `definition`: a definition in the place of the shipped one.
//! - `set`: an override, as behind `--set`; any number of them.
//! - `spec`: which spec of the file, when it holds several.
//! - `probe`: `yes` to read the tables that a decision depends on.
//!
//! Paths lead from the folder `diag`; `texts/` in there holds what other files name. That this version cannot build a
//! format is said in files for that code only: it would have to be said of most specs.

use std::fs;
use std::path::{Path, PathBuf};

use lathe_compiler::compile::{Input, load_specs, plan};
use lathe_compiler::spec::{Entry, FileError, Files, Place};
use lathe_grammar::codes::CODES;
use lathe_grammar::span::Sources;

use super::marks::{Comment, with_marks, without_marks};
use super::{check, head_in, synthetic_checkpoint};
use crate::support::compiler::{diagnostics, open};
use crate::support::{self, files};

/// The code for what this version cannot build.
const UNBUILT: &str = "S0202";

fn folder() -> PathBuf {
    support::root().join("filetests/diag")
}

/// The files of the corpus.
struct Corpus;

impl Files for Corpus {
    fn read(&self, path: &Path, _: &Path) -> Result<String, FileError> {
        fs::read_to_string(folder().join(path)).map_err(|_| FileError::NotFound)
    }
}

#[test]
fn wrong_specs() {
    check("diag", |path, text| {
        let comment = Comment::of(path);
        let plain = without_marks(text, comment);
        let mut sources = Sources::new();
        let name = support::name(path);
        let source = sources.add(name, plain.as_str());
        let head = |key: &str| head_in(&plain, comment, key).next();
        let overrides: Vec<String> = head_in(&plain, comment, "set").map(str::to_owned).collect();
        let entry = Entry { source, place: Place::File(name.into()), name: head("spec").map(str::to_owned) };
        let made = head("config").map(|_| synthetic_checkpoint(path, &plain, comment));
        let checkpoint = match head("checkpoint") {
            Some(model) => Some(support::model(model)),
            None => made.as_ref().map(|folder| folder.path().to_path_buf()),
        };
        let mut found = match &checkpoint {
            None => {
                let mut found = Vec::new();
                let specs = load_specs(&entry, true, &overrides, &Corpus, &mut sources, &mut found);
                found.extend(specs.into_iter().flat_map(|spec| spec.unbuilt()));
                found
            }
            Some(checkpoint) => {
                let definition = head("definition").map(|file| definition(file, &mut sources));
                let checkpoint = open(checkpoint);
                let input = Input {
                    spec: &entry,
                    overrides: &overrides,
                    files: &Corpus,
                    model: definition.as_ref(),
                    checkpoint: &checkpoint,
                    strict: false,
                    calibration: None,
                };
                match plan(input, &mut sources) {
                    Err(found) => found,
                    Ok(mut planned) => match head("probe").map(|_| planned.probe(&checkpoint)) {
                        Some(Err(error)) => diagnostics(error),
                        _ => [planned.warnings, planned.unbuilt].concat(),
                    },
                }
            }
        };
        if !name.starts_with(UNBUILT) {
            found.retain(|diagnostic| diagnostic.code != UNBUILT);
        }
        with_marks(&sources, source, comment, &found, checkpoint.as_deref().unwrap_or(path))
    });
}

fn definition(file: &str, sources: &mut Sources) -> Entry {
    let text = files::read_text(&folder().join(file));
    Entry { source: sources.add(file, text), place: Place::File(file.into()), name: None }
}

/// Names begin with a code that the file shows, or with `valid`, and then it shows none.
#[test]
fn names_say_what_is_wrong() {
    for path in files::list(&folder()).iter().filter(|path| path.is_file()) {
        let (name, text) = (support::name(path), files::read_text(path));
        let code = name.split(['_', '.']).next().unwrap_or_default();
        if code == "valid" {
            assert!(!text.contains("error[") && !text.contains("warning["), "{name} is not valid");
        } else {
            assert!(text.contains(&format!("[{code}]: ")), "{name} does not show {code}");
        }
    }
}

#[test]
fn every_code_of_specs_has_a_file() {
    let names: Vec<PathBuf> = files::list(&folder());
    let has_file = |code: &str| names.iter().any(|path| support::name(path).starts_with(code));
    // Said of the command line, not of a text; `tests/codes.rs` has them.
    let codes = CODES.iter().map(|entry| entry.code).filter(|code| !["S0001", "S0410"].contains(code));
    let missing: Vec<&str> = codes.filter(|code| code.starts_with(['P', 'S']) && !has_file(code)).collect();
    assert!(missing.is_empty(), "no file in diag shows {missing:?}");
}

/// Every code stands in the expected output of some test.
#[test]
fn every_code_is_shown() {
    let mut folders = vec![support::root().join("filetests"), support::root().join("snapshots")];
    let mut expected = String::new();
    while let Some(folder) = folders.pop() {
        for path in files::list(&folder) {
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("rs") => {}
                _ => expected.push_str(&files::read_text(&path)),
            }
        }
    }
    // No definition can yet read one stored tensor from two modules.
    let codes = CODES.iter().map(|entry| entry.code).filter(|code| *code != "C0007");
    let missing: Vec<&str> = codes.filter(|code| !expected.contains(&format!("[{code}]"))).collect();
    assert!(missing.is_empty(), "no test shows {missing:?}");
}
