//! Pairs of operations that have one kernel become one.
//!
//! ```text
//! before   %3 normalize %2   %4 gain %3 g        after   %5 rms_norm %2 g
//! before   %6 silu %4        %7 mul %6 %5        after   %8 silu_mul %4 %5
//! ```
//!
//! Before: any valid graph; the first of a pair has no other user. After: no such pair is left. The function is
//! unchanged by definition: the fused operations are documented as these compositions. Cost: one pass over the
//! activations less. It does not fuse across more than two operations.

use std::collections::BTreeSet;

use lathe_runtime::program::Binary;

use crate::ir::{Edit, Graph, NewNode, NodeId, Op, Operand};
use crate::plan::Plan;

pub(super) fn run(graph: &Graph, _plan: &Plan) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (id, node) in graph.nodes() {
        let operands = graph.operands(id);
        let fused = match (&node.op, &operands[..]) {
            (Op::Gain, &[x, gain]) => match single_use(graph, x) {
                Some(Op::Normalize { eps }) => Some((x, Op::RmsNorm { eps: *eps }, gain)),
                _ => None,
            },
            (Op::Binary(Binary::Mul), &[a, b]) if a != b => {
                [(a, b), (b, a)].into_iter().find_map(|(gate, value)| match single_use(graph, gate) {
                    Some(Op::Unary(function)) => Some((gate, Op::Gated(*function), value)),
                    _ => None,
                })
            }
            _ => None,
        };
        if let Some((first, op, second)) = fused {
            let mut edit = Edit::new(format!("{} of {}", op.name(), node.label));
            let operands = vec![Operand::Node(graph.operands(first)[0]), Operand::Node(second)];
            let new = edit.add(NewNode { op, operands, label: node.label.clone(), origin: node.origin });
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

/// The operation of a node that has exactly one user.
fn single_use(graph: &Graph, id: NodeId) -> Option<&Op> {
    (graph.users(id).len() == 1).then(|| &graph.node(id).op)
}
