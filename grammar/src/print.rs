//! AST → text, in both syntaxes. What is printed parses back to the same AST, spans aside.

mod expression;
pub(crate) mod line;
pub(crate) mod yaml;

use std::fmt::{Display, Write as _};

use crate::ast::{Decl, DeclKind, Expr, File, Item, ItemKind, Model, Spec, Stmt, StmtKind};

pub use expression::Quoted;
pub use yaml::print_yaml;

/// Prints a file in the Lathe language, in one canonical form: four spaces a level, sections in a fixed order, one blank
/// line between items, as few parentheses as the meaning allows.
pub fn print(file: &File) -> String {
    let mut printer = Printer { text: format!("lathe {}\n", file.version.value), level: 0 };
    let mut before: Option<&ItemKind> = None;
    for item in &file.items {
        let is_alike = matches!(
            (before, &item.kind),
            (Some(ItemKind::Use(_)), ItemKind::Use(_)) | (Some(ItemKind::Let(_)), ItemKind::Let(_))
        );
        if !is_alike {
            printer.text.push('\n');
        }
        printer.item(item);
        before = Some(&item.kind);
    }
    printer.text
}

struct Printer {
    text: String,
    level: usize,
}

impl Printer {
    fn line(&mut self, line: impl Display) {
        let indentation = 4 * self.level;
        let _ = writeln!(self.text, "{:indentation$}{line}", "");
    }

    /// `head {`, what `body` prints, `}`.
    fn block(&mut self, head: impl Display, body: impl FnOnce(&mut Self)) {
        self.line(format_args!("{head} {{"));
        self.level += 1;
        body(self);
        self.level -= 1;
        self.line("}");
    }

    fn item(&mut self, item: &Item) {
        match &item.kind {
            ItemKind::Spec(spec) => self.spec(spec),
            ItemKind::Model(model) => self.model(model),
            ItemKind::Use(_) | ItemKind::Let(_) => {
                if let Some(line) = line::item(item) {
                    self.line(line);
                }
            }
        }
    }

    fn spec(&mut self, spec: &Spec) {
        self.block(line::spec_head(spec), |printer| {
            let start = printer.text.len();
            if let Some(models) = &spec.models {
                printer.line(line::models(&models.value));
                printer.text.push('\n');
            }
            for binding in &spec.lets {
                printer.line(line::binding(binding));
            }
            if !spec.lets.is_empty() {
                printer.text.push('\n');
            }
            if let Some(rules) = &spec.rules {
                printer.block("rules", |printer| rules.value.iter().for_each(|rule| printer.line(line::rule(rule))));
            }
            if let Some(rotate) = &spec.rotate {
                printer.block("rotate", |printer| {
                    rotate.value.iter().for_each(|rotation| printer.line(line::rotation(rotation)));
                });
            }
            if let Some(format) = &spec.kv_cache {
                printer.line(line::kv_cache(&format.value));
            }
            for (name, word) in spec.words() {
                if let Some(word) = word {
                    printer.line(line::setting(name, &word.value));
                }
            }
            // The blank line is for what follows.
            if printer.text[start..].ends_with("\n\n") {
                printer.text.pop();
            }
        });
    }

    fn model(&mut self, model: &Model) {
        self.block(line::model_head(model), |printer| {
            printer.declarations(&model.body, "module ");
        });
    }

    /// `prefix` stands before the paths of modules: nothing inside a scope.
    fn declarations(&mut self, declarations: &[Decl], prefix: &str) {
        for declaration in declarations {
            if let Some(line) = line::declaration(declaration, prefix) {
                self.line(line);
            } else if let DeclKind::If { condition, then, otherwise } = &declaration.kind {
                let body = |printer: &mut Self, body: &[Decl]| printer.declarations(body, prefix);
                self.branches((condition, then, otherwise), declared_if, body);
            } else if let Some(head) = line::declaration_head(declaration, prefix) {
                self.block(head, |printer| match &declaration.kind {
                    DeclKind::Scope { body, .. } => printer.declarations(body, ""),
                    DeclKind::Repeat { body, .. } => printer.declarations(body, prefix),
                    DeclKind::Block { body, .. } | DeclKind::Graph { body, .. } => printer.statements(body),
                    _ => {}
                });
            }
        }
    }

    fn statements(&mut self, statements: &[Stmt]) {
        for statement in statements {
            if let Some(line) = line::statement(statement) {
                self.line(line);
            } else if let StmtKind::If { condition, then, otherwise } = &statement.kind {
                self.branches((condition, then, otherwise), stated_if, Printer::statements);
            } else if let (StmtKind::For { body, .. }, Some(head)) = (&statement.kind, line::statement_head(statement))
            {
                self.block(head, |printer| printer.statements(body));
            }
        }
    }

    /// `if … { } else if … { } else { }`. `as_if` takes an `if` apart.
    fn branches<T>(
        &mut self,
        (condition, then, mut otherwise): Branches<T>,
        as_if: impl Fn(&T) -> Option<Branches<T>>,
        body: impl Fn(&mut Self, &[T]),
    ) {
        let branch = |printer: &mut Self, statements: &[T]| {
            printer.level += 1;
            body(printer, statements);
            printer.level -= 1;
        };
        self.line(format_args!("if {condition} {{"));
        branch(self, then);
        while !otherwise.is_empty() {
            let nested = if let [only] = otherwise { as_if(only) } else { None };
            if let Some((condition, then, rest)) = nested {
                self.line(format_args!("}} else if {condition} {{"));
                branch(self, then);
                otherwise = rest;
            } else {
                self.line("} else {");
                branch(self, otherwise);
                break;
            }
        }
        self.line("}");
    }
}

/// Condition, what holds when it is true, what holds when it is false.
pub(crate) type Branches<'a, T> = (&'a Expr, &'a [T], &'a [T]);

/// The parts of a declaration that is an `if`.
pub(crate) fn declared_if(declaration: &Decl) -> Option<Branches<'_, Decl>> {
    match &declaration.kind {
        DeclKind::If { condition, then, otherwise } => Some((condition, then, otherwise)),
        _ => None,
    }
}

/// The parts of a statement that is an `if`.
pub(crate) fn stated_if(statement: &Stmt) -> Option<Branches<'_, Stmt>> {
    match &statement.kind {
        StmtKind::If { condition, then, otherwise } => Some((condition, then, otherwise)),
        _ => None,
    }
}
