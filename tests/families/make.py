"""Makes the random tiny checkpoints of this folder, with reference outputs.

    python make.py all OUT             every family, one folder each below OUT
    python make.py gpt_neox phi OUT    some of them

A folder FAMILY/VARIANT is of the same architecture as FAMILY, with another config. The definition of both, model.lathe
in FAMILY, is written by hand; where there is none, a shipped one describes them.

Each folder holds config.json and model.safetensors (bf16) as `save_pretrained` of transformers writes them, and
reference.safetensors, computed in float32 from the weights as stored, with the eager attention:

    prompt{i}.input_ids    i64 [n]         random tokens: 28, then 48, which is longer than every window here
    prompt{i}.logits       f32 [n, vocab]  of every position
    prompt{i}.greedy_ids   i64 [n + 8]     the prompt and what `generate` adds, greedily and with a cache

Nothing is trained. Weights are drawn so that everything counts: attention is peaked, gains lie around 1, biases are not
zero, and the script fails when a tensor can be zeroed, or a feature of the config changed, without the logits showing
it. They are drawn anew until no choice (greedy token, expert) is so close that rounding could turn it, and the greedy
text says something. The same versions give the same files; these were made with torch 2.15.0 and transformers 5.23.0.
"""

import copy
import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

VERSIONS = {"torch": "2.15.0", "transformers": "5.23.0"}
VOCABULARY = 96
BEGIN, END = 0, 1
# Parts of the names of matrices that are drawn larger: those that queries, keys and routers come from, and those around
# an activation without a gate.
PEAKED = ("q_proj", "k_proj", "qkv", "query", "c_attn", "router", "gate.weight")
UNGATED = ("fc", "4h", "mlp.c_proj")
LARGER = dict.fromkeys(PEAKED, 1.6) | dict.fromkeys(UNGATED, 2.5)
PROMPTS = (28, 48)
GREEDY = 8
LARGEST_FOLDER = 150_000

# What must change of the logits, as a part of their range, when a tensor is zeroed or a key of the config changed, and
# when one activation stands for another that is nearly the same: tests compare to 5e-5.
ACTIVATIONS = {"activation", "activation_function", "hidden_act"}
FEATURE_SHOWS = 2e-3
ACTIVATION_SHOWS = 6e-5
# What may change of them when the embeddings change by a part in 10^5, and when the same is computed in float64.
NOISE = 1e-5
NOISE_SHOWS = 1e-4
ROUNDING_SHOWS = 3e-6
SMALLEST_GAP = 2e-3


@dataclass
class Family:
    model_type: str
    config: dict
    # Other values for keys of the config, each of which must show in the logits.
    features: list = field(default_factory=list)
    # Standard deviation of the embeddings, and mean of the gains of norms.
    embedding: float = 1.0
    gain: float = 1.0
    # Whether the frequencies of a position depend on the length of the text at the time it was read.
    length_dependent: bool = False


def usual(**changes):
    """Keys that most configs share, with changes."""
    keys = dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=None,
    )
    return {**keys, **changes}


def without(keys, *names):
    return {key: value for key, value in keys.items() if key not in names}


def rope(theta=10_000.0, kind="default", **more):
    return {"rope_type": kind, "rope_theta": theta, **more}


def llama(rope_parameters, **changes):
    heads = dict(hidden_size=36, num_attention_heads=3, num_key_value_heads=1)
    return usual(rope_parameters=rope_parameters, tie_word_embeddings=False, **heads, **changes)


