//! The functions of a definition: one table. Operators and modules become operations elsewhere; everything that is
//! called by name is here.

use lathe_runtime::program::Unary;

use super::arguments::{Arguments, Parameter};
use super::value::{Reported, Value};
use super::{Elaborator, numbers};
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
        name: "activation",
        parameters: &[Parameter::required("name"), Parameter::required("x")],
        summary: "the activation that config.json calls by this name: silu, gelu, gelu_pytorch_tanh, relu, …",
        build: activation,
    },
    Function {
        name: "attention",
        parameters: &[
            Parameter::required("q"),
            Parameter::required("k"),
            Parameter::required("v"),
            Parameter::keyword("scale"),
            Parameter::option("window"),
            Parameter::option("softcap"),
            Parameter::option("sinks"),
        ],
        summary: "causal attention of q [T, heads, d] over k and v [T, kv heads, d] of this and earlier positions; \
            with a window w, position p sees positions above p - w; scores s become cap * tanh(s / cap) with a softcap; \
            sinks, a vector [heads], take part in the softmax and have no value",
        build: attention,
    },
    Function {
        name: "ceil",
        parameters: &[Parameter::required("x")],
        summary: "the least whole number of x or more",
        build: |elaborator, arguments| numbers::of_one(elaborator, arguments, f64::ceil),
    },
    Function {
        name: "centre",
        parameters: &[Parameter::required("x")],
        summary: "x - mean(x) over the last dimension",
        build: |elaborator, arguments| on_one(elaborator, arguments, Op::Centre),
    },
    Function {
        name: "clamp",
        parameters: &[Parameter::required("x"), Parameter::option("low"), Parameter::option("high")],
        summary: "min(max(x, low), high), element by element; x as it is when neither is given",
        build: clamp,
    },
    Function {
        name: "combine",
        parameters: &[Parameter::required("x"), Parameter::required("weights")],
        summary: "x [T, k, d] and weights [T, k] to [T, d]: the weighted sum of what the chosen experts gave",
        build: |elaborator, arguments| on_two(elaborator, arguments, Op::Combine),
    },
    Function {
        name: "contains",
        parameters: &[Parameter::required("in"), Parameter::required("x")],
        summary: "whether a list has an element x, or a text the text x",
        build: numbers::contains,
    },
    Function {
        name: "ends_with",
        parameters: &[Parameter::required("text"), Parameter::required("end")],
        summary: "whether a text ends with another",
        build: |elaborator, arguments| numbers::texts(elaborator, arguments, |text, end| text.ends_with(end)),
    },
    Function {
        name: "floor",
        parameters: &[Parameter::required("x")],
        summary: "the largest whole number of x or less",
        build: |elaborator, arguments| numbers::of_one(elaborator, arguments, f64::floor),
    },
    Function {
        name: "gather",
        parameters: &[Parameter::required("x"), Parameter::required("chosen")],
        summary: "x [T, n] and a choice [T, k] of n to [T, k]: the chosen elements of x",
        build: |elaborator, arguments| on_two(elaborator, arguments, Op::Gather),
    },
    Function {
        name: "gelu",
        parameters: &[Parameter::required("x")],
        summary: "x * Φ(x), by the error function, element by element",
        build: |elaborator, arguments| elementwise(elaborator, arguments, Unary::Gelu),
    },
    Function {
        name: "gelu_quick",
        parameters: &[Parameter::required("x")],
        summary: "x / (1 + exp(-1.702 x)), element by element",
        build: |elaborator, arguments| elementwise(elaborator, arguments, Unary::GeluQuick),
    },
    Function {
        name: "gelu_tanh",
        parameters: &[Parameter::required("x")],
        summary: "x / 2 * (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))), element by element",
        build: |elaborator, arguments| elementwise(elaborator, arguments, Unary::GeluTanh),
    },
    Function {
        name: "has_tensor",
        parameters: &[Parameter::required("name")],
        summary: "whether the checkpoint has a tensor of this name, or of one of a list of names",
        build: super::views::has_tensor,
    },
    Function {
        name: "length",
        parameters: &[Parameter::required("list")],
        summary: "how many elements a list has",
        build: numbers::length,
    },
    Function {
        name: "log",
        parameters: &[Parameter::required("x")],
        summary: "the natural logarithm of a number",
        build: |elaborator, arguments| numbers::real(elaborator, arguments, libm::log),
    },
    Function {
        name: "max",
        parameters: &[Parameter::required("a"), Parameter::required("b")],
        summary: "the larger of two numbers",
        build: |elaborator, arguments| numbers::of_two(elaborator, arguments, |a, b| a >= b),
    },
    Function {
        name: "merge_heads",
        parameters: &[Parameter::required("x")],
        summary: "[T, heads, d] as [T, heads * d]",
        build: |elaborator, arguments| on_one(elaborator, arguments, Op::MergeHeads),
    },
    Function {
        name: "min",
        parameters: &[Parameter::required("a"), Parameter::required("b")],
        summary: "the smaller of two numbers",
        build: |elaborator, arguments| numbers::of_two(elaborator, arguments, |a, b| a <= b),
    },
    Function {
        name: "normalize",
        parameters: &[Parameter::required("x"), Parameter::keyword("eps")],
        summary: "x / sqrt(mean(x²) + eps) over the last dimension: RMSNorm without parameters, LayerNorm after `centre`",
        build: |elaborator, arguments| {
            let (eps, span) = arguments.get(1);
            let eps = elaborator.real(eps, span)?;
            if eps < 0.0 {
                return Err(elaborator.error("M0002", span, format!("expected an epsilon of 0 or more, found {eps}")));
            }
            on_one(elaborator, arguments, Op::Normalize { eps: Real::new(eps) })
        },
    },
    Function {
        name: "normalize_sum",
        parameters: &[Parameter::required("x")],
        summary: "x / sum(x) over the last dimension",
        build: |elaborator, arguments| on_one(elaborator, arguments, Op::NormalizeSum),
    },
    Function {
        name: "relu",
        parameters: &[Parameter::required("x")],
        summary: "max(x, 0), element by element",
        build: |elaborator, arguments| elementwise(elaborator, arguments, Unary::Relu),
    },
    Function {
        name: "relu_squared",
        parameters: &[Parameter::required("x")],
        summary: "max(x, 0)², element by element",
        build: |elaborator, arguments| elementwise(elaborator, arguments, Unary::ReluSquared),
    },
    Function {
        name: "reshape",
        parameters: &[Parameter::required("stored"), Parameter::required("shape")],
        summary: "the elements of a stored tensor, or of a part of one, in another shape",
        build: super::views::reshape,
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
        parameters: &[
            Parameter::required("config"),
            Parameter::keyword("width"),
            Parameter::option("layer_type"),
            Parameter::option("pairing"),
            Parameter::option("scaling"),
            Parameter::option("theta"),
            Parameter::option("backwards"),
            Parameter::option("default_theta"),
        ],
        summary: "rotary frequencies for `width` elements of a head, from rope_parameters or from rope_theta and \
            rope_scaling of this object of config.json; `layer_type` picks settings that each type of layer has of its \
            own; `pairing` is \"half\" (i with i + width / 2) or \"interleaved\" (2i with 2i + 1); `scaling: false` \
            leaves the scaling out; `theta` replaces rope_theta, `default_theta` stands in where the config has none (10000 unless told); `backwards: true` turns by the negative angle",
        build: super::rope::settings,
    },
    Function {
        name: "round",
        parameters: &[Parameter::required("x")],
        summary: "the nearest whole number, halves to even",
        build: |elaborator, arguments| numbers::of_one(elaborator, arguments, f64::round_ties_even),
    },
    Function {
        name: "sigmoid",
        parameters: &[Parameter::required("x")],
        summary: "1 / (1 + exp(-x)), element by element",
        build: |elaborator, arguments| elementwise(elaborator, arguments, Unary::Sigmoid),
    },
    Function {
        name: "silu",
        parameters: &[Parameter::required("x")],
        summary: "x / (1 + exp(-x)), element by element",
        build: |elaborator, arguments| elementwise(elaborator, arguments, Unary::Silu),
    },
    Function {
        name: "softcap",
        parameters: &[Parameter::required("x"), Parameter::required("cap")],
        summary: "cap * tanh(x / cap), element by element; x as it is when the cap is null",
        build: |elaborator, arguments| match cap(elaborator, arguments, 1)? {
            Some(cap) => on_one(elaborator, arguments, Op::Softcap { cap }),
            None => Ok(Value::Node(elaborator.activation(arguments, 0)?)),
        },
    },
    Function {
        name: "softmax",
        parameters: &[Parameter::required("x")],
        summary: "exp(x) / sum(exp(x)) over the last dimension",
        build: |elaborator, arguments| on_one(elaborator, arguments, Op::Softmax),
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
    Function {
        name: "sqrt",
        parameters: &[Parameter::required("x")],
        summary: "the square root of a number",
        build: |elaborator, arguments| numbers::real(elaborator, arguments, libm::sqrt),
    },
    Function {
        name: "starts_with",
        parameters: &[Parameter::required("text"), Parameter::required("start")],
        summary: "whether a text starts with another",
        build: |elaborator, arguments| numbers::texts(elaborator, arguments, |text, start| text.starts_with(start)),
    },
    Function {
        name: "stored",
        parameters: &[Parameter::required("name")],
        summary: "a tensor of the checkpoint by its name, or the first that there is of a list of names; its parts are \
            taken with [a..b, .., i], `reshape` and `transpose`",
        build: super::views::stored,
    },
    Function {
        name: "tanh",
        parameters: &[Parameter::required("x")],
        summary: "tanh(x), element by element",
        build: |elaborator, arguments| elementwise(elaborator, arguments, Unary::Tanh),
    },
    Function {
        name: "top_k",
        parameters: &[Parameter::required("scores"), Parameter::required("k")],
        summary: "scores [T, n] to a choice [T, k] of n: the numbers of the k largest",
        build: |elaborator, arguments| {
            let (k, span) = arguments.get(1);
            match u32::try_from(elaborator.count(k, span)?) {
                Ok(number) if number > 0 => on_one(elaborator, arguments, Op::TopK { k: number }),
                _ => Err(elaborator.expected("a number of 1 to 2^32 - 1", k, span)),
            }
        },
    },
    Function {
        name: "transpose",
        parameters: &[Parameter::required("stored")],
        summary: "a stored tensor, or a part of one, with its last two dimensions exchanged",
        build: super::views::transpose,
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
    let softcap = cap(elaborator, arguments, 5)?;
    let mut operands = vec![q, k, v];
    match arguments.option(6) {
        None => {}
        Some((sinks, span)) => match elaborator.vector(sinks)? {
            Some(node) => operands.push(node),
            None => return Err(elaborator.expected("a vector", sinks, span)),
        },
    }
    elaborator.operation(Op::Attention { scale, window, softcap }, &operands, "attention", arguments.span)
}

/// A cap, where there is one: above 0.
fn cap(elaborator: &mut Elaborator<'_>, arguments: &Arguments, index: usize) -> Result<Option<Real>, Reported> {
    let Some((value, span)) = arguments.option(index) else { return Ok(None) };
    match elaborator.real(value, span)? {
        cap if cap > 0.0 => Ok(Some(Real::new(cap))),
        _ => Err(elaborator.expected("a cap above 0", value, span)),
    }
}

/// Names of activations in config.json. Functions of one name are told apart by the comments of their authors only:
/// `gelu_new`, `gelu_fast` and others are spellings of one approximation.
const ACTIVATIONS: [(&str, Option<Unary>); 17] = [
    ("gelu", Some(Unary::Gelu)),
    ("gelu_accurate", Some(Unary::GeluTanh)),
    ("gelu_fast", Some(Unary::GeluTanh)),
    ("gelu_new", Some(Unary::GeluTanh)),
    ("gelu_python", Some(Unary::Gelu)),
    ("gelu_python_tanh", Some(Unary::GeluTanh)),
    ("gelu_pytorch_tanh", Some(Unary::GeluTanh)),
    ("identity", None),
    ("linear", None),
    ("quick_gelu", Some(Unary::GeluQuick)),
    ("relu", Some(Unary::Relu)),
    ("relu2", Some(Unary::ReluSquared)),
    ("relu_squared", Some(Unary::ReluSquared)),
    ("sigmoid", Some(Unary::Sigmoid)),
    ("silu", Some(Unary::Silu)),
    ("swish", Some(Unary::Silu)),
    ("tanh", Some(Unary::Tanh)),
];

fn activation(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let x = elaborator.activation(arguments, 1)?;
    let (name, span) = arguments.get(0);
    let found = match name {
        Value::Str(name) => ACTIVATIONS.iter().find(|(known, _)| *known == name.as_ref()),
        _ => None,
    };
    match found {
        Some((_, Some(function))) => elaborator.operation(Op::Unary(*function), &[x], function.name(), arguments.span),
        Some((_, None)) => Ok(Value::Node(x)),
        None => {
            let known: Vec<&str> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
            Err(elaborator.expected(&format!("one of {}", known.join(", ")), name, span))
        }
    }
}

fn clamp(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let x = elaborator.activation(arguments, 0)?;
    let mut bounds = [None, None];
    for (bound, index) in bounds.iter_mut().zip([1, 2]) {
        if let Some((value, span)) = arguments.option(index) {
            *bound = Some(Real::new(elaborator.real(value, span)?));
        }
    }
    let [low, high] = bounds;
    match (low, high) {
        (None, None) => Ok(Value::Node(x)),
        (Some(low), Some(high)) if low.get() > high.get() => {
            let message = format!("expected a low bound of at most the high bound {high}, found {low}");
            Err(elaborator.error("M0002", arguments.span, message))
        }
        _ => elaborator.operation(Op::Clamp { low, high }, &[x], "clamp", arguments.span),
    }
}

fn elementwise(elaborator: &mut Elaborator<'_>, arguments: &Arguments, function: Unary) -> Result<Value, Reported> {
    on_one(elaborator, arguments, Op::Unary(function))
}

/// An operation on the first argument.
fn on_one(elaborator: &mut Elaborator<'_>, arguments: &Arguments, op: Op) -> Result<Value, Reported> {
    let x = elaborator.activation(arguments, 0)?;
    let name = op.name();
    elaborator.operation(op, &[x], name, arguments.span)
}

/// An operation on the first two arguments.
fn on_two(elaborator: &mut Elaborator<'_>, arguments: &Arguments, op: Op) -> Result<Value, Reported> {
    let (a, b) = (elaborator.activation(arguments, 0)?, elaborator.activation(arguments, 1)?);
    let name = op.name();
    elaborator.operation(op, &[a, b], name, arguments.span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_unique() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
