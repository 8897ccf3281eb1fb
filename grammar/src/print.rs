//! AST → text, in both syntaxes. What is printed parses back to the same AST, spans aside.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::ast::{
    Arg, BinaryOp, Call, Decl, DeclKind, Expr, ExprKind, File, Ignored, ItemKind, Model, Path, PathSegment, Spec, Stmt,
    StmtKind, UnaryOp,
};

/// Prints a file in the Lathe language, in one canonical form: four spaces a level, one blank line between items, as
/// few parentheses as the meaning allows.
pub fn print(file: &File) -> String {
    let mut printer = Printer { text: format!("lathe {}\n", file.version.value), level: 0 };
    for item in &file.items {
        printer.text.push('\n');
        match &item.kind {
            ItemKind::Use(_) | ItemKind::Let(_) => {}
            ItemKind::Spec(spec) => printer.spec(spec),
            ItemKind::Model(model) => printer.model(model),
        }
    }
    printer.text
}

/// Prints a file in YAML. None when it is not exactly one spec, which is all that YAML can hold.
pub fn print_yaml(file: &File) -> Option<String> {
    let [item] = file.items.as_slice() else { return None };
    let ItemKind::Spec(spec) = &item.kind else { return None };
    let rules = spec.rules.as_ref().map_or(&[][..], |rules| &rules.value);
    let mut text = format!("lathe: {}\nspec: {}\n", file.version.value, yaml_scalar(&spec.name.value));
    text.push_str(if rules.is_empty() { "rules: []\n" } else { "rules:\n" });
    for rule in rules {
        // Patterns are quoted even where they need not be: most hold what means something in YAML.
        let _ = writeln!(text, "  - match: {}", yaml_quoted(&rule.pattern.value.to_string()));
        if let Some(format) = &rule.format {
            let _ = writeln!(text, "    format: {}", yaml_scalar(&format.value.to_string()));
        }
        if rule.optional {
            text.push_str("    optional: true\n");
        }
    }
    Some(text)
}

/// Unquoted when no YAML reader could take it for anything but this text.
fn yaml_scalar(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '(' | ')'));
    let is_word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_ascii_lowercase());
    if is_plain && !is_word { text.to_owned() } else { yaml_quoted(text) }
}

