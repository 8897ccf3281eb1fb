//! Blocks: functions of the graph that a definition makes.

use std::rc::Rc;

use lathe_grammar::ast::{Arg, Decl, DeclKind, Stmt};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{Span, Spanned};

use super::value::{Binding, Reported, Scope, Value};
use super::{Elaborator, mistakes};

/// A declared block.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    name: &'a Spanned<String>,
    parameters: &'a [Spanned<String>],
    body: &'a [Stmt],
}

impl<'a> Elaborator<'a> {
    /// Takes down the blocks of a model, which may be called wherever they are declared.
    pub(super) fn bind_blocks(&mut self, body: &'a [Decl]) {
        for decl in body {
            if let DeclKind::Block { name, parameters, body } = &decl.kind {
                let block = Block { name, parameters, body };
                if self.blocks.insert(&name.value, block).is_some() {
                    self.report(mistakes::defined_twice(name));
                }
            }
        }
    }

    /// Runs a block on these arguments.
    pub(super) fn call_block(
        &mut self,
        block: Block<'a>,
        args: &'a [Arg],
        span: Span,
        scope: &Rc<Scope<'a>>,
    ) -> Result<Value, Reported> {
        let values = self.block_arguments(block, args, span, scope)?;
        if self.calling.contains(&block.name.value.as_str()) {
            return Err(self.report(mistakes::calls_itself(&block.name.value, span)));
        }
        let inner = Scope::frontier(&scope.root_of());
        for (parameter, value) in block.parameters.iter().zip(values) {
            self.check_name(parameter)?;
            if !inner.bind(&parameter.value, Binding::Done(Ok(value))) {
                return Err(self.report(mistakes::defined_twice(parameter)));
            }
        }
        self.step(span)?;
        self.calling.push(&block.name.value);
        let returned = self.statements(block.body, &inner);
        self.calling.pop();
        match returned? {
            Some((value, _)) => Ok(value),
            None => Err(self.report(mistakes::block_without_return(block.name))),
        }
    }

    fn block_arguments(
        &mut self,
        block: Block<'a>,
        args: &'a [Arg],
        span: Span,
        scope: &Rc<Scope<'a>>,
    ) -> Result<Vec<Value>, Reported> {
        let name = &block.name.value;
        let mut values: Vec<Option<Value>> = vec![None; block.parameters.len()];
        for (place, arg) in args.iter().enumerate() {
            let index = match &arg.name {
                None => Some(place).filter(|place| *place < values.len()),
                Some(named) => block.parameters.iter().position(|parameter| parameter.value == named.value),
            };
            let Some(index) = index else {
                let parameters: Vec<&str> = block.parameters.iter().map(|name| name.value.as_str()).collect();
                let message = format!("block `{name}` takes ({})", parameters.join(", "));
                let at = arg.name.as_ref().map_or(arg.value.span, |name| name.span);
                let diagnostic = Diagnostic::error("M0007", message).label(at, "").label(block.name.span, "defined here");
                return Err(self.report(diagnostic));
            };
            let value = self.eval(&arg.value, scope)?;
            if values[index].replace(value).is_some() {
                let message = format!("block `{name}` is given `{}` twice", block.parameters[index].value);
                return Err(self.error("M0007", arg.value.span, message));
            }
        }
        if let Some(missing) = values.iter().position(Option::is_none) {
            let message = format!("block `{name}` needs the argument `{}`", block.parameters[missing].value);
            let diagnostic = Diagnostic::error("M0007", message).label(span, "").label(block.name.span, "defined here");
            return Err(self.report(diagnostic));
        }
        Ok(values.into_iter().flatten().collect())
    }
}
