//! The verified graph becomes a Program, and recipes for the weights that it refers to.
//!
//! Lowering looks at the graph, and at the plan for the formats of weights: it takes nodes in topological order, gives
//! every result a buffer and every operation a step. Splitting and merging heads moves nothing, so their results are the
//! buffer of their operand.

use std::collections::BTreeMap;
use std::sync::Arc;

use lathe_kernels::rotations::{Rotation, RotationError};
use lathe_runtime::program::{
    self, Buffer, BufferId, Cache, CacheId, Compute, Elements, Index, Op as Kernel, PROGRAM_VERSION, Program, RopeId,
    RotationId, Rows, Step, Weight, WeightId,
};

use crate::ir::{self, Basis, Dim, Dtype, Fact, Graph, Node, NodeId, Op, ParamId, Values, View};
use crate::plan::{Encoding, Plan};
use crate::spec;

/// How one weight of the artifact is made from the checkpoint: its source, then, if anything, what [`Folded`] says.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Its name in the artifact.
    pub name: String,
    /// `[out, in]`, `[vocab, n]` or `[n]`.
    pub shape: Vec<u64>,
    /// How it is written.
    pub encoding: Encoding,
    /// Where its values come from, in its own order.
    pub source: Source,
    /// What becomes of them before they are written.
    pub folded: Folded,
}

impl Recipe {
    /// The stored elements that it is made of, if it is.
    pub fn view(&self) -> Option<&View> {
        match &self.source {
            Source::Stored(view) => Some(view),
            Source::Uniform | Source::Values(_) => None,
        }
    }
}

/// Where the values of a weight come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Elements of a stored tensor.
    Stored(View),
    /// A vector `[n]` of 1/√n each.
    Uniform,
    /// Values that are known before packing, row-major.
    Values(Arc<[f64]>),
}

/// What becomes of the values of a weight, in f64 and in the order of the fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Folded {
    /// Added to each value.
    pub offset: f64,
    /// Of a bias `[out]`: added to it.
    pub product: Option<FoldedProduct>,
    /// Map every row, one after the other.
    pub rows: Vec<Map>,
    /// Map every column of a matrix, one after the other.
    pub columns: Vec<Map>,
}

impl Folded {
    /// Whether values stay as they are.
    pub fn is_identity(&self) -> bool {
        *self == Folded::default()
    }
}

/// `factor · v Wᵀ` `[out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedProduct {
    /// W `[out, in]`.
    pub weight: View,
    /// v `[in]`.
    pub vector: View,
    /// Multiplies all of it.
    pub factor: f64,
}

/// A linear map of rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Map {
    /// x ↦ x Q, or x Qᵀ, block by block.
    Rotate {
        /// Q: index into [`Lowered::rotations`].
        rotation: usize,
        /// Whether it is Qᵀ.
        inverse: bool,
    },
    /// x ↦ x ⊙ (offset + g), block by block.
    Gain {
        /// g.
        gain: View,
        /// Added to it.
        offset: f64,
    },
    /// x ↦ x ⊙ s, or x ⊘ s, block by block.
    Scale {
        /// s.
        values: Arc<[f64]>,
        /// Whether it divides.
        inverse: bool,
    },
}

/// A program and how its weights are made, in the order of [`Program::weights`].
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    /// What runs.
    pub program: Program,
    /// One for each weight.
    pub recipes: Vec<Recipe>,
    /// The rotations that recipes refer to: those of the graph, by [`ir::RotationId`].
    pub rotations: Vec<Rotation>,
    /// How to turn the values of each buffer back to those that the operations of the model state.
    pub frames: Vec<Vec<Map>>,
    /// Where the result of each node is.
    pub buffers: BTreeMap<NodeId, BufferId>,
}

