"""
Theme mixture beside a single recurrent network, and beside itself without themes.

    python -m bench.accuracy.themes hopping|steady [--models gru,theme-mixture] [--seeds 5]
    python -m bench.accuracy.themes ml1m FOLDER [--seeds 3]

hopping, steady: next item of simulated users (:func:`seqrec_fast.data.simulate_hopping`), a fifth
of whom are for the test. ml1m: the log in FOLDER, last item for the test, seen items left out.
One thread. Each line is one model and seed; the last lines are means over the seeds, and the
largest minus the smallest value.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import seqrec_fast as sf
from seqrec_fast.data import (
    Sessions,
    build_sessions,
    read_log,
    simulate_hopping,
    split_leave_one_out,
)
from seqrec_fast.models import GRU4Rec, NextItemModel, ThemeMixture
from seqrec_fast.training import Trainer, TrainingOptions, evaluate


class Data(NamedTuple):
    n_items: int
    train: Sessions
    test: Sessions
    targets: str  # of the test
    themes: NDArray[np.int64] | None  # of the events of the test


SIMULATION = {"n_users": 400, "n_items": 512, "n_themes": 8, "length": (100, 2000)}
TRAINING = {
    "simulated": {
        "epochs": 20, "batch_size": 16, "max_length": 2000, "lr": 0.01, "weight_decay": 0.01,
    },
    "ml1m": {"epochs": 2, "batch_size": 8, "max_length": 2300, "lr": 0.01, "weight_decay": 0.1},
}  # fmt: skip
SIZE = {"simulated": 48, "ml1m": 64}
MODELS = ("gru", "no-themes", "theme-mixture")  # and gru-wide, twice as wide


def simulated(hopping: bool, seed: int) -> Data:
    """Return users to train with and, a fifth, to test with."""
    simulation = simulate_hopping(hopping=hopping, seed=seed, **SIMULATION)
    sessions = simulation.sessions
    n_train = len(sessions) * 4 // 5
    first = sessions.offsets[n_train]
    return Data(
        SIMULATION["n_items"],
        sessions.select(np.arange(n_train)),
        sessions.select(np.arange(n_train, len(sessions))),
        "all",
        simulation.themes[first:],
    )


def movielens(folder: Path) -> Data:
    """Return the log with its last items for the test."""
    sessions, vocabulary, _ = build_sessions(read_log(folder / "ml1m_user_item_time.tsv.gz"))
    train, _, test = split_leave_one_out(sessions)
    return Data(len(vocabulary), train, test, "last", None)


def make(name: str, n_items: int, size: int, seed: int, **more: Any) -> NextItemModel:
    """Return a model; all have embeddings of the same width."""
    dropout = {"dropout_embedding": 0.1, "dropout_hidden": 0.1}
    if name.startswith("gru"):
        wide = 2 * size if name == "gru-wide" else size
        return GRU4Rec(n_items, embedding_dim=wide, hidden_size=wide, seed=seed, **dropout)
    n_themes = 0 if name == "no-themes" else 8
    return ThemeMixture(n_items, hidden_size=size, n_themes=n_themes, seed=seed, **dropout, **more)


def match(model: NextItemModel, data: Data) -> float:
    """Return the NMI of the themes of the model and the true ones, over the events of the test."""
    if data.themes is None or not (isinstance(model, ThemeMixture) and model.config["n_themes"]):
        return float("nan")
    with torch.no_grad():
        found = model.themes(
            torch.from_numpy(data.test.items), torch.from_numpy(data.test.offsets),
            torch.from_numpy(data.test.times),
        )[1][:, 0].numpy()  # fmt: skip
    return normalized_mutual_information(found, data.themes)


def normalized_mutual_information(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Return 2 I(a; b) / (H(a) + H(b))."""
    joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(joint, (a, b), 1 / len(a))

    def entropy(p: NDArray[np.float64]) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    alone = entropy(joint.sum(1)) + entropy(joint.sum(0))
    return 2 * (alone - entropy(joint.ravel())) / alone


def one_run(name: str, data: Data, kind: str, seed: int, epochs: int | None) -> dict[str, float]:
    """Train and test one model."""
    options: dict[str, Any] = {**TRAINING[kind], "seed": seed}
    if epochs is not None:
        options["epochs"] = epochs
    model = make(name, data.n_items, SIZE[kind], seed)
    begin = time.process_time()
    Trainer(model, TrainingOptions(**options)).fit(data.train)
    seconds = time.process_time() - begin
    found = evaluate(
        model, data.test, (10, 20), targets=data.targets, exclude_seen=kind == "ml1m",
        coverage=False,
    )  # fmt: skip
    return {
        "recall@10": found["recall@10"],
        "ndcg@10": found["ndcg@10"],
        "mrr@20": found["mrr@20"],
        "nmi": match(model, data),
        "processor seconds": seconds,
    }


def print_means(title: str, results: list[dict[str, float]]) -> None:
    """Print means over seeds, and the largest minus the smallest value."""
    for label in results[0]:
        values = [found[label] for found in results]
        mean, spread = statistics.mean(values), max(values) - min(values)
        print(f"{title} mean {label} {mean:.4f} ({spread:.4f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy.themes", description=__doc__)
    parser.add_argument("data", choices=("hopping", "steady", "ml1m"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="in place of the configuration's")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    kind = "ml1m" if arguments.data == "ml1m" else "simulated"
    for name in arguments.models.split(","):
        results = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            data = (
                movielens(arguments.folder)
                if kind == "ml1m"
                else simulated(arguments.data == "hopping", seed)
            )
            found = one_run(name, data, kind, seed, arguments.epochs)
            results.append(found)
            text = "  ".join(f"{label} {value:.4f}" for label, value in found.items())
            print(f"{arguments.data} {name} seed {seed}  {text}", flush=True)
        print_means(f"{arguments.data} {name}", results)


if __name__ == "__main__":
    main()
