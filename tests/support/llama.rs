//! Small Llama checkpoints made on the spot, and what they compute, spelled out in f64.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};

use super::forge::Forge;
use super::random::Random;

/// How a checkpoint stores its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Bf16,
    F16,
    F32,
}

impl Stored {
    /// As safetensors calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stored::Bf16 => "BF16",
            Stored::F16 => "F16",
            Stored::F32 => "F32",
        }
    }

    /// The bytes of these values, rounded.
    pub(crate) fn encode(self, values: &[f64]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|&value| match self {
                Stored::Bf16 => bf16::from_f64(value).to_le_bytes().to_vec(),
                Stored::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
                Stored::F32 => (value as f32).to_le_bytes().to_vec(),
            })
            .collect()
    }

    fn round(self, value: f64) -> f64 {
        match self {
            Stored::Bf16 => bf16::from_f64(value).to_f64(),
            Stored::F16 => f16::from_f64(value).to_f64(),
            Stored::F32 => f64::from(value as f32),
        }
    }
}

/// The sizes of a Llama.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) hidden: usize,
    pub(crate) ffn: usize,
    pub(crate) vocab: usize,
    pub(crate) tied: bool,
    pub(crate) attention_bias: bool,
    pub(crate) mlp_bias: bool,
    pub(crate) window: Option<usize>,
    pub(crate) theta: f64,
    pub(crate) eps: f64,
    pub(crate) stored: Stored,
    pub(crate) seed: u64,
}

impl Shape {
    /// One layer of odd sizes: enough for everything that is no arithmetic.
    pub(crate) fn tiny() -> Self {
        Shape {
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            hidden: 6,
            ffn: 10,
            vocab: 12,
            tied: true,
            attention_bias: false,
            mlp_bias: false,
            window: None,
            theta: 10_000.0,
            eps: 1e-5,
            stored: Stored::Bf16,
            seed: 1,
        }
    }

    /// config.json
    pub(crate) fn config(&self) -> Value {
        json!({
            "architectures": [if self.window.is_some() { "MistralForCausalLM" } else { "LlamaForCausalLM" }],
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "max_position_embeddings": 64,
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "sliding_window": self.window,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "tie_word_embeddings": self.tied,
        })
    }
}

/// `[out, in]` and an optional bias.
#[derive(Debug)]
struct Linear {
    out: usize,
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
}

impl Linear {
    /// W x + b
    fn apply(&self, x: &[f64]) -> Vec<f64> {
        (0..self.out)
            .map(|row| {
                let row_weights = &self.weight[row * x.len()..(row + 1) * x.len()];
                let dot: f64 = row_weights.iter().zip(x).map(|(w, x)| w * x).sum();
                dot + self.bias.as_ref().map_or(0.0, |bias| bias[row])
            })
            .collect()
    }
}

#[derive(Debug)]
struct Layer {
    input_norm: Vec<f64>,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    post_norm: Vec<f64>,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A Llama with random weights.
#[derive(Debug)]
pub(crate) struct Llama {
    pub(crate) shape: Shape,
    /// Its checkpoint.
    pub(crate) tensors: Forge,
    table: Vec<f64>,
    layers: Vec<Layer>,
    norm: Vec<f64>,
    head: Vec<f64>,
}

/// Draws weights and stores them.
struct Maker {
    random: Random,
    stored: Stored,
    tensors: Forge,
}

impl Maker {
    fn tensor(&mut self, name: &str, shape: &[usize], centre: f64, spread: f64) -> Vec<f64> {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|_| self.stored.round(centre + spread * self.random.unit())).collect();
        let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        self.tensors.push(name, self.stored.name(), &shape, &self.stored.encode(&values));
        values
    }

    fn linear(&mut self, name: &str, input: usize, out: usize, bias: bool) -> Linear {
        let spread = 1.7 / (input as f64).sqrt();
        let weight = self.tensor(&format!("{name}.weight"), &[out, input], 0.0, spread);
        let bias = bias.then(|| self.tensor(&format!("{name}.bias"), &[out], 0.0, 0.5));
        Linear { out, weight, bias }
    }
}

