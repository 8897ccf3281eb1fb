//! Proof, before anything is written, that a compiled model computes what its checkpoint computes.
//!
//! Rotations and scales change the basis that activations are in and weights with it, and must not change the function. Two
//! programs read the same tokens in lockstep, in f32, and take each weight when a step needs it:
//!
//! - the *original*: the graph as the definition states it, with the values that are stored;
//! - the *compiled* one: the very program that will be written, with the values that its recipes make, before these are
//!   encoded.
//!
//! The logits of both may be [`TOLERANCE`] of their range apart; a wrong sign in a weight is further. So may be what choices
//! of experts are made from. The choices themselves are the original's in both, as one that is made by a hair's breadth could
//! go either way; and so that no expert is left out, tokens that are no text go to all of them in turn.
//!
//! All other steps that both programs have are compared as well, in the basis of the model. They tell where the two part.
//! What steps with weights give may be [`STEP_TOLERANCE`] of its size apart, so that a wrong weight is found that the logits
//! hardly depend on: an expert that matters to no token, or a bias of keys, which softmax takes out again where there is no
//! rotary embedding.

mod distance;
mod lockstep;
mod run;

use lathe_grammar::diag::Diagnostic;
use lathe_kernels::rotations::SplitMix64;
use lathe_runtime::backend::DeviceError;
use lathe_runtime::exec::ExecError;
use lathe_runtime::program::Program;
use serde::{Deserialize, Serialize};

use crate::compile::Prepared;
use crate::frames::Frames;
use crate::lower::{LowerError, Lowered, lower};
use crate::model::Checkpoint;
use crate::pack::evaluate::{EvaluateError, Evaluator};
use crate::passes::{self, PassError};
use crate::plan::Plan;
use crate::verify::pairs::pair;
use lockstep::{Compared, Role, Subjects};

/// How far logits may be apart, as a part of their range, or of 1 where that is smaller.
pub const TOLERANCE: f64 = 1e-4;

/// How far results of a step may be apart, as a part of the largest of them, before the two programs have parted.
pub const STEP_TOLERANCE: f64 = 1e-3;

/// Tokens of text that are read, and at least as many that are not text.
const TOKENS: usize = 48;

/// Most tokens that are no text.
const MOST_TOKENS: usize = 256;

/// Seed of the tokens that are no text.
const SEED: u64 = 1;

/// What a compilation says of its proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// There is none, as that was asked for.
    Skipped,
    /// The compiled model computes what its checkpoint computes.
    Proved(Proved),
}

/// How close a compiled model is to its checkpoint before its weights are encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proved {
    /// Tokens that both have read.
    pub tokens: u64,
    /// Of those, tokens of text.
    pub text_tokens: u64,
    /// Largest difference of a logit.
    pub max_error: f64,
    /// From the smallest to the largest logit of the original.
    pub range: f64,
    /// Steps whose results were compared.
    pub steps: u64,
    /// The step with the largest error for the size of its results.
    pub worst: String,
    /// That error, as a part of the largest result.
    pub worst_error: f64,
}

impl Proved {
    /// In a line: `logits differ by at most 2.1e-6 of their range over 96 tokens`.
    pub fn summary(&self) -> String {
        let Proved { tokens, max_error, range, .. } = *self;
        match max_error {
            0.0 => format!("logits are equal over {tokens} tokens"),
            _ if range == 0.0 => format!("logits differ by at most {max_error:.1e} over {tokens} tokens"),
            _ => format!("logits differ by at most {:.1e} of their range over {tokens} tokens", max_error / range),
        }
    }
}

/// What a proof is to do besides.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Tokens of a text, of which the first are read; may be empty.
    pub text: &'a [u32],
    /// Threads to run on.
    pub threads: usize,
    /// Bound on the memory of the whole process, in bytes.
    pub memory: Option<u64>,
    /// A weight to spoil, see [`Evaluator::flip`].
    pub flip: Option<&'a str>,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The compiled model computes something else.
    #[error("{}", .0.message)]
    Disproved(Box<Diagnostic>),
    /// The memory bound is below what the proof takes.
    #[error("expected a memory bound of {minimum} bytes or more for the proof, found {asked}; --no-prove takes less")]
    TooLittleMemory {
        /// The bound that was asked for, in bytes.
        asked: u64,
        /// The smallest that can be kept, in bytes.
        minimum: u64,
    },
    /// A pass broke the graph of the original: our bug.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The graph of the original cannot be lowered.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A weight cannot be made.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A program cannot be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// There is nothing to run on.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Whether a compiled model holds any values in another basis, or folds anything into a weight.
pub fn is_called_for(lowered: &Lowered) -> bool {
    let folds = lowered.recipes.iter().any(|recipe| !recipe.folded.is_identity());
    folds || lowered.frames.iter().any(|frame| !frame.is_empty()) || !lowered.program.rotations.is_empty()
}

