//! Texts that other texts name, by `use` and `extends`: specs and model definitions.
//!
//! A path with an extension is a file, relative to the text that names it; any other is a name of the shipped library.
//! Files must lie in the folder of the text that was asked for, or below; library texts in the library.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use lathe_grammar::ast;
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::span::{SourceId, Sources, Span, Spanned};

/// Longest chain of texts that name one another.
pub(crate) const MAX_CHAIN: usize = 64;

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A text of the shipped library, by its path in there.
    Library(String),
}

impl Place {
    /// As texts that name it will have it.
    pub(crate) fn normal(&self) -> Place {
        match self {
            Place::File(path) => Place::File(normal(path)),
            Place::Library(path) => Place::Library(path.clone()),
        }
    }

    /// The folder that files beside it lie in; that of the library has no path.
    pub(crate) fn folder(&self) -> PathBuf {
        match self {
            Place::File(path) => normal(path.parent().unwrap_or(Path::new(""))),
            Place::Library(_) => PathBuf::new(),
        }
    }

    /// For messages.
    pub(crate) fn show(&self) -> String {
        match self {
            Place::File(path) => path.display().to_string(),
            Place::Library(path) => format!("library:{path}"),
        }
    }
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
    /// It is no text in the language.
    #[error("{0}")]
    NoText(String),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the files that texts name.
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

/// A text that was asked for.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The text.
    pub source: SourceId,
    /// Where it comes from.
    pub place: Place,
    /// Which item of the text, when it holds several.
    pub name: Option<String>,
}

/// The part of the library that texts of one kind are looked up in.
pub(crate) struct Shelf {
    noun: &'static str,
    /// What `lathe list` calls it.
    topic: &'static str,
    /// How one is written, for who has none.
    form: &'static str,
    texts: &'static [lathe_specs::Entry],
    /// Texts without such items, for what their names stand for.
    parts: &'static [lathe_specs::Entry],
}

pub(crate) static SPECS: Shelf = Shelf {
    noun: "spec",
    topic: "specs",
    form: "a spec begins `spec NAME {`, in YAML `spec: NAME`",
    texts: lathe_specs::SPECS,
    parts: lathe_specs::PARTS,
};

pub(crate) static MODELS: Shelf = Shelf {
    noun: "model",
    topic: "models",
    form: "a definition begins `model NAME {`",
    texts: lathe_specs::MODELS,
    parts: &[],
};

impl Shelf {
    fn entries(&self) -> impl Iterator<Item = &'static lathe_specs::Entry> {
        self.texts.iter().chain(self.parts)
    }

    fn at(&self, path: &str) -> Option<&'static lathe_specs::Entry> {
        self.entries().find(|entry| entry.path == path)
    }
}

