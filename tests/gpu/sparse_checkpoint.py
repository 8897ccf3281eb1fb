#!/usr/bin/env python3
"""Writes a checkpoint whose weights are holes: config.json, and one safetensors file that has a header and no data.

    sparse_checkpoint.py DESCRIPTION OUT [--layers N]

DESCRIPTION is one of tests/published/*.json. What is read of the result are its headers, and the first bytes of its
tensors, which differ, so that no two of them are taken for one table.
"""

import argparse
import json
import re
import struct
from pathlib import Path


def unfold(pattern):
    """The names that a pattern with ranges stands for."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [pattern]
    numbers = range(int(found[1]), int(found[2]))
    return [name for number in numbers for name in unfold(f"{pattern[:found.start()]}{number}{pattern[found.end():]}")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("description", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, help="keep so many of its layers")
    arguments = parser.parse_args()
    description = json.loads(arguments.description.read_text())
    config, patterns = description["config"], description["tensors"]
    if arguments.layers is not None:
        config["num_hidden_layers"] = arguments.layers
        patterns = {re.sub(r"\{0\.\.\d+\}", f"{{0..{arguments.layers}}}", name): shape for name, shape in patterns.items()}
    header, end = {}, 0
    for pattern, shape in patterns.items():
        for name in unfold(pattern):
            elements = 1
            for extent in shape:
                elements *= extent
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + 2 * elements]}
            end += 2 * elements
    text = json.dumps(header).encode()
    arguments.out.mkdir(parents=True)
    (arguments.out / "config.json").write_text(json.dumps(config))
    with open(arguments.out / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for number, tensor in enumerate(header.values()):
            file.seek(8 + len(text) + tensor["data_offsets"][0])
            file.write(struct.pack("<I", number))
        file.truncate(8 + len(text) + end)


if __name__ == "__main__":
    main()
