#!/usr/bin/env bash
# Runs the tests of the compiled parts with a sanitizer built in:  tools/sanitize.sh thread
set -euo pipefail

kind=$1
tests="tests/test_rnn.py tests/test_rnn_backward.py tests/test_rnn_ids.py tests/test_rnn_precision.py tests/test_topk.py tests/test_item_index.py tests/test_item_filters.py tests/test_item_changes.py tests/test_loss_kernels.py tests/test_session_step_kernel.py tests/test_alias_table.py tests/test_gate.py tests/test_dispatch.py tests/test_dispatch_segments.py tests/test_sessions.py"
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
build=$here/build/sanitize-${kind%%,*}
no_memory=allocator_may_return_null=1  # a MemoryError, not the end of the process
case $kind in
    address*) runtime="libasan.so libubsan.so"; export ASAN_OPTIONS=detect_leaks=0:$no_memory ;;
    # The runtime cannot start threads in a child that was forked beside threads: no test_fork.
    thread) runtime=libtsan.so; export TSAN_OPTIONS=exitcode=66:$no_memory; deselect="--deselect tests/test_rnn.py::test_fork" ;;
    *) echo "sanitize: '$kind' is unknown; expected address,undefined or thread" >&2; exit 2 ;;
esac
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

"$python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
    --target "$build/site" --upgrade \
    -Cbuild-dir="$build/cmake" -Cinstall.strip=false -Ccmake.build-type=RelWithDebInfo \
    -Ccmake.define.CMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1" -Ccmake.define.SEQREC_CUDA=OFF \
    -Ccmake.define.SEQREC_SANITIZE="$kind" "$here"

preload=""
for library in $runtime; do
    preload+="${preload:+:}$(c++ -print-file-name=$library)"
done
cd "$here"
env LD_PRELOAD="$preload" PYTHONPATH="$build/site" OMP_NUM_THREADS=1 SEQREC_FAST_NUM_THREADS=2 \
    "$python" -m pytest -q -n auto -p no:cacheprovider ${deselect:-} $tests
