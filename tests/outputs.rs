//! Where an artifact is written: an older one is replaced, anything else is left as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use lathe_compiler::compile::{CompileError, write};
use lathe_compiler::pack::{PackError, PackOptions};
use lathe_runtime::program::PROGRAM_VERSION;
use serde_json::{Value, json};

use crate::support::command::{compile, lathe, run, succeed, succeed_json};
use crate::support::compiler::{Texts, open};
use crate::support::llama::{Llama, Shape};
use crate::support::{files, model};

/// A checkpoint and where its artifact is to go.
fn setting() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, out) = (folder.path().join("checkpoint"), folder.path().join("out"));
    Llama::new(Shape::tiny()).write(&checkpoint);
    (folder, checkpoint, out)
}

/// Compiles in vain: exit code 2, and a message that holds all of `parts`.
#[track_caller]
fn refused(checkpoint: &Path, out: &Path, options: &[&str], parts: &[&str]) {
    let ended = run(compile("keep", checkpoint, out).args(options));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "expected {part:?} in:\n{}", ended.stderr);
    }
}

#[test]
fn a_foreign_folder_is_left_as_it_is() {
    let (folder, checkpoint, out) = setting();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.tex"), "years of work").unwrap();
    let before = files::list(folder.path());
    refused(&checkpoint, &out, &[], &[out.to_str().unwrap(), "is no compiled model"]);
    assert_eq!(files::read_text(&out.join("thesis.tex")), "years of work");
    assert_eq!(files::list(folder.path()), before);
}

#[test]
fn a_foreign_file_is_left_as_it_is() {
    let (folder, checkpoint, out) = setting();
    fs::write(&out, "years of work").unwrap();
    let before = files::list(folder.path());
    refused(&checkpoint, &out, &[], &[out.to_str().unwrap(), "is no compiled model"]);
    assert_eq!(files::read_text(&out), "years of work");
    assert_eq!(files::list(folder.path()), before);
}

#[test]
fn an_empty_folder_is_filled_and_an_older_artifact_replaced() {
    let (folder, checkpoint, out) = setting();
    fs::create_dir(&out).unwrap();
    succeed(&mut compile("keep", &checkpoint, &out));
    let first = files::contents(&out);
    let other = folder.path().join("other");
    Llama::new(Shape { seed: 2, ..Shape::tiny() }).write(&other);
    succeed(&mut compile("keep", &other, &out));
    let second = files::contents(&out);
    assert!(first.keys().eq(second.keys()));
    assert_ne!(first, second);
    let names: Vec<PathBuf> = files::list(folder.path());
    assert_eq!(names, [checkpoint, other, out]);
}

#[cfg(unix)]
#[test]
fn a_link_to_an_artifact_stays_a_link() {
    let (folder, checkpoint, out) = setting();
    let link = folder.path().join("link");
    succeed(&mut compile("keep", &checkpoint, &out));
    std::os::unix::fs::symlink(&out, &link).unwrap();
    let before = files::list(folder.path());
    succeed(&mut compile("keep", &checkpoint, &link));
    assert!(link.is_symlink() && out.join("program.json").is_file());
    assert_eq!(files::list(folder.path()), before);
}

/// A file that Lathe does not write is somebody's work, whatever else is there.
#[test]
fn an_artifact_with_a_foreign_file_is_left_as_it_is() {
    let (folder, checkpoint, out) = setting();
    succeed(&mut compile("keep", &checkpoint, &out));
    fs::write(out.join("thesis.tex"), "years of work").unwrap();
    let before = files::contents(&out);
    refused(&checkpoint, &out, &[], &[out.to_str().unwrap(), "thesis.tex"]);
    assert_eq!(files::contents(&out), before);
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("program.json"), "{}").unwrap();
    refused(&checkpoint, &foreign, &[], &[foreign.to_str().unwrap(), "lathe.lock"]);
    assert_eq!(files::read_text(&foreign.join("program.json")), "{}");
}

