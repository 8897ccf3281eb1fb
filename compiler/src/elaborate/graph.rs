//! The graph block: statements run once, each operation adds a node.

use std::collections::BTreeSet;
use std::rc::Rc;

use lathe_grammar::ast::{Decl, DeclKind, Stmt, StmtKind};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{Span, Spanned};

use super::constructors::Apply;
use super::value::{Binding, Reported, Scope, Value};
use super::{Elaborator, ModuleId, mistakes};
use crate::ir::{Dim, Dtype, NodeId, Op, ParamId};

/// The inputs that a graph is given, in the order of its parameters.
pub(super) const INPUTS: [(&str, Op); 2] = [("tokens", Op::Tokens), ("positions", Op::Positions)];

/// Most modules that a message names as the origin of shapes.
const MAX_NOTES: usize = 4;

/// Said of a graph without an output.
pub(super) const NO_RETURN: &str = "the graph ends without a `return`";

/// Inputs that are not [`INPUTS`].
pub(super) fn wrong_inputs(parameters: &[Spanned<String>], graph: Span) -> Option<Diagnostic> {
    let names: Vec<&str> = parameters.iter().map(|parameter| parameter.value.as_str()).collect();
    let message = format!("expected `graph(tokens, positions)`, found `graph({})`", names.join(", "));
    (names != INPUTS.map(|(name, _)| name)).then(|| Diagnostic::error("M0007", message).label(graph, ""))
}

/// A statement behind a `return`.
pub(super) fn dead_statement(body: &[Stmt]) -> Option<Diagnostic> {
    let end = body.iter().position(|stmt| matches!(stmt.kind, StmtKind::Return(_)))?;
    let message = "nothing after a `return` is ever run";
    body.get(end + 1).map(|after| Diagnostic::error("M0006", message).label(after.span, ""))
}

/// Whether running a statement can return.
fn has_return(stmt: &Stmt) -> bool {
    match &stmt.kind {
        StmtKind::Return(_) => true,
        StmtKind::Assign { .. } => false,
        StmtKind::For { body, .. } => body.iter().any(has_return),
        StmtKind::If { then, otherwise, .. } => then.iter().chain(otherwise).any(has_return),
    }
}

/// Calls `visit` with every name that a statement may assign.
fn assigned<'s>(stmt: &'s Stmt, visit: &mut impl FnMut(&'s str)) {
    match &stmt.kind {
        StmtKind::Return(_) => {}
        StmtKind::Assign { name, .. } => visit(&name.value),
        StmtKind::For { body, .. } => body.iter().for_each(|stmt| assigned(stmt, visit)),
        StmtKind::If { then, otherwise, .. } => then.iter().chain(otherwise).for_each(|stmt| assigned(stmt, visit)),
    }
}

impl<'a> Elaborator<'a> {
    pub(super) fn run_graph(&mut self, decl: &'a Decl, root: &Rc<Scope<'a>>) -> Result<(), Reported> {
        let DeclKind::Graph { parameters, body } = &decl.kind else { return Ok(()) };
        if let Some(diagnostic) = wrong_inputs(parameters, decl.span) {
            return Err(self.report(diagnostic));
        }
        let scope = Scope::frontier(root);
        for (name, op) in INPUTS {
            let node = self.node(op, &[], name, decl.span)?;
            scope.bind(name, Binding::Done(Ok(Value::Node(node))));
        }
        match self.statements(body, &scope)? {
            Some((Value::Node(logits), span)) => {
                let output = self.node(Op::Output, &[logits], "output", span)?;
                self.check_vocabulary(output, span)?;
                self.check_use(output)
            }
            Some((other, span)) => Err(self.expected("an activation", &other, span)),
            None => Err(self.error("M0006", decl.span, NO_RETURN)),
        }
    }

