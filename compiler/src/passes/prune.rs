//! Operations that the output does not need are dropped.
//!
//! Before: any valid graph. After: every node is the output or has a path to it. The function is unchanged because the
//! output never depended on them. Cost: none. It does not shorten the table of parameters, whose entries say what the
//! checkpoint stores; lowering packs those that a node refers to.

use std::collections::BTreeSet;

use crate::ir::{Edit, Graph, NodeId};
use crate::plan::Plan;

pub(super) fn run(graph: &Graph, _plan: &Plan) -> Vec<Edit> {
    let mut needed: BTreeSet<NodeId> = BTreeSet::new();
    let mut waiting: Vec<NodeId> = graph.output().into_iter().collect();
    while let Some(id) = waiting.pop() {
        if needed.insert(id) {
            waiting.extend(graph.operands(id));
        }
    }
    let order = graph.topological().unwrap_or_default();
    let dead: Vec<NodeId> = order.into_iter().rev().filter(|id| !needed.contains(id)).collect();
    if dead.is_empty() || needed.is_empty() {
        return Vec::new();
    }
    let mut edit = Edit::new(format!("drop {} operations", dead.len()));
    edit.remove = dead;
    vec![edit]
}
