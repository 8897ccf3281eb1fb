//! Writes a compiled model whose weights are random, for measurements on devices: what `lathe compile` makes of a spec
//! and a checkpoint, but for the values of the weights.
//!
//! ```text
//! generate-artifact SPEC CHECKPOINT -o OUT [--seed N] [--set NAME=VALUE]
//! ```
//!
//! Of the checkpoint only headers are read, and of tables that may be tied as much as tells them apart: its weight files may
//! be holes, as `sparse_checkpoint.py` makes them.

mod weights;

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use lathe_compiler::compile::{CompileError, Input, prepare};
use lathe_compiler::model::Checkpoint;
use lathe_compiler::passes;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use lathe_runtime::program::{PROGRAM_FILE, Program};

/// Write a compiled model with random weights.
#[derive(Debug, Parser)]
struct Arguments {
    /// Spec: a file, or the name of a shipped one.
    spec: String,
    /// Checkpoint: a folder with config.json and safetensors files, of which no weight is read.
    checkpoint: PathBuf,
    /// Folder to write; it must not exist.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The same seed gives the same weights.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Replace a `let` or a setting of the spec.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    overrides: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let program = program(&arguments)?;
    fs::create_dir(&arguments.output).map_err(|error| format!("{}: {error}", arguments.output.display()))?;
    let bytes = weights::write(&program, arguments.seed, &arguments.output)?;
    fs::write(arguments.output.join(PROGRAM_FILE), program.to_json()?)?;
    writeln!(std::io::stderr(), "{}: {bytes} bytes of random weights", arguments.output.display())?;
    Ok(())
}

/// The program that `lathe compile` writes.
fn program(arguments: &Arguments) -> Result<Program, Box<dyn Error>> {
    let mut sources = Sources::new();
    let spec = spec(&arguments.spec, &mut sources)?;
    let checkpoint = Checkpoint::open(&arguments.checkpoint).map_err(|diagnostics| listed(&diagnostics))?;
    let input = Input {
        spec: &spec,
        overrides: &arguments.overrides,
        files: &NoFiles,
        model: None,
        checkpoint: &checkpoint,
        strict: false,
        calibration: None,
    };
    match prepare(input, &mut sources, &passes::Options::default()) {
        Ok(prepared) => Ok(prepared.lowered.program),
        Err(CompileError::Diagnostics(diagnostics)) => Err(listed(&diagnostics).into()),
        Err(error) => Err(error.into()),
    }
}

fn spec(name: &str, sources: &mut Sources) -> Result<Entry, Box<dyn Error>> {
    let (place, text) = match lathe_specs::spec(name) {
        Some(entry) => (Place::Library(entry.path.to_owned()), entry.text.to_owned()),
        None => {
            let path = Path::new(name);
            (Place::File(path.into()), fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?)
        }
    };
    Ok(Entry { source: sources.add(name, text), place, name: None })
}

fn listed(diagnostics: &[Diagnostic]) -> String {
    let line = |diagnostic: &Diagnostic| format!("\n{}: {}", diagnostic.code, diagnostic.message);
    diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).map(line).collect()
}
