"""
Train on a public log and print accuracy and seconds, mean and spread over seeds.

    python -m bench.accuracy diginetica FOLDER [--seeds 3] [--epochs N]

FOLDER holds the files of the log. One thread; ties count against the model. Seconds are of
training; those of the processor tell what other programs on the machine did not take.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

import seqrec_fast as sf
from bench.accuracy.configurations import CONFIGURATIONS, LOGS, Log
from seqrec_fast.data import Sessions, build_sessions, read_log, split_leave_one_out
from seqrec_fast.models import GRU4Rec
from seqrec_fast.training import Trainer, TrainingOptions, evaluate


def read(log: Log, folder: Path) -> tuple[Sessions, Sessions, int]:
    """Return what to train and to test with, and the number of items."""
    train, vocabulary, _ = build_sessions(read_log(folder / log.train))
    if log.test is None:
        train, _, test = split_leave_one_out(train)
    else:
        test, _, _ = build_sessions(read_log(folder / log.test), vocabulary=vocabulary)
    return train, test, len(vocabulary)


def one_seed(
    name: str, seed: int, epochs: int | None, bfloat16: bool, folder: Path
) -> tuple[float, ...]:
    """Return the two measures and the seconds of training, by the clock and of the processor."""
    configuration = CONFIGURATIONS[name]
    log = LOGS[configuration.log]
    train, test, n_items = read(log, folder)
    model = GRU4Rec(n_items, seed=seed, **configuration.model)
    options = {**configuration.training, "seed": seed}
    if epochs is not None:
        options["epochs"] = epochs
    begin = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        history = Trainer(model, TrainingOptions(**options)).fit(train)
    processor = time.process_time() - begin
    last = log.test is None
    values = evaluate(
        model, test, (log.k,), targets="last" if last else "all", exclude_seen=last, coverage=False
    )
    seconds = [epoch.seconds for epoch in history.epochs]
    measures = [values[f"{measure}@{log.k}"] for measure in log.measures]
    print(
        f"{name}: seed {seed}  "
        + "  ".join(f"{m}@{log.k} {v:.4f}" for m, v in zip(log.measures, measures, strict=True))
        + f"  {len(seconds)} epochs of {statistics.mean(seconds):.1f} s, {sum(seconds):.0f} s"
        f", processor {processor:.0f} s",
        flush=True,
    )
    return (*measures, sum(seconds), processor)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("configuration", choices=CONFIGURATIONS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="in place of the configuration's")
    parser.add_argument("--bfloat16", action="store_true", help="train under autocast")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    results = [
        one_seed(
            arguments.configuration, seed, arguments.epochs, arguments.bfloat16, arguments.folder
        )
        for seed in range(arguments.seeds)
    ]
    log = LOGS[CONFIGURATIONS[arguments.configuration].log]
    labels = (*(f"{measure}@{log.k}" for measure in log.measures), "seconds", "processor seconds")
    for label, values in zip(labels, zip(*results, strict=True), strict=True):
        spread = max(values) - min(values)
        print(f"{label}: mean {statistics.mean(values):.4f}, largest - smallest {spread:.4f}")


if __name__ == "__main__":
    main()
