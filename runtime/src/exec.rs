//! What every backend shares: what a session is asked, how it can refuse, and how a call is cut into passes.

use std::ops::Range;

use lathe_kernels::formats::Matrix;

use crate::program::{Program, RotationError, VerifyError};

/// Sizes of a session. All of its memory is allocated when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Positions that the key/value caches hold.
    pub capacity: usize,
    /// Most tokens that go through the program at once; longer calls are cut into passes.
    pub max_step_tokens: usize,
    /// Most rows of logits that a call may ask for.
    pub max_logits: usize,
    /// Rotary frequencies that depend on the length of the text are those of a text of at least so many positions: the
    /// whole length for callers who read a text of known length in several calls, 0 for those who do not know it.
    pub min_positions: usize,
}

impl SessionOptions {
    /// Tokens of a pass, unless told otherwise.
    pub const DEFAULT_STEP_TOKENS: usize = 512;

    /// For generation: the logits of the last token of each call.
    pub fn with_capacity(capacity: usize) -> Self {
        SessionOptions { capacity, max_step_tokens: Self::DEFAULT_STEP_TOKENS, max_logits: 1, min_positions: 0 }
    }
}

/// The tokens of a call whose logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// All of them.
    All,
    /// The last `n`, or all if there are fewer.
    Last(usize),
}

impl Logits {
    /// How many, of `tokens`.
    pub fn count(self, tokens: usize) -> usize {
        match self {
            Logits::All => tokens,
            Logits::Last(count) => count.min(tokens),
        }
    }
}

/// How the token after those of a call is chosen, with a random number for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Logits are divided by it; 0 takes the largest logit.
    pub temperature: f32,
    /// Only so many of the likeliest tokens can be chosen; at least 1.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities first add up to this can be chosen, after `top_k`; above 0 and at most 1.
    pub top_p: Option<f32>,
    /// From 0 to below 1.
    pub uniform: f64,
}

/// What a call gives for the token after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next<'a> {
    /// The device has chosen it.
    Token(u32),
    /// The logits of the last token, from which the caller chooses.
    Logits(&'a [f32]),
}

/// Logarithm of `Σ exp(logit)` over the logits of a token, in f64: what to take off a logit for the logarithm of its
/// probability. NaN where a logit is.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    largest + sum.ln()
}

/// Why a session cannot be made or a call not be answered. A call that fails leaves the session as it was.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The program is not valid.
    #[error("invalid program: {0}")]
    Program(#[from] VerifyError),
    /// The weights are not those of the program.
    #[error("weight `{weight}` is {found}, expected {expected}")]
    Weight {
        /// The weight.
        weight: String,
        /// What was given.
        found: String,
        /// What the program says.
        expected: String,
    },
    /// More or fewer weights than the program has.
    #[error("{found} weights, expected {expected}")]
    WeightCount {
        /// How many were given.
        found: usize,
        /// How many the program has.
        expected: usize,
    },
    /// A size of the session is zero.
    #[error("{what} is 0, expected at least 1")]
    Zero {
        /// Which size.
        what: &'static str,
    },
    /// A session for more positions than the model was made for.
    #[error("{capacity} positions, but the model was made for {max_positions}")]
    MaxPositions {
        /// Positions asked for.
        capacity: usize,
        /// The model's limit.
        max_positions: u32,
    },
    /// More memory than there is.
    #[error("cannot allocate {bytes} bytes for {what}")]
    Memory {
        /// What it is for.
        what: &'static str,
        /// How much; saturates.
        bytes: u64,
    },
    /// A model that does not fit into the memory of the device.
    #[error("the model needs {needed} bytes of device memory for {capacity} positions, and {free} are free; {}", fitting(*.longest))]
    DeviceMemory {
        /// Bytes of weights, caches and activations.
        needed: u64,
        /// Positions asked for.
        capacity: usize,
        /// Bytes that are free.
        free: u64,
        /// Positions for which it would fit.
        longest: usize,
    },
    /// A step that is too large for the kernels of the device.
    #[error("step `{step}`: {found} {what}, but the device takes at most {most}")]
    DeviceLimit {
        /// Label of the step.
        step: String,
        /// What there is too much of.
        what: &'static str,
        /// How many.
        found: u64,
        /// Most.
        most: u64,
    },
    /// The device has refused a call, or a kernel has failed. The session is of no more use.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Device(#[from] lathe_kernels::cuda::CudaError),
    /// A rotation that is none, such as a matrix that is not orthogonal.
    #[error("rotation {rotation}: {source}")]
    Rotation {
        /// Its index in the program.
        rotation: usize,
        /// What is wrong.
        source: RotationError,
    },
    /// A call without tokens.
    #[error("no tokens")]
    NoTokens,
    /// A token that the model does not know.
    #[error("token {token} at index {index} is not below the vocabulary's {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// Where in the call, or in the text when all of that is checked first.
        index: usize,
        /// Tokens that the model knows.
        vocabulary: usize,
    },
    /// More tokens than the caches have room for.
    #[error("{tokens} tokens after {position} positions, but the session holds {capacity}")]
    Full {
        /// Tokens of the call.
        tokens: usize,
        /// Positions in the caches.
        position: usize,
        /// Positions that the caches hold.
        capacity: usize,
    },
    /// More rows of logits than the session was made for.
    #[error("{rows} rows of logits, but the session was made for {max_logits}")]
    LogitsRows {
        /// Rows asked for.
        rows: usize,
        /// The session's limit.
        max_logits: usize,
    },
}

