//! What a name in a spec stands for: `let`s of the spec and its bases, then those of the file and of the files that it uses.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lathe_grammar::ast::{Call, Expr, ExprKind, Let};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{SourceId, Span, Spanned};

use super::formats::FormatKind;
use super::load::Loaded;
use super::overrides::replace;
use super::rotations::RotationKind;
use crate::texts::{Place, beside};

/// Longest chain of `let`s each of which stands for the next.
const MAX_CHAIN: usize = 64;

/// How many names all messages about one spec compare with those that are not known.
const MAX_COMPARED: usize = 1 << 14;

/// The `let`s that the parts of one spec can see.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// Those of the spec and its bases; of two with one name the one nearer to the spec.
    spec: BTreeMap<&'a str, &'a Let>,
    /// Those of each file.
    files: BTreeMap<SourceId, BTreeMap<&'a str, &'a Let>>,
    /// The file of the spec, for names in texts of their own such as overrides.
    root: SourceId,
    /// Where each text lies, but overrides.
    places: &'a BTreeMap<SourceId, Place>,
    /// Names of `let`s that could not be read.
    lost: &'a BTreeSet<String>,
    /// The `let`s that something stood for.
    used: RefCell<BTreeSet<Span>>,
    /// How many names may still be compared with those that are not known.
    compared: Cell<usize>,
}

impl<'a> Names<'a> {
    pub(super) fn of(loaded: &'a Loaded) -> Self {
        let mut spec = BTreeMap::new();
        for layer in &loaded.layers {
            spec.extend(layer.lets.iter().map(|binding| (binding.name.value.as_str(), binding)));
        }
        let by_name = |lets: &'a Vec<Let>| lets.iter().map(|binding| (binding.name.value.as_str(), binding)).collect();
        let files = loaded.file_lets.iter().map(|(source, lets)| (*source, by_name(lets))).collect();
        Names {
            spec,
            files,
            root: loaded.source,
            places: &loaded.places,
            lost: &loaded.lost,
            used: RefCell::default(),
            compared: Cell::new(MAX_COMPARED),
        }
    }

