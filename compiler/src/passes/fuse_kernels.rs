//! Pairs of operations that have one kernel become one.
//!
//! ```text
//! before   %3 normalize %2   %4 gain %3 g        after   %5 rms_norm %2 g
//! before   %3 centre %2      %4 rms_norm %3 g    after   %5 layer_norm %2 g
//! before   %3 layer_norm %2 g   %4 shift %3 b    after   %5 layer_norm %2 g b
//! before   %6 silu %4        %7 mul %6 %5        after   %8 silu_mul %4 %5
//! ```
//!
//! Before: any valid graph; the first of a pair has no other user. After: no such pair is left, so that a LayerNorm of
//! four operations is one. The function is unchanged by definition: the fused operations are documented as these
//! compositions. Cost: one pass over the activations less for each pair. Gains and shifts of each head are left alone:
//! the kernel has one for all groups.

use std::collections::BTreeSet;

use lathe_runtime::program::Binary;

use crate::ir::{Edit, Graph, NewNode, NodeId, Op, Operand};
use crate::plan::Plan;

pub(super) fn run(graph: &Graph, _plan: &Plan) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (id, node) in graph.nodes() {
        let operands = graph.operands(id);
        let fused = match (&node.op, &operands[..]) {
            (Op::Normalize { eps }, &[x]) => match single_use(graph, x) {
                Some(Op::Centre) => {
                    let along = others(graph, x);
                    let (eps, has_along) = (*eps, !along.is_empty());
                    Some((x, Op::Norm { centre: true, along: has_along, eps, gain: None, shift: false }, along))
                }
                _ => None,
            },
            (Op::Norm { centre: false, eps, gain, shift, .. }, &[x, ref vectors @ ..]) => match single_use(graph, x) {
                Some(Op::Centre) => {
                    let along = others(graph, x);
                    let (eps, has_along) = (*eps, !along.is_empty());
                    let op = Op::Norm { centre: true, along: has_along, eps, gain: *gain, shift: *shift };
                    Some((x, op, [&along, vectors].concat()))
                }
                _ => None,
            },
            (Op::Gain { offset }, &[x, gain]) if is_of_all(graph, gain) => match single_use(graph, x) {
                Some(Op::Normalize { eps }) => {
                    let op = Op::Norm { centre: false, along: false, eps: *eps, gain: Some(*offset), shift: false };
                    Some((x, op, vec![gain]))
                }
                Some(Op::Norm { centre, along, eps, gain: None, shift: false }) => {
                    let (centre, along, eps) = (*centre, *along, *eps);
                    let op = Op::Norm { centre, along, eps, gain: Some(*offset), shift: false };
                    Some((x, op, [others(graph, x), vec![gain]].concat()))
                }
                _ => None,
            },
            (Op::Shift, &[x, shift]) if is_of_all(graph, shift) => match single_use(graph, x) {
                Some(Op::Norm { centre, along, eps, gain, shift: false }) => {
                    let (centre, along, eps) = (*centre, *along, *eps);
                    let op = Op::Norm { centre, along, eps, gain: *gain, shift: true };
                    Some((x, op, [others(graph, x), vec![shift]].concat()))
                }
                _ => None,
            },
            (Op::Binary(Binary::Mul), &[a, b]) if a != b => {
                [(a, b), (b, a)].into_iter().find_map(|(gate, value)| match single_use(graph, gate) {
                    Some(Op::Unary(function)) => Some((gate, Op::Gated(*function), vec![value])),
                    _ => None,
                })
            }
            _ => None,
        };
        if let Some((first, op, others)) = fused {
            let mut edit = Edit::new(format!("{} of {}", op.name(), node.label));
            let operands = [graph.operands(first)[0]].into_iter().chain(others).map(Operand::Node).collect();
            let (frame, label) = (node.frame.clone(), node.label.clone());
            let new = edit.add(NewNode { op, operands, frame, label, origin: node.origin });
            edit.replace(graph, id, new);
            edit.remove.push(first);
            edits.push(edit);
        }
    }
    // An edit waits for the next round when an earlier one drops what it reads, or reads what it drops.
    let (mut dropped, mut read) = (BTreeSet::new(), BTreeSet::new());
    edits.retain(|edit| {
        let free = !edit.remove.iter().any(|id| dropped.contains(id) || read.contains(id))
            && !inputs(edit).any(|id| dropped.contains(&id));
        if free {
            dropped.extend(edit.remove.iter().copied());
            read.extend(inputs(edit));
        }
        free
    });
    edits
}

fn inputs(edit: &Edit) -> impl Iterator<Item = NodeId> {
    edit.add.iter().flat_map(|node| &node.operands).filter_map(|operand| match operand {
        Operand::Node(id) => Some(*id),
        Operand::New(_) => None,
    })
}

/// The operands of a node but the first.
fn others(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    graph.operands(id).split_off(1)
}

/// Whether a vector is one for all groups that a norm takes together.
fn is_of_all(graph: &Graph, vector: NodeId) -> bool {
    graph.node(vector).fact.shape.len() == 1
}

/// The operation of a node that has exactly one user.
fn single_use(graph: &Graph, id: NodeId) -> Option<&Op> {
    (graph.users(id).len() == 1).then(|| &graph.node(id).op)
}
