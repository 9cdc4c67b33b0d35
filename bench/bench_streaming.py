"""
Events as they come, and sessions of different lengths, against torch and ONNX Runtime.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_streaming.py

`python -m bench.run streaming` prints the ratios.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from bench.peers import PeerMissingError
from bench.peers.onnx import onnx_layer
from bench.rnn_inference import N_ITEMS, Run, torch_layer
from seqrec_fast.data import ItemVocabulary
from seqrec_fast.models import GRU4Rec

HIDDEN = 128
PRECISIONS = ("float32", "bfloat16", "int8")


def _model() -> GRU4Rec:
    torch.manual_seed(0)
    return GRU4Rec(
        N_ITEMS, cell="gru", embedding="separate", embedding_dim=HIDDEN, hidden_size=HIDDEN
    ).eval()


def _recommender(model: GRU4Rec, precision: str) -> sf.Recommender:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.export(path, ItemVocabulary(np.arange(N_ITEMS)))
        return sf.load(path, precision=precision)


def one_user(precision: str) -> tuple[dict[str, Run], list[str]]:
    """One event through `SessionStore.push`; the peers make a step of the same layer."""
    model = _model()
    store = _recommender(model, precision).sessions()
    item = torch.tensor([[7]])
    x = model.embedding(item).detach()
    module = torch.nn.GRU(HIDDEN, HIDDEN).eval()
    runs: dict[str, Run] = {"seqrec_fast": lambda: store.push(["user"], [7])}
    missing = []
    try:
        runs["onnxruntime"] = onnx_layer(module, x)
    except PeerMissingError as error:
        missing.append(f"streaming: onnxruntime left out, {error}")
    runs["torch"] = torch_layer(module, x)
    return runs, missing


def thousand_users(precision: str) -> tuple[dict[str, Run], list[str]]:
    """One event for each of 1000 users; torch has their states in one matrix."""
    model = _model()
    store = _recommender(model, precision).sessions()
    rng = np.random.default_rng(0)
    keys, items = list(range(1000)), rng.integers(0, N_ITEMS, 1000)
    cell = torch.nn.GRUCell(HIDDEN, HIDDEN).eval()
    table, ids = model.embedding.weight.detach(), torch.from_numpy(items)
    state = torch.zeros(1000, HIDDEN)

    def torch_cell() -> np.ndarray:
        with torch.inference_mode():
            return cell(table[ids], state).numpy()

    return {"seqrec_fast": lambda: store.push(keys, items), "torch": torch_cell}, []


def ragged(precision: str) -> tuple[dict[str, Run], list[str]]:
    """Last states of 256 sessions of geometric length, mean 8, at most 200; torch packs them."""
    rng = np.random.default_rng(3)
    lengths = np.clip(rng.geometric(1 / 8, 256), 1, 200)
    table = rng.standard_normal((N_ITEMS, HIDDEN)).astype(np.float32) * 0.3
    torch.manual_seed(0)
    module = torch.nn.GRU(HIDDEN, HIDDEN, batch_first=True).eval()
    arrays = {name: p.detach().numpy() for name, p in module.named_parameters()}
    layer = sf.GRU.from_state_dict(arrays, embedding=table, precision=precision)
    sessions = [torch.from_numpy(rng.integers(0, N_ITEMS, n)) for n in lengths]
    items = np.concatenate([session.numpy() for session in sessions])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    vectors = torch.from_numpy(table)

    def packed() -> np.ndarray:
        with torch.inference_mode():
            padded = torch.nn.utils.rnn.pad_sequence(sessions, batch_first=True)
            x = torch.nn.utils.rnn.pack_padded_sequence(
                vectors[padded], torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
            )
            return module(x)[1][0].numpy()

    def ours() -> np.ndarray:
        return layer(items, offsets=offsets, outputs="last")[0]

    np.testing.assert_allclose(ours(), packed(), atol=2e-5 if precision == "float32" else 5e-2)
    return {"seqrec_fast": ours, "torch packed": packed}, []


CASES = [(task, p) for task in (one_user, thousand_users, ragged) for p in PRECISIONS]


@pytest.mark.parametrize(
    ("task", "precision"), CASES, ids=[f"{task.__name__} {p}" for task, p in CASES]
)
def test_streaming(benchmark, task, precision):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    benchmark.group = task.__name__
    benchmark.pedantic(task(precision)[0]["seqrec_fast"], rounds=50, warmup_rounds=2)
