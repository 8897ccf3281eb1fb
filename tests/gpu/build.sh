#!/usr/bin/env bash
# Builds what the other scripts of this folder need on a machine with a GPU and without Rust or a network: binaries in
# tests/gpu/bin, wheels of implementations that ours is compared with in tests/gpu/wheels. Prints their sizes.
#
#   tests/gpu/build.sh [--no-wheels]
#
# LATHE_GPU_PROFILE=dev builds faster, for tests of the scripts.
#
# Needs Rust, and for the wheels pip in PYTHON (python3). Both folders are ignored by git. Not all is needed everywhere: check.sh
# runs lathe, lathe-run and cuda-tests, kernels.sh cuda-bench and the wheels, model.sh lathe-run,
# generate-artifact and cuda-bench.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
profile=${LATHE_GPU_PROFILE:-release}
bin=tests/gpu/bin
wheels=tests/gpu/wheels
for source in kernels/src/cuda/*.cu; do
    image=kernels/src/cuda/images/$(basename "$source" .cu).sm_90a.cubin.zz
    [[ -e $image || $profile == dev ]] || { echo "error: no $image: run kernels/src/cuda/build.sh first" >&2; exit 1; }
done
rm -rf "$bin"
mkdir -p "$bin"

# The file that cargo says it made for a target, from its messages.
executable() {
    "$python" -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == sys.argv[1]:
        print(message["executable"])' "$1"
}

put() {
    local name=$1 target=$2 file
    shift 2
    file=$(cargo "$@" --message-format=json-render-diagnostics | executable "$target" | tail -1)
    [[ -n $file ]] || { echo "error: cargo made no $target" >&2; exit 1; }
    strip -o "$bin/$name" "$file"
}

put lathe lathe build --profile "$profile" -p lathe-compiler --bin lathe
put lathe-run lathe-run build --profile "$profile" -p lathe-runtime --bin lathe-run
put generate-artifact generate-artifact build --profile "$profile" -p lathe-tests --bin generate-artifact
put cuda-tests cuda test --profile "$profile" --no-run -p lathe-kernels --features check,cuda --test cuda
put cuda-bench cuda bench --profile "$profile" --no-run -p lathe-kernels --features check,cuda --bench cuda

if [[ ${1:-} != --no-wheels ]]; then
    rm -rf "$wheels"
    mkdir -p "$wheels"
    for package in gemlite==0.6.0.post2 hqq==0.2.8.post1 humming-kernels==0.1.19 torchao==0.18.0 \
        bitsandbytes==0.50.2 termcolor==3.1.0 einops==0.8.1; do
        "$python" -m pip wheel -q --no-deps -w "$wheels" "$package" || echo "no wheel of $package"
    done
    # Of its libraries, for every version of CUDA, only the one of 13.0 is used.
    "$python" - "$wheels" <<'PYTHON'
import pathlib
import sys
import zipfile

for wheel in pathlib.Path(sys.argv[1]).glob("bitsandbytes-*.whl"):
    smaller = wheel.with_suffix(".smaller")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            name = entry.filename.rsplit("/", 1)[-1]
            if not name.startswith("libbitsandbytes_cuda") or "cuda130" in name:
                new.writestr(entry, old.read(entry))
    smaller.replace(wheel)
PYTHON
fi
du -h --apparent-size -c "$bin"/* "$wheels"/* 2>/dev/null