SLIDING, FULL = "sliding_attention", "full_attention"
YARN = rope(
    500.0, "yarn", factor=4.0, beta_fast=4.0, beta_slow=0.25, original_max_position_embeddings=32
)
LLAMA3 = rope(
    500.0,
    "llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
SHORT, LONG = [1.0, 1.1, 1.3, 1.5, 2.0, 2.5], [1.0, 1.5, 2.5, 4.0, 6.0, 8.0]
LONGROPE = rope(
    500.0,
    "longrope",
    short_factor=SHORT,
    long_factor=LONG,
    original_max_position_embeddings=32,
    partial_rotary_factor=1.0,
)

FAMILIES = {
    # In the library of shipped definitions, where they have no checkpoint of their own.
    "gpt2": Family(
        "gpt2",
        dict(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            bos_token_id=BEGIN,
            eos_token_id=END,
        ),
        features=[{"activation_function": "gelu"}, {"layer_norm_epsilon": 0.1}],
        embedding=0.2,
    ),
    "qwen3_moe": Family(
        "qwen3_moe",
        usual(
            head_dim=16,
            num_hidden_layers=3,
            mlp_only_layers=[1],
            num_experts=5,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            norm_topk_prob=True,
            tie_word_embeddings=False,
        ),
        features=[{"norm_topk_prob": False}, {"num_experts_per_tok": 1}],
    ),
    # Held out: described by definitions beside their checkpoints.
    "gpt_neox": Family(
        "gpt_neox",
        without(usual(hidden_size=48, rope_parameters=rope(partial_rotary_factor=0.5)), "num_key_value_heads"),
        features=[
            {"use_parallel_residual": False},
            {"rope_parameters": rope(partial_rotary_factor=1.0)},
            {"hidden_act": "gelu_new"},
        ],
    ),
    "gpt_neox/sequential": Family(
        "gpt_neox",
        without(
            usual(
                    rope_parameters=rope(partial_rotary_factor=1.0),
                use_parallel_residual=False,
                attention_bias=False,
                hidden_act="gelu_fast",
            ),
            "num_key_value_heads",
        ),
        features=[{"use_parallel_residual": True}],
    ),
    "gptj": Family(
        "gptj",
        dict(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            rotary_dim=8,
            n_inner=64,
            n_positions=64,
            bos_token_id=BEGIN,
            eos_token_id=END,
        ),
        features=[{"rotary_dim": 4}, {"activation_function": "gelu"}],
    ),
    "codegen": Family(
        "codegen",
        dict(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            rotary_dim=4,
            n_inner=64,
            n_positions=64,
            n_ctx=64,
            bos_token_id=BEGIN,
            eos_token_id=END,
        ),
        features=[{"rotary_dim": 8}],
    ),
    "gpt_neo": Family(
        "gpt_neo",
        dict(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            intermediate_size=64,
            attention_types=[[["global", "local"], 1]],
            window_size=12,
            max_position_embeddings=64,
            bos_token_id=BEGIN,
            eos_token_id=END,
        ),
        features=[{"window_size": 256}, {"window_size": 11}],
        embedding=0.2,
    ),
    "gpt_bigcode": Family(
        "gpt_bigcode",
        dict(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_inner=64,
            n_positions=64,
            multi_query=True,
            bos_token_id=BEGIN,
            eos_token_id=END,
        ),
        embedding=0.2,
    ),
    "phi": Family(
        "phi",
        without(usual(rope_parameters=rope(partial_rotary_factor=0.5)), "num_key_value_heads"),
        features=[{"rope_parameters": rope(partial_rotary_factor=1.0)}, {"hidden_act": "gelu"}],
    ),
    "phi3/longrope": Family(
        "phi3",
        usual(
            hidden_size=48,
            rope_parameters=LONGROPE,
            original_max_position_embeddings=32,
            max_position_embeddings=128,
            sliding_window=20,
        ),
        features=[
            {"rope_parameters": LONGROPE | {"long_factor": SHORT}},
            {"rope_parameters": LONGROPE | {"short_factor": LONG}},
            {"max_position_embeddings": 256},
            {"sliding_window": 19},
        ],
        length_dependent=True,
    ),
    "cohere": Family(
        "cohere",
        usual(hidden_size=48, logit_scale=0.5, use_qk_norm=True),
        features=[{"logit_scale": 1.0}, {"layer_norm_eps": 0.1}],
        embedding=0.2,
    ),
    "cohere2": Family(
        "cohere2",
        usual(
            num_hidden_layers=4,
            sliding_window=12,
            layer_types=[SLIDING, FULL, SLIDING, FULL],
            logit_scale=2.0,
        ),
        features=[
            {"logit_scale": 1.0},
            {"sliding_window": 11},
            {"layer_types": [SLIDING] * 4},
            {"layer_types": [FULL] * 4},
        ],
        embedding=0.2,
    ),
    "granite": Family(
        "granite",
        usual(
            embedding_multiplier=2.5,
            attention_multiplier=0.2,
            residual_multiplier=1.4,
            logits_scaling=0.5,
            tie_word_embeddings=True,
        ),
        features=[
            {"embedding_multiplier": 1.0},
            {"attention_multiplier": 12**-0.5},
            {"residual_multiplier": 1.0},
            {"logits_scaling": 1.0},
        ],
        embedding=0.1,
    ),
    "granitemoe": Family(
        "granitemoe",
        usual(
            intermediate_size=16,
            embedding_multiplier=4.0,
            attention_multiplier=0.3,
            residual_multiplier=0.6,
            logits_scaling=2.0,
            num_local_experts=6,
            num_experts_per_tok=3,
            tie_word_embeddings=False,
        ),
        features=[{"residual_multiplier": 1.0}, {"num_experts_per_tok": 2}],
        embedding=0.4,
    ),
    "olmo": Family(
        "olmo",
        usual(clip_qkv=1.5),
        features=[{"clip_qkv": None}, {"clip_qkv": 1.0}],
    ),
    "olmo2": Family("olmo2", usual(hidden_size=48), features=[{"rms_norm_eps": 0.1}]),
    "olmo3": Family(
        "olmo3",
        usual(
            num_hidden_layers=4,
            sliding_window=12,
            layer_types=[SLIDING, SLIDING, SLIDING, FULL],
            max_position_embeddings=128,
            rope_parameters={SLIDING: rope(500.0), FULL: YARN},
        ),
        features=[
            {"sliding_window": 11},
            {"rope_parameters": {SLIDING: rope(500.0), FULL: rope(500.0)}},
            {"rope_parameters": {SLIDING: YARN, FULL: YARN}},
        ],
    ),
    "olmoe": Family(
        "olmoe",
        usual(
            intermediate_size=16,
            num_experts=6,
            num_experts_per_tok=3,
            norm_topk_prob=False,
            clip_qkv=2.0,
        ),
        features=[{"norm_topk_prob": True}, {"num_experts_per_tok": 2}, {"clip_qkv": None}],
    ),
    "gemma": Family(
        "gemma",
        usual(intermediate_size=40, head_dim=10, num_key_value_heads=1, hidden_act="gelu_pytorch_tanh"),
        features=[{"rope_parameters": rope(100.0)}],
        embedding=0.1,
        gain=0.0,
    ),
    "gemma3_text": Family(
        "gemma3_text",
        usual(
            intermediate_size=40,
            num_hidden_layers=6,
            head_dim=10,
            query_pre_attn_scalar=8,
            sliding_window=12,
            layer_types=[SLIDING] * 5 + [FULL],
            rope_parameters={
                SLIDING: rope(100.0),
                FULL: rope(10_000.0, "linear", factor=4.0),
            },
        ),
        features=[
            {"rope_parameters": {SLIDING: rope(100.0), FULL: rope(10_000.0)}},
            {"rope_parameters": {SLIDING: rope(10_000.0), FULL: rope(10_000.0, "linear", factor=4.0)}},
            {"query_pre_attn_scalar": 12},
            {"sliding_window": 11},
            {"layer_types": [SLIDING] * 6},
        ],
        embedding=0.1,
        gain=0.0,
    ),
    "smollm3": Family(
        "smollm3",
        usual(num_hidden_layers=3, intermediate_size=48, no_rope_layer_interval=2, tie_word_embeddings=True),
        features=[{"no_rope_layers": [1, 1, 1]}, {"no_rope_layers": [0, 1, 1]}],
        embedding=0.2,
    ),
    "stablelm": Family(
        "stablelm",
        usual(use_qkv_bias=True, rope_parameters=rope(partial_rotary_factor=0.25)),
        features=[{"rope_parameters": rope(partial_rotary_factor=0.5)}],
    ),
    "stablelm/parallel": Family(
        "stablelm",
        usual(
            use_parallel_residual=True,
            rope_parameters=rope(partial_rotary_factor=0.5),
        ),
        features=[{"rope_parameters": rope(partial_rotary_factor=0.25)}],
    ),
    "falcon": Family(
        "falcon",
        without(
            usual(
                ffn_hidden_size=64,
                multi_query=True,
                parallel_attn=True,
                bias=False,
                new_decoder_architecture=False,
                alibi=False,
            ),
            "intermediate_size",
            "num_key_value_heads",
        ),
        features=[{"activation": "relu"}],
        embedding=0.2,
    ),
    "falcon/grouped": Family(
        "falcon",
        without(
            usual(
                ffn_hidden_size=64,
                num_kv_heads=2,
                parallel_attn=True,
                bias=True,
                new_decoder_architecture=True,
                alibi=False,
            ),
            "intermediate_size",
            "num_key_value_heads",
        ),
        embedding=0.2,
    ),
    "glm": Family(
        "glm",
        usual(head_dim=16, rope_parameters=rope(partial_rotary_factor=0.5), attention_bias=True),
        features=[{"rope_parameters": rope(partial_rotary_factor=1.0)}],
    ),
    "glm4": Family(
        "glm4",
        usual(head_dim=16, rope_parameters=rope(partial_rotary_factor=0.5), attention_bias=True),
        features=[{"rope_parameters": rope(partial_rotary_factor=1.0)}],
    ),
    "glm4_moe": Family(
        "glm4_moe",
        usual(
            intermediate_size=48,
            moe_intermediate_size=16,
            num_hidden_layers=3,
            head_dim=12,
            rope_parameters=rope(partial_rotary_factor=0.5),
            n_routed_experts=6,
            num_experts_per_tok=3,
            n_shared_experts=1,
            n_group=1,
            topk_group=1,
            norm_topk_prob=True,
            routed_scaling_factor=2.5,
            first_k_dense_replace=1,
            use_qk_norm=True,
            attention_bias=True,
            tie_word_embeddings=False,
        ),
        features=[{"norm_topk_prob": False}, {"routed_scaling_factor": 1.0}, {"num_experts_per_tok": 2}],
    ),
    "starcoder2": Family(
        "starcoder2",
        usual(sliding_window=16, use_bias=True, tie_word_embeddings=True),
        features=[{"sliding_window": 15}, {"hidden_act": "gelu"}],
        embedding=0.2,
    ),
    "qwen2_moe": Family(
        "qwen2_moe",
        usual(
            intermediate_size=48,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=24,
            num_hidden_layers=3,
            num_experts=6,
            num_experts_per_tok=2,
            decoder_sparse_step=2,
            norm_topk_prob=False,
            tie_word_embeddings=False,
        ),
        features=[{"norm_topk_prob": True}, {"num_experts_per_tok": 1}],
    ),
    "dbrx": Family(
        "dbrx",
        dict(
            vocab_size=VOCABULARY,
            d_model=32,
            n_heads=4,
            n_layers=2,
            max_seq_len=64,
            attn_config={"clip_qkv": 1.5, "kv_n_heads": 2, "rope_theta": 500.0},
            ffn_config={
                "ffn_act_fn": {"name": "silu"},
                "ffn_hidden_size": 16,
                "moe_num_experts": 6,
                "moe_top_k": 3,
                "moe_normalize_expert_weights": 1.0,
            },
            rope_parameters=rope(500.0),
            bos_token_id=BEGIN,
            eos_token_id=END,
        ),
    ),
    "gpt_oss": Family(
        "gpt_oss",
        usual(
            intermediate_size=16,
            head_dim=12,
            num_local_experts=6,
            num_experts_per_tok=3,
            sliding_window=12,
            layer_types=[SLIDING, FULL],
            swiglu_limit=1.0,
            rope_parameters=rope(
                500.0,
                "yarn",
                factor=4.0,
                beta_fast=8.0,
                beta_slow=1.0,
                truncate=False,
                original_max_position_embeddings=16,
            ),
        ),
        features=[
            {"swiglu_limit": 7.0},
            {"sliding_window": 11},
            {"layer_types": [FULL, FULL]},
            {"rope_parameters": rope(500.0)},
        ],
    ),
    "nemotron": Family(
        "nemotron",
        usual(hidden_act="relu2", rope_parameters=rope(partial_rotary_factor=0.5)),
        features=[{"hidden_act": "relu"}, {"rope_parameters": rope(partial_rotary_factor=1.0)}],
        gain=0.0,
    ),
    "exaone4": Family(
        "exaone4",
        usual(
            num_hidden_layers=4,
            sliding_window=12,
            layer_types=[SLIDING, SLIDING, SLIDING, FULL],
        ),
        features=[{"sliding_window": 11}, {"layer_types": [SLIDING] * 4}],
    ),
    "persimmon": Family(
        "persimmon",
        without(usual(rope_parameters=rope(partial_rotary_factor=0.5), qk_layernorm=True), "num_key_value_heads"),
        features=[{"rope_parameters": rope(partial_rotary_factor=1.0)}],
    ),
    "hunyuan_v1_dense": Family(
        "hunyuan_v1_dense",
        usual(head_dim=16, tie_word_embeddings=True),
        features=[{"rms_norm_eps": 0.1}],
        embedding=0.2,
    ),
    "nanochat": Family(
        "nanochat",
        usual(final_logit_softcapping=4.0),
        features=[{"final_logit_softcapping": 15.0}],
    ),
    "llama/linear": Family(
        "llama",
        llama(rope(500.0, "linear", factor=4.0)),
        features=[{"rope_parameters": rope(500.0)}],
    ),
    "llama/dynamic": Family(
        "llama",
        llama(rope(500.0, "dynamic", factor=4.0), max_position_embeddings=32),
        features=[{"rope_parameters": rope(500.0)}],
        length_dependent=True,
    ),
    "llama/yarn": Family(
        "llama",
        llama(YARN, max_position_embeddings=128),
        features=[
            {"rope_parameters": rope(500.0)},
            {"rope_parameters": YARN | {"attention_factor": 1.0}},
            {"rope_parameters": YARN | {"beta_slow": 1.0}},
        ],
    ),
    "llama/llama3": Family(
        "llama",
        llama(LLAMA3),
        features=[{"rope_parameters": rope(500.0)}, {"rope_parameters": LLAMA3 | {"factor": 4.0}}],
    ),
}


def generator(*parts):
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def is_norm(name):
    """By the last two modules of its path: the second may be a list."""
    return any(word in module for module in name.split(".")[-3:-1] for word in ("norm", "ln_"))


def drawn(name, tensor, family, random):
    """Values for a parameter: what it is follows from its name and shape."""
    normal = torch.randn(tensor.shape, generator=random)
    uniform = torch.rand(tensor.shape, generator=random)
    if name.endswith("bias") or "sinks" in name:
        return 0.3 * normal
    if is_norm(name):
        return family.gain + uniform - 0.5
    if any(word in name for word in ("embed", "wte", "wpe")):
        return family.embedding * normal
    fan_in = tensor.shape[-1] if tensor.ndim > 1 else 1
    scale = next((scale for word, scale in LARGER.items() if word in name), 1.0)
    return scale * normal / fan_in**0.5


@torch.no_grad()
def randomize(model, family, seed):
    named = [*model.named_parameters(), *model.named_buffers()]
    stored = model.state_dict().keys()
    for name, tensor in named:
        if name in stored and tensor.is_floating_point():
            values = drawn(name, tensor, family, generator(family.model_type, seed, name))
            tensor.copy_(values.to(torch.bfloat16))


def load(folder, **changes):
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
        **changes,
    )
    wrong = {kind: names for kind, names in report.items() if names}
    if wrong:
        raise SystemExit(f"{folder.name}: {wrong}")
    return model.eval()


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def greedy(model, ids):
    """The prompt and what follows, with the smallest distance between a chosen token and the next best."""
    options = dict(max_new_tokens=GREEDY, do_sample=False, eos_token_id=None, pad_token_id=END)
    made = model.generate(torch.tensor([ids]), output_logits=True, return_dict_in_generate=True, **options)
    best = torch.cat(made.logits).topk(2).values
    return made.sequences[0].tolist(), (best[:, 0] - best[:, 1]).min().item()


