//! Lines of a text in the Lathe language: what the AST says, in the order of the text, and its comments in between.

use std::ops::Range;

use super::lines::{Break, Entry, STEP};
use super::writer::{Gap, Trivia, Writer, whole};
use crate::ast::{Decl, DeclKind, File, Item, ItemKind, Spec, Stmt, StmtKind};
use crate::print::line::{self, Line};
use crate::print::{Branches, declared_if, stated_if};
use crate::span::{Span, Spanned};

/// What is written for a text, of which `file` is the AST.
pub(super) fn entries(text: &str, trivia: Trivia, file: &File) -> Vec<Entry> {
    let mut writer = Writer::new(text, trivia);
    writer.file(file);
    writer.entries
}

impl Writer<'_> {
    // ---- Lines and blocks

    fn line(&mut self, element: Range<usize>, line: Line) {
        self.lead(element);
        self.push(line, Break::Elements);
    }

    /// `head { … }`. The head begins at `start`; behind `head_end` the next brace is the one that opens the block.
    fn block(&mut self, start: usize, head_end: usize, head: &str, body: impl FnOnce(&mut Self)) {
        let (open, close) = self.braces_after(head_end);
        self.lead(start..open + 1);
        self.push(whole(format!("{head} {{")), Break::Elements);
        self.body(close, body);
        self.push(whole("}".to_owned()), Break::Elements);
    }

    /// What stands in a block that ends at `close`.
    fn body(&mut self, close: usize, body: impl FnOnce(&mut Self)) {
        self.gap = Gap::None;
        self.indent += STEP;
        body(self);
        self.comments_before(close);
        self.indent -= STEP;
        self.gap = Gap::AsWritten;
        self.end = close + 1;
    }

    /// The braces of the block that is opened next.
    fn braces_after(&self, at: usize) -> (usize, usize) {
        let next = self.trivia.braces.partition_point(|(open, _)| *open < at);
        self.trivia.braces.get(next).copied().unwrap_or((self.text.len(), self.text.len()))
    }

    // ---- Items

    fn file(&mut self, file: &File) {
        self.line(file.version.span.range(), whole(format!("lathe {}", file.version.value)));
        self.gap = Gap::Line;
        for item in &file.items {
            self.item(item);
        }
        self.comments_before(self.text.len());
    }

    fn item(&mut self, item: &Item) {
        let span = item.span.range();
        match &item.kind {
            ItemKind::Use(_) | ItemKind::Let(_) => {
                if let Some(line) = line::item(item) {
                    self.line(span, line);
                }
            }
            ItemKind::Spec(spec) => {
                self.gap = Gap::Line;
                let head_end = head_end(&spec.name, spec.extends.as_ref());
                self.block(span.start, head_end, &line::spec_head(spec), |writer| writer.sections(spec));
                self.gap = Gap::Line;
            }
            ItemKind::Model(model) => {
                self.gap = Gap::Line;
                let head_end = head_end(&model.name, model.extends.as_ref());
                self.block(span.start, head_end, &line::model_head(model), |writer| {
                    writer.declarations(&model.body, "module ");
                });
                self.gap = Gap::Line;
            }
        }
    }

    fn sections(&mut self, spec: &Spec) {
        for Section { span, line, body } in sections(spec) {
            match body {
                None => self.line(span, line),
                Some(lines) => self.block(span.start, span.start, &line.left, |writer| {
                    for (span, line) in lines {
                        writer.line(span, line);
                    }
                }),
            }
        }
    }

    // ---- Declarations and statements

    /// `prefix` stands before the paths of modules: nothing inside a scope.
    fn declarations(&mut self, declarations: &[Decl], prefix: &str) {
        for declaration in declarations {
            let span = declaration.span.range();
            if let Some(line) = line::declaration(declaration, prefix) {
                self.lead(span);
                self.push(
                    line,
                    match declaration.kind {
                        DeclKind::Architectures(_) | DeclKind::Ignore { .. } | DeclKind::Alias { .. } => Break::Names,
                        _ => Break::Elements,
                    },
                );
                continue;
            }
            let head = line::declaration_head(declaration, prefix).unwrap_or_default();
            match &declaration.kind {
                DeclKind::Scope { path, body } => {
                    let head_end = path.span.range().end;
                    self.block(span.start, head_end, &head, |writer| writer.declarations(body, ""));
                }
                DeclKind::Repeat { end, body, .. } => {
                    let head_end = end.span.range().end;
                    self.block(span.start, head_end, &head, |writer| writer.declarations(body, prefix));
                }
                DeclKind::Block { body, .. } | DeclKind::Graph { body, .. } => {
                    self.block(span.start, span.start, &head, |writer| writer.statements(body));
                }
                DeclKind::If { condition, then, otherwise } => {
                    let body = |writer: &mut Self, body: &[Decl]| writer.declarations(body, prefix);
                    self.branches(span.start, (condition, then, otherwise), declared_if, body);
                }
                DeclKind::Architectures(_)
                | DeclKind::Let { .. }
                | DeclKind::Assert { .. }
                | DeclKind::Context(_)
                | DeclKind::Module { .. }
                | DeclKind::Ignore { .. }
                | DeclKind::Alias { .. } => {}
            }
        }
    }

    fn statements(&mut self, statements: &[Stmt]) {
        for statement in statements {
            let span = statement.span.range();
            if let Some(line) = line::statement(statement) {
                self.line(span, line);
                continue;
            }
            match &statement.kind {
                StmtKind::For { over, body, .. } => {
                    let head = line::statement_head(statement).unwrap_or_default();
                    self.block(span.start, over.span.range().end, &head, |writer| writer.statements(body));
                }
                StmtKind::If { condition, then, otherwise } => {
                    self.branches(span.start, (condition, then, otherwise), stated_if, Self::statements);
                }
                StmtKind::Assign { .. } | StmtKind::Return(_) => {}
            }
        }
    }

    /// `if … { } else if … { } else { }`. `as_if` takes an `if` apart.
    fn branches<T>(
        &mut self,
        start: usize,
        (condition, then, mut otherwise): Branches<T>,
        as_if: impl Fn(&T) -> Option<Branches<T>>,
        body: impl Fn(&mut Self, &[T]),
    ) {
        let (open, mut close) = self.braces_after(condition.span.range().end);
        self.lead(start..open + 1);
        self.push(whole(format!("if {condition} {{")), Break::Elements);
        self.body(close, |writer| body(writer, then));
        while !otherwise.is_empty() {
            let nested = if let [only] = otherwise { as_if(only) } else { None };
            let (head, head_end, then, rest) = match nested {
                Some((condition, then, rest)) => {
                    (format!("}} else if {condition} {{"), condition.span.range().end, then, rest)
                }
                None => ("} else {".to_owned(), close + 1, otherwise, &[][..]),
            };
            let open;
            (open, close) = self.braces_after(head_end);
            // There is no place for comments before the `else` but in its block.
            let has_comments = self.trivia.comments.get(self.next_comment).is_some_and(|comment| comment.start < open);
            self.push_bare(whole(head), Break::Elements);
            if !has_comments {
                self.end = open + 1;
                self.trail();
            }
            self.body(close, |writer| {
                writer.inner_comments_before(open);
                writer.end = writer.end.max(open + 1);
                body(writer, then);
            });
            otherwise = rest;
        }
        self.push(whole("}".to_owned()), Break::Elements);
    }
}

