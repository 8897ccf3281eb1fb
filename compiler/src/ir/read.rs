//! Reads the text of a graph as [`super::print`](self) writes it, for file tests and bisection. It checks the syntax
//! only: a graph that breaks an invariant can be written down, for the verifier to find.

use std::collections::BTreeMap;

use lathe_runtime::program::{Binary, InputFormat, RopeGrowth, RopePairing, RopeTable, Unary};

use super::fact::{Dim, Dtype, Fact};
use super::frame::{Basis, Chain, Factor, Fold, Product, Rotation, RotationId, Scale, ScaleId};
use super::graph::{Graph, Node, NodeId, Param, ParamId, TensorId, Values};
use super::op::{Op, Real, RopeId};
use super::view::{Axis, View};

/// A line that is not as the printer writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ReadError {
    /// One-based.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads a graph.
///
/// # Errors
/// The first line that is not in the syntax, or a reference to a node that the text does not define.
pub fn read(text: &str) -> Result<Graph, ReadError> {
    let mut reader = Reader { graph: Graph::new(), rotations: Vec::new(), scales: Vec::new(), ids: BTreeMap::new() };
    let lines = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    // Ids first, so that a text may refer forward (only a cyclic one does).
    for (number, line) in lines() {
        reader.declare(line).map_err(|message| ReadError { line: number + 1, message })?;
    }
    for (number, line) in lines() {
        reader.define(line).map_err(|message| ReadError { line: number + 1, message })?;
    }
    reader.graph.set_bases(std::mem::take(&mut reader.rotations), std::mem::take(&mut reader.scales));
    for (number, line) in lines() {
        reader.wire(line).map_err(|message| ReadError { line: number + 1, message })?;
    }
    Ok(reader.graph)
}

struct Reader {
    graph: Graph,
    rotations: Vec<Rotation>,
    scales: Vec<Scale>,
    ids: BTreeMap<u32, NodeId>,
}

/// The parts of a node's line.
struct Line<'a> {
    id: u32,
    name: &'a str,
    attributes: Vec<&'a str>,
    operands: Vec<u32>,
    fact: &'a str,
    frame: &'a str,
    label: &'a str,
}

fn split(line: &str) -> Result<Option<Line<'_>>, String> {
    let (line, label) = line.split_once("  // ").unwrap_or((line, ""));
    let Some(rest) = line.trim().strip_prefix('%') else { return Ok(None) };
    let (head, fact) = rest.rsplit_once(" : ").ok_or("expected ` : ` and a fact")?;
    let (fact, frame) = fact.split_once(" in ").unwrap_or((fact, "1"));
    let mut words = head.split_whitespace();
    let id = number(words.next().unwrap_or(""))?;
    let name = words.next().ok_or("expected an operation")?;
    let (mut attributes, mut operands) = (Vec::new(), Vec::new());
    for word in words {
        match word.strip_prefix('%') {
            Some(operand) => operands.push(number(operand)?),
            None => attributes.push(word),
        }
    }
    Ok(Some(Line { id, name, attributes, operands, fact, frame, label: label.trim() }))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected a number, found `{text}`"))
}

fn prefixed<T: std::str::FromStr>(text: &str, prefix: &str) -> Result<T, String> {
    number(text.strip_prefix(prefix).ok_or_else(|| format!("expected `{prefix}…`, found `{text}`"))?)
}

impl Reader {
    fn declare(&mut self, line: &str) -> Result<(), String> {
        if let Some(line) = split(line)? {
            let id = self.graph.reserve();
            if self.ids.insert(line.id, id).is_some() {
                return Err(format!("%{} is defined twice", line.id));
            }
        }
        Ok(())
    }

