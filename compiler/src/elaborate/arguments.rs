//! Arguments of constructors and functions, bound to their parameters.

use std::rc::Rc;

use lathe_grammar::ast::Arg;
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::span::Span;

use super::Elaborator;
use super::value::{Reported, Scope, Value};
use crate::ir::NodeId;

/// A parameter of a constructor or function.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Whether it may be left out.
    pub optional: bool,
    /// Whether it must be given by name.
    pub named: bool,
}

impl Parameter {
    /// One that must be given, by place.
    pub const fn required(name: &'static str) -> Self {
        Parameter { name, optional: false, named: false }
    }

    /// One that must be given, by name.
    pub const fn keyword(name: &'static str) -> Self {
        Parameter { name, optional: false, named: true }
    }

    /// One that may be given, by name.
    pub const fn option(name: &'static str) -> Self {
        Parameter { name, optional: true, named: true }
    }
}

/// The values of a call, by parameter.
pub(super) struct Arguments {
    /// The whole call.
    pub(super) span: Span,
    values: Vec<Option<(Value, Span)>>,
}

impl Arguments {
    /// A required value.
    pub(super) fn get(&self, index: usize) -> (&Value, Span) {
        let (value, span) = self.values[index].as_ref().expect("bind() filled every required parameter");
        (value, *span)
    }

    /// An optional value; null and missing keys count as not given.
    pub(super) fn option(&self, index: usize) -> Option<(&Value, Span)> {
        match &self.values[index] {
            None | Some((Value::Null | Value::Missing(_), _)) => None,
            Some((value, span)) => Some((value, *span)),
        }
    }
}

impl<'a> Elaborator<'a> {
    /// Evaluates the arguments of a call to `callee`.
    pub(super) fn bind(
        &mut self,
        callee: &str,
        parameters: &[Parameter],
        args: &'a [Arg],
        span: Span,
        scope: &Rc<Scope<'a>>,
    ) -> Result<Arguments, Reported> {
        let mut values: Vec<Option<(Value, Span)>> = parameters.iter().map(|_| None).collect();
        let mut by_place = 0;
        for arg in args {
            let index = match &arg.name {
                Some(name) => match parameters.iter().position(|parameter| parameter.name == name.value) {
                    Some(index) => index,
                    None => {
                        let message = format!("{callee} has no argument `{}`", name.value);
                        let mut diagnostic = Diagnostic::error("M0007", message).label(name.span, "");
                        let known = parameters.iter().map(|parameter| parameter.name);
                        if let Some(near) = nearest(&name.value, known) {
                            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                        }
                        return Err(self.report(diagnostic));
                    }
                },
                None => {
                    by_place += 1;
                    let places = parameters.iter().filter(|parameter| !parameter.named).count();
                    if by_place > places {
                        let message = format!("{callee} takes {places} arguments by place, found more");
                        return Err(self.error("M0007", arg.value.span, message));
                    }
                    by_place - 1
                }
            };
            if values[index].is_some() {
                let message = format!("{callee} is given `{}` twice", parameters[index].name);
                return Err(self.error("M0007", arg.value.span, message));
            }
            let value = self.eval(&arg.value, scope)?;
            values[index] = Some((value, arg.value.span));
        }
        for (parameter, value) in parameters.iter().zip(&values) {
            if value.is_none() && !parameter.optional {
                return Err(self.error("M0007", span, format!("{callee} needs the argument `{}`", parameter.name)));
            }
        }
        Ok(Arguments { span, values })
    }

    /// An argument that must be an activation.
    pub(super) fn activation(&mut self, arguments: &Arguments, index: usize) -> Result<NodeId, Reported> {
        match arguments.get(index) {
            (Value::Node(node), _) => Ok(*node),
            (other, span) => Err(self.expected("an activation", other, span)),
        }
    }
}
