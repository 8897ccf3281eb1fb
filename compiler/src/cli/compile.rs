//! `lathe compile`

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use clap::{ValueEnum, value_parser};
use lathe_grammar::span::Sources;
use lathe_runtime::artifact::TOKENIZER_FILE;
use lathe_runtime::backend::{self, DeviceChoice};
use lathe_runtime::program::Layers;
use lathe_runtime::tokenizer::Tokenizer;

use super::render::Messages;
use super::report::{parse_page, refuse_inside, write_page};
use super::subject::{Subject, open_checkpoint};
use super::texts::{load_entry, read_text};
use super::{Failure, bytes, print};
use crate::calibrate::{self, Calibration};
use crate::compile::{Input, Prepared, rewrite, write};
use crate::model::Checkpoint;
use crate::pack::{Demand, PackOptions, check_memory};
use crate::passes;
use crate::proof::{self, Proof, ProofError, is_called_for, prove};
use crate::verify::TEXT;

/// Check a spec against a checkpoint, pack its weights and write a program.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Spec: a file, FILE#NAME, or the name of a shipped one (`lathe list specs`).
    spec: String,
    /// Checkpoint: a folder with config.json and safetensors files.
    checkpoint: PathBuf,
    /// Write the compiled model to this folder; an older one in its place is replaced.
    #[arg(short, long, value_name = "OUT", required_unless_present = "dump")]
    output: Option<PathBuf>,
    /// Write what became of the model to this file as a page, as `lathe report` does; it ends in .html.
    #[arg(long, value_name = "PAGE", value_parser = parse_page, requires = "output")]
    report: Option<PathBuf>,
    #[command(flatten)]
    subject: Subject,
    /// Bound the memory of the whole process, as in 512M or 4G (powers of 1024) [default: unbounded, 4 MiB per thread].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Pack with this many threads, at most 1024 [default: one for each processor].
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Measure the scales that the spec asks for (`smooth`) on this text, UTF-8, - for stdin.
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// With --calibrate: read at most this many tokens, in windows of 256.
    #[arg(long, value_name = "N", default_value_t = calibrate::TOKENS, requires = "calibrate", value_parser = value_parser!(u32).range(1..))]
    calibrate_tokens: u32,
    /// Write the model without a proof that it computes what its checkpoint computes; report.json says so.
    #[arg(long, requires = "output")]
    no_prove: bool,
    /// Spoil one sign of this weight, for tests that must notice.
    #[arg(long, value_name = "WEIGHT", requires = "output", conflicts_with = "no_prove", hide = true)]
    flip_sign: Option<String>,
    /// Print a stage: plan, ir, program, ir-after=PASS.
    #[arg(long, value_name = "STAGE", value_parser = parse_dump)]
    dump: Option<Dump>,
    /// With --dump ir or --dump program: show layers that are the same but for their index once.
    #[arg(long, requires = "dump")]
    fold_layers: bool,
    /// Apply only this many edits of the passes, to find the one that is wrong; needs --dump.
    #[arg(long, value_name = "EDITS", requires = "dump", conflicts_with = "output")]
    stop_after: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Dump {
    Plan,
    Ir,
    IrAfter(String),
    Program,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stage {
    Plan,
    Ir,
    Program,
}

fn parse_dump(text: &str) -> Result<Dump, String> {
    if let Some(pass) = text.strip_prefix("ir-after=") {
        let names: Vec<&str> = passes::PIPELINE.iter().map(|pass| pass.name).collect();
        if names.contains(&pass) {
            return Ok(Dump::IrAfter(pass.to_string()));
        }
        return Err(format!("expected a pass: {}", names.join(", ")));
    }
    match Stage::from_str(text, false) {
        Ok(Stage::Plan) => Ok(Dump::Plan),
        Ok(Stage::Ir) => Ok(Dump::Ir),
        Ok(Stage::Program) => Ok(Dump::Program),
        Err(_) => Err("expected plan, ir, program or ir-after=PASS".into()),
    }
}

pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        other => return Err(format!("expected K, M, G or T, found `{other}`")),
    };
    let count: u64 = digits.parse().map_err(|_| format!("expected a number of bytes as in 4G, found `{text}`"))?;
    count.checked_mul(factor).ok_or_else(|| "expected fewer than 2^64 bytes".into())
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let started = Instant::now();
    if arguments.fold_layers && !matches!(arguments.dump, Some(Dump::Ir | Dump::Program)) {
        return Err(Failure::Run("--fold-layers needs --dump ir or --dump program".into()));
    }
    if arguments.calibrate.is_some() && arguments.memory.is_some() {
        let message = "--calibrate holds the model, the text and what becomes of them: expected no --memory with it";
        return Err(Failure::Run(message.into()));
    }
    if let Some(output) = &arguments.output {
        refuse_inside(output, arguments.report.as_deref())?;
    }
    let mut sources = Sources::new();
    let spec = load_entry(&arguments.spec, &mut sources)?;
    let model = arguments.subject.definition(&mut sources)?;
    let checkpoint = open_checkpoint(&arguments.checkpoint, &mut sources)?;
    let threads = arguments.threads.map_or_else(available, usize::from);
    let packing = PackOptions { memory: arguments.memory, threads, interrupted: &INTERRUPTED };
    let options = passes::Options {
        stop_after: arguments.stop_after,
        dump_after: match &arguments.dump {
            Some(Dump::IrAfter(pass)) => Some(pass.clone()),
            _ => None,
        },
    };
    let tokens = match &arguments.calibrate {
        Some(path) => calibration_tokens(path, arguments.calibrate_tokens, &checkpoint, messages)?,
        None => Vec::new(),
    };
    let backend = arguments.calibrate.as_ref().map(|_| backend::open(DeviceChoice::Cpu, threads, None));
    let backend = backend.transpose().map_err(|error| Failure::Run(error.to_string()))?;
    let input = Input {
        calibration: backend.as_deref().map(|backend| Calibration { tokens: &tokens, backend }),
        ..arguments.subject.input(&spec, model.as_ref(), &checkpoint)
    };
    let rewritten = match rewrite(input, &mut sources, &options) {
        Ok(rewritten) => rewritten,
        Err(error) => return Err(Failure::of(error, sources)),
    };
    messages.diagnostics(&sources, &rewritten.warnings);
    if arguments.calibrate.is_some() && rewritten.calibration_blake3.is_none() {
        messages.failure(
            "--calibrate: the spec asks for no scale to be measured. Leave it out, or ask for scales: \
             `rotate { input of down_proj by smooth }`",
        );
        return Err(Failure::Reported);
    }
    if arguments.output.is_some() {
        let demand = Demand::of_plan(&rewritten.plan, &rewritten.model, &checkpoint);
        check_memory(demand, packing).map_err(|error| Failure::Run(error.to_string()))?;
    }
    match &arguments.dump {
        None | Some(Dump::Program) => {}
        Some(Dump::Plan) => print(&rewritten.plan.listing(&rewritten.model))?,
        Some(Dump::Ir) if arguments.fold_layers => {
            print(&rewritten.graph.listing(&|tensor| checkpoint.tensor(tensor).name.clone()))?;
        }
        Some(Dump::Ir) => print(&rewritten.graph.to_string())?,
        Some(Dump::IrAfter(_)) => print(rewritten.log.dump.as_deref().unwrap_or_default())?,
    }
    if arguments.output.is_none() && arguments.dump != Some(Dump::Program) {
        return Ok(());
    }
    let prepared = match rewritten.lower() {
        Ok(prepared) => prepared,
        Err(error) => return Err(Failure::of(error, sources)),
    };
    if arguments.dump == Some(Dump::Program) {
        let layers = if arguments.fold_layers { Layers::Folded } else { Layers::All };
        print(&prepared.lowered.program.listing(layers))?;
    }
    let Some(output) = &arguments.output else { return Ok(()) };
    if let Some(weight) = &arguments.flip_sign
        && !prepared.lowered.recipes.iter().any(|recipe| recipe.name == *weight)
    {
        return Err(Failure::Run(format!("--flip-sign: the compiled model has no weight `{weight}`")));
    }
    let proof = match proof(arguments, &prepared, &checkpoint, threads, messages) {
        Ok(proof) => proof,
        Err(error) => return Err(Failure::of(error.into(), sources)),
    };
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
        .map_err(|error| Failure::Run(format!("cannot listen for Ctrl-C: {error}")))?;
    let outcome = match write(&prepared, &checkpoint, output, proof, packing) {
        Ok(outcome) => outcome,
        Err(error) => return Err(Failure::of(error, sources)),
    };
    messages.diagnostics(&sources, &outcome.warnings);
    let seconds = started.elapsed().as_secs_f64();
    let (read, written) = (bytes(outcome.bytes_read), bytes(outcome.bytes_written));
    messages.status(&format!(
        "compiled {} with spec {} to {}: {read} of weights read, {written} written, {seconds:.2} s",
        arguments.checkpoint.display(),
        prepared.plan.spec,
        output.display()
    ));
    arguments.report.as_ref().map_or(Ok(()), |page| write_page(output, page))
}

