"""Click-through samples: a user's history, a target item, and whether it was clicked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast.data.sessions import Sessions, gather, integers

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClickBatch:
    """Some samples and their histories: history b is ``items[offsets[b]:offsets[b + 1]]``.

    Attributes
    ----------
    items : (events,) int64 array
        Histories, one after another, oldest event first.
    offsets : (B + 1,) int64 array
    times : (events,) float64 array or None
        Seconds.
    targets : (B,) int64 array
    labels : (B,) int8 array
    history : (B,) int64 array or None
        The history of each sample; None: sample b has history b.
    """

    items: Ints
    offsets: Ints
    times: Floats | None
    targets: Ints
    labels: NDArray[np.int8]
    history: Ints | None = None


@dataclass(frozen=True)
class ClickSamples:
    """Whether targets were clicked, by users whose earlier clicks are known.

    The histories of a user are stored once. Sample i knows the first ``seen[i]`` events of
    history ``users[i]`` and nothing that came later.

    Attributes
    ----------
    histories : Sessions
        The clicks of each user, with or without times; users may have none.
    users : (n,) int64 array
        Number of the sample's history in `histories`.
    seen : (n,) int64 array
        Events of the history that came before.
    targets : (n,) int64 array
        Item shown.
    labels : (n,) int8 array
        1: clicked, 0: not clicked.
    times : (n,) float64 array or None
        When it was shown, in seconds.

    Raises
    ------
    ValueError
        If arrays differ in length, a user or a number of events is out of range, a label is
        neither 0 nor 1, or a time is not finite.
    TypeError
        If users, seen or targets are no integers.
    """

    histories: Sessions
    users: Ints
    seen: Ints
    targets: Ints
    labels: NDArray[np.int8]
    times: Floats | None = None

    def __post_init__(self) -> None:
        """Bring the arrays to their dtypes and check that they belong together."""
        if not np.isin(np.asarray(self.labels), (0, 1)).all():
            raise ValueError("ClickSamples: labels holds another value than 0 and 1")
        kinds: dict[str, type[np.generic]] = dict.fromkeys(("users", "seen", "targets"), np.int64)
        kinds["labels"] = np.int8
        if self.times is not None:
            kinds["times"] = np.float64
        for name, kind in kinds.items():
            if kind == np.int64:
                integers("ClickSamples", name, getattr(self, name))
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), kind))
            if (shape := getattr(self, name).shape) != self.users.shape or len(shape) != 1:
                raise ValueError(
                    f"ClickSamples: {name} has shape {shape}, users {self.users.shape}; expected "
                    "one dimension, and the same length"
                )
        n_users = len(self.histories)
        if len(self.users) and not (self.users.min() >= 0 and self.users.max() < n_users):
            raise ValueError(
                f"ClickSamples: users from {self.users.min()} to {self.users.max()}; expected 0 to "
                f"{n_users - 1}, the histories"
            )
        lengths = self.histories.lengths[self.users]
        if (wrong := np.flatnonzero((self.seen < 0) | (self.seen > lengths))).size:
            raise ValueError(
                f"ClickSamples: seen is {self.seen[wrong[0]]} at position {wrong[0]}; expected 0 "
                f"to {lengths[wrong[0]]}, the events of the history"
            )
        if self.times is not None and not np.isfinite(self.times).all():
            raise ValueError("ClickSamples: times holds NaN or infinity; expected seconds")

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.users)

    @property
    def n_positive(self) -> int:
        """The number of samples with label 1."""
        return int(np.count_nonzero(self.labels))

    def __str__(self) -> str:
        """Return one line with the sizes."""
        users = len(np.unique(self.users))
        length = f"{self.seen.mean():.1f}" if len(self) else "0"
        return (
            f"{len(self):,} samples ({self.n_positive:,} positive) of {users:,} users, histories "
            f"of {length} events on the average"
        )

    def select(self, samples: ArrayLike) -> ClickSamples:
        """Return some of the samples; the histories stay as they are.

        Parameters
        ----------
        samples : (n,) bool array, or (m,) int array
            A mask, or positions in the wanted order.
        """
        chosen = np.asarray(samples)
        if chosen.dtype == np.bool_ and chosen.shape != self.users.shape:
            raise ValueError(
                f"ClickSamples.select: mask has shape {chosen.shape}; expected {self.users.shape}"
            )
        if chosen.dtype != np.bool_:
            chosen = chosen.astype(np.int64)
        times = None if self.times is None else self.times[chosen]
        return ClickSamples(
            self.histories, self.users[chosen], self.seen[chosen], self.targets[chosen],
            self.labels[chosen], times,
        )  # fmt: skip

    def hold_out_latest(self, share: float) -> tuple[ClickSamples, ClickSamples]:
        """Split off the latest samples, as a validation that is not to look into the future.

        By the time of the samples; those of the same time stay together. Without times the users
        that stand last are split off, whole.

        Parameters
        ----------
        share : float
            Of the samples, between 0 and 1.

        Returns
        -------
        earlier, latest : ClickSamples

        Raises
        ------
        ValueError
            If the share is out of range or leaves one of the two without samples.
        """
        if not 0 < share < 1:
            raise ValueError(f"hold_out_latest: share is {share}; expected between 0 and 1")
        clock = self.users if self.times is None else self.times
        n_latest = max(1, round(len(self) * share))
        latest = clock >= np.sort(clock)[-n_latest] if len(self) else np.zeros(0, np.bool_)
        if latest.all():
            raise ValueError(
                f"hold_out_latest: share {share} of {len(self)} samples leaves none before it"
            )
        return self.select(~latest), self.select(latest)

    def batches(
        self,
        batch_size: int,
        max_length: int | None = None,
        rng: np.random.Generator | None = None,
        *,
        share: bool = False,
    ) -> Iterator[ClickBatch]:
        """Yield all samples, some at a time; the last batch may be smaller.

        Parameters
        ----------
        batch_size : int
            Samples in a batch.
        max_length : int, optional
            Longest history; of longer ones the newest events are kept.
        rng : Generator, optional
            Draws the order; by default it is that of the samples.
        share : bool
            Neighbours with the same history, such as a positive and its negatives, have it once.

        Raises
        ------
        ValueError
            If a size is below 1.
        """
        for name, size in (("batch_size", batch_size), ("max_length", max_length)):
            if size is not None and size < 1:
                raise ValueError(f"ClickSamples.batches: {name} is {size}; expected at least 1")
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        for start in range(0, len(order), batch_size):
            yield self._batch(order[start : start + batch_size], max_length, share)

    def _batch(self, chosen: Ints, max_length: int | None, share: bool) -> ClickBatch:
        histories, users, seen = self.histories, self.users[chosen], self.seen[chosen]
        history = None
        if share:
            is_new = np.ones(len(chosen), np.bool_)
            is_new[1:] = (np.diff(users) != 0) | (np.diff(seen) != 0)
            users, seen, history = users[is_new], seen[is_new], np.cumsum(is_new) - 1
        length = seen if max_length is None else np.minimum(seen, max_length)
        begin = histories.offsets[:-1][users] + seen - length
        events, offsets = gather(begin, length)
        return ClickBatch(
            histories.items[events],
            offsets,
            None if histories.times is None else histories.times[events],
            self.targets[chosen],
            self.labels[chosen],
            history,
        )
