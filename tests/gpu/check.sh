#!/usr/bin/env bash
# Whether a device computes what it should: the kernels over the shared suite, under the sanitizers of the toolkit where they
# are installed, and small models against recorded references. Ends with one table and writes check.json; the status says
# whether all of it passed.
#
#   tests/gpu/build.sh --no-wheels   # where Rust is
#   tests/gpu/check.sh               # where the GPU is; eight minutes at most
#
# LATHE_TEST_MODELS names a folder with more checkpoints of the kind of tests/models.
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

results=$out/check-parts.tsv
: >"$results"
status=0

# check LIMIT NAME COMMAND…: a part whose result is a line of the table.
check() {
    local found words=passed start=$SECONDS
    part "$@"
    found=$?
    case $found in
        0) ;;
        124) words="not finished" ;;
        *) words="failed ($found)" ;;
    esac
    # Under a sanitizer everything takes many times as long: not all of it has to finish, see below.
    ((found == 0 || (found == 124 && sanitized))) || status=1
    printf '%s\t%s\t%d\n' "$2" "$words" "$((SECONDS - start))" >>"$results"
    return "$found"
}
sanitized=0
skip() { printf '\n==> %s: %s\n' "$1" "$2"; printf '%s\t%s\t0\n' "$1" "skipped: $2" >>"$results"; }

machine | tee "$out/machine.txt"
[[ -n ${LATHE_GPU_HOST_DRIVER:-} ]] || nvidia-smi >/dev/null 2>&1 || { echo "no NVIDIA device"; status=1; }
export LATHE_TEST_CUDA=1
system_libraries=${LD_LIBRARY_PATH:-}
libraries=$(python_libraries)${system_libraries:+:$system_libraries}

suite=()
[[ -n ${LATHE_GPU_TINY:-} ]] && suite=(suite::gain)
# With the libraries of CUDA that Python brings, and with what the system has: products take other ways without cuBLASLt.
LD_LIBRARY_PATH=$libraries check 120 "suite" "$bin/cuda-tests" --test-threads=1 "${suite[@]}"
LD_LIBRARY_PATH=$system_libraries check 90 "suite, without cuBLASLt of Python" "$bin/cuda-tests" --test-threads=1 "${suite[@]}"

models=("$root/tests/models/micro-llama" "$root/tests/models/tiny-qwen3")
tiny=()
if [[ -n ${LATHE_GPU_TINY:-} ]]; then
    models=("$root/tests/models/micro-llama")
    tiny=(--tiny)
elif [[ -n ${LATHE_TEST_MODELS:-} ]]; then
    for model in "$LATHE_TEST_MODELS"/*/; do
        [[ -e $model/reference.safetensors ]] && models+=("${model%/}")
    done
fi
LD_LIBRARY_PATH=$libraries check 200 "models" "$python" "$here/check_models.py" "$bin" "$out/check-models.json" \
    --seconds 190 "${tiny[@]}" "${models[@]}"

# Its place differs: on the path, in a toolkit, in a Python package.
sanitizer=$(command -v compute-sanitizer)
for tool in /usr/local/cuda*/bin/compute-sanitizer /opt/cuda*/bin/compute-sanitizer; do
    [[ -n $sanitizer || ! -x $tool ]] || sanitizer=$tool
done
if [[ -z $sanitizer ]]; then
    sanitizer=$("$python" - <<'PYTHON' 2>/dev/null
import site
import pathlib

found = [tool for base in site.getsitepackages() for tool in pathlib.Path(base).glob("**/bin/compute-sanitizer")]
print(found[0] if found else "")
PYTHON
    )
fi
if [[ -z $sanitizer ]]; then
    skip "compute-sanitizer" "it is not on this machine"
else
    sanitized=1
    export LD_LIBRARY_PATH=$libraries
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # What has to finish: a memcheck of a model, and one of the suite or of its smallest part. It comes first.
    finished_model=0 finished_suite=0
    # sanitize_suite LIMIT NAME FILTER…
    sanitize_suite() {
        local limit=$1 name=$2
        shift 2
        check "$limit" "compute-sanitizer memcheck, $name" "$sanitizer" --tool memcheck --error-exitcode 9 \
            "$bin/cuda-tests" --test-threads=1 "$@" && finished_suite=1
    }
    # sanitize_model LIMIT TOOL SPEC
    sanitize_model() {
        local model=$work/$3
        if [[ ! -d $model ]]; then
            "$bin/lathe" compile "$here/checks/$3.lathe" "$root/tests/models/micro-llama" -o "$model" --set compute=bf16 || status=1
        fi
        check "$1" "compute-sanitizer $2, $3" "$sanitizer" --tool "$2" --error-exitcode 9 "$bin/lathe-run" \
            generate "$model" --device cuda --ids "$(seq -s, 1 40)" --max-new-tokens 3 --ignore-eos &&
            [[ $2 == memcheck ]] && finished_model=1
    }
    sanitize_suite 60 "suite, gain alone" suite::gain
    sanitize_model 60 memcheck int4-rotated
    sanitize_model 30 memcheck w8a8-rotated
    for tool in racecheck synccheck; do
        for spec in int4-rotated w8a8-rotated; do
            sanitize_model 30 "$tool" "$spec"
        done
    done
    sanitize_suite "$(left)" "suite"
    if ((finished_model == 0 || finished_suite == 0)); then
        echo "memcheck: of a model, of the suite: not both finished"
        printf '%s\t%s\t0\n' "memcheck of a model and of the suite" "not finished" >>"$results"
        status=1
    fi
fi

"$python" - "$results" "$out/check-models.json" "$out/check.json" <<'PYTHON'
import json
import pathlib
import sys

parts = [line.split("\t") for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
models = pathlib.Path(sys.argv[2])
models = json.loads(models.read_text()) if models.exists() else []
table = [{"part": name, "result": result, "seconds": int(seconds)} for name, result, seconds in parts]
pathlib.Path(sys.argv[3]).write_text(json.dumps({"parts": table, "models": models}, indent=1) + "\n")
print("\n| part | result | seconds |\n|---|---|---|")
for row in table:
    print(f"| {row['part']} | {row['result']} | {row['seconds']} |")
PYTHON
exit "$status"
