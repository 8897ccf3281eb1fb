//! `lathe-run bench`

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, value_parser};
use lathe_runtime::backend::Session;
use lathe_runtime::exec::{Logits, SessionOptions};
use serde_json::json;

use super::failure::Failure;
use super::model::{MachineOptions, Model, rate, shown_rate};

/// Tokens of the prompt that are read before anything is timed.
const WARM_UP_PREFILL: usize = 64;
/// Tokens that are decoded before anything is timed.
const WARM_UP_DECODE: usize = 4;

/// Measure speed
///
/// Reads a prompt of pseudo-random tokens, then decodes more of them one by one, after a short warm-up.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Folder of the compiled model
    #[arg(value_name = "OUT")]
    model: PathBuf,

    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = value_parser!(u32).range(1..))]
    prompt_tokens: u32,

    /// Tokens to decode after the prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..))]
    new_tokens: u32,

    /// Print one JSON object: prefill_tok_s, decode_tok_s, weights_bytes, load_s, peak_rss_bytes, threads, isa, device
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &BenchArgs, machine: &MachineOptions, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let (prompt_tokens, new_tokens) = (args.prompt_tokens as usize, args.new_tokens as usize);
    let start = Instant::now();
    let model = Model::open(&args.model, machine)?;
    let vocabulary = model.artifact.program.vocabulary();
    let options = SessionOptions::with_capacity(prompt_tokens.saturating_add(new_tokens));
    let (load_seconds, times) = model.with_session(&options, |session| {
        let load_seconds = start.elapsed().as_secs_f64();
        // Made once the session has taken so many.
        let ids = pseudo_random_tokens(prompt_tokens + new_tokens, vocabulary);
        let (prompt, new) = ids.split_at(prompt_tokens);
        measure(session, &prompt[..prompt_tokens.min(WARM_UP_PREFILL)], &new[..new_tokens.min(WARM_UP_DECODE)])?;
        Ok((load_seconds, measure(session, prompt, new)?))
    })?;
    let prefill = rate(prompt_tokens, times.prefill_seconds);
    let decode = rate(new_tokens, times.decode_seconds);
    let weights_bytes = model.artifact.weights.stored_bytes();
    let peak_bytes = peak_memory_bytes();
    let device = model.backend.info();
    if args.json {
        let result = json!({
            "prefill_tok_s": prefill,
            "decode_tok_s": decode,
            "weights_bytes": weights_bytes,
            "load_s": load_seconds,
            "peak_rss_bytes": peak_bytes,
            "threads": device.threads,
            "isa": device.isa,
            "device": device.name,
        });
        writeln!(out, "{result}")?;
        return Ok(());
    }
    writeln!(out, "device   {}, {} threads, {}", device.name, device.threads, device.isa)?;
    writeln!(out, "weights  {weights_bytes} bytes")?;
    writeln!(out, "load     {load_seconds:.3} s")?;
    writeln!(out, "prefill  {} tok/s, {prompt_tokens} tokens", shown_rate(prefill))?;
    writeln!(out, "decode   {} tok/s, {new_tokens} tokens", shown_rate(decode))?;
    if let Some(bytes) = peak_bytes {
        writeln!(out, "memory   {bytes} bytes at most")?;
    }
    Ok(())
}

struct Times {
    prefill_seconds: f64,
    decode_seconds: f64,
}

/// Reads a prompt at once and other tokens one by one, from an empty cache.
fn measure(session: &mut dyn Session, prompt: &[u32], new: &[u32]) -> Result<Times, Failure> {
    session.truncate(0);
    let start = Instant::now();
    session.forward(prompt, Logits::Last(1))?;
    let prefill_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for token in new {
        session.forward(std::slice::from_ref(token), Logits::Last(1))?;
    }
    Ok(Times { prefill_seconds, decode_seconds: start.elapsed().as_secs_f64() })
}

/// The same tokens in every run: a linear congruential sequence (Knuth's MMIX).
fn pseudo_random_tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 1u64;
    let mut token = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 32) % vocabulary as u64) as u32
    };
    (0..count).map(|_| token()).collect()
}

/// Largest resident memory of this process so far, where the system says so.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_and_the_same_each_time() {
        let tokens = pseudo_random_tokens(1000, 37);
        assert!(tokens.iter().all(|&token| token < 37));
        assert_eq!(tokens, pseudo_random_tokens(1000, 37));
        assert!((0..37).all(|token| tokens.contains(&token)));
    }
}
