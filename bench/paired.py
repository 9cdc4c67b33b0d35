"""Timing for machines that are shared: competitors take turns, medians of ratios are reported."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

WARMUP_ROUNDS = 2


def paired(
    runs: dict[str, Callable[[], object]], rounds: int, warmup_rounds: int = WARMUP_ROUNDS
) -> dict[str, tuple[float, float]]:
    """
    Median seconds of each run, and the median over rounds of its time over the first run's.

    The first run is ours: a ratio of 2 means that ours is twice as fast. A run in a process of its
    own says by its attribute `seconds` how long it took there.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + warmup_rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if i >= warmup_rounds:
                elapsed = time.perf_counter() - start
                seconds[name].append(getattr(run, "seconds", elapsed))
    first = next(iter(seconds.values()))
    return {
        name: (
            statistics.median(times),
            statistics.median(t / f for t, f in zip(times, first, strict=True)),
        )
        for name, times in seconds.items()
    }
