//! The kinds of module that a definition can declare: one table. A constructor states the shapes of its parameters and
//! what applying the module adds to the graph.

use lathe_grammar::pattern::Kind;
use lathe_grammar::span::Span;

use super::arguments::{Arguments, Parameter};
use super::value::{Reported, Value};
use super::{Built, Elaborator, ModuleId, TieCandidate};
use crate::ir::{ParamId, Real, Values};

/// A constructor.
pub struct Constructor {
    /// As called.
    pub name: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// What the module computes, in one line.
    pub summary: &'static str,
    /// What rules of a spec call it.
    pub kind: Kind,
    pub(super) build: fn(&mut Elaborator<'_>, &Declared<'_>) -> Construction,
}

/// The parameters of a module, the weight first, and what it does.
type Construction = Result<(Vec<ParamId>, Apply), Reported>;

/// A module being declared.
pub(super) struct Declared<'d> {
    /// Its path.
    pub(super) path: &'d str,
    /// The declaration.
    pub(super) span: Span,
    /// Its arguments.
    pub(super) arguments: &'d Arguments,
    /// Keys of config.json that went into the arguments, for messages.
    pub(super) keys: &'d [String],
}

/// What a module does to an activation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Apply {
    /// `x Wᵀ + b`
    Linear,
    /// The row of each token or position, counted from `first`.
    Embedding { first: u32 },
    /// Centre where asked for, normalize, gain, and shift where there is a second parameter.
    Norm { centre: bool, eps: Real, offset: Real },
    /// Nothing: it is an operand.
    Vector,
}

const WEIGHT: Parameter = Parameter::option("weight");
const BIAS: Parameter = Parameter::option("bias");

/// What norms take.
const NORM: &[Parameter] = &[
    Parameter::required("width"),
    Parameter::keyword("eps"),
    BIAS,
    Parameter::option("offset"),
    Parameter::option("heads"),
    WEIGHT,
];

/// All constructors, sorted by name.
pub static CONSTRUCTORS: &[Constructor] = &[
    Constructor {
        name: "embedding",
        parameters: &[Parameter::required("rows"), Parameter::required("width"), Parameter::option("first"), WEIGHT],
        summary: "table `weight` [rows, width]; the row of each token or, applied to `positions`, of each position. \
            Row `first` is that of token or position 0",
        kind: Kind::Embedding,
        build: |elaborator, declared| {
            let [rows, width] = elaborator.sizes(declared.arguments, [0, 1])?;
            let first = match declared.arguments.option(2) {
                None => 0,
                Some((value, span)) => match u32::try_from(elaborator.count(value, span)?) {
                    Ok(first) if u64::from(first) < rows => first,
                    _ => return Err(elaborator.expected(&format!("a row below {rows}"), value, span)),
                },
            };
            Ok((vec![elaborator.stored(declared, ("weight", Some(3)), &[rows, width])?], Apply::Embedding { first }))
        },
    },
    Constructor {
        name: "head",
        parameters: &[
            Parameter::required("in"),
            Parameter::required("vocab"),
            BIAS,
            Parameter::option("tied_to"),
            Parameter::option("tied"),
            WEIGHT,
        ],
        summary: "`weight` [vocab, in], `bias` [vocab] if asked for; logits x Wᵀ + b. `tied_to` names the embedding \
            whose table it may share, `tied` what config.json says of it: true, false, or null when it says nothing",
        kind: Kind::Head,
        build: head,
    },
    Constructor {
        name: "layer_norm",
        parameters: NORM,
        summary: "`weight` [width] and, unless `bias: false`, `bias` [width]; (x - mean) / sqrt(variance + eps) ⊙ \
            (offset + weight) + bias over the last dimension. With `heads`, both are [heads, width]",
        kind: Kind::Norm,
        build: |elaborator, declared| norm(elaborator, declared, true),
    },
    Constructor {
        name: "linear",
        parameters: &[Parameter::required("in"), Parameter::required("out"), BIAS, WEIGHT],
        summary: "`weight` [out, in], `bias` [out] if asked for; x Wᵀ + b",
        kind: Kind::Linear,
        build: linear,
    },
    Constructor {
        name: "rms_norm",
        parameters: NORM,
        summary: "`weight` [width], `bias` [width] if asked for; x / sqrt(mean(x²) + eps) ⊙ (offset + weight) + bias \
            over the last dimension; `offset: 1` where weights are stored as their difference from 1. With `heads`, \
            weight and bias are [heads, width]",
        kind: Kind::Norm,
        build: |elaborator, declared| norm(elaborator, declared, false),
    },
    Constructor {
        name: "router",
        parameters: &[Parameter::required("in"), Parameter::required("experts"), BIAS, WEIGHT],
        summary: "`weight` [experts, in], `bias` [experts] if asked for; scores x Wᵀ + b of the experts",
        kind: Kind::Router,
        build: linear,
    },
    Constructor {
        name: "vector",
        parameters: &[Parameter::required("width"), WEIGHT],
        summary: "a vector [width], stored under the path itself; an operand of +, * and `sinks`",
        kind: Kind::Vector,
        build: |elaborator, declared| {
            let [width] = elaborator.sizes(declared.arguments, [0])?;
            Ok((vec![elaborator.stored(declared, ("", Some(1)), &[width])?], Apply::Vector))
        },
    },
];

