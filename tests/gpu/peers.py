#!/usr/bin/env python3
"""Times of other implementations on the shapes of `kernels/benches/cuda`, measured in the same way.

    peers.py GROUP [--json FILE] [--seconds N] [--dry-run] [--device cpu]

GROUP is one of those in GROUPS: a process for each, so that one that fails or hangs takes no other with it. A time is the
median of seven replays of a CUDA graph, of at least 20 calls and 3 ms, by events, divided by the calls, which go through as
many copies of the weights as exceed eight times the L2 cache. `error` is |y - Y| / |Y| against a product Y in binary64 of the
same x and the weights as they are after rounding, or before, where a peer rounds them itself ("with rounding").

--dry-run needs no torch: it writes a line with made-up times for each measurement. --device cpu runs small shapes with
torch on the processor, to see that the code works; its times say nothing.
"""

import argparse
import json
import sys
import time

LLAMA_3_8B = {
    "products": {
        "qkv": (6144, 4096),
        "o": (4096, 4096),
        "gate_up": (28672, 4096),
        "down": (4096, 14336),
        "lm_head": (128256, 4096),
    },
    "rows": (1, 16, 128, 2048),
    "widths": (128, 256, 512, 1024, 2048, 4096, 8192, 11008, 14336, 16384, 32768),
    "contexts": (1024, 8192),
    "heads": (32, 8, 128),
    "hidden": 4096,
    "vocabulary": 128256,
    "largest": 8192,
    "cold": 480 << 20,
}
TINY = {
    "products": {"qkv": (256, 128), "lm_head": (512, 128)},
    "rows": (1, 3, 17, 33),
    "widths": (32, 384),
    "contexts": (16, 64),
    "heads": (4, 2, 32),
    "hidden": 128,
    "vocabulary": 512,
    "largest": 64,
    "cold": 1 << 10,
}
REPLAYS = 7
GROUP_SIZE = 128