#[test]
fn more_threads_than_there_is_work_are_not_started() {
    let (_folder, checkpoint, out) = setting();
    succeed(compile("keep", &checkpoint, &out).args(["--threads", "1024"]));
    refused(&checkpoint, &out, &["--threads", "200000"], &["1024"]);
}

#[test]
fn an_older_artifact_survives_a_compilation_that_fails() {
    let (_folder, checkpoint, out) = setting();
    succeed(&mut compile("keep", &checkpoint, &out));
    let before = files::contents(&out);
    fs::write(checkpoint.join("model.safetensors"), "broken").unwrap();
    assert_eq!(run(&mut compile("keep", &checkpoint, &out)).code, Some(1));
    assert_eq!(files::contents(&out), before);
}

#[test]
fn folders_above_the_output_are_made() {
    let (folder, checkpoint, _) = setting();
    let out = folder.path().join("a/b/c");
    succeed(&mut compile("keep", &checkpoint, &out));
    assert!(out.join("program.json").is_file());
}

#[test]
fn an_output_below_a_file_is_refused() {
    let (folder, checkpoint, _) = setting();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let before = files::list(folder.path());
    refused(&checkpoint, &file.join("out"), &[], &[file.to_str().unwrap()]);
    assert_eq!(files::list(folder.path()), before);
}

#[test]
fn too_little_memory_is_refused_with_the_minimum() {
    let (folder, checkpoint, out) = setting();
    let before = files::list(folder.path());
    let ended = run(compile("keep", &checkpoint, &out).args(["--memory", "1M"]));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let minimum: String =
        ended.stderr.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    assert!(ended.stderr.contains("1048576"), "{}", ended.stderr);
    assert_eq!(files::list(folder.path()), before);
    succeed(compile("keep", &checkpoint, &out).args(["--memory", &minimum]));
    let less = minimum.parse::<u64>().unwrap() - 1;
    refused(&checkpoint, &out, &["--memory", &less.to_string()], &[&minimum]);
}

#[test]
fn a_damaged_artifact_is_not_inspected() {
    let (_folder, checkpoint, out) = setting();
    let inspect = || run(lathe().arg("inspect").arg(&out));
    assert_eq!(inspect().code, Some(2), "there is no artifact yet");
    succeed(&mut compile("keep", &checkpoint, &out));
    assert_eq!(inspect().code, Some(0));
    let program = out.join("program.json");
    let version = format!("\"version\": {PROGRAM_VERSION}");
    fs::write(&program, files::read_text(&program).replacen(&version, "\"version\": 7", 1)).unwrap();
    let ended = inspect();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let version = format!("version {PROGRAM_VERSION}");
    for part in ["A0001", program.to_str().unwrap(), "version 7", &version] {
        assert!(ended.stderr.contains(part), "expected {part:?} in:\n{}", ended.stderr);
    }
}

