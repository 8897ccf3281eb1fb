//! Proof, before anything is written, that a compiled model computes what its checkpoint computes.
//!
//! Rotations and scales change the basis that activations are in and weights with it, and must not change the function. Two
//! programs read the same tokens in lockstep, in f32, and take each weight when a step needs it:
//!
//! - the *original*: the graph as the definition states it, with the values that are stored;
//! - the *compiled* one: the very program that will be written, with the values that its recipes make, before these are
//!   encoded. Formats of inputs are encodings too: products take x as it is.
//!
//! The logits of both may be [`TOLERANCE`] of their range apart. Choices of experts are the original's in both, as one that is
//! made by a hair's breadth could go either way; and so that no expert is left out, tokens that are no text go to all of them
//! in turn, as far as there are tokens: [`Proved::experts_not_compared`] counts the others.
//!
//! All other steps that both programs have are compared as well, in the basis of the model. They tell where the two part.
//! What steps with weights give may be [`STEP_TOLERANCE`] of its row apart, so that a wrong weight is found that the logits
//! hardly depend on: a small bias, an expert that matters to no token, or a bias of keys, which softmax takes out again where
//! there is no rotary embedding. Each product and each look-up must be a step of both; gains and shifts that have gone into
//! what reads them are found there.

mod distance;
mod lockstep;
mod order;
mod run;

use std::collections::BTreeSet;
use std::fmt::Write;

use lathe_grammar::diag::Diagnostic;
use lathe_kernels::rotations::SplitMix64;
use lathe_runtime::backend::{CpuBackend, DeviceError};
use lathe_runtime::exec::ExecError;
use lathe_runtime::program::{Op, Program, Step};
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
use order::order_like;

/// How far logits may be apart, as a part of their range, or of 1 where that is smaller.
pub const TOLERANCE: f64 = 1e-4;

/// How far a result of a step may be apart, as a part of the root mean square of its row, before the two programs have parted.
pub const STEP_TOLERANCE: f64 = 3e-4;

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
    /// The step with weights that has the largest error for the size of its rows.
    pub worst: String,
    /// That error, as a part of the root mean square of its row.
    pub worst_error: f64,
    /// Experts of all layers that no token went to: what they are made of was not compared.
    pub experts_not_compared: u64,
}

impl Proved {
    /// In a line: `logits differ by at most 2.1e-6 of their range over 96 tokens`.
    pub fn summary(&self) -> String {
        let Proved { tokens, text_tokens, max_error, range, experts_not_compared, .. } = *self;
        let mut summary = match max_error {
            0.0 => format!("logits are equal over {tokens} tokens"),
            _ if range == 0.0 => format!("logits differ by at most {max_error:.1e} over {tokens} tokens"),
            _ => format!("logits differ by at most {:.1e} of their range over {tokens} tokens", max_error / range),
        };
        if text_tokens == 0 {
            summary.push_str(", random tokens only");
        }
        if experts_not_compared > 0 {
            let _ = write!(summary, ", {experts_not_compared} experts not compared");
        }
        summary
    }
}

/// What a proof is to do besides.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Gives the tokens of a text, of which the first are read; may give none. It is told how many bytes it may take to find
    /// them, where memory is bounded.
    pub text: &'a dyn Fn(Option<u64>) -> Vec<u32>,
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
    let mut original = original(prepared)?;
    order_like(&mut original.program, &lowered.program);
    let stored = Evaluator { checkpoint, reader, rotations: &[], flip: None, interrupted: None };
    let compiled = Evaluator { rotations: &lowered.rotations, flip: options.flip, ..stored };
    let (pairs, _) = pair(&original.program, &lowered.program);
    let paired = (pairs.iter().map(|pair| pair.original), pairs.iter().map(|pair| pair.compiled));
    for (program, paired) in [(&original.program, paired.0.collect()), (&lowered.program, paired.1.collect())] {
        if let Some(step) = alone(program, &paired) {
            return Err(ProofError::Disproved(Box::new(not_compared(step))));
        }
    }
    let subjects = Subjects { original: (&original, stored), compiled: (lowered, compiled), pairs: &pairs };
    let backend = CpuBackend::new(options.threads)?;
    let counts = Counts::of(&original.program);
    let left = options.memory.map(|asked| run::memory_left(subjects, &backend, counts.text + counts.others, asked));
    let text = (options.text)(left.transpose()?);
    let (tokens, text) = tokens(&original.program, &text, counts);
    let (compared, experts_left_out) = run::run(subjects, &backend, (&tokens, text), options.memory.is_some())?;
    let proved = judge(&original.program, &compared).map_err(ProofError::Disproved)?;
    Ok(Proved {
        tokens: tokens.len() as u64,
        text_tokens: text as u64,
        experts_not_compared: experts_left_out as u64,
        ..proved
    })
}

