//! Expressions: precedence, literals, arguments.

use std::sync::LazyLock;

use pest::iterators::Pair;
use pest::pratt_parser::{Assoc, Op, PrattParser};

use crate::ast::{Arg, BinaryOp, Expr, ExprKind, Subscript, UnaryOp};
use crate::diag::Diagnostic;
use crate::span::{Span, Spanned};

use super::{MAX_DEPTH, Rule, Walker, significant};

/// Loosest first. Calls, members and indices bind tighter than all of these.
static PRECEDENCE: LazyLock<PrattParser<Rule>> = LazyLock::new(|| {
    let left = |operator| Op::infix(operator, Assoc::Left);
    PrattParser::new()
        .op(left(Rule::when))
        .op(left(Rule::or))
        .op(left(Rule::either))
        .op(left(Rule::both))
        .op(left(Rule::equal)
            | left(Rule::unequal)
            | left(Rule::less)
            | left(Rule::at_most)
            | left(Rule::greater)
            | left(Rule::at_least))
        .op(left(Rule::add) | left(Rule::subtract))
        .op(left(Rule::multiply) | left(Rule::divide) | left(Rule::remainder))
        .op(Op::prefix(Rule::negate) | Op::prefix(Rule::not))
        .op(Op::infix(Rule::power, Assoc::Right))
});

impl Walker {
    /// None when it holds a mistake, which has been reported.
    pub(super) fn expression(&mut self, pair: Pair<Rule>) -> Option<Expr> {
        let span = self.span(&pair);
        // Infix operators are wrapped, so that messages can name them together.
        let parts: Vec<Pair<Rule>> = pair
            .into_inner()
            .filter_map(|part| match part.as_rule() {
                Rule::infix => part.into_inner().next(),
                _ => Some(part),
            })
            .collect();
        let operators = parts.iter().filter(|part| part.as_rule() != Rule::atom).count();
        self.deeper(operators + 1, span, |walker| {
            let origin = walker.origin;
            PRECEDENCE
                .map_primary(|atom| walker.atom(atom))
                .map_prefix(|operator, operand: Option<Expr>| {
                    let operand = operand?;
                    let start = operator.as_span().start();
                    let span = origin.place(start..start + 1).to(operand.span);
                    let operator = if operator.as_rule() == Rule::negate { UnaryOp::Neg } else { UnaryOp::Not };
                    Some(Expr { kind: ExprKind::Unary(operator, Box::new(operand)), span })
                })
                .map_infix(|left, operator, right| {
                    let (left, right) = (left?, right?);
                    let span = left.span.to(right.span);
                    let (left, right) = (Box::new(left), Box::new(right));
                    let kind = match binary(operator.as_rule()) {
                        Some(operator) => ExprKind::Binary(operator, left, right),
                        None => ExprKind::When(left, right),
                    };
                    Some(Expr { kind, span })
                })
                .parse(parts.into_iter())
        })
    }

    /// Reads what adds `levels` to the depth of the tree, unless that makes it too deep.
    pub(super) fn deeper<T>(
        &mut self,
        levels: usize,
        span: Span,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        if self.depth + levels > MAX_DEPTH {
            self.report(
                "P0001",
                span,
                format!("more than {MAX_DEPTH} operators or branches depend on each other here"),
            );
            return None;
        }
        self.depth += levels;
        let value = read(self);
        self.depth -= levels;
        value
    }

    /// A value and the calls, members and indices behind it.
    fn atom(&mut self, pair: Pair<Rule>) -> Option<Expr> {
        let span = self.span(&pair);
        let mut parts = significant(pair);
        let value = self.primary(parts.next()?);
        let postfixes: Vec<Pair<Rule>> = parts.collect();
        self.deeper(postfixes.len(), span, |walker| {
            // Every part is read, also behind one with a mistake.
            postfixes.into_iter().fold(value, |value, postfix| {
                let end = walker.span(&postfix);
                let applied = walker.postfix(postfix);
                let value = value?;
                let span = value.span.to(end);
                let callee = Box::new(value);
                let kind = match applied? {
                    Postfix::Member(name) => ExprKind::Member(callee, name),
                    Postfix::Index(index) => ExprKind::Index(callee, Box::new(index)),
                    Postfix::Slice(subscripts) => ExprKind::Slice(callee, subscripts),
                    Postfix::Call(args) => ExprKind::Call { callee, args },
                };
                Some(Expr { kind, span })
            })
        })
    }