/// What the report says of the proof: none is called for where nothing but formats changes.
fn proof(
    arguments: &Arguments,
    prepared: &Prepared,
    checkpoint: &Checkpoint,
    threads: usize,
    messages: Messages,
) -> Result<Option<Proof>, ProofError> {
    let flip = arguments.flip_sign.as_deref();
    if flip.is_none() && !is_called_for(&prepared.lowered) {
        return Ok(None);
    }
    if arguments.no_prove {
        messages.status("not proved, as --no-prove asks: the model may compute something else than its checkpoint");
        return Ok(Some(Proof::Skipped));
    }
    let text = |left| built_in_tokens(checkpoint, left, messages);
    let proved = prove(prepared, checkpoint, proof::Options { text: &text, threads, memory: arguments.memory, flip })?;
    messages.status(&format!("proved: {}", proved.summary()));
    Ok(Some(Proof::Proved(proved)))
}

/// What a tokenizer takes, in bytes for each byte of its file. Measured with a vocabulary of 100,000 tokens: 13; rounded up.
const TOKENIZER_FACTOR: u64 = 16;

/// Tokens of the built-in text; none where the checkpoint has no tokenizer that can be used, which no proof depends on, or it
/// takes more memory than is left.
fn built_in_tokens(checkpoint: &Checkpoint, left: Option<u64>, messages: Messages) -> Vec<u32> {
    let path = checkpoint.folder.join(TOKENIZER_FILE);
    let Ok(file) = fs::metadata(&path) else { return Vec::new() };
    let taken = file.len().saturating_mul(TOKENIZER_FACTOR);
    if left.is_some_and(|left| left < taken) {
        messages.status(&format!(
            "the proof reads random tokens only: the tokenizer takes {}, more than --memory leaves",
            bytes(taken)
        ));
        return Vec::new();
    }
    let tokens = Tokenizer::open(&path).and_then(|tokenizer| tokenizer.encode(TEXT, false));
    tokens.unwrap_or_else(|error| {
        messages.status(&format!("the proof reads random tokens only: {error}"));
        Vec::new()
    })
}

