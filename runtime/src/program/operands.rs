//! What each kernel call reads and writes, in one place for the verifier, the printer and the memory plan.

use super::types::{BufferId, Cache, CacheId, Index, Op, Program, RopeId, RotationId, Weight, WeightId};

impl Op {
    /// Name of the kernel, as `program.json` spells it.
    pub fn kernel(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "embed",
            Op::MatMul { .. } => "mat_mul",
            Op::ExpertMatMul { .. } => "expert_mat_mul",
            Op::Norm { .. } => "norm",
            Op::Centre { .. } => "centre",
            Op::Gain { .. } => "gain",
            Op::Shift { .. } => "shift",
            Op::Rope { .. } => "rope",
            Op::Rotate { .. } => "rotate",
            Op::Attention { .. } => "attention",
            Op::Unary { .. } => "unary",
            Op::Binary { .. } => "binary",
            Op::Gated { .. } => "gated",
            Op::Affine { .. } => "affine",
            Op::Clamp { .. } => "clamp",
            Op::Softcap { .. } => "softcap",
            Op::Softmax { .. } => "softmax",
            Op::NormalizeSum { .. } => "normalize_sum",
            Op::TopK { .. } => "top_k",
            Op::Gather { .. } => "gather",
            Op::Combine { .. } => "combine",
            Op::Select { .. } => "select",
        }
    }

    /// The buffers that are read, in the order of the fields.
    pub fn inputs(&self) -> impl Iterator<Item = BufferId> + use<> {
        let inputs = match *self {
            Op::Embed { .. } => [None, None, None],
            Op::MatMul { x, .. }
            | Op::Norm { x, .. }
            | Op::Centre { x, .. }
            | Op::Gain { x, .. }
            | Op::Shift { x, .. }
            | Op::Rope { x, .. }
            | Op::Rotate { x, .. }
            | Op::Unary { x, .. }
            | Op::Affine { x, .. }
            | Op::Clamp { x, .. }
            | Op::Softcap { x, .. }
            | Op::Softmax { x, .. }
            | Op::NormalizeSum { x, .. }
            | Op::TopK { x, .. }
            | Op::Select { x, .. } => [Some(x), None, None],
            Op::ExpertMatMul { x, choice, .. } | Op::Gather { x, choice, .. } => [Some(x), Some(choice), None],
            Op::Combine { x, weights, .. } => [Some(x), Some(weights), None],
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
            | Op::ExpertMatMul { out, .. }
            | Op::Norm { out, .. }
            | Op::Centre { out, .. }
            | Op::Gain { out, .. }
            | Op::Shift { out, .. }
            | Op::Rope { out, .. }
            | Op::Rotate { out, .. }
            | Op::Attention { out, .. }
            | Op::Unary { out, .. }
            | Op::Binary { out, .. }
            | Op::Gated { out, .. }
            | Op::Affine { out, .. }
            | Op::Clamp { out, .. }
            | Op::Softcap { out, .. }
            | Op::Softmax { out, .. }
            | Op::NormalizeSum { out, .. }
            | Op::TopK { out, .. }
            | Op::Gather { out, .. }
            | Op::Combine { out, .. }
            | Op::Select { out, .. } => out,
        }
    }

    /// The weights that are read, in the order of the fields.
    pub fn weights(&self) -> impl Iterator<Item = WeightId> + '_ {
        let single = match *self {
            Op::Embed { table, .. } => [Some(table), None, None],
            Op::MatMul { weight, bias, .. } => [Some(weight), bias, None],
            Op::Norm { along, gain, shift, .. } => [along, gain, shift],
            Op::Centre { along, .. } => [along, None, None],
            Op::Gain { gain, .. } => [Some(gain), None, None],
            Op::Shift { shift, .. } => [Some(shift), None, None],
            Op::Attention { sinks, .. } => [sinks, None, None],
            Op::ExpertMatMul { .. }
            | Op::Rope { .. }
            | Op::Rotate { .. }
            | Op::Unary { .. }
            | Op::Binary { .. }
            | Op::Gated { .. }
            | Op::Affine { .. }
            | Op::Clamp { .. }
            | Op::Softcap { .. }
            | Op::Softmax { .. }
            | Op::NormalizeSum { .. }
            | Op::TopK { .. }
            | Op::Gather { .. }
            | Op::Combine { .. }
            | Op::Select { .. } => [None, None, None],
        };
        let by_expert: [&[WeightId]; 2] =
            if let Op::ExpertMatMul { weights, biases, .. } = self { [weights, biases] } else { [&[], &[]] };
        single.into_iter().flatten().chain(by_expert.into_iter().flatten().copied())
    }

    /// The cache that is appended to and read.
    pub fn cache(&self) -> Option<CacheId> {
        if let Op::Attention { cache, .. } = *self { Some(cache) } else { None }
    }

    /// The frequencies that are read.
    pub fn rope_table(&self) -> Option<RopeId> {
        if let Op::Rope { table, .. } = *self { Some(table) } else { None }
    }

    /// What activations are rotated by.
    pub fn rotation(&self) -> Option<RotationId> {
        if let Op::Rotate { rotation, .. } = *self { Some(rotation) } else { None }
    }
}

