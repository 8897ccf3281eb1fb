//! A spec with everything that it is made of: files that it uses, specs that it extends.
//!
//! A path with an extension is a file, relative to the text that names it; any other is a name of the shipped library.
//! Files must lie in the folder of the spec that was asked for, or below; library texts in the library.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use lathe_grammar::ast::{File, ItemKind, Let, Spec};
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::span::{SourceId, Sources, Span, Spanned};

use super::formats::FormatKind;
use super::rotations::RotationKind;

/// Longest chain of files that use, or specs that extend, one another.
const MAX_CHAIN: usize = 64;

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A text of the shipped library, by its path in there.
    Library(String),
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("no such file")]
    NotFound,
    /// It is a link that leads out of the folder.
    #[error("it leads out of {}", .0.display())]
    Outside(PathBuf),
    /// It is no text that can be a spec.
    #[error("{0}")]
    NoText(String),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the files that specs name.
pub trait Files {
    /// The text of `path`, which must not lead out of `root`, also not by links.
    ///
    /// # Errors
    /// As [`FileError`].
    fn read(&self, path: &Path, root: &Path) -> Result<String, FileError>;
}

/// There are no files: only the library can be used.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path, _: &Path) -> Result<String, FileError> {
        Err(FileError::NotFound)
    }
}

