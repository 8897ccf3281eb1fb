//! A spec with everything that it is made of: files that it uses, specs that it extends.

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::ast::{File, ItemKind, Let, Spec};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{SourceId, Sources, Span, Spanned};

use super::formats::FormatKind;
use super::rotations::RotationKind;
use crate::texts::{Entry, Files, Finder, MAX_CHAIN, Place, SPECS, report_chain, twice, with_bases};

/// A spec and its bases.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The text that holds the spec.
    pub source: SourceId,
    /// The spec last, before it what it extends. Empty for a text that holds names only.
    pub layers: Vec<Spec>,
    /// The `let`s of each file that a layer stands in, with those of the files that it uses.
    pub file_lets: BTreeMap<SourceId, Vec<Let>>,
    /// Names in lines that could not be read: those of `let`s that were reported.
    pub lost: BTreeSet<String>,
    /// Where the texts lie that were read; others, as overrides, lie nowhere.
    pub places: BTreeMap<SourceId, Place>,
}

/// Loads the spec that was asked for, or every spec of its text when `all`. Mistakes are added to `diagnostics`; specs with
/// mistakes are loaded as far as they can be.
pub fn load(
    entry: &Entry,
    all: bool,
    sources: &mut Sources,
    files: &dyn Files,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Loaded> {
    let place = entry.place.normal();
    let finder = Finder::new(&SPECS, files, &place);
    let (texts, read, lost) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut loader = Loader { sources, finder, texts, read, lost, diagnostics };
    loader.read_text(entry.source, &place, &mut Vec::new());
    let Some(text) = loader.read.get(&entry.source) else { return Vec::new() };
    let Some(file) = &text.file else { return Vec::new() };
    let specs: Vec<&Spec> = file.specs().collect();
    if all && entry.name.is_none() && specs.is_empty() {
        return vec![loader.names_alone(entry.source)];
    }
    let chosen = loader.finder.choose(entry, all, &specs, file.version.span, loader.sources, loader.diagnostics);
    chosen.into_iter().map(|spec| loader.with_bases(entry.source, spec)).collect()
}

/// A text that was read, and what its names stand for.
#[derive(Debug)]
struct Text {
    place: Place,
    /// Absent when it cannot be read at all.
    file: Option<File>,
    /// Texts that it uses.
    uses: Vec<SourceId>,
}

struct Loader<'a> {
    sources: &'a mut Sources,
    finder: Finder<'a>,
    texts: BTreeMap<Place, SourceId>,
    read: BTreeMap<SourceId, Text>,
    lost: BTreeSet<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Loader<'_> {
    /// Parses a text and everything that it uses. `chain` holds the texts that led here, and where each names the next.
    fn read_text(&mut self, source: SourceId, place: &Place, chain: &mut Vec<(Place, Span)>) {
        self.texts.insert(place.clone(), source);
        let parsed = lathe_grammar::parse(self.sources, source);
        let text = self.sources.get(source).text.as_str();
        self.lost.extend(parsed.diagnostics.iter().filter_map(|fault| bound_name(text, fault.labels.first()?.span)));
        self.diagnostics.extend(parsed.diagnostics);
        let paths: Vec<Spanned<String>> = parsed.file.iter().flat_map(uses).cloned().collect();
        self.read.insert(source, Text { place: place.clone(), file: parsed.file, uses: Vec::new() });
        for path in paths {
            let used = self.open(&path, place, &[], chain);
            let text = self.read.get_mut(&source).expect("it was read above");
            text.uses.extend(used);
        }
        self.check_names(source);
    }

    /// The text behind a path, read when it is met for the first time. `in_sight` are names that it may have been meant
    /// for.
    fn open(
        &mut self,
        path: &Spanned<String>,
        from: &Place,
        in_sight: &[String],
        chain: &mut Vec<(Place, Span)>,
    ) -> Option<SourceId> {
        let place = self.reported(self.finder.place(path, from, in_sight))?;
        let links: Vec<&Place> = chain.iter().map(|(place, _)| place).chain([from]).collect();
        if let Some(start) = links.iter().position(|link| **link == place) {
            let mut names: Vec<String> = links[start..].iter().map(|link| link.show()).collect();
            names.push(place.show());
            let message = format!("this file uses itself: {}", names.join(" → "));
            let mut diagnostic = Diagnostic::error("S0003", message).label(path.span, "");
            for (_, span) in &chain[start.min(chain.len())..] {
                diagnostic = diagnostic.label(*span, "by way of this");
            }
            self.diagnostics.push(diagnostic);
            return None;
        }
        if let Some(known) = self.texts.get(&place) {
            return Some(*known);
        }
        if chain.len() == MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} files use one another here");
            self.diagnostics.push(Diagnostic::error("S0003", message).label(path.span, ""));
            return None;
        }
        let (name, text) = self.reported(self.finder.read(&place, path))?;
        let source = self.sources.add(name, text);
        chain.push((from.clone(), path.span));
        self.read_text(source, &place, chain);
        chain.pop();
        Some(source)
    }

    fn reported<T>(&mut self, found: Result<T, Box<Diagnostic>>) -> Option<T> {
        found.map_err(|fault| self.diagnostics.push(*fault)).ok()
    }

    /// Reports names of a text that are given twice.
    fn check_names(&mut self, source: SourceId) {
        let Some(file) = &self.read[&source].file else { return };
        let mut found: Vec<Diagnostic> = Vec::new();
        let mut specs = self.specs_in_sight(source);
        let mut lets = self.lets_in_sight(source);
        // Of two with one name, that of this text is the one at fault.
        specs.sort_by_key(|(of, _)| *of == source);
        lets.sort_by_key(|binding| binding.span.source == source);
        let models = file.models().map(|model| ("model", &model.name));
        let items = specs.iter().map(|(_, spec)| ("spec", &spec.name)).chain(models);
        let items: Vec<(&str, &Spanned<String>)> = items.collect();
        let bindings: Vec<(&str, &Spanned<String>)> = lets.iter().map(|binding| ("let", &binding.name)).collect();
        found.extend(twice(&items));
        found.extend(twice(&bindings));
        for spec in file.specs() {
            let own: Vec<(&str, &Spanned<String>)> = spec.lets.iter().map(|binding| ("let", &binding.name)).collect();
            found.extend(twice(&own));
        }
        let own = file.specs().flat_map(|spec| &spec.lets);
        let of_file = lets.iter().filter(|binding| binding.span.source == source);
        for binding in own.chain(of_file.copied()) {
            let name = &binding.name.value;
            let what = match (FormatKind::find(name), RotationKind::find(name)) {
                (Some(_), _) => "format",
                (_, Some(_)) => "rotation",
                _ => continue,
            };
            let message = format!("`{name}` is the name of a {what}");
            found.push(Diagnostic::error("S0005", message).label(binding.name.span, "").help("give it another name"));
        }
        self.diagnostics.extend(found);
    }

    /// The specs that can be named in a text: its own and those of the texts that it uses.
    fn specs_in_sight(&self, source: SourceId) -> Vec<(SourceId, &Spec)> {
        let of = |source: SourceId| {
            let file = self.read.get(&source).and_then(|text| text.file.as_ref());
            file.into_iter().flat_map(File::specs).map(move |spec| (source, spec))
        };
        let uses = self.read.get(&source).into_iter().flat_map(|text| text.uses.iter().copied());
        of(source).chain(uses.flat_map(of)).collect()
    }

    /// The `let`s of a text and of the texts that it uses.
    fn lets_in_sight(&self, source: SourceId) -> Vec<&Let> {
        let of = |source: SourceId| {
            let file = self.read.get(&source).and_then(|text| text.file.as_ref());
            file.into_iter().flat_map(file_lets)
        };
        let uses = self.read.get(&source).into_iter().flat_map(|text| text.uses.iter().copied());
        of(source).chain(uses.flat_map(of)).collect()
    }

    /// The `let`s of a text without a spec.
    fn names_alone(self, source: SourceId) -> Loaded {
        let lets = self.lets_in_sight(source).into_iter().cloned().collect();
        let (file_lets, places) = (BTreeMap::from([(source, lets)]), self.places());
        Loaded { source, layers: Vec::new(), file_lets, lost: self.lost, places }
    }

    /// A spec with everything that it extends.
    fn with_bases(&mut self, source: SourceId, spec: Spec) -> Loaded {
        let (layers, fault) = with_bases((source, spec), |from, base| self.base(from, base));
        report_chain(fault, self.diagnostics);
        let file_lets = layers
            .iter()
            .map(|(source, _)| (*source, self.lets_in_sight(*source).into_iter().cloned().collect::<Vec<Let>>()));
        let file_lets = file_lets.collect();
        let layers = layers.into_iter().rev().map(|(_, spec)| spec).collect();
        Loaded { source, layers, file_lets, lost: self.lost.clone(), places: self.places() }
    }

    fn places(&self) -> BTreeMap<SourceId, Place> {
        self.read.iter().map(|(source, text)| (*source, text.place.clone())).collect()
    }

    /// The spec that `extends` names: one in scope, or that of a file.
    fn base(&mut self, from: SourceId, base: &Spanned<String>) -> Option<(SourceId, Spec)> {
        let in_sight = self.specs_in_sight(from);
        if let Some((source, spec)) = in_sight.iter().find(|(_, spec)| spec.name.value == base.value) {
            return Some((*source, (*spec).clone()));
        }
        let in_sight: Vec<String> = in_sight.iter().map(|(_, spec)| spec.name.value.clone()).collect();
        let place = self.read[&from].place.clone();
        let errors = self.diagnostics.len();
        let source = self.open(base, &place, &in_sight, &mut Vec::new())?;
        let file = self.read.get(&source)?.file.as_ref()?;
        let specs: Vec<&Spec> = file.specs().collect();
        if let [only] = specs[..] {
            return Some((source, only.clone()));
        }
        if self.diagnostics.len() == errors {
            let message = format!("expected one spec in `{}`, found {}", self.read[&source].place.show(), specs.len());
            let help = "bring its specs into scope with `use`, and extend one by name";
            self.diagnostics.push(Diagnostic::error("S0002", message).label(base.span, "").help(help));
        }
        None
    }
}

fn uses(file: &File) -> impl Iterator<Item = &Spanned<String>> {
    file.items.iter().filter_map(|item| if let ItemKind::Use(path) = &item.kind { Some(path) } else { None })
}

fn file_lets(file: &File) -> impl Iterator<Item = &Let> {
    file.items.iter().filter_map(|item| if let ItemKind::Let(binding) = &item.kind { Some(binding) } else { None })
}

/// The name that the line at a place binds, in either syntax.
fn bound_name(text: &str, place: Span) -> Option<String> {
    let start = text.get(..place.range().start)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next()?.trim_start();
    let name = match line.strip_prefix("let ") {
        Some(binding) => binding.trim_start().split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?,
        None => line.split_once(':')?.0,
    };
    (!name.is_empty()).then(|| name.to_owned())
}
