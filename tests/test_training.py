from __future__ import annotations

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast import io
from seqrec_fast.data import Sessions, simulate
from seqrec_fast.models import DIN, GRU4Rec, ThemeMixture
from seqrec_fast.training import (
    SessionParallelBatches,
    Trainer,
    TrainingInterrupted,
    TrainingOptions,
    evaluate,
    hold_out_last,
    load_checkpoint,
    run,
    save_checkpoint,
    trainer,
)
from seqrec_fast.training.devices import find_device

N = 40
SESSIONS = simulate(90, n_items=N, n_themes=4, n_categories=8, mean_length=5, seed=1).sessions

KINDS = {
    "whole, full, adam": {"weight_decay": 0.1},
    "whole, sampled, adam": {"loss": "sampled", "n_sample": 10},
    "parallel, sampled, adagrad": {
        "batching": "session-parallel", "loss": "sampled", "n_sample": 10, "optimizer": "adagrad",
    },
    "parallel, full, adagrad": {
        "batching": "session-parallel", "bptt": 2, "optimizer": "adagrad", "lr_decay": False,
    },
    "parallel, bpr-max, adagrad": {
        "batching": "session-parallel", "loss": "bpr-max", "n_sample": 10, "collisions": "own",
        "optimizer": "adagrad", "momentum": 0.3, "carry_dropout": True,
    },
    "parallel, sampled, averaged": {
        "batching": "session-parallel", "loss": "sampled", "n_sample": 10, "optimizer": "adagrad",
        "lr_decay": False, "average_epochs": 3,
    },
    "whole, bpr-max, sgd": {
        "loss": "bpr-max", "n_sample": 10, "bpreg": 0.5, "elu": 0, "optimizer": "sgd",
        "momentum": 0.5,
    },
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def new_model(**options) -> GRU4Rec:
    defaults = {"embedding_dim": 8, "hidden_size": 8, "dropout_hidden": 0.2, "seed": 0}
    return GRU4Rec(N, **{**defaults, **options})


def small(**options) -> TrainingOptions:
    return TrainingOptions(**{"epochs": 4, "batch_size": 16, "lr": 0.01, **options})


def weights(model) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def interrupt_after(epochs: int):
    def on_epoch(result) -> None:
        if result.epoch == epochs:
            raise KeyboardInterrupt

    return on_epoch


@kinds
def test_seed_fixes_the_result(kind) -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(models))  # what others drew does not matter
        models.append(new_model())
        Trainer(models[-1], small(seed=seed, **kind)).fit(SESSIONS)
    assert same(weights(models[0]), weights(models[1]))
    assert not same(weights(models[0]), weights(models[2]))


@kinds
def test_threads_do_not_change_a_bit(kind) -> None:
    before = torch.get_num_threads(), sf.config.get_num_threads()
    # large enough that PyTorch and the kernels do share the work among threads
    large = {"hidden_size": 96, "embedding_dim": 96, "dropout_embedding": 0.2}
    models = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            sf.set_num_threads(threads)
            models.append(GRU4Rec(N, seed=0, **large))
            options = {**kind, "n_sample": 600, "batch_size": 64, "epochs": 2}
            Trainer(models[-1], small(**options)).fit(SESSIONS)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before[0])
        sf.set_num_threads(before[1])
    assert same(weights(models[0]), weights(models[1]))
    assert same(weights(models[0]), weights(models[2]))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_carried_dropout_acts_on_every_layer(cell, num_layers) -> None:
    model = new_model(cell=cell, num_layers=num_layers, dropout_hidden=0.5).train()
    options = small(batching="session-parallel", carry_dropout=True, loss="sampled")
    training = run.Run(model, options, SESSIONS)
    batch = next(SessionParallelBatches(SESSIONS, 16).epoch(np.random.default_rng(0)))
    hidden, state = model(batch.items, batch.offsets, None, batch.reset)
    carried = training._dropped(state, hidden, batch)
    h, before = (s[0] if cell == "lstm" else s for s in (carried, state))
    assert torch.equal(h[-1], hidden)
    zeros = (h == 0).float().mean((1, 2))
    assert ((zeros > 0.3) & (zeros < 0.7)).all()
    torch.testing.assert_close(h[h != 0], 2 * before[h != 0])
    if cell == "lstm":
        assert torch.equal(carried[1], state[1])


