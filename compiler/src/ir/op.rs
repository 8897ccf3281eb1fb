//! The operations of the graph, and the shape rule of each.

use std::fmt;

use lathe_runtime::program::{Binary, Unary};

use super::fact::{Dim, Dtype, Fact, Misfit};
use super::graph::{Graph, ParamId};

/// An f32 attribute that can be compared and hashed: by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Real(u32);

impl Real {
    /// Wraps a value.
    pub fn new(value: f32) -> Self {
        Real(value.to_bits())
    }

    /// The value.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.get())
    }
}

/// Index into the graph's table of rotary frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RopeId(pub u32);

/// An operation. Operands are listed in the order of their slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// `token[T]`: the token ids of a step.
    Tokens,
    /// `position[T]`: their positions.
    Positions,
    /// `row[S]`: which of them logits are asked for.
    Selection,
    /// A parameter, of the shape that its entry states.
    Param(ParamId),
    /// table `[vocab, n]`, tokens `[T]` → `[T, n]`: the row of each token.
    Embed,
    /// x `[…, in]`, W `[out, in]`, optional bias `[out]` → `[…, out]`: `x Wᵀ + b`.
    Linear,
    /// x `[…, n]` → the same: `x / sqrt(mean(x²) + eps)` over the last dimension. RMSNorm without its gain (Zhang and
    /// Sennrich 2019, eq. 4).
    Normalize {
        /// Added to the mean square.
        eps: Real,
    },
    /// x `[…, n]`, g `[n]` → `x ⊙ g`.
    Gain,
    /// [`Op::Normalize`] followed by [`Op::Gain`], as one kernel: x `[…, n]`, g `[n]`.
    RmsNorm {
        /// Added to the mean square.
        eps: Real,
    },
    /// x `[…, h·head_dim]` → `[…, h, head_dim]`; moves nothing.
    SplitHeads {
        /// Elements in a head.
        head_dim: u64,
    },
    /// x `[…, h, head_dim]` → `[…, h·head_dim]`; moves nothing.
    MergeHeads,
    /// x `[T, heads, head_dim]`, positions `[T]` → the same: rotary embedding (Su et al. 2021, §3.2.2).
    Rope(RopeId),
    /// q `[T, heads, d]`, k and v `[T, kv heads, d]` → `[T, heads, d]`: causal softmax attention over these and all
    /// earlier positions; query head h reads key/value head `h / (heads / kv heads)`.
    Attention {
        /// Factor on q·k.
        scale: Real,
        /// A query at position p sees positions above `p - window` only.
        window: Option<u32>,
    },
    /// x → `f(x)`, element by element.
    Unary(Unary),
    /// a, b of one shape → `f(a, b)`, element by element.
    Binary(Binary),
    /// gate, value of one shape → `f(gate) · value`, as one kernel.
    Gated(Unary),
    /// x `[T, …]`, selection `[S]` → `[S, …]`: the selected rows.
    Select,
    /// logits `[T or S, vocab]`: the result of the graph. Exactly one, and nobody uses it.
    Output,
}

impl Op {
    /// Smallest and largest number of operands.
    pub fn arity(&self) -> (usize, usize) {
        match self {
            Op::Tokens | Op::Positions | Op::Selection | Op::Param(_) => (0, 0),
            Op::Normalize { .. } | Op::SplitHeads { .. } | Op::MergeHeads | Op::Unary(_) | Op::Output => (1, 1),
            Op::Embed | Op::Gain | Op::RmsNorm { .. } | Op::Rope(_) | Op::Binary(_) | Op::Gated(_) | Op::Select => {
                (2, 2)
            }
            Op::Linear => (2, 3),
            Op::Attention { .. } => (3, 3),
        }
    }

