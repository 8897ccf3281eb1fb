//! A definition checked without a config and without headers: names, module paths, arguments, and what a model has to
//! have. Of conditions every side is looked at; where a value depends on the config, anything may be right.

mod graph;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::ast::{Arg, Decl, DeclKind, Expr, ExprKind, Model, Path, PathSegment, Subscript};
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::span::{Span, Spanned};

use super::arguments::{Parameter, places};
use super::blocks::Block;
use super::functions::{self, FUNCTIONS};
use super::{mistakes, unused};

use tree::{ANY, ROOT, Tree, loose_segment};

/// Mistakes after which no more are looked for.
const MAX_REPORTED: usize = 200;

/// Mistakes after which no nearest name is looked for: that takes time with each name of the definition.
const MAX_COMPARED: usize = 32;

/// `let`s that a module path is followed through.
const MAX_CHAIN: usize = 64;

/// What is wrong with a definition on any checkpoint. It extends nothing any more.
pub fn lint(model: &Model) -> Vec<Diagnostic> {
    let mut linter = Linter::default();
    linter.modules.collect(&model.body, ROOT);
    linter.collect_blocks(model);
    linter.frames.push(Frame::default());
    linter.block(&model.body, ROOT);
    linter.blocks();
    linter.graph(model);
    linter.diagnostics.extend(unused::names(model));
    let Linter { mut diagnostics, .. } = linter;
    diagnostics.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span));
    diagnostics
}

/// What a name stands for, as far as that is known.
#[derive(Clone, Copy)]
enum Bound<'a> {
    Let(&'a Expr),
    /// A place in the tree of modules.
    Place(usize),
    /// Depends on the config, or is no module.
    Any,
}

/// The names of one block.
#[derive(Default)]
struct Frame<'a> {
    id: usize,
    names: BTreeMap<&'a str, Bound<'a>>,
}

#[derive(Default)]
struct Linter<'a> {
    diagnostics: Vec<Diagnostic>,
    /// Every path that the definition can make.
    modules: Tree,
    /// The blocks of the definition, by name.
    blocks: BTreeMap<&'a str, Block<'a>>,
    /// The block that is being looked at.
    inside: Option<&'a str>,
    /// Which blocks each block calls, and where.
    calls: BTreeMap<&'a str, Vec<(&'a str, Span)>>,
    /// Blocks, innermost last.
    frames: Vec<Frame<'a>>,
    last_frame: usize,
    /// Paths with indices told apart, to find those that are declared twice.
    exact: Tree,
    /// Where each path of `exact` that is in force was declared.
    declared: BTreeMap<usize, Span>,
    /// The paths of `declared`, in their order.
    order: Vec<usize>,
    context: Option<Span>,
    /// Frames below this one keep their bindings when the graph assigns.
    frontier: usize,
    /// Names of the graph that stand for more than one value.
    rebound: BTreeSet<&'a str>,
}