    /// Logits are one number for each token that an embedding knows.
    fn check_vocabulary(&mut self, output: NodeId, span: Span) -> Result<(), Reported> {
        let width = self.graph.node(output).fact.last();
        let of_tokens = |id: &NodeId| self.graph.node(self.graph.operands(*id)[1]).fact.dtype == Dtype::Token;
        let embeds = self.graph.nodes().filter(|(_, node)| matches!(node.op, Op::Embed { .. })).map(|(id, _)| id);
        let tables = embeds.filter(of_tokens).map(|id| self.graph.operands(id)[0]);
        let sizes: Vec<Dim> = tables.map(|table| self.graph.node(table).fact.shape[0]).collect();
        match sizes.iter().find(|&&size| Some(size) != width.map(Dim::Fixed)) {
            None => Ok(()),
            Some(size) => {
                let found = &self.graph.node(output).fact;
                let message = format!("expected logits for the {size} tokens that the embedding knows, found {found}");
                Err(self.error("M0005", span, message))
            }
        }
    }

    /// A table of positions has a row for each of them.
    fn check_positions(&mut self, first: u32, table: NodeId, x: NodeId, span: Span) -> Result<(), Reported> {
        let (Dtype::Position, &[Dim::Fixed(rows), _]) =
            (self.graph.node(x).fact.dtype, &self.graph.node(table).fact.shape[..])
        else {
            return Ok(());
        };
        let positions = rows.saturating_sub(first.into());
        let found = match self.max_positions {
            Some(most) if u64::from(most) <= positions => return Ok(()),
            Some(most) => format!("{most}"),
            None => "none".to_string(),
        };
        let message = format!("expected a `context` of at most the {positions} positions of this table, found {found}");
        Err(self.error("M0005", span, message))
    }

