//! `lathe-run generate`

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lathe_runtime::backend::Session;
use lathe_runtime::exec::{Logits, SessionOptions};
use lathe_runtime::sample::{Sampler, SamplerOptions};
use lathe_runtime::tokenizer::{TextStream, Tokenizer};
use serde_json::json;

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

    /// Divide logits by this; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,

    /// Choose among the K likeliest tokens [default: all]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,

    /// Choose among the likeliest tokens whose probabilities add up to P [default: 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,

    /// Seed the random choice; equal seeds give equal texts
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,

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
    let GenerateArgs { prompt, max_new_tokens, temperature, top_k, top_p, seed, ignore_eos, json, model: _ } = args;
    let sampler = Sampler::new(SamplerOptions { temperature, top_k, top_p, seed })?;
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
    let stream = match &tokenizer {
        Some(tokenizer) if !options.json => Some(tokenizer.stream(&prompt)?),
        _ => None,
    };
    let end_of_text: &[u32] = if options.ignore_eos { &[] } else { &model.artifact.generation.end_of_text };
    // The last token that is made is never read.
    let wanted = prompt.len().saturating_add(options.max_new_tokens.max(1) - 1);
    let capacity = wanted.min(model.max_positions()).max(prompt.len()).max(1);
    let mut generation = Generation {
        prompt_tokens: prompt.len(),
        ids: prompt,
        max_new_tokens: options.max_new_tokens,
        end_of_text,
        sampler: options.sampler,
        stream,
        out: &mut *out,
        prefill_seconds: 0.0,
        decode_seconds: 0.0,
    };
    model.with_session(&SessionOptions::with_capacity(capacity), |session| generation.run(session, capacity))?;
    let Generation { ids, prompt_tokens, prefill_seconds, decode_seconds, .. } = generation;

    if options.json {
        let text = tokenizer.as_ref().map(|tokenizer: &Tokenizer| tokenizer.decode(&ids)).transpose()?;
        // The first new token comes out of the prefill.
        let decoded = (ids.len() - prompt_tokens).saturating_sub(1);
        let result = json!({
            "ids": ids,
            "text": text,
            "prefill_tok_s": rate(prompt_tokens, prefill_seconds),
            "decode_tok_s": rate(decoded, decode_seconds),
        });
        writeln!(out, "{result}")?;
    } else {
        writeln!(out)?;
    }
    Ok(())
}

/// A text in the making.
struct Generation<'a> {
    /// The prompt and what has been made.
    ids: Vec<u32>,
    prompt_tokens: usize,
    max_new_tokens: usize,
    end_of_text: &'a [u32],
    sampler: Sampler,
    /// Where text is shown as it is made.
    stream: Option<TextStream<'a>>,
    out: &'a mut (dyn Write + Send),
    prefill_seconds: f64,
    decode_seconds: f64,
}

impl Generation<'_> {
    fn run(&mut self, session: &mut dyn Session, capacity: usize) -> Result<(), Failure> {
        let start = Instant::now();
        let mut logits = session.forward(&self.ids, Logits::Last(1))?;
        self.prefill_seconds = start.elapsed().as_secs_f64();
        for made in 1..=self.max_new_tokens {
            let token = self.sampler.sample(logits)?;
            self.ids.push(token);
            if self.end_of_text.contains(&token) {
                break;
            }
            self.show(token)?;
            if made == self.max_new_tokens {
                break;
            }
            if self.ids.len() > capacity {
                note(&format!("stopped after {made} tokens: the model was made for {capacity} positions"));
                break;
            }
            let start = Instant::now();
            logits = session.forward(&[token], Logits::Last(1))?;
            self.decode_seconds += start.elapsed().as_secs_f64();
        }
        if let Some(stream) = self.stream.take() {
            self.out.write_all(stream.finish()?.as_bytes())?;
        }
        Ok(())
    }

    fn show(&mut self, token: u32) -> Result<(), Failure> {
        if let Some(stream) = &mut self.stream {
            self.out.write_all(stream.push(token)?.as_bytes())?;
            self.out.flush()?;
        }
        Ok(())
    }
}
