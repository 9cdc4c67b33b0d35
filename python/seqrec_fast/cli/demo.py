"""``seqrec-fast demo``: the whole way from a log to recommendations without PyTorch."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import numpy as np

from seqrec_fast.cli._options import progress

if TYPE_CHECKING:
    from seqrec_fast.data import Sessions, Simulation

_K = 20
_LENGTH = 6
_SHOWN = 3


@dataclass(frozen=True)
class _Size:
    """How much the demo does."""

    n_sessions: int
    n_items: int
    n_categories: int
    hidden_size: int
    epochs: int
    batch: int
    repeats: int


_FULL = _Size(20_000, 2_000, 50, 100, 5, 256, 400)
_QUICK = _Size(400, 100, 10, 16, 2, 8, 5)


@click.command(short_help="See the whole way on a simulated log, in a few minutes.")
@click.option("--quick", is_flag=True, help="Tiny sizes: seconds, and numbers that mean little.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
@click.option(
    "--keep", type=click.Path(), metavar="DIR", help="Keep the log and the model in this folder."
)
def demo(quick: bool, seed: int, keep: str | None) -> None:
    """Simulate a log, train, export, and serve the model without PyTorch.

    Takes a few minutes on two cores. The simulation knows the best Recall@20 that any
    recommender can reach, so that the distance from it can be told.

    \b
    Examples:
      seqrec-fast demo
      seqrec-fast demo --keep demo
      seqrec-fast evaluate demo/model.safetensors demo/test.tsv
    """  # noqa: D301 - a mark for click
    size = _QUICK if quick else _FULL
    begin = time.perf_counter()
    with _folder(keep) as folder:
        simulation, train, test = _simulate(size, seed, folder)
        path = os.path.join(folder, "model.safetensors")
        _train(size, seed, train, path)
        _accuracy(size, path, simulation, train, test)
        _serving(size, path, test)
        if keep is not None:
            click.echo(f"\nKept in {folder}: train.tsv, test.tsv, model.safetensors")
    click.echo(f"\nThe demo took {time.perf_counter() - begin:.0f} s.")


@contextmanager
def _folder(keep: str | None) -> Iterator[str]:
    if keep is not None:
        os.makedirs(keep, exist_ok=True)
        yield keep
        return
    folder = tempfile.mkdtemp(prefix="seqrec-fast-demo-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _simulate(size: _Size, seed: int, folder: str) -> tuple[Simulation, Sessions, Sessions]:
    from seqrec_fast import data

    simulation = data.simulate(
        size.n_sessions, size.n_items, n_categories=size.n_categories, seed=seed
    )
    train, test = data.split_by_time(simulation.sessions, fraction=0.1)
    log = simulation.to_log()
    for name, part in (("train", train), ("test", test)):
        rows = np.isin(log.session_ids, part.session_ids)
        assert log.times is not None
        part_log = data.InteractionLog(log.session_ids[rows], log.item_ids[rows], log.times[rows])
        data.write_log(part_log, os.path.join(folder, f"{name}.tsv"))
    click.echo(
        f"Simulated log: {simulation.sessions.n_events:,} events of {size.n_items:,} items in "
        f"{size.n_sessions:,} sessions; the last {len(test):,} sessions are for the test."
    )
    return simulation, train, test


def _train(size: _Size, seed: int, train: Sessions, path: str) -> None:
    """Train on one thread: small batches gain little from more, and lose on a busy machine."""
    import torch

    from seqrec_fast.data import ItemVocabulary
    from seqrec_fast.models import GRU4Rec
    from seqrec_fast.training import EpochResult, Trainer, TrainingOptions

    model = GRU4Rec(
        size.n_items,
        embedding_dim=size.hidden_size,
        hidden_size=size.hidden_size,
        dropout_embedding=0.2,
        dropout_hidden=0.3,
        seed=seed,
    )
    click.echo(f"Training GRU4Rec (GRU of {size.hidden_size} units) for {size.epochs} epochs:")

    def report(result: EpochResult) -> None:
        click.echo(f"  epoch {result.epoch}: loss {result.loss:.3f}, {result.seconds:.1f} s")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        Trainer(model, TrainingOptions(epochs=size.epochs, lr=0.005, seed=seed)).fit(
            train, progress=None, on_epoch=report
        )
    finally:
        torch.set_num_threads(threads)
    model.export(path, ItemVocabulary(np.arange(size.n_items)))
    click.echo(f"Exported: model.safetensors, {os.path.getsize(path):,} bytes.")


def _accuracy(
    size: _Size, path: str, simulation: Simulation, train: Sessions, test: Sessions
) -> None:
    """Print Recall@20 of the model beside what is simpler and what is best."""
    from seqrec_fast import baselines
    from seqrec_fast.evaluation import evaluate
    from seqrec_fast.recommender import load

    with progress(total=len(test), unit=" sessions", desc="evaluating") as bar:
        model = evaluate(load(path), test, (_K,), on_sessions=bar.update)
    rows = {
        "popularity": baselines.evaluate(baselines.Popularity(train, size.n_items), test, (_K,)),
        "item-kNN": baselines.evaluate(baselines.ItemKNN(train, size.n_items), test, (_K,)),
        "GRU4Rec": model,
        "best reachable": {f"recall@{_K}": simulation.reachable_recall(test, _K)},
    }
    click.echo(f"\nRecall@{_K} of the next item, in {len(test):,} sessions of the test:")
    for name, result in rows.items():
        click.echo(f"  {name:<16}{result[f'recall@{_K}']:.3f}")


def _serving(size: _Size, path: str, test: Sessions) -> None:
    """Serve the file without torch; print answers, and times beside those of torch."""
    from seqrec_fast.cli import _demo_times
    from seqrec_fast.io import load_model

    long_enough = test.select(np.flatnonzero(test.lengths >= _LENGTH)[: size.batch])
    sessions = [long_enough[i][:_LENGTH].tolist() for i in range(len(long_enough))]
    ours = _demo_times.served(path, sessions, _K, size.repeats)
    theirs = _demo_times.torch_served(load_model(path), sessions, _K, size.repeats)
    if not np.allclose(ours["scores"], theirs["scores"], rtol=1e-4, atol=1e-4):
        raise RuntimeError("the served scores are not those of PyTorch")
    click.echo("\nServed from the file, in a process in which torch cannot be imported:")
    for session, items in list(zip(sessions, ours["items"], strict=True))[:_SHOWN]:
        click.echo(f"  after items {_row(session)}: recommended {_row(items[:5])}, ...")
    click.echo(f"\nMicroseconds for a recommendation (top {_K} of {size.n_items:,}, one thread):")
    click.echo(f"  {'':<36}{'seqrec_fast':>12}{'PyTorch':>10}{'ratio':>8}")
    for case, text in _demo_times.CASES.items():
        our, their = ours["times"][case], theirs["times"][case]
        label = text.format(k=_K, length=_LENGTH, batch=len(sessions))
        click.echo(f"  {label:<36}{our:>12.1f}{their:>10.1f}{their / our:>7.1f}x")


def _row(items: list[int]) -> str:
    return " ".join(map(str, items))