/// Proves that a compiled model computes what its checkpoint computes.
///
/// # Errors
/// When it does not, or something cannot be read or run.
pub fn prove(prepared: &Prepared, checkpoint: &Checkpoint, options: Options<'_>) -> Result<Proved, ProofError> {
    let Prepared { lowered, reader, .. } = prepared;
    let original = original(prepared)?;
    let stored = Evaluator { checkpoint, reader, rotations: &[], flip: None, interrupted: None };
    let compiled = Evaluator { rotations: &lowered.rotations, flip: options.flip, ..stored };
    let (pairs, _) = pair(&original.program, &lowered.program);
    let (tokens, text) = tokens(&original.program, options.text);
    let subjects = Subjects { original: (&original, stored), compiled: (lowered, compiled), pairs: &pairs };
    let compared = run::run(subjects, (&tokens, text), options)?;
    judge(&original.program, &compared, (tokens.len(), text)).map_err(ProofError::Disproved)
}

/// What the definition states, without rotations and scales.
fn original(prepared: &Prepared) -> Result<Lowered, ProofError> {
    let model = &prepared.model;
    let plan = Plan { frames: Frames::default(), ..prepared.plan.clone() };
    let mut graph = model.graph.clone();
    passes::run(&mut graph, &plan, &passes::Options::default())?;
    Ok(lower(&graph, &plan, &model.name, model.max_positions)?)
}

/// Tokens for a program: those of a text, as far as the program knows them, then others, as many as it takes.
fn tokens(program: &Program, text: &[u32]) -> (Vec<u32>, usize) {
    let vocabulary = program.vocabulary();
    let most = program.max_positions.map_or(usize::MAX, |positions| positions as usize);
    let others = lockstep::rows_for_every_expert(program).clamp(TOKENS, MOST_TOKENS).min(most);
    let known = text.iter().copied().filter(|token| (*token as usize) < vocabulary);
    let mut tokens: Vec<u32> = known.take(TOKENS.min(most - others)).collect();
    let text = tokens.len();
    let random = SplitMix64::new(SEED);
    // The vocabulary of a program is below 2^32.
    tokens.extend((0..others as u64).map(|index| (random.output(index) % vocabulary as u64) as u32));
    (tokens, text)
}

/// What the steps say.
fn judge(program: &Program, compared: &[Compared], (tokens, text): (usize, usize)) -> Result<Proved, Box<Diagnostic>> {
    let is_off = |compared: &&Compared| match compared.role {
        Role::Other => false,
        _ => compared.distance.error.is_nan() || compared.distance.error > bound(compared),
    };
    let logits = compared.iter().find(|compared| compared.role == Role::Logits);
    if let Some(fault) = logits.filter(is_off).or_else(|| compared.iter().find(is_off)) {
        let parted = compared.iter().find(|compared| compared.distance.relative() > STEP_TOLERANCE);
        return Err(Box::new(disproof(program, fault, parted)));
    }
    let Some(Compared { distance: logits, .. }) = logits else {
        let message = "the logits of the compiled model have another shape than those of the checkpoint";
        return Err(Box::new(Diagnostic::error(CODE, message)));
    };
    // Rounding makes any difference of what should be 0 throughout.
    let errors = compared.iter().map(|compared| (compared.step, compared.distance.relative()));
    let worst = errors.filter(|(_, error)| error.is_finite()).max_by(|(_, a), (_, b)| a.total_cmp(b));
    let (worst, worst_error) =
        worst.map_or((String::new(), 0.0), |(step, error)| (program.steps[step].label.clone(), error));
    Ok(Proved {
        tokens: tokens as u64,
        text_tokens: text as u64,
        max_error: logits.error,
        range: logits.range(),
        steps: compared.len() as u64,
        worst,
        worst_error,
    })
}

/// Code of a compiled model that computes something else.
const CODE: &str = "C0016";

/// How far results of a step may be from those of the original.
fn bound(Compared { role, distance, .. }: &Compared) -> f64 {
    match role {
        Role::Logits | Role::Router => TOLERANCE * distance.range().max(1.0),
        Role::Weights => STEP_TOLERANCE * distance.size(),
        Role::Other => f64::INFINITY,
    }
}

/// Says that and how the compiled model computes something else; `parted` is where that began.
fn disproof(program: &Program, fault: &Compared, parted: Option<&Compared>) -> Diagnostic {
    let label = |compared: &Compared| &program.steps[compared.step].label;
    let what = match fault.role {
        Role::Logits => "logits".to_owned(),
        Role::Router | Role::Weights | Role::Other => format!("results of `{}`", label(fault)),
    };
    let message = format!(
        "the compiled model computes something else than its checkpoint: expected {what} within {:.1e} of the original's, found a difference of {:.1e}",
        bound(fault),
        fault.distance.error
    );
    let mut diagnostic = Diagnostic::error(CODE, message);
    if let Some(parted) = parted {
        diagnostic = diagnostic.note(format!(
            "the first step whose result is off is `{}` ({}): by {:.1e}, and its largest value is {:.1e}",
            label(parted),
            program.steps[parted.step].op.kernel(),
            parted.distance.error,
            parted.distance.size()
        ));
    }
    diagnostic.help("take back the rotation or scale that acts there; --no-prove writes the model all the same")
}
