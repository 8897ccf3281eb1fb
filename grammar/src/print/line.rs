//! Everything that stands on one line, in two halves: what lies between them can be aligned.

use std::fmt::{self, Display, Formatter};

use crate::ast::{Call, Decl, DeclKind, Ignored, Item, ItemKind, Let, Model, Rotation, Rule, Spec, Stmt, StmtKind};
use crate::parse::is_item_name;
use crate::span::Spanned;

use super::expression::{Quoted, join};

/// `left mark right`, or only `left` where there is nothing to align.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// A pattern, `let` and a name, a site, or the whole line.
    pub(crate) left: String,
    /// `=>`, `=` or `by`, and what stands behind it.
    pub(crate) right: Option<(&'static str, String)>,
}

impl Display for Line {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match &self.right {
            Some((mark, right)) => write!(formatter, "{} {mark} {right}", self.left),
            None => formatter.write_str(&self.left),
        }
    }
}

impl Line {
    fn whole(left: String) -> Line {
        Line { left, right: None }
    }

    fn halves(left: impl Display, mark: &'static str, right: impl Display) -> Line {
        Line { left: left.to_string(), right: Some((mark, right.to_string())) }
    }
}

/// `use "PATH"` or `let NAME = VALUE`. None for what has a block.
pub(crate) fn item(item: &Item) -> Option<Line> {
    match &item.kind {
        ItemKind::Use(path) => Some(Line::whole(format!("use {}", Quoted(&path.value)))),
        ItemKind::Let(binding) => Some(self::binding(binding)),
        ItemKind::Spec(_) | ItemKind::Model(_) => None,
    }
}

/// `spec NAME extends BASE`, without the brace.
pub(crate) fn spec_head(spec: &Spec) -> String {
    item_head("spec", &spec.name, spec.extends.as_ref())
}

/// `model NAME extends BASE`, without the brace.
pub(crate) fn model_head(model: &Model) -> String {
    item_head("model", &model.name, model.extends.as_ref())
}

fn item_head(keyword: &str, name: &Spanned<String>, base: Option<&Spanned<String>>) -> String {
    let name = &name.value;
    match base {
        None => format!("{keyword} {name}"),
        Some(base) if is_item_name(&base.value) => format!("{keyword} {name} extends {}", base.value),
        Some(base) => format!("{keyword} {name} extends {}", Quoted(&base.value)),
    }
}

/// `models a, b`
pub(crate) fn models(names: &[Spanned<String>]) -> Line {
    Line::whole(format!("models {}", self::names(names)))
}

/// `let NAME = VALUE`
pub(crate) fn binding(binding: &Let) -> Line {
    Line::halves(format_args!("let {}", binding.name.value), "=", &binding.value)
}

/// `PATTERN => FORMAT with input FORMAT optional`
pub(crate) fn rule(rule: &Rule) -> Line {
    let format = rule.format.as_ref().map(|format| format.value.to_string());
    let input = rule.input.as_ref().map(|input| format!("with input {}", input.value));
    let optional = rule.optional.then(|| "optional".to_owned());
    let words: Vec<String> = [format, input, optional].into_iter().flatten().collect();
    Line::halves(&rule.pattern.value, "=>", words.join(" "))
}

/// `SITE of PATTERN by ROTATION offline optional`
pub(crate) fn rotation(rotation: &Rotation) -> Line {
    let within = rotation.within.as_ref().map_or_else(String::new, |pattern| format!(" of {}", pattern.value));
    let offline = if rotation.offline { " offline" } else { "" };
    let optional = if rotation.optional { " optional" } else { "" };
    let left = format_args!("{}{within}", rotation.site.value);
    Line::halves(left, "by", format_args!("{}{offline}{optional}", rotation.by.value))
}

/// `kv_cache => FORMAT`
pub(crate) fn kv_cache(format: &Call) -> Line {
    Line::halves("kv_cache", "=>", format)
}

/// `tied => WORD`
pub(crate) fn setting(name: &str, word: &str) -> Line {
    Line::halves(name, "=>", word)
}

/// A declaration; `prefix` stands before the paths of modules: nothing inside a scope. None for what has a block.
pub(crate) fn declaration(declaration: &Decl, prefix: &str) -> Option<Line> {
    let quoted = |names: &[Spanned<String>]| join(names.iter().map(|name| Quoted(&name.value)));
    Some(match &declaration.kind {
        DeclKind::Architectures(names) => Line::whole(format!("architectures {}", quoted(names))),
        DeclKind::Let { name, value } => Line::halves(format_args!("let {}", name.value), "=", value),
        DeclKind::Assert { condition, message: None } => Line::whole(format!("assert {condition}")),
        DeclKind::Assert { condition, message: Some(message) } => {
            Line::whole(format!("assert {condition}, {}", Quoted(&message.value)))
        }
        DeclKind::Context(positions) => Line::whole(format!("context {positions}")),
        DeclKind::Module { paths, constructor } => {
            Line::halves(format_args!("{prefix}{}", join(paths.iter())), "=", constructor)
        }
        DeclKind::Ignore { what: Ignored::Tensors, names } => Line::whole(format!("ignore tensors {}", quoted(names))),
        DeclKind::Ignore { what: Ignored::Config, names } => Line::whole(format!("ignore config {}", quoted(names))),
        DeclKind::Alias { path, stored } => {
            Line::halves(format_args!("alias {}", Quoted(&path.value)), "=", quoted(stored))
        }
        DeclKind::Scope { .. }
        | DeclKind::Repeat { .. }
        | DeclKind::If { .. }
        | DeclKind::Block { .. }
        | DeclKind::Graph { .. } => return None,
    })
}

fn names(names: &[Spanned<String>]) -> String {
    join(names.iter().map(|name| &name.value))
}

/// What opens the block of a declaration, without the brace. None for what stands on one line, and for `if`.
pub(crate) fn declaration_head(declaration: &Decl, prefix: &str) -> Option<String> {
    match &declaration.kind {
        DeclKind::Scope { path, .. } => Some(format!("{prefix}{path}")),
        DeclKind::Repeat { variable, start, end, .. } => Some(format!("repeat {} in {start}..{end}", variable.value)),
        DeclKind::Block { name, parameters, .. } => Some(format!("block {}({})", name.value, names(parameters))),
        DeclKind::Graph { parameters, .. } => Some(format!("graph({})", names(parameters))),
        _ => None,
    }
}

/// A statement of the graph. None for what has a block.
pub(crate) fn statement(statement: &Stmt) -> Option<Line> {
    match &statement.kind {
        StmtKind::Assign { name, value } => Some(Line::halves(&name.value, "=", value)),
        StmtKind::Return(value) => Some(Line::whole(format!("return {value}"))),
        StmtKind::For { .. } | StmtKind::If { .. } => None,
    }
}

/// `for i, layer in LIST`, without the brace. None for what is no loop.
pub(crate) fn statement_head(statement: &Stmt) -> Option<String> {
    let StmtKind::For { index, variable, over, .. } = &statement.kind else { return None };
    let index = index.as_ref().map_or_else(String::new, |index| format!("{}, ", index.value));
    Some(format!("for {index}{} in {over}", variable.value))
}
