//! A model and the device that it runs on, as every verb opens them.

use std::path::Path;

use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::{self, Backend, DeviceChoice, Session, within};
use lathe_runtime::exec::SessionOptions;
use lathe_runtime::tokenizer::Tokenizer;

use super::failure::Failure;

/// Where to run.
#[derive(Debug)]
pub(crate) struct MachineOptions {
    pub(crate) device: DeviceChoice,
    pub(crate) threads: usize,
}

/// An open model.
pub(crate) struct Model {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) artifact: Artifact,
}

impl Model {
    /// Opens the device, then the model.
    pub(crate) fn open(folder: &Path, machine: &MachineOptions) -> Result<Model, Failure> {
        let backend = backend::open(machine.device, machine.threads)?;
        Ok(Model { backend, artifact: Artifact::open(folder)? })
    }

    /// The tokenizer, which `purpose` needs.
    pub(crate) fn tokenizer(&self, purpose: &str) -> Result<Tokenizer, Failure> {
        let Some(path) = self.artifact.tokenizer_path() else {
            let folder = self.artifact.folder.display();
            return Err(Failure::Input(format!("{folder} has no tokenizer.json, which {purpose} needs")));
        };
        Ok(Tokenizer::open(&path)?)
    }

    /// Largest number of positions that the model takes.
    pub(crate) fn max_positions(&self) -> usize {
        self.artifact.program.max_positions.map_or(usize::MAX, |positions| positions as usize)
    }

    /// Runs `work` on a new session, within the device.
    pub(crate) fn with_session<T: Send>(
        &self,
        options: &SessionOptions,
        work: impl FnOnce(&mut dyn Session) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let weights = self.artifact.weights.matrices()?;
        let mut session = self.backend.session(&self.artifact.program, &weights, options)?;
        within(&*self.backend, || work(&mut *session))
    }
}

/// `count` in `seconds`; `None` where that says nothing.
pub(crate) fn rate(count: usize, seconds: f64) -> Option<f64> {
    (count > 0 && seconds > 0.0).then(|| count as f64 / seconds)
}

/// A rate for people.
pub(crate) fn shown_rate(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"))
}
