//! The compiler's stages up to packing, called without a process.

use std::path::Path;

use lathe_compiler::compile::{CompileError, Input, Prepared, prepare};
use lathe_compiler::model::Checkpoint;
use lathe_compiler::passes;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

/// The texts of a compilation.
pub(crate) struct Texts {
    /// Every text, those of the library too once it has run.
    pub(crate) sources: Sources,
    spec: Entry,
    model: Option<Entry>,
}

impl Texts {
    /// A spec by its library name.
    pub(crate) fn library(spec: &str) -> Self {
        let entry = lathe_specs::spec(spec).unwrap_or_else(|| panic!("no spec {spec}"));
        let mut texts = Self::spec(entry.path, entry.text);
        texts.spec.place = Place::Library(entry.path.to_owned());
        texts
    }

    /// A spec by its text.
    pub(crate) fn spec(name: &str, text: &str) -> Self {
        let mut sources = Sources::new();
        let source = sources.add(name, text);
        let spec = Entry { source, place: Place::File(name.into()), name: None };
        Texts { sources, spec, model: None }
    }

    /// The spec that keeps everything, with the definition in a file or the shipped one.
    pub(crate) fn keep(definition: Option<&Path>) -> Self {
        let texts = Self::library("keep");
        match definition {
            Some(path) => texts.with_model(super::name(path), &super::files::read_text(path)),
            None => texts,
        }
    }

    /// With a model definition of its own; `FILE#NAME` is one of several in a file.
    pub(crate) fn with_model(mut self, name: &str, text: &str) -> Self {
        let (file, model) = name.split_once('#').map_or((name, None), |(file, model)| (file, Some(model.to_owned())));
        let source = self.sources.add(file, text);
        self.model = Some(Entry { source, place: Place::File(file.into()), name: model });
        self
    }

    /// Runs every stage up to packing.
    pub(crate) fn prepare(&mut self, checkpoint: &Checkpoint) -> Result<Prepared, CompileError> {
        let Texts { sources, spec, model } = self;
        let input = Input {
            spec,
            overrides: &[],
            files: &NoFiles,
            model: model.as_ref(),
            checkpoint,
            strict: false,
            calibration: None,
        };
        prepare(input, sources, &passes::Options::default())
    }

    /// Runs every stage up to packing, which must succeed.
    #[track_caller]
    pub(crate) fn prepared(mut self, checkpoint: &Checkpoint) -> Prepared {
        match self.prepare(checkpoint) {
            Ok(prepared) => prepared,
            Err(error) => panic!("{error:#?}"),
        }
    }
}

/// A checkpoint that is sound.
#[track_caller]
pub(crate) fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder).unwrap_or_else(|diagnostics| panic!("{}: {diagnostics:#?}", folder.display()))
}

/// The diagnostics of a compilation that ended with some.
pub(crate) fn diagnostics(error: CompileError) -> Vec<Diagnostic> {
    match error {
        CompileError::Diagnostics(diagnostics) => diagnostics,
        other => panic!("expected diagnostics, found {other}"),
    }
}
