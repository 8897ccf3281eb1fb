"""Records rotary frequencies as transformers computes them, for configs with every kind of scaling.

    python record.py > recorded.json

Each case holds the keys of a config.json, the rotary width of a head, the factor on sine and cosine, and the inverse
frequencies for texts of some lengths. Made with torch 2.15.0 and transformers 5.23.0.
"""

import json

import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

VERSIONS = {"torch": "2.15.0", "transformers": "5.23.0"}
WIDTH = 16
SHORT, LONG = [1.0, 1.02, 1.1, 1.3, 1.5, 1.8, 2.0, 2.5], [1.0, 1.5, 2.5, 4.0, 8.0, 16.0, 32.0, 60.0]


def case(name, lengths, kind, theta=10_000.0, positions=4096, **settings):
    return name, lengths, {"max_position_embeddings": positions}, {"rope_type": kind, "rope_theta": theta, **settings}


ORIGINAL = dict(original_max_position_embeddings=2048)
LOW_HIGH = dict(low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
CASES = [
    case("default", [8], "default"),
    case("linear", [8], "linear", factor=2.5),
    case("dynamic", [100, 4096, 5000, 16384], "dynamic", factor=4.0),
    case("llama3", [8], "llama3", theta=500_000.0, positions=131_072, factor=8.0, **LOW_HIGH),
    case("yarn", [8], "yarn", positions=8192, factor=4.0, **ORIGINAL),
    case("yarn, betas", [8], "yarn", positions=8192, factor=4.0, beta_fast=16.0, beta_slow=2.0, **ORIGINAL),
    case("yarn, not truncated", [8], "yarn", theta=150_000.0, positions=65_536, factor=32.0, truncate=False, **ORIGINAL),
    case("yarn, mscale", [8], "yarn", positions=65_536, factor=32.0, mscale=1.0, mscale_all_dim=0.7, **ORIGINAL),
    case("yarn, mscale of 0", [8], "yarn", positions=65_536, factor=32.0, mscale=0.7, mscale_all_dim=0.0, **ORIGINAL),
    case("yarn, attention factor", [8], "yarn", positions=8192, factor=4.0, attention_factor=0.9, **ORIGINAL),
    case("longrope", [1000, 2048, 2049, 4096], "longrope", short_factor=SHORT, long_factor=LONG, **ORIGINAL),
    case(
        "longrope, factors",
        [1000, 3000],
        "longrope",
        short_factor=SHORT,
        long_factor=LONG,
        factor=16.0,
        attention_factor=1.2,
        **ORIGINAL,
    ),
    case("proportional", [8], "proportional", factor=2.0, partial_rotary_factor=0.25),
    case("proportional, whole", [8], "proportional", theta=1_000_000.0),
]


def record(name, lengths, keys, settings):
    config = LlamaConfig(
        hidden_size=WIDTH,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=WIDTH,
        rope_parameters=dict(settings),
        **keys,
    )
    compute = ROPE_INIT_FUNCTIONS.get(settings["rope_type"])
    found = []
    for length in lengths:
        if compute is None:
            exponents = torch.arange(0, WIDTH, 2, dtype=torch.float) / WIDTH
            frequencies, amplitude = 1.0 / settings["rope_theta"] ** exponents, 1.0
        else:
            frequencies, amplitude = compute(config, "cpu", seq_len=length)
        found.append({"length": length, "inverse_frequencies": frequencies.tolist()})
    config = {**keys, "rope_parameters": settings}
    return {"name": name, "config": config, "width": WIDTH, "amplitude": amplitude, "texts": found}


if __name__ == "__main__":
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    if versions != VERSIONS:
        raise SystemExit(f"expected {VERSIONS}, found {versions}")
    print(json.dumps({"made_with": VERSIONS, "cases": [record(*case) for case in CASES]}, indent=1))
