//! `lathe verify`

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::value_parser;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use lathe_runtime::artifact::{Artifact, ArtifactError, TOKENIZER_FILE};
use lathe_runtime::backend::{self, DeviceChoice};
use lathe_runtime::exec::ExecError;
use lathe_runtime::tokenizer::Tokenizer;

use super::compile::available;
use super::layout::terminal_columns;
use super::render::Messages;
use super::report::{DAMAGED, read};
use super::subject::open_checkpoint;
use super::table::{Column, table};
use super::texts::{Disk, load_definition, load_keep, read_text};
use super::{Failure, print};
use crate::artifact::{FoldsError, LOCK_FILE, Lock};
use crate::compile::{Input, prepare};
use crate::pack::evaluate::EvaluateError;
use crate::passes;
use crate::verify::{Agreement, Comparison, Module, State, TEXT, Verification, VerifyError, WINDOW, verify};

/// Modules that are shown, unless all are asked for.
const SHOWN: usize = 20;

/// Measure how much a compiled model differs from its checkpoint, and which modules do the harm.
///
/// Both models read the same text, step by step. Weights and outputs are compared as signal to noise in decibels: 20 dB is an
/// error of a tenth, 40 dB of a hundredth. `alone` is the output of a module on what the original gives it; `in model` is its
/// output behind all modules before it. Modules are sorted by the SQNR of their output alone, the lowest first; heads and
/// embeddings are always shown. With --each they are sorted by the harm itself: how far the predictions move when this module
/// alone is compiled. The checkpoint must be the one that the model was compiled from.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Compiled model: a folder that `lathe compile` wrote.
    #[arg(value_name = "OUT")]
    artifact: PathBuf,
    /// Checkpoint that it was compiled from.
    checkpoint: PathBuf,
    /// Read this text, UTF-8, - for stdin [default: a built-in page of prose, numbers and code].
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Read these tokens in place of a text, separated by commas.
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with = "text")]
    ids: Option<Vec<u32>>,
    /// Read at most this many tokens, in whole windows of 256.
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = value_parser!(u32).range(2..))]
    tokens: u32,
    /// Measure the harm of each module over this many tokens: the KL divergence when it alone is compiled. Takes two runs over
    /// them for each module that differs.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "64", value_parser = value_parser!(u32).range(1..))]
    each: Option<u32>,
    /// Use this model definition in place of the shipped ones, as the model was compiled with; FILE#NAME is one of several in
    /// a file.
    #[arg(long, value_name = "FILE")]
    model_def: Option<PathBuf>,
    /// Fail with exit code 1 when the mean KL divergence is above this many nats a token.
    #[arg(long, value_name = "NATS", value_parser = parse_bound)]
    max_kl: Option<f64>,
    /// Fail with exit code 1 when the output of a module alone, or the weight of one without an output, is below this many
    /// decibels.
    #[arg(long, value_name = "DB", value_parser = parse_bound, allow_negative_numbers = true)]
    min_sqnr: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Show every module that differs, not only the first 20, heads and embeddings, and every step that only one model has.
    #[arg(long, conflicts_with = "json")]
    all: bool,
    /// Run on this many threads, at most 1024 [default: one for each processor].
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

fn parse_bound(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("expected a number, found `{text}`"))
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let mut sources = Sources::new();
    let definition = arguments.model_def.as_deref().map(|path| load_definition(path, &mut sources)).transpose()?;
    let checkpoint = open_checkpoint(&arguments.checkpoint, &mut sources)?;
    let artifact = Artifact::open(&arguments.artifact).map_err(|error| unopened(&error))?;
    let lock: Lock = read(&arguments.artifact.join(LOCK_FILE), DAMAGED, "the lock of a compiled model")?;
    let (source, tokens) = tokens(arguments, &artifact, messages)?;
    let threads = arguments.threads.map_or_else(available, usize::from);
    let backend = backend::open(DeviceChoice::Cpu, threads, None).map_err(|error| Failure::Run(error.to_string()))?;

    let spec = load_keep(&mut sources);
    let input = Input {
        spec: &spec,
        overrides: &[],
        files: &Disk,
        model: definition.as_ref(),
        checkpoint: &checkpoint,
        strict: false,
        calibration: None,
    };
    let original = match prepare(input, &mut sources, &passes::Options::default()) {
        Ok(original) => original,
        Err(error) => return Err(Failure::of(error, sources)),
    };
    messages.diagnostics(&sources, &original.warnings);

    let longest = artifact.program.max_positions.map_or(usize::MAX, |positions| positions as usize);
    let window = WINDOW.min(longest).min(tokens.len());
    let comparison = Comparison {
        checkpoint: &checkpoint,
        original: &original,
        artifact: &artifact,
        lock: &lock,
        backend: &*backend,
        tokens: &tokens,
        window,
        each: arguments.each.map_or(0, |tokens| tokens as usize),
        source: &source,
    };
    let found = verify(&comparison).map_err(|error| failed(error, arguments, messages))?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&found);
        print(&(text.expect("invariant: a comparison holds strings and numbers only") + "\n"))?;
    } else {
        let shown = if arguments.all { usize::MAX } else { SHOWN };
        print(&listing(&found, shown, terminal_columns()))?;
    }
    if let Some(note) = arguments.min_sqnr.and_then(|bound| unjudged(&found, bound)) {
        messages.status(&note);
    }
    let beyond = beyond_bounds(&found, arguments);
    if beyond.is_empty() {
        return Ok(());
    }
    for message in beyond {
        messages.failure(&message);
    }
    Err(Failure::Reported)
}

