#!/usr/bin/env bash
# Measures what rotations change about the perplexity of models with few bits, and prints Markdown tables:
#
#     cargo build --release -p lathe-compiler -p lathe-runtime
#     tests/accuracy/rotations.sh MODEL... > tables.md
#
# Each MODEL is a checkpoint folder. R1 is measured with the seeds SEEDS (1 2 3), on WINDOWS windows (16) of each text, with
# THREADS threads (2); texts and BIN are as in measure.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${BIN:-$root/target/release}
read -ra seeds <<<"${SEEDS:-1 2 3}"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Perplexities of the model with these linears on both texts. Other arguments go to `lathe compile`.
perplexities() {
    "$bin/lathe" compile "$root/tests/accuracy/rotations.lathe" "$model" -o "$out/model" --set "body=$1" "${@:2}" \
        2>"$out/log" || { cat "$out/log" >&2; exit 1; }
    for text in heldout wikitext2-test; do
        "$bin/lathe-run" perplexity "$out/model" --text "$root/tests/models/$text.txt" \
            --windows "${WINDOWS:-16}" --threads "${THREADS:-2}" | awk '{ printf "%s ", $2 }'
    done
    echo
}

# The same, a line for each seed of R1.
with_seeds() {
    for seed in "${seeds[@]}"; do
        perplexities "$@" --set "stream.seed=$seed"
    done
}

# Cells of lines of perplexities: for each text the mean, its change against `$reference`, and the half of the spread.
cells() {
    awk -v reference="$reference" '
        { for (i = 1; i <= 2; i++) { sum[i] += $i; if (NR == 1 || $i < low[i]) low[i] = $i; if ($i > high[i]) high[i] = $i } }
        END {
            split(reference, exact)
            for (i = 1; i <= 2; i++) {
                mean = sum[i] / NR
                printf " %.3f | %+.2f %%", mean, 100 * (mean / exact[i] - 1)
                if (NR > 1) printf " ± %.2f", 100 * (high[i] - low[i]) / 2 / exact[i]
                printf " |"
            }
        }'
}

# Whether `lathe check` finds that these linears can be built.
divides() {
    "$bin/lathe" check "$root/tests/accuracy/rotations.lathe" "$model" --set "body=$1" >"$out/log" 2>&1
}

none=(--set stream=none --set heads=none --set hidden=none)
for model in "$@"; do
    printf '\n### %s, rotated\n\n' "$(basename "$model")"
    echo '| linears | rotations | heldout | change | wikitext2 | change |'
    echo '|---|---|---:|---:|---:|---:|'
    reference=$(perplexities bf16 "${none[@]}")
    echo "| \`bf16\` | none |$(echo "$reference" | cells)"
    echo "| | R1, R2 |$(with_seeds bf16 --set hidden=none | cells)"
    echo "| | R1, R2, R4 |$(with_seeds bf16 | cells)"
    for bits in 4 3; do
        for how in 'per: channel' 'group: 128' 'group: 64' 'group: 32' 'group: 32, fit: mse'; do
            # Groups of 64 stand for those of 128 where rows are no multiple of 128.
            format="int$bits($how)"
            case $how in
            'group: 128') divides "$format" || continue ;;
            'group: 64') ! divides "int$bits(group: 128)" || continue ;;
            esac
            echo "| \`$format\` | none |$(perplexities "$format" "${none[@]}" | cells)"
            echo "| | R1, R2 |$(with_seeds "$format" --set hidden=none | cells)"
            echo "| | R1, R2, R4 |$(with_seeds "$format" | cells)"
        done
    done
done
