//! Expressions and what is made of them, with as few parentheses as the meaning allows.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::ast::{Arg, BinaryOp, Call, Expr, ExprKind, Path, PathSegment, Subscript, UnaryOp};

/// `a, b, c`
pub(crate) fn join<T: Display>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(", ")
}

/// A string as it is written in the language.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

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

impl Display for Subscript {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Subscript::All => formatter.write_str(".."),
            Subscript::At(index) => index.fmt(formatter),
            Subscript::Range(first, last) => {
                first.iter().try_for_each(|first| first.fmt(formatter))?;
                formatter.write_str("..")?;
                last.iter().try_for_each(|last| last.fmt(formatter))
            }
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
            | ExprKind::Slice(..)
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
            ExprKind::Slice(of, subscripts) => {
                write!(formatter, "{}[{}]", Operand(of, Binding::Value), join(subscripts.iter()))
            }
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
