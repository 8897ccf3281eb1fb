//! The walks through docs/, done step by step: their files are written, their commands run, their answers compared.
//!
//! `LATHE_BLESS=1` writes the answers anew.

#![cfg(unix)]

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{self, files, model};

/// A folder with the model that a document is about, and the binaries under the names that it gives them.
fn work_folder(model: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let binaries = folder.path().join("bin");
    fs::create_dir(&binaries).unwrap();
    symlink(env!("CARGO_BIN_EXE_lathe-under-test"), binaries.join("lathe")).unwrap();
    symlink(env!("CARGO_BIN_EXE_lathe-run-under-test"), binaries.join("lathe-run")).unwrap();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    symlink(model, work.join(support::name(model))).unwrap();
    folder
}

/// What a command writes, to both outputs.
fn answer(folder: &Path, command: &str) -> String {
    let path = format!("{}:{}", folder.join("bin").display(), env::var("PATH").unwrap_or_default());
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {command}; }} 2>&1")])
        .current_dir(folder.join("work"))
        .env("PATH", path)
        .env_remove("COLUMNS")
        .env_remove("LATHE_ISA")
        .env("LC_ALL", "C")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("there is a shell");
    let text = String::from_utf8(output.stdout).expect("answers are UTF-8");
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}

/// The document with the answers that its commands give now. Files are written where they are shown.
fn done_again(text: &str, model: &Path) -> String {
    let folder = work_folder(model);
    let mut made = String::new();
    let mut lines = text.lines();
    let mut file = None;
    while let Some(line) = lines.next() {
        made.push_str(line);
        made.push('\n');
        if let Some(name) = line.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->")) {
            file = Some(name);
        }
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let text = match (file.take(), language) {
            (_, "console") => {
                let commands = block.iter().filter_map(|line| line.strip_prefix("$ "));
                let answers = commands.map(|command| format!("$ {command}\n{}", answer(folder.path(), command)));
                answers.collect::<Vec<_>>().concat()
            }
            (name, _) => {
                let text = block.join("\n") + "\n";
                if let Some(name) = name {
                    fs::write(folder.path().join("work").join(name), &text).unwrap();
                }
                text
            }
        };
        made.push_str(&text);
        made.push_str("```\n");
    }
    made
}

/// Without the numbers of lines that depend on the machine: on its clock, on how many processors it has.
fn without_measurements(text: &str) -> String {
    let line = |line: &str| {
        if !["compiled ", "compiling takes ", "proved: "].iter().any(|start| line.starts_with(start)) {
            return line.to_owned();
        }
        let parts = line.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("0")
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

fn check(document: &str, model: &Path) {
    let path = support::root().join("../docs").join(document);
    let text = files::read_text(&path);
    let done = done_again(&text, model);
    if without_measurements(&done) == without_measurements(&text) {
        return;
    }
    if env::var_os("LATHE_BLESS").is_some() {
        fs::write(&path, done).expect("documents can be written");
        return;
    }
    let is_other = |(done, text): &(&str, &str)| without_measurements(done) != without_measurements(text);
    let differs = done.lines().zip(text.lines()).find(is_other);
    panic!("{document} is not current: run the tests with LATHE_BLESS=1; the first line that differs: {differs:?}");
}

#[test]
fn every_answer_is_what_the_tutorial_shows() {
    check("tutorial.md", &model("tiny-qwen3"));
}

#[test]
fn a_new_architecture_is_defined_as_the_document_shows() {
    check("new-architecture.md", &support::root().join("families/cohere"));
}
