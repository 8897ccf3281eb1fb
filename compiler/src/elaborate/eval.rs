//! Expressions.

use std::collections::BTreeSet;
use std::rc::Rc;

use lathe_grammar::ast::{
    Arg, BinaryOp, Decl, DeclKind, Expr, ExprKind, Ignored, Model, PathSegment, Stmt, StmtKind, Subscript, UnaryOp,
};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Span;
use serde_json::Value as Json;

use super::value::{Binding, Reported, Scope, Value};
use super::{Elaborator, MAX_DEPTH, MAX_TEXT, functions, mistakes, unused};

type Eval<T = Value> = Result<T, Reported>;

impl<'a> Elaborator<'a> {
    pub(super) fn eval(&mut self, expr: &'a Expr, scope: &Rc<Scope<'a>>) -> Eval {
        if self.depth == MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} expressions within each other, counted through `let`s");
            return Err(self.error("M0009", expr.span, message));
        }
        self.work(1, expr.span)?;
        self.depth += 1;
        let value = self.eval_kind(expr, scope);
        self.depth -= 1;
        value
    }

    fn eval_kind(&mut self, expr: &'a Expr, scope: &Rc<Scope<'a>>) -> Eval {
        match &expr.kind {
            ExprKind::Null => Ok(Value::Null),
            ExprKind::Bool(value) => Ok(Value::Bool(*value)),
            ExprKind::Int(value) => Ok(Value::Int(*value)),
            ExprKind::Float(value) => Ok(Value::Float(*value)),
            ExprKind::Str(value) => Ok(Value::Str(value.as_str().into())),
            ExprKind::List(items) => {
                let items: Eval<Vec<Value>> = items.iter().map(|item| self.eval(item, scope)).collect();
                Ok(Value::List(Rc::new(items?)))
            }
            ExprKind::Name(name) => self.name(name, expr.span, scope),
            ExprKind::Member(base, member) => {
                let base = self.eval(base, scope)?;
                self.member(base, &member.value, member.span)
            }
            ExprKind::Index(base, index) => {
                let base = self.eval(base, scope)?;
                let index = self.eval(index, scope)?;
                self.index(base, &index, expr.span)
            }
            ExprKind::Slice(base, subscripts) => self.slice(base, subscripts, expr.span, scope),
            ExprKind::Call { callee, args } => self.call(callee, args, expr.span, scope),
            ExprKind::Unary(op, operand) => {
                let value = self.eval(operand, scope)?;
                match (op, value) {
                    (UnaryOp::Not, Value::Bool(value)) => Ok(Value::Bool(!value)),
                    (UnaryOp::Neg, Value::Float(value)) => Ok(Value::Float(-value)),
                    (UnaryOp::Neg, Value::Int(value)) => match value.checked_neg() {
                        Some(value) => Ok(Value::Int(value)),
                        None => Err(self.error("M0002", expr.span, "this number overflows 64 bits")),
                    },
                    (UnaryOp::Neg, Value::Node(x)) => self.affine(x, -1.0, 0.0, expr.span),
                    (UnaryOp::Not, value) => Err(self.expected("true or false", &value, operand.span)),
                    (UnaryOp::Neg, value) => Err(self.expected("a number", &value, operand.span)),
                }
            }
            ExprKind::Binary(op, left, right) => self.binary(*op, left, right, expr.span, scope),
            ExprKind::If { condition, then, otherwise } => {
                let branch = if self.condition(condition, scope)? { then } else { otherwise };
                self.eval(branch, scope)
            }
            ExprKind::When(value, condition) => {
                if self.condition(condition, scope)? {
                    self.eval(value, scope)
                } else {
                    Ok(Value::Null)
                }
            }
        }
    }

    /// A diagnostic for a value of the wrong type.
    pub(super) fn expected(&mut self, what: &str, found: &Value, span: Span) -> Reported {
        match found {
            Value::Missing(path) => {
                let file = self.config.file.clone();
                let other = if what.contains("null") { "null" } else { "VALUE" };
                let diagnostic = Diagnostic::error("M0003", format!("{file} has no key `{path}`"))
                    .label(span, format!("{what} is needed here"))
                    .help(format!("write `config.{path} or {other}` where a missing key has a meaning"));
                self.report(diagnostic)
            }
            found => {
                let message = format!("expected {what}, found {}", found.describe());
                self.error("M0002", span, message)
            }
        }
    }

    pub(super) fn condition(&mut self, expr: &'a Expr, scope: &Rc<Scope<'a>>) -> Eval<bool> {
        match self.eval(expr, scope)? {
            Value::Bool(value) => Ok(value),
            other => Err(self.expected("true or false", &other, expr.span)),
        }
    }

    /// A count: an integer of 0 or more.
    pub(super) fn count(&mut self, value: &Value, span: Span) -> Eval<u64> {
        match value {
            Value::Int(n) if *n >= 0 => Ok(*n as u64),
            // Every f64 below 2^53 that is whole is one of u64.
            Value::Float(x) if (0.0..9e15).contains(x) && x.fract() == 0.0 => Ok(*x as u64),
            Value::Float(x) if *x >= 0.0 => {
                let message = format!("expected a whole number, found {x:?}");
                let help = "`floor(…)`, `round(…)` and `ceil(…)` give whole numbers";
                Err(self.report(Diagnostic::error("M0002", message).label(span, "").help(help)))
            }
            other => Err(self.expected("a whole number of 0 or more", other, span)),
        }
    }

    /// A real number as f32, as the config's own runtime would hold it.
    pub(super) fn real(&mut self, value: &Value, span: Span) -> Eval<f32> {
        match value {
            Value::Int(n) => Ok(*n as f32),
            Value::Float(x) if (*x as f32).is_finite() => Ok(*x as f32),
            other => Err(self.expected("a finite number of single precision", other, span)),
        }
    }

    /// What a name stands for; a `let` is evaluated when this is first asked.
    pub(super) fn name(&mut self, name: &str, span: Span, scope: &Rc<Scope<'a>>) -> Eval {
        if name == "config" {
            return Ok(Value::Object(Vec::new()));
        }
        if let Some(holder) = scope.holder(name) {
            return match holder.replace(name, Binding::Evaluating) {
                Some(Binding::Done(value)) => {
                    holder.replace(name, Binding::Done(value.clone()));
                    value
                }
                Some(Binding::Deferred(expr)) => {
                    let value = self.eval(expr, &holder);
                    holder.replace(name, Binding::Done(value.clone()));
                    value
                }
                Some(Binding::Evaluating) | None => {
                    Err(self.error("M0006", span, format!("`{name}` is defined in terms of itself")))
                }
            };
        }
        if let Some(&module) = self.paths.get(name) {
            return Ok(Value::Module(module));
        }
        if self.containers.contains_key(name) {
            return Ok(Value::Container(name.to_string()));
        }
        Err(self.unknown(name, span, scope, &["config"]))
    }

    /// A diagnostic for a name that nothing in sight has; `known` are those that are in no scope.
    fn unknown(&mut self, name: &str, span: Span, scope: &Rc<Scope<'a>>, known: &[&str]) -> Reported {
        let paths = self.containers.keys().chain(self.paths.keys()).filter(|path| !path.contains('.'));
        let names: Vec<String> = scope.names().into_iter().chain(paths.cloned()).collect();
        let candidates = names.iter().map(String::as_str).chain(known.iter().copied());
        self.report(mistakes::unknown_name(name, span, candidates))
    }

    fn member(&mut self, base: Value, name: &str, span: Span) -> Eval {
        match base {
            Value::Missing(path) => Ok(Value::Missing(format!("{path}.{name}"))),
            Value::Object(mut path) => {
                path.push(name.to_string());
                self.config_value(path, span)
            }
            Value::Null => Ok(Value::Missing(name.to_string())),
            Value::Container(path) => self.below(&path, name, span),
            Value::Chosen(chosen) => self.below_chosen(&chosen, name, span),
            Value::Module(id) => {
                let path = self.modules[id.0 as usize].module.path.clone();
                self.below(&path, name, span)
            }
            other => Err(self.expected("something with members", &other, span)),
        }
    }

    pub(super) fn below(&mut self, path: &str, name: &str, span: Span) -> Eval {
        let full = format!("{path}.{name}");
        if let Some(&module) = self.paths.get(&full) {
            return Ok(Value::Module(module));
        }
        if self.containers.contains_key(&full) {
            return Ok(Value::Container(full));
        }
        let prefix = format!("{path}.");
        let children: BTreeSet<String> = self
            .paths
            .keys()
            .filter_map(|known| known.strip_prefix(&prefix)?.split('.').next().map(str::to_string))
            .collect();
        Err(self.report(mistakes::no_module(path, name, span, children.iter().map(String::as_str))))
    }

    fn index(&mut self, base: Value, index: &Value, span: Span) -> Eval {
        match base {
            Value::Missing(path) => Ok(Value::Missing(path)),
            Value::Null => Ok(Value::Null),
            Value::List(items) => {
                let at = self.count(index, span)?;
                match items.get(at as usize) {
                    Some(item) => Ok(item.clone()),
                    None => {
                        let message = format!("expected an index below {}, found {at}", items.len());
                        Err(self.error("M0002", span, message))
                    }
                }
            }
            Value::Object(mut path) => match index {
                Value::Str(key) => {
                    path.push(key.to_string());
                    self.config_value(path, span)
                }
                other => Err(self.expected("a key", other, span)),
            },
            Value::Container(path) => match index {
                Value::Node(choice) => self.choose(path, *choice, span),
                index => {
                    let at = self.count(index, span)?;
                    self.below(&path, &at.to_string(), span)
                }
            },
            Value::View(view) => {
                let at = self.count(index, span)?;
                self.part(view.as_ref().clone().index(0, at), span)
            }
            other => Err(self.expected("a list, an object, a repeated module or a stored tensor", &other, span)),
        }
    }

    /// A value of config.json; scalars and lists count as read.
    fn config_value(&mut self, path: Vec<String>, span: Span) -> Eval {
        let config = self.config;
        let Some(json) = config.get(&path) else { return Ok(Value::Missing(path.join("."))) };
        if !json.is_object() {
            self.reads.insert(path.join("."));
        }
        self.work(json.as_array().map_or(0, Vec::len) as u64, span)?;
        Ok(convert(json, path))
    }

    fn call(&mut self, callee: &'a Expr, args: &'a [Arg], span: Span, scope: &Rc<Scope<'a>>) -> Eval {
        if let ExprKind::Name(name) = &callee.kind
            && scope.holder(name).is_none()
            && !self.paths.contains_key(name)
        {
            if let Some(&block) = self.blocks.get(name.as_str()) {
                return self.call_block(block, args, span, scope);
            }
            let Some(function) = functions::find(name) else {
                let functions = functions::FUNCTIONS.iter().map(|function| function.name);
                let known: Vec<&str> = functions.chain(self.blocks.keys().copied()).collect();
                return Err(self.unknown(name, callee.span, scope, &known));
            };
            let arguments = self.bind(function.name, function.parameters, args, span, scope)?;
            return (function.build)(self, &arguments);
        }
        match self.eval(callee, scope)? {
            Value::Chosen(chosen) => match args {
                [Arg { name: None, value }] => {
                    let input = self.eval(value, scope)?;
                    self.apply_chosen(&chosen, &input, value.span, span)
                }
                _ => {
                    let path = format!("{}.*{}", chosen.container, chosen.rest);
                    Err(self.report(mistakes::not_one_activation(&path, span)))
                }
            },
            Value::Module(module) => match args {
                [Arg { name: None, value }] => {
                    let input = self.eval(value, scope)?;
                    self.apply_module(module, &input, value.span, span)
                }
                _ => {
                    let path = self.modules[module.0 as usize].module.path.clone();
                    Err(self.report(mistakes::not_one_activation(&path, span)))
                }
            },
            other => Err(self.expected("a module or a function", &other, callee.span)),
        }
    }

    fn binary(&mut self, op: BinaryOp, left: &'a Expr, right: &'a Expr, span: Span, scope: &Rc<Scope<'a>>) -> Eval {
        match op {
            BinaryOp::Or => match self.eval(left, scope)? {
                Value::Missing(_) | Value::Null => self.eval(right, scope),
                value => Ok(value),
            },
            BinaryOp::Either => Ok(Value::Bool(self.condition(left, scope)? || self.condition(right, scope)?)),
            BinaryOp::Both => Ok(Value::Bool(self.condition(left, scope)? && self.condition(right, scope)?)),
            _ => {
                let a = self.eval(left, scope)?;
                let b = self.eval(right, scope)?;
                self.arithmetic(op, (&a, left.span), (&b, right.span), span)
            }
        }
    }

    fn arithmetic(&mut self, op: BinaryOp, left: (&Value, Span), right: (&Value, Span), span: Span) -> Eval {
        match (op, left.0, right.0) {
            (BinaryOp::Eq | BinaryOp::Ne, a, b) => {
                let equal = self.equal(a, b, span)?;
                Ok(Value::Bool(equal == (op == BinaryOp::Eq)))
            }
            (_, Value::Node(_), _) | (_, _, Value::Node(_)) => self.on_activations(op, left, right, span),
            (BinaryOp::Add, Value::Str(a), Value::Str(b)) => self.text(format!("{a}{b}"), span),
            (BinaryOp::Add, Value::Str(a), Value::Int(b)) => self.text(format!("{a}{b}"), span),
            (_, Value::Int(a), Value::Int(b)) => match integers(op, *a, *b) {
                Ok(value) => Ok(value),
                Err(message) => Err(self.error("M0002", span, message)),
            },
            (_, a, b) => {
                let a = self.number(a, left.1)?;
                let b = self.number(b, right.1)?;
                let value = match op {
                    BinaryOp::Lt => return Ok(Value::Bool(a < b)),
                    BinaryOp::Le => return Ok(Value::Bool(a <= b)),
                    BinaryOp::Gt => return Ok(Value::Bool(a > b)),
                    BinaryOp::Ge => return Ok(Value::Bool(a >= b)),
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div => a / b,
                    BinaryOp::Rem => libm::fmod(a, b),
                    BinaryOp::Pow => libm::pow(a, b),
                    BinaryOp::Or | BinaryOp::Either | BinaryOp::Both | BinaryOp::Eq | BinaryOp::Ne => {
                        unreachable!("handled before numbers are")
                    }
                };
                if value.is_finite() {
                    Ok(Value::Float(value))
                } else {
                    Err(self.error("M0002", span, format!("expected a finite number, found {value}")))
                }
            }
        }
    }

    fn text(&mut self, text: String, span: Span) -> Eval {
        if text.len() > MAX_TEXT {
            return Err(self.error("M0009", span, format!("a text of more than {MAX_TEXT} bytes")));
        }
        Ok(Value::Str(text.into()))
    }

    pub(super) fn number(&mut self, value: &Value, span: Span) -> Eval<f64> {
        match value {
            Value::Int(n) => Ok(*n as f64),
            Value::Float(x) => Ok(*x),
            other => Err(self.expected("a number", other, span)),
        }
    }

    pub(super) fn equal(&mut self, a: &Value, b: &Value, span: Span) -> Eval<bool> {
        Ok(match (a, b) {
            (Value::Null, Value::Null | Value::Missing(_)) | (Value::Missing(_), Value::Null) => true,
            (missing @ Value::Missing(_), _) | (_, missing @ Value::Missing(_)) => {
                return Err(self.expected("a value", missing, span));
            }
            (Value::List(a), Value::List(b)) => {
                self.work(a.len() as u64, span)?;
                a.len() == b.len()
                    && a.iter().zip(b.iter()).try_fold(true, |equal, (a, b)| Ok(equal && self.equal(a, b, span)?))?
            }
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
                self.number(a, span)? == self.number(b, span)?
            }
            (Value::Null, _) | (_, Value::Null) => false,
            _ => {
                let message = format!("expected two values of one type, found {} and {}", a.describe(), b.describe());
                return Err(self.error("M0002", span, message));
            }
        })
    }

    /// Takes every `config.a.b` that the definition mentions as read: a branch that is not taken knew the key too, a block
    /// that nobody calls did not.
    pub(super) fn mentioned_keys(&mut self, model: &Model) {
        let mut mentioned = BTreeSet::new();
        unused::visit_reached(model, &mut |expr| {
            if let Some(path) = config_path(expr) {
                mentioned.insert(path);
            }
        });
        for path in mentioned {
            if self.config.get(&path).is_some_and(|value| !value.is_object()) {
                self.reads.insert(path.join("."));
            }
        }
        self.ignored_keys(&model.body);
    }

    /// Takes the keys of every `ignore config` as read.
    pub(super) fn ignored_keys(&mut self, body: &[Decl]) {
        for decl in body {
            if let DeclKind::Ignore { what: Ignored::Config, names } = &decl.kind {
                self.reads.extend(names.iter().map(|name| name.value.clone()));
            }
        }
    }

    /// Marks keys as read by a function that takes the config whole.
    pub(super) fn mark_read(&mut self, path: &str) {
        self.reads.insert(path.to_string());
    }
}

