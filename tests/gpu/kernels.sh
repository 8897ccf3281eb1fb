#!/usr/bin/env bash
# Times of our kernels and of others' on the shapes of Llama-3-8B, beside what the device can do at most. Ends with one table
# and writes kernels.json; the status says whether all of our kernels ran. See kernels/benches/cuda/main.rs for the protocol.
#
#   tests/gpu/build.sh       # where Rust is
#   tests/gpu/kernels.sh     # where the GPU is; eight minutes at most
#   tests/gpu/kernels.sh --dry-run    # joins made-up figures, without a GPU
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

ours=$out/kernels-ours.jsonl
peers=$out/kernels-peers.jsonl
rm -f "$ours" "$peers"
touch "$ours" "$peers"
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
dry=()
[[ ${1:-} == --dry-run ]] && dry=(--dry-run)

LD_LIBRARY_PATH=$(python_libraries)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

# peer LIMIT GROUP: a group of peers.py, with the packages that build.sh has fetched.
peer() {
    echo "peers: $2 (after $SECONDS s)"
    PYTHONPATH=$packages part "$1" "peers: $2" "$python" "$here/peers.py" "$2" --json "$peers" --seconds "$1" "${dry[@]}" \
        >"$out/peers-$2.log" 2>&1
    grep -c '"us"' "$out/peers-$2.log" | sed "s/^/$2: measurements: /"
    grep '"failed"' "$out/peers-$2.log" | cut -c1-200 | sort -u | head -5
}

# A rate of the ceilings that peers.py has measured, divided by 10¹².
ceiling() {
    "$python" -c '
import json, sys
rates = [0]
for line in open(sys.argv[1]):
    try:
        rates.append(json.loads(line).get("ceilings", {}).get(sys.argv[2], 0))
    except json.JSONDecodeError:
        pass  # a line that a time limit has cut off
print(max(rates) / 1e12)' "$peers" "$1" || echo 0
}

status=0
# ours LIMIT: a round of our kernels.
ours() {
    if ((${#dry[@]})); then
        "$python" "$here/made_up.py" >>"$ours"
        return
    fi
    local more=()
    [[ -n ${LATHE_GPU_HOST_DRIVER:-} ]] || more=(--bf16-tflops "$(ceiling bf16)" --int8-tops "$(ceiling int8)")
    part "$1" "our kernels" "$bin/cuda-bench" --bench --json "$ours" --seconds "$(($1 - 15))" "${more[@]}" || status=1
}

if ((${#dry[@]} == 0)); then
    machine | tee "$out/machine.txt"
    for wheel in "$wheels"/*.whl; do
        [[ -e $wheel ]] && "$python" -m zipfile -e "$wheel" "$packages"
    done
fi
# All together 445 s, less than a script may take. Rounds of ours and of torch take turns; packages that compile at first use come last.
peer 25 ceilings
ours 85
peer 50 torch
ours 85
peer 50 torch
peer 45 gemlite
peer 40 humming
peer 30 torchao
peer 20 bitsandbytes
peer 15 hqq

printf '\n'
"$python" "$here/join.py" "$ours" "$peers" --json "$out/kernels.json" | tee "$out/kernels.md" || status=1
grep -q '"us"' "$ours" || { echo "none of our kernels was measured"; status=1; }
exit "$status"
