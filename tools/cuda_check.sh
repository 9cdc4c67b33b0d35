#!/usr/bin/env bash
# Builds for the GPU of this machine with what is installed, then tests, compute-sanitizer and
# benchmarks:  tools/cuda_check.sh bench/results/cuda.md
# HIGHWAY_INCLUDE_DIR: where hwy/highway.h is, if not among the system's headers.
# Every part runs, whatever became of the one before it; the exit status is that of all.
set -uo pipefail

results=$1
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
build=$here/build/cuda-check
status=0
step() {
    echo "== $*"
    "$@" || { echo "cuda-check: failed: $*" >&2; status=1; }
}

nvidia-smi -L || { echo "cuda-check: there is no GPU" >&2; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --no-index --no-build-isolation \
    --no-deps --target "$build/site" --upgrade -Cbuild-dir="$build/cmake" \
    -Ccmake.define.SEQREC_CUDA=ON -Ccmake.define.SEQREC_CUDA_ARCHITECTURES=native \
    ${HIGHWAY_INCLUDE_DIR:+-Ccmake.define.HIGHWAY_INCLUDE_DIR=$HIGHWAY_INCLUDE_DIR} \
    -Ccmake.define.SEQREC_CUDA_EMULATION=OFF "$here" || exit 1
cd "$here"
export PYTHONPATH=$build/site:$here OMP_NUM_THREADS=4
step "$python" -m pytest -q -p no:cacheprovider -o addopts= -o filterwarnings=default \
    --import-mode=importlib -m cuda tests/test_cuda_devices.py \
    tests/test_cuda_dispatch_nn.py tests/test_cuda_models.py tests/test_cuda_training.py \
    tests/test_cuda_compile.py tests/test_cuda_rnn_steps.py
for tool in memcheck racecheck; do
    command -v compute-sanitizer > /dev/null || { echo "cuda-check: no compute-sanitizer"; break; }
    step timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m pytest -q -x \
        -p no:cacheprovider -o addopts= -o filterwarnings=default --import-mode=importlib -m cuda \
        -k "(float32 and (33 or 64 or dispatch)) or tables_of_bfloat16" tests/test_cuda_devices.py
done
step timeout 200 "$python" -m bench.cuda --markdown "$results"
exit $status