def test_the_model_is_the_mean_of_the_last_epochs(tmp_path) -> None:
    options = {"average_epochs": 2, "lr_decay": False, "batching": "session-parallel"}
    after = []
    for epochs in (2, 3):
        model = new_model()
        Trainer(model, small(**{**options, "epochs": epochs, "average_epochs": 1})).fit(SESSIONS)
        after.append(weights(model))
    means = [torch.stack(pair).mean(0) for pair in zip(*after, strict=True)]
    model = new_model()
    Trainer(model, small(**options, epochs=3)).fit(SESSIONS)
    assert same(weights(model), means)
    found = evaluate(model, SESSIONS, (20,), coverage=False)
    history = Trainer(new_model(), small(**options, epochs=3)).fit(SESSIONS, SESSIONS)
    assert history.epochs[2].metrics["recall@20"] == found["recall@20"]


@kinds
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, kind) -> None:
    path = tmp_path / "run.ckpt"
    train, valid = hold_out_last(SESSIONS, 0.2)
    whole, resumed = new_model(), new_model()
    history = Trainer(whole, small(**kind)).fit(train, valid)
    with pytest.raises(TrainingInterrupted, match=r"in epoch 3; .*run\.ckpt holds epoch 2: resume"):
        Trainer(resumed, small(**kind)).fit(
            train, valid, checkpoint=path, on_epoch=interrupt_after(2)
        )
    resumed = new_model(seed=9)
    again = Trainer(resumed, small(**kind)).fit(train, valid, checkpoint=path, resume=True)
    assert same(weights(whole), weights(resumed))
    assert [e.loss for e in again.epochs] == [e.loss for e in history.epochs]
    assert [e.metrics for e in again.epochs] == [e.metrics for e in history.epochs]
    assert again.best_epoch == history.best_epoch
    # and once more, when nothing is left to do
    finished = new_model(seed=9)
    Trainer(finished, small(**kind)).fit(train, valid, checkpoint=path, resume=True)
    assert same(weights(whole), weights(finished))


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
def test_every_model_learns(cell, embedding) -> None:
    for kind in KINDS.values():
        model = new_model(cell=cell, embedding=embedding)
        lr = 0.5 if kind.get("optimizer") == "sgd" else 0.03
        history = Trainer(model, small(**{**kind, "lr": lr})).fit(SESSIONS)
        losses = [epoch.loss for epoch in history.epochs]
        assert losses[-1] < losses[0] < 1.5 * np.log(N)
        assert all(epoch.seconds > 0 and epoch.metrics == {} for epoch in history.epochs)
        assert history.best_epoch is None
        assert not model.training


def test_model_with_a_projection_learns_but_carries_no_dropout() -> None:
    for kind in KINDS.values():
        model = new_model(embedding="tied", embedding_dim=4)
        assert model.projection is not None
        before = model.projection.weight.detach().clone()
        lr = 0.5 if kind.get("optimizer") == "sgd" else 0.03
        options = small(**{**kind, "lr": lr, "carry_dropout": False})
        losses = [epoch.loss for epoch in Trainer(model, options).fit(SESSIONS).epochs]
        assert losses[-1] < losses[0] < 1.5 * np.log(N)
        assert not torch.equal(model.projection.weight, before)
    options = small(batching="session-parallel", carry_dropout=True)
    with pytest.raises(ValueError, match="projects its hidden state"):
        Trainer(model, options).fit(SESSIONS)


def test_defaults_depend_on_optimizer_and_catalogue(monkeypatch) -> None:
    adam, adagrad = TrainingOptions(), TrainingOptions(optimizer="adagrad")
    assert (adam.lr, adam.weight_decay) == (0.02, 0.15)
    assert (adagrad.lr, adagrad.weight_decay) == (0.07, 0.0)
    assert TrainingOptions(lr=0.5, weight_decay=0.0).lr == 0.5
    results = {}
    for loss, largest in (("full", 0), ("auto", N), ("sampled", N), ("auto", N - 1)):
        monkeypatch.setattr(run, "MAX_FULL_ITEMS", largest)
        model = new_model()
        Trainer(model, small(loss=loss, epochs=1)).fit(SESSIONS)
        results[loss, largest] = weights(model)
    assert same(results["full", 0], results["auto", N])
    assert same(results["sampled", N], results["auto", N - 1])
    assert not same(results["full", 0], results["sampled", N])


