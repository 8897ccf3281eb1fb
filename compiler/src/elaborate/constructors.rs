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
    /// The row of each token.
    Embedding,
    /// Normalize, then gain.
    RmsNorm { eps: Real },
}

/// All constructors, sorted by name.
pub static CONSTRUCTORS: &[Constructor] = &[
    Constructor {
        name: "embedding",
        parameters: &[Parameter::required("vocab"), Parameter::required("width")],
        summary: "table `weight` [vocab, width]; the row of each token",
        kind: Kind::Embedding,
        build: |elaborator, declared| {
            let shape = elaborator.sizes(declared.arguments, [0, 1])?;
            Ok((vec![elaborator.stored(declared, "weight", &shape)?], Apply::Embedding))
        },
    },
    Constructor {
        name: "head",
        parameters: &[
            Parameter::required("in"),
            Parameter::required("vocab"),
            Parameter::option("bias"),
            Parameter::option("tied_to"),
            Parameter::option("tied"),
        ],
        summary: "`weight` [vocab, in], `bias` [vocab] if asked for; logits x Wᵀ + b. `tied_to` names the embedding \
            whose table it may share, `tied` what config.json says of it: true, false, or null when it says nothing",
        kind: Kind::Head,
        build: head,
    },
    Constructor {
        name: "linear",
        parameters: &[Parameter::required("in"), Parameter::required("out"), Parameter::option("bias")],
        summary: "`weight` [out, in], `bias` [out] if asked for; x Wᵀ + b",
        kind: Kind::Linear,
        build: |elaborator, declared| {
            let [input, out] = elaborator.sizes(declared.arguments, [0, 1])?;
            let weight = elaborator.stored(declared, "weight", &[out, input])?;
            let bias = elaborator.bias(declared, 2, out)?;
            Ok(([Some(weight), bias].into_iter().flatten().collect(), Apply::Linear))
        },
    },
    Constructor {
        name: "rms_norm",
        parameters: &[Parameter::required("width"), Parameter::keyword("eps")],
        summary: "`weight` [width]; x / sqrt(mean(x²) + eps) ⊙ weight over the last dimension",
        kind: Kind::Norm,
        build: |elaborator, declared| {
            let [width] = elaborator.sizes(declared.arguments, [0])?;
            let (eps, span) = declared.arguments.get(1);
            let eps = Real::new(elaborator.real(eps, span)?);
            if eps.get() < 0.0 {
                return Err(elaborator.error("M0002", span, format!("expected an epsilon of 0 or more, found {eps}")));
            }
            Ok((vec![elaborator.stored(declared, "weight", &[width])?], Apply::RmsNorm { eps }))
        },
    },
];

/// The constructor of this name.
pub(super) fn find(name: &str) -> Option<&'static Constructor> {
    CONSTRUCTORS.iter().find(|constructor| constructor.name == name)
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
            let weight = if elaborator.checkpoint.find(&name).is_none() && claimed != Some(false) {
                let shape = &elaborator.graph.params()[table.index()].shape;
                if *shape != [vocab, input] {
                    let message = format!("`{name}` [{vocab}, {input}] cannot be tied to a table {shape:?}");
                    return Err(elaborator.error("M0005", declared.span, message));
                }
                elaborator.param(name, vec![vocab, input], Values::Tied(table))
            } else {
                elaborator.stored(declared, "weight", &[vocab, input])?
            };
            elaborator.ties.push(TieCandidate { head: weight, table, claimed, span: declared.span });
            weight
        }
        None => elaborator.stored(declared, "weight", &[vocab, input])?,
    };
    let bias = elaborator.bias(declared, 2, vocab)?;
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

    fn bias(&mut self, declared: &Declared<'_>, index: usize, out: u64) -> Result<Option<ParamId>, Reported> {
        match declared.arguments.option(index) {
            None | Some((Value::Bool(false), _)) => Ok(None),
            Some((Value::Bool(true), _)) => Ok(Some(self.stored(declared, "bias", &[out])?)),
            Some((other, span)) => Err(self.expected("true or false", other, span)),
        }
    }

    /// The table of an embedding.
    fn table(&mut self, id: ModuleId, span: Span) -> Result<ParamId, Reported> {
        let Built { module, apply } = &self.modules[id.0 as usize];
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
