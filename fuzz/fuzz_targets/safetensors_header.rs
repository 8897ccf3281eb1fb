//! Any bytes as a weight file, of a checkpoint or of an artifact, are refused or bound within the file.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use lathe_compiler::model::Checkpoint;
use lathe_runtime::program::Program;
use lathe_runtime::weights::Weights;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    fs::write(folder.path().join("config.json"), "{}").expect("the folder can be written");
    folder
});

static PROGRAM: LazyLock<Program> = LazyLock::new(|| {
    Program::from_json(include_str!("../seeds/program_json/embed_head.json")).expect("the seed is a valid program")
});

fuzz_target!(|bytes: &[u8]| {
    let folder = FOLDER.path();
    fs::write(folder.join("model.safetensors"), bytes).expect("the folder can be written");
    fs::write(folder.join("weights-00001-of-00001.safetensors"), bytes).expect("the folder can be written");
    if let Ok(checkpoint) = Checkpoint::open(folder) {
        for tensor in &checkpoint.tensors {
            assert!(tensor.offset + tensor.bytes <= bytes.len() as u64, "{tensor:?}");
            let _ = tensor.rows();
        }
    }
    if let Ok(weights) = Weights::open(folder, &PROGRAM) {
        let matrices = weights.matrices().expect("opening has made them once");
        assert_eq!(matrices.len(), PROGRAM.weights.len());
    }
});
