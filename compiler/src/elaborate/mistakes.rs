//! Diagnostics that evaluation and the check without a checkpoint share.

use lathe_grammar::ast::{Expr, ExprKind};
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::span::{Span, Spanned};

use super::constructors::{self, CONSTRUCTORS, Constructor};

/// A name that nothing in sight has; `candidates` are those that it may have been meant for.
pub(super) fn unknown_name<'n>(name: &str, span: Span, candidates: impl IntoIterator<Item = &'n str>) -> Diagnostic {
    let message = format!("nothing is called `{name}` here");
    suggest(Diagnostic::error("M0001", message).label(span, ""), name, candidates)
}

/// A member that the module or container at `path` does not have.
pub(super) fn no_module<'n>(
    path: &str,
    name: &str,
    span: Span,
    children: impl IntoIterator<Item = &'n str>,
) -> Diagnostic {
    let message = format!("`{path}` has no module `{name}`");
    suggest(Diagnostic::error("M0001", message).label(span, ""), name, children)
}

/// Adds the nearest of the candidates.
pub(super) fn suggest<'n>(
    diagnostic: Diagnostic,
    name: &str,
    candidates: impl IntoIterator<Item = &'n str>,
) -> Diagnostic {
    match nearest(name, candidates) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

pub(super) fn defined_twice(name: &Spanned<String>) -> Diagnostic {
    Diagnostic::error("M0006", format!("`{}` is defined twice", name.value)).label(name.span, "")
}

pub(super) fn declared_twice(path: &str, second: Span, first: Span) -> Diagnostic {
    Diagnostic::error("M0006", format!("module `{path}` is declared twice"))
        .label(second, "the second time")
        .label(first, "the first time")
}

/// Two of what a model has one of.
pub(super) fn found_two(what: &str, second: Span, first: Span) -> Diagnostic {
    Diagnostic::error("M0006", format!("a model has one {what}, found two"))
        .label(second, "the second")
        .label(first, "the first")
}

pub(super) fn calls_itself(name: &str, span: Span) -> Diagnostic {
    Diagnostic::error("M0006", format!("block `{name}` calls itself")).label(span, "")
}

pub(super) fn block_without_return(name: &Spanned<String>) -> Diagnostic {
    Diagnostic::error("M0006", format!("block `{}` ends without a `return`", name.value)).label(name.span, "")
}

pub(super) fn not_nested(what: &str, span: Span) -> Diagnostic {
    let message = format!("{what} stands at the level of the model, not within other declarations");
    Diagnostic::error("M0006", message).label(span, "")
}

pub(super) fn no_graph(name: &Spanned<String>) -> Diagnostic {
    Diagnostic::error("M0006", format!("model `{}` has no graph", name.value))
        .label(name.span, "")
        .help("add `graph(tokens, positions) { … }`, which applies the modules and ends with `return LOGITS`")
}

/// The one name that always means the same, bound.
pub(super) fn bound_config(name: &Spanned<String>) -> Option<Diagnostic> {
    let message = "`config` always is config.json and cannot be defined anew";
    (name.value == "config").then(|| Diagnostic::error("M0006", message).label(name.span, ""))
}

pub(super) fn not_one_activation(path: &str, span: Span) -> Diagnostic {
    Diagnostic::error("M0007", format!("module `{path}` takes one activation")).label(span, "")
}

pub(super) fn nothing_indexed(path: &str, span: Span) -> Diagnostic {
    Diagnostic::error("M0002", format!("`{path}` has no indexed modules to go through")).label(span, "")
}

/// The constructor that an expression calls.
pub(super) fn constructor_of(expr: &Expr) -> Result<&'static Constructor, Box<Diagnostic>> {
    let known = || CONSTRUCTORS.iter().map(|constructor| constructor.name);
    let ExprKind::Call { callee, .. } = &expr.kind else {
        let names: Vec<&str> = known().collect();
        let message = format!("expected a kind of module: {}", names.join(", "));
        return Err(Box::new(Diagnostic::error("M0002", message).label(expr.span, "")));
    };
    let ExprKind::Name(name) = &callee.kind else {
        return Err(Box::new(Diagnostic::error("M0002", "expected a kind of module").label(callee.span, "")));
    };
    constructors::find(name).ok_or_else(|| {
        let message = format!("`{name}` is no kind of module");
        Box::new(suggest(Diagnostic::error("M0001", message).label(callee.span, ""), name, known()))
    })
}
