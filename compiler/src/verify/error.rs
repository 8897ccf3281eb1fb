//! Why two models cannot be compared.

use std::io;
use std::path::PathBuf;

use lathe_runtime::exec::ExecError;
use lathe_runtime::weights::WeightsError;

use crate::artifact::FoldsError;
use crate::pack::evaluate::EvaluateError;
use crate::source::ReadTensorError;

/// Why two models cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The compiled model was made from other values.
    #[error("tensor `{tensor}` has other values than when the model was compiled")]
    OtherCheckpoint {
        /// The stored tensor, with the weight that it was for where that is a part of it.
        tensor: String,
    },
    /// A weight that no parameter of the model is.
    #[error("its weight `{weight}` is no parameter of model {model}")]
    UnknownWeight {
        /// The weight.
        weight: String,
        /// Name of the model definition.
        model: String,
    },
    /// A weight of another shape than its parameter.
    #[error("its weight `{weight}` has shape {found:?}, in the checkpoint {expected:?}")]
    OtherShape {
        /// The weight.
        weight: String,
        /// Its shape.
        found: Vec<u64>,
        /// That of the parameter.
        expected: Vec<u64>,
    },
    /// Logits that nothing can be said of.
    #[error("its logits have another shape")]
    OtherLogits,
    /// A lock of another program.
    #[error("its lock file does not say {what}")]
    OtherLock {
        /// What is missing.
        what: String,
    },
    /// A lock that refers to what is not there.
    #[error(transparent)]
    Folds(#[from] FoldsError),
    /// A weight that cannot be made again.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Not even one window of tokens.
    #[error("expected at least {} tokens, found {tokens}", (*window).max(2))]
    TooShort {
        /// How many there are.
        tokens: usize,
        /// Tokens of a window.
        window: usize,
    },
    /// A weight file that cannot be mapped.
    #[error("cannot map {}: {source}", file.display())]
    Map {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A tensor whose elements have to be put in another order, for which there is no memory.
    #[error("cannot allocate {bytes} bytes for tensor `{tensor}`")]
    Memory {
        /// The tensor.
        tensor: String,
        /// How many bytes.
        bytes: u64,
    },
    /// A tensor that cannot be read.
    #[error(transparent)]
    Read(#[from] ReadTensorError),
    /// Weights of the compiled model that cannot be had.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model that cannot be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
}
