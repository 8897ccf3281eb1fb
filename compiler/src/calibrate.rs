//! Scales that are measured: how large activations are, channel by channel, on a text.
//!
//! For an activation x that weights W read, channel j is divided by s_j = max|x_j|^α / max|W_j|^(1−α) and the column j of
//! each W multiplied by it (`SmoothQuant`, Xiao et al. 2023, equation 4). The maxima are over the tokens of the text, as the
//! original model has them, and over all weights that read x, as they are stored. Where one of the two is 0, or s_j is no
//! number, s_j is 1.
//!
//! Kernels of different instruction sets round differently, and so do maxima. Each s_j is therefore rounded to
//! [`DIGITS`] significant digits, far coarser than what f32 loses over a model, so that two machines find the same scales.
//! They need not: a quotient that lies next to the middle between two roundings may go either way. `--calibrate` is the one
//! part of a compilation that does not promise the same bytes on every machine. On one instruction set it gives the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use lathe_kernels::formats::{Fit, Format};
use lathe_runtime::backend::{Backend, StepValues};
use lathe_runtime::exec::{ExecError, Logits, SessionOptions};
use lathe_runtime::program::BufferId;

use crate::elaborate::Elaborated;
use crate::frames::Measured;
use crate::ir::{ParamId, ScaleId, Values};
use crate::lower::{Folded, LowerError, Recipe, Source, lower};
use crate::model::Checkpoint;
use crate::pack::evaluate::{EvaluateError, Evaluator};
use crate::passes::{self, Pass, PassError};
use crate::plan::{Encoding, Plan, matrix};
use crate::resolve::kept;
use crate::source::TensorReader;
use crate::verify::VerifyError;
use crate::verify::stored::{Stored, matrices};

/// Tokens that are read, unless told otherwise.
pub const TOKENS: u32 = 2048;

/// Tokens of a window, each of which is read from an empty cache.
pub const WINDOW: usize = 256;

/// Significant digits of a scale.
pub const DIGITS: usize = 3;

/// Tokens that go through the model together.
const CHUNK: usize = 64;

/// Bytes of a weight that are looked at together, as f32.
const PIECE: u64 = 1 << 20;

/// Why scales cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// A pass broke the graph of the original: our bug.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The graph of the original cannot be lowered.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The stored weights cannot be had.
    #[error(transparent)]
    Stored(#[from] VerifyError),
    /// A weight cannot be read.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The original cannot be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// What scales are measured on.
#[derive(Clone, Copy)]
pub struct Calibration<'a> {
    /// The tokens to read.
    pub tokens: &'a [u32],
    /// Where the model runs.
    pub backend: &'a dyn Backend,
}

impl Calibration<'_> {
    /// BLAKE3, in hexadecimal, of the tokens, 4 bytes each with the lowest first.
    pub fn blake3(&self) -> String {
        let mut hash = blake3::Hasher::new();
        self.tokens.iter().for_each(|token| {
            hash.update(&token.to_le_bytes());
        });
        hash.finalize().to_string()
    }
}

/// Scales and their values.
pub type Scales = Vec<(ScaleId, Arc<[f64]>)>;

/// Measures the scales that a plan asks for: the original model reads the tokens from the checkpoint's own files.
///
/// # Errors
/// When something cannot be read or run, or the model does not know a token.
pub fn measure(
    plan: &Plan,
    model: &Elaborated,
    checkpoint: &Checkpoint,
    reader: &TensorReader,
    calibration: Calibration<'_>,
) -> Result<Scales, CalibrateError> {
    let measured = &plan.frames.measured;
    let activations = activations(measured, plan, model, (checkpoint, reader), calibration)?;
    let evaluator = Evaluator { checkpoint, reader, rotations: &[], flip: None, interrupted: None };
    let scale = |(request, activations): (&Measured, Vec<f32>)| {
        let mut weights = vec![0_f32; request.width as usize];
        for &reader in &request.readers {
            largest_of_weight(model, reader, evaluator, request, &mut weights)?;
        }
        let alpha = request.alpha.into();
        let scales = activations.iter().zip(&weights).map(|(&x, &w)| scale(x.into(), w.into(), alpha)).collect();
        Ok((request.id, scales))
    };
    measured.iter().zip(activations).map(scale).collect()
}

/// s of one channel from the maxima of |x| and |w|.
fn scale(activation: f64, weight: f64, alpha: f64) -> f64 {
    let scale = libm::pow(activation, alpha) / libm::pow(weight, 1.0 - alpha);
    let usable = activation > 0.0 && weight > 0.0 && scale.is_normal();
    // Rounding in decimals is exact, and what it gives is read back as it is.
    let rounded = format!("{scale:.*e}", DIGITS - 1).parse().ok();
    rounded.filter(|_| usable).unwrap_or(1.0)
}

