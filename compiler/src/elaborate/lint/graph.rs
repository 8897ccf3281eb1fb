//! The graph and the blocks that it calls: statements, what they return, blocks that call themselves.

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::ast::{Arg, Decl, DeclKind, Ignored, Model, Stmt, StmtKind};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{Span, Spanned};

use super::super::blocks::Block;
use super::super::graph::{INPUTS, NO_RETURN, dead_statement, wrong_inputs};
use super::super::mistakes;
use super::tree::ANY;
use super::{Bound, Linter};

impl<'a> Linter<'a> {
    pub(super) fn graph(&mut self, model: &'a Model) {
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
            self.body(parameters, INPUTS.iter().map(|(name, _)| *name), body);
            match returns(body) {
                Returns::Always => {}
                Returns::Never => self.report(Diagnostic::error("M0006", NO_RETURN).label(decl.span, "")),
                Returns::Sometimes => self.may_not_return("the graph", decl.span),
            }
        }
        let is_of_keys = |decl: &Decl| matches!(decl.kind, DeclKind::Ignore { what: Ignored::Config, .. });
        // A list of keys that no model computes with needs none.
        if first.is_none() && (model.body.is_empty() || !model.body.iter().all(is_of_keys)) {
            self.report(mistakes::no_graph(&model.name));
        }
    }

    pub(super) fn collect_blocks(&mut self, model: &'a Model) {
        for block in model.body.iter().filter_map(Block::of) {
            if self.blocks.insert(&block.name.value, block).is_some() {
                self.report(mistakes::defined_twice(block.name));
            }
        }
    }

    pub(super) fn blocks(&mut self) {
        for Block { name, parameters, body } in self.blocks.values().copied().collect::<Vec<_>>() {
            for parameter in parameters {
                self.check_name(parameter);
            }
            self.inside = Some(&name.value);
            self.body(parameters, [], body);
            self.inside = None;
            match returns(body) {
                Returns::Always => {}
                Returns::Never => self.report(mistakes::block_without_return(name)),
                Returns::Sometimes => self.may_not_return(&format!("block `{}`", name.value), name.span),
            }
        }
        for (path, span) in rings(&self.calls) {
            let Some(first) = path.first() else { continue };
            let fault = mistakes::calls_itself(first, span);
            let names: Vec<&str> = path.iter().chain([first]).copied().collect();
            self.report(if path.len() == 1 { fault } else { fault.note(names.join(" → ")) });
        }
    }

    pub(super) fn block_call(&mut self, block: Block<'a>, args: &[Arg], span: Span) {
        if let Err(diagnostic) = block.places(args, span) {
            self.report(*diagnostic);
        }
        if let Some(caller) = self.inside {
            self.calls.entry(caller).or_default().push((&block.name.value, span));
        }
    }

    fn may_not_return(&mut self, what: &str, span: Span) {
        let message = format!("{what} ends without a `return` when no branch with one is taken");
        self.report(Diagnostic::warning("M0006", message).label(span, ""));
    }

    /// The statements of the graph or of a block.
    fn body(&mut self, parameters: &'a [Spanned<String>], inputs: impl IntoIterator<Item = &'a str>, body: &'a [Stmt]) {
        self.rebound = rebound(parameters, body);
        self.frontier = self.frames.len();
        self.push_frame();
        let given = parameters.iter().map(|parameter| parameter.value.as_str());
        for name in inputs.into_iter().chain(given) {
            self.bind(name, Bound::Any);
        }
        self.statements(body);
        self.frames.pop();
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

/// Blocks each of which calls the next, and the last the first, there.
fn rings<'a>(calls: &BTreeMap<&'a str, Vec<(&'a str, Span)>>) -> Vec<(Vec<&'a str>, Span)> {
    let mut found = Vec::new();
    // Where a block stands on the way; nowhere when all that it calls was followed.
    let mut seen: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for start in calls.keys().copied() {
        // The blocks on the way, each with its calls that are still to be followed.
        let mut way: Vec<(&str, &[(&str, Span)])> = Vec::new();
        let mut next = Some(start).filter(|start| !seen.contains_key(start));
        loop {
            if let Some(block) = next.take() {
                seen.insert(block, Some(way.len()));
                way.push((block, calls.get(block).map_or(&[], Vec::as_slice)));
            }
            let Some((block, waiting)) = way.last_mut() else { break };
            let Some(((callee, span), rest)) = waiting.split_first() else {
                seen.insert(block, None);
                way.pop();
                continue;
            };
            *waiting = rest;
            match seen.get(callee) {
                Some(Some(first)) => found.push((way[*first..].iter().map(|(block, _)| *block).collect(), *span)),
                Some(None) => {}
                None => next = Some(callee),
            }
        }
    }
    found
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
