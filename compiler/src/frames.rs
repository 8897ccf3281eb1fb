//! Frames: rotations and scalings as types of edges, found from the requests of a spec.
//!
//! A request says in which frame the values of some edges are to be. Everything else follows from the operations: what
//! passes a frame through, what absorbs one into its parameters, and what needs the values as they are. Where the frame that
//! an operation gives and the one that an edge has to have differ, and no parameter can absorb the difference, an operation
//! at run time makes up for it.
//!
//! ```text
//! requests ─ bases ─▶ frames of edges ─ wanted ─▶ what users would like ─ infer ─▶ frame of every result
//!                                                                            └─▶ one Edit: online operations, folds
//! ```
//!
//! What each operation does with frames is in `wanted.rs` (from users to operands) and `infer.rs` (from operands to results),
//! one arm each. Nothing here reads a weight, and no name of a module means anything.

mod bases;
mod infer;
mod uses;
mod wanted;

use std::collections::BTreeSet;
use std::sync::Arc;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Span;

use crate::elaborate::Elaborated;
use crate::ir::{Bases, Basis, Chain, Edit, Factor, Graph, NodeId, ParamId, RotationId, ScaleId};
use crate::plan::{Encoding, Plan, PlannedRotation, Tie};
use crate::spec::{Site, TableBasis, Turn};

pub use bases::{RotationSource, read_matrices};

/// Edges that are to be in a frame.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Where they are.
    pub site: Site,
    /// The nodes whose results they carry.
    pub edges: &'a [NodeId],
    /// By what.
    pub turn: &'a Turn,
    /// Whether an operation at run time is refused.
    pub offline: bool,
    /// The text that asks for it.
    pub span: Span,
}

impl<'a> Request<'a> {
    fn of(rotation: &'a PlannedRotation) -> Request<'a> {
        let PlannedRotation { site, ref edges, ref turn, offline, span, .. } = *rotation;
        Request { site, edges, turn, offline, span }
    }
}

/// What inference works on.
pub struct Input<'a> {
    /// As the definition states it.
    pub graph: &'a Graph,
    /// What is asked for. No edge is in two of them.
    pub requests: &'a [Request<'a>],
    /// The parameter that is read in place of another: the table of a head that shares it.
    pub table_of: &'a dyn Fn(ParamId) -> ParamId,
    /// How a table that several operations read is stored.
    pub table_basis: TableBasis,
}

/// What an operation at run time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Maps rows.
    Map(Factor),
    /// Takes means off along a vector of its own, in place of the mean of the elements.
    Centre,
}

/// An operation at run time that a frame needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Online {
    /// The module or operation behind whose result it stands.
    pub label: String,
    /// What it does to rows.
    pub does: Does,
    /// Elements of a row that it acts on, blocks together.
    pub width: u64,
    /// The request that needs it.
    pub request: usize,
}

impl Online {
    /// The rotation that it is, if it is one.
    fn rotation(&self) -> Option<RotationId> {
        match self.does {
            Does::Map(Factor::Rotation { id, .. }) => Some(id),
            Does::Map(Factor::Gain { .. } | Factor::Scale { .. }) | Does::Centre => None,
        }
    }
}

/// A scale to be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Which it is.
    pub id: ScaleId,
    /// The node whose result it scales.
    pub node: NodeId,
    /// The weights `[out, in]` that read that result, as stored.
    pub readers: Vec<ParamId>,
    /// Exponent of the maxima of activations.
    pub alpha: f32,
    /// Elements of a row of the result.
    pub width: u64,
    /// The heads that share each block of the scale, where values pass through grouped attention: `(head_dim, times)`.
    pub grouped: Option<(u64, u64)>,
}

/// A scale that is another for several heads each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    /// The other one.
    pub of: ScaleId,
    /// Which it is.
    pub id: ScaleId,
    /// Elements of a head.
    pub head_dim: u64,
    /// How often each head of the other is repeated.
    pub times: u64,
}

/// Frames of a graph.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// Changes the graph to one that holds its values in these frames; `None` when all are the identity.
    pub edit: Option<Edit>,
    /// The request behind each rotation, by their ids.
    pub requests: Vec<usize>,
    /// Operations at run time, in the order of the graph.
    pub online: Vec<Online>,
    /// Scales that have to be measured before anything is packed.
    pub measured: Vec<Measured>,
    /// Scales that follow from measured ones.
    pub repeated: Vec<Repeated>,
    /// Where rotations come from that are not made from numbers.
    pub sources: Vec<(RotationId, RotationSource)>,
    /// Parameters whose values change.
    pub folded: BTreeSet<ParamId>,
    /// Parameters that nothing reads any more, as they went into others.
    pub dropped: BTreeSet<ParamId>,
    /// Parameters that the graph gains.
    pub added: usize,
}

impl Frames {
    /// Sets the values of measured scales.
    pub fn set_scale(&mut self, id: ScaleId, values: Arc<[f64]>) {
        let Some(bases) = self.edit.as_mut().and_then(|edit| edit.bases.as_mut()) else { return };
        for repeated in self.repeated.iter().filter(|repeated| repeated.of == id) {
            let heads = values.chunks(repeated.head_dim as usize);
            let repeat = |head| std::iter::repeat_n(head, repeated.times as usize);
            let of_heads: Vec<f64> = heads.flat_map(repeat).flatten().copied().collect();
            bases.scales[repeated.id.index()].values = Some(of_heads.into());
        }
        bases.scales[id.index()].values = Some(values);
    }

    fn bases(&self) -> Option<&Bases> {
        self.edit.as_ref().and_then(|edit| edit.bases.as_deref())
    }