impl<'a> Linter<'a> {
    fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_REPORTED {
            self.diagnostics.push(diagnostic);
        } else if let Some(last) = self.diagnostics.last_mut().filter(|last| last.notes.is_empty()) {
            last.notes.push("there are more mistakes, which are not shown".into());
        }
    }

    fn push_frame(&mut self) {
        self.last_frame += 1;
        self.frames.push(Frame { id: self.last_frame, names: BTreeMap::new() });
    }

    fn bind(&mut self, name: &'a str, bound: Bound<'a>) -> bool {
        let frame = self.frames.last_mut().expect("invariant: the frame of the model stays");
        frame.names.insert(name, bound).is_none()
    }

    fn check_name(&mut self, name: &Spanned<String>) {
        if let Some(diagnostic) = mistakes::bound_config(name) {
            self.report(diagnostic);
        }
    }

    /// The innermost frame that has a name, and what it stands for there.
    fn find(&self, name: &str, frames: usize) -> Option<(usize, Bound<'a>)> {
        let frames = self.frames[..frames].iter().enumerate().rev();
        frames.into_iter().find_map(|(index, frame)| Some((index, *frame.names.get(name)?)))
    }

    // ---- Declarations

    /// Looks at a block whose frame is the innermost.
    fn block(&mut self, body: &'a [Decl], prefix: usize) {
        for decl in body {
            if let DeclKind::Let { name, value } = &decl.kind {
                self.check_name(name);
                if name.value != "config" && !self.bind(&name.value, Bound::Let(value)) {
                    self.report(mistakes::defined_twice(name));
                }
            }
        }
        for decl in body {
            self.declaration(decl, prefix);
        }
    }

    fn inner(&mut self, body: &'a [Decl], prefix: usize) {
        self.push_frame();
        self.block(body, prefix);
        self.frames.pop();
    }

    /// A block that is not always in force: what it declares excludes nothing behind it.
    fn alternative(&mut self, body: &'a [Decl], prefix: usize) {
        let (context, declared) = (self.context, self.order.len());
        self.inner(body, prefix);
        self.context = context;
        for place in self.order.drain(declared..) {
            self.declared.remove(&place);
        }
    }

    fn declaration(&mut self, decl: &'a Decl, prefix: usize) {
        match &decl.kind {
            DeclKind::Architectures(_) | DeclKind::Ignore { .. } | DeclKind::Block { .. } | DeclKind::Graph { .. } => {}
            DeclKind::Alias { path, .. } => self.alias(path),
            DeclKind::Let { value: expr, .. } | DeclKind::Assert { condition: expr, .. } => {
                self.expr(expr);
            }
            DeclKind::Context(expr) => {
                match self.context {
                    Some(first) => self.report(mistakes::found_two("`context`", decl.span, first)),
                    None => self.context = Some(decl.span),
                }
                self.expr(expr);
            }
            DeclKind::Module { paths, constructor } => {
                for path in paths {
                    let place = self.exact_path(path, prefix);
                    match self.declared.get(&place) {
                        Some(&first) => {
                            let text = self.exact.path(place);
                            self.report(mistakes::declared_twice(&text, path.span, first));
                        }
                        None => {
                            self.declared.insert(place, path.span);
                            self.order.push(place);
                        }
                    }
                }
                self.constructor(constructor);
            }
            DeclKind::Scope { path, body } => {
                let place = self.exact_path(path, prefix);
                self.inner(body, place);
            }
            DeclKind::Repeat { variable, start, end, body } => {
                self.check_name(variable);
                self.expr(start);
                self.expr(end);
                self.push_frame();
                self.bind(&variable.value, Bound::Any);
                self.alternative(body, prefix);
                self.frames.pop();
            }
            DeclKind::If { condition, then, otherwise } => {
                self.expr(condition);
                self.alternative(then, prefix);
                self.alternative(otherwise, prefix);
            }
        }
    }

    /// Tensors that belong to no module may be stored elsewhere too, so this is no error.
    fn alias(&mut self, path: &Spanned<String>) {
        if self.modules.find(&path.value).is_some() {
            return;
        }
        let message = format!("no module has the path `{}` or one below it", path.value);
        let fault = Diagnostic::warning("M0001", message).label(path.span, "");
        let (above, last) = path.value.rsplit_once('.').unwrap_or(("", &path.value));
        let known = self.modules.find(above).and_then(|place| nearest(last, self.modules.segments(place)));
        let near = known.map(|near| if above.is_empty() { near.to_owned() } else { format!("{above}.{near}") });
        self.report(match near {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => fault,
        });
    }

    /// A path in which equal indices are equal segments: literals, and one name of one block.
    fn exact_path(&mut self, path: &'a Path, prefix: usize) -> usize {
        let mut place = prefix;
        for segment in &path.segments {
            let text = match segment {
                PathSegment::Name(name) => name.clone(),
                PathSegment::Index(expr) => {
                    self.expr(expr);
                    match &expr.kind {
                        ExprKind::Int(index) => index.to_string(),
                        ExprKind::Name(name) if self.find(name, self.frames.len()).is_some() => {
                            let frame =
                                self.find(name, self.frames.len()).map_or(0, |(frame, _)| self.frames[frame].id);
                            format!("{ANY}@{name}@{frame}")
                        }
                        // Equal to no other.
                        _ => self.exact.unlike_any(),
                    }
                }
            };
            place = self.exact.insert(place, text);
        }
        place
    }

    fn constructor(&mut self, expr: &'a Expr) {
        let found = mistakes::constructor_of(expr);
        let ExprKind::Call { args, .. } = &expr.kind else {
            return found.err().into_iter().for_each(|diagnostic| self.report(*diagnostic));
        };
        match found {
            Ok(constructor) => self.arguments(constructor.name, constructor.parameters, args, expr.span),
            Err(diagnostic) => self.report(*diagnostic),
        }
        self.values(args);
    }

    fn arguments(&mut self, callee: &str, parameters: &[Parameter], args: &[Arg], span: Span) {
        for diagnostic in places(callee, parameters, args, span).err().into_iter().flatten() {
            self.report(diagnostic);
        }
    }

    fn values(&mut self, args: &'a [Arg]) {
        for arg in args {
            self.expr(&arg.value);
        }
    }

    // ---- Expressions

    /// Looks at an expression. The place of a module or container comes back when it is sure to be one.
    fn expr(&mut self, expr: &'a Expr) -> Option<usize> {
        match &expr.kind {
            ExprKind::Null | ExprKind::Bool(_) | ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Str(_) => None,
            ExprKind::List(items) => {
                for item in items {
                    self.expr(item);
                }
                None
            }
            ExprKind::Name(name) => {
                let place = self.place(expr, self.frames.len(), MAX_CHAIN);
                if place.is_none() && name != "config" && self.find(name, self.frames.len()).is_none() {
                    self.unknown(name, expr.span, vec!["config"]);
                }
                place
            }
            ExprKind::Member(base, member) => {
                let base = self.expr(base)?;
                let child = self.modules.child(base, loose_segment(&member.value));
                if child.is_none() {
                    let path = self.modules.path(base);
                    let children = self.modules.segments(base).take(self.compared());
                    let diagnostic = mistakes::no_module(&path, &member.value, member.span, children);
                    self.report(diagnostic);
                }
                child
            }
            ExprKind::Index(base, index) => {
                let base = self.expr(base);
                self.expr(index);
                let child = self.modules.child(base?, ANY);
                if child.is_none() {
                    let path = self.modules.path(base?);
                    self.report(mistakes::no_module(&path, ANY, expr.span, []));
                }
                child
            }
            ExprKind::Slice(base, subscripts) => {
                if let Some(place) = self.expr(base) {
                    let what = if self.modules.is_module(place) { "module" } else { "container" };
                    let path = self.modules.path(place);
                    let message = format!("expected a stored tensor, or a part of one, found the {what} `{path}`");
                    self.report(Diagnostic::error("M0002", message).label(base.span, ""));
                }
                for bound in subscripts.iter().flat_map(Subscript::bounds) {
                    self.expr(bound);
                }
                None
            }
            ExprKind::Call { callee, args } => {
                self.call(callee, args, expr.span);
                None
            }
            ExprKind::Unary(_, operand) => {
                self.expr(operand);
                None
            }
            ExprKind::Binary(_, a, b) | ExprKind::When(a, b) => {
                self.expr(a);
                self.expr(b);
                None
            }
            ExprKind::If { condition, then, otherwise } => {
                self.expr(condition);
                let then = self.expr(then);
                let otherwise = self.expr(otherwise);
                then.filter(|_| then == otherwise)
            }
        }
    }

    /// The place that a path leads to, seen from the outermost `frames`, through `let`s.
    fn place(&self, expr: &Expr, frames: usize, chain: usize) -> Option<usize> {
        match &expr.kind {
            ExprKind::Name(name) if name == "config" => None,
            ExprKind::Name(name) => match self.find(name, frames) {
                Some((frame, Bound::Let(value))) => self.place(value, frame + 1, chain.checked_sub(1)?),
                Some((_, Bound::Place(place))) => Some(place),
                Some((_, Bound::Any)) => None,
                None => self.modules.child(ROOT, name),
            },
            ExprKind::Member(base, member) => {
                self.modules.child(self.place(base, frames, chain)?, loose_segment(&member.value))
            }
            ExprKind::Index(base, _) => self.modules.child(self.place(base, frames, chain)?, ANY),
            _ => None,
        }
    }

    /// How many names an unknown one is still compared with.
    fn compared(&self) -> usize {
        if self.diagnostics.len() < MAX_COMPARED { usize::MAX } else { 0 }
    }

    fn unknown(&mut self, name: &str, span: Span, known: Vec<&'a str>) {
        let mut candidates: Vec<&str> = known;
        candidates.extend(self.frames.iter().flat_map(|frame| frame.names.keys().copied()));
        candidates.extend(self.modules.segments(ROOT));
        candidates.truncate(self.compared());
        let diagnostic = mistakes::unknown_name(name, span, candidates);
        self.report(diagnostic);
    }

    fn call(&mut self, callee: &'a Expr, args: &'a [Arg], span: Span) {
        let place = match &callee.kind {
            ExprKind::Name(name) if self.find(name, self.frames.len()).is_none() => {
                let module = self.modules.child(ROOT, name).filter(|&place| self.modules.is_module(place));
                match (self.blocks.get(name.as_str()).copied(), functions::find(name), module) {
                    (Some(block), _, None) => {
                        self.block_call(block, args, span);
                        None
                    }
                    (None, Some(function), None) => {
                        self.arguments(function.name, function.parameters, args, span);
                        None
                    }
                    (None, None, Some(place)) => Some(place),
                    // The module may be one that not every config declares.
                    (_, _, Some(_)) => None,
                    (None, None, None) => {
                        let functions = FUNCTIONS.iter().map(|function| function.name);
                        let known: Vec<&str> = functions.chain(self.blocks.keys().copied()).collect();
                        self.unknown(name, callee.span, known);
                        None
                    }
                }
            }
            _ => self.expr(callee),
        };
        self.values(args);
        let Some(place) = place else { return };
        let path = self.modules.path(place);
        if !self.modules.is_module(place) {
            let message = format!("expected a module or a function, found the container `{path}`");
            self.report(Diagnostic::error("M0002", message).label(callee.span, ""));
        } else if !matches!(args, [Arg { name: None, .. }]) {
            self.report(mistakes::not_one_activation(&path, span));
        }
    }
}