def test_early_stopping_keeps_the_best_epoch(monkeypatch) -> None:
    values = iter([0.1, 0.3, 0.3, 0.2, 0.9])
    seen = []

    def fake(model, valid, *args, **options) -> dict[str, float]:
        seen.append(weights(model))
        assert len(valid) == 9
        return {"recall@20": 0.0, "mrr@20": next(values)}

    monkeypatch.setattr(trainer, "evaluate", fake)
    model = new_model()
    options = small(epochs=10, patience=2, monitor="mrr@20")
    history = Trainer(model, options).fit(SESSIONS)
    assert history.stopped_early
    assert history.best_epoch == 2
    assert [epoch.metrics["mrr@20"] for epoch in history.epochs] == [0.1, 0.3, 0.3, 0.2]
    assert same(weights(model), seen[1])


def test_validation_results_are_those_of_evaluate() -> None:
    train, valid = hold_out_last(SESSIONS, 0.3)
    model = new_model()
    history = Trainer(model, small(epochs=1)).fit(
        train, valid, valid_targets="last", exclude_seen=True
    )
    expected = evaluate(model, valid, (20,), targets="last", exclude_seen=True, coverage=False)
    assert history.epochs[0].metrics == expected


def test_hold_out_last_takes_the_sessions_that_start_last() -> None:
    sessions = Sessions([1, 2, 3, 4, 5, 6], [0, 2, 4, 6], times=[9.0, 10, 1, 2, 5, 20])
    train, valid = hold_out_last(sessions, 0.3)
    assert (train.items.tolist(), valid.items.tolist()) == ([3, 4, 5, 6], [1, 2])
    train, valid = hold_out_last(Sessions.from_lists([[1, 2], [3, 4]]), 0.1)
    assert (train.items.tolist(), valid.items.tolist()) == ([1, 2], [3, 4])
    with pytest.raises(ValueError, match=r"share 0\.9 of 2 sessions leaves none"):
        hold_out_last(Sessions.from_lists([[1, 2], [3, 4]]), 0.9)


def test_interrupt_in_the_middle_of_an_epoch(tmp_path, monkeypatch) -> None:
    path = tmp_path / "run.ckpt"
    model, calls = new_model(), []
    run = GRU4Rec.run

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 10:  # an epoch has 6 batches
            raise KeyboardInterrupt
        return run(*args, **options)

    monkeypatch.setattr(GRU4Rec, "run", interrupted)
    with pytest.raises(TrainingInterrupted, match=r"in epoch 2; .* holds epoch 1"):
        Trainer(model, small()).fit(SESSIONS, checkpoint=path)
    monkeypatch.undo()
    whole = new_model()
    Trainer(whole, small()).fit(SESSIONS)
    Trainer(model, small()).fit(SESSIONS, checkpoint=path, resume=True)
    assert same(weights(whole), weights(model))
    with pytest.raises(TrainingInterrupted, match="there is no checkpoint"):
        Trainer(model, small()).fit(SESSIONS, on_epoch=interrupt_after(1))


