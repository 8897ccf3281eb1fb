//! The probe: reads just the tensors that a decision needs, before anything is planned on them.
//!
//! Today one decision needs it: are a head and an embedding that are both stored one table? The comparison stops at the
//! first difference, so that a head of its own costs a few kilobytes.

use crate::elaborate::{Elaborated, TieCandidate};
use crate::ir::{ParamId, Values, View};
use crate::model::{Checkpoint, Tensor};
use crate::plan::Finding;
use crate::source::{ReadTensorError, TensorReader};

/// First comparison, in bytes; doubled until [`LARGEST`]. Heads that are no table almost always differ in it, and the
/// reader keeps it, so that such a head is read once.
const SMALLEST: u64 = 4096;
/// Largest comparison, in bytes.
const LARGEST: u64 = 1 << 20;

/// Finds out about every head that may be tied.
///
/// # Errors
/// When a tensor cannot be read.
pub fn probe(
    checkpoint: &Checkpoint,
    model: &Elaborated,
    reader: &mut TensorReader,
) -> Result<Vec<Finding>, ReadTensorError> {
    let param = |id: ParamId| &model.graph.params()[id.index()];
    let find = |reader: &mut TensorReader, candidate: TieCandidate| -> Result<Finding, ReadTensorError> {
        let (head, table) = (param(candidate.head), param(candidate.table));
        match (&head.values, &table.values) {
            (Values::Tied(_), _) => Ok(Finding::NotStored),
            (Values::Stored(a), Values::Stored(b)) if head.shape == table.shape => {
                let equal = equal(reader, (checkpoint.tensor(a.tensor), a), (checkpoint.tensor(b.tensor), b))?;
                Ok(if equal { Finding::Equal } else { Finding::Different })
            }
            _ => Ok(Finding::Different),
        }
    };
    model.ties.iter().map(|&candidate| find(reader, candidate)).collect()
}

/// Whether two views hold the same bytes in the same dtype, in their order.
fn equal(reader: &mut TensorReader, a: (&Tensor, &View), b: (&Tensor, &View)) -> Result<bool, ReadTensorError> {
    let elements = a.1.elements();
    let Some(dtype) = a.0.stored_dtype().filter(|_| a.0.dtype == b.0.dtype && elements == b.1.elements()) else {
        return Ok(false);
    };
    let width = dtype.bytes();
    let (mut left, mut right, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    let (mut at, mut step) = (0, SMALLEST / width);
    while at < elements {
        let end = elements.min(at + step);
        reader.read_view(a, width, at..end, (&mut scratch, LARGEST), &mut left)?;
        reader.read_view(b, width, at..end, (&mut scratch, LARGEST), &mut right)?;
        let same = left == right;
        if at == 0 {
            for ((tensor, view), bytes) in [(a, &mut left), (b, &mut right)] {
                if view.range().is_some_and(|range| range.start == 0) {
                    reader.keep(tensor, std::mem::take(bytes));
                }
            }
        }
        if !same {
            return Ok(false);
        }
        (at, step) = (end, (step * 2).min(LARGEST / width));
    }
    Ok(true)
}
