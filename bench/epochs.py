"""
One epoch of GRU4Rec on a real log, beside the official PyTorch code and RecBole, on one thread.

    OMP_NUM_THREADS=1 python -m bench.epochs yoochoose FOLDER

GRU4REC_OFFICIAL is the folder of a checkout of the official code; peers that are not there are
left out. Prints seconds, and those of the peer over ours. Each peer is compared with ours on the
mini-batches, loss and sizes of the peer: with the official code its options for the log; with
RecBole its defaults: embeddings 64 wide for input and scores, a GRU 128 wide and a projection
between them, cross-entropy over the whole catalogue, 50 events, 2048 targets to a mini-batch.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import seqrec_fast as sf
from bench.accuracy.__main__ import read
from bench.accuracy.configurations import CONFIGURATIONS, LOGS
from bench.peers import PeerMissingError
from bench.peers.gru4rec import OfficialGru4Rec
from bench.peers.recbole import RecBoleGru4Rec
from seqrec_fast.data import Sessions
from seqrec_fast.models import GRU4Rec
from seqrec_fast.training import Trainer, TrainingOptions

# The official code's options on each log; ours are those of bench.accuracy's `<log>-official`.
_OFFICIAL = {
    "yoochoose": {
        "layers": [100], "loss": "bpr-max", "batch_size": 32, "dropout_p_embed": 0.3,
        "dropout_p_hidden": 0.05, "learning_rate": 0.05, "momentum": 0.3, "sample_alpha": 0.3,
        "n_sample": 2048, "constrained_embedding": True, "elu_param": 0.5, "bpreg": 1.0,
    },
    "diginetica": {
        "layers": [128], "loss": "cross-entropy", "batch_size": 128, "dropout_p_embed": 0.3,
        "dropout_p_hidden": 0.2, "learning_rate": 0.07, "momentum": 0.0, "sample_alpha": 0.3,
        "n_sample": 2048, "logq": 1.0, "constrained_embedding": True,
    },
}  # fmt: skip
_OFFICIAL["ml1m"] = _OFFICIAL["beauty"] = _OFFICIAL["diginetica"]


class Ours:
    """One epoch of ours."""

    def __init__(self, n_items: int, train: Sessions, model: Any, training: Any) -> None:
        self._model = GRU4Rec(n_items, seed=0, **model)
        self._train = train
        self._options = TrainingOptions(**{**training, "epochs": 1})
        self.seconds = 0.0

    def __call__(self) -> None:
        self.seconds = Trainer(self._model, self._options).fit(self._train).epochs[0].seconds


def compare(label: str, ours: Ours, peer: Callable[[], Any], rounds: int) -> None:
    """Take turns, and print the medians."""
    try:
        theirs = peer()
    except PeerMissingError as error:
        print(f"{label}: left out, {error}")
        return
    ratios, seconds = [], []
    for _ in range(rounds):
        ours()
        theirs()
        ratios.append(theirs.seconds / ours.seconds)
        seconds.append(ours.seconds)
    print(
        f"{label}: ours {statistics.median(seconds):.2f} s, {statistics.median(ratios):.2f}x",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.epochs", description=__doc__)
    parser.add_argument("log", choices=LOGS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peer", choices=("official", "recbole"), help="by default both")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    name = arguments.log
    train, _, n_items = read(LOGS[name], arguments.folder)
    official = CONFIGURATIONS[
        "yoochoose-official" if name == "yoochoose" else "diginetica-official"
    ]
    if arguments.peer != "recbole":
        ours = Ours(n_items, train, official.model, official.training)
        compare(
            f"{name}, official GRU4Rec", ours,
            lambda: OfficialGru4Rec(train, _OFFICIAL[name]), arguments.rounds,
        )  # fmt: skip
    if arguments.peer == "official":
        return
    sizes = {"embedding": "tied", "embedding_dim": 64, "hidden_size": 128, "dropout_hidden": 0.0}
    targets = train.lengths - 1
    pieces = (-(-targets // 50)).sum()
    batch = round(2048 * pieces / targets.sum())
    training = {"loss": "full", "max_length": 50, "batch_size": batch}
    ours = Ours(n_items, train, sizes, training)
    compare(f"{name}, RecBole GRU4Rec", ours, lambda: RecBoleGru4Rec(train, {}), arguments.rounds)


if __name__ == "__main__":
    main()