fn yaml_quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
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

    fn spec(&mut self, spec: &Spec) {
        self.block(format_args!("spec {}", spec.name.value), |printer| {
            printer.block("rules", |printer| {
                for rule in spec.rules.iter().flat_map(|rules| &rules.value) {
                    let Some(format) = &rule.format else { continue };
                    let optional = if rule.optional { " optional" } else { "" };
                    printer.line(format_args!("{} => {}{optional}", rule.pattern.value, format.value));
                }
            });
        });
    }

    fn model(&mut self, model: &Model) {
        self.block(format_args!("model {}", model.name.value), |printer| {
            printer.declarations(&model.body, "module ");
        });
    }

    /// `prefix` stands before the paths of modules: nothing inside a scope.
    fn declarations(&mut self, declarations: &[Decl], prefix: &str) {
        for declaration in declarations {
            self.declaration(&declaration.kind, prefix);
        }
    }

    fn declaration(&mut self, declaration: &DeclKind, prefix: &str) {
        match declaration {
            DeclKind::Architectures(names) => {
                let names = names.iter().map(|name| Quoted(&name.value));
                self.line(format_args!("architectures {}", join(names)));
            }
            DeclKind::Let { name, value } => self.line(format_args!("let {} = {value}", name.value)),
            DeclKind::Assert { condition, message: None } => self.line(format_args!("assert {condition}")),
            DeclKind::Assert { condition, message: Some(message) } => {
                self.line(format_args!("assert {condition}, {}", Quoted(&message.value)));
            }
            DeclKind::Context(positions) => self.line(format_args!("context {positions}")),
            DeclKind::Module { paths, constructor } => {
                self.line(format_args!("{prefix}{} = {constructor}", join(paths.iter())));
            }
            DeclKind::Scope { path, body } => {
                self.block(format_args!("{prefix}{path}"), |printer| printer.declarations(body, ""));
            }
            DeclKind::Repeat { variable, start, end, body } => {
                let head = format!("repeat {} in {start}..{end}", variable.value);
                self.block(head, |printer| printer.declarations(body, prefix));
            }
            DeclKind::If { condition, then, otherwise } => {
                let body = |printer: &mut Self, body: &[Decl]| printer.declarations(body, prefix);
                self.branches((condition, then, otherwise), declared_if, body);
            }
            DeclKind::Ignore { what, names } => {
                let what = match what {
                    Ignored::Tensors => "tensors",
                    Ignored::Config => "config",
                };
                let names = names.iter().map(|name| Quoted(&name.value));
                self.line(format_args!("ignore {what} {}", join(names)));
            }
            DeclKind::Graph { parameters, body } => {
                let parameters = join(parameters.iter().map(|name| &name.value));
                self.block(format_args!("graph({parameters})"), |printer| printer.statements(body));
            }
        }
    }

    fn statements(&mut self, statements: &[Stmt]) {
        for statement in statements {
            match &statement.kind {
                StmtKind::Assign { name, value } => self.line(format_args!("{} = {value}", name.value)),
                StmtKind::For { index, variable, over, body } => {
                    let index = index.as_ref().map_or_else(String::new, |index| format!("{}, ", index.value));
                    let head = format!("for {index}{} in {over}", variable.value);
                    self.block(head, |printer| printer.statements(body));
                }
                StmtKind::If { condition, then, otherwise } => {
                    self.branches((condition, then, otherwise), stated_if, Printer::statements);
                }
                StmtKind::Return(value) => self.line(format_args!("return {value}")),
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
type Branches<'a, T> = (&'a Expr, &'a [T], &'a [T]);

fn declared_if(declaration: &Decl) -> Option<Branches<'_, Decl>> {
    match &declaration.kind {
        DeclKind::If { condition, then, otherwise } => Some((condition, then, otherwise)),
        _ => None,
    }
}

fn stated_if(statement: &Stmt) -> Option<Branches<'_, Stmt>> {
    match &statement.kind {
        StmtKind::If { condition, then, otherwise } => Some((condition, then, otherwise)),
        _ => None,
    }
}

/// `a, b, c`
fn join<T: Display>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(", ")
}

/// A string as it is written in the language.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' => formatter.write_str("\\\"")?,
                '\\' => formatter.write_str("\\\\")?,
                '\n' => formatter.write_str("\\n")?,
                '\t' => formatter.write_str("\\t")?,
                other => formatter.write_char(other)?,
            }
        }
        formatter.write_char('"')
    }
}

impl Display for Call {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name.value)?;
        if self.args.is_empty() { Ok(()) } else { write!(formatter, "({})", join(self.args.iter())) }
    }
}

impl Display for Arg {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "{}: {}", name.value, self.value),
            None => self.value.fmt(formatter),
        }
    }
}

impl Display for Path {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            match segment {
                PathSegment::Name(name) if i == 0 => formatter.write_str(name)?,
                PathSegment::Name(name) => write!(formatter, ".{name}")?,
                PathSegment::Index(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}

// ---- Expressions

/// How tightly an expression holds together; larger is tighter. The order of [`BinaryOp`], between `when` and the rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    When,
    Or,
    Either,
    Both,
    Comparison,
    Sum,
    Product,
    Prefix,
    Power,
    Value,
}

impl Binding {
    fn of(expression: &ExprKind) -> Binding {
        match expression {
            ExprKind::When(..) => Binding::When,
            ExprKind::Binary(operator, ..) => Binding::of_operator(*operator),
            ExprKind::Unary(..) => Binding::Prefix,
            ExprKind::Null
            | ExprKind::Bool(_)
            | ExprKind::Int(_)
            | ExprKind::Float(_)
            | ExprKind::Str(_)
            | ExprKind::List(_)
            | ExprKind::Name(_)
            | ExprKind::Member(..)
            | ExprKind::Index(..)
            | ExprKind::Call { .. }
            | ExprKind::If { .. } => Binding::Value,
        }
    }

