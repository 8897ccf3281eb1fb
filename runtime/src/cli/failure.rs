//! How a command can end, and whose fault it is.

use std::io;

use lathe_runtime::artifact::ArtifactError;
use lathe_runtime::backend::DeviceError;
use lathe_runtime::exec::ExecError;
use lathe_runtime::sample::SampleError;
use lathe_runtime::template::TemplateError;
use lathe_runtime::tokenizer::TokenizerError;
use lathe_runtime::weights::{WeightsError, WriteError};

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The model, the text or the tokens are at fault.
    Input(String),
    /// It could not run: usage, files, device, memory.
    Run(String),
    /// The reader of the results has had enough.
    Closed,
}

impl Failure {
    fn new(is_input_fault: bool, error: &dyn std::error::Error) -> Failure {
        if is_input_fault { Failure::Input(error.to_string()) } else { Failure::Run(error.to_string()) }
    }
}

/// Writing results failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Run(format!("cannot write the results: {error}")),
        }
    }
}

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Self {
        Failure::new(error.is_input_fault(), &error)
    }
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Self {
        Failure::new(error.is_input_fault(), &error)
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        Failure::new(error.is_input_fault(), &error)
    }
}

impl From<SampleError> for Failure {
    fn from(error: SampleError) -> Self {
        Failure::new(!matches!(error, SampleError::Option { .. }), &error)
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Failure::new(false, &error)
    }
}

impl From<TokenizerError> for Failure {
    fn from(error: TokenizerError) -> Self {
        Failure::new(true, &error)
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Failure::new(error.is_input_fault(), &error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Failure::new(false, &error)
    }
}
