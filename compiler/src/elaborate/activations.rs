//! Arithmetic on activations, and modules that each row chooses for itself.

use std::rc::Rc;

use lathe_grammar::ast::BinaryOp;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Span;
use lathe_runtime::program::Binary;

use super::constructors::Apply;
use super::value::{Chosen, Reported, Value};
use super::{Elaborator, ModuleId, mistakes};
use crate::ir::{Dim, Dtype, NodeId, Op, Real};

impl Elaborator<'_> {
    /// An operator of which at least one operand is an activation.
    pub(super) fn on_activations(
        &mut self,
        op: BinaryOp,
        left: (&Value, Span),
        right: (&Value, Span),
        span: Span,
    ) -> Result<Value, Reported> {
        let one = |number: &Value| matches!(number, Value::Int(_) | Value::Float(_));
        match (op, left.0, right.0) {
            (BinaryOp::Add, Value::Node(a), Value::Node(b)) => self.binary_node(Binary::Add, *a, *b, span),
            (BinaryOp::Sub, Value::Node(a), Value::Node(b)) => self.binary_node(Binary::Sub, *a, *b, span),
            (BinaryOp::Mul, Value::Node(a), Value::Node(b)) => self.product(*a, *b, span),
            (BinaryOp::Add, Value::Node(x), number) if one(number) => {
                let offset = self.number(number, right.1)?;
                self.affine(*x, 1.0, offset, span)
            }
            (BinaryOp::Add, number, Value::Node(x)) if one(number) => {
                let offset = self.number(number, left.1)?;
                self.affine(*x, 1.0, offset, span)
            }
            (BinaryOp::Sub, Value::Node(x), number) if one(number) => {
                let offset = self.number(number, right.1)?;
                self.affine(*x, 1.0, -offset, span)
            }
            (BinaryOp::Sub, number, Value::Node(x)) if one(number) => {
                let offset = self.number(number, left.1)?;
                self.affine(*x, -1.0, offset, span)
            }
            (BinaryOp::Mul, Value::Node(x), number) if one(number) => {
                let factor = self.number(number, right.1)?;
                self.affine(*x, factor, 0.0, span)
            }
            (BinaryOp::Mul, number, Value::Node(x)) if one(number) => {
                let factor = self.number(number, left.1)?;
                self.affine(*x, factor, 0.0, span)
            }
            (BinaryOp::Div, Value::Node(x), number) if one(number) => {
                let divisor = self.number(number, right.1)?;
                self.affine(*x, 1.0 / divisor, 0.0, span)
            }
            (BinaryOp::Add | BinaryOp::Mul, Value::Node(x), vector)
            | (BinaryOp::Add | BinaryOp::Mul, vector, Value::Node(x))
                if matches!(vector, Value::Module(_)) =>
            {
                let Some(node) = self.vector(vector)? else { return Err(self.not_activations(op, left, right, span)) };
                let (op, name) = match op {
                    BinaryOp::Add => (Op::Shift, "shift"),
                    _ => (Op::Gain { offset: Real::new(0.0) }, "gain"),
                };
                self.operation(op, &[*x, node], name, span)
            }
            (_, Value::Missing(_) | Value::Null, _) => Err(self.expected("an activation or a number", left.0, left.1)),
            (_, _, Value::Missing(_) | Value::Null) => {
                Err(self.expected("an activation or a number", right.0, right.1))
            }
            _ => Err(self.not_activations(op, left, right, span)),
        }
    }

    fn not_activations(&mut self, op: BinaryOp, left: (&Value, Span), right: (&Value, Span), span: Span) -> Reported {
        let (a, b) = (left.0.describe(), right.0.describe());
        let message = format!(
            "activations can be added, subtracted or multiplied, also with numbers and vectors, and divided by numbers; \
             found {a} {} {b}",
            op.symbol()
        );
        self.error("M0008", span, message)
    }

    fn binary_node(&mut self, function: Binary, a: NodeId, b: NodeId, span: Span) -> Result<Value, Reported> {
        self.operation(Op::Binary(function), &[a, b], function.name(), span)
    }

    /// `a * b`. One of them may have one element in each row, which then multiplies all elements of the other's row.
    fn product(&mut self, a: NodeId, b: NodeId, span: Span) -> Result<Value, Reported> {
        let width = |id: NodeId| match self.graph.node(id).fact.shape[..] {
            [_, Dim::Fixed(width)] => Some(width),
            _ => None,
        };
        let (x, weight, width) = match (width(a), width(b)) {
            (Some(n), Some(1)) if n > 1 => (a, b, n),
            (Some(1), Some(n)) if n > 1 => (b, a, n),
            _ => return self.binary_node(Binary::Mul, a, b, span),
        };
        match self.operation(Op::SplitHeads { head_dim: width }, &[x], "split_heads", span)? {
            Value::Node(x) => self.operation(Op::Combine, &[x, weight], "combine", span),
            other => Err(self.expected("an activation", &other, span)),
        }
    }

    /// `factor * x + offset`; x itself when that changes nothing.
    pub(super) fn affine(&mut self, x: NodeId, factor: f64, offset: f64, span: Span) -> Result<Value, Reported> {
        let (factor, offset) = (factor as f32, offset as f32);
        if !(factor.is_finite() && offset.is_finite()) {
            return Err(self.error("M0002", span, "expected finite numbers in single precision, found an overflow"));
        }
        if factor == 1.0 && offset == 0.0 {
            return Ok(Value::Node(x));
        }
        let op = Op::Affine { factor: Real::new(factor), offset: Real::new(offset) };
        self.operation(op, &[x], "affine", span)
    }

    /// The node of a vector module; `None` for any other value.
    pub(super) fn vector(&mut self, value: &Value) -> Result<Option<NodeId>, Reported> {
        let Value::Module(id) = value else { return Ok(None) };
        let built = &self.modules[id.0 as usize];
        // Without it, its constructor failed, which was reported.
        let apply = built.apply.ok_or(Reported)?;
        match (apply, built.module.params.first()) {
            (Apply::Vector, Some(&param)) => {
                let (path, span) = (built.module.path.clone(), built.module.span);
                self.param_node(param, &path, span).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// `container[choice]`.
    pub(super) fn choose(&mut self, container: String, choice: NodeId, span: Span) -> Result<Value, Reported> {
        let fact = &self.graph.node(choice).fact;
        let Dtype::Choice(of) = fact.dtype else {
            let message = format!("expected a whole number or a choice from `top_k`, found an activation {fact}");
            return Err(self.error("M0002", span, message));
        };
        match self.containers.get(&container).copied().unwrap_or(0) {
            0 => Err(self.report(mistakes::nothing_indexed(&container, span))),
            children if children == of => Ok(Value::Chosen(Rc::new(Chosen { container, rest: String::new(), choice }))),
            children => {
                let message =
                    format!("expected a choice of the {children} modules of `{container}`, found one of {of}");
                Err(self.error("M0005", span, message))
            }
        }
    }

    /// A member of chosen modules.
    pub(super) fn below_chosen(&mut self, chosen: &Chosen, name: &str, span: Span) -> Result<Value, Reported> {
        // The first child stands for all; the others are looked at when it is applied.
        let first = format!("{}.0{}", chosen.container, chosen.rest);
        self.below(&first, name, span)?;
        let rest = format!("{}.{name}", chosen.rest);
        Ok(Value::Chosen(Rc::new(Chosen { rest, container: chosen.container.clone(), choice: chosen.choice })))
    }

    /// Applies the modules that each row has chosen.
    pub(super) fn apply_chosen(
        &mut self,
        chosen: &Chosen,
        input: &Value,
        input_span: Span,
        span: Span,
    ) -> Result<Value, Reported> {
        let Value::Node(x) = *input else {
            return Err(self.expected("an activation", input, input_span));
        };
        let experts = self.containers.get(&chosen.container).copied().unwrap_or(0);
        let label = format!("{}.*{}", chosen.container, chosen.rest);
        self.steps(experts, span)?;
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for expert in 0..experts {
            let path = format!("{}.{expert}{}", chosen.container, chosen.rest);
            let Some(&ModuleId(id)) = self.paths.get(&path) else {
                let message = format!("expected a module `{path}` as of the other children, found none");
                return Err(self.error("M0006", span, message));
            };
            let built = &self.modules[id as usize];
            let apply = built.apply.ok_or(Reported)?;
            let declared = built.module.span;
            if !matches!(apply, Apply::Linear) {
                let message =
                    format!("only linear modules can be chosen, found `{path}`, a {}", built.module.kind.name());
                let diagnostic = Diagnostic::error("M0008", message).label(span, "").label(declared, "declared here");
                return Err(self.report(diagnostic));
            }
            let params = built.module.params.clone();
            for (param, nodes) in params.into_iter().zip([&mut weights, &mut biases]) {
                nodes.push(self.param_node(param, &path, declared)?);
            }
        }
        let operands: Vec<NodeId> = [x, chosen.choice].into_iter().chain(weights).chain(biases).collect();
        Ok(Value::Node(self.node(
            Op::ExpertLinear { experts: experts as u32, input: None },
            &operands,
            &label,
            span,
        )?))
    }
}
