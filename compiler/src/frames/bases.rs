//! Requests become frames of edges: which rotations and scales there are, and of what width.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Span;
use lathe_kernels::rotations::{MAX_DENSE, MAX_WIDTH, orders};

use super::{Input, Measured, Request};
use crate::ir::{Basis, Chain, Dim, Factor, Graph, NodeId, Op, ParamId, Real, Rotation, RotationId, Scale, ScaleId};
use crate::model::{self, MatrixError};
use crate::spec::{LAYER, Turn};

/// A matrix that is read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationSource {
    /// The file.
    pub path: PathBuf,
    /// The tensor in it; the only one when absent.
    pub key: Option<String>,
    /// The request.
    pub span: Span,
}

/// The frames that are asked for.
#[derive(Debug, Default)]
pub(super) struct Bases {
    pub(super) rotations: Vec<Rotation>,
    /// The request behind each rotation.
    pub(super) requests: Vec<usize>,
    pub(super) sources: Vec<(RotationId, RotationSource)>,
    pub(super) scales: Vec<Scale>,
    pub(super) measured: Vec<Measured>,
    /// By the node whose result is to be in it.
    pub(super) frames: BTreeMap<NodeId, Chain>,
    /// The request behind each frame.
    pub(super) asked: BTreeMap<NodeId, usize>,
}

/// Finds them. Requests with mistakes have none.
pub(super) fn bases(input: &Input<'_>, diagnostics: &mut Vec<Diagnostic>) -> Bases {
    let mut bases = Bases::default();
    for (index, request) in input.requests.iter().enumerate() {
        let mut refused = Vec::new();
        for &node in request.edges {
            let Some(width) = input.graph.node(node).fact.last() else { continue };
            match bases.frame(input.graph, index, request, node, width) {
                Ok(frame) => {
                    bases.frames.insert(node, frame);
                    bases.asked.insert(node, index);
                }
                // One mistake for each width, however many edges have it.
                Err(fault) if refused.contains(&(fault.code, width)) => {}
                Err(fault) => {
                    refused.push((fault.code, width));
                    diagnostics.push(*fault);
                }
            }
        }
    }
    bases
}

impl Bases {
    /// The frame of one edge, `width` elements wide.
    fn frame(
        &mut self,
        graph: &Graph,
        index: usize,
        request: &Request<'_>,
        node: NodeId,
        width: u64,
    ) -> Result<Chain, Box<Diagnostic>> {
        let Turn { kind, block, seed, ref path, ref key, alpha, .. } = *request.turn;
        let label = &graph.node(node).label;
        let block = block.unwrap_or(width);
        if block == 0 || !width.is_multiple_of(block) {
            let message = format!("blocks of {block} do not divide the {width} elements of `{label}`");
            let help = format!("write {}", choice(&orders::block_sizes(width as usize)));
            return Err(Box::new(Diagnostic::error("S0406", message).label(request.span, "").help(help)));
        }
        let most = if kind.contains("hadamard") { MAX_WIDTH } else { MAX_DENSE } as u64;
        if block > most && !matches!(kind, "none" | "identity" | "smooth") {
            let message = format!("`{kind}` is for blocks of at most {most}, found the {width} elements of `{label}`");
            let sizes = orders::block_sizes(width as usize).into_iter().filter(|size| *size as u64 <= most);
            let help = format!("rotate it in blocks: write {}", choice(&sizes.collect::<Vec<_>>()));
            return Err(Box::new(Diagnostic::error("S0406", message).label(request.span, "").help(help)));
        }
        let basis = match kind {
            "none" | "identity" => return Ok(Chain::IDENTITY),
            "hadamard" | "random_hadamard" => {
                if !orders::constructible(block as usize) {
                    let message =
                        format!("no Hadamard matrix of order {block} is known, for the {width} elements of `{label}`");
                    let sizes = orders::block_sizes(width as usize);
                    let help = format!("rotate it in blocks: write {}", choice(&sizes));
                    return Err(Box::new(Diagnostic::error("S0406", message).label(request.span, "").help(help)));
                }
                Basis::Hadamard { seed }
            }
            "orthogonal" => Basis::Orthogonal { seed: seed.unwrap_or_default() },
            "matrix" => Basis::Matrix { values: None },
            "smooth" => return Ok(self.scale(graph, request, node, alpha, width)),
            other => unreachable!("a rotation `{other}` that no frame is made for"),
        };
        let source = match path {
            Some(path) => Some(RotationSource {
                path: path.clone(),
                key: resolve(key.as_ref(), label, request)?,
                span: request.span,
            }),
            None => None,
        };
        let name = match source.as_ref().and_then(|source| source.key.as_ref()) {
            Some(key) => Turn { key: Some(key.clone()), ..request.turn.clone() }.to_string(),
            None => request.turn.to_string(),
        };
        let rotation = Rotation { name, width: block, basis };
        let known =
            self.rotations.iter().zip(&self.requests).position(|(known, by)| *known == rotation && *by == index);
        let id = RotationId(known.unwrap_or(self.rotations.len()) as u32);
        if known.is_none() {
            self.rotations.push(rotation);
            self.requests.push(index);
            self.sources.extend(source.map(|source| (id, source)));
        }
        // Values are x' = x Q, so x = x' Qᵀ.
        Ok(Chain::of(Factor::Rotation { id, inverse: true }))
    }

