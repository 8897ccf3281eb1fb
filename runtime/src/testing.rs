//! A small program for tests: two layers, grouped heads, a tied head, every kernel at least once.

use lathe_runtime::program::{
    Binary, Buffer, BufferId, Cache, CacheId, Compute, Op, PROGRAM_VERSION, Program, RopeId, RopePairing, RopeTable,
    Rows, Step, Unary, Weight, WeightId,
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

    /// Adds a step whose `out` is a new buffer.
    pub(crate) fn step(&mut self, label: &str, rows: Rows, width: u32, op: impl FnOnce(BufferId) -> Op) -> BufferId {
        let out = BufferId(self.program.buffers.len() as u32);
        self.program.buffers.push(Buffer { rows, width });
        self.program.steps.push(Step { label: label.to_owned(), op: op(out) });
        out
    }

    fn linear(&mut self, label: &str, x: BufferId, shape: [u32; 2], biased: bool) -> BufferId {
        let weight = self.weight(&format!("{label}.weight"), "bf16", &shape);
        let bias = biased.then(|| self.weight(&format!("{label}.bias"), "f32", &shape[..1]));
        self.step(label, Rows::Tokens, shape[0], |out| Op::MatMul { x, weight, bias, out })
    }

    fn norm(&mut self, label: &str, x: BufferId, rows: Rows, row_width: u32, width: u32) -> BufferId {
        let gain = Some(self.weight(&format!("{label}.weight"), "f16", &[width]));
        self.step(label, rows, row_width, |out| Op::RmsNorm { x, gain, width, eps: 1e-6, out })
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
    });
    let table = builder.weight("embed.weight", "bf16", &[vocabulary, hidden]);
    let mut x = builder.step("embed", Rows::Tokens, hidden, |out| Op::Embed { table, out });
    for layer in 0..LAYERS {
        let h = builder.norm(&format!("layers.{layer}.attention_norm"), x, Rows::Tokens, hidden, hidden);
        let attended = builder.attention(layer, h);
        x = builder.add(&format!("layers.{layer}.attention_add"), x, attended);
        let h = builder.norm(&format!("layers.{layer}.mlp_norm"), x, Rows::Tokens, hidden, hidden);
        let fed = builder.feed_forward(layer, h);
        x = builder.add(&format!("layers.{layer}.mlp_add"), x, fed);
    }
    let x = builder.step("select", Rows::Selected, hidden, |out| Op::Select { x, out });
    let (gain, width) = (None, hidden);
    let x = builder.step("norm", Rows::Selected, hidden, |out| Op::RmsNorm { x, gain, width, eps: 1e-6, out });
    let gain = builder.weight("norm.weight", "f32", &[hidden]);
    let x = builder.step("norm.gain", Rows::Selected, hidden, |out| Op::Gain { x, gain, width, out });
    let bias = None;
    let logits = builder.step("head", Rows::Selected, vocabulary, |out| Op::MatMul { x, weight: table, bias, out });
    builder.program.output = logits;
    builder.program
}

/// A `tokenizer.json` of the small program's vocabulary: one token for each of 35 bytes, spelt as byte-level tokenizers
/// spell them, after `<s>` and `</s>`. It asks for truncation and padding, and puts `<s>` in front.
#[cfg(feature = "cli")]
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