    /// A request whose rotation goes into a parameter.
    fn request_for(&self, param: ParamId) -> Option<usize> {
        let (_, fold) = self.bases()?.folds.iter().find(|(folded, _)| *folded == param)?;
        let rotation = |factor: &Factor| match factor {
            Factor::Rotation { id, .. } => self.requests.get(id.index()).copied(),
            Factor::Gain { .. } | Factor::Scale { .. } => None,
        };
        fold.rows.factors().iter().chain(fold.columns.factors()).find_map(rotation)
    }

    /// How many results are held in a frame of their own.
    pub fn edges(&self) -> usize {
        let added = self.edit.iter().flat_map(|edit| &edit.add).filter(|node| !node.frame.is_identity());
        added.count() + self.bases().map_or(0, |bases| bases.frames.len())
    }

    /// Bytes of what parameters that are added, and matrices that are multiplied with at run time, take when packed.
    pub fn added_bytes(&self) -> u64 {
        let Some(bases) = self.bases() else { return 0 };
        let elements = |shape: &[u64]| shape.iter().fold(1_u64, |product, size| product.saturating_mul(*size));
        let matrices: BTreeSet<RotationId> = self.online.iter().filter_map(Online::rotation).collect();
        let is_matrix = |id: &&RotationId| matches!(bases.rotations[id.index()].basis, Basis::Matrix { .. });
        let of_matrices = matrices.iter().filter(is_matrix).map(|id| bases.rotations[id.index()].width);
        let vectors = bases.params.iter().map(|param| elements(&param.shape));
        vectors.chain(of_matrices.map(|width| elements(&[width, width]))).fold(0, |sum, n| sum + 4 * n)
    }

    /// The rotations, by their ids.
    pub fn rotations(&self) -> &[crate::ir::Rotation] {
        self.bases().map_or(&[], |bases| &bases.rotations)
    }

    /// The scales, by their ids.
    pub fn scales(&self) -> &[crate::ir::Scale] {
        self.bases().map_or(&[], |bases| &bases.scales)
    }
}

/// Finds the frame of every edge. Mistakes of requests are added to `diagnostics`.
pub fn infer(input: &Input<'_>, diagnostics: &mut Vec<Diagnostic>) -> Frames {
    let bases = bases::bases(input, diagnostics);
    if bases.frames.values().all(Chain::is_identity) {
        return Frames::default();
    }
    infer::run(input, bases, diagnostics)
}

/// Finds the frames of a plan, and the encodings of parameters that they add. Mistakes are added to `diagnostics`.
pub fn settle(plan: &mut Plan, model: &Elaborated, diagnostics: &mut Vec<Diagnostic>) {
    let table_of = |param: ParamId| {
        let replaced = plan.ties.iter().filter_map(Tie::replacement).find(|(head, _)| *head == param);
        replaced.map_or(param, |(_, table)| table)
    };
    let requests: Vec<Request<'_>> = plan.rotations.iter().map(Request::of).collect();
    let input = Input { graph: &model.graph, requests: &requests, table_of: &table_of, table_basis: plan.table_basis };
    let frames = infer(&input, diagnostics);
    diagnostics.extend(rounded_again(plan, &frames, model, &table_of));
    let given = model.graph.params().len();
    plan.encodings.truncate(given);
    plan.encodings.resize(given + frames.added, Encoding::EXACT);
    for module in &model.modules {
        // A bias is kept as its weight is, in f32 beside f32; gains have nobody to follow.
        let Some(first) = module.params.first() else { continue };
        let is_vector = |param: &&ParamId| model.graph.params()[param.index()].shape.len() == 1;
        let exact = is_vector(&first) || plan.encodings[first.index()] == Encoding::EXACT;
        for param in module.params.iter().filter(|param| exact && frames.folded.contains(param)).filter(is_vector) {
            plan.encodings[param.index()] = Encoding::EXACT;
        }
    }
    plan.frames = frames;
}

/// Modules whose very values were asked for, and that frames change.
fn rounded_again(
    plan: &Plan,
    frames: &Frames,
    model: &Elaborated,
    table_of: &dyn Fn(ParamId) -> ParamId,
) -> Vec<Diagnostic> {
    // One rule is one mistake, however many modules it is about.
    let mut found: Vec<(Span, Diagnostic, usize)> = Vec::new();
    for (module, ruled) in model.modules.iter().zip(&plan.ruled) {
        let is_folded = module.params.iter().any(|param| frames.folded.contains(&table_of(*param)));
        let stated = plan.rule_behind(&ruled.format).and_then(|rule| rule.format);
        let Some(stated) = stated.filter(|_| is_folded && ruled.format.format.is_exact()) else { continue };
        if let Some((.., more)) = found.iter_mut().find(|(span, ..)| *span == stated.span) {
            *more += 1;
            continue;
        }
        let message =
            format!("`{}` is to keep its very values, and a rotation changes and rounds them again", module.path);
        let touches = module.params.iter().find_map(|param| frames.request_for(table_of(*param)));
        let request = plan.rotations.get(touches.unwrap_or(0)).map(|rotation| rotation.span);
        let diagnostic = Diagnostic::error("S0408", message)
            .label(stated.span, "")
            .label_if(request, "asked for here")
            .help("write `keep`, which keeps the dtype, or rotate edges that this module does not touch");
        found.push((stated.span, diagnostic, 0));
    }
    let counted = |(_, diagnostic, more): (Span, Diagnostic, usize)| match more {
        0 => diagnostic,
        1 => diagnostic.note("the same holds once more"),
        _ => diagnostic.note(format!("the same holds {more} times more")),
    };
    found.into_iter().map(counted).collect()
}
