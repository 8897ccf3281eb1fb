//! What each kernel call reads and writes, in one place for the verifier, the printer and the memory plan.

use super::types::{BufferId, Cache, CacheId, Op, Program, RopeId, WeightId};

impl Op {
    /// Name of the kernel, as `program.json` spells it.
    pub fn kernel(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "embed",
            Op::MatMul { .. } => "mat_mul",
            Op::RmsNorm { .. } => "rms_norm",
            Op::Gain { .. } => "gain",
            Op::Rope { .. } => "rope",
            Op::Attention { .. } => "attention",
            Op::Unary { .. } => "unary",
            Op::Binary { .. } => "binary",
            Op::Gated { .. } => "gated",
            Op::Select { .. } => "select",
        }
    }

    /// The buffers that are read, in the order of the fields.
    pub fn inputs(&self) -> impl Iterator<Item = BufferId> + use<> {
        let inputs = match *self {
            Op::Embed { .. } => [None, None, None],
            Op::MatMul { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::Gain { x, .. }
            | Op::Rope { x, .. }
            | Op::Unary { x, .. }
            | Op::Select { x, .. } => [Some(x), None, None],
            Op::Binary { a, b, .. } => [Some(a), Some(b), None],
            Op::Gated { gate, value, .. } => [Some(gate), Some(value), None],
            Op::Attention { q, k, v, .. } => [Some(q), Some(k), Some(v)],
        };
        inputs.into_iter().flatten()
    }

    /// The buffer that is written.
    pub fn out(&self) -> BufferId {
        match *self {
            Op::Embed { out, .. }
            | Op::MatMul { out, .. }
            | Op::RmsNorm { out, .. }
            | Op::Gain { out, .. }
            | Op::Rope { out, .. }
            | Op::Attention { out, .. }
            | Op::Unary { out, .. }
            | Op::Binary { out, .. }
            | Op::Gated { out, .. }
            | Op::Select { out, .. } => out,
        }
    }

    /// The weights that are read, in the order of the fields.
    pub fn weights(&self) -> impl Iterator<Item = WeightId> + use<> {
        let weights = match *self {
            Op::Embed { table, .. } => [Some(table), None],
            Op::MatMul { weight, bias, .. } => [Some(weight), bias],
            Op::RmsNorm { gain, .. } => [gain, None],
            Op::Gain { gain, .. } => [Some(gain), None],
            Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Unary { .. }
            | Op::Binary { .. }
            | Op::Gated { .. }
            | Op::Select { .. } => [None, None],
        };
        weights.into_iter().flatten()
    }

    /// The cache that is appended to and read.
    pub fn cache(&self) -> Option<CacheId> {
        if let Op::Attention { cache, .. } = *self { Some(cache) } else { None }
    }

    /// The frequencies that are read.
    pub fn rope_table(&self) -> Option<RopeId> {
        if let Op::Rope { table, .. } = *self { Some(table) } else { None }
    }
}

impl Program {
    /// Tokens that the program knows: rows of its embedding table. 0 for a program without one, which does not verify.
    pub fn vocabulary(&self) -> usize {
        self.steps
            .iter()
            .find_map(|step| match step.op {
                Op::Embed { table, .. } => self.weights.get(table.index())?.shape.first().map(|&rows| rows as usize),
                _ => None,
            })
            .unwrap_or(0)
    }
}

impl Op {
    /// The call with every id of a table replaced by 0: equal for calls of one kernel with the same numbers.
    pub(super) fn without_ids(&self) -> Op {
        let mut op = self.clone();
        let (buffer, weight) = (BufferId(0), WeightId(0));
        match &mut op {
            Op::Embed { table, out } => (*table, *out) = (weight, buffer),
            Op::MatMul { x, weight: matrix, bias, out } => {
                (*x, *matrix, *bias, *out) = (buffer, weight, bias.map(|_| weight), buffer);
            }
            Op::RmsNorm { x, gain, width: _, eps: _, out } => {
                (*x, *gain, *out) = (buffer, gain.map(|_| weight), buffer);
            }
            Op::Gain { x, gain, width: _, out } => (*x, *gain, *out) = (buffer, weight, buffer),
            Op::Rope { x, table, head_dim: _, out } => (*x, *table, *out) = (buffer, RopeId(0), buffer),
            Op::Attention { q, k, v, cache, heads: _, scale: _, window: _, out } => {
                (*q, *k, *v, *cache, *out) = (buffer, buffer, buffer, CacheId(0), buffer);
            }
            Op::Unary { function: _, x, out } | Op::Select { x, out } => (*x, *out) = (buffer, buffer),
            Op::Binary { function: _, a, b, out } | Op::Gated { function: _, gate: a, value: b, out } => {
                (*a, *b, *out) = (buffer, buffer, buffer);
            }
        }
        op
    }
}

impl Cache {
    /// Bytes of keys and values for each position.
    pub fn bytes_per_position(&self) -> u64 {
        2 * size_of::<f32>() as u64 * u64::from(self.heads) * u64::from(self.head_dim)
    }
}
