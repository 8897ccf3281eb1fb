# shellcheck shell=bash disable=SC2034
# What the scripts of this folder share; they source it.
#
# Where things are, each of which the environment can say:
#   LATHE_GPU_BIN      what build.sh made               [tests/gpu/bin]
#   LATHE_GPU_WHEELS   packages that are compared with  [tests/gpu/wheels]
#   OUT                results                          [target/gpu]
#   PYTHON             Python with numpy and torch      [python3]
#   LATHE_GPU_TINY     shapes that a processor can run, for tests of the scripts
#   LATHE_GPU_SECONDS  how long a script may take       [460]
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# Paths are of the folder that the caller is in.
absolute() { [[ $1 == /* ]] && echo "$1" || echo "$PWD/$1"; }
bin=$(absolute "${LATHE_GPU_BIN:-$here/bin}")
wheels=$(absolute "${LATHE_GPU_WHEELS:-$here/wheels}")
out=$(absolute "${OUT:-$root/target/gpu}")
[[ -z ${LATHE_TEST_MODELS:-} ]] || LATHE_TEST_MODELS=$(absolute "$LATHE_TEST_MODELS")
python=${PYTHON:-python3}
seconds=${LATHE_GPU_SECONDS:-460}
mkdir -p "$out" || exit 2
export PYTHONDONTWRITEBYTECODE=1
cd "$root" || exit 2

# Seconds that are left of the script's.
left() { echo $((seconds > SECONDS ? seconds - SECONDS : 0)); }

# part LIMIT NAME COMMAND…: runs a part, for LIMIT seconds at most and no longer than the script has left. What it ends
# with is said and returned; 124 is "out of time".
part() {
    local limit=$1 name=$2 status
    shift 2
    local most
    most=$(left)
    limit=$((limit < most ? limit : most))
    printf '\n==> %s (after %d s, at most %d s)\n' "$name" "$SECONDS" "$limit"
    if ((limit <= 0)); then
        echo "left out: no time is left"
        return 124
    fi
    timeout -k 5 "$limit" "$@"
    status=$?
    ((status == 0)) || echo "$name: ended with $status$( ((status == 124)) && echo ', out of time')"
    return "$status"
}

# Folders of the CUDA libraries that Python packages bring, such as torch's, joined by colons.
python_libraries() {
    "$python" - <<'PYTHON' 2>/dev/null
import importlib.util
import pathlib

found = importlib.util.find_spec("nvidia")
folders = []
for base in found.submodule_search_locations if found else []:
    for name in ("libcublasLt.so*", "libnvrtc.so*"):
        folders += [str(library.parent) for library in pathlib.Path(base).glob(f"**/{name}")]
print(":".join(dict.fromkeys(folders)))
PYTHON
}

# What the machine is.
machine() {
    nvidia-smi 2>&1 | head -20
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu --format=csv 2>&1
    "$python" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)' 2>&1 | tail -1
    uname -srm
    date -u +%Y-%m-%dT%H:%M:%SZ
}

# For tests of the scripts on a machine without a device: the host driver, in the folder that build.sh names.
if [[ -n ${LATHE_GPU_HOST_DRIVER:-} ]]; then
    export LD_LIBRARY_PATH="$LATHE_GPU_HOST_DRIVER${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