/// The first tokens of a text, at least one.
fn calibration_tokens(
    path: &Path,
    most: u32,
    checkpoint: &Checkpoint,
    messages: Messages,
) -> Result<Vec<u32>, Failure> {
    let (name, text) = read_text(path, messages)?;
    let tokenizer = checkpoint.folder.join(TOKENIZER_FILE);
    if !tokenizer.is_file() {
        let message = format!("{} has no {TOKENIZER_FILE}, which --calibrate needs", checkpoint.folder.display());
        messages.failure(&message);
        return Err(Failure::Reported);
    }
    let encoded = Tokenizer::open(&tokenizer).and_then(|tokenizer| tokenizer.encode(&text, false));
    let mut tokens = encoded.map_err(|error| {
        messages.failure(&error.to_string());
        Failure::Reported
    })?;
    if tokens.is_empty() {
        messages.failure(&format!("{name}: expected at least one token, found none"));
        return Err(Failure::Reported);
    }
    tokens.truncate(most as usize);
    Ok(tokens)
}

/// Set by Ctrl-C and its like once weights are being packed; what was written so far is then removed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(super) fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_suffixes() {
        assert_eq!(parse_bytes("4G"), Ok(4 << 30));
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("7"), Ok(7));
        assert!(parse_bytes("G").is_err() && parse_bytes("1.5G").is_err() && parse_bytes("99999999999T").is_err());
    }
}
