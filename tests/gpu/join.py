#!/usr/bin/env python3
"""Joins what `kernels/benches/cuda` and peers.py have measured: one table, and whether what was aimed at is met.

    join.py OURS.json PEERS.json [--json FILE]

Medians over the rounds of a run. Every result of ours is beside those of peers with the same kernel, shape, rows and kind of
weights, products also beside that of torch in bf16.
"""

import argparse
import json
from collections import defaultdict
from statistics import median

# What peers call our formats.
KINDS = {"int4": "w4", "int8": "w8", "bf16": "bf16", "w8a8": "w8a8"}


def lines(path):
    """The lines of a file; one that was cut off by a time limit is left out."""
    found = []
    with open(path) as file:
        for line in file:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                print(f"{path}: a line that is no JSON is left out: {line[:60]!r}")
    return found


def kind(result):
    form = result["format"]
    if result["kernel"] == "product":
        return KINDS.get(form.split("(")[0], form)
    return form.removesuffix(", inverse") if result["kernel"] == "rotate" else form


def key(result):
    return result["kernel"], kind(result), result["shape"], result["rows"]


def joined(ours, peers):
    """Rows of the table, in the order in which they were first measured."""
    own, others = defaultdict(list), defaultdict(lambda: defaultdict(list))
    for result in ours:
        if "us" in result:
            own[result["kernel"], result["format"], result["shape"], result["rows"]].append(result)
    for result in peers:
        if "us" in result:
            others[key(result)][result["peer"]].append(result)
    table = []
    for results in own.values():
        first = results[0]
        us, floor = median(r["us"] for r in results), median(r["floor_us"] for r in results)
        beside = dict(others[key(first)])
        if first["kernel"] == "product":
            beside.update(others["product", "bf16", first["shape"], first["rows"]])
        row = {name: first[name] for name in ("kernel", "format", "shape", "rows", "bound")}
        row |= {"us": us, "floor_us": floor, "ratio": us / floor, "rounds": len(results), "peers": {}}
        for peer, found in beside.items():
            peer_us = median(r["us"] for r in found)
            row["peers"][peer] = {
                "us": peer_us,
                "ours_to_theirs": us / peer_us,
                "error": found[0].get("error"),
                "note": found[0].get("note") or None,
            }
        table.append(row)
    return table


def targets(table, ceilings):
    """What was aimed at, what was found, and whether that is enough."""
    found = {(row["kernel"], kind(row), row["shape"], row["rows"]): row for row in table if "inverse" not in row["format"]}

    def limit(name, result, most):
        us = found.get(result)
        ratio = us["ratio"] if us else None
        return {"target": name, "found": ratio, "limit": most, "met": None if ratio is None else ratio <= most}

    listed = [
        limit("4 bits, gate_up, 1 row: at most 1 / 0.8 of the time of reading", ("product", "w4", "gate_up", 1), 1 / 0.8),
        limit("4 bits, lm_head, 1 row: at most 1 / 0.8 of the time of reading", ("product", "w4", "lm_head", 1), 1 / 0.8),
    ]
    for width in (128, 256, 512, 1024, 2048, 4096, 8192):
        listed.append(limit(f"rotation of {width}: at most 1.2 copies", ("rotate", "f32", str(width), 2048), 1.2))
    listed.append(limit("rotation of 14336: at most 1.5 copies", ("rotate", "f32", "14336", 2048), 1.5))
    # All products of a layer together, against the rate of int8 alone.
    layer = [found.get(("product", "w8a8", shape, 2048)) for shape in ("qkv", "o", "gate_up", "down")]
    operations = 2.0 * 2048 * (6144 * 4096 + 4096 * 4096 + 28672 * 4096 + 4096 * 14336)
    share = None
    if all(layer) and ceilings.get("int8"):
        share = operations / (sum(row["us"] for row in layer) * 1e-6) / ceilings["int8"]
    name = "8 × 8 bits, products of a layer, 2048 rows: at least 0.6 of the rate in int8"
    listed.append({"target": name, "found": share, "limit": 0.6, "met": None if share is None else share >= 0.6})
    peers = {peer for row in table for peer in row["peers"] if row["kernel"] == "product"}
    name = "peers with figures for products: at least 3"
    listed.append({"target": name, "found": len(peers), "limit": 3, "met": len(peers) >= 3})
    return listed


def shown(value):
    return "-" if value is None else f"{value:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours")
    parser.add_argument("peers")
    parser.add_argument("--json", help="write the table here")
    arguments = parser.parse_args()
    ours, peers = lines(arguments.ours), lines(arguments.peers)
    ceilings = {}
    for line in ours + peers:
        for name, value in line.get("ceilings", {}).items():
            ceilings[name] = max(ceilings.get(name, 0.0), value)
    table = joined(ours, peers)
    aims = targets(table, ceilings)
    failures = [line for line in ours if "error" in line and "us" not in line]
    skipped = [line for line in peers if "failed" in line]

    print("Ceilings: " + ", ".join(f"{name} {value / 1e12:.2f} T/s" for name, value in ceilings.items()) + "\n")
    print("| kernel | weights or form | shape | rows | ours µs | floor µs | ours / floor | peers: µs (ours / theirs, error) |")
    print("|---|---|---|---|---|---|---|---|")
    for row in table:
        beside = sorted(row["peers"].items(), key=lambda item: item[1]["us"])
        listed = "; ".join(
            f"{peer} {found['us']:.2f} ({found['ours_to_theirs']:.2f}"
            + (f", {found['error']:.1e})" if found["error"] is not None else ")")
            for peer, found in beside
        )
        print(
            f"| {row['kernel']} | {row['format']} | {row['shape']} | {row['rows']} | {row['us']:.2f} | {row['floor_us']:.2f} "
            f"({row['bound']}) | {row['ratio']:.2f} | {listed or '-'} |"
        )
    for line in failures:
        print(f"failed, ours: {line['kernel']}: {line['error']}")
    reasons = defaultdict(list)
    for line in skipped:
        reasons[line.get("peer", "?"), line["failed"]].append(line)
    for (peer, reason), found in reasons.items():
        print(f"failed, {peer} ({len(found)} measurements): {reason}")
    print("\n| target | found | limit | met |\n|---|---|---|---|")
    for aim in aims:
        met = {True: "yes", False: "no", None: "not measured"}[aim["met"]]
        print(f"| {aim['target']} | {shown(aim['found'])} | {shown(aim['limit'])} | {met} |")
    if arguments.json:
        with open(arguments.json, "w") as file:
            whole = {"ceilings": ceilings, "table": table, "targets": aims, "failed": failures, "skipped": skipped}
            json.dump(whole, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
