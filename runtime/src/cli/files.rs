//! Files that are named on the command line, where `-` is stdin or stdout.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use lathe_runtime::files::read_bounded;

use super::failure::Failure;

/// The name of stdin and stdout.
const STANDARD: &str = "-";

/// Longest text that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 30;

/// The folder of this user for what can be made again.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    // A relative one is to be ignored (XDG Base Directory Specification).
    let named = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(folder.join("lathe"))
}

/// Whether a path stands for stdin or stdout.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == STANDARD
}

/// The text of a file or of stdin.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let (name, bytes) = if is_standard(path) {
        ("stdin".to_owned(), read_bounded(io::stdin(), MAX_TEXT_BYTES))
    } else {
        // A pipe is as good as a file here; both must end.
        (path.display().to_string(), File::open(path).and_then(|file| read_bounded(file, MAX_TEXT_BYTES)))
    };
    let bytes = bytes.map_err(|error| Failure::Run(format!("cannot read {name}: {error}")))?;
    String::from_utf8(bytes).map_err(|error| Failure::Input(format!("{name} is not UTF-8: {}", error.utf8_error())))
}

/// A file that gets its name only when it is whole.
#[derive(Debug)]
pub(crate) struct Aside {
    /// Where to write.
    pub(crate) path: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl Aside {
    /// A place beside `target`.
    pub(crate) fn new(target: &Path) -> Result<Aside, Failure> {
        if fs::metadata(target).is_ok_and(|found| !found.is_file()) {
            let message = format!("{} exists and is not a regular file; it is left as it is", target.display());
            return Err(Failure::Run(message));
        }
        // A link keeps pointing to what is written.
        let target = &fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let Some(name) = target.file_name() else {
            return Err(Failure::Run(format!("{} is not the name of a file", target.display())));
        };
        let mut aside = std::ffi::OsString::from(".");
        aside.push(name);
        aside.push(format!(".{}.part", std::process::id()));
        Ok(Aside { path: target.with_file_name(aside), target: target.to_owned(), kept: false })
    }

    /// Gives the file its name.
    pub(crate) fn keep(mut self) -> Result<(), Failure> {
        fs::rename(&self.path, &self.target)
            .map_err(|error| Failure::Run(format!("cannot write {}: {error}", self.target.display())))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.kept {
            // It may not have been created.
            let _ = fs::remove_file(&self.path);
        }
    }
}
