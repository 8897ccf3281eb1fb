//! Folders and files, compared and listed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a folder holds, sorted.
pub(crate) fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("folders of the tests can be read").path()).collect();
    paths.sort();
    paths
}

/// Every file of a folder without folders in it, by name.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    list(folder).iter().map(|path| (super::name(path).to_string(), read(path))).collect()
}

/// A whole file.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A whole text.
pub(crate) fn read_text(path: &Path) -> String {
    String::from_utf8(read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A JSON file.
pub(crate) fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Copies the files of one folder into another, which is made.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("temporary folders can be made");
    for path in list(from) {
        fs::copy(&path, to.join(super::name(&path))).expect("temporary files can be written");
    }
}
