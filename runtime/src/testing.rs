//! Small programs for tests. Two have two layers with grouped heads: a dense one with a tied head, and one with experts; a
//! third one rotates. Together they have every kernel.

use lathe_runtime::program::{
    Binary, Buffer, BufferId, Cache, CacheId, Compute, Elements, Index, InputFormat, Op, PROGRAM_VERSION, Program,
    RopeGrowth, RopeId, RopePairing, RopeTable, Rotation, RotationId, Rows, Step, Unary, Weight, WeightId,
};

/// Sizes of a program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) vocabulary: u32,
    pub(crate) hidden: u32,
    pub(crate) head_dim: u32,
    pub(crate) feed_forward: u32,
}

/// The sizes of [`small_program`]: none is a multiple of a vector, so every kernel has a remainder.
pub(crate) const SMALL: Sizes = Sizes { vocabulary: 37, hidden: 24, head_dim: 10, feed_forward: 40 };

const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const LAYERS: u32 = 2;
const MAX_POSITIONS: u32 = 64;

/// Experts of [`expert_program`].
pub(crate) const EXPERTS: u32 = 5;
/// How many of them a token chooses.
pub(crate) const CHOSEN: u32 = 2;
/// Longest text for which the first layer of [`expert_program`] does not switch frequencies.
pub(crate) const SWITCH_POSITIONS: u32 = 12;
/// Longest text for which the second layer of [`expert_program`] has the frequencies of its table.
pub(crate) const DYNAMIC_POSITIONS: u32 = 6;

/// Adds weights, buffers and steps one after the other.
pub(crate) struct Builder {
    pub(crate) program: Program,
    sizes: Sizes,
}

impl Builder {
    pub(crate) fn new(sizes: Sizes) -> Self {
        let program = Program {
            version: PROGRAM_VERSION,
            model: "small".to_owned(),
            compute: Compute::F32,
            max_positions: Some(MAX_POSITIONS),
            weights: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
            rope_tables: Vec::new(),
            rotations: Vec::new(),
            steps: Vec::new(),
            output: BufferId(0),
        };
        Builder { program, sizes }
    }

    pub(crate) fn weight(&mut self, name: &str, format: &str, shape: &[u32]) -> WeightId {
        let shape = shape.iter().map(|&dimension| dimension.into()).collect();
        self.program.weights.push(Weight { name: name.to_owned(), format: format.to_owned(), shape });
        WeightId(self.program.weights.len() as u32 - 1)
    }

    /// Adds a rotation that brings no matrix along.
    pub(crate) fn rotation(&mut self, rotation: &lathe_kernels::rotations::Rotation) -> RotationId {
        self.program.rotations.push(Rotation::of(rotation, |_| unreachable!("no matrix")));
        RotationId(self.program.rotations.len() as u32 - 1)
    }

    /// Adds a rotation by a matrix that becomes a weight.
    pub(crate) fn matrix_rotation(&mut self, name: &str, width: u32) -> RotationId {
        let weight = self.weight(name, "f32", &[width, width]);
        self.program.rotations.push(Rotation::Matrix { width, weight });
        RotationId(self.program.rotations.len() as u32 - 1)
    }

    pub(crate) fn rotate(&mut self, label: &str, x: BufferId, rotation: RotationId, inverse: bool) -> BufferId {
        let Buffer { rows, width, .. } = self.program.buffers[x.index()];
        self.step(label, rows, width, |out| Op::Rotate { x, rotation, inverse, out })
    }

    /// Adds a step whose `out` is a new buffer.
    pub(crate) fn step(&mut self, label: &str, rows: Rows, width: u32, op: impl FnOnce(BufferId) -> Op) -> BufferId {
        self.step_of(label, Buffer { rows, width, elements: Elements::Real }, op)
    }

    fn step_of(&mut self, label: &str, buffer: Buffer, op: impl FnOnce(BufferId) -> Op) -> BufferId {
        let out = BufferId(self.program.buffers.len() as u32);
        self.program.buffers.push(buffer);
        self.program.steps.push(Step { label: label.to_owned(), op: op(out) });
        out
    }

    /// The numbers of the `k` largest of `x`, of `below` elements.
    pub(crate) fn top_k(&mut self, label: &str, x: BufferId, below: u32, k: u32) -> BufferId {
        let buffer = Buffer { rows: Rows::Tokens, width: k, elements: Elements::Index { below } };
        self.step_of(label, buffer, |out| Op::TopK { x, k, out })
    }

    /// Looks tokens up.
    pub(crate) fn embed(&mut self, label: &str, table: WeightId, width: u32) -> BufferId {
        self.step(label, Rows::Tokens, width, |out| Op::Embed { table, index: Index::Tokens, first: 0, out })
    }

