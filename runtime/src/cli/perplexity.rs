//! `lathe-run perplexity`

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use clap::value_parser;
use lathe_runtime::backend::Session;
use lathe_runtime::exec::{Logits, SessionOptions, check_tokens, log_sum_exp};
use serde_json::json;

use super::failure::Failure;
use super::model::{MachineOptions, Model, rate, shown_rate};
use super::{files, note};

/// Tokens whose logits are kept at once.
const CHUNK: usize = 128;

/// Measure how well a text is predicted
///
/// The text is encoded without special tokens and cut into windows that follow each other without overlap. Each window
/// is read from an empty cache; the perplexity is the exponential of the mean loss of all its tokens but the first,
/// over all windows.
#[derive(Debug, Args)]
pub(crate) struct PerplexityArgs {
    /// Folder of the compiled model
    #[arg(value_name = "OUT")]
    model: PathBuf,

    /// Text to predict, UTF-8, - for stdin
    #[arg(long, value_name = "FILE")]
    text: PathBuf,

    /// Tokens in a window
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(2..))]
    window: u32,

    /// Windows to read, from the start of the text
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..))]
    windows: u32,

    /// Print one JSON object: perplexity, tokens (predicted ones), tok_s
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(
    args: &PerplexityArgs,
    machine: &MachineOptions,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (window, asked) = (args.window as usize, args.windows as usize);
    let text = files::read_text(&args.text)?;
    let model = Model::open(&args.model, machine)?;
    let ids = model.tokenizer("a text")?.encode(&text, false)?;
    let windows: Vec<&[u32]> = ids.chunks_exact(window).take(asked).collect();
    if windows.is_empty() {
        return Err(Failure::Input(format!("the text has {} tokens, a window needs {window}", ids.len())));
    }
    if windows.len() < asked {
        note(&format!("the text has {} tokens: {} windows instead of {asked}", ids.len(), windows.len()));
    }
    check_tokens(&ids[..windows.len() * window], model.artifact.program.vocabulary())?;
    let chunk = CHUNK.min(window);
    let options = SessionOptions { max_logits: chunk, min_positions: window, ..SessionOptions::with_capacity(window) };
    let start = Instant::now();
    let loss = model.with_session(&options, |session| {
        let mut loss = 0.0;
        for ids in &windows {
            loss += window_loss(session, ids, chunk)?;
        }
        Ok(loss)
    })?;
    let tokens = windows.len() * (window - 1);
    let tokens_per_second = rate(tokens, start.elapsed().as_secs_f64());
    let perplexity = (loss / tokens as f64).exp();
    if !perplexity.is_finite() {
        return Err(Failure::Input(format!("the perplexity is {perplexity}: the model's logits are of no use")));
    }
    if args.json {
        let result = json!({"perplexity": perplexity, "tokens": tokens, "tok_s": tokens_per_second});
        writeln!(out, "{result}")?;
    } else {
        let tokens_per_second = shown_rate(tokens_per_second);
        writeln!(out, "perplexity {perplexity:.6} over {tokens} tokens, {tokens_per_second} tok/s")?;
    }
    Ok(())
}

/// Sum of the losses of all tokens of a window but the first.
fn window_loss(session: &mut dyn Session, ids: &[u32], chunk: usize) -> Result<f64, Failure> {
    session.truncate(0);
    let mut loss = 0.0;
    let mut next = ids[1..].iter();
    for read in ids.chunks(chunk) {
        let logits = session.forward(read, Logits::All)?;
        let vocabulary = logits.len() / read.len();
        // The last token of a window predicts nothing.
        for (logits, &token) in logits.chunks_exact(vocabulary).zip(&mut next) {
            loss += log_sum_exp(logits) - f64::from(logits[token as usize]);
        }
    }
    Ok(loss)
}