/// A graph that is valid but cannot be lowered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
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
    /// A rotation that cannot be made.
    #[error("{name}: {source}")]
    Rotation {
        /// As the spec writes it.
        name: String,
        /// Why.
        source: RotationError,
    },
    /// A matrix whose values were not read.
    #[error("{name}: its values have not been read")]
    Unread {
        /// As the spec writes it.
        name: String,
    },
    /// A scale that was not measured.
    #[error("{name}: its scales have not been measured")]
    Unmeasured {
        /// As the spec writes it.
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
    let built = graph.rotations().iter().map(build).collect::<Result<Vec<_>, _>>()?;
    let mut lowering = Lowering {
        graph,
        plan,
        buffers: BTreeMap::new(),
        weights: BTreeMap::new(),
        rope_tables: BTreeMap::new(),
        rotations: BTreeMap::new(),
        lowered: Lowered {
            program: Program {
                version: PROGRAM_VERSION,
                model: model.to_string(),
                compute: compute(plan.compute)?,
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
            rotations: built,
            frames: Vec::new(),
            buffers: BTreeMap::new(),
        },
    };
    let output = graph.output().ok_or(LowerError::Invalid { reason: "expected one output" })?;
    for id in graph.topological().ok_or(LowerError::Invalid { reason: "expected no cycle" })? {
        lowering.node(id)?;
    }
    let logits = graph.operands(output)[0];
    lowering.lowered.program.output = lowering.buffer(logits);
    lowering.lowered.buffers = lowering.buffers;
    Ok(lowering.lowered)
}

/// How exactly products are computed.
fn compute(asked: spec::Compute) -> Result<Compute, LowerError> {
    match asked {
        spec::Compute::F32 => Ok(Compute::F32),
        spec::Compute::Bf16 => Ok(Compute::Bf16),
        spec::Compute::F16 => Err(LowerError::Invalid { reason: "expected `compute => f32` or `compute => bf16`" }),
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    buffers: BTreeMap<NodeId, BufferId>,
    weights: BTreeMap<ParamId, WeightId>,
    rope_tables: BTreeMap<ir::RopeId, RopeId>,
    rotations: BTreeMap<ir::RotationId, RotationId>,
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
            Op::Linear { input } => Kernel::MatMul {
                x: self.buffer(operands[0]),
                input: *input,
                weight: self.weight(operands[1])?,
                bias: operands.get(2).map(|&bias| self.vector(bias)).transpose()?,
                out: self.result(id, node)?,
            },
            Op::ExpertLinear { experts, input } => {
                let (weights, biases) = operands[2..].split_at(*experts as usize);
                Kernel::ExpertMatMul {
                    x: self.buffer(operands[0]),
                    input: *input,
                    choice: self.buffer(operands[1]),
                    weights: weights.iter().map(|&weight| self.weight(weight)).collect::<Result<_, _>>()?,
                    biases: biases.iter().map(|&bias| self.vector(bias)).collect::<Result<_, _>>()?,
                    out: self.result(id, node)?,
                }
            }
            Op::Centre => {
                let x = self.buffer(operands[0]);
                let along = operands.get(1).map(|&along| self.vector(along)).transpose()?;
                Kernel::Centre { x, along, width: Self::last(node)?, out: self.result(id, node)? }
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
            Op::Norm { centre, along, eps, gain, shift } => {
                let mut vectors = operands[1..].iter().map(|&vector| self.vector(vector));
                let along = along.then(|| vectors.next()).flatten().transpose()?;
                let gain_weight = gain.and_then(|_| vectors.next()).transpose()?;
                let shift = shift.then(|| vectors.next()).flatten().transpose()?;
                Kernel::Norm {
                    x: self.buffer(operands[0]),
                    centre: *centre,
                    along,
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
            Op::Rotate { rotation, inverse } => Kernel::Rotate {
                x: self.buffer(operands[0]),
                rotation: self.rotation(*rotation)?,
                inverse: *inverse,
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
        let frame = self.maps(&node.frame)?;
        self.lowered.frames.push(frame);
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

    /// Where the values of a parameter come from: those of its table where the plan makes two of them.
    fn source(&self, param: ParamId) -> Result<Source, LowerError> {
        let entry = &self.graph.params()[param.index()];
        match &entry.values {
            Values::Stored(view) => Ok(Source::Stored(view.clone())),
            Values::Tied(_) if self.plan.shares(param) => Err(LowerError::StillTied { name: entry.name.clone() }),
            Values::Tied(table) => self.source(*table),
            Values::Uniform => Ok(Source::Uniform),
            Values::Zeros => Ok(Source::Values(vec![0.0; elements(&entry.shape)?].into())),
            Values::Scale { id, inverse } => {
                let values = self.scale(*id)?;
                let values = if *inverse { values.iter().map(|value| value.recip()).collect() } else { values };
                Ok(Source::Values(values))
            }
        }
    }

    /// Which stored elements a parameter is.
    fn view(&self, param: ParamId) -> Result<View, LowerError> {
        match self.source(param)? {
            Source::Stored(view) => Ok(view),
            Source::Uniform | Source::Values(_) => {
                Err(LowerError::Invalid { reason: "expected stored values where a fold reads a parameter" })
            }
        }
    }

    fn scale(&self, id: ir::ScaleId) -> Result<Arc<[f64]>, LowerError> {
        let scale = self.graph.scale(id).ok_or(LowerError::Invalid { reason: "expected an entry for each scale" })?;
        scale.values.clone().ok_or_else(|| LowerError::Unmeasured { name: scale.name.clone() })
    }

    /// What a chain does, on values.
    fn maps(&self, chain: &ir::Chain) -> Result<Vec<Map>, LowerError> {
        let map = |factor: &ir::Factor| match *factor {
            ir::Factor::Rotation { id, inverse } => Ok(Map::Rotate { rotation: id.index(), inverse }),
            ir::Factor::Gain { param, offset } => {
                Ok(Map::Gain { gain: self.view(param)?, offset: f64::from(offset.get()) })
            }
            ir::Factor::Scale { id, inverse } => Ok(Map::Scale { values: self.scale(id)?, inverse }),
        };
        chain.factors().iter().map(map).collect()
    }

    fn folded(&self, fold: &ir::Fold) -> Result<Folded, LowerError> {
        let product = |product: ir::Product| -> Result<FoldedProduct, LowerError> {
            Ok(FoldedProduct {
                weight: self.view(product.weight)?,
                vector: self.view(product.vector)?,
                factor: f64::from(product.factor.get()),
            })
        };
        Ok(Folded {
            offset: fold.offset.map_or(0.0, |offset| f64::from(offset.get())),
            product: fold.product.map(product).transpose()?,
            rows: self.maps(&fold.rows)?,
            columns: self.maps(&fold.columns)?,
        })
    }

    /// A rotation; the first use adds it, and a matrix of the user becomes a weight.
    fn rotation(&mut self, id: ir::RotationId) -> Result<RotationId, LowerError> {
        if let Some(&rotation) = self.rotations.get(&id) {
            return Ok(rotation);
        }
        let Some(entry) = self.graph.rotation(id) else {
            return Err(LowerError::Invalid { reason: "expected an entry for each rotation" });
        };
        let Lowered { program, recipes, rotations, .. } = &mut self.lowered;
        let weights = &mut program.weights;
        let rotation = program::Rotation::of(&rotations[id.index()], |values| {
            let (name, shape) = (format!("rotations.{}", id.0), vec![entry.width; 2]);
            let encoding = Encoding::EXACT;
            let format = encoding.format.to_string();
            weights.push(Weight { name: name.clone(), format, shape: shape.clone() });
            let source = Source::Values(values.iter().map(|&value| f64::from(value)).collect());
            recipes.push(Recipe { name, shape, encoding, source, folded: Folded::default() });
            WeightId(weights.len() as u32 - 1)
        });
        program.rotations.push(rotation);
        let index = RotationId(program.rotations.len() as u32 - 1);
        self.rotations.insert(id, index);
        Ok(index)
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
        let (source, folded) = (self.source(param)?, self.folded(&entry.fold)?);
        let (name, shape) = (entry.name.clone(), shape(&entry.shape));
        let encoding = self.plan.encodings[param.index()];
        let Lowered { program, recipes, .. } = &mut self.lowered;
        let weight = WeightId(program.weights.len() as u32);
        program.weights.push(Weight { name: name.clone(), format: encoding.format.to_string(), shape: shape.clone() });
        recipes.push(Recipe { name, shape, encoding, source, folded });
        self.weights.insert(param, weight);
        Ok(weight)
    }
}

/// Makes a rotation of the graph.
fn build(entry: &ir::Rotation) -> Result<Rotation, LowerError> {
    let name = || entry.name.clone();
    let width = usize::try_from(entry.width).map_err(|_| LowerError::TooLarge { label: name(), size: entry.width })?;
    let built = match &entry.basis {
        Basis::Hadamard { seed: None } => Rotation::hadamard(width),
        Basis::Hadamard { seed: Some(seed) } => Rotation::random_hadamard(width, *seed),
        Basis::Orthogonal { seed } => Rotation::orthogonal(width, *seed),
        Basis::Matrix { values: Some(values) } => Rotation::matrix(width, Arc::clone(values)),
        Basis::Matrix { values: None } => return Err(LowerError::Unread { name: name() }),
    };
    built.map_err(|source| LowerError::Rotation { name: name(), source })
}

fn elements(shape: &[u64]) -> Result<usize, LowerError> {
    let product = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size));
    let product = product.and_then(|product| u32::try_from(product).ok());
    product.map(|product| product as usize).ok_or(LowerError::Invalid { reason: "expected vectors below 2^32" })
}

fn size(node: &Node, size: u64) -> Result<u32, LowerError> {
    u32::try_from(size).map_err(|_| LowerError::TooLarge { label: node.label.clone(), size })
}
