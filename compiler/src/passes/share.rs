//! Equal operations on equal operands are one operation (common subexpression elimination).
//!
//! ```text
//! before   %3 normalize %2   %4 normalize %2      add %3 %4
//! after    %3 normalize %2                        add %3 %3
//! ```
//!
//! Before: any valid graph. After: no two nodes have equal operations and equal operands. The function is unchanged
//! because operations have no effect but their result; attention keeps its keys and values in a cache of its own, and
//! two that read the same operands would hold the same. Cost: none. It does not look for operations that are equal by
//! algebra (a + b and b + a).

use std::collections::HashMap;

use crate::ir::{Edit, Graph, NodeId, Op, Operand};
use crate::plan::Plan;

pub(super) fn run(graph: &Graph, _plan: &Plan) -> Vec<Edit> {
    let mut first: HashMap<(&Op, Vec<NodeId>), NodeId> = HashMap::new();
    // Later nodes see earlier ones as already merged, so one round merges whole equal subgraphs.
    let mut merged: HashMap<NodeId, NodeId> = HashMap::new();
    let mut edits = Vec::new();
    for id in graph.topological().unwrap_or_default() {
        let node = graph.node(id);
        if node.op == Op::Output {
            continue;
        }
        let operands = graph.operands(id).into_iter().map(|operand| *merged.get(&operand).unwrap_or(&operand));
        match first.entry((&node.op, operands.collect())) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(id);
            }
            std::collections::hash_map::Entry::Occupied(entry) => {
                let kept = *entry.get();
                merged.insert(id, kept);
                let mut edit = Edit::new(format!("merge {} into {}", node.label, graph.node(kept).label));
                edit.replace(graph, id, Operand::Node(kept));
                edits.push(edit);
            }
        }
    }
    edits
}
