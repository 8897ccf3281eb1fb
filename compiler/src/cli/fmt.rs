//! `lathe fmt`

use std::path::{Path, PathBuf};

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::format;
use lathe_grammar::span::Sources;

use super::render::Messages;
use super::texts::{load_file, load_stdin, write_file};
use super::{Failure, print};

/// Write specs and definitions in their canonical form.
///
/// What they say stays the same, and so do their comments. A file with a mistake is left as it is, and the command ends with
/// exit code 1; the others are written all the same.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Files to format; - is stdin, which is written to stdout.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write nothing; name the files that would change, and end with exit code 1 when there are some.
    #[arg(long)]
    check: bool,
    /// Name of the text in stdin, for messages; with .yaml or .yml it is YAML.
    #[arg(long, value_name = "NAME", default_value = "stdin.lathe")]
    stdin_name: String,
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let mut sources = Sources::new();
    let mut diagnostics = Vec::new();
    let mut failures = Vec::new();
    for path in &arguments.files {
        match format_one(arguments, path, &mut sources, messages) {
            Ok(()) => {}
            Err(Failure::Input(all, found)) => {
                sources = all;
                diagnostics.extend(found);
            }
            Err(Failure::Run(message)) => failures.push(message),
            Err(other) => return Err(other),
        }
    }
    messages.diagnostics(&sources, &diagnostics);
    let last = failures.pop();
    for message in failures {
        messages.failure(&message);
    }
    match last {
        Some(message) => Err(Failure::Run(message)),
        None if diagnostics.is_empty() => Ok(()),
        None => Err(Failure::Reported),
    }
}

fn format_one(arguments: &Arguments, path: &Path, sources: &mut Sources, messages: Messages) -> Result<(), Failure> {
    let is_stdin = path.as_os_str() == "-";
    let source = if is_stdin { load_stdin(&arguments.stdin_name, sources)? } else { load_file(path, sources)? };
    let formatted = match format(sources, source) {
        Ok(formatted) => formatted,
        Err(diagnostics) => return Err(Failure::Input(std::mem::take(sources), diagnostics)),
    };
    let entry = sources.get(source);
    let changes = formatted != entry.text;
    if arguments.check {
        if !changes {
            return Ok(());
        }
        let name = entry.name.clone();
        let diagnostic = Diagnostic::error("F0002", format!("`{name}` is not formatted")).file(name);
        return Err(Failure::input(sources, diagnostic));
    }
    if is_stdin {
        return print(&formatted);
    }
    if changes {
        write_file(path, &formatted)?;
        messages.status(&format!("formatted {}", path.display()));
    }
    Ok(())
}