class Draw:
    """One draw of weights, written to a folder, and what it computes as it is stored there."""

    def __init__(self, family, seed, folder):
        self.family, self.seed, self.folder = family, seed, folder
        config = AutoConfig.for_model(family.model_type, **family.config)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
        randomize(model, family, seed)
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        random = generator(family.model_type, seed, "prompts")
        self.prompts = [torch.randint(END + 1, VOCABULARY, (n,), generator=random).tolist() for n in PROMPTS]
        self.model = load(folder)
        self.logits = self.outputs(self.model)
        self.range = max((x.max() - x.min()).item() for x in self.logits)

    def outputs(self, model):
        return [logits_of(model, prompt) for prompt in self.prompts]

    def change(self, model):
        """The largest change of a logit, as a part of their range."""
        both = zip(self.outputs(model), self.logits, strict=True)
        return max((a - b).abs().max().item() for a, b in both) / self.range

    @torch.no_grad()
    def change_with(self, parameter, values):
        kept = parameter.clone()
        parameter.copy_(values)
        change = self.change(self.model)
        parameter.copy_(kept)
        return change

    def unfit(self):
        """Why this draw would make a poor reference, if it would: mostly because rounding could change it."""
        table = self.model.get_input_embeddings().weight
        noise = 1 + NOISE * torch.randn(table.shape, generator=generator(self.seed, "noise"))
        change = self.change_with(table, table * noise)
        if change > NOISE_SHOWS:
            return f"noise of {NOISE} changes the logits by {change:.1e} of their range"
        change = self.change(copy.deepcopy(self.model).double())
        if change > ROUNDING_SHOWS:
            return f"rounding to float32 changes the logits by {change:.1e} of their range"
        self.texts, gaps = zip(*(greedy(self.model, prompt) for prompt in self.prompts), strict=True)
        if min(gaps) < SMALLEST_GAP * self.range:
            return f"two greedy tokens are {min(gaps) / self.range:.1e} of the range apart"
        if any(END in text[-GREEDY:] or len(set(text[-GREEDY:])) < GREEDY / 2 for text in self.texts):
            return "the greedy text ends or repeats itself"
        return None

    def check(self):
        """Fails when something of the family does not count."""
        for name, parameter in self.model.named_parameters():
            change = self.change_with(parameter, torch.zeros_like(parameter))
            if change < FEATURE_SHOWS:
                raise SystemExit(f"{self.folder.name}: without {name} the logits change by {change:.1e} only")
        for feature in self.family.features:
            change = self.change(load(self.folder, **feature))
            if change < (ACTIVATION_SHOWS if ACTIVATIONS & feature.keys() else FEATURE_SHOWS):
                raise SystemExit(f"{self.folder.name}: with {feature} the logits change by {change:.1e} only")
        if self.family.length_dependent:
            return
        for prompt, text in zip(self.prompts, self.texts, strict=True):
            whole = logits_of(self.model, text[:-1])[len(prompt) - 1 :]
            if whole.argmax(dim=1).tolist() != text[len(prompt) :]:
                raise SystemExit(f"{self.folder.name}: without a cache other tokens follow")

    def record(self):
        reference = {}
        for i, (prompt, logits, text) in enumerate(zip(self.prompts, self.logits, self.texts, strict=True)):
            reference[f"prompt{i}.input_ids"] = torch.tensor(prompt)
            reference[f"prompt{i}.logits"] = logits.contiguous()
            reference[f"prompt{i}.greedy_ids"] = torch.tensor(text)
        # One entry: safetensors writes several in any order.
        made_with = ", ".join(f"{package} {version}" for package, version in found_versions().items())
        save_file(reference, str(self.folder / "reference.safetensors"), metadata={"made_with": made_with})


def make(name, out):
    family = FAMILIES[name]
    for seed in range(50):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            draw = Draw(family, seed, folder)
            reason = draw.unfit()
            if reason is not None:
                print(f"{name}: draw {seed}: {reason}", flush=True)
                continue
            draw.check()
            draw.record()
            size = sum(file.stat().st_size for file in folder.iterdir())
            if size > LARGEST_FOLDER:
                raise SystemExit(f"{name}: {size} bytes")
            for file in folder.iterdir():
                (out / name).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, out / name)
            print(f"{name}: draw {seed}, {size} bytes, logits within a range of {draw.range:.1f}", flush=True)
            return
    raise SystemExit(f"{name}: no draw is fit")


def found_versions():
    return {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}


def main():
    *names, out = sys.argv[1:] or [""]
    if not names or any(name != "all" and name not in FAMILIES for name in names):
        raise SystemExit(f"usage: make.py (all | FAMILY…) OUT\nfamilies: {' '.join(FAMILIES)}")
    if found_versions() != VERSIONS:
        print(f"warning: {found_versions()} may give other files than {VERSIONS}", file=sys.stderr)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in FAMILIES if "all" in names else names:
        make(name, Path(out))


if __name__ == "__main__":
    main()