class Run:
    """What is measured goes through here."""

    def __init__(self, arguments):
        self.sizes = LLAMA_3_8B if arguments.device == "cuda" else TINY
        self.device = arguments.device
        self.dry = arguments.dry_run
        self.end = time.monotonic() + arguments.seconds
        self.file = open(arguments.json, "a") if arguments.json else None
        self.torch = None
        if not self.dry:
            import torch

            self.torch = torch
            torch.manual_seed(1)
            self.write({"group": arguments.group, "torch": torch.__version__, "cuda": torch.version.cuda})

    def write(self, line):
        text = json.dumps(line)
        print(text, flush=True)
        if self.file:
            self.file.write(text + "\n")
            self.file.flush()

    def report(self, peer, kernel, form, shape, rows, **found):
        self.write({"peer": peer, "kernel": kernel, "format": form, "shape": str(shape), "rows": rows, **found})

    def case(self, peer, kernel, form, shape, rows, prepare):
        """Measures what `prepare` gives: the calls, one for each copy, and a function that gives error and note, or None."""
        if time.monotonic() > self.end:
            return
        if self.dry:
            self.report(peer, kernel, form, shape, rows, us=float(10 + len(peer) + rows), error=0.0, note="dry run")
            return
        try:
            calls, check = prepare()
            error, note = check() if check else (None, "")
            us, how = self.microseconds(calls)
            self.report(peer, kernel, form, shape, rows, us=us, error=error, note=", ".join(filter(None, [note, how])))
        except Exception as failure:  # one peer that fails must not end the others
            self.report(peer, kernel, form, shape, rows, failed=f"{type(failure).__name__}: {failure}"[:300])

    def copies(self, size):
        return min(256, max(1, -(-self.sizes["cold"] // max(1, int(size)))))

    def microseconds(self, calls):
        torch = self.torch
        if self.device == "cpu":
            start = time.perf_counter()
            for call in calls:
                call()
            return (time.perf_counter() - start) / len(calls) * 1e6, ""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                for call in calls:
                    call()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        count = max(20, len(calls))

        def recorded(count):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for index in range(count):
                    calls[index % len(calls)]()
            return graph.replay

        def plain(count):
            return lambda: [calls[index % len(calls)]() for index in range(count)]

        make, how = recorded, ""
        try:
            replay = make(count)
        except Exception:  # what cannot be recorded is launched call by call
            make, how = plain, "without a graph"
            torch.cuda.synchronize()
            replay = make(count)
        estimate = min(self.milliseconds(replay), self.milliseconds(replay))
        if estimate < 3.0:
            count = min(2000, int(count * 3.0 / max(estimate, 1e-3)) + 1)
            replay = make(count)
            self.milliseconds(replay)
        times = sorted(self.milliseconds(replay) for _ in range(REPLAYS))
        return times[REPLAYS // 2] * 1e3 / count, how

    def milliseconds(self, replay):
        torch = self.torch
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        replay()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)

    def random(self, *shape, dtype=None):
        """Normal, of variance 1."""
        return self.torch.randn(*shape, device=self.device).to(dtype or self.torch.bfloat16)

    def error(self, y, x, weight):
        """Of the first columns of a product."""
        torch = self.torch
        columns = min(256, weight.shape[0])
        expected = x.double() @ weight[:columns].double().t()
        return ((y[..., :columns].double() - expected).norm() / expected.norm()).item()


def products(run, peer, form, bytes_per_weight, pack, least_rows=1, most_rows=1 << 30):
    """Products by one peer. `pack(weight)` gives what multiplies: a function of x in bf16 `[rows, in]`; the weight as it is
    after rounding, or None; a note."""
    for rows in run.sizes["rows"]:
        for shape, (outputs, inner) in run.sizes["products"].items():
            if shape == "lm_head" and rows == run.sizes["rows"][3] or not least_rows <= rows <= most_rows:
                continue

            def prepare(rows=rows, outputs=outputs, inner=inner):
                weight = run.random(outputs, inner) / inner**0.5
                count = run.copies(outputs * inner * bytes_per_weight)
                packed = [pack(weight.clone()) for _ in range(count)]
                x = run.random(rows, inner)
                multiply, rounded, note = packed[0]

                def check():
                    about = note if rounded is not None else ", ".join(filter(None, [note, "error with rounding"]))
                    return run.error(multiply(x), x, weight if rounded is None else rounded), about

                return [lambda multiply=multiply: multiply(x) for multiply, _, _ in packed], check

            run.case(peer, "product", form, shape, rows, prepare)


# ---- torch itself


def torch_bf16(run):
    def pack(weight):
        return (lambda x: run.torch.nn.functional.linear(x, weight)), weight, ""

    products(run, "torch linear", "bf16", 2, pack)


def torch_int8(run):
    """int8 × int8 to int32, without rounding x and without scales."""
    torch, note = run.torch, "the product alone, at least 32 rows"
    for rows in run.sizes["rows"]:
        for shape, (outputs, inner) in run.sizes["products"].items():
            if shape == "lm_head" and rows == run.sizes["rows"][3]:
                continue

            def prepare(rows=rows, outputs=outputs, inner=inner):
                codes = lambda *shape: torch.randint(-127, 128, shape, dtype=torch.int8, device=run.device)
                # Fewer than 17 rows are refused.
                x = codes(max(32, rows), inner)
                weights = [codes(outputs, inner).t() for _ in range(run.copies(outputs * inner))]
                return [lambda weight=weight: torch._int_mm(x, weight) for weight in weights], lambda: (None, note)

            run.case("torch _int_mm", "product", "w8a8", shape, rows, prepare)


def torch_fp8(run):
    def pack(weight):
        torch = run.torch
        fp8 = torch.float8_e4m3fn
        scale = weight.abs().amax(1, keepdim=True).float() / 448
        codes = (weight.float() / scale).to(fp8).t()
        rounded = codes.t().float() * scale
        shared = {}

        def multiply(x):
            if x.shape not in shared:
                x_scale = x.abs().amax(1, keepdim=True).float() / 448
                shared[x.shape] = (x.float() / x_scale).to(fp8), x_scale
            x_codes, x_scale = shared[x.shape]
            return torch._scaled_mm(x_codes, codes, scale_a=x_scale, scale_b=scale.t(), out_dtype=torch.bfloat16)

        try:
            multiply(run.random(32, weight.shape[1]))
            note = "x rounded before, scales by row"
        except RuntimeError:
            one = torch.ones((), device=run.device)

            def multiply(x):
                return torch._scaled_mm(x.to(fp8), codes, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

            return multiply, codes.t().float(), "scale for the tensor"
        return multiply, rounded, note

    products(run, "torch _scaled_mm fp8", "w8a8", 1, pack)


def round4(torch, weight):
    """Codes from 0 to 15 that mean code - 8, and scales, of groups."""
    outputs, inner = weight.shape
    group = min(GROUP_SIZE, inner)
    groups = weight.float().reshape(outputs, inner // group, group)
    scales = (groups.abs().amax(2, keepdim=True) / 7).to(torch.bfloat16)
    codes = ((groups / scales.float()).round() + 8).clamp(0, 15)
    rounded = ((codes - 8) * scales.float()).reshape(outputs, inner)
    return codes.reshape(outputs, inner).to(torch.uint8), scales.squeeze(2), rounded


def torch_tinygemm(run):
    def pack(weight):
        torch = run.torch
        codes, scales, rounded = round4(torch, weight)
        pairs = (codes[:, ::2] << 4 | codes[:, 1::2]).contiguous()
        packed = torch.ops.aten._convert_weight_to_int4pack(pairs, 8)
        scales_and_zeros = torch.stack([scales, torch.zeros_like(scales)], 2).transpose(0, 1).contiguous()
        multiply = lambda x: torch.ops.aten._weight_int4pack_mm(x, packed, GROUP_SIZE, scales_and_zeros)
        return multiply, rounded, ""

    products(run, "torch tinygemm", "w4", 0.52, pack)


def torch_others(run):
    torch = run.torch
    functional = torch.nn.functional if torch else None
    many = run.sizes["rows"][3]
    for width in run.sizes["widths"]:

        def buffers(width=width):
            return [run.random(many, width, dtype=torch.float32) for _ in range(run.copies(8 * many * width))]

        def copying(width=width):
            from_ = buffers(width)
            to = [torch.empty_like(x) for x in from_]
            return [lambda x=x, y=y: y.copy_(x) for x, y in zip(from_, to)], None

        def dense(dtype, width=width):
            x = [x.to(dtype) for x in buffers(width)]
            signs = torch.randint(0, 2, (width, width), dtype=torch.int8, device=run.device) * 2 - 1
            matrix = signs.to(dtype) / width**0.5
            out = torch.empty_like(x[0])
            return [lambda x=x: torch.matmul(x, matrix, out=out) for x in x], None

        run.case("torch copy", "rotate", "f32", width, many, copying)
        run.case("torch x @ H, bf16", "rotate", "f32", width, many, lambda: dense(torch.bfloat16))
        if width <= 8192:  # seconds otherwise
            run.case("torch x @ H, f32", "rotate", "f32", width, many, lambda: dense(torch.float32))
    heads, kv_heads, head_dim = run.sizes["heads"]
    for tokens, context in [(1, context) for context in run.sizes["contexts"]] + [(many, many)]:

        def attention(tokens=tokens, context=context):
            count = run.copies(4 * kv_heads * context * head_dim)
            caches = [[run.random(1, kv_heads, context, head_dim) for _ in range(2)] for _ in range(count)]
            q = run.random(1, heads, tokens, head_dim)
            attend = lambda keys, values: functional.scaled_dot_product_attention(
                q, keys, values, is_causal=tokens > 1, enable_gqa=True
            )
            return [lambda cache=cache: attend(*cache) for cache in caches], None

        run.case("torch SDPA", "attention", "bf16", f"context {context}", tokens, attention)
    for rows in (run.sizes["rows"][0], run.sizes["rows"][1], many):
        hidden = run.sizes["hidden"]

        def norm(rows=rows, hidden=hidden):
            x = [run.random(rows, hidden) for _ in range(run.copies(4 * rows * hidden))]
            gain = run.random(hidden)
            return [lambda x=x: functional.rms_norm(x, (hidden,), gain, 1e-5) for x in x], lambda: (None, "bf16, no sum")

        run.case("torch rms_norm", "rows", "add, norm", hidden, rows, norm)
    vocabulary, hidden = run.sizes["vocabulary"], run.sizes["hidden"]

    def greedy():
        logits = [run.random(vocabulary, dtype=torch.float32) for _ in range(run.copies(4 * vocabulary))]
        return [lambda x=x: torch.argmax(x) for x in logits], None

    run.case("torch argmax", "sample", "greedy", vocabulary, 1, greedy)
    for rows in (1, many):

        def lookup(rows=rows):
            table = run.random(vocabulary, hidden)
            ids = [torch.randint(0, vocabulary, (rows,), device=run.device) for _ in range(30)]
            return [lambda ids=ids: functional.embedding(ids, table) for ids in ids], None

        run.case("torch embedding", "embed", "bf16", f"{vocabulary}x{hidden}", rows, lookup)


def group_torch(run):
    for measure in (torch_bf16, torch_tinygemm, torch_int8, torch_fp8, torch_others):
        measure(run)


def group_ceilings(run):
    """Rates of the largest products, which floors are taken from."""
    if run.dry:
        run.write({"peer": "torch", "ceilings": {"bf16": 7.9e14, "int8": 1.58e15, "copy": 4.3e12}})
        return
    torch, size = run.torch, run.sizes["largest"]
    found = {}

    def rate(name, amount, make):
        try:
            found[name] = amount / (run.microseconds(make())[0] * 1e-6)
        except Exception as failure:  # the others still count
            run.write({"peer": "torch", "ceiling": name, "failed": str(failure)[:300]})

    def bf16():
        a, b = run.random(size, size), run.random(size, size)
        return [lambda: a @ b.t()]

    def int8():
        a, b = (torch.randint(-127, 128, (size, size), dtype=torch.int8, device=run.device) for _ in range(2))
        return [lambda: torch._int_mm(a, b.t())]

    def copying():
        a = torch.randint(0, 1 << 30, (max(1 << 16, run.sizes["cold"] // 4),), dtype=torch.int32, device=run.device)
        b = torch.empty_like(a)
        return [lambda: b.copy_(a)]

    rate("bf16", 2 * size**3, bf16)
    rate("int8", 2 * size**3, int8)
    rate("copy", 8 * max(1 << 16, run.sizes["cold"] // 4), copying)
    run.write({"peer": "torch", "ceilings": found})


# ---- packages


def group_gemlite(run):
    if not run.dry:
        from gemlite.helper import A8W8_int8_dynamic, A16W4_HQQ_INT, A16W8_INT8

    def w4(weight):
        codes, scales, rounded = round4(run.torch, weight)
        layer = A16W4_HQQ_INT(device=run.device, dtype=run.torch.bfloat16)
        layer = layer.from_weights(codes, scales, run.torch.full_like(scales, 8))
        return layer, rounded, ""

    def w8(weight):
        return A16W8_INT8(device=run.device, dtype=run.torch.bfloat16).from_weights(weight), None, ""

    def w8a8(weight):
        return A8W8_int8_dynamic(device=run.device, dtype=run.torch.bfloat16).from_weights(weight), None, "rounds x"

    products(run, "gemlite A16W4", "w4", 0.52, w4)
    products(run, "gemlite A8W8", "w8a8", 1, w8a8)
    products(run, "gemlite A16W8", "w8", 1, w8)


def group_humming(run):
    if not run.dry:
        from humming.layer import HummingLayer

    def layer(dtype, input_dtype=None):
        def pack(weight):
            outputs, inner = weight.shape
            config = {"dtype": dtype}
            if dtype == "int4":
                config["group_size"] = GROUP_SIZE
            built = HummingLayer(
                shape_n=outputs,
                shape_k=inner,
                weight_config=config,
                input_config={"dtype": input_dtype} if input_dtype else None,
                torch_dtype=run.torch.bfloat16,
            ).to(run.device)
            built.load_from_unquantized(weight)
            built.transform()
            return built, None, "rounds x" if input_dtype else ""

        return pack

    products(run, "humming W4A16", "w4", 0.52, layer("int4"))
    products(run, "humming W8A8", "w8a8", 1, layer("int8", "int8"))


def group_torchao(run):
    if not run.dry:
        from torchao.quantization import (
            Int4WeightOnlyConfig,
            Int8DynamicActivationInt8WeightConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )

    def layer(config):
        def pack(weight):
            outputs, inner = weight.shape
            linear = run.torch.nn.Linear(inner, outputs, bias=False, device=run.device, dtype=run.torch.bfloat16)
            linear.weight = run.torch.nn.Parameter(weight, requires_grad=False)
            model = run.torch.nn.Sequential(linear)
            quantize_(model, config())
            model.requires_grad_(False)
            return model, None, ""

        return pack

    products(
        run,
        "torchao int4",
        "w4",
        0.52,
        layer(lambda: Int4WeightOnlyConfig(group_size=GROUP_SIZE, int4_packing_format="tile_packed_to_4d")),
    )
    products(run, "torchao int8", "w8", 1, layer(lambda: Int8WeightOnlyConfig()))
    products(run, "torchao int8 × int8", "w8a8", 1, layer(lambda: Int8DynamicActivationInt8WeightConfig()))


def group_bitsandbytes(run):
    if not run.dry:
        import bitsandbytes
        from bitsandbytes import functional

    def pack(weight):
        packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
        rounded = functional.dequantize_4bit(packed, state)
        return (lambda x: bitsandbytes.matmul_4bit(x, packed.t(), quant_state=state)), rounded, "groups of 64"

    products(run, "bitsandbytes NF4", "w4", 0.57, pack)


def group_hqq(run):
    if not run.dry:
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    def pack(weight):
        outputs, inner = weight.shape
        linear = run.torch.nn.Linear(inner, outputs, bias=False, device=run.device, dtype=run.torch.bfloat16)
        linear.weight = run.torch.nn.Parameter(weight, requires_grad=False)
        config = BaseQuantizeConfig(nbits=4, group_size=GROUP_SIZE)
        config["weight_quant_params"]["optimize"] = False
        return HQQLinear(linear, config, compute_dtype=run.torch.bfloat16, device=run.device), None, "decodes, then linear"

    products(run, "hqq", "w4", 0.52, pack, most_rows=16)


GROUPS = {
    "ceilings": group_ceilings,
    "torch": group_torch,
    "gemlite": group_gemlite,
    "humming": group_humming,
    "torchao": group_torchao,
    "bitsandbytes": group_bitsandbytes,
    "hqq": group_hqq,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--json", help="append the lines to this file")
    parser.add_argument("--seconds", type=float, default=60, help="begin nothing new after so long")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments = parser.parse_args()
    run = Run(arguments)
    try:
        if run.torch:
            run.torch.set_grad_enabled(False)
        GROUPS[arguments.group](run)
    except Exception as failure:  # a package that is not there, or another than expected
        run.write({"peer": arguments.group, "failed": f"{type(failure).__name__}: {failure}"[:300]})
        sys.exit(1)


if __name__ == "__main__":
    main()