/// The first product with stored weights, or look-up of some, that is not among these steps.
fn alone<'a>(program: &'a Program, paired: &BTreeSet<usize>) -> Option<&'a Step> {
    let has_matrix = |op: &Op| matches!(op, Op::Embed { .. } | Op::MatMul { .. } | Op::ExpertMatMul { .. });
    let mut steps = program.steps.iter().enumerate();
    steps.find(|(index, step)| has_matrix(&step.op) && !paired.contains(index)).map(|(_, step)| step)
}

/// What the definition states, without rotations, scales and rounding.
fn original(prepared: &Prepared) -> Result<Lowered, ProofError> {
    let model = &prepared.model;
    let plan = Plan { frames: Frames::default(), inputs: Vec::new(), ..prepared.plan.clone() };
    let mut graph = model.graph.clone();
    passes::run(&mut graph, &plan, &passes::Options::default())?;
    Ok(lower(&graph, &plan, &model.name, model.max_positions)?)
}

/// How many tokens are read.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Of text, at most.
    text: usize,
    /// Of others.
    others: usize,
}

impl Counts {
    fn of(program: &Program) -> Self {
        let most = program.max_positions.map_or(usize::MAX, |positions| positions as usize);
        let others = lockstep::rows_for_every_expert(program).clamp(TOKENS, MOST_TOKENS).min(most);
        Counts { text: TOKENS.min(most - others), others }
    }
}

/// Tokens for a program: those of a text, as far as the program knows them, then others; and how many are text.
fn tokens(program: &Program, text: &[u32], counts: Counts) -> (Vec<u32>, usize) {
    let vocabulary = program.vocabulary();
    let known = text.iter().copied().filter(|token| (*token as usize) < vocabulary);
    let mut tokens: Vec<u32> = known.take(counts.text).collect();
    let text = tokens.len();
    let random = SplitMix64::new(SEED);
    // The vocabulary of a program is below 2^32.
    tokens.extend((0..counts.others as u64).map(|index| (random.output(index) % vocabulary as u64) as u32));
    (tokens, text)
}

/// What the steps say; what was read is left to the caller.
fn judge(program: &Program, compared: &[Compared]) -> Result<Proved, Box<Diagnostic>> {
    let is_off = |compared: &&Compared| match compared.role {
        Role::Logits => compared.distance.error.is_nan() || compared.distance.error > logits_bound(compared),
        Role::Weights => compared.distance.relative > STEP_TOLERANCE,
        Role::Other => false,
    };
    let logits = compared.iter().find(|compared| compared.role == Role::Logits);
    if let Some(fault) = logits.filter(is_off).or_else(|| compared.iter().find(is_off)) {
        let parted = compared.iter().find(|compared| compared.distance.relative > STEP_TOLERANCE);
        return Err(Box::new(disproof(program, fault, parted)));
    }
    let Some(Compared { distance: logits, .. }) = logits else {
        let message = "the logits of the compiled model have another shape than those of the checkpoint";
        return Err(Box::new(Diagnostic::error(CODE, message)));
    };
    let with_weights = compared.iter().filter(|compared| compared.role == Role::Weights);
    let worst = with_weights.max_by(|a, b| a.distance.relative.total_cmp(&b.distance.relative));
    Ok(Proved {
        tokens: 0,
        text_tokens: 0,
        max_error: logits.error,
        range: logits.range,
        steps: compared.len() as u64,
        worst: worst.map_or(String::new(), |worst| program.steps[worst.step].label.clone()),
        worst_error: worst.map_or(0.0, |worst| worst.distance.relative),
        experts_not_compared: 0,
    })
}

/// Code of a compiled model that computes something else.
const CODE: &str = "C0016";

/// How far logits may be from those of the original.
fn logits_bound(logits: &Compared) -> f64 {
    TOLERANCE * logits.distance.range.max(1.0)
}

const DISPROVED: &str = "the compiled model computes something else than its checkpoint";
const HELP: &str = "take back the rotation or scale that acts there; --no-prove writes the model all the same";

