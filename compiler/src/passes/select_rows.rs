//! What only the output needs is computed for the selected rows only.
//!
//! ```text
//! before   %7 add … : [T, n]   %8 normalize %7   %9 gain %8 g   %10 linear %9 W : [T, vocab]   output %10
//! after    %7 add … : [T, n]   %11 select %7 s : [S, n]   %8 normalize %11 …  %10 linear … : [S, vocab]   output %10
//! ```
//!
//! Before: any valid graph. After: between the select and the output there are only row-wise operations, each with one
//! user, and what stands before the select is not such an operation. The function is unchanged because row r of a
//! row-wise operation depends on row r of its input alone, so selecting rows before or after it is the same. Cost: one
//! copy of the selected rows; it saves the head for all other rows, which for a prompt is most of them. It does not move
//! across additions, which would take a select on each side.

use crate::ir::{Chain, Dim, Edit, Graph, NewNode, Op, Operand};
use crate::plan::Plan;

pub(super) fn run(graph: &Graph, _plan: &Plan) -> Vec<Edit> {
    let Some(output) = graph.output() else { return Vec::new() };
    let [mut value] = graph.operands(output)[..] else { return Vec::new() };
    if graph.node(value).fact.shape.first() != Some(&Dim::Tokens) {
        return Vec::new();
    }
    let mut user = output;
    while graph.node(value).op.rowwise() == [0] && graph.users(value).len() == 1 {
        user = value;
        value = graph.operands(value)[0];
    }
    let node = graph.node(value);
    let mut edit = Edit::new(format!("select the rows of {}", node.label));
    let input = |op: Op, label: &str| NewNode {
        op,
        operands: Vec::new(),
        frame: Chain::IDENTITY,
        label: label.into(),
        origin: None,
    };
    let selection = edit.add(input(Op::Selection, "selection"));
    let selected = edit.add(NewNode {
        op: Op::Select,
        operands: vec![Operand::Node(value), selection],
        frame: node.frame.clone(),
        label: "select".into(),
        origin: node.origin,
    });
    edit.rewire.push((user, 0, selected));
    vec![edit]
}