    fn define(&mut self, line: &str) -> Result<(), String> {
        if let Some(line) = split(line)? {
            let node = Node {
                op: op(line.name, &line.attributes)?,
                fact: fact(line.fact)?,
                frame: chain(&line.frame.split_whitespace().collect::<Vec<_>>())?,
                label: line.label.to_string(),
                origin: None,
            };
            self.graph.fill(self.ids[&line.id], node);
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["rope", _, pairing, "amplitude", amplitude, "frequencies", ref frequencies @ ..] => {
                let pairing = match pairing {
                    "half" => RopePairing::Half,
                    "interleaved" => RopePairing::Interleaved,
                    other => return Err(format!("expected half or interleaved, found `{other}`")),
                };
                let reals = |texts: &[&str]| texts.iter().map(|text| number(text)).collect::<Result<_, String>>();
                let end = frequencies.iter().position(|text| ["above", "dynamic"].contains(text));
                let (frequencies, growth) = frequencies.split_at(end.unwrap_or(frequencies.len()));
                let growth = match *growth {
                    [] => None,
                    ["above", positions, ref frequencies @ ..] => Some(RopeGrowth::Switch {
                        positions: number(positions)?,
                        inverse_frequencies: reals(frequencies)?,
                    }),
                    ["dynamic", positions, "factor", factor, "theta", theta] => Some(RopeGrowth::Dynamic {
                        positions: number(positions)?,
                        factor: number(factor)?,
                        theta: number(theta)?,
                    }),
                    _ => return Err("expected `above N …` or `dynamic N factor F theta T`".into()),
                };
                let (inverse_frequencies, amplitude) = (reals(frequencies)?, number(amplitude)?);
                self.graph.add_rope_table(RopeTable { pairing, inverse_frequencies, amplitude, growth });
                Ok(())
            }
            ["rotation", _, "width", width, ref basis @ ..] => {
                let (basis, name) = line.split_once("  // ").map_or((basis, ""), |(text, name)| {
                    (&basis[..text.split_whitespace().count().saturating_sub(4).min(basis.len())], name)
                });
                let basis = match *basis {
                    ["hadamard"] => Basis::Hadamard { seed: None },
                    ["hadamard", "seed", seed] => Basis::Hadamard { seed: Some(number(seed)?) },
                    ["orthogonal", "seed", seed] => Basis::Orthogonal { seed: number(seed)? },
                    ["matrix"] => Basis::Matrix { values: None },
                    _ => return Err("expected `hadamard`, `orthogonal seed N` or `matrix`".into()),
                };
                self.rotations.push(Rotation { name: name.to_owned(), width: number(width)?, basis });
                Ok(())
            }
            ["scale", _, "width", width, ref name @ ..] => {
                self.scales.push(Scale { name: name.join(" "), width: number(width)?, values: None });
                Ok(())
            }
            ["param", ..] => {
                let (head, shape) = line.split_once('[').ok_or("expected a shape")?;
                let [_, _, name] = head.split_whitespace().collect::<Vec<_>>()[..] else {
                    return Err("expected `param pN NAME [SHAPE]`".into());
                };
                let (shape, values) = shape.split_once(']').ok_or("expected `]`")?;
                let shape: Vec<u64> = shape.split(',').map(|n| number(n.trim())).collect::<Result<_, _>>()?;
                let (values, folds) = values.split_once(" | ").unwrap_or((values, ""));
                let values: Vec<&str> = values.split_whitespace().collect();
                let values = match values[..] {
                    ["uniform"] => Values::Uniform,
                    ["zeros"] => Values::Zeros,
                    ["scale", scale] => {
                        let (id, inverse) = primed(scale, "S")?;
                        Values::Scale { id: ScaleId(id), inverse }
                    }
                    ["tied", other] => Values::Tied(ParamId(prefixed(other, "p")?)),
                    ["tensor", tensor, "rows", rows] => {
                        let (first, end) = rows.split_once("..").ok_or("expected a range of rows")?;
                        let (first_row, end): (u64, u64) = (number(first)?, number(end)?);
                        let rows = end.checked_sub(first_row).ok_or("expected a range of rows")?;
                        let width = shape.last().copied().unwrap_or(1);
                        let elements = |rows: u64| rows.checked_mul(width).ok_or("expected fewer than 2^64 elements");
                        let tensor = TensorId(number(tensor)?);
                        Values::Stored(View::contiguous(tensor, elements(first_row)?, elements(rows)?))
                    }
                    ["tensor", tensor, "from", offset, ref axes @ ..] => {
                        let axis = |text: &&str| -> Result<Axis, String> {
                            let (size, stride) = text.split_once('*').ok_or("expected axes as in `4*64`")?;
                            Ok(Axis { size: number(size)?, stride: number(stride)? })
                        };
                        let axes = axes.iter().map(axis).collect::<Result<Vec<_>, _>>()?;
                        Values::Stored(View::new(TensorId(number(tensor)?), number(offset)?, axes))
                    }
                    _ => return Err("expected `tied pN`, `tensor N rows A..B` or `tensor N from A …`".into()),
                };
                self.graph.add_param(Param { name: name.to_string(), shape, values, fold: fold(folds)? });
                Ok(())
            }
            _ => Err("expected `rope`, `rotation`, `scale`, `param` or `%`".into()),
        }
    }

