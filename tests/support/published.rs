//! Checkpoints of published sizes without weights: config, index and headers; the data is a hole in a sparse file.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::forge::{Entry, Forge};

/// The sizes of a published Llama.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) name: &'static str,
    pub(crate) hidden: u64,
    pub(crate) ffn: u64,
    pub(crate) layers: u64,
    pub(crate) heads: u64,
}

/// Llama 3.1 70B, from its config.json.
pub(crate) const LLAMA_70B: Published =
    Published { name: "llama-70b", hidden: 8192, ffn: 28_672, layers: 80, heads: 64 };

/// Llama 3.1 405B, from its config.json.
pub(crate) const LLAMA_405B: Published =
    Published { name: "llama-405b", hidden: 16_384, ffn: 53_248, layers: 126, heads: 128 };

/// Both have 8 heads for keys and values of 128 values each, and this vocabulary.
const KV_HEADS: u64 = 8;
const HEAD_DIM: u64 = 128;
const VOCABULARY: u64 = 128_256;

/// Layers in one weight file.
const LAYERS_PER_FILE: u64 = 4;

impl Published {
    fn config(self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": KV_HEADS,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            "rope_scaling": {
                "factor": 8.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "tie_word_embeddings": false,
            "torch_dtype": "bfloat16",
        })
    }

    fn layer(self, layer: u64) -> Vec<(String, Vec<u64>)> {
        let Published { hidden, ffn, heads, .. } = self;
        let (queries, keys) = (heads * HEAD_DIM, KV_HEADS * HEAD_DIM);
        let tensors: [(&str, Vec<u64>); 9] = [
            ("input_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("post_attention_layernorm", vec![hidden]),
            ("mlp.gate_proj", vec![ffn, hidden]),
            ("mlp.up_proj", vec![ffn, hidden]),
            ("mlp.down_proj", vec![hidden, ffn]),
        ];
        tensors.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)).into()
    }

    /// Writes the checkpoint into `folder`, which is made. Returns its weight files with the size of the header of each.
    pub(crate) fn write(self, folder: &Path) -> Vec<(PathBuf, u64)> {
        fs::create_dir_all(folder).expect("temporary folders can be made");
        let mut files: Vec<Vec<(String, Vec<u64>)>> = vec![vec![
            ("model.embed_tokens.weight".into(), vec![VOCABULARY, self.hidden]),
            ("model.norm.weight".into(), vec![self.hidden]),
            ("lm_head.weight".into(), vec![VOCABULARY, self.hidden]),
        ]];
        let layers: Vec<u64> = (0..self.layers).collect();
        for part in layers.chunks(LAYERS_PER_FILE as usize) {
            files.push(part.iter().flat_map(|&layer| self.layer(layer)).collect());
        }
        let mut index = Map::new();
        let mut written = Vec::new();
        let count = files.len();
        for (number, tensors) in files.into_iter().enumerate() {
            let name = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
            index.extend(tensors.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
            let path = folder.join(&name);
            let header = sparse(&path, tensors);
            written.push((path, header));
        }
        let write = |name: &str, value: &Value| {
            fs::write(folder.join(name), value.to_string()).expect("temporary files can be written");
        };
        write("config.json", &self.config());
        write("model.safetensors.index.json", &json!({"weight_map": index}));
        written
    }
}

/// Writes a header, and a hole where the data would be. Returns the bytes up to the hole.
fn sparse(path: &Path, tensors: Vec<(String, Vec<u64>)>) -> u64 {
    let mut forge = Forge::default();
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += 2 * shape.iter().product::<u64>();
        forge.entries.push(Entry { name, dtype: "BF16", shape, offsets: (begin, end) });
    }
    let header = super::forge::assemble(&forge.header(), &[]);
    let mut file = File::create(path).expect("temporary files can be made");
    file.write_all(&header)
        .and_then(|()| file.set_len(header.len() as u64 + end))
        .expect("sparse files can be written");
    header.len() as u64
}
