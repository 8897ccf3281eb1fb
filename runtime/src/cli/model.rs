//! A model and the device that it runs on, as every verb opens them.

use std::path::{Path, PathBuf};

use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::{self, Backend, DeviceChoice, Opened, Session, within};
use lathe_runtime::exec::SessionOptions;
use lathe_runtime::tokenizer::Tokenizer;

use super::failure::Failure;
use super::note;

/// Where to run.
#[derive(Debug)]
pub(crate) struct MachineOptions {
    pub(crate) device: DeviceChoice,
    pub(crate) threads: usize,
    /// Folder for kernels that are compiled for a CUDA device.
    pub(crate) kernels: Option<PathBuf>,
}

/// An open model.
pub(crate) struct Model {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) artifact: Artifact,
}

impl Model {
    /// Opens the device, then the model; the model first where it decides about the device.
    pub(crate) fn open(folder: &Path, machine: &MachineOptions) -> Result<Model, Failure> {
        let MachineOptions { device, threads, ref kernels } = *machine;
        if device != DeviceChoice::Auto {
            let backend = backend::open(device, threads, kernels.as_deref())?;
            return Ok(Model { backend, artifact: Artifact::open(folder)? });
        }
        let artifact = Artifact::open(folder)?;
        let Opened { backend, why } = backend::open_for(&artifact.program, device, threads, kernels.as_deref())?;
        if let Some(why) = why {
            note(&format!("running on {}: {why}", backend.info().name));
        }
        Ok(Model { backend, artifact })
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

    /// Positions that a session can have: what the model takes, and what the memory of the device has room for where that
    /// is a bound.
    pub(crate) fn most_positions(&self) -> Result<MostPositions, Failure> {
        let longest = self.backend.longest_context(&self.artifact.program)?;
        Ok(MostPositions { of_model: self.max_positions(), of_device: longest })
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

/// What bounds the positions of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MostPositions {
    of_model: usize,
    of_device: Option<usize>,
}

impl MostPositions {
    /// As many as there can be; on a device whose memory does not bound them, no more than `otherwise`.
    pub(crate) fn at_most(self, otherwise: usize) -> usize {
        self.of_model.min(self.of_device.unwrap_or(otherwise))
    }

    /// Why there are no more than `capacity`.
    pub(crate) fn reason(self, capacity: usize) -> String {
        if capacity < self.of_model {
            format!("the device has room for {capacity} positions")
        } else {
            format!("the model was made for {capacity} positions")
        }
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
