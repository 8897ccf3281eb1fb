//! A definition checked without a config and without headers: names, module paths, arguments, and what a model has to
//! have. Of conditions every side is looked at; where a value depends on the config, anything may be right.

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::ast::{
    Arg, Decl, DeclKind, Expr, ExprKind, Ignored, Model, Path, PathSegment, Stmt, StmtKind, Subscript,
};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{Span, Spanned};

use super::arguments::{Parameter, places};
use super::functions::{self, FUNCTIONS};
use super::graph::{INPUTS, NO_RETURN, dead_statement, wrong_inputs};
use super::mistakes;

/// Mistakes after which no more are looked for.
const MAX_REPORTED: usize = 200;

/// Mistakes after which no nearest name is looked for: that takes time with each name of the definition.
const MAX_COMPARED: usize = 32;

/// `let`s that a module path is followed through.
const MAX_CHAIN: usize = 64;

/// What is wrong with a definition on any checkpoint.
pub fn lint(model: &Model) -> Vec<Diagnostic> {
    let mut linter = Linter::default();
    linter.modules.collect(&model.body, ROOT);
    linter.frames.push(Frame::default());
    linter.block(&model.body, ROOT);
    linter.graph(model);
    let Linter { mut diagnostics, .. } = linter;
    diagnostics.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span.start));
    diagnostics
}

/// Every path that begins with no segment.
const ROOT: usize = 0;

/// The segment that stands for any index.
const ANY: &str = "*";

/// Module paths, as a tree. A place in it is an index of a node.
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    parent: usize,
    segment: String,
    children: BTreeMap<String, usize>,
    is_module: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Tree { nodes: vec![Node::default()] }
    }
}

impl Tree {
    fn child(&self, place: usize, segment: &str) -> Option<usize> {
        self.nodes[place].children.get(segment).copied()
    }

    fn insert(&mut self, parent: usize, segment: String) -> usize {
        if let Some(child) = self.child(parent, &segment) {
            return child;
        }
        let child = self.nodes.len();
        self.nodes[parent].children.insert(segment.clone(), child);
        self.nodes.push(Node { parent, segment, ..Node::default() });
        child
    }

    /// The path of a place: `model.layers.*`.
    fn path(&self, mut place: usize) -> String {
        let mut segments = Vec::new();
        while place != ROOT {
            segments.push(self.nodes[place].segment.split('@').next().unwrap_or_default());
            place = self.nodes[place].parent;
        }
        segments.reverse();
        segments.join(".")
    }

    fn segments(&self, place: usize) -> impl Iterator<Item = &str> {
        self.nodes[place].children.keys().map(String::as_str)
    }

    /// Adds every path that declarations can make, with [`ANY`] for indices.
    fn collect(&mut self, body: &[Decl], prefix: usize) {
        for decl in body {
            match &decl.kind {
                DeclKind::Module { paths, .. } => {
                    for path in paths {
                        let place = self.loose(path, prefix);
                        self.nodes[place].is_module = true;
                    }
                }
                DeclKind::Scope { path, body } => {
                    // Without a module in it, a scope makes no path.
                    if declares_modules(body) {
                        let place = self.loose(path, prefix);
                        self.collect(body, place);
                    }
                }
                DeclKind::Repeat { body, .. } => self.collect(body, prefix),
                DeclKind::If { then, otherwise, .. } => {
                    self.collect(then, prefix);
                    self.collect(otherwise, prefix);
                }
                DeclKind::Architectures(_)
                | DeclKind::Let { .. }
                | DeclKind::Assert { .. }
                | DeclKind::Context(_)
                | DeclKind::Ignore { .. }
                | DeclKind::Alias { .. }
                | DeclKind::Block { .. }
                | DeclKind::Graph { .. } => {}
            }
        }
    }

    fn loose(&mut self, path: &Path, prefix: usize) -> usize {
        path.segments.iter().fold(prefix, |place, segment| match segment {
            PathSegment::Name(name) => self.insert(place, loose_segment(name).to_string()),
            PathSegment::Index(_) => self.insert(place, ANY.to_string()),
        })
    }
}

