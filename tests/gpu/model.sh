#!/usr/bin/env bash
# Speed of a whole model of the shape of Llama-3-8B with random weights: decoding and prompts, with a head in 16, 8 and 4 bits,
# with and without rotations at run time, in bf16, in W8A8; beside torch with weights of the same shape. Ends with one table and
# writes model.json; the status says whether all of ours ran.
#
#   tests/gpu/build.sh     # where Rust is
#   tests/gpu/model.sh     # where the GPU is; eight minutes at most, and 20 GB of disk or shared memory
#   tests/gpu/model.sh --dry-run   # joins made-up figures, without a GPU
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

results=$out/model.jsonl
: >"$results"
if [[ ${1:-} == --dry-run ]]; then
    "$python" "$here/model_join.py" --made-up "$results" || exit 1
    "$python" "$here/model_join.py" "$results" --json "$out/model.json"
    exit
fi

LD_LIBRARY_PATH=$(python_libraries)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
machine | tee "$out/machine.txt"
description=$root/tests/published/llama-3-8b.json
decode=(--prompt-tokens 64 --new-tokens 128) prompt=(--prompt-tokens 2048 --new-tokens 1 --prompts 5)
few=7 many=50
if [[ -n ${LATHE_GPU_TINY:-} ]]; then
    description=$here/tiny.json
    decode=(--prompt-tokens 4 --new-tokens 4) prompt=(--prompt-tokens 24 --new-tokens 1 --prompts 2)
    few=2 many=3
fi

# Models are made where they are read fastest: in shared memory, where there is room for the largest.
scratch=${TMPDIR:-/tmp}
free=$(df --output=avail -B1G /dev/shm 2>/dev/null | tail -1 | tr -d ' ')
((${free:-0} >= 40)) && scratch=/dev/shm
work=$(mktemp -d "$scratch/lathe-model-XXXXXX")
trap 'rm -rf "$work"' EXIT
"$python" "$here/sparse_checkpoint.py" "$description" "$work/checkpoint" || exit 2

# The rate of reading that floors are computed from: cuda-bench measures its ceilings before what a filter keeps, here nothing.
rate=()
rm -f "$out/model-rates.jsonl"
part 30 "rate of reading" "$bin/cuda-bench" --bench --json "$out/model-rates.jsonl" --seconds 20 ceilings-alone
read_rate=$("$python" -c '
import json, sys
for line in open(sys.argv[1]):
    try:
        print(json.loads(line)["ceilings"]["read"])
    except (ValueError, KeyError):
        pass' "$out/model-rates.jsonl" 2>/dev/null | tail -1)
[[ -z $read_rate ]] || rate=(--read-rate "$read_rate")

status=0
# bench VARIANT KIND OPTION…: a measurement, whose JSON is a line of the results.
bench() {
    local variant=$1 kind=$2 found
    shift 2
    if found=$(part 75 "$variant: $kind" "$bin/lathe-run" bench "$work/model" --device cuda "$@" --json | tee >(cat >&2) | grep '^{'); then
        printf '{"variant": "%s", "kind": "%s", "found": %s}\n' "$variant" "$kind" "$found" >>"$results"
    else
        printf '{"variant": "%s", "kind": "%s", "failed": "see above"}\n' "$variant" "$kind" >>"$results"
        status=1
    fi
}
# variant NAME SPEC PROMPTS [OPTION…]: makes a model, measures it, deletes it.
variant() {
    local name=$1 spec=$2 prompts=$3
    shift 3
    if (($(left) < 25)); then
        printf '{"variant": "%s", "kind": "all", "failed": "no time was left"}\n' "$name" >>"$results"
        return
    fi
    rm -rf "$work/model"
    local need=8 free
    case $spec in bf16) need=18 ;; w8a8*) need=11 ;; esac
    free=$(df --output=avail -B1G "$work" | tail -1 | tr -d ' ')
    if [[ -z ${LATHE_GPU_TINY:-} ]] && ((free < need)); then
        printf '{"variant": "%s", "kind": "making it", "failed": "%s has %d GB free, %d are needed"}\n' \
            "$name" "$scratch" "$free" "$need" | tee -a "$results"
        status=1
        return
    fi
    if ! part 90 "$name: making it" "$bin/generate-artifact" "$here/specs/$spec.lathe" "$work/checkpoint" -o "$work/model" "$@"; then
        printf '{"variant": "%s", "kind": "making it", "failed": "see above"}\n' "$name" >>"$results"
        status=1
        return
    fi
    bench "$name" decode "${decode[@]}" --prompts "$prompts"
    bench "$name" prompt "${prompt[@]}"
}
peer() {
    part "$1" "torch: $2" "$python" "$here/model_peers.py" "$2" >"$out/model-peer-$2.log" 2>&1
    grep '^{' "$out/model-peer-$2.log" | tee -a "$results"
}

# What decides comes first, as time may run out.
variant w4-head4 w4 $few
variant w4-head16 w4 $few --set head=bf16
variant bf16 bf16 $few
variant w8a8 w8a8 $few
rm -rf "$work/model"
if [[ -z ${LATHE_GPU_TINY:-} ]]; then
    peer 40 int4
    peer 40 bf16
    peer 60 int4-compiled
fi
variant w4-rotated-head4 w4-rotated $few
variant w8a8-rotated w8a8-rotated $few
variant w4-head8 w4 $few --set 'head=int8(per: channel)'
[[ -n ${LATHE_GPU_TINY:-} ]] || peer 60 bf16-compiled
variant w4-rotated-head16 w4-rotated $few --set head=bf16
variant w4-rotated-head8 w4-rotated $few --set 'head=int8(per: channel)'
# Over more prompts, in place of the figures above, where there is time for all of it.
(($(left) < 120)) || variant w8a8 w8a8 $many
(($(left) < 120)) || variant bf16 bf16 $many

printf '\n'
"$python" "$here/model_join.py" "$results" --json "$out/model.json" "${rate[@]}" | tee "$out/model.md" || status=1
exit "$status"
