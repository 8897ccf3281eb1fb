//! Views of stored tensors: functions and subscripts.

use std::rc::Rc;

use lathe_grammar::ast::{Expr, Subscript};
use lathe_grammar::span::Span;

use super::Elaborator;
use super::arguments::Arguments;
use super::value::{Reported, Scope, Value};
use crate::ir::{Shaped, ViewError};

/// `stored(name)`: the whole of a stored tensor.
pub(super) fn stored(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let (names, span) = elaborator.names(arguments, 0)?;
    let name = names.iter().find(|name| elaborator.find_tensor(name).is_some()).unwrap_or(&names[0]);
    let Some(id) = elaborator.expect_tensor(name, None, span)? else {
        if let ([_, others @ ..], Some(reported)) = (&names[..], elaborator.diagnostics.last_mut())
            && !others.is_empty()
        {
            reported.notes.push(format!("not stored either: `{}`", others.join("`, `")));
        }
        return Err(Reported);
    };
    elaborator.asked.entry(id).or_insert_with(|| name.clone());
    let tensor = elaborator.checkpoint.tensor(id);
    if tensor.shape.contains(&0) {
        let message = format!("expected a tensor with elements, found `{}` {:?}", tensor.name, tensor.shape);
        return Err(elaborator.error("M0002", span, message));
    }
    Ok(Value::View(Rc::new(Shaped::whole(id, &tensor.shape))))
}

/// `has_tensor(name)`: whether the checkpoint has it.
pub(super) fn has_tensor(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let (names, _) = elaborator.names(arguments, 0)?;
    Ok(Value::Bool(names.iter().any(|name| elaborator.find_tensor(name).is_some())))
}

/// `reshape(view, shape)`.
pub(super) fn reshape(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let view = elaborator.view(arguments, 0)?;
    let (sizes, span) = match arguments.get(1) {
        (Value::List(sizes), span) => (Rc::clone(sizes), span),
        (other, span) => return Err(elaborator.expected("a list of sizes", other, span)),
    };
    let mut shape = Vec::with_capacity(sizes.len());
    for size in sizes.iter() {
        shape.push(elaborator.count(size, span)?);
    }
    elaborator.part(view.reshape(&shape), arguments.span)
}

/// `transpose(view)`: the last two dimensions exchanged.
pub(super) fn transpose(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let view = elaborator.view(arguments, 0)?;
    match view.as_ref().clone().transpose() {
        Some(view) => Ok(Value::View(Rc::new(view))),
        None => Err(elaborator.expected("two dimensions or more", &Value::View(view), arguments.get(0).1)),
    }
}

impl<'a> Elaborator<'a> {
    fn view(&mut self, arguments: &Arguments, index: usize) -> Result<Rc<Shaped>, Reported> {
        match arguments.get(index) {
            (Value::View(view), _) => Ok(Rc::clone(view)),
            (other, span) => Err(self.expected("a stored tensor, or a part of one", other, span)),
        }
    }

    /// One name of a tensor, or a list of alternatives. One that begins with a dot is below the path of the module block
    /// in which it stands.
    fn names(&mut self, arguments: &Arguments, index: usize) -> Result<(Vec<String>, Span), Reported> {
        let (value, span) = arguments.get(index);
        let alternatives = match value {
            Value::List(names) if !names.is_empty() => names.as_slice(),
            value => std::slice::from_ref(value),
        };
        let text = |name: &Value| match name {
            Value::Str(name) if name.starts_with('.') => Some(format!("{}{name}", arguments.prefix)),
            Value::Str(name) => Some(name.to_string()),
            _ => None,
        };
        match alternatives.iter().map(text).collect() {
            Some(names) => Ok((names, span)),
            None => Err(self.expected("the name of a tensor, or a list of them", value, span)),
        }
    }

    /// A part of a view, or why there is none.
    pub(super) fn part(&mut self, part: Result<Shaped, ViewError>, span: Span) -> Result<Value, Reported> {
        match part {
            Ok(view) => Ok(Value::View(Rc::new(view))),
            Err(error) => Err(self.error("M0005", span, error.to_string())),
        }
    }

    /// `view[subscripts]`.
    pub(super) fn slice(
        &mut self,
        base: &'a Expr,
        subscripts: &'a [Subscript],
        span: Span,
        scope: &Rc<Scope<'a>>,
    ) -> Result<Value, Reported> {
        let mut view = match self.eval(base, scope)? {
            Value::View(view) => view.as_ref().clone(),
            other => return Err(self.expected("a stored tensor, or a part of one", &other, base.span)),
        };
        // Dimensions that a subscript takes one element of go.
        let (rank, mut dimension) = (view.shape().len(), 0);
        for subscript in subscripts {
            let Some(&size) = view.shape().get(dimension) else {
                let message = format!("expected at most {rank} subscripts, found {}", subscripts.len());
                return Err(self.error("M0005", span, message));
            };
            let part = match subscript {
                Subscript::All => Ok(view),
                Subscript::At(index) => {
                    let value = self.eval(index, scope)?;
                    view.index(dimension, self.count(&value, index.span)?)
                }
                Subscript::Range(first, last) => {
                    let first = self.bound(first.as_ref(), scope)?.unwrap_or(0);
                    let last = self.bound(last.as_ref(), scope)?.unwrap_or(size);
                    view.range(dimension, first, last)
                }
            };
            view = part.map_err(|error| self.error("M0005", span, error.to_string()))?;
            dimension += usize::from(!matches!(subscript, Subscript::At(_)));
        }
        Ok(Value::View(Rc::new(view)))
    }

    fn bound(&mut self, bound: Option<&'a Expr>, scope: &Rc<Scope<'a>>) -> Result<Option<u64>, Reported> {
        let Some(expr) = bound else { return Ok(None) };
        let value = self.eval(expr, scope)?;
        self.count(&value, expr.span).map(Some)
    }
}