impl Program {
    /// Tokens that the program knows: rows of its embedding table. 0 for a program without one, which does not verify.
    pub fn vocabulary(&self) -> usize {
        let rows = self.steps.iter().find_map(|step| match step.op {
            Op::Embed { table, index: Index::Tokens, first, .. } => self.weights.get(table.index())?.rows_from(first),
            _ => None,
        });
        rows.unwrap_or(0) as usize
    }
}

impl Weight {
    /// Rows from row `first` on; `None` if there are not so many.
    pub(super) fn rows_from(&self, first: u32) -> Option<u64> {
        self.shape.first()?.checked_sub(first.into())
    }
}

impl Op {
    /// The call with every id of a table replaced by 0: equal for calls of one kernel with the same numbers.
    pub(super) fn without_ids(&self) -> Op {
        let mut op = self.clone();
        let (buffer, weight) = (BufferId(0), WeightId(0));
        match &mut op {
            Op::Embed { table, index: _, first: _, out } => (*table, *out) = (weight, buffer),
            Op::MatMul { x, input: _, weight: matrix, bias, out } => {
                (*x, *matrix, *bias, *out) = (buffer, weight, bias.map(|_| weight), buffer);
            }
            Op::ExpertMatMul { x, input: _, choice, weights, biases, out } => {
                (*x, *choice, *out) = (buffer, buffer, buffer);
                weights.fill(weight);
                biases.fill(weight);
            }
            Op::Norm { x, centre: _, along, width: _, eps: _, gain, gain_offset: _, shift, out } => {
                (*x, *out) = (buffer, buffer);
                for vector in [along, gain, shift] {
                    *vector = vector.map(|_| weight);
                }
            }
            Op::Centre { x, along, width: _, out } => (*x, *along, *out) = (buffer, along.map(|_| weight), buffer),
            Op::Gain { x, gain, offset: _, out } => (*x, *gain, *out) = (buffer, weight, buffer),
            Op::Shift { x, shift, out } => (*x, *shift, *out) = (buffer, weight, buffer),
            Op::Rope { x, table, head_dim: _, out } => (*x, *table, *out) = (buffer, RopeId(0), buffer),
            Op::Attention { q, k, v, cache, heads: _, scale: _, window: _, softcap: _, sinks, out } => {
                (*q, *k, *v, *out) = (buffer, buffer, buffer, buffer);
                (*cache, *sinks) = (CacheId(0), sinks.map(|_| weight));
            }
            Op::Rotate { x, rotation, inverse: _, out } => (*x, *rotation, *out) = (buffer, RotationId(0), buffer),
            Op::Unary { function: _, x, out }
            | Op::Affine { x, factor: _, offset: _, out }
            | Op::Clamp { x, low: _, high: _, out }
            | Op::Softcap { x, cap: _, out }
            | Op::Softmax { x, width: _, out }
            | Op::NormalizeSum { x, width: _, out }
            | Op::TopK { x, k: _, out }
            | Op::Select { x, out } => (*x, *out) = (buffer, buffer),
            Op::Binary { function: _, a, b, out }
            | Op::Gated { function: _, gate: a, value: b, out }
            | Op::Gather { x: a, choice: b, out }
            | Op::Combine { x: a, weights: b, out } => (*a, *b, *out) = (buffer, buffer, buffer),
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
