//! Packed weights, decoded, against the values that they were made from: those that are stored, with what was folded into
//! them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use lathe_kernels::formats::{Fit, Format, Matrix};
use lathe_kernels::rotations::Rotation;
use lathe_runtime::artifact::Artifact;
use lathe_runtime::program::Weight;

use super::distance::Distance;
use super::stored::Stored;
use super::{Comparison, VerifyError};
use crate::artifact::{Folds, Lock};
use crate::elaborate::Elaborated;
use crate::ir::{ParamId, Values, View};
use crate::lower::{Folded, Recipe, Source};
use crate::model::Checkpoint;
use crate::pack::evaluate::Evaluator;
use crate::plan::Encoding;

/// Bytes of a weight that are evaluated together, as f32.
const PIECE: u64 = 1 << 20;

/// A weight of the compiled model and what it was made from.
pub(super) struct Origin<'a> {
    pub(super) weight: &'a Weight,
    /// The parameter that it is; none of a weight that only the compiled model has.
    pub(super) param: Option<ParamId>,
    /// How its values are made; none of a matrix that activations are rotated by.
    recipe: Option<Recipe>,
}

/// Finds how every weight of the compiled model was made, in its order.
pub(super) fn origins<'a>(
    artifact: &'a Artifact,
    lock: &Lock,
    model: &Elaborated,
    checkpoint: &Checkpoint,
) -> Result<Vec<Origin<'a>>, VerifyError> {
    let params = model.graph.params();
    let ids: BTreeMap<&str, ParamId> =
        (0..).map(ParamId).zip(params).map(|(id, param)| (param.name.as_str(), id)).collect();
    let weights = &artifact.program.weights;
    let folded = lock.folds.as_ref().map(|folds| folds.recipes(weights, &lock.sources, checkpoint)).transpose()?;
    let origin = |(at, weight): (usize, &'a Weight)| {
        let param = ids.get(weight.name.as_str()).copied();
        if let Some(param) = param {
            check_shape(weight, &params[param.index()].shape)?;
        }
        let recipe = match (&folded, param) {
            (Some(recipes), _) => recipes[at].clone(),
            (None, Some(param)) => Some(as_stored(weight, view(param, model)?)),
            (None, None) => {
                return Err(VerifyError::UnknownWeight { weight: weight.name.clone(), model: model.name.clone() });
            }
        };
        Ok(Origin { weight, param, recipe })
    };
    weights.iter().enumerate().map(origin).collect()
}

fn check_shape(weight: &Weight, expected: &[u64]) -> Result<(), VerifyError> {
    let elements = expected.iter().fold(1_u64, |product, size| product.saturating_mul(*size));
    // Vectors of several heads are one.
    if weight.shape != expected && weight.shape != [elements] {
        let (weight, found, expected) = (weight.name.clone(), weight.shape.clone(), expected.to_vec());
        return Err(VerifyError::OtherShape { weight, found, expected });
    }
    Ok(())
}

/// The stored values of a parameter; those of the table for one that is tied to it.
fn view(param: ParamId, model: &Elaborated) -> Result<&View, VerifyError> {
    let params = model.graph.params();
    let mut entry = &params[param.index()];
    loop {
        match &entry.values {
            Values::Stored(view) => return Ok(view),
            Values::Tied(table) => entry = &params[table.index()],
            Values::Uniform | Values::Zeros | Values::Scale { .. } => {
                return Err(VerifyError::UnknownWeight { weight: entry.name.clone(), model: model.name.clone() });
            }
        }
    }
}

fn as_stored(weight: &Weight, view: &View) -> Recipe {
    let encoding = Encoding { format: Format::F32, fit: Fit::default() };
    let (name, shape, source) = (weight.name.clone(), weight.shape.clone(), Source::Stored(view.clone()));
    Recipe { name, shape, encoding, source, folded: Folded::default() }
}

/// The rotations of a compiled model. A matrix of the user is that of a weight.
pub(super) fn rotations(folds: &Folds, artifact: &Artifact) -> Result<Vec<Rotation>, VerifyError> {
    let packed = artifact.weights.matrices()?;
    let mut matrices: BTreeMap<String, Arc<[f32]>> = BTreeMap::new();
    for weight in artifact.program.rotations.iter().filter_map(lathe_runtime::program::Rotation::weight) {
        let matrix = &packed[weight.index()];
        let mut values = vec![0.0; matrix.rows() * matrix.cols()];
        for (row, values) in values.chunks_exact_mut(matrix.cols()).enumerate() {
            matrix.decode_row(row, values);
        }
        let mut hash = blake3::Hasher::new();
        for value in &values {
            hash.update(&value.to_le_bytes());
        }
        matrices.insert(hash.finalize().to_string(), values.into());
    }
    Ok(folds.rotations(|hash| matrices.get(hash).cloned())?)
}

