#!/usr/bin/env python3
"""Decoding and prompts by torch, of a model of the shape of Llama-3-8B with random weights.

    model_peers.py bf16|int4|bf16-compiled|int4-compiled [--device cpu]

One sequence: 128 tokens after 64, each step a replay of one CUDA graph over caches of fixed size, then prompts of 2048. int4 is
torch's own product with weights in groups of 128 (`aten._weight_int4pack_mm`), in the head too. "compiled" has torch.compile
fuse what is between the products. Writes a line of JSON.
"""

import argparse
import json
import sys
import time
from statistics import median

import torch
from torch.nn import functional

LLAMA_3_8B = {"layers": 32, "hidden": 4096, "ffn": 14336, "heads": 32, "kv_heads": 8, "vocabulary": 128256}
TINY = {"layers": 2, "hidden": 128, "ffn": 384, "heads": 4, "kv_heads": 2, "vocabulary": 256}
GROUP = 128
NEW, PROMPT, LONG = 128, 64, 2048


class Model:
    def __init__(self, sizes, device, int4, compiled, capacity):
        self.sizes, self.device, self.int4 = sizes, device, int4
        self.weights_bytes = 0
        hidden, ffn, kv = sizes["hidden"], sizes["ffn"], sizes["kv_heads"] * sizes["hidden"] // sizes["heads"]
        self.table = self.random(sizes["vocabulary"], hidden)
        shapes = ((hidden + 2 * kv, hidden), (hidden, hidden), (2 * ffn, hidden), (hidden, ffn))
        self.layers = [[self.weight(*shape) for shape in shapes] for _ in range(sizes["layers"])]
        self.head = self.weight(sizes["vocabulary"], hidden)
        self.gain = torch.ones(hidden, device=device, dtype=torch.bfloat16)
        self.head_dim = hidden // sizes["heads"]
        cache = (1, sizes["kv_heads"], capacity, self.head_dim)
        self.caches = [[self.random(*cache) for _ in range(2)] for _ in range(sizes["layers"])]
        frequencies = 500000.0 ** (-torch.arange(0, self.head_dim, 2, device=device).float() / self.head_dim)
        self.angles = torch.arange(capacity, device=device).float()[:, None] * frequencies
        self.positions = torch.arange(capacity, device=device)
        self.block = torch.compile(self.layer, dynamic=False) if compiled else self.layer

    def random(self, *shape):
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16) / shape[-1] ** 0.5

    def weight(self, outputs, inner):
        if not self.int4:
            self.weights_bytes += 2 * outputs * inner
            return (self.random(outputs, inner),)
        pairs = torch.randint(0, 256, (outputs, inner // 2), device=self.device, dtype=torch.uint8)
        scales = torch.full((inner // GROUP, outputs, 2), inner**-0.5 / 4.6, device=self.device, dtype=torch.bfloat16)
        scales[:, :, 1] = 0
        self.weights_bytes += outputs * inner // 2 + scales.numel() * 2
        return torch.ops.aten._convert_weight_to_int4pack(pairs, 8), scales

    @staticmethod
    def product(x, weight):
        if len(weight) == 1:
            return functional.linear(x, weight[0])
        return torch.ops.aten._weight_int4pack_mm(x, weight[0], GROUP, weight[1])

    def layer(self, x, weights, keys, values, position, angles, mask):
        """One layer on x `[tokens, hidden]`, whose keys and values go to the caches at `position`."""
        heads, kv_heads, head_dim = self.sizes["heads"], self.sizes["kv_heads"], self.head_dim
        qkv, o, gate_up, down = weights
        hidden = (heads * head_dim,)
        parts = self.product(functional.rms_norm(x, hidden, self.gain, 1e-5), qkv)
        q, k, v = parts.split([heads * head_dim, kv_heads * head_dim, kv_heads * head_dim], 1)
        split = lambda part, count: part.view(-1, count, head_dim).transpose(0, 1)[None]
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)

        def turned(part):
            a, b = part.chunk(2, -1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

        keys.index_copy_(2, position, turned(split(k, kv_heads)))
        values.index_copy_(2, position, split(v, kv_heads))
        q = turned(split(q, heads))
        if mask is None:
            tokens = x.shape[0]
            y = functional.scaled_dot_product_attention(
                q, keys[:, :, :tokens], values[:, :, :tokens], is_causal=True, enable_gqa=True
            )
        else:
            y = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)
        x = x + self.product(y[0].transpose(0, 1).reshape(-1, heads * head_dim), o)
        gate, up = self.product(functional.rms_norm(x, hidden, self.gain, 1e-5), gate_up).chunk(2, 1)
        return x + self.product(functional.silu(gate) * up, down)

    def forward(self, ids, position, mask):
        """The likeliest token after `ids` at `position`."""
        x, angles = self.table[ids], self.angles[position]
        for weights, (keys, values) in zip(self.layers, self.caches):
            x = self.block(x, weights, keys, values, position, angles, mask)
        x = functional.rms_norm(x[-1:], (x.shape[1],), self.gain, 1e-5)
        return self.product(x, self.head).argmax(-1)


def measure(name, device):
    int4, compiled = name.startswith("int4"), name.endswith("compiled")
    small = device == "cpu"
    sizes, new, prompt, long = (TINY, 4, 4, 16) if small else (LLAMA_3_8B, NEW, PROMPT, LONG)
    wait = (lambda: None) if small else torch.cuda.synchronize
    capacity = prompt + new
    model = Model(sizes, device, int4, compiled, capacity)
    ids = torch.randint(0, sizes["vocabulary"], (prompt,), device=device)
    first = model.forward(ids, model.positions[:prompt], None)
    token, position = first.clone(), model.positions[prompt : prompt + 1].clone()

    def step():
        mask = (model.positions <= position)[None, None, None]
        token.copy_(model.forward(token, position, mask))
        position.add_(1)

    if small:
        replay = step
    else:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                position.fill_(prompt)
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        replay = graph.replay
    rates = []
    for _ in range(5):
        position.fill_(prompt)
        wait()
        start = time.perf_counter()
        for _ in range(new):
            replay()
            token.item()  # as it would be shown
        wait()
        rates.append(new / (time.perf_counter() - start))
    line = {"peer": f"torch {name}", "decode_tok_s": median(rates), "weights_bytes": model.weights_bytes}
    if not small:
        line["memory_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(line), flush=True)
    del model
    if not compiled:
        model = Model(sizes, device, int4, False, long)
        ids = torch.randint(0, sizes["vocabulary"], (long,), device=device)
        seconds = []
        for _ in range(4):
            wait()
            start = time.perf_counter()
            model.forward(ids, model.positions, None)
            wait()
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"peer": f"torch {name}", "prefill_tok_s": long / median(seconds[1:])}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=("bf16", "int4", "bf16-compiled", "int4-compiled"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    try:
        measure(arguments.name, arguments.device)
    except Exception as failure:  # a peer that fails is a result
        print(json.dumps({"peer": f"torch {arguments.name}", "failed": f"{type(failure).__name__}: {failure}"[:300]}))
        sys.exit(1)


if __name__ == "__main__":
    main()