    fn postfix(&mut self, pair: Pair<Rule>) -> Option<Postfix> {
        match pair.as_rule() {
            Rule::member => significant(pair).next().map(|word| Postfix::Member(self.name(&word))),
            Rule::index => {
                let mut subscripts = self.each(pair, Walker::subscript)?;
                Some(match subscripts.pop() {
                    Some(Subscript::At(index)) if subscripts.is_empty() => Postfix::Index(index),
                    last => {
                        subscripts.extend(last);
                        Postfix::Slice(subscripts)
                    }
                })
            }
            _ => self.arguments(pair).map(Postfix::Call),
        }
    }

    fn subscript(&mut self, pair: Pair<Rule>) -> Option<Subscript> {
        let mut is_range = false;
        let (mut first, mut last) = (None, None);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::range => is_range = true,
                _ if is_range => last = Some(self.expression(part)),
                _ => first = Some(self.expression(part)),
            }
        }
        Some(match (first, last) {
            (Some(index), _) if !is_range => Subscript::At(index?),
            (None, None) => Subscript::All,
            (Some(first), None) => Subscript::Range(Some(first?), None),
            (None, Some(last)) => Subscript::Range(None, Some(last?)),
            (Some(first), Some(last)) => Subscript::Range(Some(first?), Some(last?)),
        })
    }

    fn primary(&mut self, pair: Pair<Rule>) -> Option<Expr> {
        let span = self.span(&pair);
        let text = pair.as_str();
        let kind = match pair.as_rule() {
            Rule::null => ExprKind::Null,
            Rule::boolean => ExprKind::Bool(text == "true"),
            Rule::integer => {
                if let Ok(value) = text.replace('_', "").parse() {
                    ExprKind::Int(value)
                } else {
                    self.report("P0001", span, format!("the number `{text}` is larger than {}", i64::MAX));
                    return None;
                }
            }
            Rule::float => match text.replace('_', "").parse::<f64>() {
                Ok(value) if value.is_finite() => ExprKind::Float(value),
                _ => {
                    self.report("P0001", span, format!("the number `{text}` is larger than {:e}", f64::MAX));
                    return None;
                }
            },
            Rule::string => ExprKind::Str(self.unescaped(&pair)?),
            Rule::list => ExprKind::List(self.each(pair, Walker::expression)?),
            Rule::group => {
                let inner = significant(pair).next()?;
                return self.expression(inner).map(|inner| Expr { span, ..inner });
            }
            Rule::if_expression => return self.if_expression(pair),
            _ => ExprKind::Name(text.to_owned()),
        };
        Some(Expr { kind, span })
    }

    /// Reads all parts, also behind one with a mistake.
    fn each<T>(&mut self, pair: Pair<Rule>, read: impl Fn(&mut Self, Pair<Rule>) -> Option<T>) -> Option<Vec<T>> {
        let read: Vec<Option<T>> = significant(pair).map(|part| read(self, part)).collect();
        read.into_iter().collect()
    }

    fn if_expression(&mut self, pair: Pair<Rule>) -> Option<Expr> {
        let span = self.span(&pair);
        let parts: Vec<Pair<Rule>> = significant(pair).collect();
        self.deeper(parts.len() / 2, span, |walker| {
            let mut values = Vec::new();
            for part in parts {
                let part = if part.as_rule() == Rule::branch { significant(part).next()? } else { part };
                values.push(walker.expression(part));
            }
            // A condition and a value, again and again; the value of the last `else` remains.
            let mut values: Vec<Expr> = values.into_iter().collect::<Option<_>>()?;
            let mut chain = values.pop()?;
            while let (Some(then), Some(condition)) = (values.pop(), values.pop()) {
                let end = chain.span;
                let start = condition.span;
                let kind =
                    ExprKind::If { condition: Box::new(condition), then: Box::new(then), otherwise: Box::new(chain) };
                chain = Expr { kind, span: start.to(end) };
            }
            Some(Expr { span, ..chain })
        })
    }

    pub(super) fn arguments(&mut self, pair: Pair<Rule>) -> Option<Vec<Arg>> {
        let args = self.each(pair, Walker::argument)?;
        let mut first_named: Option<Span> = None;
        for (i, arg) in args.iter().enumerate() {
            match (&arg.name, first_named) {
                (Some(name), _) => {
                    first_named = first_named.or(Some(name.span));
                    let earlier = args[..i].iter().find_map(|arg| arg.name.as_ref().filter(|other| *other == name));
                    if let Some(earlier) = earlier {
                        self.twice(format!("the argument `{}` is given twice", name.value), name.span, earlier.span);
                    }
                }
                (None, Some(named)) => {
                    let fault = Diagnostic::error("P0001", "an argument without a name stands behind one with a name")
                        .label(arg.value.span, "")
                        .label(named, "this one has a name");
                    self.diagnostics.push(fault);
                }
                (None, None) => {}
            }
        }
        Some(args)
    }

    fn argument(&mut self, pair: Pair<Rule>) -> Option<Arg> {
        let mut name = None;
        let mut value = None;
        for part in significant(pair) {
            match part.as_rule() {
                Rule::word => name = Some(self.name(&part)),
                _ => value = self.expression(part),
            }
        }
        Some(Arg { name, value: value? })
    }

    /// The content of a string.
    pub(super) fn unescaped(&mut self, pair: &Pair<Rule>) -> Option<String> {
        let text = pair.as_str();
        let mut content = String::with_capacity(text.len());
        let mut good = true;
        let mut characters = text[1..text.len() - 1].char_indices();
        while let Some((at, character)) = characters.next() {
            if character != '\\' {
                content.push(character);
                continue;
            }
            match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => content.push(escaped),
                Some((_, 'n')) => content.push('\n'),
                Some((_, 't')) => content.push('\t'),
                other => {
                    good = false;
                    let escaped = other.map_or(' ', |(_, escaped)| escaped);
                    let start = pair.as_span().start() + 1 + at;
                    let span = self.origin.place(start..start + 1 + escaped.len_utf8());
                    self.diagnostics.push(
                        Diagnostic::error("P0001", format!("`\\{escaped}` means nothing in a string"))
                            .label(span, "")
                            .help("the escapes are `\\\"`, `\\\\`, `\\n` and `\\t`"),
                    );
                }
            }
        }
        good.then_some(content)
    }
}

/// What stands behind a value.
enum Postfix {
    Member(Spanned<String>),
    Index(Expr),
    Slice(Vec<Subscript>),
    Call(Vec<Arg>),
}

/// None for `when`, which has a node of its own.
fn binary(operator: Rule) -> Option<BinaryOp> {
    Some(match operator {
        Rule::or => BinaryOp::Or,
        Rule::either => BinaryOp::Either,
        Rule::both => BinaryOp::Both,
        Rule::equal => BinaryOp::Eq,
        Rule::unequal => BinaryOp::Ne,
        Rule::less => BinaryOp::Lt,
        Rule::at_most => BinaryOp::Le,
        Rule::greater => BinaryOp::Gt,
        Rule::at_least => BinaryOp::Ge,
        Rule::add => BinaryOp::Add,
        Rule::subtract => BinaryOp::Sub,
        Rule::multiply => BinaryOp::Mul,
        Rule::divide => BinaryOp::Div,
        Rule::remainder => BinaryOp::Rem,
        Rule::power => BinaryOp::Pow,
        _ => return None,
    })
}
