//! Heads read the table that they are tied to.
//!
//! ```text
//! before   %1 param p0 (table)   %9 param p1 (head)      linear %8 %9
//! after    %1 param p0 (table)   %10 param p0            linear %8 %10
//! ```
//!
//! Before: the plan says for each candidate what was found. After: no node refers to a head that shares its table; the
//! table may have two nodes, which [`super::share`] merges. The function is unchanged because the two parameters hold
//! equal values: the head is not stored and stands for the table, or a probe compared the bytes. Cost: none; it saves a
//! table. It does not decide what is tied, and it does not look at values.

use crate::ir::{Chain, Edit, Graph, NewNode, Op, ParamId};
use crate::plan::{Plan, Tie};

pub(super) fn run(graph: &Graph, plan: &Plan) -> Vec<Edit> {
    let name = |id: ParamId| graph.param(id).map_or("?", |param| &param.name);
    let mut edits = Vec::new();
    for (head, table) in plan.ties.iter().filter_map(Tie::replacement) {
        for (id, node) in graph.nodes().filter(|(_, node)| node.op == Op::Param(head)) {
            let mut edit = Edit::new(format!("tie {} to {}", name(head), name(table)));
            let shared = edit.add(NewNode {
                op: Op::Param(table),
                operands: Vec::new(),
                frame: Chain::IDENTITY,
                label: node.label.clone(),
                origin: node.origin,
            });
            edit.replace(graph, id, shared);
            edits.push(edit);
        }
    }
    edits
}