/// Where the head of a spec or model ends: behind its name or its base.
fn head_end(name: &Spanned<String>, base: Option<&Spanned<String>>) -> usize {
    base.unwrap_or(name).span.range().end
}

/// A part of a spec: a line, or what opens a block and its lines.
struct Section {
    span: Range<usize>,
    line: Line,
    body: Option<Vec<(Range<usize>, Line)>>,
}

/// The sections of a spec in the order in which they were written.
fn sections(spec: &Spec) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut add = |span: Span, line, body| sections.push(Section { span: span.range(), line, body });
    if let Some(models) = &spec.models {
        add(models.span, line::models(&models.value), None);
    }
    for binding in &spec.lets {
        add(binding.span, line::binding(binding), None);
    }
    if let Some(rules) = &spec.rules {
        let lines = rules.value.iter().map(|rule| (rule.span.range(), line::rule(rule)));
        add(rules.span, whole("rules".to_owned()), Some(lines.collect()));
    }
    if let Some(rotate) = &spec.rotate {
        let lines = rotate.value.iter().map(|rotation| (rotation.span.range(), line::rotation(rotation)));
        add(rotate.span, whole("rotate".to_owned()), Some(lines.collect()));
    }
    if let Some(format) = &spec.kv_cache {
        add(format.span, line::kv_cache(&format.value), None);
    }
    for (name, word) in spec.words() {
        if let Some(word) = word {
            add(word.span, line::setting(name, &word.value), None);
        }
    }
    sections.sort_by_key(|section| section.span.start);
    sections
}