/// Says that and how the compiled model computes something else; `parted` is where that began.
fn disproof(program: &Program, fault: &Compared, parted: Option<&Compared>) -> Diagnostic {
    let label = |compared: &Compared| &program.steps[compared.step].label;
    let relative =
        |compared: &Compared| format!("{:.1e} of the root mean square of its row", compared.distance.relative);
    let found = match fault.role {
        Role::Logits => format!(
            "expected logits within {:.1e} of the original's, found a difference of {:.1e}",
            logits_bound(fault),
            fault.distance.error
        ),
        Role::Weights | Role::Other => format!(
            "expected results of `{}` within {STEP_TOLERANCE:.1e} of the original's, found one that is off by {}",
            label(fault),
            relative(fault)
        ),
    };
    let mut diagnostic = Diagnostic::error(CODE, format!("{DISPROVED}: {found}"));
    if let Some(parted) = parted {
        diagnostic = diagnostic.note(format!(
            "the first step whose result is off is `{}` ({}): by {:.1e}, {}",
            label(parted),
            program.steps[parted.step].op.kernel(),
            parted.distance.error,
            relative(parted)
        ));
    }
    diagnostic.help(HELP)
}

/// Says that a step with a weight could not be compared.
fn not_compared(step: &Step) -> Diagnostic {
    let (label, kernel) = (&step.label, step.op.kernel());
    let found = format!("expected a step of both that multiplies by the weight of `{label}`, found a {kernel} of one");
    Diagnostic::error(CODE, format!("{DISPROVED}: {found}")).help(HELP)
}

#[cfg(test)]
mod tests {
    use lathe_runtime::program::{Buffer, BufferId, Compute, Elements, PROGRAM_VERSION, Rows, Unary, WeightId};

    use super::*;

    fn program() -> Program {
        let (x, out) = (BufferId(0), BufferId(1));
        let function = Op::Unary { function: Unary::Relu, x, out };
        let product = Op::MatMul { x, input: None, weight: WeightId(0), bias: None, out };
        Program {
            version: PROGRAM_VERSION,
            model: "test".to_owned(),
            compute: Compute::F32,
            max_positions: None,
            weights: Vec::new(),
            buffers: vec![Buffer { rows: Rows::Tokens, width: 8, elements: Elements::Real }; 2],
            caches: Vec::new(),
            rope_tables: Vec::new(),
            rotations: Vec::new(),
            steps: [function, product].map(|op| Step { label: op.kernel().to_owned(), op }).into(),
            output: out,
        }
    }

    /// A channel that is a thousandth of the others, of the wrong sign.
    #[test]
    fn a_small_channel_with_a_wrong_sign_is_found() {
        let judged = |role, found: f64| {
            let mut distance = distance::Distance::from(&[1.0, -1.0, 1.0, 0.001], 4);
            distance.add(&[1.0, -1.0, 1.0, 0.001], &[1.0, -1.0, 1.0, found]);
            let logits = Compared { step: 1, role: Role::Logits, distance: distance::Distance::from(&[1.0, 2.0], 2) };
            judge(&program(), &[Compared { step: 0, role, distance }, logits])
        };
        assert_eq!(judged(Role::Weights, -0.001).unwrap_err().code, CODE);
        assert!(judged(Role::Weights, 0.001_05).is_ok());
        assert!(judged(Role::Other, -0.001).is_ok());
    }

    #[test]
    fn a_product_without_a_partner_is_found() {
        let program = program();
        assert_eq!(alone(&program, &BTreeSet::from([1])), None);
        let found = alone(&program, &BTreeSet::from([0])).unwrap();
        assert_eq!(found.label, "mat_mul");
        assert!(not_compared(found).message.contains("the weight of `mat_mul`"));
    }

    #[test]
    fn the_summary_says_what_was_left_out() {
        let proved = Proved {
            tokens: 96,
            text_tokens: 48,
            max_error: 1e-5,
            range: 10.0,
            steps: 9,
            worst: "head".to_owned(),
            worst_error: 1e-6,
            experts_not_compared: 0,
        };
        assert_eq!(proved.summary(), "logits differ by at most 1.0e-6 of their range over 96 tokens");
        let proved = Proved { text_tokens: 0, max_error: 0.0, experts_not_compared: 3, ..proved };
        let expected = "logits are equal over 96 tokens, random tokens only, 3 experts not compared";
        assert_eq!(proved.summary(), expected);
    }
}
