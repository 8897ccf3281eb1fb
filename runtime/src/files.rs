//! Reading files that others wrote: none without an end, and never more than was said.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file and tells its size in bytes. What is none (a device, a pipe, a folder) is refused before it is
/// opened, as it may never answer or never end.
///
/// # Errors
/// What the system says, or that the file is not regular.
pub fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file"));
    }
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// Reads `input` to its end, which must come within `max` bytes.
///
/// # Errors
/// What the system says, or that there is more.
pub fn read_bounded(input: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("expected at most {max} bytes, found more")));
    }
    Ok(bytes)
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// As [`open_regular`] and [`read_bounded`].
pub fn read_regular(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_bounded(open_regular(path)?.0, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open_regular(folder.path()).is_err());
        let file = folder.path().join("file");
        fs::write(&file, "12345").unwrap();
        assert_eq!(read_regular(&file, 5).unwrap(), b"12345");
        assert!(read_regular(&file, 4).unwrap_err().to_string().contains("at most 4 bytes"));
        #[cfg(unix)]
        {
            assert!(read_regular(Path::new("/dev/zero"), 5).unwrap_err().to_string().contains("regular file"));
            let endless = File::open("/dev/zero").unwrap();
            assert!(read_bounded(endless, 1000).is_err());
        }
    }
}
