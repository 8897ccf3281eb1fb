//! What of a definition is never used: blocks that nobody calls, `let`s and blocks that nobody names.

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::ast::{Decl, DeclKind, Expr, ExprKind, Model, Stmt};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{Span, Spanned};

use super::eval::{visit_decls, visit_stmts};

/// Calls `visit` on every expression of a model but those of blocks that nothing leads to.
pub(super) fn visit_reached<'e>(model: &'e Model, visit: &mut impl FnMut(&'e Expr)) {
    let mut called: BTreeSet<&str> = BTreeSet::new();
    let mut blocks: Vec<(&Spanned<String>, &[Stmt])> = Vec::new();
    let mut see = |expr: &'e Expr, called: &mut BTreeSet<&'e str>| {
        if let ExprKind::Call { callee, .. } = &expr.kind
            && let ExprKind::Name(name) = &callee.kind
        {
            called.insert(name);
        }
        visit(expr);
    };
    for decl in &model.body {
        match &decl.kind {
            DeclKind::Block { name, body, .. } => blocks.push((name, body)),
            _ => visit_decls(std::slice::from_ref(decl), &mut |expr| see(expr, &mut called)),
        }
    }
    while let Some(at) = blocks.iter().position(|(name, _)| called.contains(name.value.as_str())) {
        let (_, body) = blocks.swap_remove(at);
        visit_stmts(body, &mut |expr| see(expr, &mut called));
    }
}

/// Errors for `let`s and blocks that nothing names: what is to replace something of a base, and replaces nothing, is mostly
/// misspelt. Those of a base are its own matter.
pub(super) fn names(model: &Model) -> Vec<Diagnostic> {
    if !model.body.iter().any(|decl| matches!(decl.kind, DeclKind::Graph { .. })) {
        // It is being written.
        return Vec::new();
    }
    let mut named: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    visit_decls(&model.body, &mut |expr| {
        if let ExprKind::Name(name) = &expr.kind {
            named.entry(name).or_default().push(expr.span);
        }
    });
    let mut declared = Vec::new();
    collect(&model.body, &mut declared);
    let unused = |(name, own): &(&Spanned<String>, Span)| {
        let within = |span: &Span| span.source == own.source && own.start <= span.start && span.end <= own.end;
        let elsewhere = named.get(name.value.as_str()).is_some_and(|spans| !spans.iter().all(within));
        name.span.source == model.name.span.source && !elsewhere
    };
    let diagnostic = |(name, _): (&Spanned<String>, Span)| {
        Diagnostic::error("M0010", format!("nothing uses `{}`", name.value)).label(name.span, "")
    };
    declared.into_iter().filter(unused).map(diagnostic).collect()
}

/// Every `let` and block, and what is its own: a name in there does not count as a use.
fn collect<'e>(body: &'e [Decl], declared: &mut Vec<(&'e Spanned<String>, Span)>) {
    for decl in body {
        match &decl.kind {
            DeclKind::Let { name, .. } | DeclKind::Block { name, .. } => declared.push((name, decl.span)),
            DeclKind::Scope { body, .. } | DeclKind::Repeat { body, .. } => collect(body, declared),
            DeclKind::If { then, otherwise, .. } => {
                collect(then, declared);
                collect(otherwise, declared);
            }
            DeclKind::Architectures(_)
            | DeclKind::Assert { .. }
            | DeclKind::Context(_)
            | DeclKind::Module { .. }
            | DeclKind::Ignore { .. }
            | DeclKind::Alias { .. }
            | DeclKind::Graph { .. } => {}
        }
    }
}
