"""Records what compressed-tensors quantizes, for the test beside this file.

    python integers.py      writes integers.json

Scales and zero points are those of `calculate_qparams` for the smallest and the largest value of a channel or group, codes
those of `quantize`. Weights, scales and what is computed with them are of one dtype, as in a checkpoint of that dtype. It
was made with compressed-tensors 0.20.0 and torch 2.15.0, on the CPU.
"""

import json
from pathlib import Path

import compressed_tensors
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import calculate_qparams

VERSIONS = {"compressed_tensors": "0.20.0", "torch": "2.15.0"}
LARGEST_FILE = 300_000

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
ROWS, COLUMNS = 8, 96


def numbers(tensor):
    """In row-major order; floats with the shortest digits that give the same float32."""
    flat = tensor.reshape(-1)
    if flat.is_floating_point():
        return [float(str(number)) for number in flat.float().numpy()]
    return flat.tolist()


def weights():
    """Rows of several magnitudes, with values of one sign, groups of zeros, a value far from all others."""
    values = torch.randn(ROWS, COLUMNS) * torch.logspace(-3, 1, ROWS).unsqueeze(1)
    values[1] = values[1].abs()
    values[2] = -values[2].abs() - 0.01
    values[3, 32:64] = 0
    values[4, 7] = 40
    values[5, 3:6] = torch.tensor([0.5, 1.0, -2.0])
    return values


def quantized(values, bits, symmetric, group):
    strategy = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, **strategy)
    groups = values.unflatten(1, (-1, group or COLUMNS))
    scales, zero_points = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    assert scales.dtype == values.dtype and scales.shape == (ROWS, COLUMNS // (group or COLUMNS))
    codes = quantize(values, scales, zero_points, args, dtype=torch.int8)
    return {"scales": numbers(scales), "zero_points": numbers(zero_points.to(torch.int8)), "codes": numbers(codes)}


def main():
    found = {"compressed_tensors": compressed_tensors.__version__, "torch": torch.__version__.split("+")[0]}
    assert found == VERSIONS, f"made with {VERSIONS}, not {found}"
    torch.manual_seed(5)
    values = weights()
    inputs = {name: values.to(dtype) for name, dtype in DTYPES.items()}
    cases = []
    for bits in (8, 4, 3):
        for symmetric in (True, False):
            for group in (None, 32, 3):
                for dtype, weight in inputs.items():
                    scales = "" if dtype == "bf16" else f", scales: {dtype}"
                    shared = "per: channel" if group is None else f"group: {group}"
                    mode = "" if symmetric else ", symmetric: false"
                    case = {"format": f"int{bits}({shared}{mode}{scales})", "weights": dtype}
                    cases.append(case | quantized(weight, bits, symmetric, group))
    record = {"rows": ROWS, "columns": COLUMNS, "weights": {name: numbers(weight) for name, weight in inputs.items()}}
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    text = json.dumps(record, separators=(",", ":"))[:-1] + f',"cases":[\n{lines}\n]}}\n'
    assert len(text) < LARGEST_FILE, f"{len(text)} bytes"
    Path(__file__).with_name("integers.json").write_text(text)


if __name__ == "__main__":
    main()
