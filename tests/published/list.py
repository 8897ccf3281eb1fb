"""Lists the tensors of published checkpoints from their configs.

    python list.py FILE.json...

Each file describes one checkpoint, by the name that it is published under:

    source      where the config comes from, and in what the tensors are unlike those that `save_pretrained` stores
    parameters  how many values the model has, which the shapes must come to; masks and other buffers do not count
    config      config.json as published, in the spellings of its day
    tensors     names and shapes, which this script writes anew; `{a..b}` stands for each number from a up to b,
                without b

The models are made without weights, on the `meta` device. Made with torch 2.15.0 and transformers 5.23.0.
"""

import copy
import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion

NUMBER = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")


def stored(config):
    """Names and shapes of what `save_pretrained` stores."""
    # No shape depends on how frequencies are scaled, and not all that publishers wrote is still read.
    config = copy.deepcopy(config) | {"rope_scaling": None}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    seen, tensors = set(), {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            tensors[name] = tensor.detach()
        seen.add(id(tensor))
    return {name: list(tensor.shape) for name, tensor in revert_weight_conversion(model, tensors).items()}


def gpt2(tensors, config):
    """Without the prefix `transformer`, and with the mask of each layer."""
    tensors = {name.removeprefix("transformer."): shape for name, shape in tensors.items()}
    mask = [1, 1, config["n_ctx"], config["n_ctx"]]
    return tensors | {f"h.{layer}.attn.bias": mask for layer in range(config["n_layer"])}


def gpt_j(tensors, config):
    """With the mask of each layer, and the number that stands for what it hides."""
    mask = [1, 1, config["n_positions"], config["n_positions"]]
    for layer in range(config["n_layer"]):
        attention = f"transformer.h.{layer}.attn"
        tensors |= {f"{attention}.bias": mask, f"{attention}.masked_bias": []}
    return tensors


def gpt_neox(tensors, config):
    """With the mask and the rotary frequencies of each layer."""
    mask = [1, 1, config["max_position_embeddings"], config["max_position_embeddings"]]
    frequencies = int(config["hidden_size"] // config["num_attention_heads"] * config["rotary_pct"]) // 2
    for layer in range(config["num_hidden_layers"]):
        attention = f"gpt_neox.layers.{layer}.attention"
        tensors |= {
            f"{attention}.bias": mask,
            f"{attention}.masked_bias": [],
            f"{attention}.rotary_emb.inv_freq": [frequencies],
        }
    return tensors


def llama_2(tensors, config):
    """With the rotary frequencies of each layer."""
    frequencies = config["hidden_size"] // config["num_attention_heads"] // 2
    for layer in range(config["num_hidden_layers"]):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = [frequencies]
    return tensors


def opt(tensors, config):
    """Without the prefix `model`."""
    return {name.removeprefix("model."): shape for name, shape in tensors.items()}


# What the publishers stored otherwise than `save_pretrained` does now.
AS_PUBLISHED = {
    "gpt2": gpt2,
    "gpt2-medium": gpt2,
    "gpt2-xl": gpt2,
    "gpt-j-6b": gpt_j,
    "gpt-neox-20b": gpt_neox,
    "pythia-1.4b": gpt_neox,
    "llama-2-7b": llama_2,
    "opt-6.7b": opt,
}


def ranges(numbers):
    """Runs of consecutive numbers."""
    runs = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return tuple(runs)


def blocks(indices):
    """Index tuples of one length as products of runs."""
    if indices == {()}:
        return [()]
    last = defaultdict(set)
    for *before, number in indices:
        last[tuple(before)].add(number)
    alike = defaultdict(set)
    for before, numbers in last.items():
        alike[ranges(numbers)].add(before)
    return [(*block, run) for runs, before in alike.items() for block in blocks(before) for run in runs]


def fold(tensors):
    """Tensors whose names differ in numbers alone as one entry."""
    groups = defaultdict(set)
    for name, shape in tensors.items():
        groups[NUMBER.sub("#", name), tuple(shape)].add(tuple(map(int, NUMBER.findall(name))))
    folded = {}
    for (pattern, shape), indices in groups.items():
        for block in blocks(indices):
            runs = iter(block)
            one = lambda run: f"{{{run[0]}..{run[1]}}}" if run[1] > run[0] + 1 else str(run[0])
            folded[re.sub("#", lambda _: one(next(runs)), pattern)] = list(shape)
    return folded


def table(entries):
    """An object with one entry on each line."""
    lines = (f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    return "{\n" + ",\n".join(lines) + "\n  }"


def main(paths):
    for path in map(Path, paths):
        published = json.loads(path.read_text())
        config = published["config"]
        tensors = stored(config)
        parameters = sum(map(math.prod, tensors.values()))
        if parameters != published["parameters"]:
            sys.exit(f"{path}: {parameters} parameters instead of {published['parameters']}")
        tensors = AS_PUBLISHED.get(path.stem, lambda tensors, config: tensors)(tensors, config)
        parts = {
            "source": json.dumps(published["source"]),
            "parameters": str(parameters),
            "config": table(config),
            "tensors": table(fold(tensors)),
        }
        path.write_text("{\n" + ",\n".join(f'  "{key}": {value}' for key, value in parts.items()) + "\n}\n")


main(sys.argv[1:])
