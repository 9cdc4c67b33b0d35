"""
Training on CUDA against training on the CPU.

On a GPU, and without one on a device that is played on the CPU, with the kernels on emulated
threads: there, tensors of two devices in one operator raise, and what the compiler is told of an
operator is compared with what comes of it.
"""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import seqrec_fast as sf
from emulated_device import cuda_device  # noqa: F401 - a fixture
from seqrec_fast.cli import main
from seqrec_fast.data import ItemVocabulary, sampled_clicks, simulate, write_log
from seqrec_fast.models import DIEN, DIN, GRU4Rec, RecurrentCTR, ThemeMixture
from seqrec_fast.nn import functional as F
from seqrec_fast.training import (
    ClickThroughOptions,
    ClickThroughTrainer,
    Trainer,
    TrainingInterrupted,
    TrainingOptions,
    distributed,
    evaluate,
)
from seqrec_fast.training.devices import find_device
from seqrec_fast.training.run import Run

N = 40
SIMULATION = simulate(12, n_items=N, n_themes=4, n_categories=8, mean_length=4, seed=1)
SESSIONS = SIMULATION.sessions

pytestmark = pytest.mark.usefixtures("cuda_device")
SAMPLED = {"loss": "sampled", "n_sample": 10}
PARALLEL = {"batching": "session-parallel", "optimizer": "adagrad"}
KINDS = {
    "full": ({}, {}),
    "full, two layers": ({"num_layers": 2, "embedding": "separate"}, {"optimizer": "sgd"}),
    "projected": ({"embedding_dim": 4}, {}),
    "sampled": ({"cell": "lstm", "embedding": "separate"}, {**SAMPLED, "weight_decay": 0.1}),
    "parallel, own": (
        {"embedding": "none"}, {**PARALLEL, **SAMPLED, "collisions": "own", "momentum": 0.3},
    ),
    "parallel, bpr-max": (
        {"cell": "rnn"}, {**PARALLEL, **SAMPLED, "loss": "bpr-max", "carry_dropout": True},
    ),
    "parallel, averaged": (
        {"reset_after": False}, {**PARALLEL, "bptt": 2, "lr_decay": False, "average_epochs": 3},
    ),
}  # fmt: skip


def trainer(kind: str = "full", device: str | None = None, dropout=0.0, **options) -> Trainer:
    sizes, own = KINDS[kind]
    sizes = {"embedding_dim": 8, "hidden_size": 8, **sizes}
    model = GRU4Rec(N, dropout_embedding=dropout, dropout_hidden=dropout, seed=0, **sizes)
    defaults = {"epochs": 3, "batch_size": 6, "lr": 0.01, "device": device}
    return Trainer(model, TrainingOptions(**{**defaults, **own, **options}))


def on_cpu(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}


