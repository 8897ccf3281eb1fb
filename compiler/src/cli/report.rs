//! `lathe report`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use lathe_runtime::files::read_regular;
use serde::de::DeserializeOwned;

use super::texts::write_file;
use super::{Failure, print};
use crate::artifact::{LOCK_FILE, Lock, REPORT_FILE, Report};
use crate::page::{PageError, page};
use crate::verify::Verification;

/// Write what became of a model as a page for a browser.
///
/// The page is one file: bytes by module and format, what the weights lost by layer, tied tables, what was kept, and
/// with --verify what the model lost.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Compiled model: a folder that `lathe compile` wrote.
    artifact: PathBuf,
    /// Write to this file, which ends in .html; an older one is replaced [default: standard output].
    #[arg(short, long, value_name = "PAGE", value_parser = parse_page)]
    output: Option<PathBuf>,
    /// Show what `lathe verify --json` has written to this file.
    #[arg(long, value_name = "FILE")]
    verify: Option<PathBuf>,
}

/// Most bytes of a JSON file about a model: some thousand for each of the largest number of modules.
const MOST_BYTES: u64 = 1 << 30;

/// A file whose name says that it is a page.
pub(super) fn parse_page(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_page = path.extension().is_some_and(|extension| extension == "html" || extension == "htm");
    if is_page { Ok(path) } else { Err("expected a file that ends in .html".into()) }
}

/// A compiled model with a page in its folder would not be taken for one, and never be replaced by a newer one.
pub(super) fn refuse_inside(artifact: &Path, page: Option<&Path>) -> Result<(), Failure> {
    match page {
        Some(page) if resolved(page).starts_with(resolved(artifact)) => {
            let (page, artifact) = (page.display(), artifact.display());
            Err(Failure::Run(format!("{page} is in {artifact}, which holds the compiled model and nothing else")))
        }
        _ => Ok(()),
    }
}

/// The path without links and `..`, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => resolved(Path::new(".")).join(name),
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path.to_path_buf(),
    })
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let output = arguments.output.as_deref();
    refuse_inside(&arguments.artifact, output)?;
    let text = page_of(&arguments.artifact, arguments.verify.as_deref())?;
    match output {
        Some(output) => write_file(output, &text),
        None => print(&text),
    }
}

/// Writes the page about a model that was just compiled.
pub(super) fn write_page(artifact: &Path, output: &Path) -> Result<(), Failure> {
    // Folders that were made for the model may have become part of the path of the page.
    refuse_inside(artifact, Some(output))?;
    write_file(output, &page_of(artifact, None)?)
}

/// The lock of a compiled model.
pub(super) fn read_lock(artifact: &Path) -> Result<Lock, Failure> {
    read(&artifact.join(LOCK_FILE), DAMAGED, "the lock of a compiled model")
}

fn page_of(artifact: &Path, verification: Option<&Path>) -> Result<String, Failure> {
    let report_file = artifact.join(REPORT_FILE);
    let report: Report = read(&report_file, DAMAGED, "the report of a compilation by this version")?;
    let lock = read_lock(artifact)?;
    let found: Option<Verification> =
        verification.map(|file| read(file, UNSUITED, "what `lathe verify --json` writes")).transpose()?;
    page(&report, &lock, found.as_ref()).map_err(|error| {
        let (file, code) = match (&error, verification) {
            (PageError::Report { .. }, _) | (_, None) => (report_file.as_path(), DAMAGED),
            (_, Some(file)) => (file, UNSUITED),
        };
        fault(file, code, &error.to_string())
    })
}

/// Code of a compiled model that is not valid.
pub(super) const DAMAGED: &str = "A0001";
/// Code of a verification that cannot be shown.
const UNSUITED: &str = "A0002";

/// A file that this program wrote. When it is not `expected`, that is a fault of this code.
pub(super) fn read<T: DeserializeOwned>(path: &Path, code: &'static str, expected: &str) -> Result<T, Failure> {
    let invalid = |reason: String| fault(path, code, &format!("expected {expected}: {reason}"));
    let bytes = read_regular(path, MOST_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => invalid(error.to_string()),
        _ => Failure::Run(format!("cannot read {}: {error}", path.display())),
    })?;
    serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
}

fn fault(path: &Path, code: &'static str, message: &str) -> Failure {
    let file = path.display().to_string();
    let diagnostic = Diagnostic::error(code, format!("{file}: {message}")).file(file);
    Failure::Input(Sources::new(), vec![diagnostic])
}