    /// Reports every module that the output does not depend on: its tensors are claimed, but nothing would read them.
    fn check_use(&mut self, output: NodeId) -> Result<(), Reported> {
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            // What is missing may be missing because of them.
            return Err(Reported);
        }
        let (mut used, mut seen, mut waiting) = (BTreeSet::new(), BTreeSet::new(), vec![output]);
        while let Some(id) = waiting.pop() {
            if let Op::Param(param) = self.graph.node(id).op {
                used.insert(param);
            }
            waiting.extend(self.graph.operands(id).into_iter().filter(|&operand| seen.insert(operand)));
        }
        if !self.graph.nodes().any(|(id, node)| node.op == Op::Tokens && seen.contains(&id)) {
            let message = "the output does not depend on the tokens";
            let span = self.graph.node(output).origin;
            let diagnostic = Diagnostic::error("M0010", message);
            return Err(self.report(span.into_iter().fold(diagnostic, |diagnostic, span| diagnostic.label(span, ""))));
        }
        // What is computed and then dropped was mostly meant to be used.
        let is_input = |op: &Op| matches!(op, Op::Tokens | Op::Positions | Op::Param(_) | Op::Output);
        let dropped: BTreeSet<Span> = self
            .graph
            .nodes()
            .filter(|(id, node)| !is_input(&node.op) && self.graph.users(*id).is_empty())
            .filter_map(|(_, node)| node.origin)
            .collect();
        let dropped = dropped.into_iter().map(|span| {
            let message = "the result of this operation is never used";
            Diagnostic::error("M0010", message).label(span, "")
        });
        let unused: Vec<Diagnostic> = self
            .modules
            .iter()
            .map(|built| &built.module)
            .filter(|module| !module.params.iter().any(|param| used.contains(param)))
            .map(|module| {
                let message = format!("module `{}` has no part in the output: the graph never uses it", module.path);
                Diagnostic::error("M0010", message).label(module.span, "declared here")
            })
            .chain(dropped)
            .collect();
        if unused.is_empty() {
            return Ok(());
        }
        self.diagnostics.extend(unused);
        Err(Reported)
    }

    /// Runs statements up to a `return`, whose value comes back. A statement that fails was reported: the names that it
    /// assigns have no value then, which silences what uses them, and the next statements run all the same.
    pub(super) fn statements(
        &mut self,
        body: &'a [Stmt],
        scope: &Rc<Scope<'a>>,
    ) -> Result<Option<(Value, Span)>, Reported> {
        if let Some(diagnostic) = dead_statement(body) {
            return Err(self.report(diagnostic));
        }
        for stmt in body {
            match self.statement(stmt, scope) {
                Ok(None) => {}
                Ok(returned) => return Ok(returned),
                Err(Reported) if has_return(stmt) => return Err(Reported),
                Err(Reported) => assigned(stmt, &mut |name| scope.assign(name, Err(Reported))),
            }
        }
        Ok(None)
    }

    fn statement(&mut self, stmt: &'a Stmt, scope: &Rc<Scope<'a>>) -> Result<Option<(Value, Span)>, Reported> {
        match &stmt.kind {
            StmtKind::Assign { name, value } => {
                let value = self.eval(value, scope)?;
                self.check_name(name)?;
                scope.assign(&name.value, Ok(value));
                Ok(None)
            }
            StmtKind::Return(expr) => Ok(Some((self.eval(expr, scope)?, expr.span))),
            StmtKind::If { condition, then, otherwise } => {
                let body = if self.condition(condition, scope)? { then } else { otherwise };
                self.statements(body, &Scope::child(scope))
            }
            StmtKind::For { index, variable, over, body } => {
                self.check_name(variable)?;
                index.iter().try_for_each(|index| self.check_name(index))?;
                let over_value = self.eval(over, scope)?;
                for (i, item) in self.items(&over_value, over.span)?.into_iter().enumerate() {
                    self.step(stmt.span)?;
                    let inner = Scope::child(scope);
                    if let Some(index) = index {
                        inner.bind(&index.value, Binding::Done(Ok(Value::Int(i as i64))));
                    }
                    let label = match &item {
                        Value::Container(path) => Some(path.clone()),
                        Value::Module(id) => Some(self.modules[id.0 as usize].module.path.clone()),
                        _ => None,
                    };
                    inner.bind(&variable.value, Binding::Done(Ok(item)));
                    let (depth, before) = (self.label.len(), self.diagnostics.len());
                    self.label.extend(label);
                    let returned = self.statements(body, &inner);
                    self.label.truncate(depth);
                    if let Some(returned) = returned? {
                        return Ok(Some(returned));
                    }
                    if self.diagnostics.len() > before {
                        // Every turn would repeat the mistakes.
                        break;
                    }
                }
                Ok(None)
            }
        }
    }

    /// What a `for` goes through: the items of a list, or the indexed children of a container.
    fn items(&mut self, over: &Value, span: Span) -> Result<Vec<Value>, Reported> {
        match over {
            Value::List(items) => Ok(items.to_vec()),
            Value::Container(path) => {
                let children = self.containers.get(path).copied().unwrap_or(0);
                if children == 0 {
                    return Err(self.report(mistakes::nothing_indexed(path, span)));
                }
                self.steps(children, span)?;
                let child = |index| {
                    let path = format!("{path}.{index}");
                    match self.paths.get(&path) {
                        Some(&module) => Ok(Value::Module(module)),
                        None if self.containers.contains_key(&path) => Ok(Value::Container(path)),
                        None => Err(path),
                    }
                };
                (0..children).map(child).collect::<Result<_, _>>().map_err(|missing| {
                    let message =
                        format!("expected modules for every index below {children}, found none at `{missing}`");
                    self.error("M0006", span, message)
                })
            }
            other => Err(self.expected("a list or a repeated module", other, span)),
        }
    }

    /// Adds an operation; its operands must fit.
    pub(super) fn node(&mut self, op: Op, operands: &[NodeId], label: &str, span: Span) -> Result<NodeId, Reported> {
        self.step(span)?;
        let name = op.name();
        self.graph.add(op, operands, label, Some(span)).map_err(|misfit| {
            let mut diagnostic = Diagnostic::error("M0005", format!("{name}: {misfit}")).label(span, "");
            if let Some(path) = self.label.last() {
                diagnostic = diagnostic.note(format!("in `{path}`"));
            }
            for note in self.where_sizes_come_from(operands) {
                diagnostic = diagnostic.note(note);
            }
            self.report(diagnostic)
        })
    }

    /// The keys of config.json that the shapes of these operands come from, by module.
    fn where_sizes_come_from(&self, operands: &[NodeId]) -> Vec<String> {
        let mut modules: Vec<ModuleId> = Vec::new();
        for &operand in operands {
            let mut at = operand;
            // What belongs to no module has its shape from its first operand.
            let module = loop {
                match self.paths.get(&self.graph.node(at).label) {
                    Some(&module) => break Some(module),
                    None => match self.graph.operands(at).first() {
                        Some(&first) => at = first,
                        None => break None,
                    },
                }
            };
            modules.extend(module.filter(|module| !modules.contains(module)));
        }
        let note = |id: &ModuleId| {
            let built = &self.modules[id.0 as usize];
            (!built.keys.is_empty()).then(|| format!("`{}` from {}", built.module.path, built.keys.join(", ")))
        };
        modules.iter().filter_map(note).take(MAX_NOTES).collect()
    }

    /// An operation that belongs to no module, labelled by the loops around it.
    pub(super) fn operation(&mut self, op: Op, operands: &[NodeId], name: &str, span: Span) -> Result<Value, Reported> {
        let label = match self.label.last() {
            Some(path) => format!("{path}.{name}"),
            None => name.to_string(),
        };
        Ok(Value::Node(self.node(op, operands, &label, span)?))
    }

    /// The node of a parameter; one however many users it has.
    pub(super) fn param_node(&mut self, param: ParamId, label: &str, span: Span) -> Result<NodeId, Reported> {
        if let Some(&node) = self.nodes.get(&param) {
            return Ok(node);
        }
        let node = self.node(Op::Param(param), &[], label, span)?;
        self.nodes.insert(param, node);
        Ok(node)
    }

    pub(super) fn apply_module(
        &mut self,
        id: ModuleId,
        input: &Value,
        input_span: Span,
        span: Span,
    ) -> Result<Value, Reported> {
        let Value::Node(x) = *input else {
            return Err(self.expected("an activation", input, input_span));
        };
        let built = &self.modules[id.0 as usize];
        // Without it, its constructor failed, which was reported.
        let apply = built.apply.ok_or(Reported)?;
        let (path, declared) = (built.module.path.clone(), built.module.span);
        let params = built.module.params.clone();
        let mut weights = Vec::with_capacity(params.len());
        for param in params {
            weights.push(self.param_node(param, &path, declared)?);
        }
        let node = match apply {
            Apply::Linear => {
                let operands: Vec<NodeId> = std::iter::once(x).chain(weights).collect();
                self.node(Op::Linear { input: None }, &operands, &path, span)?
            }
            Apply::Embedding { first } => {
                self.check_positions(first, weights[0], x, span)?;
                self.node(Op::Embed { first }, &[weights[0], x], &path, span)?
            }
            Apply::Norm { centre, eps, offset } => {
                let x = if centre { self.node(Op::Centre, &[x], &path, span)? } else { x };
                let normalized = self.node(Op::Normalize { eps }, &[x], &path, span)?;
                let scaled = self.node(Op::Gain { offset }, &[normalized, weights[0]], &path, span)?;
                match weights.get(1) {
                    Some(&shift) => self.node(Op::Shift, &[scaled, shift], &path, span)?,
                    None => scaled,
                }
            }
            Apply::Vector => {
                let message = format!("`{path}` is a vector, an operand of + and *, and not applied to anything");
                return Err(self.error("M0002", span, message));
            }
        };
        Ok(Value::Node(node))
    }
}
