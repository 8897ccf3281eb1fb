//! Arguments of formats and rotations, checked against their parameters.

use lathe_grammar::ast::{Arg, Expr, ExprKind, UnaryOp};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{SourceId, Span, Spanned};

use super::elsewhere;
use super::names::Names;
use crate::ir::Real;

/// A parameter of a format or rotation. Given by name, but for the file and the key of a matrix, which may stand without.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub of: Type,
    /// What holds when it is left out; `None` when nothing does, or when it must be given.
    pub default: Option<&'static str>,
    /// One line for listings.
    pub summary: &'static str,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A whole number between these, both included.
    Integer {
        /// Smallest.
        least: i64,
        /// Largest.
        most: i64,
    },
    /// `true` or `false`
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `[rows, columns]`, each between 1 and this.
    Block {
        /// Largest.
        most: i64,
    },
    /// A number from 0 to 1.
    Fraction,
    /// A string that is not empty.
    Text,
}

impl Type {
    /// In messages and listings.
    pub fn describe(self) -> String {
        match self {
            Type::Integer { least, most: i64::MAX } => format!("a whole number from {least}"),
            Type::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Type::Flag => "true or false".into(),
            Type::Word(words) => one_of(words),
            Type::Block { most } => format!("[rows, columns], each from 1 to {most}"),
            Type::Fraction => "a number from 0 to 1".into(),
            Type::Text => "a string that is not empty".into(),
        }
    }
}

/// `a, b or c`
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        // What is no word is written as a string.
        [only] if only.contains(':') => format!("`\"{only}\"`"),
        [only] => format!("`{only}`"),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// A value of a [`Type`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i64),
    Flag(bool),
    Word(&'static str),
    Block(i64, i64),
    Fraction(Real),
    /// With the place where it stands, be it behind a `let`.
    Text(Spanned<String>),
}

