//! How much a compiled model differs from its checkpoint, module by module.
//!
//! The original is the checkpoint under the spec that keeps everything, run on its own files. Both models read the same
//! tokens on the same kernels, so what differs comes from the weights:
//!
//! - The *weight* of a module: what was packed, decoded, against what is stored and was folded into it.
//! - Its output *alone*: its packed weights on the inputs that the original has there. The harm that it does itself.
//! - Its output *in the model*: on the inputs that the compiled model has there. What has built up so far.
//!
//! A distance is a signal-to-noise ratio, `10 log10(Σ x² / Σ (x − y)²)` decibels for the original's x and y in its place:
//! 20 dB is an error of a tenth, 40 dB of a hundredth.

mod basis;
mod distance;
mod each;
mod error;
mod modules;
mod outputs;
pub(crate) mod pairs;
mod predictions;
pub(crate) mod stored;
mod weights;

use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::Backend;
use lathe_runtime::exec::check_tokens;
use serde::{Deserialize, Serialize};

use crate::artifact::Lock;
use crate::compile::Prepared;
use crate::model::Checkpoint;
use crate::pack::evaluate::Evaluator;

pub use error::VerifyError;

/// What is read where no text is given: prose, numbers and code.
pub const TEXT: &str = include_str!("verify/text.txt");

/// Tokens of a window, where the text has so many: as many as `lathe-run perplexity` takes.
pub const WINDOW: usize = 256;

/// Version of [`Verification`] as JSON.
pub const VERIFICATION_VERSION: u32 = 1;

/// What was found; the form of `lathe verify --json`. Numbers that are not finite are null there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// [`VERIFICATION_VERSION`].
    pub version: u32,
    /// Which compilation it is about: [`Lock::plan_blake3`].
    pub plan_blake3: String,
    /// Name of the model definition.
    pub model: String,
    /// Tensors of the compiled model that are not what was written when it was compiled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// What both have read.
    pub text: ReadText,
    /// What they predict.
    pub predictions: Predictions,
    /// Modules of one kind and format together, in the order of their worst.
    pub groups: Vec<Group>,
    /// Every module that has parameters, by harm: where that was measured, the largest `kl_alone` first; then the lowest SQNR
    /// of the output alone; equal ones last.
    pub modules: Vec<Module>,
    /// Steps that only one of the two has, in order.
    pub not_comparable: Vec<NotComparable>,
}

/// The tokens that both models have read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadText {
    /// Where they come from: the name of a file, or `built-in`.
    pub source: String,
    /// How many.
    pub tokens: u64,
    /// Tokens of a window; each is read from an empty cache.
    pub window: u64,
}

/// How the next-token distributions differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predictions {
    /// Mean over the tokens of the Kullback-Leibler divergence of the compiled model's distribution from the original's,
    /// in nats.
    pub kl_mean: Option<f64>,
    /// The largest of them.
    pub kl_max: Option<f64>,
    /// Share of tokens after which both find the same token likeliest, 0 to 1.
    pub same_choice: f64,
    /// Perplexity of the original on the text.
    pub perplexity_original: Option<f64>,
    /// That of the compiled model.
    pub perplexity_compiled: Option<f64>,
    /// The second by the first.
    pub perplexity_ratio: Option<f64>,
    /// The logits.
    pub logits: Agreement,
    /// Distance of the original's smallest and largest logit.
    pub logits_range: Option<f64>,
}

/// How far numbers are from those that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// In a word.
    pub state: State,
    /// In decibels. `None` unless they differ; also when the original is zero throughout, and nothing is below that.
    pub sqnr_db: Option<f64>,
    /// Largest absolute difference; `None` where one is not finite.
    pub max_error: Option<f64>,
}

/// What can be said of numbers that should be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// NaN or infinite in at least one place, in one of the two.
    NotFinite,
    /// They differ.
    Differs,
    /// The same numbers.
    Equal,
}

/// One module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Logical path: `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// `linear`, `head`, …
    pub kind: String,
    /// Of the weight that it reads, as in the compiled model.
    pub format: String,
    /// Elements of that weight.
    pub elements: u64,
    /// The module whose table it reads in the compiled model; that one has the weight then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<String>,
    /// Its weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Agreement>,
    /// Its other parameters, such as a bias, where it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<Agreement>,
    /// Mean KL divergence of what is predicted from the original's, in nats a token, when this module alone is compiled. `None`
    /// where that was not asked for, or is no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_alone: Option<f64>,
    /// Its output. `None` for an expert that no token has chosen, and where nothing can be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

/// The output of a module over all tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Tokens that went through it in the original; all but for experts.
    pub tokens: u64,
    /// Of these, tokens that went to other experts in the compiled model; they do not count for `in_model`.
    pub elsewhere: u64,
    /// On the inputs of the original.
    pub alone: Agreement,
    /// On the inputs of the compiled model; `None` when all tokens went elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_model: Option<Agreement>,
}