/// Every stored tensor with its bytes and digest; what was changed since is found.
#[test]
fn stored_tensors_are_listed_and_their_digests_checked() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    succeed(&mut compile("w4g32", &model("micro-llama"), &out));
    let inspected = succeed_json(lathe().arg("inspect").arg(&out).args(["--json", "--verify-hashes"]));
    let ended = run(lathe().arg("inspect").arg(&out).arg("--verify-hashes"));
    assert!(ended.code == Some(0) && ended.stderr.contains("tensors are what was written"), "{}", ended.stderr);
    let lock = files::read_json(&out.join("lathe.lock"));
    let mut digests = Vec::new();
    let mut total = 0;
    for weight in inspected["weights"].as_array().unwrap() {
        let mut bytes = 0;
        for tensor in weight["tensors"].as_array().unwrap() {
            let number = |key: &str| tensor[key].as_u64().unwrap();
            let (offset, length) = (number("offset") as usize, number("bytes") as usize);
            let file = files::read(&out.join(tensor["file"].as_str().unwrap()));
            let packed = safetensors::SafeTensors::deserialize(&file).unwrap();
            let view = packed.tensor(tensor["name"].as_str().unwrap()).unwrap();
            assert_eq!(view.data(), &file[offset..offset + length], "{tensor}");
            assert_eq!(format!("{:?}", view.dtype()), tensor["dtype"].as_str().unwrap());
            assert_eq!(json!(view.shape()), tensor["shape"]);
            digests.push(json!({"name": tensor["name"], "blake3": tensor["blake3"]}));
            bytes += length;
        }
        assert_eq!(weight["bytes"], bytes, "{weight}");
        total += bytes;
    }
    assert_eq!(json!(digests), lock["outputs"]);
    assert_eq!(inspected["weights_bytes"], total);

    let linear = |weight: &&Value| weight["name"] == "model.layers.1.mlp.up_proj.weight";
    let weight = inspected["weights"].as_array().unwrap().iter().find(linear).unwrap();
    assert_eq!(weight["format"], "int4(group: 32, symmetric: false)");
    let planes: Vec<_> = weight["tensors"].as_array().unwrap().iter().map(|tensor| tensor["bytes"].clone()).collect();
    // Codes [192, 64 / 2], a bf16 scale for each of two groups of a row, and a nibble.
    assert_eq!(planes, [192 * 32, 192 * 2 * 2, 192]);

    let scales = &weight["tensors"][1];
    let path = out.join(scales["file"].as_str().unwrap());
    let mut file = files::read(&path);
    file[scales["offset"].as_u64().unwrap() as usize + 5] ^= 1;
    fs::write(&path, file).unwrap();
    let inspect = |options: &[&str]| run(lathe().arg("inspect").arg(&out).args(options));
    for options in [&["--verify-hashes"][..], &["--verify-hashes", "--json"]] {
        let ended = inspect(options);
        assert_eq!(ended.code, Some(1));
        let name = scales["name"].as_str().unwrap();
        assert!(ended.stderr.contains("A0001") && ended.stderr.contains(&format!("tensor `{name}` is not what")));
        assert_eq!(ended.stderr.matches("is not what").count(), 1, "{}", ended.stderr);
    }
    assert_eq!(inspect(&["--json"]).code, Some(0));

    let lock = out.join("lathe.lock");
    let written = files::read_text(&lock);
    let refused = |said: &[&str]| {
        let ended = inspect(&["--json"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(said.iter().all(|part| ended.stderr.contains(part)), "{}", ended.stderr);
    };
    fs::write(&lock, written.replacen("\"model.norm.weight\"", "\"model.norm\"", 2)).unwrap();
    refused(&[
        "lathe.lock has no digest of tensor `model.norm.weight`",
        "lathe.lock has a digest of tensor `model.norm`, which the program does not have",
    ]);
    let mut changed: Value = serde_json::from_str(&written).unwrap();
    let outputs = changed["outputs"].as_array_mut().unwrap();
    outputs.push(outputs[0].clone());
    let name = outputs[0]["name"].as_str().unwrap().to_owned();
    fs::write(&lock, changed.to_string()).unwrap();
    refused(&["A0001", &format!("lathe.lock has several digests of tensor `{name}`")]);
    let version = written.replacen("\"version\": 2", "\"version\": 3", 1);
    fs::write(&lock, version).unwrap();
    refused(&["A0001", "lathe.lock", "expected version 2"]);
    fs::remove_file(&lock).unwrap();
    let ended = inspect(&["--json"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("lathe.lock"), "{}", ended.stderr);
    assert_eq!(inspect(&[]).code, Some(0), "the program alone needs no lock");
}

/// What Ctrl-C does: the flag is set, and nothing of the attempt is left.
#[test]
fn an_interrupted_compilation_leaves_nothing_behind() {
    let (folder, checkpoint, out) = setting();
    let before = files::list(folder.path());
    let opened = open(&checkpoint);
    let prepared = Texts::library("keep").prepared(&opened);
    let attempt = |interrupted: bool| {
        let interrupted = AtomicBool::new(interrupted);
        write(&prepared, &opened, &out, None, PackOptions { memory: None, threads: 2, interrupted: &interrupted })
    };
    assert!(matches!(attempt(true), Err(CompileError::Pack(PackError::Interrupted))));
    assert_eq!(files::list(folder.path()), before);
    assert!(attempt(false).is_ok() && out.join("program.json").is_file());
}
