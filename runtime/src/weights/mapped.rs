//! Files mapped into memory: the one place of this crate that Rust cannot check.

use std::io;
use std::path::Path;

use memmap2::Mmap;

use crate::files::open_regular;

/// A regular file mapped into memory for reading; nothing of it is read until it is looked at.
///
/// The file must not change while this value lives: one that is cut short ends the process when its lost part is read.
#[derive(Debug)]
pub struct MappedFile {
    bytes: Mmap,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// As [`open_regular`], and when the system cannot map the file.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        let (file, _) = open_regular(path)?;
        // SAFETY: a mapped file must not change. It is opened for reading only, nothing in Lathe writes to a file once
        // it has its final name, and users of this type are asked to leave it alone; Rust cannot check what other
        // processes do.
        #[expect(unsafe_code, reason = "a file can only be mapped so; nothing else in this crate is unsafe")]
        let bytes = unsafe { Mmap::map(&file) }?;
        Ok(MappedFile { bytes })
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
