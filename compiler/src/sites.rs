//! Sites: edges of the graph that rotations act on, found from the operations alone.
//!
//! An edge is named by the node whose result it carries.

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::pattern::Pattern;
use lathe_runtime::program::Binary;

use crate::elaborate::{Elaborated, Module};
use crate::ir::{Graph, NodeId, Op, ParamId};
use crate::spec::Site;

/// An edge of a site, and what a pattern is asked about to narrow the site to it.
#[derive(Debug, Clone, Copy)]
pub struct Edge<'m> {
    /// The node whose result it carries.
    pub id: NodeId,
    /// The label of that node.
    pub label: &'m str,
    /// The module that reads it, at [`Site::Input`].
    pub reader: Option<&'m Module>,
}

impl Edge<'_> {
    /// Whether it lies in, or at [`Site::Input`] leads into, what the pattern matches.
    pub fn is_within(&self, pattern: &Pattern, model: &Elaborated) -> bool {
        if let Some(module) = self.reader {
            return model.is_match(pattern, module);
        }
        let children = |path: &str| model.indexed_children(path);
        let ends = self.label.match_indices('.').map(|(dot, _)| dot).chain([self.label.len()]);
        ends.into_iter().any(|end| pattern.matches_container(&self.label[..end], &children))
    }
}

/// The edges of a site, in the order of the graph; of those only the ones in, or into, what `within` matches.
/// [`Site::Input`] has none without it.
pub fn edges(model: &Elaborated, site: Site, within: Option<&Pattern>) -> Vec<NodeId> {
    let all = find(model, site).into_iter();
    let found = all.filter(|edge| match within {
        Some(pattern) => edge.is_within(pattern, model),
        None => edge.reader.is_none(),
    });
    found.map(|edge| edge.id).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Every edge of a site; at [`Site::Input`] once for each module that reads it.
pub fn find(model: &Elaborated, site: Site) -> Vec<Edge<'_>> {
    let graph = &model.graph;
    let found: BTreeSet<NodeId> = match site {
        Site::Residual => residual(graph),
        Site::Value => attention_operands(graph, &[2]),
        Site::QueryKey => attention_operands(graph, &[0, 1]),
        Site::FfnHidden => {
            let hidden =
                |id: &NodeId| matches!(graph.node(*id).op, Op::Unary(_) | Op::Gated(_) | Op::Binary(Binary::Mul));
            linears(graph).map(|(_, input)| input).filter(hidden).collect()
        }
        Site::Input => {
            let owners: BTreeMap<ParamId, &Module> =
                model.modules.iter().filter_map(|module| Some((*module.params.first()?, module))).collect();
            // A linear has one weight, a choice of experts one of each.
            let weight = |id: NodeId| match graph.node(id).op {
                Op::Param(param) => owners.get(&param).copied(),
                _ => None,
            };
            let edges = |(linear, id): (NodeId, NodeId)| {
                let readers = graph.operands(linear).into_iter().filter_map(weight);
                readers.map(move |reader| Edge { id, label: &graph.node(id).label, reader: Some(reader) })
            };
            return linears(graph).flat_map(edges).collect();
        }
    };
    found.into_iter().map(|id| Edge { id, label: &graph.node(id).label, reader: None }).collect()
}

/// Every linear, those of experts too, and its input.
fn linears(graph: &Graph) -> impl Iterator<Item = (NodeId, NodeId)> {
    let linear = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Linear { .. } | Op::ExpertLinear { .. }));
    linear.map(|(id, _)| (id, graph.operands(id)[0]))
}

fn attention_operands(graph: &Graph, slots: &[usize]) -> BTreeSet<NodeId> {
    let attention = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Attention { .. }));
    attention.flat_map(|(id, _)| slots.iter().map(move |slot| graph.operands(id)[*slot])).collect()
}

/// The results and both operands of additions that what embeddings give reaches, alone or scaled; and whatever such
/// an operand is a sum of, or is scaled from by one factor a row. An addition needs one frame on all three of its edges.
///
/// A gain has a factor for each channel, through which no rotation passes: what is in front of one has its own frame.
fn residual(graph: &Graph) -> BTreeSet<NodeId> {
    let Some(order) = graph.topological() else { return BTreeSet::new() };
    // Whether a result is the stream, alone or scaled.
    let mut stream: BTreeSet<NodeId> = BTreeSet::new();
    let mut waiting: Vec<NodeId> = Vec::new();
    for id in order {
        let operands = graph.operands(id);
        let reached = match through(&graph.node(id).op) {
            Through::Starts => true,
            Through::Joins => operands.iter().any(|operand| stream.contains(operand)),
            Through::Rows | Through::Channels => stream.contains(&operands[0]),
            Through::Ends => false,
        };
        if !reached {
            continue;
        }
        stream.insert(id);
        if through(&graph.node(id).op) == Through::Joins {
            waiting.push(id);
        }
    }
    let mut found = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !found.insert(id) {
            continue;
        }
        match through(&graph.node(id).op) {
            Through::Joins => waiting.extend(graph.operands(id)),
            Through::Rows => waiting.push(graph.operands(id)[0]),
            Through::Starts | Through::Channels | Through::Ends => {}
        }
    }
    if found.is_empty() {
        // Nothing is added: the stream is what embeddings give.
        let starts = graph.nodes().filter(|(_, node)| through(&node.op) == Through::Starts);
        return starts.map(|(id, _)| id).collect();
    }
    // Where the stream begins, norms behind an embedding too; an embedding of another width is no part of it.
    let mut waiting: Vec<NodeId> = found.iter().copied().collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        match through(&graph.node(id).op) {
            Through::Starts => {
                found.insert(id);
            }
            Through::Rows | Through::Channels => waiting.push(graph.operands(id)[0]),
            Through::Joins => waiting.extend(graph.operands(id)),
            Through::Ends => {}
        }
    }
    found
}

/// What an operation is to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    /// The stream begins at its result.
    Starts,
    /// Its operands and its result are one stream.
    Joins,
    /// Its result is made of rows of its first operand, each scaled by a factor of its own, or centred.
    Rows,
    /// Its result is its first operand with each channel scaled or shifted by a number of its own.
    Channels,
    /// The stream does not pass.
    Ends,
}

fn through(op: &Op) -> Through {
    match op {
        Op::Embed { .. } => Through::Starts,
        Op::Binary(Binary::Add | Binary::Sub) => Through::Joins,
        Op::Affine { offset, .. } if offset.get() == 0.0 => Through::Rows,
        Op::Centre | Op::Normalize { .. } | Op::Norm { gain: None, shift: false, .. } | Op::Combine | Op::Select => {
            Through::Rows
        }
        Op::Gain { .. } | Op::Shift | Op::Norm { .. } => Through::Channels,
        Op::Tokens
        | Op::Positions
        | Op::Selection
        | Op::Param(_)
        | Op::Linear { .. }
        | Op::ExpertLinear { .. }
        | Op::Rotate { .. }
        | Op::SplitHeads { .. }
        | Op::MergeHeads
        | Op::Rope(_)
        | Op::Attention { .. }
        | Op::Unary(_)
        | Op::Binary(Binary::Mul)
        | Op::Gated(_)
        | Op::Affine { .. }
        | Op::Clamp { .. }
        | Op::Softcap { .. }
        | Op::Softmax
        | Op::NormalizeSum
        | Op::TopK { .. }
        | Op::Gather
        | Op::Output => Through::Ends,
    }
}