    fn wire(&mut self, line: &str) -> Result<(), String> {
        if let Some(line) = split(line)? {
            for (slot, operand) in line.operands.iter().enumerate() {
                let from = *self.ids.get(operand).ok_or_else(|| format!("%{operand} is not defined"))?;
                self.graph.connect(from, self.ids[&line.id], slot as u32);
            }
        }
        Ok(())
    }
}

/// A number behind a prefix, and whether a prime follows.
fn primed(text: &str, prefix: &str) -> Result<(u32, bool), String> {
    let (text, inverse) = text.strip_suffix('\'').map_or((text, false), |text| (text, true));
    Ok((prefixed(text, prefix)?, inverse))
}

fn chain(words: &[&str]) -> Result<Chain, String> {
    let mut chain = Chain::IDENTITY;
    let mut words = words.iter().filter(|word| **word != "1");
    while let Some(word) = words.next() {
        chain.push(if word.starts_with('Q') {
            let (id, inverse) = primed(word, "Q")?;
            Factor::Rotation { id: RotationId(id), inverse }
        } else if word.starts_with('S') {
            let (id, inverse) = primed(word, "S")?;
            Factor::Scale { id: ScaleId(id), inverse }
        } else {
            let offset = word.strip_prefix("diag(").ok_or("expected `Q…`, `S…` or `diag(…)`")?;
            let (offset, param) = match offset.strip_suffix(')') {
                Some(param) => (0.0, param),
                None => {
                    let plus = words.next().filter(|word| **word == "+");
                    let param = plus.and_then(|_| words.next()?.strip_suffix(')'));
                    (number(offset)?, param.ok_or("expected `diag(1.0 + pN)`")?)
                }
            };
            Factor::Gain { param: ParamId(prefixed(param, "p")?), offset: Real::new(offset) }
        });
    }
    Ok(chain)
}

fn fold(text: &str) -> Result<Fold, String> {
    let mut fold = Fold::default();
    for part in text.split(" | ").filter(|part| !part.is_empty()) {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words[..] {
            ["offset", offset] => fold.offset = Some(Real::new(number(offset)?)),
            ["add", weight, vector, "factor", factor] => {
                let [weight, vector] = [weight, vector].map(|text| prefixed(text, "p").map(ParamId));
                fold.product = Some(Product { weight: weight?, vector: vector?, factor: Real::new(number(factor)?) });
            }
            ["rows", ref maps @ ..] => fold.rows = chain(maps)?,
            ["columns", ref maps @ ..] => fold.columns = chain(maps)?,
            _ => return Err(format!("expected `offset`, `add`, `rows` or `columns`, found `{part}`")),
        }
    }
    Ok(fold)
}

