//! Making tokens one after the other, for the verbs that write text.

use std::ops::ControlFlow;
use std::time::Instant;

use clap::Args;
use lathe_runtime::backend::Session;
use lathe_runtime::exec::Next;
use lathe_runtime::sample::{SampleError, Sampler, SamplerOptions};

use super::failure::Failure;

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
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
}

impl SamplingArgs {
    /// What chooses the tokens.
    pub(crate) fn sampler(&self) -> Result<Sampler, SampleError> {
        let SamplingArgs { temperature, top_k, top_p, seed } = *self;
        Sampler::new(SamplerOptions { temperature, top_k, top_p, seed })
    }
}

/// Where a text ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits<'a> {
    pub(crate) max_new_tokens: usize,
    /// Positions of the session.
    pub(crate) capacity: usize,
    /// Tokens that end a text.
    pub(crate) end_of_text: &'a [u32],
}

/// What ended a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A token that ends a text, the last one made.
    Token,
    /// There are as many tokens as were asked for.
    Enough,
    /// The session has no position left.
    Full,
    /// Whoever was shown the tokens has had enough.
    Broken,
}

/// How a text was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) end: End,
    /// New tokens.
    pub(crate) tokens: usize,
    /// To read what was there and choose the first new token.
    pub(crate) prefill_seconds: f64,
    /// To read new tokens and choose those after them.
    pub(crate) decode_seconds: f64,
}

/// Continues `ids`, of which the session has read the first `session.position()`, but not all. New tokens are appended
/// and shown, the one that ends the text only appended. The last one has not been read at the end.
pub(crate) fn extend(
    session: &mut dyn Session,
    ids: &mut Vec<u32>,
    sampler: &mut Sampler,
    limits: Limits<'_>,
    mut show: impl FnMut(u32) -> Result<ControlFlow<()>, Failure>,
) -> Result<Made, Failure> {
    let mut made = Made { end: End::Enough, tokens: 0, prefill_seconds: 0.0, decode_seconds: 0.0 };
    while made.tokens < limits.max_new_tokens {
        let start = Instant::now();
        let choice = sampler.draw();
        let token = match session.next(&ids[session.position()..], &choice)? {
            Next::Token(token) => token,
            Next::Logits(logits) => sampler.choose(logits, &choice)?,
        };
        let seconds = start.elapsed().as_secs_f64();
        *(if made.tokens == 0 { &mut made.prefill_seconds } else { &mut made.decode_seconds }) += seconds;
        ids.push(token);
        made.tokens += 1;
        if limits.end_of_text.contains(&token) {
            made.end = End::Token;
            break;
        }
        if show(token)?.is_break() {
            made.end = End::Broken;
            break;
        }
        if ids.len() > limits.capacity && made.tokens < limits.max_new_tokens {
            made.end = End::Full;
            break;
        }
    }
    Ok(made)
}
