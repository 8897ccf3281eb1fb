#!/usr/bin/env python3
"""Lines as `kernels/benches/cuda` writes them, with made-up times: for tests of what joins them."""

import json

print(json.dumps({"ceilings": {"read": 4.5e12, "copy": 4.3e12, "bf16": 7e14, "int8": 1.2e15}}))
for form in ("int4(group: 128)", "int8(per: channel)", "bf16", "w8a8"):
    for rows in (1, 16, 128, 2048):
        for shape in ("qkv", "o", "gate_up", "down", "lm_head"):
            if (shape, rows) != ("lm_head", 2048):
                us = 10.0 + rows
                line = {"kernel": "product", "format": form, "shape": shape, "rows": rows}
                print(json.dumps(line | {"us": us, "bound": "read", "floor_us": us / 1.1, "ratio": 1.1}))
for width in (128, 256, 512, 1024, 2048, 4096, 8192, 14336):
    for form in ("f32", "f32, inverse"):
        line = {"kernel": "rotate", "format": form, "shape": str(width), "rows": 2048}
        print(json.dumps(line | {"us": 11.0, "bound": "copy", "floor_us": 10.0, "ratio": 1.1}))
print(json.dumps({"kernel": "sample/greedy/128256/1", "error": "made up"}))
