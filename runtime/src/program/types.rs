//! The instruction set: kernel calls over named buffers and weights with symbolic row counts.
//!
//! A [`Program`] is what the compiler writes and the executor runs; nothing else passes between the two. It is plain
//! data, versioned, serialized as `program.json`. [`mod@super::verify`] states when one is valid; the executor runs only
//! valid programs and then never panics.
//!
//! Activations are row-major, f32 or u32 indices. A buffer has as many rows as the step has tokens, or as many as were
//! selected for output; its width is fixed. What is more than two-dimensional lies side by side in a row: a
//! `[rows, heads, head_dim]` activation is a buffer of width `heads * head_dim`, and so is one with a row for each of
//! the k experts that a token has chosen.

use lathe_kernels::formats::{Format, Granularity};
use lathe_kernels::ops::MAX_INT8_INNER;
use serde::{Deserialize, Serialize};

/// Version of the program format. A reader refuses any other.
pub const PROGRAM_VERSION: u32 = 4;

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
id!(
    /// Index into [`Program::rotations`].
    RotationId
);

/// A compiled model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// [`PROGRAM_VERSION`].
    pub version: u32,
    /// Name of the model definition, for people.
    pub model: String,
    /// How exactly products are computed.
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
    /// Orthogonal matrices that activations are rotated by.
    pub rotations: Vec<Rotation>,
    /// The calls, in order.
    pub steps: Vec<Step>,
    /// The logits: `[Selected, vocab]`.
    pub output: BufferId,
}

/// How exactly products are computed: the least that a device must keep of their operands. Activations between steps and
/// all sums are f32 with either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Operands of products and the caches of keys and values are f32.
    F32,
    /// They may be rounded to bf16, the nearest, ties to even. A device that is no faster for it keeps them in f32, as the
    /// processor does.
    Bf16,
}

impl Compute {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Compute::F32 => "f32",
            Compute::Bf16 => "bf16",
        }
    }
}

/// What a product rounds its x to before it multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InputFormat {
    /// Integers from −127 to 127 times a scale for each row, which is chosen from the row itself:
    /// [`lathe_kernels::ops::quantize_rows`] states it, [`lathe_kernels::ops::matmul_int8`] the product.
    #[serde(rename = "int8(per: token)")]
    Int8PerToken,
}

impl InputFormat {
    /// All of them.
    pub const ALL: [InputFormat; 1] = [InputFormat::Int8PerToken];

    /// As it is written in specs.
    pub fn name(self) -> &'static str {
        match self {
            InputFormat::Int8PerToken => "int8(per: token)",
        }
    }

    /// Whether a weight in this format can be multiplied by such an x.
    pub fn takes_format(self, format: Format) -> bool {
        let parameters = format.parameters();
        match self {
            InputFormat::Int8PerToken => {
                format.name() == "int8" && parameters.symmetric && parameters.granularity == Granularity::Channel
            }
        }
    }

    /// Most elements of a row of x.
    pub fn most_columns(self) -> u64 {
        match self {
            InputFormat::Int8PerToken => MAX_INT8_INNER as u64,
        }
    }
}

/// A packed tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Its name in the weight files.
    pub name: String,
    /// Its `lathe_kernels::formats::Format` as text, such as `bf16` or `int4(group: 32)`.
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

/// An activation, `[rows, width]` row-major.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// How many rows.
    pub rows: Rows,
    /// Elements in a row.
    pub width: u32,
    /// What they are.
    pub elements: Elements,
}

/// What the elements of a buffer are. All take four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Elements {
    /// f32.
    Real,
    /// u32, each below a bound: numbers of experts.
    Index {
        /// The bound.
        below: u32,
    },
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
    /// How the frequencies change with the length of the text, where they do.
    pub growth: Option<RopeGrowth>,
}

/// How rotary frequencies depend on the length of the text: the positions before a call and those of the call together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RopeGrowth {
    /// Texts longer than `positions` use other frequencies (`LongRoPE`: Ding et al. 2024, arXiv:2402.13753). Sessions read
    /// a text that grows past `positions` anew from its start, so that all of its keys are rotated alike.
    Switch {
        /// Longest text that the table itself is for.
        positions: u32,
        /// As many as in the table.
        inverse_frequencies: Vec<f32>,
    },
    /// For a text of n positions, more than `positions`, the base of the frequencies is
    /// `theta · (factor · n / positions − (factor − 1)) ^ (w / (w − 2))`, with w the rotary width (dynamic NTK scaling).
    /// Keys in the cache stay as they were rotated.
    Dynamic {
        /// Longest text that the table itself is for.
        positions: u32,
        /// At least 1.
        factor: f64,
        /// Base of the frequencies of the table.
        theta: f64,
    },
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

