//! The CUDA images that are shipped are made of the sources that are here. Whether they are what the compiler makes of them,
//! `build.sh --check` says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

#[test]
#[expect(clippy::print_stderr, reason = "a test says why it is skipped")]
fn digests_are_those_of_the_files() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda"));
    let Ok(digests) = fs::read_to_string(folder.join("images/DIGESTS")) else {
        eprintln!("skipped: kernels/src/cuda/build.sh has made no images yet");
        return;
    };
    let mut listed = BTreeSet::new();
    for line in digests.lines().filter(|line| !line.starts_with('#')) {
        let (expected, name) = line.split_once("  ").unwrap();
        let mut digest = String::new();
        for byte in Sha256::digest(fs::read(folder.join(name)).unwrap()) {
            write!(digest, "{byte:02x}").unwrap();
        }
        assert_eq!(digest, expected, "{name} has changed: run kernels/src/cuda/build.sh");
        listed.insert(name.to_owned());
    }
    let mut found = BTreeSet::from(["build.sh".to_owned()]);
    for (prefix, extensions) in [("", ["cu", "cuh"]), ("images/", ["cubin", "ptx"])] {
        for entry in fs::read_dir(folder.join(prefix)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
                found.insert(format!("{prefix}{}", path.file_name().unwrap().to_string_lossy()));
            }
        }
    }
    assert_eq!(found, listed, "run kernels/src/cuda/build.sh");
}
