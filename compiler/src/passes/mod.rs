//! The passes, and the driver that applies what they return.
//!
//! A pass looks at the graph and the plan and returns edits; it never changes the graph itself. The driver applies
//! them, infers facts anew, verifies every invariant after each pass, and asks the pass again until it has nothing left
//! to do: running a pass a second time changes nothing.

mod frames;
mod fuse_kernels;
mod prune;
mod round_inputs;
mod select_rows;
mod share;
mod tie;

use std::fmt::Write as _;

use crate::ir::{Edit, Graph, Violation, verify};
use crate::plan::Plan;

/// A rewrite of the graph.
#[derive(Clone, Copy)]
pub struct Pass {
    /// As in `--dump ir-after=NAME`.
    pub name: &'static str,
    /// What it is for and why it stands where it does, in one line.
    pub summary: &'static str,
    /// The edits that can be made now. They must not touch the same nodes; empty when there is nothing left to do.
    pub run: fn(&Graph, &Plan) -> Vec<Edit>,
}

/// The passes in their order.
pub static PIPELINE: &[Pass] = &[
    Pass {
        name: "round_inputs",
        summary: "products round their x as the plan says; first, while each reads the parameter of its own module",
        run: round_inputs::run,
    },
    Pass {
        name: "tie",
        summary: "heads read the table that they are tied to; in front of frames, and of share, which merges what it makes equal",
        run: tie::run,
    },
    Pass {
        name: "frames",
        summary: "values are held in the frames that the plan says; behind tie, as shared tables have one frame",
        run: frames::run,
    },
    Pass { name: "share", summary: "equal operations on equal operands are one operation", run: share::run },
    Pass {
        name: "select_rows",
        summary: "what only the output needs is computed for the selected rows only",
        run: select_rows::run,
    },
    Pass {
        name: "fuse_kernels",
        summary: "pairs of operations that have one kernel become one; after all passes that see them apart",
        run: fuse_kernels::run,
    },
    Pass { name: "prune", summary: "operations that the output does not need are dropped", run: prune::run },
];

/// Rounds after which a pass that still finds something is taken to be going in circles.
const MAX_ROUNDS: usize = 1000;

/// What the driver is to do besides.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Stop after this many edits, to find the one that is wrong.
    pub stop_after: Option<usize>,
    /// Take down the graph after this pass, or where [`Options::stop_after`] comes first.
    pub dump_after: Option<String>,
}

/// What the driver did.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// `pass: edit`, in order.
    pub edits: Vec<String>,
    /// The graph after [`Options::dump_after`].
    pub dump: Option<String>,
}

/// A pass broke the graph: our bug, not the user's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PassError {
    /// An invariant does not hold after a pass, or before the first.
    #[error("after pass `{pass}` the graph is not valid:\n{}", list(violations))]
    Invalid {
        /// The pass, or `elaborate`.
        pass: &'static str,
        /// What does not hold.
        violations: Vec<Violation>,
    },
    /// A pass does not come to an end.
    #[error("pass `{pass}` still finds edits after {MAX_ROUNDS} rounds; the last is `{edit}`")]
    Endless {
        /// The pass.
        pass: &'static str,
        /// One edit of its last round.
        edit: String,
    },
}

fn list(violations: &[Violation]) -> String {
    violations.iter().fold(String::new(), |mut text, violation| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {violation}");
        text
    })
}

/// Runs every pass of [`PIPELINE`].
///
/// # Errors
/// When an invariant does not hold, or a pass does not end.
pub fn run(graph: &mut Graph, plan: &Plan, options: &Options) -> Result<Log, PassError> {
    run_passes(PIPELINE, graph, plan, options)
}

/// Runs these passes.
///
/// # Errors
/// As [`run`].
pub fn run_passes(passes: &[Pass], graph: &mut Graph, plan: &Plan, options: &Options) -> Result<Log, PassError> {
    let mut log = Log::default();
    let check = |graph: &Graph, pass| verify(graph).map_err(|violations| PassError::Invalid { pass, violations });
    check(graph, "elaborate")?;
    for pass in passes {
        let mut round = 0;
        loop {
            let edits = (pass.run)(graph, plan);
            let Some(last) = edits.last() else { break };
            round += 1;
            if round > MAX_ROUNDS {
                return Err(PassError::Endless { pass: pass.name, edit: last.label.clone() });
            }
            for edit in &edits {
                if options.stop_after == Some(log.edits.len()) {
                    graph.infer_facts();
                    check(graph, pass.name)?;
                    if options.dump_after.is_some() && log.dump.is_none() {
                        log.dump = Some(graph.to_string());
                    }
                    return Ok(log);
                }
                graph.apply(edit);
                log.edits.push(format!("{}: {}", pass.name, edit.label));
            }
            graph.infer_facts();
            check(graph, pass.name)?;
        }
        if options.dump_after.as_deref() == Some(pass.name) {
            log.dump = Some(graph.to_string());
        }
    }
    Ok(log)
}