def test_interrupt_while_a_checkpoint_is_written(tmp_path, monkeypatch) -> None:
    path, save, calls = tmp_path / "run.ckpt", torch.save, []

    def interrupted(at: int, **options) -> str:
        def write(*args) -> None:
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
            save(*args)

        calls.clear()
        monkeypatch.setattr(torch, "save", write)
        with pytest.raises(TrainingInterrupted) as caught:
            Trainer(new_model(), small()).fit(SESSIONS, checkpoint=path, **options)
        return str(caught.value)

    begin = "training was interrupted before epoch"
    assert interrupted(1) == f"{begin} 1 was written; there is no checkpoint to go on from"
    assert not path.exists()
    expected = f"{path} holds epoch 1: resume from there"
    assert interrupted(2) == f"{begin} 2 was written; {expected}"
    assert interrupted(1, resume=True) == f"{begin} 2 was written; {expected}"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_save_leaves_the_last_checkpoint(tmp_path, monkeypatch, error) -> None:
    path = tmp_path / "run.ckpt"
    save_checkpoint(path, {"epoch": 1})

    class Full:
        def __init__(self, stream) -> None:
            self.stream, self.left = stream, 100

        def write(self, data) -> int:
            self.left -= len(data)
            if self.left < 0:
                raise error
            return self.stream.write(data)

        def __getattr__(self, name):
            return getattr(self.stream, name)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, stream: save(content, Full(stream)))
    with pytest.raises(type(error)) as caught:
        save_checkpoint(path, {"epoch": 2})
    assert caught.value.args == error.args
    assert load_checkpoint(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


def test_failed_rename_leaves_the_last_checkpoint(tmp_path, monkeypatch) -> None:
    path = tmp_path / "run.ckpt"
    save_checkpoint(path, {"epoch": 1})

    def fail(*args) -> None:
        raise OSError("no")

    monkeypatch.setattr(io.os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        save_checkpoint(path, {"epoch": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "1"}, "is damaged: format_version is '1'; expected an int"),
        ({"format_version": None}, "is damaged: format_version is None; expected an int"),
        ({"config": None}, "is no checkpoint of this version, or damaged"),
        ({"history": {"epochs": [{"number": 1}]}}, "is no checkpoint of this version, or damaged"),
        ({"optimizers": [3]}, "is no checkpoint of this version, or damaged"),
        ({"model": {}}, "is no checkpoint of this version, or damaged"),
        *(
            ({key: ...}, f"is no checkpoint of this version, or damaged: KeyError: '{key}'")
            for key in ("config", "options", "data", "model", "optimizers", "history", "best")
        ),
        ({"format_version": ...}, "is damaged: format_version is None; expected an int"),
    ],
)
def test_damaged_checkpoints_are_told(tmp_path, change, message) -> None:
    path = tmp_path / "run.ckpt"
    fit = Trainer(new_model(), small(epochs=1)).fit
    fit(SESSIONS, checkpoint=path)
    content = torch.load(path, weights_only=True)
    content |= change
    torch.save({key: value for key, value in content.items() if value is not ...}, path)
    with pytest.raises(ValueError, match=rf"run\.ckpt {message}"):
        fit(SESSIONS, checkpoint=path, resume=True)


