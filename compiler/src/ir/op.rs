//! The operations of the graph, and the shape rule of each.

use std::fmt;

use lathe_runtime::program::{Binary, InputFormat, Unary};

use super::fact::{Dim, Dtype, Fact, Misfit};
use super::frame::RotationId;
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
    /// table `[rows, n]`, tokens or positions `[T]` → `[T, n]`: the row of each, counted from `first`.
    Embed {
        /// The row of token or position 0.
        first: u32,
    },
    /// x `[…, in]`, W `[out, in]`, optional bias `[out]` → `[…, out]`: `x Wᵀ + b`.
    Linear {
        /// What x is rounded to first, row by row.
        input: Option<InputFormat>,
    },
    /// x `[rows, in]` or `[rows, k, in]`, choice `[rows, k]`, W `[out, in]` of each expert, then, if any, the bias `[out]`
    /// of each → `[rows, k, out]`: [`Op::Linear`] with the experts that a row has chosen (Shazeer et al. 2017, §2).
    ExpertLinear {
        /// How many there are to choose from.
        experts: u32,
        /// What x is rounded to first, row by row.
        input: Option<InputFormat>,
    },
    /// x `[…, n]` → the same: `x - mean(x)` over the last dimension. With a second operand, a unit vector u `[n]`, what that
    /// is in a rotated frame: `x - (x·u) u`.
    Centre,
    /// x `[…, n]` → the same: `x / sqrt(mean(x²) + eps)` over the last dimension. RMSNorm without its gain (Zhang and
    /// Sennrich 2019, eq. 4); after [`Op::Centre`], LayerNorm without gain and bias (Ba et al. 2016, eq. 3).
    Normalize {
        /// Added to the mean square.
        eps: Real,
    },
    /// x `[…, n]`, g `[n]`, or one for each head `[heads, n]` → `x ⊙ (offset + g)`.
    Gain {
        /// 1 where gains are stored as their difference from 1, else 0.
        offset: Real,
    },
    /// x `[…, n]`, b `[n]`, or one for each head `[heads, n]` → `x + b`.
    Shift,
    /// As one kernel, x `[…, n]`, then u `[n]` if the mean lies along it, then g `[n]` if there is a gain, then b `[n]` if there
    /// is a shift: [`Op::Centre`] where asked for, [`Op::Normalize`], [`Op::Gain`], [`Op::Shift`].
    Norm {
        /// Whether the mean is taken off first.
        centre: bool,
        /// Whether it lies along a vector of its own.
        along: bool,
        /// Added to the mean square.
        eps: Real,
        /// The offset of the gain, if there is one.
        gain: Option<Real>,
        /// Whether there is a shift.
        shift: bool,
    },
    /// x `[…, k·width]` → the same: each block of the rotation's width times Q, or times Qᵀ.
    Rotate {
        /// Q.
        rotation: RotationId,
        /// Whether it is Qᵀ.
        inverse: bool,
    },
    /// x `[…, h·head_dim]` → `[…, h, head_dim]`; moves nothing.
    SplitHeads {
        /// Elements in a head.
        head_dim: u64,
    },
    /// x `[T, h, head_dim]` → `[T, h·head_dim]`; moves nothing.
    MergeHeads,
    /// x `[T, heads, head_dim]`, positions `[T]` → the same: rotary embedding (Su et al. 2021, §3.2.2).
    Rope(RopeId),
    /// q `[T, heads, d]`, k and v `[T, kv heads, d]`, sinks `[heads]` if any → `[T, heads, d]`: causal softmax attention
    /// over these and all earlier positions; query head h reads key/value head `h / (heads / kv heads)`. A sink is a
    /// score that takes part in the softmax and has no value.
    Attention {
        /// Factor on q·k.
        scale: Real,
        /// A query at position p sees positions above `p - window` only.
        window: Option<u32>,
        /// Scores s become `cap · tanh(s / cap)`.
        softcap: Option<Real>,
    },
    /// x → `f(x)`, element by element.
    Unary(Unary),
    /// a, b of one shape → `f(a, b)`, element by element.
    Binary(Binary),
    /// gate, value of one shape → `f(gate) · value`, as one kernel.
    Gated(Unary),
    /// x → `factor · x + offset`, element by element.
    Affine {
        /// Multiplied.
        factor: Real,
        /// Added.
        offset: Real,
    },
    /// x → `min(max(x, low), high)`, element by element.
    Clamp {
        /// Least value.
        low: Option<Real>,
        /// Largest value.
        high: Option<Real>,
    },
    /// x → `cap · tanh(x / cap)`, element by element.
    Softcap {
        /// Above 0.
        cap: Real,
    },
    /// x `[…, n]` → the same: `exp(x) / Σ exp(x)` over the last dimension.
    Softmax,
    /// x `[…, n]` → the same: `x / Σ x` over the last dimension.
    NormalizeSum,
    /// scores `[rows, n]` → the numbers `[rows, k]` of the k largest, largest first; of equal ones the lowest number.
    TopK {
        /// At most n.
        k: u32,
    },
    /// x `[rows, n]`, choice `[rows, k]` of n → `[rows, k]`: the chosen elements.
    Gather,
    /// x `[rows, k, n]`, weights `[rows, k]` → `[rows, n]`: `Σ_j weights_j x_j`.
    Combine,
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
            Op::Normalize { .. }
            | Op::Rotate { .. }
            | Op::SplitHeads { .. }
            | Op::MergeHeads
            | Op::Unary(_)
            | Op::Affine { .. }
            | Op::Clamp { .. }
            | Op::Softcap { .. }
            | Op::Softmax
            | Op::NormalizeSum
            | Op::TopK { .. }
            | Op::Output => (1, 1),
            Op::Embed { .. }
            | Op::Gain { .. }
            | Op::Shift
            | Op::Rope(_)
            | Op::Binary(_)
            | Op::Gated(_)
            | Op::Gather
            | Op::Combine
            | Op::Select => (2, 2),
            Op::Centre => (1, 2),
            Op::Norm { along, gain, shift, .. } => {
                let operands = 1 + usize::from(*along) + usize::from(gain.is_some()) + usize::from(*shift);
                (operands, operands)
            }
            Op::Linear { .. } => (2, 3),
            Op::Attention { .. } => (3, 4),
            Op::ExpertLinear { experts, .. } => {
                let experts = *experts as usize;
                (experts.saturating_add(2), experts.saturating_mul(2).saturating_add(2))
            }
        }
    }

    /// The name in listings, without attributes.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Tokens => "tokens",
            Op::Positions => "positions",
            Op::Selection => "selection",
            Op::Param(_) => "param",
            Op::Embed { .. } => "embed",
            Op::Linear { .. } => "linear",
            Op::ExpertLinear { .. } => "expert_linear",
            Op::Centre => "centre",
            Op::Normalize { .. } => "normalize",
            Op::Gain { .. } => "gain",
            Op::Shift => "shift",
            Op::Norm { centre: false, .. } => "rms_norm",
            Op::Norm { centre: true, .. } => "layer_norm",
            Op::Rotate { .. } => "rotate",
            Op::SplitHeads { .. } => "split_heads",
            Op::MergeHeads => "merge_heads",
            Op::Rope(_) => "rope",
            Op::Attention { .. } => "attention",
            Op::Unary(function) => function.name(),
            Op::Binary(function) => function.name(),
            Op::Gated(function) => gated_name(*function),
            Op::Affine { .. } => "affine",
            Op::Clamp { .. } => "clamp",
            Op::Softcap { .. } => "softcap",
            Op::Softmax => "softmax",
            Op::NormalizeSum => "normalize_sum",
            Op::TopK { .. } => "top_k",
            Op::Gather => "gather",
            Op::Combine => "combine",
            Op::Select => "select",
            Op::Output => "output",
        }
    }

    /// The operands that row r of the result depends on row r of, by slot; parameters apart, it depends on nothing else.
    /// Empty for operations that mix rows, or have none to depend on.
    pub fn rowwise(&self) -> &'static [u32] {
        match self {
            Op::Linear { .. }
            | Op::Centre
            | Op::Normalize { .. }
            | Op::Gain { .. }
            | Op::Shift
            | Op::Norm { .. }
            | Op::Rotate { .. }
            | Op::SplitHeads { .. }
            | Op::MergeHeads
            | Op::Unary(_)
            | Op::Affine { .. }
            | Op::Clamp { .. }
            | Op::Softcap { .. }
            | Op::Softmax
            | Op::NormalizeSum
            | Op::TopK { .. } => &[0],
            Op::Binary(_) | Op::Gated(_) | Op::ExpertLinear { .. } | Op::Gather | Op::Combine => &[0, 1],
            Op::Tokens
            | Op::Positions
            | Op::Selection
            | Op::Param(_)
            | Op::Embed { .. }
            | Op::Rope(_)
            | Op::Attention { .. }
            | Op::Select
            | Op::Output => &[],
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
            Op::Embed { first } => {
                let [table, index] = [operands[0], operands[1]];
                let [Dim::Fixed(rows), width @ Dim::Fixed(_)] = table.shape[..] else {
                    return Err(misfit("a table [rows, n]".into(), table));
                };
                if *index != Fact::tokens(Dim::Tokens) && *index != Fact::positions(Dim::Tokens) {
                    return Err(misfit("tokens or positions".into(), index));
                }
                if rows <= u64::from(*first) {
                    return Err(misfit(format!("a table of more than {first} rows"), table));
                }
                Ok(Fact::real([index.shape[0], width]))
            }
            Op::Linear { .. } => {
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
            Op::ExpertLinear { experts, .. } => infer_experts(*experts as usize, operands),
            Op::Centre => {
                let x = activation(operands[0])?;
                let width = x.last().unwrap_or(0);
                operands[1..].iter().try_for_each(|along| same(&Fact::param(&[width]), along).map(|_| ()))?;
                Ok(x.clone())
            }
            Op::Rotate { rotation, .. } => {
                let x = activation(operands[0])?;
                let width = graph.rotation(*rotation).map_or(0, |rotation| rotation.width);
                match x.last() {
                    Some(last) if width > 0 && last.is_multiple_of(width) => Ok(x.clone()),
                    _ => Err(misfit(format!("a last dimension that is a multiple of {width}"), x)),
                }
            }
            Op::Normalize { .. }
            | Op::Unary(_)
            | Op::Affine { .. }
            | Op::Clamp { .. }
            | Op::Softcap { .. }
            | Op::Softmax
            | Op::NormalizeSum => Ok(activation(operands[0])?.clone()),
            Op::Gain { .. } | Op::Shift => {
                let (x, vector) = (activation(operands[0])?, operands[1]);
                let rank = vector.shape.len();
                if !(1..x.shape.len()).contains(&rank) || x.shape[x.shape.len() - rank..] != vector.shape[..] {
                    return Err(misfit(format!("a vector of the last dimensions of {x}"), vector));
                }
                Ok(x.clone())
            }
            Op::Norm { .. } => {
                let x = activation(operands[0])?;
                let width = x.last().unwrap_or(0);
                operands[1..].iter().try_for_each(|vector| same(&Fact::param(&[width]), vector).map(|_| ()))?;
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
                if operands[1] != operands[2] {
                    return Err(misfit(format!("values of the shape of the keys, {}", operands[1]), operands[2]));
                }
                if rows != Dim::Tokens || operands[1].shape[0] != rows {
                    return Err(misfit("q, k and v with T rows".into(), operands[0]));
                }
                if operands[1].shape[2] != Dim::Fixed(head_dim) {
                    return Err(misfit(format!("keys with head_dim {head_dim}"), operands[1]));
                }
                if let Some(sinks) = operands.get(3) {
                    same(&Fact::param(&[q_heads]), sinks)?;
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
            Op::TopK { k: 0 } => Err(Misfit { expected: "a k of 1 or more".into(), found: "0".into() }),
            Op::TopK { k } => match activation(operands[0])?.shape[..] {
                [rows, Dim::Fixed(n)] if u64::from(*k) <= n => {
                    Ok(Fact { dtype: Dtype::Choice(n), shape: vec![rows, Dim::Fixed((*k).into())] })
                }
                _ => Err(misfit(format!("scores [rows, n] of at least {k} elements"), operands[0])),
            },
            Op::Gather => {
                let (x, [rows, k]) = (activation(operands[0])?, choice(operands[1])?);
                match x.shape[..] {
                    [x_rows, Dim::Fixed(n)] if x_rows == rows && operands[1].dtype == Dtype::Choice(n) => {
                        Ok(Fact::real([rows, k]))
                    }
                    _ => Err(misfit(format!("as many elements as {} is of", operands[1]), x)),
                }
            }
            Op::Combine => {
                let [rows, Dim::Fixed(k), width] = activation(operands[0])?.shape[..] else {
                    return Err(misfit("an activation [rows, k, n]".into(), operands[0]));
                };
                same(&Fact::real([rows, Dim::Fixed(k)]), operands[1])?;
                Ok(Fact::real([rows, width]))
            }
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

fn gated_name(function: Unary) -> &'static str {
    match function {
        Unary::Silu => "silu_mul",
        Unary::Gelu => "gelu_mul",
        Unary::GeluTanh => "gelu_tanh_mul",
        Unary::GeluQuick => "gelu_quick_mul",
        Unary::Relu => "relu_mul",
        Unary::ReluSquared => "relu_squared_mul",
        Unary::Sigmoid => "sigmoid_mul",
        Unary::Tanh => "tanh_mul",
    }
}

/// Rows and k of a choice.
fn choice(fact: &Fact) -> Result<[Dim; 2], Misfit> {
    match (fact.dtype, &fact.shape[..]) {
        (Dtype::Choice(_), &[rows @ (Dim::Tokens | Dim::Selected), k @ Dim::Fixed(_)]) => Ok([rows, k]),
        _ => Err(Misfit { expected: "a choice [rows, k]".into(), found: fact.to_string() }),
    }
}

fn infer_experts(experts: usize, operands: &[&Fact]) -> Result<Fact, Misfit> {
    let misfit = |expected: String, found: &Fact| Misfit { expected, found: found.to_string() };
    let x = activation(operands[0])?;
    let [rows, k] = choice(operands[1])?;
    if operands[1].dtype != Dtype::Choice(experts as u64) {
        return Err(misfit(format!("a choice of {experts} experts"), operands[1]));
    }
    let (weights, biases) = operands[2..].split_at(experts);
    let Some((first, others)) = weights.split_first() else {
        return Err(Misfit { expected: "one expert or more".into(), found: "none".into() });
    };
    let [Dim::Fixed(out), Dim::Fixed(input)] = first.shape[..] else {
        return Err(misfit("a weight [out, in] of each expert".into(), first));
    };
    if let Some(other) = others.iter().find(|other| *other != first) {
        return Err(misfit(format!("{first} for every expert"), other));
    }
    if !biases.is_empty() && biases.len() != experts {
        return Err(Misfit { expected: format!("no bias or {experts}"), found: biases.len().to_string() });
    }
    if let Some(bias) = biases.iter().find(|bias| ***bias != Fact::param(&[out])) {
        return Err(misfit(Fact::param(&[out]).to_string(), bias));
    }
    let fits = match x.shape[..] {
        [x_rows, width] => x_rows == rows && width == Dim::Fixed(input),
        [x_rows, x_k, width] => x_rows == rows && x_k == k && width == Dim::Fixed(input),
        _ => false,
    };
    if !fits {
        return Err(misfit(format!("[{rows}, {input}] or [{rows}, {k}, {input}] for a weight {first}"), x));
    }
    Ok(Fact::real([rows, k, Dim::Fixed(out)]))
}

/// Rows, heads and head_dim of an activation that is split into heads.
fn heads(fact: &Fact) -> Result<(Dim, u64, u64), Misfit> {
    match activation(fact)?.shape[..] {
        [rows, Dim::Fixed(heads), Dim::Fixed(head_dim)] => Ok((rows, heads, head_dim)),
        _ => Err(Misfit { expected: "an activation [rows, heads, head_dim]".into(), found: fact.to_string() }),
    }
}
