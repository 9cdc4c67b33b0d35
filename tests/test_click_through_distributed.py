"""Two processes train the click-through model of one."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from seqrec_fast.data import sampled_clicks, simulate
from seqrec_fast.models import DIN
from seqrec_fast.training import ClickThroughOptions, ClickThroughTrainer
from test_distributed import together

N = 30
SAMPLES = sampled_clicks(simulate(40, N, 3, n_categories=6, mean_length=5, seed=1).sessions, N)


def fit(rank: int, folder) -> tuple[list, list[torch.Tensor]]:
    model = DIN(N, embedding_dim=6, attention_sizes=(5,), head_sizes=(6,), seed=rank)
    options = ClickThroughOptions(epochs=2, batch_size=33, lr=0.01)
    history = ClickThroughTrainer(model, options).fit(SAMPLES, SAMPLES)
    return [asdict(e) for e in history.epochs], [p.detach() for p in model.parameters()]


def test_two_processes_train_the_model_of_one(tmp_path) -> None:
    results = together(2, fit, tmp_path)
    expected, parameters = fit(0, tmp_path)
    for epochs, found in results:
        for ours, theirs in zip(epochs, expected, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
            assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-3)
        torch.testing.assert_close(found, parameters, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(results[0][1], results[1][1], strict=True):
        assert torch.equal(ours, theirs)
