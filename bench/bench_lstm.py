"""
LSTM inference against ONNX Runtime, oneDNN and torch, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_lstm.py

The results are compared before anything is timed. `python -m bench.run lstm` prints the ratios.
"""

from __future__ import annotations

import pytest

from bench.rnn_inference import Case, measure

CASES = [
    Case("LSTM", 50, 1, 128),
    Case("LSTM", 50, 1, 128, "int8", ids=True),
    Case("LSTM", 50, 256, 128),
    Case("LSTM", 50, 256, 128, "bfloat16", peers=("torch bfloat16", "onednn bfloat16", "torch")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "competitor",
    ["seqrec_fast", "onnxruntime", "onednn", "onednn bfloat16", "torch", "torch bfloat16"],
)
def test_lstm(benchmark, case, competitor):
    measure(benchmark, case, competitor)
