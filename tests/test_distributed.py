from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

import seqrec_fast as sf
from seqrec_fast.data import simulate
from seqrec_fast.models import GRU4Rec
from seqrec_fast.training import (
    SessionParallelBatches,
    Trainer,
    TrainingInterrupted,
    TrainingOptions,
    WholeSessionBatches,
    distributed,
    hold_out_last,
)

N = 30
TRAIN, VALID = hold_out_last(
    simulate(60, n_items=N, n_themes=3, n_categories=6, mean_length=5, seed=1).sessions, 0.2
)
SAMPLED = {"loss": "sampled", "n_sample": 10}
PARALLEL = {"batching": "session-parallel", "optimizer": "adagrad"}
KINDS = {
    "whole, full": {},
    "whole, sampled": SAMPLED,
    "parallel, full": {**PARALLEL, "bptt": 2},
    "parallel, sampled": {**PARALLEL, **SAMPLED, "momentum": 0.3},
    "parallel, sampled, own": {**PARALLEL, **SAMPLED, "collisions": "own"},
    "parallel, bpr-max": {**PARALLEL, **SAMPLED, "loss": "bpr-max", "carry_dropout": True},
    "parallel, bpr-max, own": {**PARALLEL, **SAMPLED, "loss": "bpr-max", "collisions": "own"},
}
CELLS = {"whole, sampled": ("lstm", "separate"), "parallel, sampled": ("gru", "none")}


def trainer(kind: str, **options) -> Trainer:
    cell, embedding = CELLS.get(kind, ("gru", "tied"))
    model = GRU4Rec(
        N, embedding_dim=8, hidden_size=8, cell=cell, embedding=embedding, num_layers=2,
        dropout_embedding=0, dropout_hidden=0, seed=0,
    )  # fmt: skip
    defaults = {"epochs": 3, "batch_size": 16, "lr": 0.01}
    return Trainer(model, TrainingOptions(**{**defaults, **KINDS[kind], **options}))


def result(trainer: Trainer, *sessions, **options) -> tuple[list, list[torch.Tensor]]:
    """Fit, and return the epochs as dicts and the weights."""
    epochs = trainer.fit(*sessions, **options).epochs
    return [asdict(e) for e in epochs], [p.detach() for p in trainer.model.parameters()]


def assert_close(ours, theirs) -> None:
    for one, other in zip(ours[0], theirs[0], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-6)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-3, atol=1e-4)


