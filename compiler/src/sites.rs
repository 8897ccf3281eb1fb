//! Sites: edges of the graph that rotations act on, found from the operations alone.
//!
//! An edge is named by the node whose result it carries.

use std::collections::BTreeSet;

use lathe_grammar::pattern::Pattern;
use lathe_runtime::program::Binary;

use crate::elaborate::Elaborated;
use crate::ir::{Graph, NodeId, Op};
use crate::spec::Site;

/// The edges of a site, in the order of the graph; of those only the ones in, or into, what `within` matches.
pub fn edges(model: &Elaborated, site: Site, within: Option<&Pattern>) -> Vec<NodeId> {
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
            let indices = within.map(|pattern| model.matching(pattern)).unwrap_or_default();
            let matched: BTreeSet<&str> = indices.into_iter().map(|index| model.modules[index].path.as_str()).collect();
            let reads = |label: &str| matched.contains(label);
            return linears(graph)
                .filter(|(label, _)| reads(label))
                .map(|(_, input)| input)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
        }
    };
    found
        .into_iter()
        .filter(|id| within.is_none_or(|pattern| lies_in(model, pattern, &graph.node(*id).label)))
        .collect()
}

/// Whether a node, by its label, lies in a container that the pattern matches.
fn lies_in(model: &Elaborated, pattern: &Pattern, label: &str) -> bool {
    let children = |path: &str| model.indexed_children(path);
    let ends = label.match_indices('.').map(|(dot, _)| dot).chain([label.len()]);
    ends.into_iter().any(|end| pattern.matches_container(&label[..end], &children))
}

/// Every linear with its label and its input.
fn linears(graph: &Graph) -> impl Iterator<Item = (&str, NodeId)> {
    let linear = graph.nodes().filter(|(_, node)| node.op == Op::Linear);
    linear.map(|(id, node)| (node.label.as_str(), graph.operands(id)[0]))
}

fn attention_operands(graph: &Graph, slots: &[usize]) -> BTreeSet<NodeId> {
    let attention = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Attention { .. }));
    attention.flat_map(|(id, _)| slots.iter().map(move |slot| graph.operands(id)[*slot])).collect()
}

/// What additions join, from the embedding on: the result of each addition, and what it adds to.
fn residual(graph: &Graph) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let Some(order) = graph.topological() else { return found };
    for id in order {
        match graph.node(id).op {
            Op::Embed => {
                found.insert(id);
            }
            Op::Binary(Binary::Add) if graph.operands(id).iter().any(|operand| found.contains(operand)) => {
                found.insert(id);
            }
            _ => {}
        }
    }
    found
}
