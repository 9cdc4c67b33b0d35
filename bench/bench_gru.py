"""
GRU inference against ONNX Runtime, oneDNN and torch, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_gru.py

The results are compared before anything is timed. `python -m bench.run gru` prints the ratios.
"""

from __future__ import annotations

import pytest

from bench.rnn_inference import Case, measure

CASES = [
    Case("GRU", 50, 1, 128),
    Case("GRU", 50, 1, 256),
    Case("GRU", 50, 1, 128, ids=True),
    Case("GRU", 50, 1, 256, ids=True),
    Case("GRU", 50, 1, 128, "int8", ids=True),
    Case("GRU", 50, 1, 256, "int8", ids=True),
    Case("GRU", 50, 1, 512, "int8", ids=True),
    Case("GRU", 50, 256, 128),
    Case("GRU", 50, 256, 129, peers=("torch",)),
    Case("GRU", 50, 256, 128, "bfloat16", peers=("torch", "onednn bfloat16", "torch bfloat16")),
    Case("GRU", 50, 256, 128, "int8", peers=("torch", "onednn bfloat16")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "competitor",
    ["seqrec_fast", "onnxruntime", "onednn", "onednn bfloat16", "torch", "torch bfloat16"],
)
def test_gru(benchmark, case, competitor):
    measure(benchmark, case, competitor)
