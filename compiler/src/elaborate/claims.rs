//! Stored tensors and who reads them: every element is claimed exactly once, or ignored by name.

use std::collections::BTreeSet;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::pattern::{Kind, NameGlob};
use lathe_grammar::span::Span;

use super::Elaborator;
use super::constructors::Declared;
use super::coverage::{self, Fault};
use super::suggest::{self, module_of};
use super::value::{Reported, Value};
use crate::ir::{Param, ParamId, Shaped, TensorId, Values, View};
use crate::model::Tensor;
use crate::plan::{Folded, fold};

/// Groups of tensors that one message names.
const MAX_GROUPS: usize = 60;

/// Missing tensors after which no more are looked for.
const MAX_MISSING: usize = 100;

/// A parameter that reads a stored tensor, or a part of it.
pub(super) struct Claim {
    /// The parameter.
    name: String,
    /// The declaration of its module.
    span: Span,
    view: View,
}

impl Elaborator<'_> {
    /// Adds a parameter to the graph's table.
    pub(super) fn param(&mut self, name: String, shape: Vec<u64>, values: Values) -> ParamId {
        self.graph.add_param(Param::new(name, shape, values))
    }

    /// The stored tensor of this name, or of one that an `alias` gives for it.
    pub(super) fn find_tensor(&self, name: &str) -> Option<TensorId> {
        let beside = |path: &str| if path.is_empty() { Some(name) } else { name.strip_prefix(path)?.strip_prefix('.') };
        let aliased = self.aliases.iter().filter_map(|(path, stored)| Some((beside(path)?, stored)));
        let other = |(rest, stored): (&str, &String)| {
            let name = if stored.is_empty() { rest.to_string() } else { format!("{stored}.{rest}") };
            self.checkpoint.find(&name)
        };
        self.checkpoint.find(name).or_else(|| aliased.into_iter().find_map(other))
    }

    /// The parameter `path.suffix` of this shape: the argument `index`, if that is a view, else what is stored under its
    /// name. What does not fit is reported; the parameter is made all the same, so that one bad tensor does not hide the
    /// next.
    pub(super) fn stored(
        &mut self,
        declared: &Declared<'_>,
        (suffix, index): (&str, Option<usize>),
        shape: &[u64],
    ) -> Result<ParamId, Reported> {
        self.step(declared.span)?;
        let name = match suffix {
            "" => declared.path.to_string(),
            suffix => format!("{}.{suffix}", declared.path),
        };
        let view = match index.and_then(|index| declared.arguments.option(index)) {
            None | Some((Value::Bool(_), _)) => {
                let id = self.expect_tensor(&name, Some(shape), declared.span)?;
                id.map(|id| Shaped::whole(id, &self.checkpoint.tensor(id).shape))
            }
            Some((Value::View(view), _)) => Some(view.as_ref().clone()),
            Some((other, span)) => return Err(self.expected("a stored tensor, or a part of one", other, span)),
        };
        let unknown = || View::contiguous(TensorId(u32::MAX), 0, shape.iter().product());
        let view = view.map_or_else(unknown, |view| self.claim(declared, &name, shape, &view));
        Ok(self.param(name, shape.to_vec(), Values::Stored(view)))
    }

    /// A tensor that must be stored; `None` when it is not, which is reported, an error when it was reported too often.
    pub(super) fn expect_tensor(
        &mut self,
        name: &str,
        shape: Option<&[u64]>,
        span: Span,
    ) -> Result<Option<TensorId>, Reported> {
        if let Some(id) = self.find_tensor(name) {
            return Ok(Some(id));
        }
        if self.missing > MAX_MISSING {
            // The checkpoint is another model's; a thousand more names would say no more.
            return Err(Reported);
        }
        self.missing += 1;
        let folder = self.checkpoint.folder.display().to_string();
        let shape = shape.map(|shape| format!(" {shape:?}")).unwrap_or_default();
        let message = format!("{folder}: expected tensor `{name}`{shape}, found no tensor of this name");
        let mut diagnostic = Diagnostic::error("C0004", message).file(folder).label(span, "declared here");
        if let Some(near) = (!self.only_counts).then(|| self.checkpoint.nearest(name)).flatten() {
            diagnostic = diagnostic.note(format!("the closest stored name is `{near}`"));
        }
        self.report(diagnostic);
        Ok(None)
    }

    /// The path of the module that would store the tensor of a parameter under its own name, where the definition asked
    /// for it by name.
    pub(super) fn stored_path(&self, param: ParamId) -> Option<String> {
        let Values::Stored(view) = &self.graph.param(param)?.values else { return None };
        let name = self.asked.get(&view.tensor)?;
        Some(name.strip_suffix(".weight").unwrap_or(name).to_string())
    }

    fn claim(&mut self, declared: &Declared<'_>, name: &str, shape: &[u64], shaped: &Shaped) -> View {
        let (id, found) = (shaped.tensor(), shaped.shape());
        let checkpoint = self.checkpoint;
        let tensor = checkpoint.tensor(id);
        let file = checkpoint.file_of(tensor);
        if found != shape {
            let stored = match (tensor.name == name, tensor.shape == found) {
                (true, _) => format!("tensor `{name}`: expected shape {shape:?}, found {found:?}"),
                (false, true) => {
                    format!("`{name}` from tensor `{}`: expected shape {shape:?}, found {found:?}", tensor.name)
                }
                (false, false) => format!(
                    "`{name}` from tensor `{}` {:?}: expected shape {shape:?}, found a part {found:?}",
                    tensor.name, tensor.shape
                ),
            };
            let diagnostic = Diagnostic::error("C0005", format!("{file}: {stored}"))
                .file(file.clone())
                .label(declared.span, "declared here");
            let noted = declared.keys.iter().fold(diagnostic, |diagnostic, key| diagnostic.note(key.as_str()));
            self.report(noted);
        }
        if tensor.stored_dtype().is_none() {
            let message =
                format!("{file}: tensor `{}`: expected F32, F16 or BF16, found {:?}", tensor.name, tensor.dtype);
            self.report(Diagnostic::error("C0009", message).file(file).label(declared.span, "declared here"));
        }
        let view = shaped.view();
        let claim = Claim { name: name.to_string(), span: declared.span, view: view.clone() };
        self.claimed.entry(id).or_default().push(claim);
        view
    }

    /// Reports tensors of which elements are claimed twice, or some elements by nobody.
    fn coverage(&mut self) {
        let mut found = Vec::new();
        for (&id, claims) in &self.claimed {
            let tensor = self.checkpoint.tensor(id);
            let file = self.checkpoint.file_of(tensor);
            let elements = tensor.shape.iter().product();
            let views: Vec<&View> = claims.iter().map(|claim| &claim.view).collect();
            let Err(fault) = coverage::check(elements, &views) else { continue };
            let tensor = format!("tensor `{}` {:?}", tensor.name, tensor.shape);
            if matches!(fault, Fault::Nobody(_)) && self.a_module_failed() {
                continue;
            }
            found.push(match fault {
                Fault::Twice(first, second) => {
                    let (first, second) = (&claims[first], &claims[second]);
                    let message = format!("{file}: {tensor}: `{}` and `{}` read one element", second.name, first.name);
                    Diagnostic::error("C0007", message)
                        .file(file)
                        .label(second.span, "the second reader")
                        .label(first.span, "the first reader")
                }
                Fault::Nobody(left) => {
                    let message = format!("{file}: {tensor}: {left} of its {elements} elements are read by no module");
                    let reader = &claims[0];
                    Diagnostic::error("C0006", message)
                        .file(file)
                        .label(reader.span, format!("`{}` reads others of them", reader.name))
                        .help("every element must be read exactly once")
                }
                Fault::Unknown => {
                    let message = format!(
                        "{file}: {tensor}: its parts are too intricate to tell whether each element is read once"
                    );
                    Diagnostic::error("C0007", message).file(file).label(claims[0].span, "one of its readers")
                }
            });
        }
        self.diagnostics.extend(found);
    }

    /// Reports every stored tensor that nobody claimed and no `ignore tensors` names.
    pub(super) fn claims(&mut self) {
        self.coverage();
        let mut ignored = Vec::new();
        for (text, span) in std::mem::take(&mut self.ignored_tensors) {
            match NameGlob::parse(&text) {
                Ok(glob) => ignored.push(glob),
                Err(error) => {
                    self.error("S0102", span, format!("`{text}`: {}", error.message));
                }
            }
        }
        if self.a_module_failed() {
            // It may have read any of them.
            return;
        }
        let unclaimed: Vec<&Tensor> = self
            .checkpoint
            .tensors
            .iter()
            .enumerate()
            .filter(|(index, tensor)| {
                !self.claimed.contains_key(&TensorId(*index as u32))
                    && !ignored.iter().any(|glob| glob.matches(&tensor.name))
            })
            .map(|(_, tensor)| tensor)
            .collect();
        if !unclaimed.is_empty() {
            let diagnostic = self.unclaimed(&unclaimed);
            self.report(diagnostic);
        }
    }

    /// Tensors that differ in indices only are named together, and declarations for all of them suggested.
    fn unclaimed(&self, tensors: &[&Tensor]) -> Diagnostic {
        let files: BTreeSet<usize> = tensors.iter().map(|tensor| tensor.file).collect();
        let file = match files.len() {
            1 => self.checkpoint.file_of(tensors[0]),
            _ => self.checkpoint.folder.display().to_string(),
        };
        let groups = fold(tensors.iter().map(|tensor| (tensor.name.clone(), &tensor.shape)));
        let shown = |group: &Folded<&Vec<u64>>| match group.count {
            1 => format!("`{}` {:?}", group.path, group.common),
            count => format!("`{}` {:?}, {count} of them", group.path, group.common),
        };
        let message = match (tensors, &groups[..]) {
            ([tensor], _) => {
                format!(
                    "expected a module for tensor `{}` {:?}, found none in the definition",
                    tensor.name, tensor.shape
                )
            }
            (_, [group]) => format!("expected modules for tensors {}, found none in the definition", shown(group)),
            _ => format!("expected modules for {} tensors, found none in the definition", tensors.len()),
        };
        let mut diagnostic = Diagnostic::error("C0006", format!("{file}: {message}")).file(file);
        if groups.len() > 1 {
            for group in groups.iter().take(MAX_GROUPS) {
                diagnostic = diagnostic.note(shown(group));
            }
            if groups.len() > MAX_GROUPS {
                diagnostic = diagnostic.note(format!("… and {} more", groups.len() - MAX_GROUPS));
            }
        }
        let has = |kind| self.modules.iter().any(|built| built.module.kind == kind);
        let declared = suggest::Declared { head: has(Kind::Head), embedding: has(Kind::Embedding) };
        let ignore = match tensors {
            [tensor] => format!("`ignore tensors \"{}\"`", tensor.name),
            _ => "`ignore tensors \"NAME\"`".to_owned(),
        };
        let is_lacking =
            |tensor: &&Tensor| tensor.name.strip_suffix(".bias").is_some_and(|module| self.paths.contains_key(module));
        let (biases, others): (Vec<&Tensor>, Vec<&Tensor>) = tensors.iter().copied().partition(is_lacking);
        for group in fold(biases.iter().map(|tensor| (module_of(&tensor.name).to_owned(), ()))) {
            diagnostic = diagnostic.note(format!("`{}` is declared without `bias: true`", group.path));
        }
        diagnostic.help(match suggest::declarations(&others, self.config, declared) {
            Some(text) => {
                format!(
                    "paste this into the model, and correct what it guesses wrong; {ignore} is for what is dead:\n\n{text}"
                )
            }
            None if others.is_empty() => format!("add `bias: true`, or write {ignore} when it is dead"),
            None => format!("declare the module that reads it, or write {ignore} when it is dead"),
        })
    }
}