/// `config.a.b` as a path.
fn config_path(expr: &Expr) -> Option<Vec<String>> {
    match &expr.kind {
        ExprKind::Name(name) if name == "config" => Some(Vec::new()),
        ExprKind::Member(base, member) => {
            let mut path = config_path(base)?;
            path.push(member.value.clone());
            Some(path)
        }
        _ => None,
    }
}

fn convert(json: &Json, path: Vec<String>) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64().unwrap_or(f64::INFINITY)),
        },
        Json::String(text) => Value::Str(text.as_str().into()),
        Json::Array(items) => {
            let item = |(index, json): (usize, &Json)| {
                let mut path = path.clone();
                path.push(index.to_string());
                convert(json, path)
            };
            Value::List(Rc::new(items.iter().enumerate().map(item).collect()))
        }
        Json::Object(_) => Value::Object(path),
    }
}

fn integers(op: BinaryOp, a: i64, b: i64) -> Result<Value, String> {
    let overflow = || "this number overflows 64 bits".to_string();
    let value = match op {
        BinaryOp::Lt => return Ok(Value::Bool(a < b)),
        BinaryOp::Le => return Ok(Value::Bool(a <= b)),
        BinaryOp::Gt => return Ok(Value::Bool(a > b)),
        BinaryOp::Ge => return Ok(Value::Bool(a >= b)),
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Sub => a.checked_sub(b),
        BinaryOp::Mul => a.checked_mul(b),
        BinaryOp::Div | BinaryOp::Rem if b == 0 => return Err(format!("{a} cannot be divided by 0")),
        BinaryOp::Div => match a.checked_rem(b) {
            Some(0) | None => a.checked_div(b),
            Some(_) => return Err(format!("{a} is not a multiple of {b}")),
        },
        BinaryOp::Rem => a.checked_rem(b),
        BinaryOp::Pow if b < 0 => {
            let power = libm::pow(a as f64, b as f64);
            return if power.is_finite() { Ok(Value::Float(power)) } else { Err("0 has no negative power".into()) };
        }
        BinaryOp::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        BinaryOp::Or | BinaryOp::Either | BinaryOp::Both | BinaryOp::Eq | BinaryOp::Ne => {
            unreachable!("handled before numbers are")
        }
    };
    value.map(Value::Int).ok_or_else(overflow)
}