    pub(crate) fn linear(&mut self, label: &str, x: BufferId, shape: [u32; 2], biased: bool) -> BufferId {
        let weight = self.weight(&format!("{label}.weight"), "bf16", &shape);
        let bias = biased.then(|| self.weight(&format!("{label}.bias"), "f32", &shape[..1]));
        self.step(label, Rows::Tokens, shape[0], |out| Op::MatMul { x, input: None, weight, bias, out })
    }

    fn norm(&mut self, label: &str, x: BufferId, rows: Rows, row_width: u32, width: u32) -> BufferId {
        let gain = Some(self.weight(&format!("{label}.weight"), "f16", &[width]));
        self.step(label, rows, row_width, |out| rms_norm(x, gain, width, out))
    }

    fn layer_norm(&mut self, label: &str, x: BufferId) -> BufferId {
        let width = self.sizes.hidden;
        let gain = Some(self.weight(&format!("{label}.weight"), "f32", &[width]));
        let shift = Some(self.weight(&format!("{label}.bias"), "f32", &[width]));
        let (centre, eps, gain_offset) = (true, 1e-5, 0.0);
        let norm = |out| Op::Norm { x, centre, along: None, width, eps, gain, gain_offset, shift, out };
        self.step(label, Rows::Tokens, width, norm)
    }

    fn add(&mut self, label: &str, a: BufferId, b: BufferId) -> BufferId {
        self.step(label, Rows::Tokens, self.sizes.hidden, |out| Op::Binary { function: Binary::Add, a, b, out })
    }

    fn attention(&mut self, layer: u32, x: BufferId) -> BufferId {
        let module = format!("layers.{layer}.attention");
        let Sizes { hidden, head_dim, .. } = self.sizes;
        let (q_width, kv_width) = (HEADS * head_dim, KV_HEADS * head_dim);
        let q = self.linear(&format!("{module}.q"), x, [q_width, hidden], true);
        let q = self.norm(&format!("{module}.q_norm"), q, Rows::Tokens, q_width, head_dim);
        let k = self.linear(&format!("{module}.k"), x, [kv_width, hidden], true);
        let v = self.linear(&format!("{module}.v"), x, [kv_width, hidden], false);
        let rope = |x| move |out| Op::Rope { x, table: RopeId(0), head_dim, out };
        let q = self.step(&format!("{module}.rope_q"), Rows::Tokens, q_width, rope(q));
        let k = self.step(&format!("{module}.rope_k"), Rows::Tokens, kv_width, rope(k));
        self.program.caches.push(Cache { heads: KV_HEADS, head_dim });
        let (cache, window) = (CacheId(layer), (layer == LAYERS - 1).then_some(5));
        let scale = (head_dim as f32).sqrt().recip();
        let attended = self.step(&format!("{module}.attend"), Rows::Tokens, q_width, |out| Op::Attention {
            q,
            k,
            v,
            cache,
            heads: HEADS,
            scale,
            window,
            softcap: None,
            sinks: None,
            out,
        });
        self.linear(&format!("{module}.o"), attended, [hidden, q_width], false)
    }

    fn feed_forward(&mut self, layer: u32, x: BufferId) -> BufferId {
        let Sizes { hidden, feed_forward, .. } = self.sizes;
        let module = format!("layers.{layer}.mlp");
        let gate = self.linear(&format!("{module}.gate"), x, [feed_forward, hidden], false);
        let up = self.linear(&format!("{module}.up"), x, [feed_forward, hidden], false);
        let product = if layer == 0 {
            let function = Unary::Silu;
            self.step(&module, Rows::Tokens, feed_forward, |out| Op::Gated { function, gate, value: up, out })
        } else {
            let function = Unary::Silu;
            let gate = self.step(&module, Rows::Tokens, feed_forward, |out| Op::Unary { function, x: gate, out });
            let function = Binary::Mul;
            self.step(&module, Rows::Tokens, feed_forward, |out| Op::Binary { function, a: gate, b: up, out })
        };
        self.linear(&format!("{module}.down"), product, [hidden, feed_forward], false)
    }
}

/// The program at its usual size.
pub(crate) fn small_program() -> Program {
    program(SMALL)
}

