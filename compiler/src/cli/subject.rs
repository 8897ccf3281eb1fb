//! What the verbs that look at a spec and a checkpoint have in common.

use std::path::{Path, PathBuf};

use lathe_grammar::span::{SourceId, Sources};

use super::Failure;
use super::texts::{Disk, load_file};
use crate::compile::Input;
use crate::model::Checkpoint;
use crate::spec::Entry;

/// Options about the model and the values of a spec.
#[derive(Debug, clap::Args)]
pub(super) struct Subject {
    /// Use this model definition in place of the shipped ones.
    #[arg(long, value_name = "FILE")]
    model_def: Option<PathBuf>,
    /// Replace a `let` or a setting of the spec, as in body.group=64 or "head=int8(per: channel)"; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Treat keys of config.json that nobody reads as errors.
    #[arg(long)]
    strict: bool,
}

impl Subject {
    /// Reads the model definition, when there is one.
    pub(super) fn definition(&self, sources: &mut Sources) -> Result<Option<SourceId>, Failure> {
        self.model_def.as_deref().map(|path| load_file(path, sources)).transpose()
    }

    /// The values that replace those of the spec.
    pub(super) fn overrides(&self) -> &[String] {
        &self.set
    }

    /// Whether unread keys are errors.
    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }

    /// What the stages take.
    pub(super) fn input<'a>(
        &'a self,
        spec: &'a Entry,
        model: Option<SourceId>,
        checkpoint: &'a Checkpoint,
    ) -> Input<'a> {
        Input { spec, overrides: &self.set, files: &Disk, model, checkpoint, strict: self.strict }
    }
}

/// Reads the headers of a checkpoint.
pub(super) fn open_checkpoint(folder: &Path, sources: &mut Sources) -> Result<Checkpoint, Failure> {
    Checkpoint::open(folder).map_err(|diagnostics| Failure::Input(std::mem::take(sources), diagnostics))
}
