//! Arguments of constructors and functions, bound to their parameters.

use std::rc::Rc;

use lathe_grammar::ast::Arg;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Span;

use super::Elaborator;
use super::mistakes::suggest;
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
    /// Path of the modules that are declared where the call stands.
    pub(super) prefix: Rc<str>,
    values: Vec<Option<(Value, Span)>>,
}

impl Arguments {
    /// A required value.
    pub(super) fn get(&self, index: usize) -> (&Value, Span) {
        let (value, span) = self.values[index].as_ref().expect("bind() filled every required parameter");
        (value, *span)
    }

    /// An optional value; null counts as not given.
    pub(super) fn option(&self, index: usize) -> Option<(&Value, Span)> {
        match &self.values[index] {
            None | Some((Value::Null, _)) => None,
            Some((value, span)) => Some((value, *span)),
        }
    }
}

/// The parameter that each argument is for, by index, or what does not fit.
pub(super) fn places(
    callee: &str,
    parameters: &[Parameter],
    args: &[Arg],
    span: Span,
) -> Result<Vec<usize>, Vec<Diagnostic>> {
    let mistake = |span: Span, message: String| Diagnostic::error("M0007", message).label(span, "");
    let by_place = parameters.iter().filter(|parameter| !parameter.named).count();
    let mut mistakes = Vec::new();
    let mut places = Vec::with_capacity(args.len());
    let mut given = vec![false; parameters.len()];
    let mut unnamed = 0;
    for arg in args {
        let index = match &arg.name {
            Some(name) => match parameters.iter().position(|parameter| parameter.name == name.value) {
                Some(index) => index,
                None => {
                    let unknown = mistake(name.span, format!("{callee} has no argument `{}`", name.value));
                    let known = parameters.iter().map(|parameter| parameter.name);
                    mistakes.push(suggest(unknown, &name.value, known));
                    continue;
                }
            },
            None => {
                unnamed += 1;
                if unnamed > by_place {
                    if unnamed == by_place + 1 {
                        let message = format!("{callee} takes {by_place} arguments by place, found more");
                        mistakes.push(mistake(arg.value.span, message));
                    }
                    continue;
                }
                unnamed - 1
            }
        };
        if std::mem::replace(&mut given[index], true) {
            let message = format!("{callee} is given `{}` twice", parameters[index].name);
            mistakes.push(mistake(arg.value.span, message));
        }
        places.push(index);
    }
    // One that is lacking may be what another was meant for.
    let lacking = parameters.iter().zip(&given).find(|(parameter, given)| !**given && !parameter.optional);
    if let (Some((parameter, _)), true) = (lacking, mistakes.is_empty()) {
        mistakes.push(mistake(span, format!("{callee} needs the argument `{}`", parameter.name)));
    }
    if mistakes.is_empty() { Ok(places) } else { Err(mistakes) }
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
        let places = match places(callee, parameters, args, span) {
            Ok(places) => places,
            Err(found) => {
                self.diagnostics.extend(found);
                return Err(Reported);
            }
        };
        let mut values: Vec<Option<(Value, Span)>> = parameters.iter().map(|_| None).collect();
        for (arg, index) in args.iter().zip(places) {
            let value = self.eval(&arg.value, scope)?;
            if matches!(value, Value::Missing(_)) && parameters[index].optional {
                return Err(self.expected("a value, or null,", &value, arg.value.span));
            }
            values[index] = Some((value, arg.value.span));
        }
        Ok(Arguments { span, prefix: scope.prefix(), values })
    }

    /// An argument that must be an activation.
    pub(super) fn activation(&mut self, arguments: &Arguments, index: usize) -> Result<NodeId, Reported> {
        match arguments.get(index) {
            (Value::Node(node), _) => Ok(*node),
            (other, span) => Err(self.expected("an activation", other, span)),
        }
    }
}