/// The program at any size.
pub(crate) fn program(sizes: Sizes) -> Program {
    let Sizes { vocabulary, hidden, .. } = sizes;
    let mut builder = Builder::new(sizes);
    builder.program.rope_tables.push(RopeTable {
        pairing: RopePairing::Half,
        inverse_frequencies: vec![1.0, 0.25, 0.0625, 0.015_625],
        amplitude: 1.0,
        growth: None,
    });
    let table = builder.weight("embed.weight", "bf16", &[vocabulary, hidden]);
    let mut x = builder.embed("embed", table, hidden);
    for layer in 0..LAYERS {
        let h = builder.norm(&format!("layers.{layer}.attention_norm"), x, Rows::Tokens, hidden, hidden);
        let attended = builder.attention(layer, h);
        x = builder.add(&format!("layers.{layer}.attention_add"), x, attended);
        let h = builder.norm(&format!("layers.{layer}.mlp_norm"), x, Rows::Tokens, hidden, hidden);
        let fed = builder.feed_forward(layer, h);
        x = builder.add(&format!("layers.{layer}.mlp_add"), x, fed);
    }
    let x = builder.step("select", Rows::Selected, hidden, |out| Op::Select { x, out });
    let x = builder.step("norm", Rows::Selected, hidden, |out| rms_norm(x, None, hidden, out));
    let gain = builder.weight("norm.weight", "f32", &[hidden]);
    let x = builder.step("norm.gain", Rows::Selected, hidden, |out| Op::Gain { x, gain, offset: 0.0, out });
    let bias = None;
    let logits =
        builder.step("head", Rows::Selected, vocabulary, |out| Op::MatMul { x, input: None, weight: table, bias, out });
    builder.program.output = logits;
    builder.program
}

/// A program whose products, but for those with a table, take their x as int8.
pub(crate) fn with_int8_inputs(mut program: Program) -> Program {
    let tables: Vec<WeightId> = program
        .steps
        .iter()
        .filter(|step| matches!(step.op, Op::Embed { .. }))
        .flat_map(|step| step.op.weights())
        .collect();
    for step in &mut program.steps {
        let (input, multiplied) = match &mut step.op {
            Op::MatMul { input, weight, .. } if !tables.contains(weight) => (input, std::slice::from_ref(&*weight)),
            Op::ExpertMatMul { input, weights, .. } => (input, weights.as_slice()),
            _ => continue,
        };
        *input = Some(InputFormat::Int8PerToken);
        for weight in multiplied {
            "int8(per: channel, scales: f32)".clone_into(&mut program.weights[weight.index()].format);
        }
    }
    program
}

/// `RMSNorm`, with or without a gain.
pub(crate) fn rms_norm(x: BufferId, gain: Option<WeightId>, width: u32, out: BufferId) -> Op {
    Op::Norm { x, centre: false, along: None, width, eps: 1e-6, gain, gain_offset: 0.0, shift: None, out }
}

/// The parts of [`expert_program`].
impl Builder {
    /// Normalized queries, shifted keys, a rope table of its own, a cap and sinks.
    fn sink_attention(&mut self, layer: u32, x: BufferId) -> BufferId {
        let module = format!("layers.{layer}.attention");
        let Sizes { hidden, head_dim, .. } = self.sizes;
        let (q_width, kv_width) = (HEADS * head_dim, KV_HEADS * head_dim);
        let q = self.linear(&format!("{module}.q"), x, [q_width, hidden], false);
        let q = self.step(&format!("{module}.centre"), Rows::Tokens, q_width, |out| Op::Centre {
            x: q,
            along: None,
            width: head_dim,
            out,
        });
        let gain = self.weight(&format!("{module}.q_gain.weight"), "f32", &[2 * head_dim]);
        let q = self.step(&format!("{module}.q_gain"), Rows::Tokens, q_width, |out| Op::Gain {
            x: q,
            gain,
            offset: 1.0,
            out,
        });
        let k = self.linear(&format!("{module}.k"), x, [kv_width, hidden], false);
        let shift = self.weight(&format!("{module}.k_shift.bias"), "f32", &[kv_width]);
        let k = self.step(&format!("{module}.k_shift"), Rows::Tokens, kv_width, |out| Op::Shift { x: k, shift, out });
        let v = self.linear(&format!("{module}.v"), x, [kv_width, hidden], false);
        let rope = |x| move |out| Op::Rope { x, table: RopeId(layer), head_dim, out };
        let q = self.step(&format!("{module}.rope_q"), Rows::Tokens, q_width, rope(q));
        let k = self.step(&format!("{module}.rope_k"), Rows::Tokens, kv_width, rope(k));
        let sinks = Some(self.weight(&format!("{module}.sinks"), "f32", &[HEADS]));
        self.program.caches.push(Cache { heads: KV_HEADS, head_dim });
        let scale = (head_dim as f32).sqrt().recip();
        let attended = self.step(&format!("{module}.attend"), Rows::Tokens, q_width, |out| Op::Attention {
            q,
            k,
            v,
            cache: CacheId(layer),
            heads: HEADS,
            scale,
            window: None,
            softcap: Some(1.5),
            sinks,
            out,
        });
        self.linear(&format!("{module}.o"), attended, [hidden, q_width], false)
    }

