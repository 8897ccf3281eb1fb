//! Products round their x as the plan says.
//!
//! ```text
//! before   %3 linear %2 W                        after    %3 linear input=int8(per:token) %2 W
//! ```
//!
//! Before: each product reads the parameter of its own module, which a head that is tied soon does not. After: each product
//! states what it rounds its x to. The function changes by that rounding and by nothing else: it is a format, and like those
//! of weights it is no part of the proof. It acts on what the product reads at last, so behind rotations at run time. Cost:
//! the kernel rounds each row before it multiplies. It decides nothing: experts of one product have one format of x, as the
//! plan of a model where they do not is refused.

use crate::ir::{Edit, Graph, NodeId, Op};
use crate::plan::Plan;

pub(super) fn run(graph: &Graph, plan: &Plan) -> Vec<Edit> {
    let of_weight = |weight: NodeId| match graph.node(weight).op {
        Op::Param(param) => plan.inputs.get(param.index()).copied().flatten(),
        _ => None,
    };
    let mut edits = Vec::new();
    for (id, node) in graph.nodes() {
        let (op, input) = match node.op {
            Op::Linear { input: None } => {
                let input = of_weight(graph.operands(id)[1]);
                (Op::Linear { input }, input)
            }
            Op::ExpertLinear { experts, input: None } => {
                let input = of_weight(graph.operands(id)[2]);
                (Op::ExpertLinear { experts, input }, input)
            }
            _ => continue,
        };
        if let Some(input) = input {
            let mut edit = Edit::new(format!("round the input of {} to {}", node.label, input.name()));
            edit.ops.push((id, op));
            edits.push(edit);
        }
    }
    edits
}