    /// The `let` that `name`, written in `source`, stands for. One with the name of a format or rotation, which is an
    /// error of its own, hides neither.
    fn find(&self, name: &str, source: SourceId) -> Option<&'a Let> {
        if FormatKind::find(name).is_some() || RotationKind::find(name).is_some() {
            return None;
        }
        let file = self.files.get(&source).or_else(|| self.files.get(&self.root));
        self.spec.get(name).or_else(|| file?.get(name)).copied()
    }

    /// The names that can be written in `source`, to be compared with one that is not known. Where thousands of these meet
    /// thousands of `let`s, the later ones are compared with none.
    pub(super) fn names_at(&self, source: SourceId) -> impl Iterator<Item = &'a str> {
        let file = self.files.get(&source).or_else(|| self.files.get(&self.root));
        let names = self.spec.keys().copied().chain(file.into_iter().flat_map(|lets| lets.keys().copied()));
        names.take_while(|_| {
            let left = self.compared.get();
            self.compared.set(left.saturating_sub(1));
            left > 0
        })
    }

    /// Whether a name is that of a `let` that could not be read: then what follows from its absence is no news.
    pub(super) fn is_lost(&self, name: &str) -> bool {
        self.lost.contains(name)
    }

    /// Where a file lies that is named in a text: beside that text, as `use` finds files, and not out of the folder of the
    /// spec. A path on the command line leads from where the command is run.
    pub(super) fn file(&self, path: &Spanned<String>) -> Result<PathBuf, Box<Diagnostic>> {
        let Some(from) = self.places.get(&path.span.source) else { return Ok(PathBuf::from(&path.value)) };
        let root = self.places.get(&self.root).map(Place::folder).unwrap_or_default();
        let target = beside(path, from, &root, "spec")?;
        match from {
            Place::File(_) => Ok(target),
            Place::Library(_) => {
                let message = format!("the library has no file `{}`", target.display());
                Err(Box::new(Diagnostic::error("S0006", message).label(path.span, "")))
            }
        }
    }

    /// Whether something has stood for this `let`.
    pub(super) fn is_used(&self, binding: &Let) -> bool {
        self.used.borrow().contains(&binding.span)
    }

    /// Every `let` in sight of the spec.
    pub(super) fn lets(&self) -> impl Iterator<Item = &'a Let> {
        let file = self.files.get(&self.root);
        let hidden = |name: &str| self.spec.contains_key(name);
        let of_file = file.into_iter().flatten().filter(move |(name, _)| !hidden(name)).map(|(_, binding)| *binding);
        self.spec.values().copied().chain(of_file)
    }

    /// Follows a name through `let`s to the value behind it; any other value, and a name that is none, is itself.
    pub(super) fn behind<'e>(&self, value: &'e Expr, diagnostics: &mut Vec<Diagnostic>) -> Option<&'e Expr>
    where
        'a: 'e,
    {
        let mut value = value;
        let mut followed: Vec<&Let> = Vec::new();
        while let ExprKind::Name(name) = &value.kind
            && let Some(binding) = self.find(name, value.span.source)
        {
            self.follow(binding, &mut followed, diagnostics)?;
            value = &binding.value;
        }
        Some(value)
    }

    /// The call that a format or rotation is in the end, and where its first name was used when that is a `let`.
    pub(super) fn call<'e>(
        &self,
        call: &'e Spanned<Call>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<(Cow<'e, Spanned<Call>>, Option<Span>)> {
        let mut call = Cow::Borrowed(call);
        let used = call.span;
        let mut followed: Vec<&Let> = Vec::new();
        while let Some(binding) = self.find(&call.value.name.value, call.value.name.span.source) {
            if !call.value.args.is_empty() {
                let name = &binding.name.value;
                let meant = as_call(&binding.value).map_or_else(
                    || "write a format in its place".to_owned(),
                    |mut meant| {
                        let named =
                            call.value.args.iter().filter_map(|arg| Some((arg.name.clone()?, arg.value.clone())));
                        named.for_each(|(name, value)| replace(&mut meant.value, name, value));
                        format!("write `{}`", meant.value)
                    },
                );
                let diagnostic = Diagnostic::error("S0203", format!("`{name}` is a `let` and takes no arguments"))
                    .label(call.span, "")
                    .label(binding.name.span, "bound here")
                    .help(meant);
                diagnostics.push(diagnostic);
                return None;
            }
            self.follow(binding, &mut followed, diagnostics)?;
            match as_call(&binding.value) {
                Some(next) => call = Cow::Owned(next),
                None => {
                    let message = format!(
                        "`{}` stands for {}, which is no format or rotation",
                        binding.name.value, binding.value
                    );
                    diagnostics.push(
                        Diagnostic::error("S0204", message)
                            .label(call.span, "")
                            .label(binding.value.span, "bound here"),
                    );
                    return None;
                }
            }
        }
        let used = (!followed.is_empty()).then_some(used);
        Some((call, used))
    }

    /// Remembers that a `let` was followed. One that leads back to itself is reported with the chain.
    fn follow<'b>(
        &self,
        binding: &'b Let,
        followed: &mut Vec<&'b Let>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<()> {
        let start = followed.iter().position(|known| std::ptr::eq(*known, binding));
        if let Some(start) = start {
            let ring = &followed[start..];
            // Once for the whole ring, wherever it is entered.
            let is_reported = |known: &Diagnostic| {
                known.code == "S0003" && known.labels.iter().any(|label| label.span == binding.name.span)
            };
            if !diagnostics.iter().any(is_reported) {
                let mut chain: Vec<&str> = ring.iter().map(|known| known.name.value.as_str()).collect();
                chain.push(&binding.name.value);
                let message = format!("`{}` stands for itself: {}", binding.name.value, chain.join(" → "));
                let diagnostic = Diagnostic::error("S0003", message).label(binding.name.span, "");
                let others = ring[1..].iter();
                diagnostics.push(
                    others.fold(diagnostic, |diagnostic, link| diagnostic.label(link.name.span, "by way of this")),
                );
            }
            return None;
        }
        if followed.len() == MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} `let`s stand for one another here");
            diagnostics.push(Diagnostic::error("S0003", message).label(binding.name.span, ""));
            return None;
        }
        self.used.borrow_mut().insert(binding.span);
        followed.push(binding);
        Some(())
    }
}

/// A name, with or without arguments, as a call.
pub(super) fn as_call(value: &Expr) -> Option<Spanned<Call>> {
    let (name, args) = match &value.kind {
        ExprKind::Name(name) => (Spanned::new(name.clone(), value.span), Vec::new()),
        ExprKind::Call { callee, args } => match &callee.kind {
            ExprKind::Name(name) => (Spanned::new(name.clone(), callee.span), args.clone()),
            _ => return None,
        },
        _ => return None,
    };
    Some(Spanned::new(Call { name, args }, value.span))
}
