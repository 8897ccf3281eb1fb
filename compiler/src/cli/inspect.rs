//! `lathe inspect`

use std::io;
use std::path::PathBuf;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use lathe_runtime::files::read_regular;
use lathe_runtime::program::{Layers, MAX_PROGRAM_BYTES, PROGRAM_FILE, Program, StoredTensor};
use serde_json::json;

use super::{Failure, print};

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
    let file = path.display().to_string();
    let invalid = |reason: String| {
        let diagnostic = Diagnostic::error("A0001", format!("{file}: {reason}")).file(file.as_str());
        Failure::Input(Sources::new(), vec![diagnostic])
    };
    let bytes = read_regular(&path, MAX_PROGRAM_BYTES as u64).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if arguments.artifact.is_dir() => invalid("expected a program, found none".into()),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => invalid(error.to_string()),
        _ => Failure::Run(format!("cannot read {file}: {error}")),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    let program = Program::from_json(&text).map_err(|error| invalid(error.to_string()))?;
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