/// Modules of one kind and format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The kind.
    pub kind: String,
    /// The format.
    pub format: String,
    /// How many modules.
    pub modules: u64,
    /// How many of them are equal in every respect.
    pub equal: u64,
    /// The median SQNR of their outputs alone in decibels, of those that differ.
    pub median_db: Option<f64>,
    /// Path of the one that does most harm, unless all are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<String>,
    /// SQNR of its output alone, in decibels.
    pub worst_db: Option<f64>,
}

/// A step that has no counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotComparable {
    /// The module or operation.
    pub label: String,
    /// The kernel.
    pub kernel: String,
    /// Which model has it.
    pub only_in: Side,
}

/// One of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The checkpoint.
    Original,
    /// The compiled one.
    Compiled,
}

/// What is compared.
#[derive(Clone, Copy)]
pub struct Comparison<'a> {
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// The checkpoint, prepared with the spec that keeps everything.
    pub original: &'a Prepared,
    /// The compiled model.
    pub artifact: &'a Artifact,
    /// What the compiled model was made from.
    pub lock: &'a Lock,
    /// Where both run.
    pub backend: &'a dyn Backend,
    /// What both read: windows of `window` tokens, each from an empty cache. Tokens after the last whole window are not read.
    pub tokens: &'a [u32],
    /// Tokens of a window, at least 2.
    pub window: usize,
    /// Over how many of the tokens the harm of each module is measured: two runs over them for each that differs.
    pub each: usize,
    /// Where the tokens come from, see [`ReadText::source`].
    pub source: &'a str,
}

/// Compares a compiled model with its checkpoint.
///
/// Results that the compiled model has in another basis are turned back to that of the original first. Steps that only one of
/// them has, such as rotations at run time and norms whose gains were folded away, are listed.
///
/// Weights are decoded row by row, and the models run in lockstep, 64 tokens at a time: what is held beside the mapped
/// files are the caches and activations of three sessions, and copies of those stored tensors whose elements have to be put
/// in another order.
///
/// # Errors
/// When the compiled model was not made from this checkpoint, there is less than one window of tokens, or something cannot
/// be read or run.
pub fn verify(comparison: &Comparison<'_>) -> Result<Verification, VerifyError> {
    let Comparison { checkpoint, original, artifact, lock, tokens, window, source, .. } = *comparison;
    if window < 2 || tokens.len() < window {
        return Err(VerifyError::TooShort { tokens: tokens.len(), window });
    }
    let tokens = &tokens[..tokens.len() / window * window];
    check_tokens(tokens, artifact.program.vocabulary())?;
    let stored = stored::Stored::open(checkpoint, &original.reader)?;
    let rotations =
        lock.folds.as_ref().map(|folds| weights::rotations(folds, artifact)).transpose()?.unwrap_or_default();
    let evaluator =
        Evaluator { checkpoint, reader: &original.reader, rotations: &rotations, flip: None, interrupted: None };
    let origins = weights::origins(artifact, lock, &original.model, checkpoint)?;
    let distances = weights::distances(comparison, &origins, evaluator)?;
    weights::check_heads(comparison, &origins, &stored)?;

    let bytes = stored.weights(&original.lowered.recipes)?;
    let program = &original.lowered.program;
    let (pairs, not_comparable) = pairs::pair(program, &artifact.program);
    if !pairs.iter().any(|pair| program.steps[pair.original].op.out() == program.output) {
        return Err(VerifyError::OtherLogits);
    }
    let modules = modules::Modules::new(&original.model, &origins);
    let frames = match &lock.folds {
        Some(folds) => folds.frames(artifact.program.buffers.len(), &lock.sources, checkpoint)?,
        None => vec![Vec::new(); artifact.program.buffers.len()],
    };
    let pair = |pair: pairs::Pair| {
        let (of_original, of_compiled) = (&program.steps[pair.original], &artifact.program.steps[pair.compiled]);
        let buffer = of_compiled.op.out().index();
        let width = artifact.program.buffers[buffer].width.into();
        let maps = evaluator.maps(&of_compiled.label, &frames[buffer], width)?;
        Ok((pair, modules.role(of_original, of_compiled), basis::Basis::new(maps)))
    };
    let subjects = outputs::Subjects {
        original: (program, stored::matrices(program, &bytes)),
        compiled: (&artifact.program, artifact.weights.matrices()?),
        pairs: pairs.into_iter().map(pair).collect::<Result<_, VerifyError>>()?,
    };
    let seen = outputs::observe(comparison, &subjects)?;
    let tokens = tokens.len() as u64;
    let mut modules = modules.by_harm(&distances, &seen.given, tokens);
    if comparison.each > 0 {
        modules::measure_harm(&mut modules, &original.model, |ids| {
            each::divergences(comparison, &subjects, ids, comparison.each)
        })?;
    }
    Ok(Verification {
        version: VERIFICATION_VERSION,
        plan_blake3: lock.plan_blake3.clone(),
        model: original.model.name.clone(),
        changed: weights::changed(artifact, lock),
        text: ReadText { source: source.to_owned(), tokens, window: window as u64 },
        predictions: seen.tally.predictions(),
        groups: modules::groups(&modules),
        modules,
        not_comparable,
    })
}