    fn of_operator(operator: BinaryOp) -> Binding {
        match operator {
            BinaryOp::Or => Binding::Or,
            BinaryOp::Either => Binding::Either,
            BinaryOp::Both => Binding::Both,
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                Binding::Comparison
            }
            BinaryOp::Add | BinaryOp::Sub => Binding::Sum,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => Binding::Product,
            BinaryOp::Pow => Binding::Power,
        }
    }

    /// The next tighter one.
    fn tighter(self) -> Binding {
        match self {
            Binding::When => Binding::Or,
            Binding::Or => Binding::Either,
            Binding::Either => Binding::Both,
            Binding::Both => Binding::Comparison,
            Binding::Comparison => Binding::Sum,
            Binding::Sum => Binding::Product,
            Binding::Product => Binding::Prefix,
            Binding::Prefix => Binding::Power,
            Binding::Power | Binding::Value => Binding::Value,
        }
    }
}

impl BinaryOp {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Or => "or",
            BinaryOp::Either => "||",
            BinaryOp::Both => "&&",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
            BinaryOp::Pow => "^",
        }
    }
}

/// Prints an operand, in parentheses when it is looser than `loosest`.
struct Operand<'a>(&'a Expr, Binding);

impl Display for Operand<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if Binding::of(&self.0.kind) < self.1 { write!(formatter, "({})", self.0) } else { self.0.fmt(formatter) }
    }
}

impl Display for Expr {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Null => formatter.write_str("null"),
            ExprKind::Bool(value) => value.fmt(formatter),
            ExprKind::Int(value) => value.fmt(formatter),
            // The shortest digits that read back as the same number, with a point or an exponent.
            ExprKind::Float(value) => write!(formatter, "{value:?}"),
            ExprKind::Str(text) => Quoted(text).fmt(formatter),
            ExprKind::List(items) => write!(formatter, "[{}]", join(items.iter())),
            ExprKind::Name(name) => formatter.write_str(name),
            ExprKind::Member(of, name) => write!(formatter, "{}.{}", Operand(of, Binding::Value), name.value),
            ExprKind::Index(of, index) => write!(formatter, "{}[{index}]", Operand(of, Binding::Value)),
            ExprKind::Call { callee, args } => {
                write!(formatter, "{}({})", Operand(callee, Binding::Value), join(args.iter()))
            }
            ExprKind::Unary(operator, operand) => {
                let symbol = match operator {
                    UnaryOp::Neg => "-",
                    UnaryOp::Not => "!",
                };
                write!(formatter, "{symbol}{}", Operand(operand, Binding::Prefix))
            }
            ExprKind::Binary(BinaryOp::Pow, base, exponent) => {
                // Right-associative, and a prefix may stand in its exponent: `2 ^ -x`.
                write!(formatter, "{} ^ {}", Operand(base, Binding::Value), Operand(exponent, Binding::Prefix))
            }
            ExprKind::Binary(operator, left, right) => {
                let binding = Binding::of_operator(*operator);
                let (left, right) = (Operand(left, binding), Operand(right, binding.tighter()));
                write!(formatter, "{left} {} {right}", operator.symbol())
            }
            ExprKind::When(value, condition) => {
                write!(formatter, "{} when {}", Operand(value, Binding::When), Operand(condition, Binding::Or))
            }
            ExprKind::If { condition, then, otherwise } => {
                write!(formatter, "if {condition} {{ {then} }} else ")?;
                match otherwise.kind {
                    ExprKind::If { .. } => otherwise.fmt(formatter),
                    _ => write!(formatter, "{{ {otherwise} }}"),
                }
            }
        }
    }
}