/// An orthogonal matrix Q `[width, width]`. A row of activations is rotated block by block, `width` elements each:
/// x ↦ x Q. [`lathe_kernels::rotations`] says what each kind is; a program holds what it is made of, never the dense
/// matrix unless the user brought one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rotation {
    /// `diag(signs) H / √width` with a Hadamard matrix H of order `width`.
    Hadamard {
        /// Elements of a block.
        width: u32,
        /// How H is built, as [`lathe_kernels::rotations`] spells it: `paley1(11) * sylvester(64)`.
        construction: String,
        /// BLAKE3, in hexadecimal, of the entries of what is not Sylvester's in the construction: a machine that would
        /// build another H refuses the program.
        base_blake3: String,
        /// Which signs are −: bit i % 8 of byte i / 8, least significant first, in lower-case hexadecimal, two digits a
        /// byte; bits past the width are 0. Without it all signs are +.
        signs: Option<String>,
    },
    /// Uniformly distributed among orthogonal matrices.
    Orthogonal {
        /// Elements of a block.
        width: u32,
        /// Of the generator.
        seed: u64,
    },
    /// Given as it is.
    Matrix {
        /// Elements of a block.
        width: u32,
        /// Q, f32 `[width, width]`.
        weight: WeightId,
    },
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
    /// `out[t] = table[first + index[t]]`; table `[rows, width]`.
    Embed {
        /// `[rows, width]`
        table: WeightId,
        /// What counts the rows.
        index: Index,
        /// The row of index 0.
        first: u32,
        /// `[Tokens, width]`
        out: BufferId,
    },
    /// `out = x Wᵀ + bias`; W `[out, in]`.
    MatMul {
        /// `[rows, in]`
        x: BufferId,
        /// What x is rounded to first, row by row; nothing where it is taken as it is.
        input: Option<InputFormat>,
        /// `[out, in]`
        weight: WeightId,
        /// `[out]`
        bias: Option<WeightId>,
        /// `[rows, out]`
        out: BufferId,
    },
    /// `out[r, j] = x[r, j] W[e]ᵀ + bias[e]` with `e = choice[r, j]`: of the experts, those that each row has chosen.
    ExpertMatMul {
        /// `[rows, in]`, the same for each choice, or `[rows, k·in]`
        x: BufferId,
        /// What each `[in]` of x is rounded to first; nothing where it is taken as it is.
        input: Option<InputFormat>,
        /// Indices `[rows, k]`
        choice: BufferId,
        /// `[out, in]` each, by expert
        weights: Vec<WeightId>,
        /// `[out]` each, by expert, or none
        biases: Vec<WeightId>,
        /// `[rows, k·out]`
        out: BufferId,
    },
    /// Each group of `width` elements, less its mean if `centre`, divided by its root mean square
    /// `sqrt(mean(x²) + eps)`, times `gain_offset + gain`, plus `shift`: `RMSNorm` and `LayerNorm`. What is taken off is
    /// as in [`Op::Centre`].
    Norm {
        /// `[rows, n·width]`
        x: BufferId,
        /// Whether the mean is taken off first.
        centre: bool,
        /// As in [`Op::Centre`], `[width]`; none where `centre` is false.
        along: Option<WeightId>,
        /// Elements normalized together: the whole row, or a head.
        width: u32,
        /// Added to the mean square.
        eps: f32,
        /// `[width]`
        gain: Option<WeightId>,
        /// Added to the gain: 1 where gains are stored as their difference from 1. 0 without a gain.
        gain_offset: f32,
        /// `[width]`
        shift: Option<WeightId>,
        /// As `x`.
        out: BufferId,
    },
    /// Each group of `width` elements less its mean; with a unit vector u less its part along u, `x − (x·u) u`. That is
    /// what taking the mean off becomes where rows are rotated: for x' = x Q, u is `1 Q / √width`.
    Centre {
        /// `[rows, n·width]`
        x: BufferId,
        /// u, `[width]`.
        along: Option<WeightId>,
        /// Elements of a group.
        width: u32,
        /// As `x`.
        out: BufferId,
    },
    /// Each group of elements times `offset + gain`.
    Gain {
        /// `[rows, n·width]`
        x: BufferId,
        /// `[width]`
        gain: WeightId,
        /// Added to the gain.
        offset: f32,
        /// As `x`.
        out: BufferId,
    },
    /// Each group of elements plus `shift`.
    Shift {
        /// `[rows, n·width]`
        x: BufferId,
        /// `[width]`
        shift: WeightId,
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
    /// `out = x Q` for each block of as many elements as the rotation has, or `x Qᵀ` if `inverse`.
    Rotate {
        /// `[rows, n·width]`, real
        x: BufferId,
        /// Q.
        rotation: RotationId,
        /// Whether to rotate back.
        inverse: bool,
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
        /// Scores s become `cap · tanh(s / cap)`.
        softcap: Option<f32>,
        /// `[heads]`: a score of each head that takes part in its softmax and has no value.
        sinks: Option<WeightId>,
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
    /// `out = factor · x + offset` for each element.
    Affine {
        /// Any buffer.
        x: BufferId,
        /// Multiplied.
        factor: f32,
        /// Added.
        offset: f32,
        /// As `x`.
        out: BufferId,
    },
    /// `out = min(max(x, low), high)` for each element; at least one of the bounds is given.
    Clamp {
        /// Any buffer.
        x: BufferId,
        /// Least value, if any.
        low: Option<f32>,
        /// Largest value, if any.
        high: Option<f32>,
        /// As `x`.
        out: BufferId,
    },
    /// `out = cap · tanh(x / cap)` for each element.
    Softcap {
        /// Any buffer.
        x: BufferId,
        /// Above 0.
        cap: f32,
        /// As `x`.
        out: BufferId,
    },
    /// `exp(x) / Σ exp(x)` over each group of `width` elements.
    Softmax {
        /// `[rows, n·width]`
        x: BufferId,
        /// Elements of a group.
        width: u32,
        /// As `x`.
        out: BufferId,
    },
    /// `x / Σ x` over each group of `width` elements.
    NormalizeSum {
        /// `[rows, n·width]`
        x: BufferId,
        /// Elements of a group.
        width: u32,
        /// As `x`.
        out: BufferId,
    },
    /// The numbers of the `k` largest elements of each row, largest first; of equal ones the lowest number.
    TopK {
        /// `[rows, n]`
        x: BufferId,
        /// At most n; the width of `out`.
        k: u32,
        /// Indices `[rows, k]` below n
        out: BufferId,
    },
    /// `out[r, j] = x[r, choice[r, j]]`
    Gather {
        /// `[rows, n]`
        x: BufferId,
        /// Indices `[rows, k]` below n
        choice: BufferId,
        /// `[rows, k]`
        out: BufferId,
    },
    /// `out[r] = Σ_j weights[r, j] · x[r, j]`
    Combine {
        /// `[rows, k·width]`
        x: BufferId,
        /// `[rows, k]`
        weights: BufferId,
        /// `[rows, width]`
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

/// What counts the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Index {
    /// The tokens.
    Tokens,
    /// Their positions.
    Positions,
}

/// Functions of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unary {
    /// `x / (1 + exp(-x))`
    Silu,
    /// `x · Φ(x)` with the normal distribution function Φ (Hendrycks and Gimpel 2016)
    Gelu,
    /// `x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`
    GeluTanh,
    /// `x / (1 + exp(-1.702 x))`
    GeluQuick,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)²`
    ReluSquared,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
}

impl Unary {
    /// Every function with its name.
    pub const ALL: [(&'static str, Unary); 8] = [
        ("silu", Unary::Silu),
        ("gelu", Unary::Gelu),
        ("gelu_tanh", Unary::GeluTanh),
        ("gelu_quick", Unary::GeluQuick),
        ("relu", Unary::Relu),
        ("relu_squared", Unary::ReluSquared),
        ("sigmoid", Unary::Sigmoid),
        ("tanh", Unary::Tanh),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }
}

/// Functions of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a · b`
    Mul,
}

impl Binary {
    /// Every function with its name.
    pub const ALL: [(&'static str, Binary); 3] = [("add", Binary::Add), ("sub", Binary::Sub), ("mul", Binary::Mul)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }
}
