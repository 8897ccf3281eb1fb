//! Texts of the user: specs and definitions, read by file or library name, and written back.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::span::{SourceId, Sources, Span};
use lathe_grammar::{MAX_SOURCE_LENGTH, is_yaml};
use lathe_runtime::files::{read_bounded, read_regular};

use super::Failure;
use super::render::Messages;
use crate::spec::{Entry, FileError, Files, Place};

/// Begins the names of texts that ship inside the binary.
const LIBRARY: &str = "library:";

/// A spec by file or library name.
pub(super) fn load_spec(name: &str, sources: &mut Sources) -> Result<SourceId, Failure> {
    let path = Path::new(name);
    if is_lathe(path) || is_yaml(path) || path.is_file() {
        return load_file(path, sources);
    }
    if let Some(entry) = lathe_specs::spec(name) {
        return Ok(sources.add(format!("{LIBRARY}{}", entry.path), entry.text));
    }
    let help = match nearest(name, lathe_specs::SPECS.iter().map(|entry| entry.name)) {
        Some(near) => format!("did you mean `{near}`? `lathe list specs` shows all"),
        None => "`lathe list specs` shows those that ship".into(),
    };
    let diagnostic = Diagnostic::error("S0001", format!("`{name}` is neither a file nor a shipped spec"));
    Err(Failure::input(sources, diagnostic.help(help)))
}

/// A spec by file or library name; `FILE#NAME` is one of several in a file.
pub(super) fn load_entry(name: &str, sources: &mut Sources) -> Result<Entry, Failure> {
    let (file, spec) = split_name(name);
    let source = load_spec(file, sources)?;
    let place = match sources.get(source).name.strip_prefix(LIBRARY) {
        Some(path) if lathe_specs::SPECS.iter().any(|entry| entry.path == path) => Place::Library(path.to_owned()),
        _ => Place::File(PathBuf::from(file)),
    };
    Ok(Entry { source, place, name: spec })
}

/// The shipped spec that keeps everything, whatever files there are.
pub(super) fn load_keep(sources: &mut Sources) -> Entry {
    let keep = lathe_specs::spec("keep").expect("invariant: the spec that keeps everything ships");
    let source = sources.add(format!("{LIBRARY}{}", keep.path), keep.text);
    Entry { source, place: Place::Library(keep.path.to_owned()), name: None }
}

/// A model definition by file; `FILE#NAME` is one of several in a file.
pub(super) fn load_definition(written: &Path, sources: &mut Sources) -> Result<Entry, Failure> {
    let (path, name) = match written.to_str().map(split_name) {
        Some((path, name)) => (Path::new(path), name),
        None => (written, None),
    };
    Ok(Entry { source: load_file(path, sources)?, place: Place::File(path.to_path_buf()), name })
}

/// The file and the name in `FILE#NAME`, unless all of it is the name of a file.
fn split_name(written: &str) -> (&str, Option<String>) {
    match written.rsplit_once('#') {
        Some((file, name)) if !Path::new(written).is_file() => (file, Some(name.to_owned())),
        _ => (written, None),
    }
}

/// Files that specs and definitions name, from the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, root: &Path) -> Result<String, FileError> {
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => FileError::NotFound,
            _ => FileError::Io(error),
        };
        let folder = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        let folder = fs::canonicalize(folder).map_err(missing)?;
        if !fs::canonicalize(path).map_err(missing)?.starts_with(&folder) {
            return Err(FileError::Outside(root.to_path_buf()));
        }
        let bytes = read_regular(path, MAX_SOURCE_LENGTH as u64).map_err(missing)?;
        String::from_utf8(bytes).map_err(|error| FileError::NoText(format!("not UTF-8: {}", error.utf8_error())))
    }
}

/// A file of the user; a pipe is as good as one.
pub(super) fn load_file(path: &Path, sources: &mut Sources) -> Result<SourceId, Failure> {
    let name = path.display().to_string();
    let bytes = File::open(path).and_then(|file| read_bounded(file, MAX_SOURCE_LENGTH as u64));
    match bytes {
        Ok(bytes) => decode(name, bytes, sources),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let diagnostic = Diagnostic::error("S0001", format!("`{name}` does not exist")).file(name);
            Err(Failure::input(sources, diagnostic))
        }
        Err(error) => Err(unread(name, &error, sources)),
    }
}

/// Standard input, under this name.
pub(super) fn load_stdin(name: &str, sources: &mut Sources) -> Result<SourceId, Failure> {
    match read_bounded(io::stdin().lock(), MAX_SOURCE_LENGTH as u64) {
        Ok(bytes) => decode(name.to_owned(), bytes, sources),
        Err(error) => Err(unread(name.to_owned(), &error, sources)),
    }
}

fn unread(name: String, error: &io::Error, sources: &mut Sources) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData {
        // More bytes than a text may have: the one thing that `read_bounded` says in this way.
        return Failure::input(sources, Diagnostic::error("P0001", format!("{name}: {error}")).file(name));
    }
    Failure::Run(format!("cannot read {name}: {error}"))
}

fn decode(name: String, bytes: Vec<u8>, sources: &mut Sources) -> Result<SourceId, Failure> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(sources.add(name, text)),
        Err(error) => {
            // Up to the first byte that is wrong, the text that is shown has the same bytes as the file.
            let start = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[start];
            let source = sources.add(name, String::from_utf8_lossy(error.as_bytes()));
            let span = Span::new(source, start..start + char::REPLACEMENT_CHARACTER.len_utf8());
            let message = format!("expected UTF-8, found the byte 0x{byte:02x} at offset {start}");
            Err(Failure::input(sources, Diagnostic::error("P0001", message).label(span, "")))
        }
    }
}

/// Longest text for a model, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 30;

/// The name and the text, for a model to read, of a file or of stdin.
pub(super) fn read_text(path: &Path, messages: Messages) -> Result<(String, String), Failure> {
    let (name, bytes) = if path.as_os_str() == "-" {
        ("stdin".to_owned(), read_bounded(io::stdin().lock(), MAX_TEXT_BYTES))
    } else {
        // A pipe is as good as a file here; both must end.
        (path.display().to_string(), File::open(path).and_then(|file| read_bounded(file, MAX_TEXT_BYTES)))
    };
    let bytes = bytes.map_err(|error| Failure::Run(format!("cannot read {name}: {error}")))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(error) => {
            messages.failure(&format!("{name} is not UTF-8: {}", error.utf8_error()));
            Err(Failure::Reported)
        }
    }
}

/// Whether a file of this name holds the Lathe language.
pub(super) fn is_lathe(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lathe")
}

/// Writes a file aside and gives it its name when it is whole. One that was there keeps its permissions, and a link
/// keeps pointing to it.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Run(format!("cannot write {}: {error}", path.display()));
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let Some(name) = target.file_name() else {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "expected the name of a file")));
    };
    let partial = target.with_file_name(format!(".{}.partial-{}", name.display(), std::process::id()));
    let written = write_through(&partial, &target, text);
    if written.is_err() {
        // What is left of the attempt; the reason why it failed is more than a reason why it stays.
        let _ = fs::remove_file(&partial);
    }
    written.map_err(failed)
}

fn write_through(partial: &Path, target: &Path, text: &str) -> io::Result<()> {
    let permissions = match fs::metadata(target) {
        Ok(old) if !old.is_file() => return Err(io::Error::other("it is no regular file")),
        Ok(old) if old.permissions().readonly() => return Err(io::ErrorKind::PermissionDenied.into()),
        Ok(old) => Some(old.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut file = File::create_new(partial)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(partial, target)
}
