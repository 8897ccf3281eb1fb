//! Files that are named on the command line, where `-` is stdin or stdout.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// The name of stdin and stdout.
const STANDARD: &str = "-";

/// Whether a path stands for stdin or stdout.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == STANDARD
}

/// The text of a file or of stdin.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let (name, bytes) = if is_standard(path) {
        let mut bytes = Vec::new();
        ("stdin".to_owned(), io::stdin().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path.display().to_string(), fs::read(path))
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
