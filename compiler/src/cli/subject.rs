//! What the verbs that look at a spec and a checkpoint have in common.

use std::path::{Path, PathBuf};

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use super::Failure;
use super::texts::{Disk, load_definition};
use crate::compile::{Input, define, load_specs};
use crate::elaborate::Elaborated;
use crate::model::Checkpoint;
use crate::spec::{Entry, Files, Spec};

pub(super) const MODEL_DEF: &str = "--model-def";
pub(super) const SET: &str = "--set";
pub(super) const STRICT: &str = "--strict";

/// Options about the model and the values of a spec.
#[derive(Debug, clap::Args)]
pub(super) struct Subject {
    /// Use this model definition in place of the shipped ones; FILE#NAME is one of several in a file.
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
    pub(super) fn definition(&self, sources: &mut Sources) -> Result<Option<Entry>, Failure> {
        self.model_def.as_deref().map(|path| load_definition(path, sources)).transpose()
    }

    /// The first of these options that is given.
    pub(super) fn given(&self, options: &[&str]) -> Option<&'static str> {
        [(MODEL_DEF, self.model_def.is_some()), (SET, !self.set.is_empty()), (STRICT, self.strict)]
            .into_iter()
            .find_map(|(name, given)| (given && options.contains(&name)).then_some(name))
    }

    /// Reads the definition, the checkpoint's headers, and evaluates the one on the other.
    pub(super) fn model(
        &self,
        checkpoint: &Checkpoint,
        sources: &mut Sources,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<Option<Elaborated>, Failure> {
        let definition = self.definition(sources)?;
        Ok(self.define(definition.as_ref(), checkpoint, sources, diagnostics))
    }

    /// Evaluates a definition, or the shipped one for it, on a checkpoint.
    pub(super) fn define(
        &self,
        definition: Option<&Entry>,
        checkpoint: &Checkpoint,
        sources: &mut Sources,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Elaborated> {
        let definition = definition.map(|entry| (entry, &Disk as &dyn Files));
        define(definition, checkpoint, self.strict, sources, diagnostics)
    }

    /// The specs that are asked for: all of a text when `all`.
    pub(super) fn specs(
        &self,
        entry: &Entry,
        all: bool,
        sources: &mut Sources,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<Spec> {
        load_specs(entry, all, &self.set, &Disk, sources, diagnostics)
    }

    /// What the stages take.
    pub(super) fn input<'a>(
        &'a self,
        spec: &'a Entry,
        model: Option<&'a Entry>,
        checkpoint: &'a Checkpoint,
    ) -> Input<'a> {
        let Subject { ref set, strict, .. } = *self;
        Input { spec, overrides: set, files: &Disk, model, checkpoint, strict, calibration: None }
    }
}

/// Reads the headers of a checkpoint.
pub(super) fn open_checkpoint(folder: &Path, sources: &mut Sources) -> Result<Checkpoint, Failure> {
    Checkpoint::open(folder).map_err(|diagnostics| Failure::Input(std::mem::take(sources), diagnostics))
}
