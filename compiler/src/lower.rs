//! The verified graph becomes a Program, and recipes for the weights that it refers to.
//!
//! Lowering looks at the graph, and at the plan for the formats of weights: it takes nodes in topological order, gives
//! every result a buffer and every operation a step. Splitting and merging heads moves nothing, so their results are the
//! buffer of their operand.

use std::collections::BTreeMap;

use lathe_runtime::program::{
    Buffer, BufferId, Cache, CacheId, Compute, Elements, Index, Op as Kernel, PROGRAM_VERSION, Program, RopeId, Rows,
    Step, Weight, WeightId,
};

use crate::ir::{self, Dim, Dtype, Fact, Graph, Node, NodeId, Op, ParamId, Values, View};
use crate::plan::{Encoding, Plan};

/// How one weight of the artifact is made from the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its name in the artifact.
    pub name: String,
    /// `[out, in]`, `[vocab, n]` or `[n]`.
    pub shape: Vec<u64>,
    /// How it is written.
    pub encoding: Encoding,
    /// Where its values come from, in its own order.
    pub source: View,
}

/// A program and how its weights are made, in the order of [`Program::weights`].
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    /// What runs.
    pub program: Program,
    /// One for each weight.
    pub recipes: Vec<Recipe>,
}

/// A graph that is valid but cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// A size beyond what a program can state.
    #[error("{label}: expected a size below 2^32, found {size}")]
    TooLarge {
        /// Module or operation.
        label: String,
        /// The size.
        size: u64,
    },
    /// A parameter that is tied and that no pass replaced by its table.
    #[error("{name} is tied to another parameter and still used: pass `tie` has not run")]
    StillTied {
        /// The parameter.
        name: String,
    },
    /// The graph has no output, or a cycle.
    #[error("the graph is not valid: {reason}")]
    Invalid {
        /// What is wrong.
        reason: &'static str,
    },
}

/// Lowers a graph that the verifier accepts.
///
/// # Errors
/// When a size does not fit a program, or a tied parameter is left.
pub fn lower(graph: &Graph, plan: &Plan, model: &str, max_positions: Option<u32>) -> Result<Lowered, LowerError> {
    let mut lowering = Lowering {
        graph,
        plan,
        buffers: BTreeMap::new(),
        weights: BTreeMap::new(),
        rope_tables: BTreeMap::new(),
        lowered: Lowered {
            program: Program {
                version: PROGRAM_VERSION,
                model: model.to_string(),
                compute: Compute::F32,
                max_positions,
                weights: Vec::new(),
                buffers: Vec::new(),
                caches: Vec::new(),
                rope_tables: Vec::new(),
                rotations: Vec::new(),
                steps: Vec::new(),
                output: BufferId(0),
            },
            recipes: Vec::new(),
        },
    };
    let output = graph.output().ok_or(LowerError::Invalid { reason: "expected one output" })?;
    for id in graph.topological().ok_or(LowerError::Invalid { reason: "expected no cycle" })? {
        lowering.node(id)?;
    }
    let logits = graph.operands(output)[0];
    lowering.lowered.program.output = lowering.buffer(logits);
    Ok(lowering.lowered)
}

struct Lowering<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    buffers: BTreeMap<NodeId, BufferId>,
    weights: BTreeMap<ParamId, WeightId>,
    rope_tables: BTreeMap<ir::RopeId, RopeId>,
    lowered: Lowered,
}

