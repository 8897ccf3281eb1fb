//! The instruction set: kernel calls over named buffers and weights with symbolic row counts.
//!
//! A [`Program`] is what the compiler writes and the executor runs; nothing else passes between the two. It is plain
//! data, versioned, serialized as `program.json`. [`mod@super::verify`] states when one is valid; the executor runs only
//! valid programs and then never panics.
//!
//! Activations are f32, row-major. A buffer has as many rows as the step has tokens, or as many as were selected for
//! output; its width is fixed. Heads lie side by side in a row: a `[rows, heads, head_dim]` activation is a buffer of
//! width `heads * head_dim`.

use serde::{Deserialize, Serialize};

/// Version of the program format. A reader refuses any other.
pub const PROGRAM_VERSION: u32 = 1;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into its table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// Index into [`Program::weights`].
    WeightId
);
id!(
    /// Index into [`Program::buffers`].
    BufferId
);
id!(
    /// Index into [`Program::caches`].
    CacheId
);
id!(
    /// Index into [`Program::rope_tables`].
    RopeId
);

/// A compiled model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// [`PROGRAM_VERSION`].
    pub version: u32,
    /// Name of the model definition, for people.
    pub model: String,
    /// Dtype of activations between steps.
    pub compute: Compute,
    /// Largest number of positions that the model was made for, where its definition says.
    pub max_positions: Option<u32>,
    /// Packed tensors of the artifact.
    pub weights: Vec<Weight>,
    /// Activations.
    pub buffers: Vec<Buffer>,
    /// Key/value caches, one for each attention.
    pub caches: Vec<Cache>,
    /// Frequencies of rotary embeddings.
    pub rope_tables: Vec<RopeTable>,
    /// The calls, in order.
    pub steps: Vec<Step>,
    /// The logits: `[Selected, vocab]`.
    pub output: BufferId,
}

/// Dtype of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// IEEE single precision.
    F32,
}

/// A packed tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Its name in the weight files.
    pub name: String,
    /// Name of its format in `lathe_kernels::formats::FORMATS`.
    pub format: String,
    /// Logical shape: `[out, in]` for matrices, `[n]` for gains and biases.
    pub shape: Vec<u64>,
}

/// How many rows a buffer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// One for each token of the step.
    Tokens,
    /// One for each token whose logits are asked for.
    Selected,
}

/// An activation, f32 `[rows, width]` row-major.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// How many rows.
    pub rows: Rows,
    /// Elements in a row.
    pub width: u32,
}

/// A key/value cache: f32, keys and values `[heads, positions, head_dim]` each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Key/value heads.
    pub heads: u32,
    /// Elements in a head.
    pub head_dim: u32,
}

/// Frequencies of a rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeTable {
    /// Which elements of a head form a pair.
    pub pairing: RopePairing,
    /// Radians per position, one for each pair; twice their count is the rotary width of a head.
    pub inverse_frequencies: Vec<f32>,
    /// Factor on sine and cosine (`YaRN`'s attention factor); 1 for most.
    pub amplitude: f32,
}

/// Which elements of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopePairing {
    /// Elements `i` and `i + width/2` (GPT-NeoX, Llama in the Hugging Face layout).
    Half,
    /// Elements `2i` and `2i + 1` (GPT-J).
    Interleaved,
}

/// One kernel call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The module or operation of the model that this computes, for listings and profiles.
    pub label: String,
    /// What is called.
    pub op: Op,
}

/// The kernels. `out` never is one of the inputs of its step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kernel", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// `out[t] = table[token[t]]`; table `[vocab, width]`.
    Embed {
        /// `[vocab, width]`
        table: WeightId,
        /// `[Tokens, width]`
        out: BufferId,
    },
    /// `out = x Wᵀ + bias`; W `[out, in]`.
    MatMul {
        /// `[rows, in]`
        x: BufferId,
        /// `[out, in]`
        weight: WeightId,
        /// `[out]`
        bias: Option<WeightId>,
        /// `[rows, out]`
        out: BufferId,
    },
    /// Each group of `width` elements divided by its root mean square: `x / sqrt(mean(x²) + eps)`, then times `gain`.
    RmsNorm {
        /// `[rows, n·width]`
        x: BufferId,
        /// `[width]`
        gain: Option<WeightId>,
        /// Elements normalized together: the whole row, or a head.
        width: u32,
        /// Added to the mean square.
        eps: f32,
        /// As `x`.
        out: BufferId,
    },
    /// Each group of `width` elements times `gain`.
    Gain {
        /// `[rows, n·width]`
        x: BufferId,
        /// `[width]`
        gain: WeightId,
        /// Elements of `gain`.
        width: u32,
        /// As `x`.
        out: BufferId,
    },
    /// Rotary embedding at the positions of the tokens; elements of a head past the rotary width are copied.
    Rope {
        /// `[Tokens, n·head_dim]`
        x: BufferId,
        /// Frequencies.
        table: RopeId,
        /// Elements in a head.
        head_dim: u32,
        /// As `x`.
        out: BufferId,
    },
    /// Appends `k` and `v` to the cache, then causal attention over it. Query head `h` reads key/value head
    /// `h / (heads / cache.heads)`.
    Attention {
        /// `[Tokens, heads·head_dim]`
        q: BufferId,
        /// `[Tokens, cache.heads·head_dim]`
        k: BufferId,
        /// `[Tokens, cache.heads·head_dim]`
        v: BufferId,
        /// Where keys and values are kept.
        cache: CacheId,
        /// Query heads.
        heads: u32,
        /// Factor on q·k.
        scale: f32,
        /// A query at position p sees positions above `p - window` only.
        window: Option<u32>,
        /// `[Tokens, heads·head_dim]`
        out: BufferId,
    },
    /// `out = f(x)` for each element.
    Unary {
        /// f
        function: Unary,
        /// Any buffer.
        x: BufferId,
        /// As `x`.
        out: BufferId,
    },
    /// `out = f(a, b)` for each element.
    Binary {
        /// f
        function: Binary,
        /// Left operand.
        a: BufferId,
        /// Right operand, of the same shape.
        b: BufferId,
        /// As `a`.
        out: BufferId,
    },
    /// `out = f(gate) · value` for each element.
    Gated {
        /// f
        function: Unary,
        /// Through the function.
        gate: BufferId,
        /// Multiplied.
        value: BufferId,
        /// As `value`.
        out: BufferId,
    },
    /// The rows whose logits are asked for.
    Select {
        /// `[Tokens, width]`
        x: BufferId,
        /// `[Selected, width]`
        out: BufferId,
    },
}

/// Functions of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unary {
    /// `x / (1 + exp(-x))`
    Silu,
}

/// Functions of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a · b`
    Mul,
}