/// Finds the texts that the one that was asked for leads to.
pub(crate) struct Finder<'a> {
    shelf: &'static Shelf,
    files: &'a dyn Files,
    /// The folder that no file may lie outside of.
    root: PathBuf,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(shelf: &'static Shelf, files: &'a dyn Files, asked_for: &Place) -> Self {
        Finder { shelf, files, root: asked_for.folder() }
    }

    /// Of the items of a text, those that were asked for: the one of that name, all of them, or the only one. When there is
    /// none such, that is reported, at the version line.
    pub(crate) fn choose<T: Extends + Clone>(
        &self,
        entry: &Entry,
        all: bool,
        items: &[&T],
        version: Span,
        sources: &Sources,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<T> {
        let Shelf { noun, form, .. } = self.shelf;
        let names = || items.iter().map(|item| item.name());
        let absent = |message: String| Diagnostic::error("S0002", message).label(version, "");
        match (&entry.name, items) {
            (None, [only]) => vec![(*only).clone()],
            (None, items) if all => items.iter().map(|item| (*item).clone()).collect(),
            (None, items) => {
                // A mistake that swallowed the item has been reported and says more.
                if !diagnostics.iter().any(Diagnostic::is_error) {
                    let file = &sources.get(entry.source).name;
                    let fault = absent(format!("expected one {noun} in this file, found {}", items.len()));
                    diagnostics.push(fault.help(match items {
                        [] => form.to_string(),
                        [first, ..] => {
                            let names: Vec<&str> = names().collect();
                            format!("say which: `{file}#{}`; there are {}", first.name(), names.join(", "))
                        }
                    }));
                }
                Vec::new()
            }
            (Some(name), items) => {
                let found: Vec<T> =
                    items.iter().filter(|item| item.name() == name).take(1).map(|item| (*item).clone()).collect();
                if found.is_empty() {
                    let fault = absent(format!("this file holds no {noun} `{name}`"));
                    diagnostics.push(match nearest(name, names()) {
                        Some(near) => fault.help(format!("did you mean `{near}`?")),
                        None => fault,
                    });
                }
                found
            }
        }
    }

    /// Where a path that is written in `from` leads. `in_sight` are names that it may have been meant for.
    pub(crate) fn place(
        &self,
        path: &Spanned<String>,
        from: &Place,
        in_sight: &[String],
    ) -> Result<Place, Box<Diagnostic>> {
        let extension = Path::new(&path.value).extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("lathe" | "yaml" | "yml")) {
            return relative(path).and_then(|_| self.in_library(path, in_sight));
        }
        let target = beside(path, from, &self.root, self.shelf.noun)?;
        self.file_or_text(path, from, target)
    }

    /// What lies at `target`, the path that is written in `from` without its detours.
    fn file_or_text(&self, path: &Spanned<String>, from: &Place, target: PathBuf) -> Result<Place, Box<Diagnostic>> {
        if matches!(from, Place::File(_)) {
            return Ok(Place::File(target));
        }
        let target = target.to_string_lossy().replace('\\', "/");
        if self.shelf.at(&target).is_some() {
            return Ok(Place::Library(target));
        }
        let message = format!("the library has no file `{target}`");
        Err(Box::new(Diagnostic::error("S0006", message).label(path.span, "")))
    }

    fn in_library(&self, path: &Spanned<String>, in_sight: &[String]) -> Result<Place, Box<Diagnostic>> {
        let written = path.value.as_str();
        let Shelf { noun, topic, .. } = self.shelf;
        if let Some(entry) = self.shelf.entries().find(|entry| entry.name == written) {
            return Ok(Place::Library(entry.path.to_owned()));
        }
        let message = format!("there is no {noun} `{written}` in scope, nor in the library");
        let shipped = self.shelf.entries().map(|entry| entry.name);
        let near = nearest(written, in_sight.iter().map(String::as_str)).or_else(|| nearest(written, shipped));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("a file is named with its extension: `{written}.lathe`; `lathe list {topic}` shows the library")
            }
        };
        Err(Box::new(Diagnostic::error("S0006", message).label(path.span, "").help(help)))
    }

    /// The name and the content of the text at a place, which `path` leads to.
    pub(crate) fn read(&self, place: &Place, path: &Spanned<String>) -> Result<(String, String), Box<Diagnostic>> {
        let file = match place {
            Place::Library(library) => {
                let entry = self.shelf.at(library);
                let text = entry.expect("invariant: only texts on the shelf get a place in the library").text;
                return Ok((place.show(), text.to_owned()));
            }
            Place::File(file) => file,
        };
        let error = match self.files.read(file, &self.root) {
            Ok(text) => return Ok((place.show(), text)),
            Err(error) => error,
        };
        let shown = file.display();
        let (code, message, help) = match error {
            FileError::NotFound => {
                let help = "paths lead from the folder of the file that they stand in";
                ("S0006", format!("there is no file `{shown}`"), help)
            }
            FileError::Outside(root) => {
                let (noun, root) = (self.shelf.noun, folder_name(&root));
                let message = format!("`{shown}` is a link that leads out of the folder of the {noun}, `{root}`");
                ("S0004", message, "put a copy in the place of the link")
            }
            FileError::NoText(_) | FileError::Io(_) => {
                ("S0006", format!("`{shown}` cannot be read: {error}"), "it must be a file of text in UTF-8")
            }
        };
        Err(Box::new(Diagnostic::error(code, message).label(path.span, "").help(help)))
    }
}