impl ExecError {
    /// Whether the model or the tokens are at fault, rather than the machine.
    pub fn is_input_fault(&self) -> bool {
        match self {
            ExecError::Memory { .. } | ExecError::DeviceMemory { .. } | ExecError::DeviceLimit { .. } => false,
            #[cfg(feature = "cuda")]
            ExecError::Device(_) => false,
            ExecError::Program(_)
            | ExecError::Weight { .. }
            | ExecError::WeightCount { .. }
            | ExecError::Zero { .. }
            | ExecError::MaxPositions { .. }
            | ExecError::Rotation { .. }
            | ExecError::NoTokens
            | ExecError::Token { .. }
            | ExecError::Full { .. }
            | ExecError::LogitsRows { .. } => true,
        }
    }
}

fn fitting(longest: usize) -> String {
    match longest {
        0 => "its weights alone do not fit".to_owned(),
        positions => format!("{positions} positions would fit"),
    }
}

/// Checks that a model of `vocabulary` tokens knows all of these.
///
/// # Errors
/// [`ExecError::Token`], of the first that it does not know.
pub fn check_tokens(tokens: &[u32], vocabulary: usize) -> Result<(), ExecError> {
    match tokens.iter().position(|&token| token as usize >= vocabulary) {
        Some(index) => Err(ExecError::Token { token: tokens[index], index, vocabulary }),
        None => Ok(()),
    }
}

/// Checks that weights are those of a valid program.
pub(crate) fn check_weights(program: &Program, weights: &[Matrix<'_>]) -> Result<(), ExecError> {
    if weights.len() != program.weights.len() {
        return Err(ExecError::WeightCount { found: weights.len(), expected: program.weights.len() });
    }
    for (weight, matrix) in program.weights.iter().zip(weights) {
        let (format, shape) = (&weight.format, weight.matrix_shape());
        if weight.find_format() != Some(matrix.format())
            || shape.is_none_or(|s| (s.rows, s.cols) != (matrix.rows(), matrix.cols()))
        {
            let expected = format!("{format} {:?}", weight.shape);
            return Err(ExecError::Weight { weight: weight.name.clone(), found: format!("{matrix:?}"), expected });
        }
    }
    Ok(())
}

/// Tokens that go through the program together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Tokens of the call.
    pub(crate) tokens: Range<usize>,
    /// How many of them, counted from the last, are selected for output.
    pub(crate) selected: usize,
    /// Row of the call's logits that the first selected token fills.
    pub(crate) first_row: usize,
}