/// Calls `visit` on every expression below these declarations.
pub(super) fn visit_decls<'e>(body: &'e [Decl], visit: &mut impl FnMut(&'e Expr)) {
    for decl in body {
        match &decl.kind {
            DeclKind::Architectures(_) | DeclKind::Ignore { .. } | DeclKind::Alias { .. } => {}
            DeclKind::Let { value, .. } | DeclKind::Context(value) => visit_expr(value, visit),
            DeclKind::Assert { condition, .. } => visit_expr(condition, visit),
            DeclKind::Module { paths, constructor } => {
                for path in paths {
                    visit_path(&path.segments, visit);
                }
                visit_expr(constructor, visit);
            }
            DeclKind::Scope { path, body } => {
                visit_path(&path.segments, visit);
                visit_decls(body, visit);
            }
            DeclKind::Repeat { start, end, body, .. } => {
                visit_expr(start, visit);
                visit_expr(end, visit);
                visit_decls(body, visit);
            }
            DeclKind::If { condition, then, otherwise } => {
                visit_expr(condition, visit);
                visit_decls(then, visit);
                visit_decls(otherwise, visit);
            }
            DeclKind::Block { body, .. } | DeclKind::Graph { body, .. } => visit_stmts(body, visit),
        }
    }
}

fn visit_path<'e>(segments: &'e [PathSegment], visit: &mut impl FnMut(&'e Expr)) {
    for segment in segments {
        if let PathSegment::Index(expr) = segment {
            visit_expr(expr, visit);
        }
    }
}