    /// The name in listings, without attributes.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Tokens => "tokens",
            Op::Positions => "positions",
            Op::Selection => "selection",
            Op::Param(_) => "param",
            Op::Embed => "embed",
            Op::Linear => "linear",
            Op::Normalize { .. } => "normalize",
            Op::Gain => "gain",
            Op::RmsNorm { .. } => "rms_norm",
            Op::SplitHeads { .. } => "split_heads",
            Op::MergeHeads => "merge_heads",
            Op::Rope(_) => "rope",
            Op::Attention { .. } => "attention",
            Op::Unary(Unary::Silu) => "silu",
            Op::Binary(Binary::Add) => "add",
            Op::Binary(Binary::Mul) => "mul",
            Op::Gated(Unary::Silu) => "silu_mul",
            Op::Select => "select",
            Op::Output => "output",
        }
    }

    /// True when row r of the result depends on row r of the first operand alone, and on parameters.
    pub fn is_rowwise(&self) -> bool {
        match self {
            Op::Linear
            | Op::Normalize { .. }
            | Op::Gain
            | Op::RmsNorm { .. }
            | Op::SplitHeads { .. }
            | Op::MergeHeads
            | Op::Unary(_) => true,
            Op::Tokens
            | Op::Positions
            | Op::Selection
            | Op::Param(_)
            | Op::Embed
            | Op::Rope(_)
            | Op::Attention { .. }
            | Op::Binary(_)
            | Op::Gated(_)
            | Op::Select
            | Op::Output => false,
        }
    }

    /// The fact of the result, from those of the operands.
    ///
    /// # Errors
    /// A [`Misfit`] that names both sides when the operands do not fit.
    pub fn infer(&self, graph: &Graph, operands: &[&Fact]) -> Result<Fact, Misfit> {
        let (least, most) = self.arity();
        if operands.len() < least || operands.len() > most {
            let expected =
                if least == most { format!("{least} operands") } else { format!("{least} to {most} operands") };
            return Err(Misfit { expected, found: operands.len().to_string() });
        }
        let misfit = |expected: String, found: &Fact| Misfit { expected, found: found.to_string() };
        let same = |a: &Fact, b: &Fact| if a == b { Ok(a.clone()) } else { Err(misfit(a.to_string(), b)) };
        match self {
            Op::Tokens => Ok(Fact::tokens(Dim::Tokens)),
            Op::Positions => Ok(Fact::positions(Dim::Tokens)),
            Op::Selection => Ok(Fact::selection()),
            Op::Param(id) => match graph.param(*id) {
                Some(param) => Ok(Fact::param(&param.shape)),
                None => Err(Misfit { expected: "a parameter of the table".into(), found: format!("p{}", id.0) }),
            },
            Op::Embed => {
                let [table, tokens] = [operands[0], operands[1]];
                let [Dim::Fixed(_), width] = table.shape[..] else {
                    return Err(misfit("a table [vocab, n]".into(), table));
                };
                same(&Fact::tokens(Dim::Tokens), tokens)?;
                Ok(Fact::real([tokens.shape[0], width]))
            }
            Op::Linear => {
                let [x, weight] = [activation(operands[0])?, operands[1]];
                let [Dim::Fixed(out), Dim::Fixed(input)] = weight.shape[..] else {
                    return Err(misfit("a weight [out, in]".into(), weight));
                };
                if x.last() != Some(input) {
                    return Err(misfit(format!("an activation [.., {input}] for a weight {weight}"), x));
                }
                if let Some(bias) = operands.get(2) {
                    same(&Fact::param(&[out]), bias)?;
                }
                let mut shape = x.shape.clone();
                *shape.last_mut().expect("activations have two dimensions or more") = Dim::Fixed(out);
                Ok(Fact::real(shape))
            }
            Op::Normalize { .. } | Op::Unary(_) => Ok(activation(operands[0])?.clone()),
            Op::Gain | Op::RmsNorm { .. } => {
                let x = activation(operands[0])?;
                match x.last() {
                    Some(width) => same(&Fact::param(&[width]), operands[1])?,
                    None => return Err(misfit("an activation with a fixed last dimension".into(), x)),
                };
                Ok(x.clone())
            }
            Op::SplitHeads { head_dim } => {
                let x = activation(operands[0])?;
                match x.last() {
                    Some(width) if *head_dim > 0 && width > 0 && width % head_dim == 0 => {
                        let mut shape = x.shape.clone();
                        shape.pop();
                        shape.extend([Dim::Fixed(width / head_dim), Dim::Fixed(*head_dim)]);
                        Ok(Fact::real(shape))
                    }
                    _ => Err(misfit(format!("a last dimension that is a multiple of head_dim {head_dim}"), x)),
                }
            }
            Op::MergeHeads => {
                let (rows, heads, head_dim) = heads(operands[0])?;
                match heads.checked_mul(head_dim) {
                    Some(width) => Ok(Fact::real([rows, Dim::Fixed(width)])),
                    None => Err(misfit("a width below 2^64".into(), operands[0])),
                }
            }
            Op::Rope(id) => {
                let (rows, _, head_dim) = heads(operands[0])?;
                let Some(table) = graph.rope_table(*id) else {
                    return Err(Misfit { expected: "a table of frequencies".into(), found: format!("r{}", id.0) });
                };
                let width = 2 * table.inverse_frequencies.len() as u64;
                if width > head_dim {
                    return Err(misfit(format!("head_dim of at least the rotary width {width}"), operands[0]));
                }
                same(&Fact::positions(rows), operands[1])?;
                Ok(operands[0].clone())
            }
            Op::Attention { .. } => {
                let (rows, q_heads, head_dim) = heads(operands[0])?;
                let (_, kv_heads, _) = heads(operands[1])?;
                same(operands[1], operands[2])?;
                if rows != Dim::Tokens || operands[1].shape[0] != rows {
                    return Err(misfit("q, k and v with T rows".into(), operands[0]));
                }
                if operands[1].shape[2] != Dim::Fixed(head_dim) {
                    return Err(misfit(format!("keys with head_dim {head_dim}"), operands[1]));
                }
                if q_heads % kv_heads != 0 {
                    return Err(misfit(
                        format!("query heads that are a multiple of {kv_heads} key heads"),
                        operands[0],
                    ));
                }
                Ok(operands[0].clone())
            }
            Op::Binary(_) | Op::Gated(_) => same(activation(operands[0])?, operands[1]),
            Op::Select => {
                let x = activation(operands[0])?;
                if x.shape[0] != Dim::Tokens {
                    return Err(misfit("T rows".into(), x));
                }
                same(&Fact::selection(), operands[1])?;
                let mut shape = x.shape.clone();
                shape[0] = Dim::Selected;
                Ok(Fact::real(shape))
            }
            Op::Output => {
                let x = activation(operands[0])?;
                if x.shape.len() == 2 { Ok(x.clone()) } else { Err(misfit("logits [rows, vocab]".into(), x)) }
            }
        }
    }
}

/// An operand that must be real, with symbolic rows and at least one fixed dimension.
fn activation(fact: &Fact) -> Result<&Fact, Misfit> {
    let rows = matches!(fact.shape.first(), Some(Dim::Tokens | Dim::Selected));
    let rest = fact.shape.len() >= 2 && fact.shape[1..].iter().all(|dim| matches!(dim, Dim::Fixed(n) if *n > 0));
    if fact.dtype == Dtype::Real && rows && rest {
        Ok(fact)
    } else {
        Err(Misfit { expected: "an activation [rows, ..]".into(), found: fact.to_string() })
    }
}

/// Rows, heads and head_dim of an activation that is split into heads.
fn heads(fact: &Fact) -> Result<(Dim, u64, u64), Misfit> {
    match activation(fact)?.shape[..] {
        [rows, Dim::Fixed(heads), Dim::Fixed(head_dim)] => Ok((rows, heads, head_dim)),
        _ => Err(Misfit { expected: "an activation [rows, heads, head_dim]".into(), found: fact.to_string() }),
    }
}
