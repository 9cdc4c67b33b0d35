from __future__ import annotations

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.data import simulate
from seqrec_fast.models import GRU4Rec
from seqrec_fast.training import Trainer, TrainingOptions
from seqrec_fast.training.session_step import SessionStep

N = 40
SESSIONS = simulate(70, n_items=N, n_themes=4, n_categories=8, mean_length=5, seed=1).sessions
MODELS = {
    "gru tied": {},
    "gru separate, 2 layers": {"embedding": "separate", "embedding_dim": 11, "num_layers": 2},
    "gru without embedding": {"embedding": "none", "reset_after": False},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "rnn": {"cell": "rnn", "embedding": "separate", "nonlinearity": "relu"},
}
OPTIONS = {
    "sampled, adam": {"loss": "sampled", "weight_decay": 0.1},
    "sampled, own, adagrad": {"loss": "sampled", "collisions": "own", "optimizer": "adagrad"},
    "bpr-max, adagrad, parallel": {
        "loss": "bpr-max", "collisions": "own", "optimizer": "adagrad", "momentum": 0.3,
        "batching": "session-parallel", "carry_dropout": True,
    },
    "bpr-max, sgd, bptt": {
        "loss": "bpr-max", "elu": 0, "optimizer": "sgd", "batching": "session-parallel", "bptt": 3,
    },
}  # fmt: skip


def trained(model_options, options, dropout=0.0, dtype=torch.float64) -> GRU4Rec:
    sizes = {"embedding_dim": 9, "hidden_size": 9, **model_options}
    rates = {"dropout_embedding": dropout, "dropout_hidden": dropout}
    model = GRU4Rec(N, seed=0, **rates, **sizes).to(dtype)
    options = {"n_sample": 30, "batch_size": 16, "lr": 0.01, "epochs": 2, **options}
    model.history = Trainer(model, TrainingOptions(**options)).fit(SESSIONS)
    return model


def through_autograd(monkeypatch) -> None:
    monkeypatch.setattr(SessionStep, "serves", staticmethod(lambda model: False))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_equals_the_steps_through_autograd(model, options, monkeypatch) -> None:
    ours = trained(model, options)
    through_autograd(monkeypatch)
    theirs = trained(model, options)
    for a, b in zip(ours.history.epochs, theirs.history.epochs, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-6)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


def test_float32(monkeypatch) -> None:
    ours = trained({}, OPTIONS["sampled, adam"], dtype=torch.float32)
    through_autograd(monkeypatch)
    theirs = trained({}, OPTIONS["sampled, adam"], dtype=torch.float32)
    assert ours.history.epochs[-1].loss == pytest.approx(theirs.history.epochs[-1].loss, rel=1e-4)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_dropout_trains_as_well_as_that_of_torch(cell, monkeypatch) -> None:
    options = {**OPTIONS["bpr-max, adagrad, parallel"], "epochs": 6}
    ours = trained({"cell": cell, "num_layers": 2}, options, dropout=0.3)
    through_autograd(monkeypatch)
    theirs = trained({"cell": cell, "num_layers": 2}, options, dropout=0.3)
    losses = [model.history.epochs[-1].loss for model in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] != losses[1]


def test_every_target_trains_alike() -> None:
    losses = []
    for target in sf.supported_targets():
        with sf.config.force_target(target):
            losses.append(trained({}, OPTIONS["sampled, adam"], 0.2).history.epochs[-1].loss)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)


def test_autograd_is_told_of_each_step() -> None:
    few, many = (trained({}, {**OPTIONS["sampled, adam"], "epochs": epochs}) for epochs in (1, 3))
    batches = -(-len(SESSIONS) // 16)
    for a, b in zip(few.parameters(), many.parameters(), strict=True):
        assert b._version - a._version >= 2 * batches
