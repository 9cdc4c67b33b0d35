"""Training of click-through models: it learns, and its bits depend on data, options and seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from click_cases import MODELS
from seqrec_fast.data import (
    ClickSamples,
    ItemVocabulary,
    Sessions,
    sampled_clicks,
    simulate,
    split_leave_one_out,
)
from seqrec_fast.evaluation import evaluate_click_through as evaluate_without_torch
from seqrec_fast.models import DIEN, DIN, GRU4Rec, RecurrentCTR, ThemeMixture
from seqrec_fast.training import (
    ClickThroughOptions,
    ClickThroughTrainer,
    TrainingInterrupted,
    evaluate_click_through,
)

N = 60
SESSIONS = simulate(250, N, 6, n_categories=12, mean_length=9.0, seed=3).sessions
TRAIN, _, TEST = split_leave_one_out(SESSIONS)
SAMPLES = sampled_clicks(TRAIN, N)
FEW = SAMPLES.select(np.arange(700))  # where learning is not the point
VALID = sampled_clicks(TEST, N, targets="last", n_negatives=4, seed=1)


def new_model(name="din", **options):
    kind, own = MODELS[name]
    sizes = {"embedding_dim": 8, "head_sizes": (16,), "seed": 0}
    return kind(N, **{**sizes, **own, "hidden_size": 8, **options} if kind is not DIN else
                {**sizes, **own, **options})  # fmt: skip


def fit(model, samples=SAMPLES, valid=None, **options):
    given = {name: options.pop(name) for name in ("checkpoint", "resume") if name in options}
    options = ClickThroughOptions(**{"epochs": 2, "batch_size": 64, "lr": 0.01, **options})
    return ClickThroughTrainer(model, options).fit(samples, valid, **given)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_and_its_file_scores_the_same(name, tmp_path) -> None:
    model = new_model(name)
    before = evaluate_click_through(model, VALID)
    history = fit(model, valid=VALID, epochs=5, lr=0.015)
    losses = [epoch.loss for epoch in history.epochs]
    assert losses[-1] < losses[0]
    assert not model.training
    after = evaluate_click_through(model, VALID, max_length=100)
    assert after["auc"] > max(0.7, before["auc"] + 0.1)
    assert after["gauc"] > 0.7
    assert after["log_loss"] < before["log_loss"]
    best = history.epochs[history.best_epoch - 1].metrics
    # The last bits of PyTorch's products depend on where its tensors lie.
    assert best == pytest.approx(after, rel=1e-6)
    path = tmp_path / "model.safetensors"
    model.export(path, ItemVocabulary(range(N)))
    served = evaluate_without_torch(sf.load(path), VALID, max_length=100)
    assert served == pytest.approx(after, abs=1e-5)


@pytest.mark.parametrize("name", ["din", "dien"])
def test_seed_and_threads(name) -> None:
    found = []
    for threads, seed in ((1, 0), (2, 0), (1, 1)):
        sf.set_num_threads(threads)
        torch.manual_seed(threads)
        model = new_model(name, dropout=0.2, dropout_embedding=0.1)
        losses = [epoch.loss for epoch in fit(model, FEW, seed=seed).epochs]
        found.append((losses, weights(model)))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][1], found[2][1])


def test_rows_that_no_batch_looks_up_stay() -> None:
    model = new_model()
    few = SAMPLES.select(np.arange(10))
    seen = {int(t) for t in few.targets}
    for i in range(len(few)):
        seen |= set(few.histories[few.users[i]][: few.seen[i]].tolist())
    before = model.embedding.weight.detach().clone()
    fit(model, few, weight_decay=0.1)
    changed = (model.embedding.weight != before).any(1).nonzero()[:, 0].tolist()
    assert set(changed) == seen
    assert model.embedding.sparse is False


def test_resumed_training_ends_as_if_it_had_not_stopped(tmp_path, monkeypatch) -> None:
    path = tmp_path / "run.ckpt"
    options = {"samples": FEW, "valid": VALID, "epochs": 3, "checkpoint": path}
    whole = new_model("dien", dropout=0.2)
    expected = fit(whole, **options)
    path.unlink()
    model = new_model("dien", dropout=0.2)
    calls = []

    def interrupted(self, *args, forward=DIEN.forward):
        calls.append(1)
        if len(calls) == len(FEW) // 64 + 6:
            raise KeyboardInterrupt
        return forward(self, *args)

    monkeypatch.setattr(DIEN, "forward", interrupted)
    with pytest.raises(TrainingInterrupted, match=r"interrupted in epoch 2; .* holds epoch 1"):
        fit(model, **options)
    monkeypatch.undo()
    model = new_model("dien", dropout=0.2)
    history = fit(model, **options, resume=True)
    assert [e.loss for e in history.epochs] == [e.loss for e in expected.epochs]
    assert torch.equal(weights(model), weights(whole))
    with pytest.raises(ValueError, match="was made with other samples"):
        fit(new_model("dien", dropout=0.2), VALID, epochs=4, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match=r"was made with lr=0.01, not 0.5"):
        fit(new_model("dien", dropout=0.2), **options, lr=0.5, resume=True)


def test_early_stopping_holds_out_the_latest_and_keeps_the_best() -> None:
    model = new_model("gru")
    history = fit(model, FEW, epochs=30, patience=1, lr=0.05, validation=0.2)
    assert history.stopped_early
    assert history.best_epoch == len(history.epochs) - 1
    _, latest = FEW.hold_out_latest(0.2)
    best = history.epochs[history.best_epoch - 1].metrics["auc"]
    assert evaluate_click_through(model, latest, max_length=100)["auc"] == best


def test_max_length_acts() -> None:
    one, two = new_model("gru"), new_model("gru")
    fit(one, FEW, max_length=1)
    fit(two, FEW, max_length=50)
    assert not torch.equal(weights(one), weights(two))
    short = evaluate_click_through(two, VALID, max_length=1)
    assert short != evaluate_click_through(two, VALID)


def test_gauc_is_nan_where_no_user_has_both_labels() -> None:
    samples = ClickSamples(Sessions.from_lists([[1], [2]]), [0, 1], [1, 1], [3, 3], [0, 1])
    result = evaluate_click_through(new_model(), samples)
    assert math.isnan(result["gauc"])
    with pytest.raises(ValueError, match="auc: all 1 labels are 0"):
        evaluate_click_through(new_model(), samples.select([0]))
    with pytest.raises(ValueError, match="labels has shape"):
        evaluate_click_through(new_model(), samples.select([]))


def test_errors() -> None:
    samples = ClickSamples(Sessions.from_lists([[1]]), [0], [1], [N], [1])
    with pytest.raises(
        ValueError, match=f"items of targets from {N} to {N}; expected 0 to {N - 1}"
    ):
        fit(new_model(), samples)
    with pytest.raises(ValueError, match="evaluate_click_through: items of targets"):
        evaluate_click_through(new_model(), samples)
    with pytest.raises(ValueError, match="train has no samples"):
        fit(new_model(), SAMPLES.select([]))
    with pytest.raises(FloatingPointError, match=r"the loss is .* in epoch 1"):
        fit(new_model(), lr=1e30)
    for option, message in (
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"lr": 0}, "lr is 0; expected more than 0"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"monitor": "log_loss"}, "monitor is 'log_loss'; expected one of auc, gauc"),
        ({"validation": 1}, "validation is 1"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(ValueError, match="ClickThroughOptions: " + message):
            ClickThroughOptions(**option)
    for option, message in (
        ({"epochs": 1.5}, "epochs is 1.5; expected an int"),
        ({"batch_size": "a"}, "batch_size is 'a'; expected an int"),
        ({"seed": None}, "seed is None; expected an int"),
        ({"lr": "a"}, "lr is 'a'; expected a number"),
    ):
        with pytest.raises(TypeError, match="ClickThroughOptions: " + message):
            ClickThroughOptions(**option)
    options = ClickThroughOptions(np.int64(2), np.int32(8), lr=np.float32(0.5))
    assert [type(n) for n in (options.epochs, options.batch_size, options.lr)] == [int, int, float]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (GRU4Rec(10), "GRU4Rec for the task 'next-item'"),
        (ThemeMixture(10), "ThemeMixture for the task 'next-item'"),
        (torch.nn.Linear(2, 2), "Linear"),
    ],
)
def test_other_models_are_refused(model, name) -> None:
    with pytest.raises(TypeError, match=f"^ClickThroughTrainer: model is a {name}; expected one"):
        ClickThroughTrainer(model)


def test_messages_name_the_trainer(tmp_path) -> None:
    path = tmp_path / "run.ckpt"
    fit(new_model("dien"), epochs=1, checkpoint=path)
    begin = r"^ClickThroughTrainer\.fit: .*"
    with pytest.raises(ValueError, match=begin + "run.ckpt was made with a DIEN; .* of a DIN"):
        fit(new_model("din"), epochs=1, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match=begin + "made with other samples"):
        fit(new_model("dien"), SAMPLES.select(range(50)), epochs=1, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match=begin + "resume is True and checkpoint is None"):
        fit(new_model(), epochs=1, resume=True)


def test_batches_share_histories() -> None:
    shared = list(VALID.batches(13, 4, share=True))
    single = list(VALID.batches(13, 4))
    for few, all_ in zip(shared, single, strict=True):
        assert len(few.offsets) < 13
        for i, history in enumerate(few.history):
            begin, end = few.offsets[history : history + 2]
            own = all_.items[all_.offsets[i] : all_.offsets[i + 1]]
            assert few.items[begin:end].tolist() == own.tolist()


def test_auxiliary_loss_and_kinds() -> None:
    plain, with_it = new_model("dien", auxiliary_weight=0.0), new_model("dien")
    fit(plain, FEW)
    fit(with_it, FEW)
    assert not torch.equal(weights(plain), weights(with_it))
    assert RecurrentCTR(N).config["cell"] == "gru"
    with pytest.raises(ValueError, match="the auxiliary loss expects them to be equal"):
        DIEN(N, embedding_dim=4, hidden_size=5, auxiliary_weight=1.0)
