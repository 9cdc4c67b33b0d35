"""Recurrent inference beside its peers: what bench_gru, bench_lstm and bench_streaming share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from bench.peers import PeerMissingError
from bench.peers.onednn import OneDnnLayer
from bench.peers.onnx import onnx_layer

N_ITEMS = 20000
# Of outputs between -1 and 1.
TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2, "int8": 5e-2}

Run = Callable[[], np.ndarray]


class Case(NamedTuple):
    """One layer, I = H; `peers` are its competitors by name and dtype."""

    kind: str
    steps: int
    batch: int
    hidden: int
    precision: str = "float32"
    ids: bool = False
    peers: tuple[str, ...] = ("onnxruntime", "onednn", "torch")

    def __str__(self) -> str:
        form = " ids" if self.ids else ""
        sizes = f"T={self.steps} B={self.batch} H={self.hidden}"
        return f"{self.kind} {self.precision} {sizes}{form}"


def torch_layer(module: torch.nn.Module, x: torch.Tensor) -> Run:
    def run() -> np.ndarray:
        with torch.inference_mode():
            return module(x)[0].float().numpy()

    return run


def runs_of(case: Case) -> tuple[dict[str, Run], list[str]]:
    """Ours first, then each peer that is here; and what is said of those that are not.

    Peers get the embedded items; ours with `ids` looks them up.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    module = getattr(torch.nn, case.kind)(case.hidden, case.hidden).eval()
    arrays = {name: p.detach().numpy() for name, p in module.named_parameters()}
    table = rng.standard_normal((N_ITEMS, case.hidden)).astype(np.float32) * 0.3
    ids = rng.integers(0, N_ITEMS, (case.steps, case.batch))
    x = torch.from_numpy(table[ids])
    embedding = table if case.ids else None
    layer = getattr(sf, case.kind).from_state_dict(
        arrays, precision=case.precision, embedding=embedding
    )
    ours = ids if case.ids else x.numpy()
    runs: dict[str, Run] = {"seqrec_fast": lambda: layer(ours)[0]}
    missing = []
    for peer in case.peers:
        try:
            runs[peer] = _peer(peer, module, x)
        except PeerMissingError as error:
            missing.append(f"{case}: {peer} left out, {error}")
    return runs, missing


def _peer(name: str, module: torch.nn.Module, x: torch.Tensor) -> Run:
    if name == "onnxruntime":
        return onnx_layer(module, x)
    if name.startswith("onednn"):
        return OneDnnLayer(module, x, "bfloat16" if "bfloat16" in name else "float32")
    if name == "torch bfloat16":
        import copy

        return torch_layer(copy.deepcopy(module).bfloat16(), x.bfloat16())
    return torch_layer(module, x)


def check(case: Case, runs: dict[str, Run]) -> None:
    """Every peer gives the same answer, to what the precisions allow."""
    ours = runs["seqrec_fast"]()
    for name, run in runs.items():
        allowed = max(TOLERANCE[p] for p in TOLERANCE if p == case.precision or p in name)
        np.testing.assert_allclose(run(), ours, atol=allowed, err_msg=name)


def measure(benchmark, case: Case, competitor: str) -> None:
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    runs, missing = runs_of(case)
    if competitor not in runs:
        pytest.skip("; ".join(missing) or f"{competitor} has no such case")
    check(case, runs)
    benchmark.group = str(case)
    benchmark.extra_info.update(target=sf.active_target(), threads=1)
    benchmark.pedantic(runs[competitor], rounds=60 if case.batch == 1 else 9, warmup_rounds=2)