impl Llama {
    /// Random weights for these sizes; the same seed gives the same weights.
    pub(crate) fn new(shape: Shape) -> Self {
        let Shape { hidden, ffn, vocab, attention_bias, mlp_bias, .. } = shape;
        let mut maker = Maker { random: Random::new(shape.seed), stored: shape.stored, tensors: Forge::default() };
        let table = maker.tensor("model.embed_tokens.weight", &[vocab, hidden], 0.0, 1.0);
        let (q_width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let layers = (0..shape.layers)
            .map(|index| {
                let at = |name: &str| format!("model.layers.{index}.{name}");
                Layer {
                    input_norm: maker.tensor(&at("input_layernorm.weight"), &[hidden], 1.0, 0.3),
                    q: maker.linear(&at("self_attn.q_proj"), hidden, q_width, attention_bias),
                    k: maker.linear(&at("self_attn.k_proj"), hidden, kv_width, attention_bias),
                    v: maker.linear(&at("self_attn.v_proj"), hidden, kv_width, attention_bias),
                    o: maker.linear(&at("self_attn.o_proj"), q_width, hidden, attention_bias),
                    post_norm: maker.tensor(&at("post_attention_layernorm.weight"), &[hidden], 1.0, 0.3),
                    gate: maker.linear(&at("mlp.gate_proj"), hidden, ffn, mlp_bias),
                    up: maker.linear(&at("mlp.up_proj"), hidden, ffn, mlp_bias),
                    down: maker.linear(&at("mlp.down_proj"), ffn, hidden, mlp_bias),
                }
            })
            .collect();
        let norm = maker.tensor("model.norm.weight", &[hidden], 1.0, 0.3);
        let head = if shape.tied { table.clone() } else { maker.tensor("lm_head.weight", &[vocab, hidden], 0.0, 1.0) };
        Llama { shape, tensors: maker.tensors, table, layers, norm, head }
    }

    /// Writes config.json and model.safetensors.
    pub(crate) fn write(&self, folder: &Path) {
        write(folder, &self.shape.config(), &self.tensors);
    }

    /// Logits at every position.
    pub(crate) fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let Shape { hidden, eps, vocab, .. } = self.shape;
        let row = |token: u32| self.table[token as usize * hidden..][..hidden].to_vec();
        let mut stream: Vec<Vec<f64>> = tokens.iter().map(|&token| row(token)).collect();
        for layer in &self.layers {
            let normed: Vec<Vec<f64>> = stream.iter().map(|x| rms_norm(x, &layer.input_norm, eps)).collect();
            for (x, mixed) in stream.iter_mut().zip(self.attention(layer, &normed)) {
                add(x, &layer.o.apply(&mixed));
                let h = rms_norm(x, &layer.post_norm, eps);
                let up = layer.up.apply(&h);
                let gated: Vec<f64> =
                    layer.gate.apply(&h).iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
                add(x, &layer.down.apply(&gated));
            }
        }
        let head = Linear { out: vocab, weight: self.head.clone(), bias: None };
        stream.iter().map(|x| head.apply(&rms_norm(x, &self.norm, eps))).collect()
    }

    /// Heads side by side, at every position.
    fn attention(&self, layer: &Layer, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let Shape { heads, kv_heads, head_dim, window, .. } = self.shape;
        let rotated = |linear: &Linear| -> Vec<Vec<f64>> {
            inputs.iter().enumerate().map(|(position, x)| self.rope(linear.apply(x), position)).collect()
        };
        let (queries, keys) = (rotated(&layer.q), rotated(&layer.k));
        let values: Vec<Vec<f64>> = inputs.iter().map(|x| layer.v.apply(x)).collect();
        (0..inputs.len())
            .map(|position| {
                let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
                let mut out = Vec::new();
                for head in 0..heads {
                    let kv = head / (heads / kv_heads) * head_dim;
                    let query = &queries[position][head * head_dim..][..head_dim];
                    let scores: Vec<f64> = keys[first..=position]
                        .iter()
                        .map(|key| dot(query, &key[kv..kv + head_dim]) / (head_dim as f64).sqrt())
                        .collect();
                    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    for element in 0..head_dim {
                        let values = values[first..=position].iter().map(|value| value[kv + element]);
                        out.push(weights.iter().zip(values).map(|(weight, value)| weight / sum * value).sum());
                    }
                }
                out
            })
            .collect()
    }

    /// Rotates the pairs (i, i + head_dim/2) of every head.
    fn rope(&self, mut x: Vec<f64>, position: usize) -> Vec<f64> {
        let half = self.shape.head_dim / 2;
        for head in x.chunks_mut(2 * half) {
            for i in 0..half {
                let angle = position as f64 * self.shape.theta.powf(-(i as f64) / half as f64);
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + half] = b * angle.cos() + a * angle.sin();
            }
        }
        x
    }
}

/// Writes a checkpoint folder.
pub(crate) fn write(folder: &Path, config: &Value, tensors: &Forge) {
    fs::create_dir_all(folder).expect("temporary folders can be made");
    fs::write(folder.join("config.json"), format!("{config:#}\n")).expect("temporary files can be written");
    tensors.write(&folder.join("model.safetensors"));
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

fn rms_norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mean = dot(x, x) / x.len() as f64;
    x.iter().zip(gain).map(|(x, gain)| x / (mean + eps).sqrt() * gain).collect()
}