    /// The chosen experts' products, `[Tokens, CHOSEN · shape[0]]`.
    fn expert_linear(&mut self, label: &str, x: BufferId, choice: BufferId, shape: [u32; 2], biased: bool) -> BufferId {
        let weights = (0..EXPERTS).map(|e| self.weight(&format!("{label}.{e}.weight"), "bf16", &shape)).collect();
        let biased = if biased { 0..EXPERTS } else { 0..0 };
        let biases = biased.map(|e| self.weight(&format!("{label}.{e}.bias"), "f32", &shape[..1])).collect();
        let op = |out| Op::ExpertMatMul { x, input: None, choice, weights, biases, out };
        self.step(label, Rows::Tokens, CHOSEN * shape[0], op)
    }

    /// Weights are the softmax over the chosen experts in the first layer, the chosen shares of the softmax over all
    /// experts in the second.
    fn experts(&mut self, layer: u32, x: BufferId) -> BufferId {
        let Sizes { hidden, feed_forward, .. } = self.sizes;
        let module = format!("layers.{layer}.mlp");
        let router = format!("{module}.router");
        let logits = self.linear(&router, x, [EXPERTS, hidden], false);
        let (choice, weights) = if layer == 0 {
            let choice = self.top_k(&router, logits, EXPERTS, CHOSEN);
            let gather = |out| Op::Gather { x: logits, choice, out };
            let x = self.step(&router, Rows::Tokens, CHOSEN, gather);
            let softmax = |out| Op::Softmax { x, width: CHOSEN, out };
            (choice, self.step(&router, Rows::Tokens, CHOSEN, softmax))
        } else {
            let softmax = |out| Op::Softmax { x: logits, width: EXPERTS, out };
            let shares = self.step(&router, Rows::Tokens, EXPERTS, softmax);
            let choice = self.top_k(&router, shares, EXPERTS, CHOSEN);
            let gather = |out| Op::Gather { x: shares, choice, out };
            let x = self.step(&router, Rows::Tokens, CHOSEN, gather);
            let normalize = |out| Op::NormalizeSum { x, width: CHOSEN, out };
            (choice, self.step(&router, Rows::Tokens, CHOSEN, normalize))
        };
        let (width, biased) = (CHOSEN * feed_forward, layer == 0);
        let x_up = self.expert_linear(&format!("{module}.up"), x, choice, [feed_forward, hidden], biased);
        let gate = self.expert_linear(&format!("{module}.gate"), x, choice, [feed_forward, hidden], biased);
        let low = (layer == 0).then_some(-1.0);
        let clamp = |out| Op::Clamp { x: gate, low, high: Some(0.75), out };
        let gate = self.step(&format!("{module}.clamp"), Rows::Tokens, width, clamp);
        let gated = |out| Op::Gated { function: Unary::GeluTanh, gate, value: x_up, out };
        let product = self.step(&module, Rows::Tokens, width, gated);
        let x = self.expert_linear(&format!("{module}.down"), product, choice, [hidden, feed_forward], biased);
        self.step(&format!("{module}.combine"), Rows::Tokens, hidden, |out| Op::Combine { x, weights, out })
    }
}