impl Lowering<'_> {
    fn node(&mut self, id: NodeId) -> Result<(), LowerError> {
        let node = self.graph.node(id);
        let operands = self.graph.operands(id);
        let kernel = match &node.op {
            Op::Tokens | Op::Positions | Op::Selection | Op::Param(_) | Op::Output => return Ok(()),
            Op::SplitHeads { .. } | Op::MergeHeads => {
                let same = self.buffer(operands[0]);
                self.buffers.insert(id, same);
                return Ok(());
            }
            Op::Embed { first } => Kernel::Embed {
                table: self.weight(operands[0])?,
                index: match self.graph.node(operands[1]).fact.dtype {
                    Dtype::Position => Index::Positions,
                    _ => Index::Tokens,
                },
                first: *first,
                out: self.result(id, node)?,
            },
            Op::Linear => Kernel::MatMul {
                x: self.buffer(operands[0]),
                weight: self.weight(operands[1])?,
                bias: operands.get(2).map(|&bias| self.vector(bias)).transpose()?,
                out: self.result(id, node)?,
            },
            Op::ExpertLinear { experts } => {
                let (weights, biases) = operands[2..].split_at(*experts as usize);
                Kernel::ExpertMatMul {
                    x: self.buffer(operands[0]),
                    choice: self.buffer(operands[1]),
                    weights: weights.iter().map(|&weight| self.weight(weight)).collect::<Result<_, _>>()?,
                    biases: biases.iter().map(|&bias| self.vector(bias)).collect::<Result<_, _>>()?,
                    out: self.result(id, node)?,
                }
            }
            Op::Centre => {
                let x = self.buffer(operands[0]);
                Kernel::Centre { x, along: None, width: Self::last(node)?, out: self.result(id, node)? }
            }
            Op::Normalize { eps } => Kernel::Norm {
                x: self.buffer(operands[0]),
                centre: false,
                along: None,
                width: Self::last(node)?,
                eps: eps.get(),
                gain: None,
                gain_offset: 0.0,
                shift: None,
                out: self.result(id, node)?,
            },
            Op::Norm { centre, eps, gain, shift } => {
                let mut vectors = operands[1..].iter().map(|&vector| self.vector(vector));
                let gain_weight = gain.and_then(|_| vectors.next()).transpose()?;
                let shift = shift.then(|| vectors.next()).flatten().transpose()?;
                Kernel::Norm {
                    x: self.buffer(operands[0]),
                    centre: *centre,
                    along: None,
                    width: Self::last(node)?,
                    eps: eps.get(),
                    gain: gain_weight,
                    gain_offset: gain.map_or(0.0, ir::Real::get),
                    shift,
                    out: self.result(id, node)?,
                }
            }
            Op::Gain { offset } => Kernel::Gain {
                x: self.buffer(operands[0]),
                gain: self.vector(operands[1])?,
                offset: offset.get(),
                out: self.result(id, node)?,
            },
            Op::Shift => Kernel::Shift {
                x: self.buffer(operands[0]),
                shift: self.vector(operands[1])?,
                out: self.result(id, node)?,
            },
            Op::Rope(table) => Kernel::Rope {
                x: self.buffer(operands[0]),
                table: self.rope_table(*table)?,
                head_dim: Self::last(node)?,
                out: self.result(id, node)?,
            },
            Op::Attention { scale, window, softcap } => {
                let keys = &self.graph.node(operands[1]).fact;
                let cache = Cache { heads: Self::dim(node, keys, 1)?, head_dim: Self::dim(node, keys, 2)? };
                self.lowered.program.caches.push(cache);
                Kernel::Attention {
                    q: self.buffer(operands[0]),
                    k: self.buffer(operands[1]),
                    v: self.buffer(operands[2]),
                    cache: CacheId(self.lowered.program.caches.len() as u32 - 1),
                    heads: Self::dim(node, &node.fact, 1)?,
                    scale: scale.get(),
                    window: *window,
                    softcap: softcap.map(ir::Real::get),
                    sinks: operands.get(3).map(|&sinks| self.vector(sinks)).transpose()?,
                    out: self.result(id, node)?,
                }
            }
            Op::Unary(function) => {
                Kernel::Unary { function: *function, x: self.buffer(operands[0]), out: self.result(id, node)? }
            }
            Op::Binary(function) => Kernel::Binary {
                function: *function,
                a: self.buffer(operands[0]),
                b: self.buffer(operands[1]),
                out: self.result(id, node)?,
            },
            Op::Gated(function) => Kernel::Gated {
                function: *function,
                gate: self.buffer(operands[0]),
                value: self.buffer(operands[1]),
                out: self.result(id, node)?,
            },
            Op::Affine { factor, offset } => Kernel::Affine {
                x: self.buffer(operands[0]),
                factor: factor.get(),
                offset: offset.get(),
                out: self.result(id, node)?,
            },
            Op::Clamp { low, high } => Kernel::Clamp {
                x: self.buffer(operands[0]),
                low: low.map(ir::Real::get),
                high: high.map(ir::Real::get),
                out: self.result(id, node)?,
            },
            Op::Softcap { cap } => {
                Kernel::Softcap { x: self.buffer(operands[0]), cap: cap.get(), out: self.result(id, node)? }
            }
            Op::Softmax => {
                Kernel::Softmax { x: self.buffer(operands[0]), width: Self::last(node)?, out: self.result(id, node)? }
            }
            Op::NormalizeSum => Kernel::NormalizeSum {
                x: self.buffer(operands[0]),
                width: Self::last(node)?,
                out: self.result(id, node)?,
            },
            Op::TopK { k } => Kernel::TopK { x: self.buffer(operands[0]), k: *k, out: self.result(id, node)? },
            Op::Gather => Kernel::Gather {
                x: self.buffer(operands[0]),
                choice: self.buffer(operands[1]),
                out: self.result(id, node)?,
            },
            Op::Combine => Kernel::Combine {
                x: self.buffer(operands[0]),
                weights: self.buffer(operands[1]),
                out: self.result(id, node)?,
            },
            Op::Select => Kernel::Select { x: self.buffer(operands[0]), out: self.result(id, node)? },
        };
        self.lowered.program.steps.push(Step { label: node.label.clone(), op: kernel });
        Ok(())
    }

    /// The buffer of an activation that an earlier node made.
    fn buffer(&self, id: NodeId) -> BufferId {
        self.buffers[&id]
    }

    /// A new buffer for the result of a node.
    fn result(&mut self, id: NodeId, node: &Node) -> Result<BufferId, LowerError> {
        let rows = match node.fact.shape.first() {
            Some(Dim::Selected) => Rows::Selected,
            _ => Rows::Tokens,
        };
        let mut width = 1u64;
        for index in 1..node.fact.shape.len() {
            width = width.saturating_mul(u64::from(Self::dim(node, &node.fact, index)?));
        }
        let width = size(node, width)?;
        let elements = match node.fact.dtype {
            Dtype::Choice(of) => Elements::Index { below: size(node, of)? },
            _ => Elements::Real,
        };
        let buffer = BufferId(self.lowered.program.buffers.len() as u32);
        self.lowered.program.buffers.push(Buffer { rows, width, elements });
        self.buffers.insert(id, buffer);
        Ok(buffer)
    }

    fn last(node: &Node) -> Result<u32, LowerError> {
        Self::dim(node, &node.fact, node.fact.shape.len() - 1)
    }

    fn dim(node: &Node, fact: &Fact, index: usize) -> Result<u32, LowerError> {
        match fact.shape[index] {
            Dim::Fixed(n) => size(node, n),
            Dim::Tokens | Dim::Selected => Err(LowerError::Invalid { reason: "expected symbolic rows first only" }),
        }
    }

    /// A table of frequencies; the first use adds it.
    fn rope_table(&mut self, id: ir::RopeId) -> Result<RopeId, LowerError> {
        if let Some(&table) = self.rope_tables.get(&id) {
            return Ok(table);
        }
        let Some(table) = self.graph.rope_table(id) else {
            return Err(LowerError::Invalid { reason: "expected a table of frequencies for each rope" });
        };
        self.lowered.program.rope_tables.push(table.clone());
        let index = RopeId(self.lowered.program.rope_tables.len() as u32 - 1);
        self.rope_tables.insert(id, index);
        Ok(index)
    }

    /// The weight of a parameter node that is a matrix or a table.
    fn weight(&mut self, id: NodeId) -> Result<WeightId, LowerError> {
        self.stored(id, <[u64]>::to_vec)
    }

    /// The weight of a parameter node that is a vector. Vectors of several heads are one.
    fn vector(&mut self, id: NodeId) -> Result<WeightId, LowerError> {
        self.stored(id, |shape| vec![shape.iter().fold(1, |product, size| product.saturating_mul(*size))])
    }

    /// Where the values of a parameter are stored: those of its table where the plan makes two of them.
    fn source(&self, param: ParamId) -> Option<&View> {
        match &self.graph.params()[param.index()].values {
            Values::Stored(view) => Some(view),
            Values::Tied(_) if self.plan.shares(param) => None,
            Values::Tied(table) => self.source(*table),
        }
    }

    /// The weight of a parameter node; the first use adds it and its recipe.
    fn stored(&mut self, id: NodeId, shape: impl Fn(&[u64]) -> Vec<u64>) -> Result<WeightId, LowerError> {
        let Op::Param(param) = self.graph.node(id).op else {
            return Err(LowerError::Invalid { reason: "expected a parameter where a weight is read" });
        };
        if let Some(&weight) = self.weights.get(&param) {
            return Ok(weight);
        }
        let entry = &self.graph.params()[param.index()];
        let Some(source) = self.source(param) else {
            return Err(LowerError::StillTied { name: entry.name.clone() });
        };
        let (name, shape, source) = (entry.name.clone(), shape(&entry.shape), source.clone());
        let encoding = self.plan.encodings[param.index()];
        let Lowered { program, recipes } = &mut self.lowered;
        let weight = WeightId(program.weights.len() as u32);
        program.weights.push(Weight { name: name.clone(), format: encoding.format.to_string(), shape: shape.clone() });
        recipes.push(Recipe { name, shape, encoding, source });
        self.weights.insert(param, weight);
        Ok(weight)
    }
}

fn size(node: &Node, size: u64) -> Result<u32, LowerError> {
    u32::try_from(size).map_err(|_| LowerError::TooLarge { label: node.label.clone(), size })
}