    /// A scale of its own for an edge. Values are x' = x ⊘ s.
    fn scale(&mut self, graph: &Graph, request: &Request<'_>, node: NodeId, alpha: Option<Real>, last: u64) -> Chain {
        let id = ScaleId(self.scales.len() as u32);
        let fact = &graph.node(node).fact;
        let width = fact.shape.iter().skip(1).fold(1, |product, dim| match dim {
            Dim::Fixed(size) => product * size,
            Dim::Tokens | Dim::Selected => product,
        });
        // Experts that a row has chosen have one scale for all of them.
        let width =
            if matches!(fact.shape[..], [_, Dim::Fixed(_), _]) && !is_split(graph, node) { last } else { width };
        self.scales.push(Scale { name: request.turn.to_string(), width, values: None });
        let (readers, grouped) = readers(graph, node);
        let alpha = alpha.map_or(0.5, Real::get);
        self.measured.push(Measured { id, node, readers, alpha, width, grouped });
        Chain::of(Factor::Scale { id, inverse: false })
    }
}

/// Whether the middle dimension of a result is heads.
fn is_split(graph: &Graph, node: NodeId) -> bool {
    match graph.node(node).op {
        Op::SplitHeads { .. } | Op::Rope(_) | Op::Attention { .. } => true,
        Op::ExpertLinear { .. } => false,
        _ => graph.operands(node).first().is_some_and(|&operand| is_split(graph, operand)),
    }
}

/// The weights that multiply a result, behind whatever a scale passes through.
fn readers(graph: &Graph, node: NodeId) -> (Vec<ParamId>, Option<(u64, u64)>) {
    let (mut found, mut grouped) = (Vec::new(), None);
    let mut waiting = vec![node];
    while let Some(id) = waiting.pop() {
        for (user, slot) in graph.users(id) {
            let operands = graph.operands(user);
            match graph.node(user).op {
                Op::Linear { .. } | Op::ExpertLinear { .. } if slot == 0 => {
                    let weights = operands[1..].iter().filter_map(|&id| match graph.node(id).op {
                        Op::Param(param) => Some(param),
                        _ => None,
                    });
                    found.extend(
                        weights.filter(|&param| graph.param(param).is_some_and(|entry| entry.shape.len() == 2)),
                    );
                }
                Op::Attention { .. } if slot == 2 => {
                    if let ([_, Dim::Fixed(kv), Dim::Fixed(width)], [_, Dim::Fixed(heads), _]) =
                        (&graph.node(id).fact.shape[..], &graph.node(user).fact.shape[..])
                        && heads > kv
                    {
                        grouped = Some((*width, heads / kv));
                    }
                    waiting.push(user);
                }
                Op::SplitHeads { .. } | Op::MergeHeads | Op::Select | Op::Affine { .. } => waiting.push(user),
                _ => {}
            }
        }
    }
    (found, grouped)
}

/// The key of a matrix for one edge.
fn resolve(key: Option<&String>, label: &str, request: &Request<'_>) -> Result<Option<String>, Box<Diagnostic>> {
    let Some(key) = key else { return Ok(None) };
    if !key.contains(LAYER) {
        return Ok(Some(key.clone()));
    }
    let layer = label.split('.').find(|segment| segment.parse::<u64>().is_ok());
    match layer {
        Some(layer) if request.site != crate::spec::Site::Residual => Ok(Some(key.replace(LAYER, layer))),
        _ => {
            let message = format!("the key has `{LAYER}`, and `{label}` is in no layer of its own");
            let help = "name one tensor, or narrow the request to layers";
            Err(Box::new(Diagnostic::error("S0407", message).label(request.span, "").help(help)))
        }
    }
}

/// `block: 128, 64 or 32`.
fn choice(sizes: &[usize]) -> String {
    let shown: Vec<String> =
        sizes.iter().filter(|size| **size > 1).take(3).map(|size| format!("`block: {size}`")).collect();
    match &shown[..] {
        [] => "`identity`".to_owned(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// Reads the matrices that requests name into the table of rotations.
///
/// # Errors
/// A diagnostic for each that is no rotation of its width.
pub fn read_matrices(frames: &mut super::Frames) -> Result<(), Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let sources = frames.sources.clone();
    let Some(bases) = frames.edit.as_mut().and_then(|edit| edit.bases.as_mut()) else { return Ok(()) };
    for (id, source) in &sources {
        let rotation = &mut bases.rotations[id.index()];
        match read_matrix(source, rotation.width) {
            Ok(values) => rotation.basis = Basis::Matrix { values: Some(values) },
            Err(error) => {
                let (message, help) = explained(error, rotation.width);
                faults.push(Diagnostic::error("S0407", message).label(source.span, "").help(help));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// What is wrong with a matrix, and how to mend it.
fn explained(error: MatrixError, width: u64) -> (String, String) {
    match error {
        MatrixError::File(message) => {
            (message, "the path leads from the folder of the spec; on the command line, from where you are".to_owned())
        }
        MatrixError::Key(message) => {
            (message, "name a tensor of that file; `{layer}` in a key stands for the number of the layer".to_owned())
        }
        MatrixError::Tensor(message) => {
            let size = format!("[{width}, {width}]");
            (message, format!("name a tensor {size} of f64, f32, f16 or bf16 whose rows are orthonormal"))
        }
    }
}

/// Reads a matrix, which must be orthogonal.
fn read_matrix(source: &RotationSource, width: u64) -> Result<Arc<[f32]>, MatrixError> {
    let RotationSource { path, key, .. } = source;
    let values: Arc<[f32]> = model::read_matrix(path, key.as_deref(), width)?.into();
    let matrix = lathe_kernels::rotations::Rotation::matrix(width as usize, Arc::clone(&values));
    let tensor = key.as_ref().map_or_else(String::new, |key| format!("tensor `{key}`: "));
    matrix.map(|_| values).map_err(|error| MatrixError::Tensor(format!("{}: {tensor}{error}", path.display())))
}
