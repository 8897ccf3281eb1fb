//! `lathe inspect`

use std::fs;
use std::path::PathBuf;

use lathe_runtime::program::{Layers, MAX_PROGRAM_BYTES, Program, StoredTensor};
use serde_json::json;

use super::{Failure, print};
use crate::artifact::PROGRAM_FILE;

/// Show what a compiled model holds.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Compiled model: a folder that `lathe compile` wrote.
    artifact: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Show every layer, also those that are the same but for their index.
    #[arg(long)]
    all_layers: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = arguments.artifact.join(PROGRAM_FILE);
    let failed =
        |reason: String| Failure::Run(format!("{} is no compiled model: {reason}", arguments.artifact.display()));
    let size = fs::metadata(&path).map_err(|error| failed(format!("{}: {error}", path.display())))?.len();
    if size > MAX_PROGRAM_BYTES as u64 {
        return Err(failed(format!("{PROGRAM_FILE}: expected at most {MAX_PROGRAM_BYTES} bytes, found {size}")));
    }
    let text = fs::read_to_string(&path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
    let program = Program::from_json(&text).map_err(|error| failed(format!("{PROGRAM_FILE}: {error}")))?;
    if !arguments.json {
        let layers = if arguments.all_layers { Layers::All } else { Layers::Folded };
        return print(&program.listing(layers));
    }
    let weights: Vec<_> = program
        .weights
        .iter()
        .map(|weight| {
            let planes = weight.stored_tensors().unwrap_or_default();
            let bytes: usize = planes.iter().filter_map(StoredTensor::bytes).sum();
            json!({"name": weight.name, "format": weight.format, "shape": weight.shape, "bytes": bytes})
        })
        .collect();
    let total: u64 = weights.iter().filter_map(|weight| weight["bytes"].as_u64()).sum();
    let value = json!({
        "version": program.version,
        "model": program.model,
        "compute": program.compute,
        "max_positions": program.max_positions,
        "weights_bytes": total,
        "weights": weights,
        "caches": program.caches.len(),
        "steps": program.steps.len(),
    });
    print(&format!("{value:#}\n"))
}