def test_foreign_checkpoints_are_refused(tmp_path) -> None:
    path = tmp_path / "run.ckpt"
    fit = Trainer(new_model(), small(epochs=1)).fit
    fit(SESSIONS, checkpoint=path)
    with pytest.raises(ValueError, match=r"run\.ckpt was made with other sessions"):
        fit(SESSIONS.select(range(50)), checkpoint=path, resume=True)
    for model, options, message in (
        (new_model(), small(batch_size=9), "batch_size=16, not 9"),
        (new_model(cell="rnn"), small(), "cell=gru, not rnn"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(model, options).fit(SESSIONS, checkpoint=path, resume=True)
    Trainer(new_model(), small(epochs=2)).fit(SESSIONS, checkpoint=path, resume=True)
    content = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.ckpt")
    for damaged in (content[: len(content) // 2], b"", b"no checkpoint"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"run\.ckpt is truncated or no checkpoint"):
            load_checkpoint(path)
    torch.save({"a": 1}, path)
    with pytest.raises(ValueError, match="no checkpoint of seqrec_fast"):
        load_checkpoint(path)
    save_checkpoint(path, {"format_version": 99})
    with pytest.raises(ValueError, match="format_version 99"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="resume is True and checkpoint is None"):
        fit(SESSIONS, resume=True)


def test_options_of_other_types() -> None:
    for option, message in (
        ({"epochs": 1.5}, "epochs is 1.5; expected an int"),
        ({"batch_size": "a"}, "batch_size is 'a'; expected an int"),
        ({"momentum": "a"}, "momentum is 'a'; expected a number"),
        ({"optimizer": [3]}, r"optimizer is \[3\]; expected one of adam, adagrad, sgd"),
        ({"monitor": 3}, "monitor is 3; expected one of recall@20"),
        ({"lr_decay": "no"}, "lr_decay is 'no'; expected True or False"),
        ({"device": 3}, "device is 3; expected a string or None"),
    ):
        with pytest.raises(TypeError, match="TrainingOptions: " + message):
            TrainingOptions(**option)
    options = TrainingOptions(epochs=np.int64(2), lr=np.float64(0.5))
    assert (type(options.epochs), type(options.lr)) == (int, float)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (DIN(10), "model is a DIN for the task 'click-through'; expected one that scores the next"),
        (ThemeMixture(10, task="click-through"), "model is a ThemeMixture for the task 'click-"),
        (torch.nn.Linear(2, 2), "model is a Linear; expected"),
    ],
)
def test_other_models_are_refused(model, message) -> None:
    with pytest.raises(TypeError, match=rf"^Trainer: {message}.*\(ClickThroughTrainer") as raised:
        Trainer(model)
    assert "GRU4Rec" in str(raised.value)


def test_a_checkpoint_of_another_kind_of_model_names_both(tmp_path) -> None:
    path = tmp_path / "run.ckpt"
    Trainer(new_model(), small(epochs=1)).fit(SESSIONS, checkpoint=path)
    with pytest.raises(ValueError, match=r"Trainer\.fit: .* was made with a GRU4Rec; expected one "
                       r"of a ThemeMixture"):  # fmt: skip
        Trainer(ThemeMixture(40), small(epochs=1)).fit(SESSIONS, checkpoint=path, resume=True)
    content = load_checkpoint(path)
    del content["model_kind"]  # as older versions wrote it
    save_checkpoint(path, content)
    Trainer(new_model(), small(epochs=1)).fit(SESSIONS, checkpoint=path, resume=True)


def test_bad_input_is_named(capsys) -> None:
    with pytest.raises(ValueError, match="items from 0 to 40; expected 0 to 39"):
        Trainer(new_model(), small()).fit(Sessions.from_lists([[0, 40]]))
    model = new_model()
    torch.nn.init.constant_(model.output.bias, torch.inf)
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1; a smaller lr"):
        Trainer(model, small()).fit(SESSIONS)
    for name, value in {
        "epochs": 0, "patience": 0, "alpha": 1.5, "lr": 0, "validation": 1, "seed": -1,
        "loss": "bpr", "optimizer": "lamb", "monitor": "recall@5", "weight_decay": -1,
        "collisions": "keep", "bpreg": -1, "elu": -0.5, "momentum": 1, "carry_dropout": True,
        "device": "cuda:-1",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"TrainingOptions: {name} is {value!r}; expected"):
            TrainingOptions(**{name: value})
    with pytest.raises(ValueError, match=r"momentum is 0\.5; expected 0 with optimizer='adam'"):
        TrainingOptions(momentum=0.5)
    with pytest.raises(ValueError, match=r"weight_decay is 0\.1; expected 0 with optimizer='sgd'"):
        TrainingOptions(optimizer="sgd", weight_decay=0.1)


def test_a_gpu_that_is_asked_for_and_missing_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    run = Trainer(new_model(), small(device="cuda"))
    with pytest.raises(
        ValueError, match=r"Trainer\.fit: device is 'cuda', but this PyTorch, .* is "
    ):
        run.fit(SESSIONS)
    assert find_device("train", "auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="train: device is 'cuda:1', but PyTorch finds no GPU"):
        find_device("train", "cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("seqrec_fast.training.devices.DEVICES", ("CPU",))
    with pytest.raises(ValueError, match="built without CUDA kernels"):
        find_device("train", "cuda")


def test_progress_bar(capsys) -> None:
    Trainer(new_model(), small(epochs=1)).fit(SESSIONS)
    assert capsys.readouterr().err == ""
    Trainer(new_model(), small(epochs=1)).fit(SESSIONS, progress=True)
    assert "epoch 1/1: 100%" in capsys.readouterr().err