fn unopened(error: &ArtifactError) -> Failure {
    if !error.is_input_fault() {
        return Failure::Run(error.to_string());
    }
    let diagnostic = Diagnostic::error(DAMAGED, error.to_string());
    Failure::Input(Sources::new(), vec![diagnostic])
}

/// The tokens to read, and where they come from.
fn tokens(arguments: &Arguments, artifact: &Artifact, messages: Messages) -> Result<(String, Vec<u32>), Failure> {
    let most = arguments.tokens as usize;
    if let Some(ids) = &arguments.ids {
        return Ok(("--ids".to_owned(), ids[..ids.len().min(most)].to_vec()));
    }
    let Some(path) = artifact.tokenizer_path() else {
        let folder = artifact.folder.display();
        messages.failure(&format!("{folder} has no {TOKENIZER_FILE}: give tokens with --ids"));
        return Err(Failure::Reported);
    };
    let (source, text) = match &arguments.text {
        Some(path) => read_text(path, messages)?,
        None => ("built-in".to_owned(), TEXT.to_owned()),
    };
    let encoded = Tokenizer::open(&path).and_then(|tokenizer| tokenizer.encode(&text, false));
    let mut tokens = encoded.map_err(|error| {
        messages.failure(&error.to_string());
        Failure::Reported
    })?;
    tokens.truncate(most);
    Ok((source, tokens))
}

/// Sorts an error by whose fault it is.
fn failed(error: VerifyError, arguments: &Arguments, messages: Messages) -> Failure {
    let (out, checkpoint) = (arguments.artifact.display(), arguments.checkpoint.display());
    match error {
        // A matrix that went into weights and rotates no activation is not part of the compiled model.
        VerifyError::Folds(error @ FoldsError::NoMatrix { .. }) => {
            messages.failure(&format!("{out} cannot be verified: {error}"));
            Failure::Reported
        }
        VerifyError::OtherCheckpoint { .. }
        | VerifyError::UnknownWeight { .. }
        | VerifyError::OtherShape { .. }
        | VerifyError::OtherLogits
        | VerifyError::OtherLock { .. }
        | VerifyError::Folds(_)
        | VerifyError::Evaluate(EvaluateError::NotFinite { .. } | EvaluateError::Invalid { .. }) => {
            let message = format!("{out} was not compiled from {checkpoint}: {error}");
            Failure::Input(Sources::new(), vec![Diagnostic::error("A0003", message).file(out.to_string())])
        }
        VerifyError::Weights(error) => unopened(&error.into()),
        VerifyError::TooShort { .. } => {
            messages.failure(&error.to_string());
            Failure::Reported
        }
        VerifyError::Exec(ExecError::Memory { .. })
        | VerifyError::Map { .. }
        | VerifyError::Memory { .. }
        | VerifyError::Evaluate(_)
        | VerifyError::Read(_) => Failure::Run(error.to_string()),
        VerifyError::Exec(error) => {
            messages.failure(&error.to_string());
            Failure::Reported
        }
    }
}

/// What speaks for a module: its output alone; where it has none, its weight, or that of the table that it reads.
fn measured(module: &Module, found: &Verification) -> Option<Agreement> {
    let is_table = |other: &&Module| module.shares.as_ref() == Some(&other.path);
    let table = || found.modules.iter().find(is_table).and_then(|table| table.weight);
    module.output.map(|output| output.alone).or(module.weight).or_else(table)
}

fn is_below(agreement: Option<Agreement>, bound: f64) -> bool {
    match agreement {
        Some(Agreement { state: State::Differs, sqnr_db, .. }) => sqnr_db.is_none_or(|found| found < bound),
        Some(Agreement { state: State::NotFinite, .. }) => true,
        Some(Agreement { state: State::Equal, .. }) | None => false,
    }
}