pub(super) fn visit_stmts<'e>(body: &'e [Stmt], visit: &mut impl FnMut(&'e Expr)) {
    for stmt in body {
        match &stmt.kind {
            StmtKind::Assign { value, .. } | StmtKind::Return(value) => visit_expr(value, visit),
            StmtKind::For { over, body, .. } => {
                visit_expr(over, visit);
                visit_stmts(body, visit);
            }
            StmtKind::If { condition, then, otherwise } => {
                visit_expr(condition, visit);
                visit_stmts(then, visit);
                visit_stmts(otherwise, visit);
            }
        }
    }
}

pub(super) fn visit_expr<'e>(expr: &'e Expr, visit: &mut impl FnMut(&'e Expr)) {
    visit(expr);
    match &expr.kind {
        ExprKind::Null
        | ExprKind::Bool(_)
        | ExprKind::Int(_)
        | ExprKind::Float(_)
        | ExprKind::Str(_)
        | ExprKind::Name(_) => {}
        ExprKind::List(items) => {
            for item in items {
                visit_expr(item, visit);
            }
        }
        ExprKind::Member(base, _) => visit_expr(base, visit),
        ExprKind::Unary(_, operand) => visit_expr(operand, visit),
        ExprKind::Index(a, b) | ExprKind::Binary(_, a, b) | ExprKind::When(a, b) => {
            visit_expr(a, visit);
            visit_expr(b, visit);
        }
        ExprKind::Slice(base, subscripts) => {
            visit_expr(base, visit);
            for bound in subscripts.iter().flat_map(Subscript::bounds) {
                visit_expr(bound, visit);
            }
        }
        ExprKind::Call { callee, args } => {
            visit_expr(callee, visit);
            for arg in args {
                visit_expr(&arg.value, visit);
            }
        }
        ExprKind::If { condition, then, otherwise } => {
            visit_expr(condition, visit);
            visit_expr(then, visit);
            visit_expr(otherwise, visit);
        }
    }
}
