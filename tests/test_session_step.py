from __future__ import annotations

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast import _core
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


def arguments(**changes):
    rng = np.random.default_rng(0)

    def parameter(*shape):
        return tuple(rng.standard_normal(shape) * 0.1 for _ in range(3))

    given = {
        "cell": "gru", "rule": ("adagrad", 0.1, 0.0, 0.5, 0.9, 0.999, 1e-6, 1, None, None),
        "input_table": parameter(N, 4), "item_table": None, "item_bias": parameter(N),
        "layers": [(parameter(12, 4), parameter(12, 4), parameter(12), parameter(12))],
        "loss": "softmax", "collisions": "mask", "elu": -1.0, "regularization": 0.0,
        "dropout_input": 0.0, "dropout_hidden": 0.0, "carry_dropout": False, "seed": 0,
        "items": np.arange(3), "target": np.arange(3) + 1, "offsets": np.array([0, 2, 3]),
        "reset": None, "negatives": np.arange(7), "log_q": None, "target_log_q": None,
        "h_0": None, "c_0": None, "h_n": np.empty((2, 4)), "c_n": None,
    }  # fmt: skip
    given["input_table"][2][:] **= 2
    return {**given, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": np.array([0, N, 1])}, rf"items\[1\] is {N}; expected 0 to {N - 1}"),
        ({"target": np.array([0, -1, 1])}, r"target\[1\] is -1"),
        ({"negatives": np.array([N])}, r"negatives\[0\] is 40"),
        ({"offsets": np.array([0, 2, 4])}, "offsets"),
        ({"h_n": np.empty((3, 4))}, r"h_n has shape \(3, 4\); expected \(2, 4\)"),
        ({"item_bias": (np.zeros(3),) * 3}, r"item_bias has shape \(1, 3\)"),
        ({"dropout_input": 1.0}, "dropout is 1; expected 0 <= dropout < 1"),
        ({"layers": []}, "there are no layers"),
        ({"layers": [(None,) + ((np.zeros((12, 4)),) * 3,) * 3]}, "has no weight_ih"),
        ({"input_table": (np.zeros((N, 4)), None, None)}, "mean is missing"),
        ({"loss": "hinge"}, "loss is hinge; expected one of softmax"),
    ],
)
def test_wrong_input_changes_nothing(changes, message) -> None:
    given = arguments(**changes)
    before = given["input_table"][0].copy()
    with pytest.raises(ValueError, match=message):
        _core.session_step_f64(**given)
    assert (given["input_table"][0] == before).all()


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    given = arguments()
    given["input_table"][0][1, 2] = np.nan
    before = [p[0].copy() for p in given["layers"][0]]
    assert np.isnan(_core.session_step_f64(**given))
    for (value, _, _), old in zip(given["layers"][0], before, strict=True):
        assert (value == old).all()
