//! Model definitions as they are evaluated: loaded, and joined with what they extend.

mod extends;

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::ast::{DeclKind, File, ItemKind, Model};
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::span::{SourceId, Sources, Spanned};

use crate::elaborate::{Fit, fit};
use crate::model::Checkpoint;
use crate::texts::{Entry, Files, Finder, MODELS, NoFiles, Place, report_chain, twice, with_bases};

/// Loads the definition that was asked for, or every definition of its text when `all`. Those that come back extend
/// nothing any more. Mistakes are added to `diagnostics`; a definition whose base is not there does not come back.
pub fn load(
    entry: &Entry,
    all: bool,
    sources: &mut Sources,
    files: &dyn Files,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Model> {
    let place = entry.place.normal();
    let finder = Finder::new(&MODELS, files, &place);
    let mut loader = Loader { sources, finder, texts: BTreeMap::new(), read: BTreeMap::new(), diagnostics };
    loader.read_text(entry.source, place);
    let Some(file) = &loader.read[&entry.source].file else { return Vec::new() };
    let models: Vec<&Model> = file.models().collect();
    let chosen = loader.finder.choose(entry, all, &models, file.version.span, loader.sources, loader.diagnostics);
    chosen.into_iter().filter_map(|model| loader.with_bases(entry.source, model)).collect()
}

/// The shipped definition that lists the checkpoint's architecture.
pub(crate) fn shipped(
    sources: &mut Sources,
    checkpoint: &Checkpoint,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Model> {
    let wanted = checkpoint.config.architectures();
    let mut known = BTreeSet::new();
    // A text that describes an architecture names it, and mostly no other does: few are parsed where one is found.
    let named = |text: &&lathe_specs::Entry| wanted.iter().any(|wanted| text.text.contains(wanted));
    let (first, others): (Vec<_>, Vec<_>) = lathe_specs::MODELS.iter().partition(named);
    for text in first.into_iter().chain(others) {
        let entry = library(text, sources);
        let file = lathe_grammar::parse(sources, entry.source).file;
        let names: Vec<String> = file.iter().flat_map(File::models).flat_map(architectures).collect();
        if wanted.iter().any(|wanted| names.iter().any(|name| name == wanted)) {
            return load(&entry, false, sources, &NoFiles, diagnostics).pop();
        }
        known.extend(names);
    }
    let file = checkpoint.config.file.clone();
    let message = match wanted[..] {
        [] => format!("{file}: expected a list `architectures`, found none"),
        [name] => format!("{file}: no shipped definition describes the architecture `{name}`"),
        _ => format!("{file}: no shipped definition describes one of the architectures `{}`", wanted.join("`, `")),
    };
    let mut diagnostic = Diagnostic::error("C0012", message).file(file);
    let known: Vec<String> = known.into_iter().collect();
    let mut base = String::new();
    if let Some((name, claimed)) = nearest_by_tensors(sources, checkpoint) {
        let all = checkpoint.tensors.len();
        diagnostic = diagnostic.note(format!("by its tensors it is like `{name}`, which reads {claimed} of the {all}"));
        base = format!(" extends \"{name}\"");
    } else if let Some(near) = wanted.first().and_then(|name| nearest(name, known.iter().map(String::as_str))) {
        diagnostic = diagnostic.note(format!("the closest that is shipped is `{near}`"));
    }
    let name = wanted.first().copied().unwrap_or("NAME");
    let folder = checkpoint.folder.display();
    diagnostics.push(diagnostic.help(format!(
        "describe it: write `lathe 1`, a new line and `model mine{base} {{ architectures \"{name}\" }}` to mine.lathe; \
         `lathe check --model-def mine.lathe {folder}` then says what is missing"
    )));
    None
}

/// The shipped definition that reads most of the tensors of a checkpoint, and how many: more than half of them. Of several,
/// one that others build on.
fn nearest_by_tensors(sources: &mut Sources, checkpoint: &Checkpoint) -> Option<(&'static str, usize)> {
    let mut nearest = None;
    let mut best = (0, false);
    for text in lathe_specs::MODELS {
        let entry = library(text, sources);
        let file = lathe_grammar::parse(sources, entry.source).file;
        let is_base = file.iter().flat_map(File::models).all(|model| model.extends.is_none());
        let Some(model) = load(&entry, false, sources, &NoFiles, &mut Vec::new()).pop() else { continue };
        let Fit { read, missing } = fit(&model, checkpoint);
        let rank = (read.saturating_sub(missing), is_base);
        if 2 * read > checkpoint.tensors.len() && rank > best {
            (nearest, best) = (Some((text.name, read)), rank);
        }
    }
    nearest
}

/// The shipped list of config keys that no model computes with.
pub(crate) fn bookkeeping(sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) -> Option<Model> {
    load(&library(&lathe_specs::BOOKKEEPING, sources), false, sources, &NoFiles, diagnostics).pop()
}

fn library(text: &lathe_specs::Entry, sources: &mut Sources) -> Entry {
    let place = Place::Library(text.path.to_owned());
    Entry { source: sources.add(place.show(), text.text), place, name: None }
}

/// The architectures that a definition lists. Those of a base do not count.
pub fn architectures(model: &Model) -> Vec<String> {
    let lists = model.body.iter().filter_map(|decl| match &decl.kind {
        DeclKind::Architectures(names) => Some(names),
        _ => None,
    });
    lists.flatten().map(|name| name.value.clone()).collect()
}

/// A text that was read.
struct Text {
    place: Place,
    /// Absent when it cannot be read at all.
    file: Option<File>,
}

struct Loader<'a> {
    sources: &'a mut Sources,
    finder: Finder<'a>,
    texts: BTreeMap<Place, SourceId>,
    read: BTreeMap<SourceId, Text>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Loader<'_> {
    fn read_text(&mut self, source: SourceId, place: Place) {
        let parsed = lathe_grammar::parse(self.sources, source);
        self.diagnostics.extend(parsed.diagnostics);
        for item in parsed.file.iter().flat_map(|file| &file.items) {
            let other = match &item.kind {
                ItemKind::Model(_) => continue,
                ItemKind::Spec(spec) => spec.name.span,
                ItemKind::Let(binding) => binding.name.span,
                ItemKind::Use(path) => path.span,
            };
            let message = "a file of model definitions holds nothing else";
            self.diagnostics.push(Diagnostic::error("S0002", message).label(other, ""));
        }
        let models = parsed.file.iter().flat_map(File::models);
        let names: Vec<(&str, &Spanned<String>)> = models.map(|model| ("model", &model.name)).collect();
        self.diagnostics.extend(twice(&names));
        self.texts.insert(place.clone(), source);
        self.read.insert(source, Text { place, file: parsed.file });
    }

    /// A model joined with its bases. None when one of those is not there, which is reported.
    fn with_bases(&mut self, source: SourceId, model: Model) -> Option<Model> {
        let (chain, fault) = with_bases((source, model), |from, base| self.base(from, base));
        report_chain(fault, self.diagnostics);
        let mut models = chain.into_iter().map(|(_, model)| model).rev();
        let first = models.next().filter(|model| model.extends.is_none())?;
        Some(models.fold(first, extends::join))
    }

    /// The model that `extends` names: one of the same file, or that of another.
    fn base(&mut self, from: SourceId, base: &Spanned<String>) -> Option<(SourceId, Model)> {
        let models: Vec<&Model> = self.read[&from].file.iter().flat_map(File::models).collect();
        if let Some(model) = models.iter().find(|model| model.name.value == base.value) {
            return Some((from, (*model).clone()));
        }
        let in_sight: Vec<String> = models.iter().map(|model| model.name.value.clone()).collect();
        let place = self.reported(self.finder.place(base, &self.read[&from].place, &in_sight))?;
        let source = match self.texts.get(&place) {
            Some(known) => *known,
            None => {
                let (name, text) = self.reported(self.finder.read(&place, base))?;
                let source = self.sources.add(name, text);
                self.read_text(source, place);
                source
            }
        };
        let Text { place, file } = &self.read[&source];
        let models: Vec<&Model> = file.as_ref()?.models().collect();
        if let [only] = models[..] {
            return Some((source, only.clone()));
        }
        let message = format!("expected one model in `{}`, found {}", place.show(), models.len());
        self.diagnostics.push(Diagnostic::error("S0002", message).label(base.span, ""));
        None
    }

    fn reported<T>(&mut self, found: Result<T, Box<Diagnostic>>) -> Option<T> {
        found.map_err(|fault| self.diagnostics.push(*fault)).ok()
    }
}
