//! `lathe-run generate`

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use lathe_runtime::sample::Sampler;
use lathe_runtime::tokenizer::Tokenizer;
use serde_json::json;

use super::decode::{self, End, Limits, SamplingArgs};
use super::failure::Failure;
use super::model::{MachineOptions, Model, rate};
use super::{files, note};

/// Continue a text
///
/// Writes the continuation to stdout as it is made. It ends at the end-of-text token of the model, which is part of
/// the ids but not of the text.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Folder of the compiled model
    #[arg(value_name = "OUT")]
    model: PathBuf,

    #[command(flatten)]
    prompt: PromptArgs,

    /// Make at most this many tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,

    #[command(flatten)]
    sampling: SamplingArgs,

    /// Go on after the end-of-text token
    #[arg(long)]
    ignore_eos: bool,

    /// Print one JSON object at the end: ids and text (both with the prompt), prefill_tok_s, decode_tok_s
    #[arg(long)]
    json: bool,
}

/// What to continue.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct PromptArgs {
    /// Continue this text
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,

    /// Continue the text of this file, - for stdin
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,

    /// Continue these tokens, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    ids: Option<Vec<u32>>,
}

enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

struct GenerateOptions {
    prompt: Prompt,
    max_new_tokens: usize,
    sampler: Sampler,
    ignore_eos: bool,
    json: bool,
}

fn resolve(args: GenerateArgs) -> Result<GenerateOptions, Failure> {
    let GenerateArgs { prompt, max_new_tokens, sampling, ignore_eos, json, model: _ } = args;
    let sampler = sampling.sampler()?;
    let prompt = match (prompt.prompt, prompt.prompt_file, prompt.ids) {
        (Some(text), _, _) => Prompt::Text(text),
        (_, Some(path), _) => Prompt::Text(files::read_text(&path)?),
        (_, _, ids) => Prompt::Ids(ids.unwrap_or_default()),
    };
    Ok(GenerateOptions { prompt, max_new_tokens, sampler, ignore_eos, json })
}

/// Runs the verb.
pub(crate) fn run(args: GenerateArgs, machine: &MachineOptions, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let folder = args.model.clone();
    let options = resolve(args)?;
    let model = Model::open(&folder, machine)?;
    let (tokenizer, prompt) = match options.prompt {
        Prompt::Text(text) => {
            let tokenizer = model.tokenizer("a prompt as text")?;
            let ids = tokenizer.encode(&text, true)?;
            (Some(tokenizer), ids)
        }
        // Tokens alone need no tokenizer as long as nobody asks for text; with --json, text is null without one.
        Prompt::Ids(ids) if options.json && model.artifact.tokenizer_path().is_none() => (None, ids),
        Prompt::Ids(ids) => (Some(model.tokenizer("text (see --json)")?), ids),
    };
    let mut stream = match &tokenizer {
        Some(tokenizer) if !options.json => Some(tokenizer.stream(&prompt)?),
        _ => None,
    };
    let end_of_text: &[u32] = if options.ignore_eos { &[] } else { &model.artifact.generation.end_of_text };
    let (mut ids, mut sampler, max_new_tokens) = (prompt, options.sampler, options.max_new_tokens);
    // The last token that is made is never read.
    let wanted = ids.len().saturating_add(max_new_tokens.max(1) - 1);
    let most = model.most_positions()?;
    let capacity = wanted.min(most.at_most(usize::MAX)).max(ids.len()).max(1);
    let limits = Limits { max_new_tokens, capacity, end_of_text };
    let made = model.with_session(&model.backend.options(capacity), |session| {
        decode::extend(session, &mut ids, &mut sampler, limits, |token| {
            if let Some(stream) = &mut stream {
                out.write_all(stream.push(token)?.as_bytes())?;
                out.flush()?;
            }
            Ok(ControlFlow::Continue(()))
        })
    })?;
    if made.end == End::Full {
        note(&format!("stopped after {} tokens: {}", made.tokens, most.reason(capacity)));
    }
    if let Some(stream) = stream {
        out.write_all(stream.finish()?.as_bytes())?;
    }

    if options.json {
        let text = tokenizer.as_ref().map(|tokenizer: &Tokenizer| tokenizer.decode(&ids)).transpose()?;
        let result = json!({
            "ids": ids,
            "text": text,
            "prefill_tok_s": rate(ids.len() - made.tokens, made.prefill_seconds),
            // The first new token comes out of the prefill.
            "decode_tok_s": rate(made.tokens.saturating_sub(1), made.decode_seconds),
        });
        writeln!(out, "{result}")?;
    } else {
        writeln!(out)?;
    }
    Ok(())
}
