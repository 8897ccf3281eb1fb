//! Values are held in the frames that the plan says.
//!
//! ```text
//! before   %3 gain %2 g   %4 linear %3 W                     after   %4 linear %2 W'       (W' = W diag(g) Q)
//! before   %5 rope %4     %7 attention %5 …                  after   %5 rope %4   %8 rotate Q %5   %7 attention %8 …
//! ```
//!
//! Before: the graph of the definition, with ties. After: every node states the frame of its result, every parameter what it
//! becomes, and frames fit: what an operation needs of its operands is what they are in. The function is unchanged, which
//! the proof of a compilation checks on numbers. One edit, as frames hold together or not at all. Cost: the online
//! operations of the plan. It does not decide anything: [`crate::frames`] has found frames from headers alone.

use crate::ir::{Edit, Graph};
use crate::plan::Plan;

pub(super) fn run(graph: &Graph, plan: &Plan) -> Vec<Edit> {
    let is_done = !graph.rotations().is_empty() || !graph.scales().is_empty();
    plan.frames.edit.iter().filter(|_| !is_done).cloned().collect()
}