/// Cuts a call of `tokens` tokens, of which the last `rows` are selected, into passes of at most `max_tokens`.
pub(crate) fn passes(tokens: usize, rows: usize, max_tokens: usize) -> impl Iterator<Item = Pass> {
    let first_selected = tokens - rows;
    (0..tokens).step_by(max_tokens).map(move |start| {
        let end = (start + max_tokens).min(tokens);
        let selected = end - first_selected.clamp(start, end);
        Pass { tokens: start..end, selected, first_row: start.saturating_sub(first_selected) }
    })
}

/// The sizes that calls are checked against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) capacity: usize,
    pub(crate) max_step_tokens: usize,
    pub(crate) max_logits: usize,
    pub(crate) min_positions: usize,
    pub(crate) vocabulary: usize,
}

impl Limits {
    /// Checks the options of a session against the program.
    pub(crate) fn new(program: &Program, options: &SessionOptions) -> Result<Limits, ExecError> {
        let SessionOptions { capacity, max_step_tokens, max_logits, min_positions } = *options;
        let sizes = [("capacity", capacity), ("max_step_tokens", max_step_tokens), ("max_logits", max_logits)];
        if let Some(&(what, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(ExecError::Zero { what });
        }
        let max_positions = program.max_positions.unwrap_or(u32::MAX);
        if capacity > max_positions as usize {
            return Err(ExecError::MaxPositions { capacity, max_positions });
        }
        // No call has more tokens or rows than the caches have positions.
        let (max_step_tokens, max_logits) = (max_step_tokens.min(capacity), max_logits.min(capacity));
        let vocabulary = program.vocabulary();
        Ok(Limits { capacity, max_step_tokens, max_logits, min_positions, vocabulary })
    }

    /// Checks a call at `position`; gives the rows of logits that it asks for.
    pub(crate) fn check(&self, tokens: &[u32], logits: Logits, position: usize) -> Result<usize, ExecError> {
        let Limits { capacity, max_logits, vocabulary, .. } = *self;
        if tokens.is_empty() {
            return Err(ExecError::NoTokens);
        }
        if tokens.len() > capacity - position {
            return Err(ExecError::Full { tokens: tokens.len(), position, capacity });
        }
        check_tokens(tokens, vocabulary)?;
        let rows = logits.count(tokens.len());
        if rows > max_logits {
            return Err(ExecError::LogitsRows { rows, max_logits });
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(tokens: usize, rows: usize, max_tokens: usize) -> Vec<(Range<usize>, usize, usize)> {
        passes(tokens, rows, max_tokens).map(|pass| (pass.tokens, pass.selected, pass.first_row)).collect()
    }

    #[test]
    fn probabilities_add_up() {
        let logits = [1.0, -2.0, 300.0, 299.0];
        let normalizer = log_sum_exp(&logits);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - normalizer).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert!((normalizer - 300.0 - (-1f64).exp().ln_1p()).abs() < 1e-12);
        assert!(log_sum_exp(&[0.0, f32::NAN]).is_nan());
    }

    #[test]
    fn calls_are_cut_into_passes() {
        assert_eq!(cut(3, 1, 8), [(0..3, 1, 0)]);
        assert_eq!(cut(8, 0, 8), [(0..8, 0, 0)]);
        assert_eq!(cut(10, 1, 4), [(0..4, 0, 0), (4..8, 0, 0), (8..10, 1, 0)]);
        assert_eq!(cut(10, 10, 4), [(0..4, 4, 0), (4..8, 4, 4), (8..10, 2, 8)]);
        assert_eq!(cut(10, 5, 4), [(0..4, 0, 0), (4..8, 3, 0), (8..10, 2, 3)]);
    }

    #[test]
    fn every_row_is_filled_once() {
        for tokens in 1..12 {
            for rows in 0..=tokens {
                for max_tokens in 1..13 {
                    let mut next = 0;
                    for pass in passes(tokens, rows, max_tokens) {
                        assert!(pass.selected == 0 || pass.first_row == next);
                        next += pass.selected;
                    }
                    assert_eq!(next, rows);
                }
            }
        }
    }
}
