//! Model definitions: declarations and the statements of the graph.

use pest::iterators::Pair;

use crate::ast::{Decl, DeclKind, Expr, Ignored, Model, Path, PathSegment, Stmt, StmtKind};
use crate::diag::Diagnostic;
use crate::parse::pattern_diagnostic;
use crate::pattern::NameGlob;
use crate::span::{Span, Spanned};

use super::mistakes::Place;
use super::{Head, Rule, Walker, significant};

impl Walker {
    pub(super) fn model(&mut self, pair: Pair<Rule>) -> Option<Model> {
        let mut head = Head::default();
        let mut body = Vec::new();
        for part in significant(pair) {
            match part.as_rule() {
                Rule::declarations => body = self.declarations(part, Place::Model),
                _ => self.item_head(&part, &mut head),
            }
        }
        Some(Model { name: head.name?, extends: head.extends, body })
    }

    /// `place` is [`Place::Model`], [`Place::Inner`] or [`Place::Scope`].
    fn declarations(&mut self, pair: Pair<Rule>, place: Place) -> Vec<Decl> {
        significant(pair)
            .filter_map(|part| match part.as_rule() {
                Rule::declaration => self.declaration(part, place),
                _ => self.bad(&part, place, |walker, pair| walker.declaration(pair, place)).flatten(),
            })
            .collect()
    }

    fn declaration(&mut self, pair: Pair<Rule>, place: Place) -> Option<Decl> {
        let span = self.span(&pair);
        let declared = significant(pair).next()?;
        let word = match declared.as_rule() {
            Rule::architectures => Some("architectures"),
            Rule::context => Some("context"),
            Rule::ignore => Some("ignore"),
            Rule::alias => Some("alias"),
            Rule::block => Some("block"),
            Rule::graph => Some("graph"),
            _ => None,
        };
        if let Some(word) = word.filter(|word| !place.keywords().contains(word)) {
            let keyword = Span { end: span.start + word.len() as u32, ..span };
            let elsewhere = if place == Place::Scope { "a scope" } else { "a `repeat` or an `if`" };
            self.report("P0001", keyword, format!("`{word}` belongs to the model, not into {elsewhere}"));
        }
        let inner = if place == Place::Model { Place::Inner } else { place };
        let kind = match declared.as_rule() {
            Rule::architectures => DeclKind::Architectures(self.strings(significant(declared).next()?)?),
            Rule::binding => {
                let mut parts = significant(declared);
                let name = self.name(&parts.next()?);
                DeclKind::Let { name, value: self.expression(parts.next()?)? }
            }
            Rule::assertion => {
                let mut parts = significant(declared);
                let condition = self.expression(parts.next()?);
                let message = match parts.next() {
                    Some(message) => Some(self.string(&message)?),
                    None => None,
                };
                DeclKind::Assert { condition: condition?, message }
            }
            Rule::context => DeclKind::Context(self.expression(significant(declared).next()?)?),
            Rule::repeat => self.repeat(declared, inner)?,
            Rule::declared_if => {
                let read = |walker: &mut Self, block: Pair<Rule>| walker.declarations(block, inner);
                let wrap = |span: Span, condition: Expr, then: Vec<Decl>, otherwise: Vec<Decl>| {
                    vec![Decl { kind: DeclKind::If { condition, then, otherwise }, span }]
                };
                return self.chain(declared, read, wrap)?.pop();
            }
            Rule::ignore => self.ignore(declared)?,
            Rule::alias => self.alias(declared)?,
            Rule::block => self.block(declared)?,
            Rule::graph => self.graph(declared)?,
            _ => self.module(declared, place)?,
        };
        Some(Decl { kind, span })
    }

    fn repeat(&mut self, pair: Pair<Rule>, place: Place) -> Option<DeclKind> {
        let mut variable = None;
        let mut bounds = Vec::new();
        let mut body = Vec::new();
        for part in significant(pair) {
            match part.as_rule() {
                Rule::name => variable = Some(self.name(&part)),
                Rule::expression => bounds.push(self.expression(part)),
                Rule::declarations => body = self.declarations(part, place),
                _ => self.bad_head(&part, Rule::repeat_head),
            }
        }
        let mut bounds = bounds.into_iter();
        Some(DeclKind::Repeat { variable: variable?, start: bounds.next()??, end: bounds.next()??, body })
    }

