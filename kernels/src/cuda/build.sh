#!/usr/bin/env bash
# Compiles the kernels to the images that are shipped: for each .cu of this folder code of sm_80 and sm_90a, and PTX of
# compute_80 for devices that neither fits.
#
#     kernels/src/cuda/build.sh [--check] [TOOLCHAIN]
#
# Writes images/ (each as a zlib stream), images/DIGESTS (SHA-256 of what they are made of and of what was made, before it was
# compressed), images/RESOURCES (what each kernel needs of a multiprocessor) and images.rs. With --check nothing is written: it
# fails when anything would differ.
#
# Either way it fails when a kernel spills registers, keeps a stack, or cannot have as many threads as it says. TOOLCHAIN is the
# folder of the compiler, by default target/cuda-toolchain; where there is none, pip installs it there, and the exit status
# is 3 when it cannot. Needs python3 with pip and a C++ compiler, no GPU and no driver. The same sources give the same bytes
# on every machine.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
check=
if [[ "${1:-}" == --check ]]; then check=yes; shift; fi
toolchain=${1:-${CARGO_TARGET_DIR:-$here/../../../target}/cuda-toolchain}

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# CUDA 13.0: its PTX is what drivers from 580 on compile. All of one release, as images depend on each of them.
packages=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85)
nvcc=$toolchain/nvidia/cu13/bin/nvcc
if [[ ! -e $nvcc ]]; then
    if ! python3 -m pip install --quiet --no-deps --target "$toolchain" "${packages[@]}"; then
        echo "error: the CUDA toolchain cannot be installed" >&2
        exit 3
    fi
fi
chmod +x "$toolchain"/nvidia/cu13/bin/* "$toolchain"/nvidia/cu13/nvvm/bin/*
"$nvcc" --version | grep -q 'V13\.0\.88$' || fail "$nvcc is not of CUDA 13.0.88"

cd "$here"
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
mkdir "$built/images"

compile() {
    local name=$1 target=$2 output=$built/images/$1.$2
    local common=(-std=c++17 -O3 --fmad=true -Werror all-warnings)
    case $target in
        compute_*) "$nvcc" "${common[@]}" -arch="$target" -ptx "$name.cu" -o "$output.ptx" ;;
        *) "$nvcc" "${common[@]}" -gencode "arch=${target/sm/compute},code=$target" -cubin -Xptxas -v "$name.cu" \
            -o "$output.cubin" 2>"$built/$name.$target.log" || { cat "$built/$name.$target.log" >&2; return 1; } ;;
    esac
}
export -f compile
export built nvcc
names=(*.cu)
names=("${names[@]%.cu}")
for name in "${names[@]}"; do
    for target in sm_80 sm_90a compute_80; do printf '%s %s\n' "$name" "$target"; done
done | xargs -P "$(nproc)" -L 1 bash -c 'compile "$0" "$1"' || fail "a kernel cannot be compiled"

# ptxas says what each kernel needs, the PTX how many threads and blocks it is for.
{
    printf '%-40s %-7s %7s %9s %6s %5s %6s\n' kernel target threads registers spills stack shared
    for name in "${names[@]}"; do
        for target in sm_80 sm_90a; do
            awk -v target="$target" '
                FILENAME ~ /ptx$/ && /\.entry/ { split($0, words, /\.entry |\(/); kernel = words[2] }
                FILENAME ~ /ptx$/ && /\.maxntid/ { threads[kernel] = $2 + 0 }
                FILENAME ~ /log$/ && /Compiling entry function/ { split($0, quoted, "\047"); kernel = quoted[2] }
                FILENAME ~ /log$/ && /bytes stack frame/ { stack = $1; spills = $5 + $9 }
                FILENAME ~ /log$/ && /: Used [0-9]+ registers/ {
                    match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
                    shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
                    printf "%-40s %-7s %7d %9d %6d %5d %6d\n", kernel, target, threads[kernel], registers, spills, stack, shared
                }' "$built/images/$name.compute_80.ptx" "$built/$name.$target.log"
        done
    done | sort
} >"$built/images/RESOURCES"
awk 'NR > 1 && ($5 > 0 || $6 > 0) { print "error: " $1 " for " $2 " spills " $5 " bytes, its stack has " $6; bad = 1 }
     NR > 1 && ($3 == 0 || $3 * int(($4 + 7) / 8) * 8 > 65536) { print "error: " $1 " for " $2 ": " $3 " threads of " $4 " registers"; bad = 1 }
     END { exit bad }' "$built/images/RESOURCES" >&2 || fail "kernels that need too much"

{
    echo "# SHA-256. Images are made by build.sh with ${packages[*]}"
    sha256sum -- build.sh *.cu *.cuh
    (cd "$built" && sha256sum -- images/*.cubin images/*.ptx)
} >"$built/images/DIGESTS"

{
    printf '//! Images that are shipped. Written by `build.sh`.\n\nuse super::module::Image;\n\n'
    printf '/// Every source for every target.\n#[rustfmt::skip]\npub(super) static IMAGES: &[Image] = &[\n'
    for name in "${names[@]}"; do
        for target in sm_80 sm_90a compute_80; do
            file=$name.$target.$([[ $target == compute_* ]] && echo ptx || echo cubin)
            printf '    Image { source: "%s", target: "%s", stream: include_bytes!("images/%s.zz") },\n' "$name" "$target" "$file"
        done
    done
    printf '];\n'
} >"$built/images.rs"

# How well a stream is compressed depends on the machine's zlib, so what they hold is compared.
streams() { python3 -c '
import pathlib, sys, zlib
mode, source, target = sys.argv[1], *map(pathlib.Path, sys.argv[2:])
for file in sorted(source.iterdir()):
    if mode == "compress" and file.suffix in (".cubin", ".ptx"):
        (target / (file.name + ".zz")).write_bytes(zlib.compress(file.read_bytes(), 9))
    elif mode == "decompress" and file.suffix == ".zz":
        (target / file.stem).write_bytes(zlib.decompress(file.read_bytes()))
    else:
        (target / file.name).write_bytes(file.read_bytes())
' "$@"; }

mkdir "$built/other"
if [[ $check ]]; then
    streams decompress images "$built/other"
    diff -u "$built/other/RESOURCES" "$built/images/RESOURCES" >&2 || fail "images/RESOURCES is not current: run kernels/src/cuda/build.sh"
    diff -r "$built/other" "$built/images" >&2 || fail "images are not current: run kernels/src/cuda/build.sh"
    diff images.rs "$built/images.rs" >&2 || fail "images.rs is not current: run kernels/src/cuda/build.sh"
    echo "${#names[@]} sources give the images that are shipped"
else
    streams compress "$built/images" "$built/other"
    rm -rf images
    cp -r "$built/other" images
    cp "$built/images.rs" images.rs
    column -t images/RESOURCES 2>/dev/null || cat images/RESOURCES
fi