def together(size: int, function, folder, *arguments) -> list:
    """Return what `function(rank, folder, ...)` returns in processes of one group."""
    context = start_processes(
        _process, (function, size, folder, *arguments), size, join=False, start_method="spawn"
    )
    deadline = time.monotonic() + 120
    while not context.join(timeout=1):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the processes hang")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _process(rank: int, function, size: int, folder, *arguments) -> None:
    store = dist.FileStore(f"{folder}/store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    torch.save(function(rank, folder, *arguments), folder / f"{rank}.pt")
    dist.barrier()  # nobody ends before all have their result
    dist.destroy_process_group()


def fit_all(rank: int, folder, n_sessions, options):
    seeds = []
    seed = torch.manual_seed
    torch.manual_seed = lambda value: seeds.append(value) or seed(value)
    train = TRAIN.select(range(n_sessions))
    kinds = {kind: result(trainer(kind, **options), train, VALID) for kind in KINDS}
    return kinds, seeds[-1]


@pytest.mark.parametrize(
    ("size", "n_sessions", "options"),
    [(2, 48, {"batch_size": 7}), (3, 10, {"batch_size": 2, "epochs": 1})],
    ids=["2 processes", "more processes than sequences"],
)
def test_processes_train_the_model_of_one(tmp_path, size, n_sessions, options) -> None:
    results = together(size, fit_all, tmp_path, n_sessions, options)
    seeds = [seed for _, seed in results]
    assert len(set(seeds)) == size  # masks of dropout
    for kind in KINDS:
        ours = results[0][0][kind]
        for curve, weights in (kinds[kind] for kinds, _ in results):
            assert curve == ours[0]
            assert all(map(torch.equal, weights, ours[1]))
        train = TRAIN.select(range(n_sessions))
        assert_close(ours, result(trainer(kind, **options), train, VALID))


RESUMED = ("whole, full", "parallel, sampled", "parallel, bpr-max, own")


def other_number(rank: int, folder):
    results = {}
    for kind in RESUMED:
        path = folder / f"{kind}.ckpt"
        results[kind] = result(trainer(kind), TRAIN, VALID, checkpoint=path, resume=True)
        try:
            trainer(kind).fit(
                TRAIN, VALID, checkpoint=folder / f"{kind} again.ckpt",
                on_epoch=interrupt_after_2,
            )  # fmt: skip
        except (TrainingInterrupted, ConnectionError) as error:
            results[kind, "error"] = f"{type(error).__name__}: {error}"
    return results


def interrupt_after_2(result) -> None:
    if result.epoch == 2:
        raise KeyboardInterrupt


def test_resume_on_another_number_of_processes(tmp_path) -> None:
    for kind in RESUMED:
        with pytest.raises(TrainingInterrupted):
            trainer(kind).fit(
                TRAIN, VALID, checkpoint=tmp_path / f"{kind}.ckpt", on_epoch=interrupt_after_2
            )
    first, second = together(2, other_number, tmp_path)
    for kind in RESUMED:
        whole = result(trainer(kind), TRAIN, VALID)
        assert_close(first[kind], whole)
        assert_close(second[kind], whole)
        # an interruption of one process ends the other one at once
        assert "TrainingInterrupted: training was interrupted" in first[kind, "error"]
        assert "ConnectionError: Trainer.fit: another process" in second[kind, "error"]
        path = tmp_path / f"{kind} again.ckpt"
        assert_close(result(trainer(kind), TRAIN, VALID, checkpoint=path, resume=True), whole)


def fail(rank: int, folder):
    errors = []
    batches = WholeSessionBatches.epoch

    def failing(self, rng):
        for number, batch in enumerate(batches(self, rng)):
            if rank == 1 and number == 1:
                raise MemoryError("no memory")
            yield batch

    WholeSessionBatches.epoch = failing
    missing = folder / "none" / "run.ckpt"
    diverged = trainer("parallel, full")
    torch.nn.init.constant_(diverged.model.output.bias, torch.inf)
    for who, options in (
        (trainer("whole, full"), {}),
        (trainer("whole, full", seed=rank), {}),
        (trainer("parallel, full"), {"checkpoint": missing}),
        (trainer("parallel, full"), {"checkpoint": missing, "resume": True}),
        (diverged, {}),
    ):
        try:
            who.fit(TRAIN, **options)
        except (MemoryError, OSError, ValueError, FloatingPointError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    return errors


def test_a_failure_in_one_process_ends_all(tmp_path) -> None:
    first, second = together(2, fail, tmp_path)
    for errors, patterns in (
        (first, [
            r"ConnectionError: Trainer\.fit: another process failed, ended, or did not answer "
            r"within 1800 s \(.+\)",
            r"ValueError: Trainer\.fit: options of process 1 differs from that of process 0; .*",
            r"FileNotFoundError: .*none.*",
            r"FileNotFoundError: .*none.*",
            r"FloatingPointError: .* loss is (nan|inf) .*",
        ]),
        (second, [
            "MemoryError: no memory",
            r"ValueError: Trainer\.fit: options of process 1 differs from that of process 0; .*",
            r"ConnectionError: Trainer\.fit: process 0 failed: FileNotFoundError: .*none.*",
            r"ConnectionError: Trainer\.fit: process 0 failed: FileNotFoundError: .*none.*",
            r"FloatingPointError: .* loss is (nan|inf) .*",
        ]),
    ):  # fmt: skip
        assert len(errors) == len(patterns)
        for error, pattern in zip(errors, patterns, strict=True):
            assert re.fullmatch(pattern, error, re.DOTALL), error


def stop_answering(rank: int, folder):
    distributed.TIMEOUT = distributed.timedelta(seconds=3)
    epoch = SessionParallelBatches.epoch
    if rank == 1:
        SessionParallelBatches.epoch = lambda *args: time.sleep(6) or epoch(*args)
    try:
        trainer("parallel, full").fit(TRAIN)
    except ConnectionError as error:
        return str(error)


def test_a_process_that_does_not_answer_is_given_up(tmp_path) -> None:
    first, second = together(2, stop_answering, tmp_path)
    assert "did not answer within 3 s" in first
    assert "another process failed" in second


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "clicks.tsv"
    rows = ["SessionId\tItemId\tTime"]
    sessions = simulate(80, n_items=N, n_themes=3, n_categories=6, seed=2).sessions
    for number, items in enumerate(sessions):
        rows += [f"{number}\t{item}\t{1000 * number + t}" for t, item in enumerate(items)]
    path.write_text("\n".join(rows) + "\n")
    return path


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
COMMAND = [
    "-m", "seqrec_fast", "train", "--threads", "1", "--hidden-size", "8", "--lr", "0.01",
    "--dropout-embedding", "0", "--dropout-hidden", "0",
]  # fmt: skip


def test_torchrun_does_what_one_process_does(log, tmp_path) -> None:
    outputs, files = [], []
    for number, launcher in enumerate(([], TORCHRUN)):
        out = tmp_path / f"{number}.safetensors"
        arguments = [str(log), "--out", str(out), "--epochs", "9", "--patience", "1"]
        done = subprocess.run(
            [sys.executable, *launcher, *COMMAND, *arguments],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        outputs.append(re.sub(r"[\d.]+ s$|/\S*/|\d\.safetensors", "", done.stdout, flags=re.M))
        files.append(sf.load(out))
    assert outputs[0] == outputs[1]
    assert "was the best" in outputs[0]
    query = [[3, 5], [7]]
    (items, scores), (ours, our_scores) = (file.recommend(query, k=5) for file in files)
    assert np.array_equal(items, ours)
    np.testing.assert_allclose(scores, our_scores, rtol=1e-3, atol=1e-4)


def test_interruption_under_torchrun(log, tmp_path) -> None:
    path = tmp_path / "run.ckpt"
    arguments = [str(log), "--out", str(tmp_path / "m"), "--epochs", "100000"]
    with subprocess.Popen(
        [sys.executable, *TORCHRUN, *COMMAND, *arguments, "--checkpoint", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            while not process.stdout.readline().startswith("epoch 2/"):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    assert re.search(r"training was interrupted in epoch \d+; \S+ holds epoch \d+", errors)
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]