/// A spec that was asked for.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its text.
    pub source: SourceId,
    /// Where that comes from.
    pub place: Place,
    /// Which spec of the text, when it holds several.
    pub name: Option<String>,
}

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
    let root = match &entry.place {
        Place::File(path) => normal(path.parent().unwrap_or(Path::new(""))),
        Place::Library(_) => PathBuf::new(),
    };
    let mut loader = Loader {
        sources,
        files,
        root,
        texts: BTreeMap::new(),
        read: BTreeMap::new(),
        lost: BTreeSet::new(),
        diagnostics,
    };
    // As files that name it will.
    let place = match &entry.place {
        Place::File(path) => Place::File(normal(path)),
        Place::Library(path) => Place::Library(path.clone()),
    };
    loader.read_text(entry.source, &place, &mut Vec::new());
    let Some(text) = loader.read.get(&entry.source) else { return Vec::new() };
    let Some(file) = &text.file else { return Vec::new() };
    let specs: Vec<&Spec> = file.specs().collect();
    let chosen: Vec<Spec> = match (&entry.name, &specs[..]) {
        (None, [only]) => vec![(*only).clone()],
        (None, []) if all => return vec![loader.names_alone(entry.source)],
        (None, specs) if all => specs.iter().map(|spec| (*spec).clone()).collect(),
        (None, specs) => {
            // A mistake that swallowed the spec has been reported and says more.
            if !loader.diagnostics.iter().any(Diagnostic::is_error) {
                let name = &loader.sources.get(entry.source).name;
                let message = format!("expected one spec in this file, found {}", specs.len());
                let diagnostic = Diagnostic::error("S0002", message).label(file.version.span, "");
                let diagnostic = match specs {
                    [] => diagnostic.help("a spec begins `spec NAME {`, in YAML `spec: NAME`"),
                    [first, ..] => {
                        let names: Vec<&str> = specs.iter().map(|spec| spec.name.value.as_str()).collect();
                        let help = format!("say which: `{name}#{}`; there are {}", first.name.value, names.join(", "));
                        diagnostic.help(help)
                    }
                };
                loader.diagnostics.push(diagnostic);
            }
            Vec::new()
        }
        (Some(name), specs) => {
            let found: Vec<Spec> =
                specs.iter().filter(|spec| spec.name.value == *name).map(|spec| (*spec).clone()).collect();
            if found.is_empty() {
                let message = format!("this file holds no spec `{name}`");
                let diagnostic = Diagnostic::error("S0002", message).label(file.version.span, "");
                let near = nearest(name, specs.iter().map(|spec| spec.name.value.as_str()));
                loader.diagnostics.push(match near {
                    Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                    None => diagnostic,
                });
            }
            found.into_iter().take(1).collect()
        }
    };
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
    files: &'a dyn Files,
    root: PathBuf,
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
            let used = self.open(&path, place, chain);
            let text = self.read.get_mut(&source).expect("it was read above");
            text.uses.extend(used);
        }
        self.check_names(source);
    }

    /// The text behind a path, read when it is met for the first time.
    fn open(&mut self, path: &Spanned<String>, from: &Place, chain: &mut Vec<(Place, Span)>) -> Option<SourceId> {
        let place = self.place(path, from)?;
        let links: Vec<&Place> = chain.iter().map(|(place, _)| place).chain([from]).collect();
        if let Some(start) = links.iter().position(|link| **link == place) {
            let mut names: Vec<String> = links[start..].iter().map(|link| show(link)).collect();
            names.push(show(&place));
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
        let (name, text) = match &place {
            Place::Library(library) => {
                let entry = lathe_specs::SPECS.iter().find(|entry| entry.path == library)?;
                (format!("library:{library}"), entry.text.to_owned())
            }
            Place::File(file) => match self.files.read(file, &self.root) {
                Ok(text) => (file.display().to_string(), text),
                Err(error) => {
                    self.unreadable(path, file, &error);
                    return None;
                }
            },
        };
        let source = self.sources.add(name, text);
        chain.push((from.clone(), path.span));
        self.read_text(source, &place, chain);
        chain.pop();
        Some(source)
    }

    fn unreadable(&mut self, path: &Spanned<String>, file: &Path, error: &FileError) {
        let (code, message, help) = match error {
            FileError::NotFound => {
                let help = "paths lead from the folder of the file that they stand in";
                ("S0006", format!("there is no file `{}`", file.display()), help)
            }
            FileError::Outside(root) => {
                let help = "put a copy in the place of the link";
                let root = folder_name(root);
                (
                    "S0004",
                    format!("`{}` is a link that leads out of the folder of the spec, `{root}`", file.display()),
                    help,
                )
            }
            FileError::NoText(_) | FileError::Io(_) => {
                let help = "it must be a file of text in UTF-8";
                ("S0006", format!("`{}` cannot be read: {error}", file.display()), help)
            }
        };
        self.diagnostics.push(Diagnostic::error(code, message).label(path.span, "").help(help));
    }

    /// Where a path that is written in `from` leads.
    fn place(&mut self, path: &Spanned<String>, from: &Place) -> Option<Place> {
        let written = path.value.as_str();
        let relative = Path::new(written);
        let extension = relative.extension().and_then(|extension| extension.to_str());
        let is_file = matches!(extension, Some("lathe" | "yaml" | "yml"));
        let is_plain = relative.components().all(|part| !matches!(part, Component::RootDir | Component::Prefix(_)));
        if !is_plain || written.contains('\\') {
            let diagnostic = Diagnostic::error("S0004", format!("`{written}` is no relative path"));
            let help = "paths are relative to the file that they stand in, with `/` between folders";
            self.diagnostics.push(diagnostic.label(path.span, "").help(help));
            return None;
        }
        if !is_file {
            return self.in_library(path);
        }
        let (base, folder) = match from {
            Place::File(file) => (self.root.clone(), file.parent().unwrap_or(Path::new("")).to_path_buf()),
            Place::Library(file) => (PathBuf::new(), Path::new(file).parent().unwrap_or(Path::new("")).to_path_buf()),
        };
        let target = normal(&folder.join(relative));
        if target.strip_prefix(&base).is_ok_and(|rest| !rest.starts_with("..")) {
            return self.file_or_text(path, from, target);
        }
        let (root, help) = match from {
            Place::File(_) => (format!("the folder of the spec, `{}`", folder_name(&base)), "move the file below it"),
            Place::Library(_) => ("the library".to_owned(), "name a text of the library"),
        };
        let message = format!("`{written}` leads out of {root}");
        self.diagnostics.push(Diagnostic::error("S0004", message).label(path.span, "").help(help));
        None
    }

    /// What lies at `target`, the path that is written in `from` without its detours.
    fn file_or_text(&mut self, path: &Spanned<String>, from: &Place, target: PathBuf) -> Option<Place> {
        if matches!(from, Place::File(_)) {
            return Some(Place::File(target));
        }
        let target = target.to_string_lossy().replace('\\', "/");
        if lathe_specs::SPECS.iter().any(|entry| entry.path == target) {
            return Some(Place::Library(target));
        }
        let message = format!("the library has no file `{target}`");
        self.diagnostics.push(Diagnostic::error("S0006", message).label(path.span, ""));
        None
    }

    fn in_library(&mut self, path: &Spanned<String>) -> Option<Place> {
        let written = path.value.as_str();
        if let Some(entry) = lathe_specs::spec(written) {
            return Some(Place::Library(entry.path.to_owned()));
        }
        let message = format!("there is no spec `{written}` in scope, nor in the library");
        let diagnostic = Diagnostic::error("S0006", message);
        let help = match nearest(written, lathe_specs::SPECS.iter().map(|entry| entry.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("a file is named with its extension: `{written}.lathe`; `lathe list specs` shows the library")
            }
        };
        self.diagnostics.push(diagnostic.label(path.span, "").help(help));
        None
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
        Loaded { source, layers: Vec::new(), file_lets: BTreeMap::from([(source, lets)]), lost: self.lost }
    }

    /// A spec with everything that it extends.
    fn with_bases(&mut self, source: SourceId, spec: Spec) -> Loaded {
        let mut layers = vec![(source, spec)];
        loop {
            let (from, spec) = layers.last().expect("it begins with one");
            let (from, Some(base)) = (*from, spec.extends.clone()) else { break };
            let Some((source, found)) = self.base(from, &base) else { break };
            let start = layers.iter().position(|(at, spec)| *at == source && spec.name == found.name);
            if let Some(start) = start {
                let ring: Vec<&Spec> = layers[start..].iter().map(|(_, spec)| spec).collect();
                if let Some(fault) = extends_itself(&ring).filter(|fault| !is_same_ring(fault, self.diagnostics)) {
                    self.diagnostics.push(fault);
                }
                break;
            }
            if layers.len() == MAX_CHAIN {
                let message = format!("more than {MAX_CHAIN} specs extend one another here");
                self.diagnostics.push(Diagnostic::error("S0003", message).label(base.span, ""));
                break;
            }
            layers.push((source, found));
        }
        let file_lets = layers
            .iter()
            .map(|(source, _)| (*source, self.lets_in_sight(*source).into_iter().cloned().collect::<Vec<Let>>()));
        let file_lets = file_lets.collect();
        let layers = layers.into_iter().rev().map(|(_, spec)| spec).collect();
        Loaded { source, layers, file_lets, lost: self.lost.clone() }
    }

    /// The spec that `extends` names: one in scope, or that of a file.
    fn base(&mut self, from: SourceId, base: &Spanned<String>) -> Option<(SourceId, Spec)> {
        let in_sight = self.specs_in_sight(from);
        if let Some((source, spec)) = in_sight.iter().find(|(_, spec)| spec.name.value == base.value) {
            return Some((*source, (*spec).clone()));
        }
        let is_path = base.value.contains('/') || Path::new(&base.value).extension().is_some();
        let near = nearest(&base.value, in_sight.iter().map(|(_, spec)| spec.name.value.as_str())).map(str::to_owned);
        if !is_path
            && lathe_specs::spec(&base.value).is_none()
            && let Some(near) = near
        {
            let message = format!("there is no spec `{}` in scope, nor in the library", base.value);
            let diagnostic = Diagnostic::error("S0006", message).label(base.span, "");
            self.diagnostics.push(diagnostic.help(format!("did you mean `{near}`?")));
            return None;
        }
        let place = self.read[&from].place.clone();
        let errors = self.diagnostics.len();
        let source = self.open(base, &place, &mut Vec::new())?;
        let file = self.read.get(&source)?.file.as_ref()?;
        let specs: Vec<&Spec> = file.specs().collect();
        if let [only] = specs[..] {
            return Some((source, only.clone()));
        }
        if self.diagnostics.len() == errors {
            let message = format!("expected one spec in `{}`, found {}", show(&self.read[&source].place), specs.len());
            let help = "bring its specs into scope with `use`, and extend one by name";
            self.diagnostics.push(Diagnostic::error("S0002", message).label(base.span, "").help(help));
        }
        None
    }
}

