//! Declarations: lets, module paths, assertions; then, once all paths are known, the modules themselves.

use std::collections::BTreeSet;
use std::rc::Rc;

use lathe_grammar::ast::{Decl, DeclKind, Expr, ExprKind, Ignored, Path, PathSegment};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::pattern::Kind;
use lathe_grammar::span::{Span, Spanned};

use super::constructors::{Constructor, Declared};
use super::eval::visit_expr;
use super::mistakes;
use super::value::{Binding, Reported, Scope, Value};
use super::{Built, Elaborator, Module, ModuleId};

/// A module whose path is known and whose constructor has not run.
pub(super) struct Pending<'a> {
    id: ModuleId,
    constructor: &'a Expr,
    scope: Rc<Scope<'a>>,
}

impl<'a> Elaborator<'a> {
    /// Walks the declarations of a block, below the module path `prefix`.
    pub(super) fn declare(&mut self, body: &'a [Decl], scope: &Rc<Scope<'a>>, prefix: &str) -> Vec<Pending<'a>> {
        let mut pending = Vec::new();
        self.bind_lets(body, scope);
        for decl in body {
            // A mistake in one declaration was reported; the next ones are looked at all the same.
            let _ = self.declaration(decl, scope, prefix, &mut pending);
        }
        pending
    }

    /// Takes down what tensors may be stored under, which counts wherever it is declared.
    pub(super) fn bind_aliases(&mut self, body: &'a [Decl]) {
        for decl in body {
            if let DeclKind::Alias { path, stored } = &decl.kind {
                self.aliases.extend(stored.iter().map(|stored| (path.value.clone(), stored.value.clone())));
            }
        }
    }

    fn bind_lets(&mut self, body: &'a [Decl], scope: &Rc<Scope<'a>>) {
        for decl in body {
            if let DeclKind::Let { name, value } = &decl.kind {
                if self.check_name(name).is_err() {
                    continue;
                }
                if scope.bind(&name.value, Binding::Deferred(value)) {
                    self.lets.insert(&name.value, value);
                } else {
                    self.report(mistakes::defined_twice(name));
                }
            }
        }
    }

    /// Refuses the one name that always means the same.
    pub(super) fn check_name(&mut self, name: &Spanned<String>) -> Result<(), Reported> {
        match mistakes::bound_config(name) {
            Some(diagnostic) => Err(self.report(diagnostic)),
            None => Ok(()),
        }
    }

    fn declaration(
        &mut self,
        decl: &'a Decl,
        scope: &Rc<Scope<'a>>,
        prefix: &str,
        pending: &mut Vec<Pending<'a>>,
    ) -> Result<(), Reported> {
        match &decl.kind {
            DeclKind::Architectures(_)
            | DeclKind::Let { .. }
            | DeclKind::Graph { .. }
            | DeclKind::Ignore { what: Ignored::Config, .. } => {}
            DeclKind::Block { .. } | DeclKind::Alias { .. } if prefix.is_empty() && scope.is_root() => {}
            DeclKind::Block { .. } => return Err(self.report(mistakes::not_nested("a `block`", decl.span))),
            DeclKind::Alias { .. } => return Err(self.report(mistakes::not_nested("an `alias`", decl.span))),
            DeclKind::Ignore { what: Ignored::Tensors, names } => {
                self.ignored_tensors.extend(names.iter().map(|name| (name.value.clone(), name.span)));
            }
            // Tensors may fit a definition that was not written for their config.
            DeclKind::Assert { .. } if self.only_counts => {}
            DeclKind::Assert { condition, message } => {
                if !self.condition(condition, scope)? {
                    let file = self.config.file.clone();
                    let reason = message.as_ref().map_or("an assertion does not hold", |message| &message.value);
                    let mut diagnostic =
                        Diagnostic::error("M0004", format!("this definition does not fit {file}: {reason}"))
                            .label(condition.span, "must hold");
                    for key in self.keys_of(condition) {
                        diagnostic = diagnostic.note(key);
                    }
                    return Err(self.report(diagnostic));
                }
            }
            DeclKind::Context(expr) => {
                if let Some(first) = self.context.replace(decl.span) {
                    return Err(self.report(mistakes::found_two("`context`", decl.span, first)));
                }
                let value = self.eval(expr, scope)?;
                if let Value::Missing(_) = value {
                    return Err(self.expected("a number of positions, or null,", &value, expr.span));
                }
                if !matches!(value, Value::Null) {
                    match u32::try_from(self.count(&value, expr.span)?) {
                        Ok(positions) if positions > 0 => self.max_positions = Some(positions),
                        _ => return Err(self.expected("1 to 2^32 - 1 positions", &value, expr.span)),
                    }
                }
            }
            DeclKind::Module { paths, constructor } => {
                for path in paths {
                    self.step(decl.span)?;
                    let full = self.path(path, scope, prefix)?;
                    let id = self.register(full, path.span)?;
                    pending.push(Pending { id, constructor, scope: Rc::clone(scope) });
                }
            }
            DeclKind::Scope { path, body } => {
                let full = self.path(path, scope, prefix)?;
                pending.extend(self.declare(body, &Scope::below(scope, &full), &full));
            }
            DeclKind::Repeat { variable, start, end, body } => {
                self.check_name(variable)?;
                let first = self.eval(start, scope)?;
                let first = self.count(&first, start.span)?;
                let last = self.eval(end, scope)?;
                let last = self.count(&last, end.span)?;
                self.steps(last.saturating_sub(first), decl.span)?;
                for i in first..last {
                    let inner = Scope::child(scope);
                    inner.bind(&variable.value, Binding::Done(Ok(Value::Int(i as i64))));
                    let before = self.diagnostics.len();
                    pending.extend(self.declare(body, &Scope::child(&inner), prefix));
                    if self.diagnostics.len() > before {
                        // Every repetition would repeat the mistake.
                        return Err(Reported);
                    }
                }
            }
            DeclKind::If { condition, then, otherwise } => {
                let body = if self.condition(condition, scope)? { then } else { otherwise };
                pending.extend(self.declare(body, &Scope::child(scope), prefix));
            }
        }
        Ok(())
    }

    /// The full dotted path of a module.
    fn path(&mut self, path: &'a Path, scope: &Rc<Scope<'a>>, prefix: &str) -> Result<String, Reported> {
        let mut full = prefix.to_string();
        for segment in &path.segments {
            if !full.is_empty() {
                full.push('.');
            }
            match segment {
                PathSegment::Name(name) => full.push_str(name),
                PathSegment::Index(expr) => {
                    let value = self.eval(expr, scope)?;
                    full.push_str(&self.count(&value, expr.span)?.to_string());
                }
            }
        }
        Ok(full)
    }

    fn register(&mut self, path: String, span: Span) -> Result<ModuleId, Reported> {
        if let Some(first) = self.paths.get(&path) {
            let first = self.modules[first.0 as usize].module.span;
            return Err(self.report(mistakes::declared_twice(&path, span, first)));
        }
        let id = ModuleId(self.modules.len() as u32);
        for (dot, _) in path.match_indices('.') {
            let child = path[dot + 1..].split('.').next().unwrap_or("");
            let count = self.containers.entry(path[..dot].to_string()).or_insert(0);
            if let Ok(index) = child.parse::<u64>() {
                *count = (*count).max(index.saturating_add(1));
            }
        }
        self.paths.insert(path.clone(), id);
        // Kind and parameters are filled in by the constructor.
        let module = Module { path, stored: None, kind: Kind::Linear, params: Vec::new(), span };
        self.modules.push(Built { module, apply: None, keys: Rc::default() });
        Ok(id)
    }

    /// Runs the constructors: embeddings first, as heads may be tied to them.
    pub(super) fn build_modules(&mut self, pending: Vec<Pending<'a>>) {
        let mut found = Vec::with_capacity(pending.len());
        let mut reported = BTreeSet::new();
        for Pending { id, constructor: expr, scope } in pending {
            match mistakes::constructor_of(expr) {
                Ok(constructor) => {
                    self.modules[id.0 as usize].module.kind = constructor.kind;
                    found.push((id, expr, scope, constructor));
                }
                // Repetitions of one declaration share its mistakes.
                Err(diagnostic) if reported.insert(expr.span) => {
                    self.report(*diagnostic);
                }
                Err(_) => {}
            }
        }
        found.sort_by_key(|(id, _, _, constructor)| (constructor.kind == Kind::Head, *id));
        for (id, expr, scope, constructor) in found {
            if !reported.contains(&expr.span) && self.build_module(id, expr, &scope, constructor).is_err() {
                reported.insert(expr.span);
            }
        }
    }

    fn build_module(
        &mut self,
        id: ModuleId,
        expr: &'a Expr,
        scope: &Rc<Scope<'a>>,
        constructor: &'static Constructor,
    ) -> Result<(), Reported> {
        let keys = self.keys_of(expr);
        let before = self.diagnostics.len();
        let built = self.construct(id, expr, scope, constructor, &keys);
        if built.is_err() {
            for diagnostic in self.diagnostics[before..].iter_mut().filter(|diagnostic| diagnostic.code == "M0002") {
                diagnostic.notes.extend(keys.iter().cloned());
            }
        }
        built
    }

    fn construct(
        &mut self,
        id: ModuleId,
        expr: &'a Expr,
        scope: &Rc<Scope<'a>>,
        constructor: &'static Constructor,
        keys: &[String],
    ) -> Result<(), Reported> {
        let ExprKind::Call { args, .. } = &expr.kind else { return Err(Reported) };
        let arguments = self.bind(constructor.name, constructor.parameters, args, expr.span, scope)?;
        let module = &self.modules[id.0 as usize].module;
        let (path, span) = (module.path.clone(), module.span);
        let declared = Declared { path: &path, span, arguments: &arguments, keys };
        let (params, apply) = (constructor.build)(self, &declared)?;
        let stored = params.first().and_then(|&weight| self.stored_path(weight)).filter(|stored| *stored != path);
        let built = &mut self.modules[id.0 as usize];
        built.module.stored = stored;
        built.module.params = params;
        built.apply = Some(apply);
        built.keys = keys.into();
        Ok(())
    }

    /// `config.hidden_size = 192` for every key of config.json that an expression rests on, through its lets.
    fn keys_of(&self, expr: &Expr) -> Vec<String> {
        let mut keys = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut waiting = vec![expr];
        while let Some(expr) = waiting.pop() {
            visit_expr(expr, &mut |expr| match &expr.kind {
                ExprKind::Member(base, member) if matches!(&base.kind, ExprKind::Name(name) if name == "config") => {
                    let value = self.config.get(std::slice::from_ref(&member.value));
                    if let Some(value) = value.filter(|value| !value.is_object() && !value.is_array()) {
                        keys.insert(format!("config.{} = {value}", member.value));
                    }
                }
                ExprKind::Name(name) if seen.insert(name.clone()) => waiting.extend(self.lets.get(name.as_str())),
                _ => {}
            });
        }
        keys.into_iter().collect()
    }
}