def assert_same_course(ours, theirs) -> None:
    """Compare two pairs of history and model."""
    for epoch, other in zip(ours[0].epochs, theirs[0].epochs, strict=True):
        assert epoch.loss == pytest.approx(other.loss, rel=1e-4)
        assert epoch.metrics == pytest.approx(other.metrics, abs=0.02)
    torch.testing.assert_close(on_cpu(ours[1]), on_cpu(theirs[1]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_curve_and_model_are_those_of_the_cpu(kind) -> None:
    found = []
    for name in ("cpu", "cuda"):
        run = trainer(kind, name)
        found.append((run.fit(SESSIONS, SESSIONS), run.model))
    assert {p.device.type for p in run.model.parameters()} == {"cuda"}
    assert_same_course(*found)


def test_two_runs_have_the_same_bits() -> None:
    first, second = (trainer("sampled", "cuda:0", dropout=0.3) for _ in range(2))
    losses = [[epoch.loss for epoch in run.fit(SESSIONS).epochs] for run in (first, second)]
    assert losses[0] == losses[1]
    weights, again = on_cpu(first.model), on_cpu(second.model)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_autocast(kind) -> None:
    full, mixed = trainer(kind, "cuda"), trainer(kind, "cuda")
    expected = [epoch.loss for epoch in full.fit(SESSIONS).epochs]
    with torch.autocast("cuda", torch.bfloat16):
        found = [epoch.loss for epoch in mixed.fit(SESSIONS).epochs]
    assert found == pytest.approx(expected, rel=0.01)
    assert found != expected


@pytest.mark.parametrize("kind", ["sampled", "parallel, averaged"])
@pytest.mark.parametrize(("before", "after"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_checkpoints_resume_on_another_device(tmp_path, kind, before, after) -> None:
    whole = trainer(kind, "cpu")
    expected = whole.fit(SESSIONS, SESSIONS), whole.model
    path = tmp_path / "run.ckpt"

    def interrupted(result) -> None:
        if result.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        trainer(kind, before).fit(SESSIONS, SESSIONS, checkpoint=path, on_epoch=interrupted)
    resumed = trainer(kind, after)
    history = resumed.fit(SESSIONS, SESSIONS, checkpoint=path, resume=True)
    assert_same_course((history, resumed.model), expected)


def test_without_a_device_the_model_stays_where_it_is(tmp_path) -> None:
    run = trainer(device=None, epochs=1)
    run.model.to("cuda")
    run.fit(SESSIONS)
    assert run.model.item_table.is_cuda
    found = {}
    for name in ("cuda", "cpu"):
        run.model.to(name)
        found[name] = [
            evaluate(run.model, SESSIONS, (5,)),
            evaluate(run.model, SESSIONS, (5,), targets="last", exclude_seen=True),
        ]
        path = tmp_path / name
        run.model.export(path, ItemVocabulary(np.arange(N)))
        assert sf.load(path).recommend([[3, 4]], 3)[0].shape == (1, 3)
    assert found["cuda"] == [pytest.approx(metrics, abs=0.02) for metrics in found["cpu"]]
    assert (tmp_path / "cuda").read_bytes() == (tmp_path / "cpu").read_bytes()


def test_a_loss_that_is_not_finite_is_found() -> None:
    run = trainer("full", "cuda")
    with torch.no_grad():
        run.model.output.bias.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        run.fit(SESSIONS)


@pytest.mark.parametrize("k", [1, 2])
def test_theme_mixture(k) -> None:
    found = []
    for name in ("cpu", "cuda"):
        model = ThemeMixture(
            N, hidden_size=8, n_themes=3, k=k, session_window=3, dropout_embedding=0.0,
            dropout_hidden=0.0, seed=0,
        )  # fmt: skip
        options = TrainingOptions(epochs=2, batch_size=8, lr=0.01, loss="full", device=name)
        found.append((Trainer(model, options).fit(SESSIONS, SESSIONS), model))
    assert_same_course(*found)


CLICKS = {
    "gru": (RecurrentCTR, {"cell": "gru", "embedding_dim": 8, "head_sizes": (8,)}),
    "augru": (RecurrentCTR, {"cell": "augru", "embedding_dim": 8, "head_sizes": (8,)}),
    "din": (DIN, {"embedding_dim": 8}),
    "dien": (DIEN, {"embedding_dim": 8}),
    "themes": (ThemeMixture, {"task": "click-through", "n_themes": 3, "session_window": 3,
                              "dropout_embedding": 0.0, "dropout_hidden": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize("kind", CLICKS)
def test_click_through_models(kind) -> None:
    samples = sampled_clicks(SESSIONS, N)
    made, sizes = CLICKS[kind]
    if kind != "din":
        sizes = {**sizes, "hidden_size": 8}
    found = []
    for name in ("cpu", "cuda"):
        model = made(N, seed=0, **sizes)
        options = ClickThroughOptions(epochs=2, batch_size=64, device=name)
        found.append((ClickThroughTrainer(model, options).fit(samples, samples), model))
    assert model.embedding.weight.is_cuda
    assert_same_course(*found)


def test_the_command_line(tmp_path) -> None:
    log = tmp_path / "clicks.tsv"
    write_log(SIMULATION.to_log(), log)
    said = []
    for name in ("cpu", "cuda"):
        command = ["train", log, "--out", tmp_path / name, "--device", name, "--hidden-size", 8,
                   "--epochs", 2, "--dropout-embedding", 0, "--dropout-hidden", 0]  # fmt: skip
        result = CliRunner().invoke(main, [str(argument) for argument in command])
        assert result.exit_code == 0, result.output
        said.append([line.split("loss")[1].split()[0] for line in result.output.splitlines()
                     if line.startswith("epoch")])  # fmt: skip
        assert sf.load(tmp_path / name).n_items == len(np.unique(SESSIONS.items))
    assert len(said[0]) == 2
    assert [float(x) for x in said[1]] == pytest.approx([float(x) for x in said[0]], abs=2e-4)
    model, out = str(tmp_path / "cpu"), str(tmp_path / "recs.csv")
    rows: list[list[dict[str, str]]] = []
    for command in (
        ["evaluate", model, str(log), "--k", "3,5", "--filter-seen"],
        ["evaluate", model, str(log), "--k", "3", "--last-only"],
        ["recommend", model, str(log), "--out", out, "--k", "4", "--exclude-seen"],
    ):
        found = []
        for name in ("cpu", "cuda"):
            result = CliRunner().invoke(main, [*command, "--device", name])
            assert result.exit_code == 0, result.output
            found.append(result.output)
            if command[0] == "recommend":
                with open(out, newline="") as file:
                    rows.append(list(csv.DictReader(file)))
        assert found[0] == found[1]
    scores = [[float(row.pop("Score")) for row in one] for one in rows]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 4 * len(SESSIONS)
    assert scores[1] == pytest.approx(scores[0], rel=1e-4, abs=1e-6)
    wrong = CliRunner().invoke(main, [*command, "--device", "cuda", "--precision", "int8"])
    assert "--precision int8 is for the CPU; expected float32 on CUDA" in wrong.output


def test_tensors_of_two_devices_are_refused() -> None:
    ours, theirs = torch.ones(3, device="cuda"), torch.ones(3)
    assert (ours + 1).sum().item() == 6
    with pytest.raises((AssertionError, RuntimeError), match=r"on two devices|on the same device"):
        ours + theirs
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        ours.numpy()


@pytest.mark.parametrize("rule", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("items", [30, 300])
def test_steps_inside_the_backward_pass_are_those_of_the_cpu(rule, items, monkeypatch) -> None:
    monkeypatch.setattr("seqrec_fast.nn._loss_cuda._PANEL_BYTES", 20 * 4 * 128)  # several panels
    target = torch.arange(20).remainder(items)
    target[3] = -100
    found = []
    for name in ("cpu", "cuda"):
        torch.manual_seed(0)
        hidden, table, bias = torch.randn(20, 9), torch.randn(items, 9), torch.randn(items)
        hidden, table, bias, wanted = (t.to(name) for t in (hidden, table, bias, target))
        for tensor in (hidden, table, bias):
            tensor.requires_grad_()
        update = F.RowUpdate(table, rule, lr=0.1, weight_decay=0.2 if rule == "adam" else 0.0)
        for _ in range(2):
            loss = F.linear_cross_entropy(hidden, table, wanted, bias, update=update)
            loss.backward()
        assert table.grad is None
        assert update.steps == 2
        found.append([t.detach().cpu() for t in (loss, table, hidden.grad, bias.grad)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_tensors_of_processes_go_by_nccl_and_objects_by_gloo(monkeypatch) -> None:
    calls = []

    def sent(name: str):
        return lambda *arguments: calls.append((name, arguments[0], arguments[-1]))

    def equal_everywhere(answers: list, own, group: str) -> None:
        answers[:] = [own] * len(answers)
        sent("object")(None, group)

    for name, stand_in in {
        "is_initialized": lambda: True,
        "get_world_size": lambda: 2,
        "get_rank": lambda: 0,
        "new_group": lambda backend, timeout: backend,
        "all_gather_object": equal_everywhere,
        "broadcast": sent("tensor"),
        "broadcast_object_list": sent("object"),
        "destroy_process_group": sent("left"),
    }.items():
        monkeypatch.setattr(distributed.dist, name, stand_in)
    run = Run(trainer().model, trainer(device="cuda").options, SESSIONS)
    assert run.processes.on_first(lambda: 5) == 5
    run.processes.close()
    assert {group for name, _, group in calls if name == "object"} == {"gloo"}
    assert {group for name, _, group in calls if name == "tensor"} == {"nccl"}
    assert all(tensor.is_cuda for name, tensor, _ in calls if name == "tensor")
    assert {group for name, _, group in calls if name == "left"} == {"gloo", "nccl"}


def test_names_of_devices(monkeypatch) -> None:
    assert find_device("f", "cpu") == torch.device("cpu")
    assert find_device("f", "auto").type == "cuda"
    assert find_device("f", "cuda:0") == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"f: device is 'cuda:2', which is GPU 2 .* there are 2"):
        find_device("f", "cuda:2")
    for name, value in (("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert find_device("f", "cuda").index == 0  # not of torchrun
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    assert find_device("f", "cuda") == find_device("f", "auto") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"device is 'cuda:0' for 2 processes; expected cuda"):
        find_device("f", "cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="device is 'auto', which is GPU 2 for this process"):
        find_device("f", "auto")