    /// `if`, any number of `else if`, and `else`, from the end.
    fn chain<T>(
        &mut self,
        pair: Pair<Rule>,
        read: impl Fn(&mut Self, Pair<Rule>) -> Vec<T>,
        wrap: impl Fn(Span, Expr, Vec<T>, Vec<T>) -> Vec<T>,
    ) -> Option<Vec<T>> {
        let span = self.span(&pair);
        let parts: Vec<Pair<Rule>> = significant(pair).collect();
        self.deeper(parts.len() / 2, span, |walker| {
            let mut branches = Vec::new();
            let mut condition = None;
            let mut otherwise = Vec::new();
            for part in parts {
                match (part.as_rule(), condition.take()) {
                    (Rule::condition, _) => condition = Some((walker.span(&part), walker.condition(part))),
                    (_, Some((span, condition))) => branches.push((span, condition, read(walker, part))),
                    (_, None) => otherwise = read(walker, part),
                }
            }
            for (at, condition, then) in branches.into_iter().rev() {
                otherwise = wrap(Span { end: span.end, ..at }, condition?, then, otherwise);
            }
            Some(otherwise)
        })
    }

    fn condition(&mut self, pair: Pair<Rule>) -> Option<Expr> {
        let head = significant(pair).next()?;
        if head.as_rule() == Rule::expression {
            return self.expression(head);
        }
        self.bad_head(&head, Rule::condition_head);
        None
    }

    fn ignore(&mut self, pair: Pair<Rule>) -> Option<DeclKind> {
        let mut parts = significant(pair);
        let what = if parts.next()?.as_rule() == Rule::tensors { Ignored::Tensors } else { Ignored::Config };
        let names = self.strings(parts.next()?)?;
        if what == Ignored::Tensors {
            for name in &names {
                if let Err(fault) = NameGlob::parse(&name.value) {
                    let inner = Span { start: name.span.start + 1, end: name.span.end - 1, ..name.span };
                    self.diagnostics.push(pattern_diagnostic(&fault, inner));
                }
            }
        }
        Some(DeclKind::Ignore { what, names })
    }

    fn alias(&mut self, pair: Pair<Rule>) -> Option<DeclKind> {
        let mut parts = significant(pair);
        let path = self.string(&parts.next()?);
        let stored = self.strings(parts.next()?)?;
        let path = path?;
        for name in std::iter::once(&path).chain(&stored) {
            if !name.value.is_empty() && name.value.split('.').any(str::is_empty) {
                let message = format!("`{}` has a part without a name", name.value);
                let fault = Diagnostic::error("P0001", message).label(name.span, "");
                self.diagnostics.push(fault.help("parts of a path stand between single dots; all tensors are `\"\"`"));
            }
        }
        Some(DeclKind::Alias { path, stored })
    }

    fn strings(&mut self, pair: Pair<Rule>) -> Option<Vec<Spanned<String>>> {
        let strings: Vec<Option<_>> = significant(pair).map(|string| self.string(&string)).collect();
        strings.into_iter().collect()
    }

    pub(super) fn string(&mut self, pair: &Pair<Rule>) -> Option<Spanned<String>> {
        let span = self.span(pair);
        self.unescaped(pair).map(|content| Spanned::new(content, span))
    }

    fn module(&mut self, pair: Pair<Rule>, place: Place) -> Option<DeclKind> {
        let mut keyword = None;
        let mut paths = Vec::new();
        let mut body = None;
        let mut constructor = None;
        for part in significant(pair) {
            match part.as_rule() {
                Rule::kw_module => keyword = Some(self.span(&part)),
                Rule::path => paths.push(self.path(part)),
                Rule::declarations => body = Some(self.declarations(part, Place::Scope)),
                _ => constructor = self.expression(part),
            }
        }
        let paths: Vec<Path> = paths.into_iter().collect::<Option<_>>()?;
        match (keyword, place) {
            (None, Place::Model | Place::Inner) => {
                let span = paths.first()?.span;
                let fault = Diagnostic::error("P0001", "`module` is missing before this path")
                    .label(span, "")
                    .help("outside a scope, a module is declared by `module PATH = …`");
                self.diagnostics.push(fault);
            }
            (Some(keyword), Place::Scope) => {
                let fault = Diagnostic::error("P0001", "`module` is left out inside a scope").label(keyword, "");
                self.diagnostics.push(fault.help("write `PATH = …`: the path goes on from that of the scope"));
            }
            _ => {}
        }
        match body {
            Some(body) => Some(DeclKind::Scope { path: paths.into_iter().next()?, body }),
            None => Some(DeclKind::Module { paths, constructor: constructor? }),
        }
    }

