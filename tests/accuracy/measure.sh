#!/usr/bin/env bash
# Measures what formats of body, head and embedding cost in perplexity, and prints Markdown tables:
#
#     cargo build --release -p lathe-compiler -p lathe-runtime
#     tests/accuracy/measure.sh MODEL... > tables.md
#
# Each MODEL is a checkpoint folder. Texts are those beside the models of the tests: 64 windows of 256 tokens each, as
# `lathe-run perplexity` reads them. BIN=folder takes the two binaries from elsewhere.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${BIN:-$root/target/release}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

declare -A format=([16]='bf16' [8]='int8(per: channel)' [4]='int4(group: 32, symmetric: false, fit: mse)')

# Perplexity of a compiled model on a text.
perplexity() {
    "$bin/lathe-run" perplexity "$out/model" --text "$root/tests/models/$1" | awk '{ print $2 }'
}

for model in "$@"; do
    printf '\n### %s\n\n' "$(basename "$model")"
    echo '| body | head | embedding | tables | bytes | bits per weight | heldout | change | wikitext2 | change |'
    echo '|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|'
    parameters='' first_heldout='' first_wikitext=''
    for body in 16 8 4; do for head in 16 8 4; do for table in 16 8 4; do
        "$bin/lathe" compile "$root/tests/accuracy/mix.lathe" "$model" -o "$out/model" \
            --set "body=${format[$body]}" --set "head=${format[$head]}" --set "table=${format[$table]}" \
            --set "tied=$([[ $head == "$table" ]] && echo share || echo split)" 2>"$out/log" \
            || { cat "$out/log" >&2; exit 1; }
        bytes=$(sed -n 's/.*"bytes_written": \([0-9]*\).*/\1/p' "$out/model/report.json")
        tables=$(grep -c '"lm_head.weight"' "$out/model/program.json" || true)
        heldout=$(perplexity heldout.txt) wikitext=$(perplexity wikitext2-test.txt)
        # All values of the first model are stored in 16 bits.
        : "${parameters:=$((bytes / 2))}" "${first_heldout:=$heldout}" "${first_wikitext:=$wikitext}"
        awk -v row="$body | $head | $table | $((1 + tables))" -v bytes="$bytes" -v parameters="$parameters" \
            -v a="$heldout" -v a0="$first_heldout" -v b="$wikitext" -v b0="$first_wikitext" 'BEGIN {
            printf "| %s | %d | %.2f | %.3f | %+.2f %% | %.3f | %+.2f %% |\n", row, bytes, 8 * bytes / parameters,
                a, 100 * (a / a0 - 1), b, 100 * (b / b0 - 1) }'
    done; done; done
done