/// The diagnostic for specs each of which extends the next, and the last the first.
fn extends_itself(ring: &[&Spec]) -> Option<Diagnostic> {
    let first = &ring.first()?.name.value;
    let names: Vec<&str> = ring.iter().map(|spec| spec.name.value.as_str()).chain([first.as_str()]).collect();
    let diagnostic = Diagnostic::error("S0003", format!("`{first}` extends itself: {}", names.join(" → ")));
    let mut links = ring.iter().filter_map(|spec| spec.extends.as_ref()).map(|base| base.span);
    let diagnostic = diagnostic.label_if(links.next(), "");
    Some(links.fold(diagnostic, |diagnostic, link| diagnostic.label(link, "by way of this")))
}

/// Whether a ring was reported, from another of its links.
fn is_same_ring(fault: &Diagnostic, reported: &[Diagnostic]) -> bool {
    let link = fault.labels.first().map(|label| label.span);
    reported.iter().any(|known| known.code == fault.code && known.labels.iter().any(|label| Some(label.span) == link))
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

/// Of names that stand twice, the later ones.
fn twice(names: &[(&str, &Spanned<String>)]) -> Vec<Diagnostic> {
    let mut first: BTreeMap<&str, &Spanned<String>> = BTreeMap::new();
    let mut found = Vec::new();
    for (what, name) in names {
        match first.get(name.value.as_str()) {
            // One text may be used by two others.
            Some(other) if other.span == name.span => {}
            Some(other) => {
                let message = format!("the name `{}` is given twice", name.value);
                let diagnostic = Diagnostic::error("S0005", message).label(name.span, format!("this {what}"));
                found.push(diagnostic.label(other.span, "the first one"));
            }
            None => {
                first.insert(&name.value, name);
            }
        }
    }
    found
}

/// Without `.`, and without `..` where something stands before it.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => match out.components().next_back() {
                Some(Component::Normal(_)) => {
                    out.pop();
                }
                // The folder of the spec itself may be given as `../specs`.
                _ => out.push(".."),
            },
            other => out.push(other),
        }
    }
    out
}

fn folder_name(folder: &Path) -> String {
    if folder.as_os_str().is_empty() { ".".into() } else { folder.display().to_string() }
}

fn show(place: &Place) -> String {
    match place {
        Place::File(path) => path.display().to_string(),
        Place::Library(path) => format!("library:{path}"),
    }
}
