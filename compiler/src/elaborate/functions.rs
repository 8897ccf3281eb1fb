//! The functions of a definition: one table. Operators and modules become operations elsewhere; everything that is
//! called by name is here.

use lathe_runtime::program::Unary;

use super::Elaborator;
use super::arguments::{Arguments, Parameter};
use super::value::{Reported, Value};
use crate::ir::{Op, Real};

/// A function.
pub struct Function {
    /// As called.
    pub name: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// What it yields, in one line.
    pub summary: &'static str,
    pub(super) build: fn(&mut Elaborator<'_>, &Arguments) -> Result<Value, Reported>,
}

/// All functions, sorted by name.
pub static FUNCTIONS: &[Function] = &[
    Function {
        name: "attention",
        parameters: &[
            Parameter::required("q"),
            Parameter::required("k"),
            Parameter::required("v"),
            Parameter::keyword("scale"),
            Parameter::option("window"),
        ],
        summary: "causal attention of q [T, heads, d] over k and v [T, kv heads, d] of this and earlier positions; \
            with a window w, position p sees positions above p - w",
        build: attention,
    },
    Function {
        name: "merge_heads",
        parameters: &[Parameter::required("x")],
        summary: "[T, heads, d] as [T, heads * d]",
        build: |elaborator, arguments| {
            let x = elaborator.activation(arguments, 0)?;
            elaborator.operation(Op::MergeHeads, &[x], "merge_heads", arguments.span)
        },
    },
    Function {
        name: "rope",
        parameters: &[Parameter::required("x"), Parameter::required("positions"), Parameter::required("settings")],
        summary: "rotary embedding of x [T, heads, d] at these positions",
        build: |elaborator, arguments| {
            let x = elaborator.activation(arguments, 0)?;
            let positions = elaborator.activation(arguments, 1)?;
            match arguments.get(2) {
                (Value::Rope(table), _) => {
                    elaborator.operation(Op::Rope(*table), &[x, positions], "rope", arguments.span)
                }
                (other, span) => Err(elaborator.expected("rotary frequencies, from rope_settings", other, span)),
            }
        },
    },
    Function {
        name: "rope_settings",
        parameters: &[Parameter::required("config"), Parameter::keyword("width")],
        summary: "rotary frequencies for `width` elements of a head, from rope_parameters or from rope_theta and \
            rope_scaling of this object of config.json",
        build: super::rope::settings,
    },
    Function {
        name: "silu",
        parameters: &[Parameter::required("x")],
        summary: "x / (1 + exp(-x)), element by element",
        build: |elaborator, arguments| {
            let x = elaborator.activation(arguments, 0)?;
            elaborator.operation(Op::Unary(Unary::Silu), &[x], "silu", arguments.span)
        },
    },
    Function {
        name: "split_heads",
        parameters: &[Parameter::required("x"), Parameter::required("head_dim")],
        summary: "[T, heads * d] as [T, heads, d]",
        build: |elaborator, arguments| {
            let x = elaborator.activation(arguments, 0)?;
            let (head_dim, span) = arguments.get(1);
            let head_dim = elaborator.count(head_dim, span)?;
            elaborator.operation(Op::SplitHeads { head_dim }, &[x], "split_heads", arguments.span)
        },
    },
];

/// The function of this name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

fn attention(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let q = elaborator.activation(arguments, 0)?;
    let k = elaborator.activation(arguments, 1)?;
    let v = elaborator.activation(arguments, 2)?;
    let (scale, span) = arguments.get(3);
    let scale = Real::new(elaborator.real(scale, span)?);
    let window = match arguments.option(4) {
        None => None,
        Some((value, span)) => match u32::try_from(elaborator.count(value, span)?) {
            Ok(window) if window > 0 => Some(window),
            _ => return Err(elaborator.expected("a window of 1 to 2^32 - 1 positions", value, span)),
        },
    };
    elaborator.operation(Op::Attention { scale, window }, &[q, k, v], "attention", arguments.span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_unique() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
