#!/usr/bin/env bash
# Builds a wheel and holds it against its promises: under 4 MB, no shared library beyond the
# system's, and it works in an environment without Highway and without torch.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-$here/.venv/bin/python}

"$python" -m pip wheel --quiet --no-deps --no-build-isolation -w "$work" \
    -Ccmake.define.SEQREC_CUDA=OFF -Ccmake.define.SEQREC_CUDA_EMULATION=OFF "$here"
wheel=$(echo "$work"/*.whl)
size=$(stat -c %s "$wheel")
echo "wheel: $((size / 1024)) KiB"
[ "$size" -lt 4000000 ] || { echo "wheel: $size bytes; expected under 4,000,000" >&2; exit 1; }

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"
library=$("$work/venv/bin/python" -c 'import seqrec_fast._core as core; print(core.__file__)')
needed=$(objdump -p "$library" | awk '/NEEDED/ {print $2}')
for name in $needed; do
    case $name in
        libstdc++.so.*|libm.so.*|libgcc_s.so.*|libc.so.*|libpthread.so.*|ld-linux*) ;;
        *) echo "wheel: needs the shared library $name" >&2; exit 1 ;;
    esac
done
cd "$work"
"$work/venv/bin/python" - <<'EOT'
import sys

sys.modules["torch"] = None
import numpy as np

import seqrec_fast as sf

scores, ids = sf.ItemIndex(np.eye(8, dtype="f")).topk(np.eye(8, dtype="f")[2:3], 1)
assert ids[0, 0] == 2, ids
weights = {"weight_ih_l0": np.ones((12, 3)), "weight_hh_l0": np.ones((12, 4))}
y, _ = sf.GRU.from_state_dict(weights)(np.ones((2, 1, 3), "f"))
assert np.isfinite(y).all()
print("wheel: works without Highway and torch;", sf.config.active_target())
EOT
