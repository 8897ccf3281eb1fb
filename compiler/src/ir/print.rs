//! The graph as text; [`super::read()`] reads it back.
//!
//! ```text
//! rope r0 half amplitude 1.0 frequencies 1.0 0.1
//! param p0 model.embed_tokens.weight [4096, 192] tensor 0 rows 0..4096
//! param p1 lm_head.weight [4096, 192] tied p0
//! %0 tokens : token[T]
//! %1 param p0 : real[4096, 192]  // model.embed_tokens
//! %2 embed %1 %0 : real[T, 192]  // model.embed_tokens
//! ```

use std::fmt;

use lathe_runtime::program::{RopePairing, RopeTable};

use super::graph::{Graph, NodeId, Param, Values};
use super::op::Op;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, table) in self.rope_tables().iter().enumerate() {
            rope_table(f, index, table)?;
        }
        for (index, entry) in self.params().iter().enumerate() {
            param(f, index, entry)?;
        }
        let order = self.topological().unwrap_or_else(|| self.nodes().map(|(id, _)| id).collect());
        for id in order {
            node(f, self, id)?;
        }
        Ok(())
    }
}

fn rope_table(f: &mut fmt::Formatter<'_>, index: usize, table: &RopeTable) -> fmt::Result {
    let pairing = match table.pairing {
        RopePairing::Half => "half",
        RopePairing::Interleaved => "interleaved",
    };
    write!(f, "rope r{index} {pairing} amplitude {:?} frequencies", table.amplitude)?;
    for frequency in &table.inverse_frequencies {
        write!(f, " {frequency:?}")?;
    }
    writeln!(f)
}

fn param(f: &mut fmt::Formatter<'_>, index: usize, param: &Param) -> fmt::Result {
    write!(f, "param p{index} {} {:?} ", param.name, param.shape)?;
    match &param.values {
        Values::Tied(other) => writeln!(f, "tied p{}", other.0),
        Values::Stored(slice) => {
            let end = slice.first_row.saturating_add(slice.rows);
            writeln!(f, "tensor {} rows {}..{end}", slice.tensor.0, slice.first_row)
        }
    }
}

fn node(f: &mut fmt::Formatter<'_>, graph: &Graph, id: NodeId) -> fmt::Result {
    let node = graph.node(id);
    write!(f, "%{} {}", id.0, node.op.name())?;
    match &node.op {
        Op::Param(param) => write!(f, " p{}", param.0)?,
        Op::Rope(table) => write!(f, " r{}", table.0)?,
        Op::Normalize { eps } | Op::RmsNorm { eps } => write!(f, " eps={eps}")?,
        Op::SplitHeads { head_dim } => write!(f, " head_dim={head_dim}")?,
        Op::Attention { scale, window } => {
            write!(f, " scale={scale}")?;
            if let Some(window) = window {
                write!(f, " window={window}")?;
            }
        }
        Op::Tokens
        | Op::Positions
        | Op::Selection
        | Op::Embed
        | Op::Linear
        | Op::Gain
        | Op::MergeHeads
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Gated(_)
        | Op::Select
        | Op::Output => {}
    }
    for operand in graph.operands(id) {
        write!(f, " %{}", operand.0)?;
    }
    write!(f, " : {}", node.fact)?;
    if node.label.is_empty() { writeln!(f) } else { writeln!(f, "  // {}", node.label) }
}
