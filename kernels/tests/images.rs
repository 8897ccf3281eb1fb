//! The CUDA images that are shipped are made of the sources that are here. Whether they are what the compiler makes of them,
//! `build.sh --check` says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use miniz_oxide::inflate::decompress_to_vec_zlib;
use sha2::{Digest, Sha256};

#[test]
fn digests_are_those_of_the_files() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda"));
    let digests = fs::read_to_string(folder.join("images/DIGESTS")).unwrap();
    let mut listed = BTreeSet::new();
    for line in digests.lines().filter(|line| !line.starts_with('#')) {
        let (expected, name) = line.split_once("  ").unwrap();
        let mut digest = String::new();
        for byte in Sha256::digest(content(folder, name)) {
            write!(digest, "{byte:02x}").unwrap();
        }
        assert_eq!(digest, expected, "{name} has changed: run kernels/src/cuda/build.sh");
        listed.insert(name.to_owned());
    }
    let mut found = BTreeSet::from(["build.sh".to_owned()]);
    for (prefix, endings) in [("", [".cu", ".cuh"]), ("images/", [".cubin.zz", ".ptx.zz"])] {
        for entry in fs::read_dir(folder.join(prefix)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if endings.iter().any(|ending| name.ends_with(ending)) {
                found.insert(format!("{prefix}{}", name.trim_end_matches(".zz")));
            }
        }
    }
    assert_eq!(found, listed, "run kernels/src/cuda/build.sh");
}

/// Of a source, or of an image before it was compressed.
fn content(folder: &Path, name: &str) -> Vec<u8> {
    if !name.starts_with("images/") {
        return fs::read(folder.join(name)).unwrap();
    }
    let stream = fs::read(folder.join(format!("{name}.zz"))).unwrap();
    decompress_to_vec_zlib(&stream).unwrap()
}