/// A segment of a path as the tree of all paths has it.
fn loose_segment(name: &str) -> &str {
    if name.parse::<u64>().is_ok() { ANY } else { name }
}

fn declares_modules(body: &[Decl]) -> bool {
    body.iter().any(|decl| match &decl.kind {
        DeclKind::Module { .. } => true,
        DeclKind::Scope { body, .. } | DeclKind::Repeat { body, .. } => declares_modules(body),
        DeclKind::If { then, otherwise, .. } => declares_modules(then) || declares_modules(otherwise),
        _ => false,
    })
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
            DeclKind::Architectures(_)
            | DeclKind::Ignore { .. }
            | DeclKind::Alias { .. }
            | DeclKind::Block { .. }
            | DeclKind::Graph { .. } => {}
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
                        _ => format!("{ANY}@{}", self.exact.nodes.len()),
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
                    self.unknown(name, expr.span, ["config"].into_iter());
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
                self.expr(base);
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

    fn unknown(&mut self, name: &str, span: Span, known: impl Iterator<Item = &'static str>) {
        let mut candidates: Vec<&str> = known.collect();
        candidates.extend(self.frames.iter().flat_map(|frame| frame.names.keys().copied()));
        candidates.extend(self.modules.segments(ROOT));
        candidates.truncate(self.compared());
        let diagnostic = mistakes::unknown_name(name, span, candidates);
        self.report(diagnostic);
    }

    fn call(&mut self, callee: &'a Expr, args: &'a [Arg], span: Span) {
        let place = match &callee.kind {
            ExprKind::Name(name) if self.find(name, self.frames.len()).is_none() => {
                let module = self.modules.child(ROOT, name).filter(|&place| self.modules.nodes[place].is_module);
                match (functions::find(name), module) {
                    (Some(function), None) => {
                        self.arguments(function.name, function.parameters, args, span);
                        None
                    }
                    // The module may be one that not every config declares.
                    (Some(_), Some(_)) => None,
                    (None, Some(place)) => Some(place),
                    (None, None) => {
                        self.unknown(name, callee.span, FUNCTIONS.iter().map(|function| function.name));
                        None
                    }
                }
            }
            _ => self.expr(callee),
        };
        self.values(args);
        let Some(place) = place else { return };
        let path = self.modules.path(place);
        if !self.modules.nodes[place].is_module {
            let message = format!("expected a module or a function, found the container `{path}`");
            self.report(Diagnostic::error("M0002", message).label(callee.span, ""));
        } else if !matches!(args, [Arg { name: None, .. }]) {
            self.report(mistakes::not_one_activation(&path, span));
        }
    }

    // ---- The graph

    fn graph(&mut self, model: &'a Model) {
        let mut first = None;
        for decl in &model.body {
            let DeclKind::Graph { parameters, body } = &decl.kind else { continue };
            match first {
                Some(first) => self.report(mistakes::found_two("graph", decl.span, first)),
                None => first = Some(decl.span),
            }
            if let Some(diagnostic) = wrong_inputs(parameters, decl.span) {
                self.report(diagnostic);
            }
            self.rebound = rebound(parameters, body);
            self.frontier = self.frames.len();
            self.push_frame();
            let given = parameters.iter().map(|parameter| parameter.value.as_str());
            for name in INPUTS.iter().map(|(name, _)| *name).chain(given) {
                self.bind(name, Bound::Any);
            }
            self.statements(body);
            self.frames.pop();
            match returns(body) {
                Returns::Always => {}
                Returns::Never => self.report(Diagnostic::error("M0006", NO_RETURN).label(decl.span, "")),
                Returns::Sometimes => {
                    let message = "the graph ends without a `return` when no branch with one is taken";
                    self.report(Diagnostic::warning("M0006", message).label(decl.span, ""));
                }
            }
        }
        let is_of_keys = |decl: &Decl| matches!(decl.kind, DeclKind::Ignore { what: Ignored::Config, .. });
        // A list of keys that no model computes with needs none.
        if first.is_none() && (model.body.is_empty() || !model.body.iter().all(is_of_keys)) {
            self.report(mistakes::no_graph(&model.name));
        }
    }

    fn inner_statements(&mut self, body: &'a [Stmt]) {
        self.push_frame();
        self.statements(body);
        self.frames.pop();
    }

    fn statements(&mut self, body: &'a [Stmt]) {
        if let Some(diagnostic) = dead_statement(body) {
            self.report(diagnostic);
        }
        for stmt in body {
            match &stmt.kind {
                StmtKind::Assign { name, value } => {
                    let place = self.expr(value);
                    self.check_name(name);
                    let holder = self.find(&name.value, self.frames.len()).map(|(frame, _)| frame);
                    if holder.is_none_or(|frame| frame < self.frontier) {
                        self.bind_place(&name.value, place);
                    }
                }
                StmtKind::Return(expr) => {
                    self.expr(expr);
                }
                StmtKind::If { condition, then, otherwise } => {
                    self.expr(condition);
                    self.inner_statements(then);
                    self.inner_statements(otherwise);
                }
                StmtKind::For { index, variable, over, body } => {
                    self.check_name(variable);
                    let container = self.expr(over);
                    let place = container.and_then(|place| self.modules.child(place, ANY));
                    if let (Some(container), None) = (container, place) {
                        let path = self.modules.path(container);
                        self.report(mistakes::nothing_indexed(&path, over.span));
                    }
                    self.push_frame();
                    if let Some(index) = index {
                        self.check_name(index);
                        self.bind(&index.value, Bound::Any);
                    }
                    self.bind_place(&variable.value, place);
                    self.statements(body);
                    self.frames.pop();
                }
            }
        }
    }

    fn bind_place(&mut self, name: &'a str, place: Option<usize>) {
        let place = place.filter(|_| !self.rebound.contains(name));
        self.bind(name, place.map_or(Bound::Any, Bound::Place));
    }
}

