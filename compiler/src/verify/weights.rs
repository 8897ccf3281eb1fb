//! Packed weights, decoded, against the stored values that they were made from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use lathe_kernels::formats::Matrix;
use lathe_runtime::artifact::Artifact;
use lathe_runtime::program::Weight;

use super::distance::Distance;
use super::stored::Stored;
use super::{Comparison, VerifyError};
use crate::artifact::Lock;
use crate::elaborate::Elaborated;
use crate::ir::{ParamId, Values, View};

/// A weight of the compiled model and what it was made from.
pub(super) struct Origin<'a> {
    pub(super) weight: &'a Weight,
    /// The parameter that it is.
    pub(super) param: ParamId,
    /// Its stored values; those of the table for a parameter that is tied to one.
    view: &'a View,
}

/// Finds the parameter behind every weight of the compiled model, in its order.
pub(super) fn origins<'a>(weights: &'a [Weight], model: &'a Elaborated) -> Result<Vec<Origin<'a>>, VerifyError> {
    let params = model.graph.params();
    let ids: BTreeMap<&str, ParamId> =
        (0..).map(ParamId).zip(params).map(|(id, param)| (param.name.as_str(), id)).collect();
    let origin = |weight: &'a Weight| {
        let unknown = || VerifyError::UnknownWeight { weight: weight.name.clone(), model: model.name.clone() };
        let param = *ids.get(weight.name.as_str()).ok_or_else(unknown)?;
        let mut entry = &params[param.index()];
        let elements = entry.shape.iter().fold(1_u64, |product, size| product.saturating_mul(*size));
        // Vectors of several heads are one.
        if weight.shape != entry.shape && weight.shape != [elements] {
            let (weight, found, expected) = (weight.name.clone(), weight.shape.clone(), entry.shape.clone());
            return Err(VerifyError::OtherShape { weight, found, expected });
        }
        let view = loop {
            match &entry.values {
                Values::Stored(view) => break view,
                Values::Tied(table) => entry = &params[table.index()],
                Values::Uniform | Values::Zeros | Values::Scale { .. } => return Err(unknown()),
            }
        };
        Ok(Origin { weight, param, view })
    };
    weights.iter().map(origin).collect()
}

/// Checks that heads that read a table are stored as they were, which is with the bytes of the table: they are no weights
/// of the compiled model.
pub(super) fn check_heads(
    comparison: &Comparison<'_>,
    origins: &[Origin<'_>],
    stored: &Stored<'_>,
) -> Result<(), VerifyError> {
    let Comparison { checkpoint, original, lock, .. } = *comparison;
    let digest = |param: ParamId| {
        let at = origins.iter().position(|origin| origin.param == param)?;
        lock.sources.get(at)
    };
    for tie in &original.model.ties {
        let head = &original.model.graph.params()[tie.head.index()];
        if let (None, Some(table), Values::Stored(view)) = (digest(tie.head), digest(tie.table), &head.values)
            && blake3::hash(&stored.bytes(view)?).to_hex().as_str() != table.blake3
        {
            return Err(VerifyError::OtherCheckpoint { tensor: checkpoint.tensor(view.tensor).name.clone() });
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

/// How far each weight is from its stored values, in the order of the weights. What is stored must be what the model was
/// compiled from.
pub(super) fn distances(
    comparison: &Comparison<'_>,
    origins: &[Origin<'_>],
    stored: &Stored<'_>,
    lock: &Lock,
) -> Result<Vec<Distance>, VerifyError> {
    let packed = comparison.artifact.weights.matrices()?;
    if lock.sources.len() != origins.len() {
        return Err(VerifyError::OtherLock { weights: origins.len(), sources: lock.sources.len() });
    }
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || {
        let (mut done, mut rows) = (Vec::new(), Rows::default());
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(origin), Some(packed), Some(source)) = (origins.get(at), packed.get(at), lock.sources.get(at))
            else {
                break;
            };
            let distance = stored.bytes(origin.view).and_then(|bytes| {
                if blake3::hash(&bytes).to_hex().as_str() != source.blake3 {
                    return Err(VerifyError::OtherCheckpoint { tensor: source.name.clone() });
                }
                let shape = (packed.rows(), packed.cols());
                let original = Matrix::new(stored.format(origin.view), shape.0, shape.1, &[&bytes]);
                let original = original.expect("invariant: a view has as many elements as its parameter");
                Ok(rows.distance(&original, packed))
            });
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

/// A row of both.
#[derive(Default)]
struct Rows {
    original: Vec<f32>,
    packed: Vec<f32>,
}

impl Rows {
    /// Of two matrices of one shape.
    fn distance(&mut self, original: &Matrix<'_>, packed: &Matrix<'_>) -> Distance {
        let mut distance = Distance::default();
        self.original.resize(packed.cols(), 0.0);
        self.packed.resize(packed.cols(), 0.0);
        for row in 0..packed.rows() {
            original.decode_row(row, &mut self.original);
            packed.decode_row(row, &mut self.packed);
            distance.add(&self.original, &self.packed);
        }
        distance
    }
}
