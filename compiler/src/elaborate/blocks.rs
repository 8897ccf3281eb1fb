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
    pub(super) name: &'a Spanned<String>,
    pub(super) parameters: &'a [Spanned<String>],
    pub(super) body: &'a [Stmt],
}

impl<'a> Block<'a> {
    /// The block that is declared, if it is one.
    pub(super) fn of(decl: &'a Decl) -> Option<Self> {
        match &decl.kind {
            DeclKind::Block { name, parameters, body } => Some(Block { name, parameters, body }),
            _ => None,
        }
    }

    /// The parameter that each argument of a call is for, by index, or what does not fit.
    pub(super) fn places(self, args: &[Arg], span: Span) -> Result<Vec<usize>, Box<Diagnostic>> {
        let name = &self.name.value;
        let mistake = |span: Span, message: String| {
            Box::new(Diagnostic::error("M0007", message).label(span, "").label(self.name.span, "defined here"))
        };
        let mut places = Vec::with_capacity(args.len());
        let mut given = vec![false; self.parameters.len()];
        for (place, arg) in args.iter().enumerate() {
            let index = match &arg.name {
                None => Some(place).filter(|place| *place < given.len()),
                Some(named) => self.parameters.iter().position(|parameter| parameter.value == named.value),
            };
            let Some(index) = index else {
                let parameters: Vec<&str> = self.parameters.iter().map(|name| name.value.as_str()).collect();
                let at = arg.name.as_ref().map_or(arg.value.span, |name| name.span);
                return Err(mistake(at, format!("block `{name}` takes ({})", parameters.join(", "))));
            };
            if std::mem::replace(&mut given[index], true) {
                let parameter = &self.parameters[index].value;
                return Err(mistake(arg.value.span, format!("block `{name}` is given `{parameter}` twice")));
            }
            places.push(index);
        }
        match given.iter().position(|given| !given) {
            None => Ok(places),
            Some(lacking) => {
                let parameter = &self.parameters[lacking].value;
                Err(mistake(span, format!("block `{name}` needs the argument `{parameter}`")))
            }
        }
    }
}

impl<'a> Elaborator<'a> {
    /// Takes down the blocks of a model, which may be called wherever they are declared.
    pub(super) fn bind_blocks(&mut self, body: &'a [Decl]) {
        for decl in body {
            if let Some(block) = Block::of(decl)
                && self.blocks.insert(&block.name.value, block).is_some()
            {
                self.report(mistakes::defined_twice(block.name));
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
        let places = block.places(args, span).map_err(|diagnostic| self.report(*diagnostic))?;
        let mut values = vec![Value::Null; block.parameters.len()];
        for (arg, index) in args.iter().zip(places) {
            values[index] = self.eval(&arg.value, scope)?;
        }
        Ok(values)
    }
}
