//! `lathe inspect`

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use lathe_runtime::files::read_regular;
use lathe_runtime::program::{Layers, MAX_PROGRAM_BYTES, PROGRAM_FILE, Program, StoredTensor};
use lathe_runtime::weights::{StoredPlace, Weights};
use serde::Serialize;
use serde_json::json;

use super::render::Messages;
use super::report::{DAMAGED, read};
use super::{Failure, print};
use crate::artifact::{LOCK_FILE, Lock};
use crate::pack::Digest;

/// Show what a compiled model holds.
///
/// Text is the program, every weight with its format and bytes. JSON is the weights, each with its stored tensors: where
/// they lie, and their digests from lathe.lock.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Compiled model: a folder that `lathe compile` wrote.
    artifact: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Read every weight, and fail with exit code 1 when the digest of a stored tensor or of the program is another than in
    /// lathe.lock.
    #[arg(long)]
    verify_hashes: bool,
    /// Show every layer, also those that are the same but for their index.
    #[arg(long, conflicts_with = "json")]
    all_layers: bool,
}

/// A tensor of the weight files, in JSON.
#[derive(Serialize)]
struct InspectedTensor<'a> {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: usize,
    /// Name of the weight file.
    file: String,
    /// First byte, counted from the start of the file.
    offset: u64,
    /// BLAKE3 of its bytes, in hexadecimal, as lathe.lock has it.
    blake3: &'a str,
}

/// A tensor of the program's weights and where it lies.
struct Found<'a> {
    tensor: StoredTensor,
    place: StoredPlace<'a>,
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let (program, text) = read_program(&arguments.artifact)?;
    if !arguments.json {
        let layers = if arguments.all_layers { Layers::All } else { Layers::Folded };
        print(&program.listing(layers))?;
        if !arguments.verify_hashes {
            return Ok(());
        }
    }
    let lock: Lock = read(&arguments.artifact.join(LOCK_FILE), DAMAGED, "the lock of a compiled model")?;
    let digests: BTreeMap<&str, &str> =
        lock.outputs.iter().map(|digest| (digest.name.as_str(), digest.blake3.as_str())).collect();
    let weights = Weights::open(&arguments.artifact, &program).map_err(|error| {
        let message = error.to_string();
        if error.is_input_fault() { damaged(vec![message]) } else { Failure::Run(message) }
    })?;
    let found: Vec<Vec<Found>> = program
        .weights
        .iter()
        .zip(weights.places())
        .map(|(weight, places)| {
            let stored = weight.stored_tensors().expect("invariant: weights that were opened have a layout");
            stored.into_iter().zip(places).map(|(tensor, place)| Found { tensor, place }).collect()
        })
        .collect();
    let mismatches = mismatches(&lock, &found, &digests);
    if !mismatches.is_empty() {
        return Err(damaged(mismatches));
    }
    if arguments.json {
        print(&format!("{:#}\n", as_json(&program, &found, &digests)))?;
    }
    if !arguments.verify_hashes {
        return Ok(());
    }
    let differing = differences(&lock, &text, &found, &digests);
    if !differing.is_empty() {
        return Err(damaged(differing));
    }
    messages.status(&format!("{PROGRAM_FILE} and {} tensors are what was written", digests.len()));
    Ok(())
}

/// The program of a compiled model, and its text.
fn read_program(artifact: &Path) -> Result<(Program, String), Failure> {
    let path = artifact.join(PROGRAM_FILE);
    let file = path.display().to_string();
    let invalid = |reason: String| damaged(vec![format!("{file}: {reason}")]);
    let bytes = read_regular(&path, MAX_PROGRAM_BYTES as u64).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if artifact.is_dir() => invalid("expected a program, found none".into()),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => invalid(error.to_string()),
        _ => Failure::Run(format!("cannot read {file}: {error}")),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    let program = Program::from_json(&text).map_err(|error| invalid(error.to_string()))?;
    Ok((program, text))
}

fn damaged(messages: Vec<String>) -> Failure {
    let diagnostics = messages.into_iter().map(|message| Diagnostic::error(DAMAGED, message)).collect();
    Failure::Input(Sources::new(), diagnostics)
}

fn as_json(program: &Program, found: &[Vec<Found>], digests: &BTreeMap<&str, &str>) -> serde_json::Value {
    let inspected = |Found { tensor, place }: &Found| {
        let file = place.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        json!(InspectedTensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype.name(),
            shape: tensor.shape.clone(),
            bytes: place.bytes.len(),
            file,
            offset: place.offset,
            blake3: digests[tensor.name.as_str()],
        })
    };
    let weights: Vec<_> = program
        .weights
        .iter()
        .zip(found)
        .map(|(weight, tensors)| {
            let bytes: usize = tensors.iter().map(|found| found.place.bytes.len()).sum();
            let tensors: Vec<_> = tensors.iter().map(inspected).collect();
            json!({
                "name": weight.name,
                "format": weight.format,
                "shape": weight.shape,
                "bytes": bytes,
                "tensors": tensors,
            })
        })
        .collect();
    let total: usize = found.iter().flatten().map(|found| found.place.bytes.len()).sum();
    json!({
        "version": program.version,
        "model": program.model,
        "compute": program.compute,
        "max_positions": program.max_positions,
        "weights_bytes": total,
        "weights": weights,
        "caches": program.caches.len(),
        "steps": program.steps.len(),
    })
}

/// Tensors of which lathe.lock does not have just one digest.
fn mismatches(lock: &Lock, found: &[Vec<Found>], digests: &BTreeMap<&str, &str>) -> Vec<String> {
    let names: BTreeSet<&str> = found.iter().flatten().map(|found| found.tensor.name.as_str()).collect();
    let missing = names.iter().filter(|name| !digests.contains_key(**name));
    let missing = missing.map(|name| format!("{LOCK_FILE} has no digest of tensor `{name}`"));
    let mut seen = BTreeSet::new();
    let others = lock.outputs.iter().filter_map(|Digest { name, .. }| {
        if !seen.insert(name) {
            Some(format!("{LOCK_FILE} has several digests of tensor `{name}`"))
        } else if !names.contains(name.as_str()) {
            Some(format!("{LOCK_FILE} has a digest of tensor `{name}`, which the program does not have"))
        } else {
            None
        }
    });
    missing.chain(others).collect()
}

/// What is not what lathe.lock says was written.
fn differences(lock: &Lock, program: &str, found: &[Vec<Found>], digests: &BTreeMap<&str, &str>) -> Vec<String> {
    let differs = |what: String, bytes: &[u8], expected: &str| {
        let found = blake3::hash(bytes).to_hex();
        (found.as_str() != expected).then(|| format!("{what} is not what was written: blake3 {found}, not {expected}"))
    };
    let program = differs(PROGRAM_FILE.to_owned(), program.as_bytes(), &lock.program_blake3);
    let tensors = found.iter().flatten().filter_map(|Found { tensor, place }| {
        let what = format!("{}: tensor `{}`", place.file.display(), tensor.name);
        differs(what, place.bytes, digests[tensor.name.as_str()])
    });
    program.into_iter().chain(tensors).collect()
}
