"""
Clicks of simulated users: theme mixture beside a single GRU, a single AUGRU, DIEN, no themes.

    python -m bench.accuracy.theme_clicks hopping|steady [--models augru,theme-mixture] [--seeds 5]

A sample is an event after the first 20 of a history of up to 2000 (label 1), or an item of
another category of the same theme in its place (label 0): theme and popularity tell nothing, what
the user did under the theme before does. A fifth of the users are for the test. The training
draws new samples in each epoch. One thread. Each line is one model and seed; the last lines are
means over the seeds, and the largest minus the smallest value.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

import seqrec_fast as sf
from bench.accuracy.themes import print_means
from seqrec_fast import metrics
from seqrec_fast.data import ClickSamples, HoppingSimulation, simulate_hopping
from seqrec_fast.models import DIEN, RecurrentCTR, ThemeMixture

SIMULATION = {"n_users": 400, "n_items": 256, "n_themes": 8, "length": (100, 2000)}
SIZE = 32
BATCH, LR, PER_USER, LEAST = 32, 0.005, 4, 20
# Those that learn from clicks alone take two times as many.
EPOCHS = {"no-themes": 10, "theme-mixture": 10}
MORE_EPOCHS = 20

Model = Callable[..., Any]
_PLAIN = {"embedding_dim": SIZE, "hidden_size": SIZE}
_MIXTURE = {"task": "click-through", "hidden_size": SIZE}
MODELS: dict[str, Model] = {
    "gru": lambda n, seed: RecurrentCTR(n, cell="gru", seed=seed, **_PLAIN),
    "augru": lambda n, seed: RecurrentCTR(n, cell="augru", seed=seed, **_PLAIN),
    "dien": lambda n, seed: DIEN(n, auxiliary_weight=1.0, seed=seed, **_PLAIN),
    "no-themes": lambda n, seed: ThemeMixture(n, n_themes=0, seed=seed, **_MIXTURE),
    "theme-mixture": lambda n, seed: ThemeMixture(n, seed=seed, **_MIXTURE),
    "theme-mixture-clicks-alone": lambda n, seed: ThemeMixture(
        n, next_item_loss=0.0, seed=seed, **_MIXTURE
    ),
}


def samples(
    simulation: HoppingSimulation, users: NDArray[np.int64], rng: np.random.Generator
) -> ClickSamples:
    """Draw samples of some users: events that follow the path of the visit, and others."""
    sessions = simulation.sessions
    user = np.repeat(users, PER_USER)
    seen = rng.integers(LEAST, sessions.lengths[user])
    event = sessions.offsets[user] + seen
    clicked = sessions.items[event]
    theme = simulation.themes[event]
    kept = simulation.item_themes[clicked] == theme  # no strays
    user, seen, event, clicked, theme = (
        array[kept] for array in (user, seen, event, clicked, theme)
    )
    drawn = rng.integers(0, len(simulation.item_themes), (len(user), 256))
    fits = (simulation.item_themes[drawn] == theme[:, None]) & (
        simulation.item_categories[drawn] != simulation.item_categories[clicked][:, None]
    )
    other = drawn[np.arange(len(user)), fits.argmax(1)]
    return ClickSamples(
        sessions,
        np.tile(user, 2),
        np.tile(seen, 2),
        np.concatenate([clicked, other]),
        np.repeat([1, 0], len(user)),
        np.tile(sessions.times[event], 2),
    )


def logits(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    items, offsets, targets = map(torch.from_numpy, (batch.items, batch.offsets, batch.targets))
    return model(items, offsets, targets, torch.from_numpy(batch.times))


def train(
    model: torch.nn.Module,
    simulation: HoppingSimulation,
    users: NDArray[np.int64],
    seed: int,
    epochs: int,
) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    n_steps = epochs * -(-2 * PER_USER * len(users) // BATCH)
    step = 0
    model.train()
    for _ in range(epochs):
        for batch in samples(simulation, users, rng).batches(BATCH, rng=rng):
            for group in optimizer.param_groups:
                group["lr"] = LR * max(1 - step / n_steps, 0.01)
            labels = torch.from_numpy(batch.labels.astype(np.float32))
            loss = functional.binary_cross_entropy_with_logits(logits(model, batch), labels)
            more = model.auxiliary_loss()
            optimizer.zero_grad()
            (loss if more is None else loss + more).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            step += 1
    model.eval()


def one_run(name: str, hopping: bool, seed: int, epochs: int) -> dict[str, float]:
    """Train and test one model."""
    simulation = simulate_hopping(hopping=hopping, seed=seed, **SIMULATION)
    users = np.arange(len(simulation.sessions))
    n_train = len(users) * 4 // 5
    model = MODELS[name](SIMULATION["n_items"], seed)
    begin = time.process_time()
    train(model, simulation, users[:n_train], seed, epochs)
    seconds = time.process_time() - begin
    test_rng = np.random.default_rng([seed, 2])
    test = samples(simulation, np.repeat(users[n_train:], 10), test_rng)
    with torch.no_grad():
        scores = torch.cat([logits(model, batch) for batch in test.batches(64)]).numpy()
    return {
        "auc": metrics.auc(test.labels, scores),
        "gauc": metrics.gauc(test.labels, scores, test.users),
        "processor seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy.theme_clicks", description=__doc__
    )
    parser.add_argument("data", choices=("hopping", "steady"))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="in place of those of the model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    for name in arguments.models.split(","):
        results = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            epochs = arguments.epochs or EPOCHS.get(name, MORE_EPOCHS)
            found = one_run(name, arguments.data == "hopping", seed, epochs)
            results.append(found)
            text = "  ".join(f"{label} {value:.4f}" for label, value in found.items())
            print(f"clicks {arguments.data} {name} seed {seed}  {text}", flush=True)
        print_means(f"clicks {arguments.data} {name}", results)


if __name__ == "__main__":
    main()