fn op(name: &str, attributes: &[&str]) -> Result<Op, String> {
    let attribute = |key: &str| attributes.iter().find_map(|text| text.strip_prefix(key));
    let required = |key: &str| attribute(key).ok_or_else(|| format!("{name} needs `{key}…`"));
    let real = |key: &str| Ok::<_, String>(Real::new(number(required(key)?)?));
    let maybe = |key: &str| attribute(key).map(|text| number(text).map(Real::new)).transpose();
    let input = || {
        let known = |text: &str| InputFormat::ALL.into_iter().find(|input| input.name().replace(' ', "") == text);
        let read = |text: &str| known(text).ok_or_else(|| format!("`{text}` is nothing that x can be rounded to"));
        attribute("input=").map(read).transpose()
    };
    let norm = |centre| {
        let shift = attributes.contains(&"shift");
        Ok::<_, String>(Op::Norm {
            centre,
            along: attributes.contains(&"along"),
            eps: real("eps=")?,
            gain: maybe("gain=")?,
            shift,
        })
    };
    Ok(match name {
        "tokens" => Op::Tokens,
        "positions" => Op::Positions,
        "selection" => Op::Selection,
        "param" => Op::Param(ParamId(number(required("p")?)?)),
        "embed" => Op::Embed { first: attribute("first=").map_or(Ok(0), number)? },
        "linear" => Op::Linear { input: input()? },
        "expert_linear" => Op::ExpertLinear { experts: number(required("experts=")?)?, input: input()? },
        "centre" => Op::Centre,
        "normalize" => Op::Normalize { eps: real("eps=")? },
        "gain" => Op::Gain { offset: maybe("offset=")?.unwrap_or(Real::new(0.0)) },
        "shift" => Op::Shift,
        "rms_norm" => norm(false)?,
        "layer_norm" => norm(true)?,
        "rotate" => {
            let (id, inverse) = primed(required("Q").map(|_| attributes[0])?, "Q")?;
            Op::Rotate { rotation: RotationId(id), inverse }
        }
        "split_heads" => Op::SplitHeads { head_dim: number(required("head_dim=")?)? },
        "merge_heads" => Op::MergeHeads,
        "rope" => Op::Rope(RopeId(number(required("r")?)?)),
        "attention" => Op::Attention {
            scale: real("scale=")?,
            window: attribute("window=").map(number).transpose()?,
            softcap: maybe("softcap=")?,
        },
        "affine" => Op::Affine { factor: real("factor=")?, offset: real("offset=")? },
        "clamp" => Op::Clamp { low: maybe("low=")?, high: maybe("high=")? },
        "softcap" => Op::Softcap { cap: real("cap=")? },
        "softmax" => Op::Softmax,
        "normalize_sum" => Op::NormalizeSum,
        "top_k" => Op::TopK { k: number(required("k=")?)? },
        "gather" => Op::Gather,
        "combine" => Op::Combine,
        "select" => Op::Select,
        "output" => Op::Output,
        other => {
            let functions = || Unary::ALL.into_iter().map(|(_, function)| function);
            let elementwise = functions()
                .flat_map(|function| [Op::Unary(function), Op::Gated(function)])
                .chain(Binary::ALL.into_iter().map(|(_, function)| Op::Binary(function)));
            let mut found = elementwise.filter(|op| op.name() == other);
            found.next().ok_or_else(|| format!("`{other}` is not an operation"))?
        }
    })
}

fn fact(text: &str) -> Result<Fact, String> {
    let (dtype, shape) = text.trim().split_once('[').ok_or("expected a dtype and a shape as in `real[T, 8]`")?;
    let shape = shape.strip_suffix(']').ok_or("expected `]`")?;
    let dims = shape.split(',').map(|dim| match dim.trim() {
        "T" => Ok(Dim::Tokens),
        "S" => Ok(Dim::Selected),
        n => number(n).map(Dim::Fixed),
    });
    let shape = dims.collect::<Result<Vec<Dim>, String>>()?;
    let dtype = match dtype {
        "token" => Dtype::Token,
        "position" => Dtype::Position,
        "row" => Dtype::Row,
        "real" => Dtype::Real,
        other if other.starts_with("choice(") && other.ends_with(')') => {
            Dtype::Choice(number(&other["choice(".len()..other.len() - 1])?)
        }
        other => return Err(format!("expected token, position, row, choice(n) or real, found `{other}`")),
    };
    Ok(Fact { dtype, shape })
}
