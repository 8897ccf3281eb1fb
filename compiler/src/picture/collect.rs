//! What of a graph is drawn: applications of modules, and operations that compute something.

use std::collections::BTreeMap;

use super::fold::LayerPath;
use super::{Content, ModuleNote};
use crate::elaborate::{Elaborated, ModuleId};
use crate::ir::{Fact, Graph, NodeId, Op, ParamId};
use lathe_grammar::pattern::Kind;
use lathe_runtime::program::Binary;

/// Something to draw, before layers are folded.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Path of the module or of the operation.
    pub(super) label: &'a str,
    /// The layer that it is in.
    pub(super) layer: Option<LayerPath<'a>>,
    pub(super) op: &'a Op,
    pub(super) fact: &'a Fact,
    pub(super) module: Option<ModuleId>,
    pub(super) content: Content,
    /// Earlier items whose results it reads, each once.
    pub(super) operands: Vec<usize>,
}

/// How a node of the graph is shown.
enum Shown {
    /// By a node of its own.
    Drawn,
    /// By those that use its result, as if they used its first operand.
    Through,
    /// Not at all: what everything reads says nothing.
    Hidden,
}

/// The items of a model in topological order. `notes` are by [`ModuleId`].
pub(super) fn items<'a>(model: &'a Elaborated, notes: &[ModuleNote]) -> Vec<Item<'a>> {
    let graph = &model.graph;
    let mut owners: BTreeMap<ParamId, ModuleId> = BTreeMap::new();
    for (index, module) in model.modules.iter().enumerate() {
        owners.extend(module.params.iter().map(|&param| (param, ModuleId(index as u32))));
    }
    let mut items = Vec::new();
    let mut item_of: BTreeMap<NodeId, usize> = BTreeMap::new();
    for id in graph.topological().expect("a graph that was elaborated has no cycle") {
        let node = graph.node(id);
        let operands = graph.operands(id);
        match shown(graph, id) {
            Shown::Hidden => {}
            Shown::Through => {
                if let Some(&item) = operands.first().and_then(|operand| item_of.get(operand)) {
                    item_of.insert(id, item);
                }
            }
            Shown::Drawn => {
                let owner = |operand: &NodeId| match graph.node(*operand).op {
                    Op::Param(param) => owners.get(&param).copied(),
                    _ => None,
                };
                // One, but for a choice of experts.
                let mut modules: Vec<ModuleId> = operands.iter().filter_map(owner).collect();
                modules.dedup();
                modules.truncate(if let Op::ExpertLinear { experts, .. } = node.op { experts as usize } else { 1 });
                let module = modules.first().copied();
                let layer = LayerPath::split(&node.label);
                let content = match module {
                    Some(id) => module_content(model, id, layer, modules.len(), together(&modules, notes)),
                    None => operation_content(graph, id),
                };
                let mut read: Vec<usize> = Vec::new();
                for item in operands.iter().filter_map(|operand| item_of.get(operand)) {
                    if !read.contains(item) {
                        read.push(*item);
                    }
                }
                item_of.insert(id, items.len());
                let (label, op, fact) = (&node.label, &node.op, &node.fact);
                items.push(Item { label, layer, op, fact, module, content, operands: read });
            }
        }
    }
    items
}

fn shown(graph: &Graph, id: NodeId) -> Shown {
    match &graph.node(id).op {
        Op::Param(_) | Op::Positions | Op::Selection => Shown::Hidden,
        Op::SplitHeads { .. } | Op::MergeHeads => Shown::Through,
        // A norm is one module, though up to four nodes.
        Op::Centre | Op::Normalize { .. } | Op::Gain { .. } => match graph.users(id)[..] {
            [(user, 0)] if continues_norm(&graph.node(id).op, &graph.node(user).op) => Shown::Through,
            _ => Shown::Drawn,
        },
        Op::Tokens
        | Op::Embed { .. }
        | Op::Linear { .. }
        | Op::ExpertLinear { .. }
        | Op::Shift
        | Op::Norm { .. }
        | Op::Rotate { .. }
        | Op::Rope(_)
        | Op::Attention { .. }
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Gated(_)
        | Op::Affine { .. }
        | Op::Clamp { .. }
        | Op::Softcap { .. }
        | Op::Softmax
        | Op::NormalizeSum
        | Op::TopK { .. }
        | Op::Gather
        | Op::Combine
        | Op::Select
        | Op::Output => Shown::Drawn,
    }
}

/// Whether an operation is a part of a norm that goes on with its user.
fn continues_norm(op: &Op, user: &Op) -> bool {
    matches!(
        (op, user),
        (Op::Centre, Op::Normalize { .. }) | (Op::Normalize { .. }, Op::Gain { .. }) | (Op::Gain { .. }, Op::Shift)
    )
}

/// What becomes of modules that are drawn as one; there is at least one.
fn together(modules: &[ModuleId], notes: &[ModuleNote]) -> ModuleNote {
    let mut all = modules.iter().map(|id| &notes[id.0 as usize]);
    let mut note = all.next().cloned().unwrap_or_else(|| unreachable!("a drawn module has a note"));
    for other in all {
        note.bytes_before = note.bytes_before.saturating_add(other.bytes_before);
        note.bytes_after = note.bytes_after.saturating_add(other.bytes_after);
        if !note.format.split(" / ").any(|format| format == other.format) {
            note.format = format!("{} / {}", note.format, other.format);
        }
    }
    note
}

fn module_content(
    model: &Elaborated,
    id: ModuleId,
    layer: Option<LayerPath<'_>>,
    experts: usize,
    note: ModuleNote,
) -> Content {
    let module = &model.modules[id.0 as usize];
    let name = match layer {
        Some(LayerPath { rest: "", container, .. }) => container,
        Some(LayerPath { rest, .. }) => rest,
        None => &module.path,
    };
    let weight = module.params.first().and_then(|&weight| model.graph.param(weight));
    Content::Module {
        name: name.to_owned(),
        kind: module.kind.name(),
        compact: module.kind == Kind::Norm,
        shape: weight.map(|weight| many(experts, &weight.shape)).unwrap_or_default(),
        note,
    }
}

/// The shape of so many weights of one shape.
fn many(count: usize, shape: &[u64]) -> Vec<u64> {
    let count = (count > 1).then_some(count as u64);
    count.into_iter().chain(shape.iter().copied()).collect()
}

fn operation_content(graph: &Graph, id: NodeId) -> Content {
    let node = graph.node(id);
    let details = match &node.op {
        Op::Binary(Binary::Add) => return Content::Sign("+"),
        Op::Binary(Binary::Mul) => return Content::Sign("×"),
        Op::Attention { window, .. } => {
            let heads = |id: NodeId| graph.node(id).fact.shape.get(1).map_or_else(String::new, ToString::to_string);
            let operands = graph.operands(id);
            let keys = operands.get(1).map(|&keys| heads(keys)).unwrap_or_default();
            let heads = format!("{} heads, {keys} of k and v", heads(id));
            [Some(heads), window.map(|window| format!("window {window}"))].into_iter().flatten().collect()
        }
        Op::Output => vec![node.fact.to_string()],
        _ => Vec::new(),
    };
    let name = match &node.op {
        Op::Output => "logits",
        op => op.name(),
    };
    Content::Operation { name, details }
}