/// A program with experts, positions from a table and rotary frequencies that depend on the length of the text.
pub(crate) fn expert_program(sizes: Sizes) -> Program {
    let Sizes { vocabulary, hidden, .. } = sizes;
    let mut builder = Builder::new(sizes);
    let table = |pairing, growth| RopeTable {
        pairing,
        inverse_frequencies: vec![1.0, 0.1, 0.01],
        amplitude: 1.25,
        growth: Some(growth),
    };
    let switch = RopeGrowth::Switch { positions: SWITCH_POSITIONS, inverse_frequencies: vec![0.5, 0.3, 0.2] };
    let dynamic = RopeGrowth::Dynamic { positions: DYNAMIC_POSITIONS, factor: 2.0, theta: 1000.0 };
    builder.program.rope_tables = vec![table(RopePairing::Half, switch), table(RopePairing::Interleaved, dynamic)];

    let table = builder.weight("embed.weight", "bf16", &[vocabulary, hidden]);
    let tokens = builder.embed("embed", table, hidden);
    let table = builder.weight("positions.weight", "f16", &[MAX_POSITIONS + 2, hidden]);
    let positions = |out| Op::Embed { table, index: Index::Positions, first: 2, out };
    let positions = builder.step("positions", Rows::Tokens, hidden, positions);
    let mut x = builder.add("positions", tokens, positions);
    for layer in 0..LAYERS {
        let h = builder.layer_norm(&format!("layers.{layer}.attention_norm"), x);
        let attended = builder.sink_attention(layer, h);
        let scale = |out| Op::Affine { x: attended, factor: 0.5, offset: 0.125, out };
        let scaled = builder.step(&format!("layers.{layer}.attention_scale"), Rows::Tokens, hidden, scale);
        x = builder.add(&format!("layers.{layer}.attention_add"), x, scaled);
        let b = builder.layer_norm(&format!("layers.{layer}.mlp_norm"), x);
        let b = builder.experts(layer, b);
        let sub = |out| Op::Binary { function: Binary::Sub, a: x, b, out };
        x = builder.step(&format!("layers.{layer}.mlp_sub"), Rows::Tokens, hidden, sub);
    }
    let x = builder.step("select", Rows::Selected, hidden, |out| Op::Select { x, out });
    let x = builder.step("norm", Rows::Selected, hidden, |out| rms_norm(x, None, hidden, out));
    let weight = builder.weight("head.weight", "bf16", &[vocabulary, hidden]);
    let head = |out| Op::MatMul { x, input: None, weight, bias: None, out };
    let x = builder.step("head", Rows::Selected, vocabulary, head);
    let softcap = |out| Op::Softcap { x, cap: 5.0, out };
    builder.program.output = builder.step("softcap", Rows::Selected, vocabulary, softcap);
    builder.program
}

/// A program with rotations of every kind and of several blocks in a row, and what centres along vectors.
pub(crate) fn rotated_program(sizes: Sizes) -> Program {
    use lathe_kernels::rotations::Rotation;

    let Sizes { vocabulary, hidden, .. } = sizes;
    let mut builder = Builder::new(sizes);
    let random = builder.rotation(&Rotation::random_hadamard(hidden as usize, 7).unwrap());
    let blocks = builder.rotation(&Rotation::hadamard(4).unwrap());
    let orthogonal = builder.rotation(&Rotation::orthogonal(hidden as usize / 2, 5).unwrap());
    let matrix = builder.matrix_rotation("basis", 8);
    let table = builder.weight("embed.weight", "bf16", &[vocabulary, hidden]);
    let x = builder.embed("embed", table, hidden);
    let x = builder.rotate("rotate", x, random, false);
    let along = Some(builder.weight("norm.along", "f32", &[hidden]));
    let gain = Some(builder.weight("norm.weight", "f32", &[hidden]));
    let x = builder.step("norm", Rows::Tokens, hidden, |out| Op::Norm {
        x,
        centre: true,
        along,
        width: hidden,
        eps: 1e-5,
        gain,
        gain_offset: 0.0,
        shift: None,
        out,
    });
    let x = builder.linear("linear", x, [hidden, hidden], true);
    let x = builder.rotate("blocks", x, blocks, true);
    let x = builder.rotate("orthogonal", x, orthogonal, false);
    let along = Some(builder.weight("centre.along", "f32", &[hidden / 2]));
    let x = builder.step("centre", Rows::Tokens, hidden, |out| Op::Centre { x, along, width: hidden / 2, out });
    let x = builder.rotate("matrix", x, matrix, true);
    let x = builder.step("select", Rows::Selected, hidden, |out| Op::Select { x, out });
    let x = builder.rotate("back", x, random, true);
    let bias = None;
    let logits =
        builder.step("head", Rows::Selected, vocabulary, |out| Op::MatMul { x, input: None, weight: table, bias, out });
    builder.program.output = logits;
    builder.program
}

/// A `tokenizer.json` of the small program's vocabulary: one token for each of 35 bytes, spelt as byte-level tokenizers
/// spell them, after `<s>` and `</s>`. It asks for truncation and padding, and puts `<s>` in front.
#[cfg(feature = "text")]
pub(crate) fn tokenizer_json() -> String {
    let bytes = ('a'..='z').chain(['Ġ', 'Ã', '©', 'ã', '¡', '¢', '.', ',', '1']);
    let vocabulary: serde_json::Map<String, serde_json::Value> = ["<s>".to_owned(), "</s>".to_owned()]
        .into_iter()
        .chain(bytes.map(String::from))
        .enumerate()
        .map(|(id, token)| (token, id.into()))
        .collect();
    let special = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true});
    serde_json::json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 1,
            "pad_type_id": 0, "pad_token": "</s>"},
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": []},
    })
    .to_string()
}