/// The names of a graph that are assigned twice, or assigned and bound otherwise.
fn rebound<'a>(parameters: &'a [Spanned<String>], body: &'a [Stmt]) -> BTreeSet<&'a str> {
    let mut bound: BTreeSet<&str> = parameters.iter().map(|parameter| parameter.value.as_str()).collect();
    let mut assigned = BTreeSet::new();
    let mut rebound = BTreeSet::new();
    let mut waiting: Vec<&Stmt> = body.iter().collect();
    while let Some(stmt) = waiting.pop() {
        match &stmt.kind {
            StmtKind::Assign { name, .. } => {
                if !assigned.insert(name.value.as_str()) {
                    rebound.insert(name.value.as_str());
                }
            }
            StmtKind::For { index, variable, body, .. } => {
                bound.extend(index.iter().chain([variable]).map(|name| name.value.as_str()));
                waiting.extend(body);
            }
            StmtKind::If { then, otherwise, .. } => waiting.extend(then.iter().chain(otherwise)),
            StmtKind::Return(_) => {}
        }
    }
    rebound.extend(assigned.intersection(&bound));
    rebound
}

/// Whether statements end with a `return`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Returns {
    Never,
    Sometimes,
    Always,
}

fn returns(body: &[Stmt]) -> Returns {
    let of = |stmt: &Stmt| match &stmt.kind {
        StmtKind::Assign { .. } => Returns::Never,
        StmtKind::Return(_) => Returns::Always,
        // What it goes through is mostly not empty.
        StmtKind::For { body, .. } => returns(body),
        StmtKind::If { then, otherwise, .. } => match (returns(then), returns(otherwise)) {
            (then, otherwise) if then == otherwise => then,
            _ => Returns::Sometimes,
        },
    };
    body.iter().map(of).max().unwrap_or(Returns::Never)
}