/// The constructor of this name.
pub(super) fn find(name: &str) -> Option<&'static Constructor> {
    CONSTRUCTORS.iter().find(|constructor| constructor.name == name)
}

fn linear(elaborator: &mut Elaborator<'_>, declared: &Declared<'_>) -> Construction {
    let [input, out] = elaborator.sizes(declared.arguments, [0, 1])?;
    let weight = elaborator.stored(declared, ("weight", Some(3)), &[out, input])?;
    let bias = elaborator.bias(declared, 2, false, &[out])?;
    Ok(([Some(weight), bias].into_iter().flatten().collect(), Apply::Linear))
}

fn norm(elaborator: &mut Elaborator<'_>, declared: &Declared<'_>, centre: bool) -> Construction {
    let [width] = elaborator.sizes(declared.arguments, [0])?;
    let (eps, span) = declared.arguments.get(1);
    let eps = Real::new(elaborator.real(eps, span)?);
    if eps.get() < 0.0 {
        return Err(elaborator.error("M0002", span, format!("expected an epsilon of 0 or more, found {eps}")));
    }
    let offset = match declared.arguments.option(3) {
        None => 0.0,
        Some((value, span)) => elaborator.real(value, span)?,
    };
    let shape = match declared.arguments.option(4) {
        None => vec![width],
        Some(_) => vec![elaborator.sizes(declared.arguments, [4])?[0], width],
    };
    let weight = elaborator.stored(declared, ("weight", Some(5)), &shape)?;
    let bias = elaborator.bias(declared, 2, centre, &shape)?;
    let params = [Some(weight), bias].into_iter().flatten().collect();
    Ok((params, Apply::Norm { centre, eps, offset: Real::new(offset) }))
}

fn head(elaborator: &mut Elaborator<'_>, declared: &Declared<'_>) -> Construction {
    let [input, vocab] = elaborator.sizes(declared.arguments, [0, 1])?;
    let table = match declared.arguments.option(3) {
        None => None,
        Some((Value::Module(id), span)) => Some(elaborator.table(*id, span)?),
        Some((other, span)) => return Err(elaborator.expected("an embedding", other, span)),
    };
    let claimed = match declared.arguments.option(4) {
        None => None,
        Some((Value::Bool(tied), _)) => Some(*tied),
        Some((other, span)) => return Err(elaborator.expected("true, false or null", other, span)),
    };
    let weight = match table {
        Some(table) => {
            let name = format!("{}.weight", declared.path);
            let given = declared.arguments.option(5).is_some();
            let weight = if !given && elaborator.find_tensor(&name).is_none() && claimed != Some(false) {
                let shape = &elaborator.graph.params()[table.index()].shape;
                if *shape != [vocab, input] {
                    let message = format!("`{name}` [{vocab}, {input}] cannot be tied to a table {shape:?}");
                    return Err(elaborator.error("M0005", declared.span, message));
                }
                elaborator.param(name, vec![vocab, input], Values::Tied(table))
            } else {
                elaborator.stored(declared, ("weight", Some(5)), &[vocab, input])?
            };
            elaborator.ties.push(TieCandidate { head: weight, table, claimed, span: declared.span });
            weight
        }
        None => elaborator.stored(declared, ("weight", Some(5)), &[vocab, input])?,
    };
    let bias = elaborator.bias(declared, 2, false, &[vocab])?;
    Ok(([Some(weight), bias].into_iter().flatten().collect(), Apply::Linear))
}

impl Elaborator<'_> {
    /// Sizes: whole numbers of 1 or more.
    fn sizes<const N: usize>(&mut self, arguments: &Arguments, indices: [usize; N]) -> Result<[u64; N], Reported> {
        let mut sizes = [0; N];
        for (size, index) in sizes.iter_mut().zip(indices) {
            let (value, span) = arguments.get(index);
            *size = match self.count(value, span)? {
                0 => return Err(self.error("M0002", span, "expected a size of 1 or more, found 0")),
                n => n,
            };
        }
        Ok(sizes)
    }

    /// The bias, where one is asked for: by true, or by the part of a tensor that it is.
    fn bias(
        &mut self,
        declared: &Declared<'_>,
        index: usize,
        unless_told: bool,
        shape: &[u64],
    ) -> Result<Option<ParamId>, Reported> {
        let wanted = match declared.arguments.option(index) {
            None => unless_told,
            Some((Value::Bool(wanted), _)) => *wanted,
            Some((Value::View(_), _)) => true,
            Some((other, span)) => return Err(self.expected("true, false or a part of a tensor", other, span)),
        };
        if wanted { self.stored(declared, ("bias", Some(index)), shape).map(Some) } else { Ok(None) }
    }

    /// The table of an embedding.
    fn table(&mut self, id: ModuleId, span: Span) -> Result<ParamId, Reported> {
        let Built { module, apply, .. } = &self.modules[id.0 as usize];
        match (module.kind, module.params.first()) {
            (Kind::Embedding, Some(&table)) => Ok(table),
            // Its constructor failed, which was reported. A head's may run later.
            _ if apply.is_none() && module.kind != Kind::Head => Err(Reported),
            (kind, _) => {
                let message = format!("expected an embedding, found `{}`, a {}", module.path, kind.name());
                Err(self.error("M0002", span, message))
            }
        }
    }
}