/// Checks that heads that read a table are stored as they were, which is with the bytes of the table: they are no weights
/// of the compiled model.
pub(super) fn check_heads(
    comparison: &Comparison<'_>,
    origins: &[Origin<'_>],
    stored: &Stored<'_>,
) -> Result<(), VerifyError> {
    let Comparison { checkpoint, original, .. } = *comparison;
    let has = |param: ParamId| origins.iter().any(|origin| origin.param == Some(param));
    for tie in &original.model.ties {
        let head = &original.model.graph.params()[tie.head.index()];
        let Values::Stored(head) = &head.values else { continue };
        if !has(tie.head) && has(tie.table) {
            let table = view(tie.table, &original.model)?;
            if stored.bytes(head)? != stored.bytes(table)? {
                return Err(VerifyError::OtherCheckpoint { tensor: checkpoint.tensor(head.tensor).name.clone() });
            }
        }
    }
    Ok(())
}

/// Tensors of the compiled model whose bytes are not those that `lathe.lock` says were written.
pub(super) fn changed(artifact: &Artifact, lock: &Lock) -> Vec<String> {
    let written: BTreeMap<&str, &str> =
        lock.outputs.iter().map(|digest| (digest.name.as_str(), digest.blake3.as_str())).collect();
    let weights = artifact.program.weights.iter().zip(artifact.weights.places());
    let tensors =
        weights.flat_map(|(weight, places)| weight.stored_tensors().unwrap_or_default().into_iter().zip(places));
    let changed = tensors.filter(|(tensor, place)| {
        written.get(tensor.name.as_str()).is_none_or(|written| blake3::hash(place.bytes).to_hex().as_str() != *written)
    });
    changed.map(|(tensor, _)| tensor.name).collect()
}

/// How far each weight is from the values that it was made from, in the order of the weights. What is stored must be what the
/// model was compiled from.
pub(super) fn distances(
    comparison: &Comparison<'_>,
    origins: &[Origin<'_>],
    evaluator: Evaluator<'_>,
) -> Result<Vec<Distance>, VerifyError> {
    let packed = comparison.artifact.weights.matrices()?;
    let read = comparison.lock.sources.iter().map(|source| (source.name.as_str(), source.blake3.as_str())).collect();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(origin), Some(packed)) = (origins.get(at), packed.get(at)) else { break };
            let distance = match &origin.recipe {
                Some(recipe) => distance(recipe, packed, evaluator, &read),
                None => Ok(Distance::default()),
            };
            done.push((at, distance.inspect_err(|_| stop.store(true, Ordering::Relaxed))?));
        }
        Ok(done)
    };
    let threads = comparison.backend.info().threads.min(origins.len()).max(1);
    let results: Vec<Result<_, VerifyError>> = thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, worker).ok()).collect();
        // Work is handed out by the counter, so this thread does what others that could not be started would have done.
        let own = worker();
        let join = |handle: thread::ScopedJoinHandle<'_, _>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        std::iter::once(own).chain(others.into_iter().map(join)).collect()
    });
    let mut done = Vec::with_capacity(origins.len());
    for result in results {
        done.extend(result?);
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, distance)| distance).collect())
}

/// How far a weight is from its recipe. `read` are the digests of what went into the compiled model.
fn distance(
    recipe: &Recipe,
    packed: &Matrix<'_>,
    evaluator: Evaluator<'_>,
    read: &BTreeMap<&str, &str>,
) -> Result<Distance, VerifyError> {
    let mut evaluation = evaluator.open(recipe)?;
    let columns = packed.cols();
    let step = evaluation.step() * (PIECE / (4 * columns as u64 * evaluation.step())).max(1);
    let (mut expected, mut found): (Vec<f32>, _) = (Vec::new(), vec![0.0; columns]);
    let mut distance = Distance::default();
    let mut rows: Range<u64> = 0..0;
    while rows.end < evaluation.rows() {
        rows = rows.end..evaluation.rows().min(rows.end + step);
        evaluation.evaluate(rows.clone(), &mut expected)?;
        for (row, expected) in (rows.start as usize..).zip(expected.chunks_exact(columns)) {
            packed.decode_row(row, &mut found);
            distance.add(expected, &found);
        }
    }
    for source in evaluation.sources() {
        match read.get(source.name.as_str()) {
            Some(blake3) if *blake3 == source.blake3 => {}
            Some(_) => return Err(VerifyError::OtherCheckpoint { tensor: source.name }),
            None => return Err(VerifyError::OtherLock { what: format!("what tensor `{}` was", source.name) }),
        }
    }
    Ok(distance)
}