/// The largest |x| of each channel, for each request.
fn activations(
    measured: &[Measured],
    plan: &Plan,
    model: &Elaborated,
    (checkpoint, reader): (&Checkpoint, &TensorReader),
    calibration: Calibration<'_>,
) -> Result<Vec<Vec<f32>>, CalibrateError> {
    let mut graph = model.graph.clone();
    // The checkpoint's files are read as they are, whatever its weights become.
    let encodings = graph.params().iter().map(|param| kept(param, model, checkpoint)).collect();
    let plan = &Plan { encodings, ..plan.clone() };
    // Passes that leave each operation a step of its own.
    let is_plain = |pass: &&Pass| ["tie", "select_rows"].contains(&pass.name);
    let passes: Vec<Pass> = passes::PIPELINE.iter().filter(is_plain).copied().collect();
    passes::run_passes(&passes, &mut graph, plan, &passes::Options::default())?;
    let lowered = lower(&graph, plan, &model.name, model.max_positions)?;
    let program = &lowered.program;
    let mut largest: Vec<Vec<f32>> = measured.iter().map(|request| vec![0.0; request.width as usize]).collect();
    let mut watched: BTreeMap<BufferId, Vec<usize>> = BTreeMap::new();
    for (index, request) in measured.iter().enumerate() {
        let Some(&buffer) = lowered.buffers.get(&request.node) else {
            return Err(LowerError::Invalid { reason: "expected a step for each node that is measured" }.into());
        };
        watched.entry(buffer).or_default().push(index);
    }

    let stored = Stored::open(checkpoint, reader)?;
    let weights = stored.weights(&lowered.recipes)?;
    let window = program.max_positions.map_or(WINDOW, |positions| WINDOW.min(positions as usize));
    let chunk = CHUNK.min(window);
    let options = SessionOptions { capacity: window, max_step_tokens: chunk, max_logits: chunk, min_positions: window };
    let mut session = calibration.backend.session(program, &matrices(program, &weights), &options)?;
    for window in calibration.tokens.chunks(window) {
        session.truncate(0);
        for tokens in window.chunks(chunk) {
            let mut steps = session.steps(tokens, Logits::All)?;
            while let Some(output) = steps.next()? {
                let requests = watched.get(&program.steps[output.step].op.out());
                let (Some(requests), StepValues::Real(values)) = (requests, output.values) else { continue };
                for &request in requests {
                    let largest = &mut largest[request];
                    for row in values.chunks(largest.len()) {
                        largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(value.abs()));
                    }
                }
            }
        }
    }
    Ok(largest)
}

/// The largest |w| of each channel of a weight that reads the scaled result, where that is larger than what was found.
fn largest_of_weight(
    model: &Elaborated,
    param: ParamId,
    evaluator: Evaluator<'_>,
    request: &Measured,
    largest: &mut [f32],
) -> Result<(), CalibrateError> {
    let mut entry = &model.graph.params()[param.index()];
    while let Values::Tied(table) = entry.values {
        entry = &model.graph.params()[table.index()];
    }
    let Values::Stored(view) = &entry.values else {
        return Err(LowerError::Invalid { reason: "expected stored values where a scale is measured" }.into());
    };
    let (name, shape, source) = (entry.name.clone(), entry.shape.clone(), Source::Stored(view.clone()));
    let encoding = Encoding { format: Format::F32, fit: Fit::Absmax };
    let recipe = Recipe { name, shape, encoding, source, folded: Folded::default() };
    let mut evaluation = evaluator.open(&recipe)?;
    let (rows, columns) = matrix(&entry.shape);
    let channel = |column: usize| match request.grouped {
        Some((head_dim, times)) => {
            let (head_dim, times) = (head_dim as usize, times as usize);
            column / head_dim / times * head_dim + column % head_dim
        }
        None => column % largest.len(),
    };
    let channels: Vec<usize> = (0..columns as usize).map(channel).collect();
    let step = (PIECE / (4 * columns)).max(1);
    let mut values: Vec<f32> = Vec::new();
    let mut at = 0;
    while at < rows {
        let next = rows.min(at + step);
        evaluation.evaluate(at..next, &mut values)?;
        for row in values.chunks_exact(columns as usize) {
            for (&channel, value) in channels.iter().zip(row) {
                largest[channel] = largest[channel].max(value.abs());
            }
        }
        at = next;
    }
    Ok(())
}