/// How many modules `--min-sqnr` lets pass without having seen an output of theirs.
fn unjudged(found: &Verification, bound: f64) -> Option<String> {
    let has_passed =
        |module: &&Module| module.output.is_none() && !module.is_equal() && !is_below(measured(module, found), bound);
    match found.modules.iter().filter(has_passed).count() {
        0 => None,
        1 => Some(format!("1 module has no output to judge, its weight is not below {bound} dB")),
        count => Some(format!("{count} modules have no output to judge, their weights are not below {bound} dB")),
    }
}

/// What is worse than was asked for.
fn beyond_bounds(found: &Verification, arguments: &Arguments) -> Vec<String> {
    let mut beyond = Vec::new();
    if let Some(bound) = arguments.max_kl {
        match found.predictions.kl_mean {
            Some(mean) if mean <= bound => {}
            Some(mean) => {
                beyond.push(format!("expected a KL divergence of at most {bound} nats a token, found {mean:.3e}"));
            }
            None => beyond.push(format!("expected a KL divergence of at most {bound} nats a token, found none")),
        }
    }
    if let Some(bound) = arguments.min_sqnr {
        let below = |module: &&Module| is_below(measured(module, found), bound);
        let count = found.modules.iter().filter(below).count();
        if let Some(worst) = found.modules.iter().find(below) {
            let decibels = decibels(measured(worst, found));
            let gives = if worst.output.is_some() { "gives" } else { "gives no output, its weight" };
            let path = &worst.path;
            let modules = if count == 1 { "1 module is".to_owned() } else { format!("{count} modules are") };
            beyond.push(format!(
                "expected outputs of at least {bound} dB, {modules} below: {path} {gives} {decibels} dB"
            ));
        }
    }
    beyond
}

const MODULES: [Column; 9] = [
    Column::left("module", 0),
    Column::left("kind", 4),
    Column::left("format", 0),
    Column::right("KL alone", 0),
    Column::right("weight dB", 1),
    Column::right("alone dB", 0),
    Column::right("in model dB", 2),
    Column::right("off by at most", 3),
    Column::left("note", 0),
];

const GROUPS: [Column; 7] = [
    Column::left("kind", 0),
    Column::left("format", 0),
    Column::right("modules", 1),
    Column::right("equal", 2),
    Column::right("median dB", 0),
    Column::right("worst dB", 0),
    Column::left("worst", 3),
];

/// The comparison for people.
fn listing(found: &Verification, shown: usize, width: Option<usize>) -> String {
    let mut out = summary(found);
    let differ: Vec<&Module> = found.modules.iter().filter(|module| !module.is_equal()).collect();
    let (equal, differing) = (found.modules.len() - differ.len(), differ.len());
    let mut left_out = Vec::new();
    // Writing to a string cannot fail.
    if differing > 0 {
        let is_measured = differ.iter().any(|module| module.kl_alone.is_some());
        let is_end = |module: &Module| ["head", "embedding"].contains(&module.kind.as_str());
        let chosen = differ.iter().enumerate().filter(|(at, module)| *at < shown || is_end(module));
        let rows: Vec<Vec<String>> = chosen.map(|(_, module)| cells(module, found)).collect();
        let (text, narrow) = table(&MODULES, &rows, width);
        let _ = write!(out, "\n{text}");
        left_out = narrow;
        let more = differing - rows.len();
        if more > 0 {
            let what = if is_measured { "do less harm" } else { "lose less by this measure" };
            let _ = writeln!(out, "and {} that {what} (--all)", modules(more));
        }
        if !is_measured {
            let _ = writeln!(
                out,
                "what a loss means for the predictions differs from module to module: --each measures it"
            );
        }
    }
    let _ = match (equal, differing) {
        (_, 0) => writeln!(out, "\nall {} are equal: parameters and outputs are the original's", modules(equal)),
        (0, _) => Ok(()),
        (1, _) => writeln!(out, "1 module is equal: its parameters and its output alone are the original's"),
        _ => writeln!(out, "{} are equal: their parameters and outputs alone are the original's", modules(equal)),
    };
    if differing > 0 {
        let number = |number: Option<f64>| number.map(|number| format!("{number:.1}")).unwrap_or_default();
        let row = |group: &crate::verify::Group| {
            vec![
                group.kind.clone(),
                group.format.clone(),
                group.modules.to_string(),
                group.equal.to_string(),
                number(group.median_db),
                number(group.worst_db),
                group.worst.clone().unwrap_or_default(),
            ]
        };
        let (text, narrow) = table(&GROUPS, &found.groups.iter().map(row).collect::<Vec<_>>(), width);
        let _ = write!(out, "\n{text}");
        left_out.extend(narrow);
    }
    if !found.not_comparable.is_empty() {
        let _ = writeln!(out, "\nnot comparable, as only one of the two has them:");
        for step in found.not_comparable.iter().take(shown) {
            let model = match step.only_in {
                crate::verify::Side::Original => "original",
                crate::verify::Side::Compiled => "compiled model",
            };
            let _ = writeln!(out, "  {} ({}) in the {model}", step.label, step.kernel);
        }
        let more = found.not_comparable.len().saturating_sub(shown);
        if more > 0 {
            let _ = writeln!(out, "  and {more} others (--all)");
        }
    }
    if !left_out.is_empty() {
        let _ = writeln!(out, "left out, as the terminal is narrow: {}", left_out.join(", "));
    }
    out
}

