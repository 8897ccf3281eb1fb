//! The probe: reads just the tensors that a decision needs, before anything is planned on them.
//!
//! Today one decision needs it: are a head and an embedding that are both stored one table? The comparison stops at the
//! first difference, so that a head of its own costs a few kilobytes.

use crate::elaborate::Elaborated;
use crate::ir::Values;
use crate::model::Checkpoint;
use crate::plan::{Finding, Tie};
use crate::source::{ReadTensorError, TensorReader};

/// First comparison, in bytes; doubled until [`LARGEST`].
const SMALLEST: u64 = 4096;
/// Largest comparison, in bytes.
const LARGEST: u64 = 1 << 20;

/// Finds out about every head that may be tied.
///
/// # Errors
/// When a tensor cannot be read.
pub fn probe(checkpoint: &Checkpoint, model: &Elaborated, reader: &TensorReader) -> Result<Vec<Tie>, ReadTensorError> {
    model
        .ties
        .iter()
        .map(|&candidate| {
            let param = |id: crate::ir::ParamId| &model.graph.params()[id.index()];
            let (head, table) = (param(candidate.head), param(candidate.table));
            let finding = match (&head.values, &table.values) {
                (Values::Stored(a), Values::Stored(b)) if head.shape == table.shape => {
                    let (a, b) = (checkpoint.tensor(a.tensor), checkpoint.tensor(b.tensor));
                    let equal = a.dtype == b.dtype && a.bytes == b.bytes && {
                        let (mut at, mut step) = (0, SMALLEST);
                        let (mut left, mut right) = (Vec::new(), Vec::new());
                        loop {
                            let end = a.bytes.min(at + step);
                            reader.read(a, at..end, &mut left)?;
                            reader.read(b, at..end, &mut right)?;
                            if left != right {
                                break false;
                            }
                            if end == a.bytes {
                                break true;
                            }
                            (at, step) = (end, (step * 2).min(LARGEST));
                        }
                    };
                    if equal { Finding::Equal } else { Finding::Different }
                }
                (Values::Tied(_), _) => Finding::NotStored,
                _ => Finding::Different,
            };
            Ok(Tie { candidate, finding })
        })
        .collect()
}
