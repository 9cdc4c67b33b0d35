"""
Train the click-through models on a log of interactions and print AUC, GAUC and log-loss.

    python -m bench.accuracy.click_through LOG [--models din dien ...] [--users N] [--seeds 3]

Leave-one-out: the last event of each user against drawn items is the test, the one before it
validates after each epoch. Negatives are drawn by popularity, so that popularity alone tells
nothing of the label. One thread.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

import seqrec_fast as sf
from seqrec_fast import models
from seqrec_fast.data import (
    ClickSamples,
    build_sessions,
    read_log,
    sampled_clicks,
    split_leave_one_out,
)
from seqrec_fast.training import (
    ClickThroughOptions,
    ClickThroughTrainer,
    evaluate_click_through,
)

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru": ("RecurrentCTR", {}),
    "augru": ("RecurrentCTR", {"cell": "augru"}),
    "din": ("DIN", {}),
    "din-softmax": ("DIN", {"softmax": True}),
    "din-dice": ("DIN", {"activation": "dice"}),
    "dien": ("DIEN", {}),
    "dien-paper": ("DIEN", {"attention_mode": "augru_paper"}),
    "dien-auxiliary": ("DIEN", {"auxiliary_weight": 0.5}),
    "theme-mixture": ("ThemeMixture", {"task": "click-through", "hidden_size": 32}),
}


def samples_of(
    path: Path, users: int | None, seed: int
) -> tuple[ClickSamples, ClickSamples, ClickSamples, int]:
    """Return what to train, to validate and to test with, and the number of items."""
    sessions, vocabulary, _ = build_sessions(read_log(path))
    if users is not None:
        sessions = sessions.select(np.arange(min(users, len(sessions))))
    popularity = np.bincount(sessions.items, minlength=len(vocabulary))
    train, valid, test = split_leave_one_out(sessions)
    options: dict[str, Any] = {"n_items": len(vocabulary), "popularity": popularity}
    return (
        sampled_clicks(train, n_negatives=2, seed=seed, **options),
        sampled_clicks(valid, targets="last", n_negatives=9, seed=1, **options),
        sampled_clicks(test, targets="last", n_negatives=9, seed=2, **options),
        len(vocabulary),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("log", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--users", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=ClickThroughOptions.epochs)
    parser.add_argument("--lr", type=float, default=ClickThroughOptions.lr)
    parser.add_argument("--weight-decay", type=float, default=ClickThroughOptions.weight_decay)
    parser.add_argument("--max-length", type=int, default=50)
    arguments = parser.parse_args()
    sf.set_num_threads(1)
    torch.set_num_threads(1)
    print(f"{'model':16}{'auc':>9}{'spread':>9}{'gauc':>9}{'log-loss':>10}{'s/epoch':>9}")
    for name in arguments.models:
        kind, sizes = MODELS[name]
        results, seconds = [], []
        for seed in range(arguments.seeds):
            train, valid, test, n_items = samples_of(arguments.log, arguments.users, seed)
            model = getattr(models, kind)(n_items, seed=seed, **sizes)
            options = ClickThroughOptions(
                epochs=arguments.epochs, lr=arguments.lr, max_length=arguments.max_length,
                weight_decay=arguments.weight_decay, patience=1, seed=seed,
            )  # fmt: skip
            history = ClickThroughTrainer(model, options).fit(train, valid)
            seconds += [epoch.seconds for epoch in history.epochs]
            results.append(evaluate_click_through(model, test, max_length=arguments.max_length))
        means = {key: statistics.mean(r[key] for r in results) for key in results[0]}
        aucs = [r["auc"] for r in results]
        print(
            f"{name:16}{means['auc']:9.4f}{max(aucs) - min(aucs):9.4f}{means['gauc']:9.4f}"
            f"{means['log_loss']:10.4f}{statistics.median(seconds):9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