/// Where a path that is written in `from` leads, from the working directory or in the library. `root` is the folder of the
/// `noun` that was asked for, out of which no file may lead.
pub(crate) fn beside(
    path: &Spanned<String>,
    from: &Place,
    root: &Path,
    noun: &str,
) -> Result<PathBuf, Box<Diagnostic>> {
    let (base, file) = match from {
        Place::File(file) => (root, file.as_path()),
        Place::Library(file) => (Path::new(""), Path::new(file)),
    };
    let target = normal(&file.parent().unwrap_or(Path::new("")).join(relative(path)?));
    if target.strip_prefix(base).is_ok_and(|rest| !rest.starts_with("..")) {
        return Ok(target);
    }
    let (root, help) = match from {
        Place::File(_) => (format!("the folder of the {noun}, `{}`", folder_name(base)), "move the file below it"),
        Place::Library(_) => ("the library".to_owned(), "name a text of the library"),
    };
    let message = format!("`{}` leads out of {root}", path.value);
    Err(Box::new(Diagnostic::error("S0004", message).label(path.span, "").help(help)))
}

/// A path that stands in a text, which must not begin at a root.
fn relative(path: &Spanned<String>) -> Result<&Path, Box<Diagnostic>> {
    let relative = Path::new(&path.value);
    let is_plain = relative.components().all(|part| !matches!(part, Component::RootDir | Component::Prefix(_)));
    if is_plain && !path.value.contains('\\') {
        return Ok(relative);
    }
    let message = format!("`{}` is no relative path", path.value);
    let help = "paths are relative to the file that they stand in, with `/` between folders";
    Err(Box::new(Diagnostic::error("S0004", message).label(path.span, "").help(help)))
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
                // The folder of the text that was asked for may be given as `../specs`.
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

/// What can extend another of its kind.
pub(crate) trait Extends {
    fn name(&self) -> &str;
    fn base(&self) -> Option<&Spanned<String>>;
}

impl Extends for ast::Spec {
    fn name(&self) -> &str {
        &self.name.value
    }

    fn base(&self) -> Option<&Spanned<String>> {
        self.extends.as_ref()
    }
}

impl Extends for ast::Model {
    fn name(&self) -> &str {
        &self.name.value
    }

    fn base(&self) -> Option<&Spanned<String>> {
        self.extends.as_ref()
    }
}

/// An item, what it extends, what that extends, and so on, each with the text that it stands in. The last one extends
/// nothing, unless its base could not be found, which is for `base_of` to report, or the chain does not end: then a
/// diagnostic comes back, too.
pub(crate) fn with_bases<T: Extends>(
    first: (SourceId, T),
    mut base_of: impl FnMut(SourceId, &Spanned<String>) -> Option<(SourceId, T)>,
) -> (Vec<(SourceId, T)>, Option<Diagnostic>) {
    let mut chain = vec![first];
    loop {
        let (from, item) = chain.last().expect("it begins with one");
        let Some(base) = item.base().cloned() else { return (chain, None) };
        let Some((source, found)) = base_of(*from, &base) else { return (chain, None) };
        if let Some(start) = chain.iter().position(|(at, item)| *at == source && item.name() == found.name()) {
            let fault = extends_itself(&chain[start..]);
            return (chain, fault);
        }
        if chain.len() == MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} items extend one another here");
            return (chain, Some(Diagnostic::error("S0003", message).label(base.span, "")));
        }
        chain.push((source, found));
    }
}

/// The diagnostic for items each of which extends the next, and the last the first.
fn extends_itself<T: Extends>(ring: &[(SourceId, T)]) -> Option<Diagnostic> {
    let first = ring.first()?.1.name();
    let names: Vec<&str> = ring.iter().map(|(_, item)| item.name()).chain([first]).collect();
    let diagnostic = Diagnostic::error("S0003", format!("`{first}` extends itself: {}", names.join(" → ")));
    let mut links = ring.iter().filter_map(|(_, item)| item.base()).map(|base| base.span);
    let diagnostic = diagnostic.label_if(links.next(), "");
    Some(links.fold(diagnostic, |diagnostic, link| diagnostic.label(link, "by way of this")))
}

/// Reports what [`with_bases`] found, unless the same ring was reported from another of its links.
pub(crate) fn report_chain(fault: Option<Diagnostic>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(fault) = fault else { return };
    let link = fault.labels.first().map(|label| label.span);
    let mut known = diagnostics.iter().filter(|known| known.code == fault.code).flat_map(|known| &known.labels);
    if known.all(|label| Some(label.span) != link) {
        diagnostics.push(fault);
    }
}

/// Of names that stand twice, the later ones.
pub(crate) fn twice(names: &[(&str, &Spanned<String>)]) -> Vec<Diagnostic> {
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