/// The values of a call, by parameter.
#[derive(Debug)]
pub(super) struct Arguments {
    values: Vec<(&'static str, Spanned<Value>)>,
}

impl Arguments {
    pub(super) fn find(&self, name: &str) -> Option<&Spanned<Value>> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The first value that is written in another text than `source`, as one behind `--set` is.
    pub(super) fn foreign(&self, source: SourceId) -> Option<Span> {
        self.values.iter().map(|(_, value)| value.span).find(|span| span.source != source)
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        match self.find(name)?.value {
            Value::Integer(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.find(name)?.value {
            Value::Flag(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn word(&self, name: &str) -> Option<&'static str> {
        match self.find(name)?.value {
            Value::Word(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn fraction(&self, name: &str) -> Option<Real> {
        match self.find(name)?.value {
            Value::Fraction(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&Spanned<String>> {
        match &self.find(name)?.value {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }
}

/// Checks the arguments of `callee`, of whose parameters the first `positional` ones take values without a name. `None`
/// when there was a mistake; every one has been reported.
pub(super) fn bind(
    callee: &str,
    (parameters, positional): (&[Parameter], usize),
    args: &[Arg],
    names: &Names<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Arguments> {
    let mut good = true;
    let mut values: Vec<(&'static str, Spanned<Value>)> = Vec::new();
    let unnamed: Vec<Span> =
        args.iter().take(positional).filter(|arg| arg.name.is_none()).map(|arg| arg.value.span).collect();
    for (index, arg) in args.iter().enumerate() {
        if arg.name.is_none() && args[..index].iter().any(|before| before.name.is_some()) {
            // The parser has reported it.
            good = false;
            continue;
        }
        let in_place = parameters[..positional].get(index).filter(|_| arg.name.is_none());
        let Some(parameter) = in_place.or_else(|| parameter(callee, (parameters, positional), arg, diagnostics)) else {
            good = false;
            continue;
        };
        // Of two that are named the parser has reported it.
        let is_first = |known: &str, at: Span| known == parameter.name && unnamed.contains(&at);
        if let Some((_, first)) = values.iter().find(|(known, value)| is_first(known, value.span)) {
            let message = format!("`{}` of `{callee}` is given twice", parameter.name);
            let diagnostic = Diagnostic::error("P0005", message).label(arg.value.span, "");
            diagnostics.push(diagnostic.label(first.span, "the first one is here"));
            good = false;
            continue;
        }
        match value(callee, parameter, &arg.value, names, diagnostics) {
            Some(value) => values.push((parameter.name, Spanned::new(value, arg.value.span))),
            None => good = false,
        }
    }
    good.then_some(Arguments { values })
}

fn parameter<'p>(
    callee: &str,
    (parameters, positional): (&'p [Parameter], usize),
    arg: &Arg,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<&'p Parameter> {
    let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name).collect();
    let listed = match known.len() {
        0 => format!("`{callee}` takes no arguments"),
        _ => format!("the arguments of `{callee}` are {}", known.join(", ")),
    };
    let Some(name) = &arg.name else {
        let help = match fits_alone(&parameters[positional..], &arg.value) {
            Some(parameter) => format!("write `{parameter}: {}`", arg.value),
            None => listed,
        };
        let message = format!("an argument of `{callee}` has no name");
        diagnostics.push(Diagnostic::error("S0203", message).label(arg.value.span, "").help(help));
        return None;
    };
    let found = parameters.iter().find(|parameter| parameter.name == name.value);
    if found.is_none() {
        let help = elsewhere::argument(&name.value, &known)
            .or_else(|| elsewhere::near(&name.value, known).map(|near| format!("did you mean `{near}`?")))
            .unwrap_or(listed);
        let message = format!("`{callee}` has no argument `{}`", name.value);
        diagnostics.push(Diagnostic::error("S0203", message).label(name.span, "").help(help));
    }
    found
}

/// The one parameter that a value without a name was probably meant for.
fn fits_alone(parameters: &[Parameter], value: &Expr) -> Option<&'static str> {
    let fits = |parameter: &&Parameter| match (parameter.of, &value.kind) {
        (Type::Integer { least, most }, ExprKind::Int(value)) => (least..=most).contains(value),
        (Type::Word(words), ExprKind::Name(name)) => words.contains(&name.as_str()),
        (Type::Flag, ExprKind::Bool(_))
        | (Type::Text, ExprKind::Str(_))
        | (Type::Fraction, ExprKind::Float(_))
        | (Type::Block { .. }, ExprKind::List(_)) => true,
        _ => false,
    };
    parameters.iter().find(fits).map(|parameter| parameter.name)
}

fn value(
    callee: &str,
    parameter: &Parameter,
    written: &Expr,
    names: &Names<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Value> {
    let word = match (&written.kind, parameter.of) {
        (ExprKind::Name(name), Type::Word(words)) => words.iter().find(|word| *word == name),
        // `"2:4"` is no word of the language, so it stands in quotes.
        (ExprKind::Str(text), Type::Word(words)) => words.iter().find(|word| *word == text),
        _ => None,
    };
    if let Some(word) = word {
        return Some(Value::Word(word));
    }
    let meant = names.behind(written, diagnostics)?;
    if matches!(&meant.kind, ExprKind::Name(name) if names.is_lost(name)) {
        return None;
    }
    let number = |expr: &Expr| match &expr.kind {
        ExprKind::Int(value) => Some(*value),
        ExprKind::Unary(UnaryOp::Neg, inner) => match inner.kind {
            ExprKind::Int(value) => Some(-value),
            _ => None,
        },
        _ => None,
    };
    let mut report = |code: &'static str, message: String, help: Option<String>| {
        let mut diagnostic = Diagnostic::error(code, message).label(meant.span, "");
        if meant.span != written.span {
            diagnostic = diagnostic.label(written.span, "used here");
        }
        diagnostic.help = help;
        diagnostics.push(diagnostic);
    };
    let expected = parameter.of.describe();
    let name = parameter.name;
    let out_of_range = || format!("`{name}` of `{callee}` is out of range: expected {expected}, found {meant}");
    match (parameter.of, &meant.kind) {
        (Type::Integer { least, most }, _) if number(meant).is_some() => {
            let value = number(meant)?;
            if (least..=most).contains(&value) {
                return Some(Value::Integer(value));
            }
            // Elsewhere these stand for one scale in each row.
            let is_row = name == "group" && (-1..=1).contains(&value);
            report("S0205", out_of_range(), is_row.then(|| "for one scale in each row write `per: channel`".into()));
        }
        (Type::Flag, ExprKind::Bool(value)) => return Some(Value::Flag(*value)),
        (Type::Fraction, ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Unary(UnaryOp::Neg, _)) => {
            let value = match meant.kind {
                ExprKind::Int(value) => Some(value as f64),
                ExprKind::Float(value) => Some(value),
                _ => None,
            };
            if let Some(value) = value.filter(|value| (0.0..=1.0).contains(value)) {
                return Some(Value::Fraction(Real::new(value as f32)));
            }
            report("S0205", out_of_range(), None);
        }
        (Type::Word(words), ExprKind::Name(found) | ExprKind::Str(found)) => {
            // A `let` may stand for a word.
            if let Some(word) = words.iter().find(|word| *word == found) {
                return Some(Value::Word(word));
            }
            let help = match elsewhere::word(name, found) {
                Some(here) => Some(format!("write `{here}`")),
                None => elsewhere::near(found, words.iter().copied()).map(|near| format!("did you mean `{near}`?")),
            };
            let message = format!("`{name}` of `{callee}` is {expected}, found `{found}`");
            report("S0205", message, help);
        }
        (Type::Block { most }, ExprKind::List(items)) => {
            if let [rows, columns] = &items[..]
                && let (Some(rows), Some(columns)) = (number(rows), number(columns))
            {
                if (1..=most).contains(&rows) && (1..=most).contains(&columns) {
                    return Some(Value::Block(rows, columns));
                }
                report("S0205", out_of_range(), None);
            } else {
                report(
                    "S0204",
                    format!("`{name}` of `{callee}` is {expected}, found {meant}"),
                    repaired(parameter, meant),
                );
            }
        }
        (Type::Text, ExprKind::Str(text)) if !text.is_empty() => {
            return Some(Value::Text(Spanned::new(text.clone(), meant.span)));
        }
        _ => {
            let found = describe(meant);
            report(
                "S0204",
                format!("`{name}` of `{callee}` is of the wrong type: expected {expected}, found {found}"),
                repaired(parameter, meant),
            );
        }
    }
    None
}

/// What was probably meant by a value of the wrong type.
fn repaired(parameter: &Parameter, value: &Expr) -> Option<String> {
    let text = match &value.kind {
        ExprKind::Name(text) | ExprKind::Str(text) => text.to_lowercase(),
        ExprKind::List(items) => items.first()?.to_string(),
        _ => value.to_string(),
    };
    let number = || {
        let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
        whole.parse::<i64>().ok().filter(|number| *number > 0)
    };
    let meant = match parameter.of {
        Type::Integer { .. } => number()?.to_string(),
        Type::Flag => match text.as_str() {
            "1" | "yes" | "on" | "true" => "true".to_owned(),
            "0" | "no" | "off" | "false" => "false".to_owned(),
            _ => return None,
        },
        Type::Block { .. } => number().map(|size| format!("[{size}, {size}]"))?,
        Type::Word(_) | Type::Fraction | Type::Text => return None,
    };
    Some(format!("write `{}: {meant}`", parameter.name))
}

/// What a value is, in messages.
fn describe(value: &Expr) -> String {
    match &value.kind {
        ExprKind::Int(_) | ExprKind::Float(_) => format!("the number {value}"),
        ExprKind::Str(_) => format!("the string {value}"),
        ExprKind::List(_) => format!("the list {value}"),
        _ => format!("`{value}`"),
    }
}

/// The place of an argument, or of the whole call when it is absent.
pub(super) fn place(arguments: &Arguments, name: &str, call: Span) -> Span {
    arguments.find(name).map_or(call, |value| value.span)
}
