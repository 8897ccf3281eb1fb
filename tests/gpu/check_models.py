#!/usr/bin/env python3
"""Compares small models on a CUDA device with recorded references and with the processor.

    check_models.py BIN OUT.json [--seconds N] [--tiny] MODEL…

Each MODEL is a checkpoint with `reference.safetensors` (tests/models/README.md). It is compiled with `keep` and with the specs
in tests/gpu/checks/, each with `compute` f32 and bf16. Logits of `keep` and of f32 weights that are rotated are held to the
reference, those of the others to what the processor computes from the same artifact. Differences are shares of the range of
the expected logits; the next token must be the expected one wherever the two largest expected logits differ by more than
twice the largest difference that was found.

A model with experts may, where sums or x are rounded (bf16, W8A8), choose another expert at a near tie, after which all logits
of that position differ. There at least 90 % of the positions must be within the bound, and the next token must be the expected
one wherever the two largest expected logits differ by more than twice the bound.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

HERE = Path(__file__).resolve().parent
# Largest difference, as a share of the range. Where x is rounded to int8, a value that lies between two codes may become
# either, which moves what follows by more than a rounding of sums.
ALLOWED = {"f32": 1e-4, "bf16": 1e-2}
ALLOWED_INT8 = {"f32": 5e-3, "bf16": 3e-2}
# Rotated in f32: the weights themselves are rounded once more.
ALLOWED_ROTATED = {"f32": 1e-4, "bf16": 1e-2}
# Share of the positions of a model with experts that have to be within the bound.
EXPERTS_WITHIN = 0.9
DTYPES = {"F32": numpy.float32, "I64": numpy.int64}


def tensors(path):
    """The tensors of a safetensors file."""
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    found = {}
    for name, entry in header.items():
        if entry.get("dtype") in DTYPES:
            begin, end = entry["data_offsets"]
            found[name] = numpy.frombuffer(body[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


def has_experts(model):
    """Whether the tokens of a checkpoint choose among experts."""
    config = json.loads((model / "config.json").read_text())
    config = config.get("text_config", config)
    return any((config.get(name) or 0) > 1 for name in ("num_local_experts", "num_experts", "n_routed_experts"))


class Failed(Exception):
    """A binary that ended otherwise than it should."""


class Checker:
    def __init__(self, arguments, folder):
        self.bin, self.folder, self.tiny = Path(arguments.bin), Path(folder), arguments.tiny
        self.end = time.monotonic() + arguments.seconds
        self.results = []

    def run(self, name, *arguments):
        command = [str(self.bin / name), *map(str, arguments)]
        left = self.end - time.monotonic()
        if left <= 0:
            raise Failed("no time is left")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=min(left, 120))
        except subprocess.TimeoutExpired as expired:
            raise Failed(f"{name} {arguments[0]}: out of time after {expired.timeout:.0f} s") from expired
        if done.returncode != 0:
            raise Failed(f"{name} {arguments[0]}: ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout

    def compiled(self, model, spec, compute):
        out = self.folder / f"{model.name}-{Path(spec).stem}-{compute}"
        if not out.exists():
            self.run("lathe", "compile", spec, model, "-o", out, "--set", f"compute={compute}")
        return out

    def logits(self, artifact, ids, device):
        file = self.folder / "logits.safetensors"
        self.run(
            "lathe-run", "logits", artifact, "--device", device, "--ids", ",".join(map(str, ids)), "-o", file
        )
        return tensors(file)["logits"]

    def greedy(self, artifact, ids, count, device):
        arguments = ["--ids", ",".join(map(str, ids)), "--max-new-tokens", count, "--ignore-eos", "--json"]
        return json.loads(self.run("lathe-run", "generate", artifact, "--device", device, *arguments))["ids"]

    def add(self, **result):
        self.results.append(result)
        print(json.dumps(result), flush=True)

    def model(self, model):
        """All specs of a model."""
        reference = tensors(model / "reference.safetensors")
        prompts = sorted(name.removesuffix(".input_ids") for name in reference if name.startswith("prompt") and "input" in name)
        cases = [(reference[f"{name}.input_ids"], reference[f"{name}.logits"]) for name in prompts]
        long = reference["long.input_ids"], reference["long.last_logits"]
        if self.tiny:
            cases, long = [(ids[:8], logits[:8]) for ids, logits in cases[:1]], None
        for spec in ["keep", *sorted(map(str, (HERE / "checks").glob("*.lathe")))]:
            for compute in ("f32", "bf16"):
                case = {"model": model.name, "spec": Path(spec).stem, "compute": compute}
                try:
                    self.add(**case, **self.one(model, spec, compute, cases, long))
                except Failed as failed:
                    self.add(**case, passed=False, reason=str(failed))
                except (KeyError, OSError, ValueError) as error:
                    self.add(**case, passed=False, reason=f"{type(error).__name__}: {error}")

    def one(self, model, spec, compute, cases, long):
        name = Path(spec).stem
        against = "reference" if name in ("keep", "rotated") else "cpu"
        allowed = ALLOWED_INT8 if name.startswith("w8a8") else ALLOWED_ROTATED if name == "rotated" else ALLOWED
        artifact = self.compiled(model, spec, compute)
        pairs = []
        for ids, logits in [*cases, *([long] if long else [])]:
            found = self.logits(artifact, ids, "cuda")
            expected = logits if against == "reference" else self.logits(artifact, ids, "cpu")
            pairs.append((found[-len(expected) :], expected))
        span = max(float(expected.max() - expected.min()) for _, expected in pairs)
        worst = max(float(numpy.abs(found - expected).max()) for found, expected in pairs)
        finite = all(numpy.isfinite(found).all() for found, _ in pairs)
        difference, bound = worst / span, allowed[compute]
        may_choose = has_experts(model) and (compute == "bf16" or name.startswith("w8a8"))
        apart = numpy.concatenate([numpy.abs(found - expected).max(1) for found, expected in pairs]) > bound * span
        enough = (~apart).mean() >= EXPERTS_WITHIN if may_choose else difference <= bound
        decided, wrong = 0, 0
        for found, expected in pairs:
            top = numpy.sort(expected, axis=1)[:, -2:]
            clear = top[:, 1] - top[:, 0] > 2 * (bound * span if may_choose else worst)
            decided += int(clear.sum())
            wrong += int((found.argmax(1) != expected.argmax(1))[clear].sum())
        ids, count = cases[0][0], 4 if self.tiny else 24
        ours, theirs = (self.greedy(artifact, ids, count, device) for device in ("cuda", "cpu"))
        same = next((index for index, (a, b) in enumerate(zip(ours, theirs)) if a != b), len(theirs)) - len(ids)
        return {
            "against": against,
            "difference": difference,
            "allowed": bound,
            "positions_apart": int(apart.sum()),
            "positions": len(apart),
            "decided": decided,
            "wrong": wrong,
            "greedy_same": same,
            "greedy_of": count,
            # What is generated is held to the processor in f32 only: near ties go either way.
            "passed": bool(finite and enough and wrong == 0),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bin", help="folder of lathe and lathe-run")
    parser.add_argument("output", help="JSON to write")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--tiny", action="store_true", help="a few tokens of each model, for a slow device")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(arguments, folder)
        for model in arguments.models:
            checker.model(model)
    Path(arguments.output).write_text(json.dumps(checker.results, indent=1) + "\n")
    print("\n| model | spec | compute | against | difference | allowed | positions beyond it | wrong of decided | greedy | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for result in checker.results:
        about = f"| {result['model']} | {result['spec']} | {result['compute']} |"
        if "reason" in result:
            print(f"{about} | | | | | | failed: {result['reason'].splitlines()[0][:160]} |")
            continue
        print(
            f"{about} {result['against']} | {result['difference']:.1e} | {result['allowed']:.0e} | "
            f"{result['positions_apart']} of {result['positions']} | {result['wrong']} of {result['decided']} | {result['greedy_same']} of {result['greedy_of']} | {'ok' if result['passed'] else 'FAILED'} |"
        )
    sys.exit(0 if all(result["passed"] for result in checker.results) else 1)


if __name__ == "__main__":
    main()