    fn path(&mut self, pair: Pair<Rule>) -> Option<Path> {
        let span = self.span(&pair);
        let mut segments = Vec::new();
        for part in significant(pair) {
            segments.push(match part.as_rule() {
                Rule::name => Some(PathSegment::Name(part.as_str().to_owned())),
                Rule::path_member => significant(part).next().map(|word| PathSegment::Name(word.as_str().to_owned())),
                _ => significant(part).next().and_then(|index| self.expression(index)).map(PathSegment::Index),
            });
        }
        Some(Path { segments: segments.into_iter().collect::<Option<_>>()?, span })
    }

    fn block(&mut self, pair: Pair<Rule>) -> Option<DeclKind> {
        let mut name = None;
        let mut parameters = None;
        let mut body = Vec::new();
        for part in significant(pair) {
            match part.as_rule() {
                Rule::name => name = Some(self.name(&part)),
                Rule::parameters => parameters = Some(self.parameters(part)),
                Rule::statements => body = self.statements(part),
                _ => self.bad_head(&part, Rule::block_parameters),
            }
        }
        Some(DeclKind::Block { name: name?, parameters: parameters?, body })
    }

    fn parameters(&mut self, pair: Pair<Rule>) -> Vec<Spanned<String>> {
        let parameters: Vec<Spanned<String>> = significant(pair).map(|name| self.name(&name)).collect();
        for (i, parameter) in parameters.iter().enumerate() {
            if let Some(first) = parameters[..i].iter().find(|first| *first == parameter) {
                let message = format!("the parameter `{}` stands twice", parameter.value);
                self.twice(message, parameter.span, first.span);
            }
        }
        parameters
    }

    fn graph(&mut self, pair: Pair<Rule>) -> Option<DeclKind> {
        let mut parameters = None;
        let mut body = Vec::new();
        for part in significant(pair) {
            match part.as_rule() {
                Rule::parameters => parameters = Some(self.parameters(part)),
                Rule::statements => body = self.statements(part),
                _ => self.bad_head(&part, Rule::graph_head),
            }
        }
        Some(DeclKind::Graph { parameters: parameters?, body })
    }

    fn statements(&mut self, pair: Pair<Rule>) -> Vec<Stmt> {
        significant(pair)
            .filter_map(|part| match part.as_rule() {
                Rule::statement => self.statement(part),
                _ => self.bad(&part, Place::Graph, Walker::statement).flatten(),
            })
            .collect()
    }

    fn statement(&mut self, pair: Pair<Rule>) -> Option<Stmt> {
        let span = self.span(&pair);
        let stated = significant(pair).next()?;
        let kind = match stated.as_rule() {
            Rule::returned => StmtKind::Return(self.expression(significant(stated).next()?)?),
            Rule::loop_ => self.for_loop(stated)?,
            Rule::chosen => {
                let wrap = |span: Span, condition: Expr, then: Vec<Stmt>, otherwise: Vec<Stmt>| {
                    vec![Stmt { kind: StmtKind::If { condition, then, otherwise }, span }]
                };
                return self.chain(stated, Walker::statements, wrap)?.pop();
            }
            _ => {
                let mut parts = significant(stated);
                let name = self.name(&parts.next()?);
                StmtKind::Assign { name, value: self.expression(parts.next()?)? }
            }
        };
        Some(Stmt { kind, span })
    }

    fn for_loop(&mut self, pair: Pair<Rule>) -> Option<StmtKind> {
        let mut names = Vec::new();
        let mut over = None;
        let mut body = Vec::new();
        for part in significant(pair) {
            match part.as_rule() {
                Rule::name => names.push(self.name(&part)),
                Rule::expression => over = self.expression(part),
                Rule::statements => body = self.statements(part),
                _ => self.bad_head(&part, Rule::loop_head),
            }
        }
        let variable = names.pop()?;
        Some(StmtKind::For { index: names.pop(), variable, over: over?, body })
    }
}
