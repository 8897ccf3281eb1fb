//! `lathe-run bench`

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, value_parser};
use lathe_runtime::backend::Session;
use lathe_runtime::exec::{Choice, Next};
use serde_json::json;

use super::failure::Failure;
use super::model::{MachineOptions, Model, rate, shown_rate};

/// Tokens of the prompt that are read before anything is timed.
const WARM_UP_PREFILL: usize = 64;
/// Tokens that are decoded before anything is timed.
const WARM_UP_DECODE: usize = 4;

/// Measure speed
///
/// Reads a prompt of pseudo-random tokens, then decodes more of them one by one, after a short warm-up. Of several prompts,
/// medians count.
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

    /// Prompts, one after the other; of two or more, one whole prompt more is the warm-up
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..))]
    prompts: u16,

    /// Print one JSON object: prefill_tok_s, decode_tok_s, their quartiles, weights_bytes, session_bytes, load_s,
    /// peak_rss_bytes, threads, isa, device
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &BenchArgs, machine: &MachineOptions, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let (prompt_tokens, new_tokens) = (args.prompt_tokens as usize, args.new_tokens as usize);
    let start = Instant::now();
    let model = Model::open(&args.model, machine)?;
    let vocabulary = model.artifact.program.vocabulary();
    let options = model.backend.options(prompt_tokens.saturating_add(new_tokens));
    let (load_seconds, times, session_bytes) = model.with_session(&options, |session| {
        let load_seconds = start.elapsed().as_secs_f64();
        let mut times = Vec::with_capacity(usize::from(args.prompts));
        for number in 0..u64::from(args.prompts) {
            // Made once the session has taken so many.
            let ids = pseudo_random_tokens(1 + number, prompt_tokens + new_tokens, vocabulary);
            let (prompt, new) = ids.split_at(prompt_tokens);
            if number == 0 {
                let most = if args.prompts == 1 { WARM_UP_PREFILL } else { prompt_tokens };
                measure(session, &prompt[..prompt_tokens.min(most)], &new[..new_tokens.min(WARM_UP_DECODE)])?;
            }
            times.push(measure(session, prompt, new)?);
        }
        Ok((load_seconds, times, session.memory_bytes()))
    })?;
    let rates = |rate_of: &dyn Fn(&Times) -> Option<f64>| Quartiles::of(times.iter().filter_map(rate_of).collect());
    let prefill = rates(&|times| rate(prompt_tokens, times.prefill_seconds));
    let decode = rates(&|times| rate(new_tokens, times.decode_seconds));
    let weights_bytes = model.artifact.weights.stored_bytes();
    let peak_bytes = peak_memory_bytes();
    let device = model.backend.info();
    if args.json {
        let result = json!({
            "prefill_tok_s": prefill.map(|quartiles| quartiles.middle),
            "prefill_tok_s_quartiles": prefill.map(|quartiles| [quartiles.lower, quartiles.upper]),
            "decode_tok_s": decode.map(|quartiles| quartiles.middle),
            "decode_tok_s_quartiles": decode.map(|quartiles| [quartiles.lower, quartiles.upper]),
            "prompts": args.prompts,
            "weights_bytes": weights_bytes,
            "session_bytes": session_bytes,
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
    let shown = |rates: Option<Quartiles>| match rates {
        Some(Quartiles { lower, middle, upper }) if args.prompts > 1 => {
            format!("{middle:.1} tok/s (quartiles {lower:.1}, {upper:.1})")
        }
        rates => format!("{} tok/s", shown_rate(rates.map(|rates| rates.middle))),
    };
    writeln!(out, "prefill  {}, {prompt_tokens} tokens", shown(prefill))?;
    writeln!(out, "decode   {}, {new_tokens} tokens", shown(decode))?;
    writeln!(out, "session  {session_bytes} bytes")?;
    if let Some(bytes) = peak_bytes {
        writeln!(out, "memory   {bytes} bytes at most")?;
    }
    Ok(())
}

struct Times {
    prefill_seconds: f64,
    decode_seconds: f64,
}

/// Quartiles of several rates.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Quartiles {
    lower: f64,
    middle: f64,
    upper: f64,
}

impl Quartiles {
    /// `None` of no rates.
    fn of(mut rates: Vec<f64>) -> Option<Quartiles> {
        rates.sort_by(f64::total_cmp);
        let at = |quarter: usize| rates.get((rates.len().checked_sub(1)? * quarter + 2) / 4).copied();
        Some(Quartiles { lower: at(1)?, middle: at(2)?, upper: at(3)? })
    }
}

/// Reads a prompt at once and other tokens one by one, from an empty cache. A device that chooses tokens itself reads those
/// that it has chosen.
fn measure(session: &mut dyn Session, prompt: &[u32], new: &[u32]) -> Result<Times, Failure> {
    session.truncate(0);
    let start = Instant::now();
    let mut chosen = token_of(session.next(prompt, &GREEDY)?);
    let prefill_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for &token in new {
        chosen = token_of(session.next(&[chosen.unwrap_or(token)], &GREEDY)?);
    }
    Ok(Times { prefill_seconds, decode_seconds: start.elapsed().as_secs_f64() })
}

/// The likeliest token.
const GREEDY: Choice = Choice { temperature: 0.0, top_k: None, top_p: None, uniform: 0.0 };

fn token_of(next: Next<'_>) -> Option<u32> {
    if let Next::Token(token) = next { Some(token) } else { None }
}

/// The same tokens in every run: a linear congruential sequence (Knuth's MMIX).
fn pseudo_random_tokens(seed: u64, count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = seed;
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
        let tokens = pseudo_random_tokens(1, 1000, 37);
        assert!(tokens.iter().all(|&token| token < 37));
        assert_eq!(tokens, pseudo_random_tokens(1, 1000, 37));
        assert_ne!(tokens, pseudo_random_tokens(2, 1000, 37));
        assert!((0..37).all(|token| tokens.contains(&token)));
    }

    #[test]
    fn quartiles_are_rates_that_were_measured() {
        let of = |rates: &[f64]| Quartiles::of(rates.to_vec()).map(|found| (found.lower, found.middle, found.upper));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(of(&[5.0, 1.0, 4.0, 2.0, 3.0]), Some((2.0, 3.0, 4.0)));
    }
}
