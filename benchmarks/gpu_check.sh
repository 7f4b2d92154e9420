#!/usr/bin/env bash
# All that has to be measured on a GPU, in at most eight minutes on one H100 or H200:
#
#     benchmarks/gpu_check.sh [FOLDER]           # benchmarks/results
#     DEVICE=cpu SIZE=small benchmarks/gpu_check.sh /tmp/dry-run
#
# Needs advbench, torchattacks and pytest beside a PyTorch that sees the GPU; PYTHON names the interpreter.
# The built-in images are made first if they are not in the cache (ADVBENCH_CACHE).
set -uo pipefail
cd "$(dirname "$0")/.."
to=${1:-benchmarks/results} device=${DEVICE:-cuda} size=${SIZE:-full} python=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$to"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

step() { # SECONDS COMMAND...
    echo "== ${*:2}"
    timeout "$1" "${@:2}" || { echo "failed: ${*:2}"; failed=1; }
}

batches=(--batch 1 --batch 8 --batch 32)
[ "$device" = cpu ] && batches=(--batch 1)
# Maps, attacks, bytes, memory, commands and training beside the CPU's.
DEVICE=$device step 120 "$python" -m pytest -m gpu -q tests/test_gpu.py
step 190 "$python" benchmarks/gpu_check.py --device "$device" --size "$size" --seconds 170 \
    "${batches[@]}" --csv "$to/gpu_check.csv"
# The gate, and generate from end to end.
step 55 "$python" -m advbench generate --victim ifosn --attack pgd --eps 3 --limit 32 \
    --device "$device" --numerics exact --out "$scratch/out"
step 55 "$python" -m advbench generate --victim ifosn --attack pgd --eps 3 --limit 32 \
    --device "$device" --numerics fast --out "$scratch/out"
step 60 "$python" benchmarks/attack_speed.py --victim code --size "$size" --device "$device" \
    --images 4 --repeats 1 --attack fgsm --attack pgd --csv "$to/gpu_attack_speed.csv"
exit "$failed"