fn modules(count: usize) -> String {
    if count == 1 { "1 module".to_owned() } else { format!("{count} modules") }
}

/// What was read, and how the predictions differ.
fn summary(found: &Verification) -> String {
    let text = match found.text.source.as_str() {
        "built-in" => "the built-in text",
        source => source,
    };
    let (tokens, window) = (found.text.tokens, found.text.window);
    let mut out = format!("model {}: {tokens} tokens of {text}, in windows of {window}\n\n", found.model);
    if let [first, others @ ..] = &found.changed[..] {
        let more = if others.is_empty() { String::new() } else { format!(" and {} others", others.len()) };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "damaged: {first}{more}, not what was compiled; `lathe inspect --verify-hashes` lists them\n"
        );
    }
    let predictions = &found.predictions;
    let number = |number: Option<f64>, decimals: usize| {
        number.map_or("not a number".to_owned(), |number| format!("{number:.decimals$}"))
    };
    // Close models have divergences of many zeros.
    let nats = |nats: Option<f64>| match nats {
        Some(nats) if nats > 0.0 && nats < 1e-3 => format!("{nats:.2e}"),
        _ => number(nats, 4),
    };
    let (mean, most) = (nats(predictions.kl_mean), nats(predictions.kl_max));
    let percent = predictions.same_choice * 100.0;
    let (original, compiled) = (number(predictions.perplexity_original, 4), number(predictions.perplexity_compiled, 4));
    let change =
        predictions.perplexity_ratio.map_or(String::new(), |ratio| format!(" ({:+.2} %)", (ratio - 1.0) * 100.0));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "KL divergence    {mean} nats a token, at most {most}");
    let _ = writeln!(out, "same next token  {percent:.1} %");
    let _ = writeln!(out, "perplexity       {original} → {compiled}{change}");
    let _ = match (predictions.logits.state, predictions.logits.max_error, predictions.logits_range) {
        (State::Equal, ..) => writeln!(out, "logits           equal"),
        (State::Differs, Some(error), Some(range)) => {
            let share = error / range * 100.0;
            let sqnr = decibels(Some(predictions.logits));
            writeln!(out, "logits           {sqnr} dB, off by at most {error:.4}, {share:.2} % of their range")
        }
        _ => writeln!(out, "logits           not finite"),
    };
    out
}

fn cells(module: &Module, found: &Verification) -> Vec<String> {
    let output = module.output;
    let others = module.others.filter(|others| others.state != State::Equal);
    let mut notes = Vec::new();
    if let Some(table) = &module.shares {
        notes.push(format!("reads {table}"));
    }
    if let Some(others) = others {
        notes.push(format!("bias {} dB", decibels(Some(others))));
    }
    match output {
        None if found.not_comparable.is_empty() => notes.push("no token has chosen it".to_owned()),
        None => notes.push("no output was compared".to_owned()),
        Some(output) if output.elsewhere > 0 => {
            notes.push(format!("{} of {} tokens went elsewhere", output.elsewhere, output.tokens));
        }
        Some(_) => {}
    }
    vec![
        module.path.clone(),
        module.kind.clone(),
        module.format.clone(),
        module.kl_alone.map(|divergence| format!("{divergence:.1e}")).unwrap_or_default(),
        decibels(module.weight),
        decibels(output.map(|output| output.alone)),
        decibels(output.and_then(|output| output.in_model)),
        output.and_then(|output| output.alone.max_error).map(|error| format!("{error:.4}")).unwrap_or_default(),
        notes.join(", "),
    ]
}

/// An agreement in a cell.
fn decibels(agreement: Option<Agreement>) -> String {
    match agreement {
        None => String::new(),
        Some(Agreement { state: State::NotFinite, .. }) => "not finite".to_owned(),
        Some(Agreement { state: State::Equal, .. }) => "equal".to_owned(),
        Some(Agreement { state: State::Differs, sqnr_db, .. }) => {
            sqnr_db.map_or("-inf".to_owned(), |sqnr| format!("{sqnr:.1}"))
        }
    }
}
