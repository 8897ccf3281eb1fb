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

use lathe_runtime::program::{InputFormat, RopeGrowth, RopePairing, RopeTable};

use super::frame::{Basis, Fold, Rotation};
use super::graph::{Graph, NodeId, Param, Values};
use super::op::Op;
use super::view::View;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, table) in self.rope_tables().iter().enumerate() {
            rope_table(f, index, table)?;
        }
        for (index, entry) in self.rotations().iter().enumerate() {
            rotation(f, index, entry)?;
        }
        for (index, entry) in self.scales().iter().enumerate() {
            writeln!(f, "scale S{index} width {} {}", entry.width, entry.name)?;
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
    match &table.growth {
        None => {}
        Some(RopeGrowth::Switch { positions, inverse_frequencies }) => {
            write!(f, " above {positions}")?;
            for frequency in inverse_frequencies {
                write!(f, " {frequency:?}")?;
            }
        }
        Some(RopeGrowth::Dynamic { positions, factor, theta }) => {
            write!(f, " dynamic {positions} factor {factor:?} theta {theta:?}")?;
        }
    }
    writeln!(f)
}

fn param(f: &mut fmt::Formatter<'_>, index: usize, param: &Param) -> fmt::Result {
    write!(f, "param p{index} {} {:?} ", param.name, param.shape)?;
    match &param.values {
        Values::Tied(other) => write!(f, "tied p{}", other.0)?,
        Values::Stored(view) => write!(f, "tensor {} {}", view.tensor.0, Elements(&param.shape, view))?,
        Values::Uniform => f.write_str("uniform")?,
        Values::Zeros => f.write_str("zeros")?,
        Values::Scale { id, inverse } => write!(f, "scale S{}{}", id.0, if *inverse { "'" } else { "" })?,
    }
    fold(f, &param.fold)?;
    writeln!(f)
}

fn rotation(f: &mut fmt::Formatter<'_>, index: usize, rotation: &Rotation) -> fmt::Result {
    write!(f, "rotation Q{index} width {} ", rotation.width)?;
    match rotation.basis {
        Basis::Hadamard { seed: None } => f.write_str("hadamard")?,
        Basis::Hadamard { seed: Some(seed) } => write!(f, "hadamard seed {seed}")?,
        Basis::Orthogonal { seed } => write!(f, "orthogonal seed {seed}")?,
        Basis::Matrix { .. } => f.write_str("matrix")?,
    }
    writeln!(f, "  // {}", rotation.name)
}

/// What becomes of a parameter, where it changes: ` | add p2 p3 factor 1.0 | rows Q0 | columns Q1'`.
pub(super) fn fold(f: &mut impl fmt::Write, fold: &Fold) -> fmt::Result {
    if let Some(offset) = fold.offset {
        write!(f, " | offset {offset}")?;
    }
    if let Some(product) = fold.product {
        write!(f, " | add p{} p{} factor {}", product.weight.0, product.vector.0, product.factor)?;
    }
    if !fold.rows.is_identity() {
        write!(f, " | rows {}", fold.rows)?;
    }
    if !fold.columns.is_identity() {
        write!(f, " | columns {}", fold.columns)?;
    }
    Ok(())
}

/// Which elements of a stored tensor a parameter of this shape is.
pub(super) struct Elements<'a>(pub(super) &'a [u64], pub(super) &'a View);

impl fmt::Display for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Elements(shape, view) = self;
        if let Some(rows) = rows_of(shape, view) {
            return write!(f, "rows {}..{}", rows.start, rows.end);
        }
        write!(f, "from {}", view.offset)?;
        view.axes.iter().try_for_each(|axis| write!(f, " {}*{}", axis.size, axis.stride))
    }
}

/// The view as rows of the stored tensor, where it is that. A vector is one row.
fn rows_of(shape: &[u64], view: &View) -> Option<std::ops::Range<u64>> {
    let width = *shape.last()?;
    let range = view.range().filter(|range| width > 0 && range.start.is_multiple_of(width))?;
    let rows = range.start / width..range.end / width;
    (view.elements() == shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size))?).then_some(rows)
}

fn node(f: &mut fmt::Formatter<'_>, graph: &Graph, id: NodeId) -> fmt::Result {
    let node = graph.node(id);
    write!(f, "%{} ", id.0)?;
    operation(f, &node.op)?;
    for operand in graph.operands(id) {
        write!(f, " %{}", operand.0)?;
    }
    write!(f, " : {}", node.fact)?;
    if !node.frame.is_identity() {
        write!(f, " in {}", node.frame)?;
    }
    if node.label.is_empty() { writeln!(f) } else { writeln!(f, "  // {}", node.label) }
}

/// What x of a product is rounded to, as one word.
fn rounded(f: &mut impl fmt::Write, input: Option<InputFormat>) -> fmt::Result {
    input.map_or(Ok(()), |input| write!(f, " input={}", input.name().replace(' ', "")))
}

/// The name of an operation and its attributes.
pub(super) fn operation(f: &mut impl fmt::Write, op: &Op) -> fmt::Result {
    f.write_str(op.name())?;
    match op {
        Op::Param(param) => write!(f, " p{}", param.0)?,
        Op::Rope(table) => write!(f, " r{}", table.0)?,
        Op::Embed { first } if *first > 0 => write!(f, " first={first}")?,
        Op::Linear { input } => rounded(f, *input)?,
        Op::ExpertLinear { experts, input } => {
            write!(f, " experts={experts}")?;
            rounded(f, *input)?;
        }
        Op::Normalize { eps } => write!(f, " eps={eps}")?,
        Op::Gain { offset } if offset.get() != 0.0 => write!(f, " offset={offset}")?,
        Op::Norm { centre: _, along, eps, gain, shift } => {
            write!(f, " eps={eps}")?;
            if *along {
                f.write_str(" along")?;
            }
            if let Some(offset) = gain {
                write!(f, " gain={offset}")?;
            }
            if *shift {
                f.write_str(" shift")?;
            }
        }
        Op::Rotate { rotation, inverse } => write!(f, " {rotation}{}", if *inverse { "'" } else { "" })?,
        Op::SplitHeads { head_dim } => write!(f, " head_dim={head_dim}")?,
        Op::Attention { scale, window, softcap } => {
            write!(f, " scale={scale}")?;
            if let Some(window) = window {
                write!(f, " window={window}")?;
            }
            if let Some(softcap) = softcap {
                write!(f, " softcap={softcap}")?;
            }
        }
        Op::Affine { factor, offset } => write!(f, " factor={factor} offset={offset}")?,
        Op::Clamp { low, high } => {
            if let Some(low) = low {
                write!(f, " low={low}")?;
            }
            if let Some(high) = high {
                write!(f, " high={high}")?;
            }
        }
        Op::Softcap { cap } => write!(f, " cap={cap}")?,
        Op::TopK { k } => write!(f, " k={k}")?,
        Op::Tokens
        | Op::Positions
        | Op::Selection
        | Op::Embed { .. }
        | Op::Centre
        | Op::Gain { .. }
        | Op::Shift
        | Op::MergeHeads
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Gated(_)
        | Op::Softmax
        | Op::NormalizeSum
        | Op::Gather
        | Op::Combine
        | Op::Select
        | Op::Output => {}
    }
    Ok(())
}
