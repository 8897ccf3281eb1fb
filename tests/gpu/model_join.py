#!/usr/bin/env python3
"""The table of model.sh, and whether what was aimed at is met.

    model_join.py RESULTS.jsonl [--json FILE] [--read-rate BYTES_PER_SECOND]
    model_join.py --made-up RESULTS.jsonl    # writes made-up results, for tests
"""

import argparse
import json
import sys

VARIANTS = (
    "w4-head4",
    "w4-head8",
    "w4-head16",
    "w4-rotated-head4",
    "w4-rotated-head8",
    "w4-rotated-head16",
    "w8a8",
    "w8a8-rotated",
    "bf16",
)
# Figures of others, as their authors state them; not measured here.
CITED = (
    ("gpt-fast, bf16, Llama-3-8B, H100", 165, "pytorch-labs/gpt-fast, pull request 158"),
    ("gemlite with torchao and SGLang, bf16, Llama-3.1-8B, H100", 131, "pytorch.org/blog, 2025-01-21"),
    ("gemlite with torchao and SGLang, int4 g64, Llama-3.1-8B, H100", 255, "pytorch.org/blog, 2025-01-21"),
    ("torchao int4 g64, Llama-3-8B, A100", 180.8, "pytorch/ao, README of quantization"),
)
# Bytes of the table of embeddings, of which a token reads one row: bf16 [128256, 4096].
TABLE_BYTES = 128256 * 4096 * 2
# Where it was not measured, in bytes a second.
ASSUMED_READ_RATE = 4.3e12


def made_up(path):
    with open(path, "w") as file:
        for number, variant in enumerate(VARIANTS):
            found = {"decode_tok_s": 700 - 20 * number, "prefill_tok_s": 20000, "load_s": 3.0}
            found |= {"weights_bytes": 5_000_000_000, "session_bytes": 6_000_000_000, "device": "cuda:0", "isa": "made up"}
            for kind in ("decode", "prompt"):
                file.write(json.dumps({"variant": variant, "kind": kind, "found": found}) + "\n")
        file.write(json.dumps({"peer": "torch bf16", "decode_tok_s": 150.0, "weights_bytes": 1}) + "\n")
        file.write(json.dumps({"peer": "torch bf16", "prefill_tok_s": 15000.0}) + "\n")
        file.write(json.dumps({"peer": "torch int4", "failed": "made up"}) + "\n")


def shown(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def targets(models, peers):
    """What was aimed at."""

    def decode(variant):
        return models.get(variant, {}).get("decode_tok_s")

    def microseconds(variant):
        return 1e6 / decode(variant) if decode(variant) else None

    def saved(more, less):
        return microseconds(more) - microseconds(less) if decode(more) and decode(less) else None

    def judged(found, is_enough):
        return None if found is None else is_enough(found)

    best = decode("w4-head4")
    with_figures = sum(1 for found in peers.values() if found.get("decode_tok_s"))
    fastest = max((found["decode_tok_s"] for found in peers.values() if found.get("decode_tok_s")), default=None)
    ahead = best / fastest if best and fastest else None
    saving = saved("w4-head16", "w4-head4")
    return [
        ("w4-head4, tokens a second of one sequence: at least 600", best, judged(best, lambda found: found >= 600)),
        ("its tokens a second to those of the fastest peer: above 1", ahead, judged(ahead, lambda found: found > 1)),
        ("peers with figures for decoding, torch's ways each for itself: at least 3", with_figures, with_figures >= 3),
        ("head from 16 to 8 bits, µs a token", saved("w4-head16", "w4-head8"), None),
        ("head from 8 to 4 bits, µs a token", saved("w4-head8", "w4-head4"), None),
        (
            "head from 16 to 4 bits, µs a token: 181 ± 20 %",
            saving,
            judged(saving, lambda found: abs(found - 181) <= 0.2 * 181),
        ),
        ("rotations R3 and R4, µs a token", saved("w4-rotated-head4", "w4-head4"), None),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--json")
    parser.add_argument("--made-up", action="store_true")
    parser.add_argument("--read-rate", type=float, help="measured, that floors are computed from [assumed: 4.3e12]")
    arguments = parser.parse_args()
    if arguments.made_up:
        made_up(arguments.results)
        return
    models, peers, failed = {}, {}, []
    with open(arguments.results) as file:
        for text in file:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                failed.append({"variant": "a line that was cut off", "kind": "all", "failed": text[:60]})
                continue
            if "failed" in line:
                failed.append(line)
            elif "peer" in line:
                peers.setdefault(line["peer"], {}).update(line)
            else:
                found, model = line["found"], models.setdefault(line["variant"], {})
                names = ["weights_bytes", "session_bytes", "device", "isa"]
                names += ["decode_tok_s", "decode_tok_s_quartiles", "load_s"] if line["kind"] == "decode" else ["prefill_tok_s"]
                model.update({name: found[name] for name in names if name in found})
    rate = arguments.read_rate or ASSUMED_READ_RATE
    how = "measured" if arguments.read_rate else "assumed, not measured"
    print(f"Floors: from a rate of reading of {rate / 1e12:.2f} TB/s, {how}.\n")
    print("| model | decode tok/s (quartiles) | floor tok/s | decode / floor | prompt of 2048, tok/s | weights GB | session GB |")
    print("|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        if variant not in models:
            print(f"| {variant} | not measured | | | | | |")
            continue
        model = models[variant]
        bytes_read = model["weights_bytes"] - TABLE_BYTES
        floor = rate / bytes_read if bytes_read > 0 else None
        decode = model.get("decode_tok_s")
        model["floor_tok_s"] = floor
        quartiles = model.get("decode_tok_s_quartiles")
        spread = f" ({quartiles[0]:.1f}, {quartiles[1]:.1f})" if quartiles else ""
        print(
            f"| {variant} | {shown(decode)}{spread} | {shown(floor)} | {shown(decode and floor and decode / floor, 2)} "
            f"| {shown(model.get('prefill_tok_s'))} | {model['weights_bytes'] / 1e9:.2f} | {model['session_bytes'] / 1e9:.2f} |"
        )
    for peer, found in peers.items():
        print(f"| {peer} | {shown(found.get('decode_tok_s'))} | | | {shown(found.get('prefill_tok_s'))} "
              f"| {shown(found.get('weights_bytes') and found['weights_bytes'] / 1e9, 2)} | |")
    for name, rate, source in CITED:
        print(f"| cited, not measured: {name} | {rate} | | | | | {source} |")
    for line in failed:
        who = line.get("variant") or line.get("peer")
        print(f"failed: {who}, {line.get('kind', 'torch')}: {line['failed']}")
    aims = targets(models, peers)
    print("\n| target | found | met |\n|---|---|---|")
    for name, found, met in aims:
        print(f"| {name} | {shown(found)} | {'-' if found is None or met is None else 'yes' if met else 'no'} |")
    if arguments.json:
        with open(arguments.json, "w") as file:
            listed = [{"target": name, "found": found, "met": met} for name, found, met in aims]
            rates = {"read": rate, "read_is_measured": bool(arguments.read_rate)}
            json.dump({"rates": rates, "models": models, "peers": peers, "failed": failed, "targets": listed}, file, indent=1)
            file.write("\n")
    sys.exit(0 if models else 1)


if __name__ == "__main__":
    main()
