"""Sessions from a file of any size, a batch at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from seqrec_fast.data._blocks import Block, integer_ids, read_blocks, string_ids
from seqrec_fast.data._source import Source, open_source
from seqrec_fast.data.vocabulary import Ids


@dataclass(frozen=True)
class RaggedLog:
    """A batch of sessions in the user's own ids.

    Attributes
    ----------
    session_ids : (n_sessions,) int64 or str array
        In the order of the file.
    item_ids : (n_events,) int64 or str array
        Session after session, oldest event first.
    offsets : (n_sessions + 1,) int64 array
        Session ``i`` is ``item_ids[offsets[i]:offsets[i + 1]]``.
    times : (n_events,) float64 array or None
        Seconds; None if the file has none.
    """

    session_ids: Ids
    item_ids: Ids
    offsets: NDArray[np.int64]
    times: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self.session_ids)


def iter_sessions(
    path: str | os.PathLike[str],
    *,
    batch_size: int = 4096,
    format: str = "auto",
    session_column: str | None = None,
    item_column: str | None = None,
    time_column: str | None = None,
) -> Iterator[RaggedLog]:
    """Read a file session by session in constant memory.

    Reads what :func:`read_log` reads, with the same options and the same ids, except that the
    rows of a session must be neighbours. Within a session events are sorted by time, stably.
    Memory holds one batch, one block of the file, and 8 bytes for each session that is over
    (a hash for ids that are strings). A file of text is read twice: whether its ids are all
    integers is known at its end.

    Parameters
    ----------
    path : str or path-like
        The file.
    batch_size : int
        Sessions in a batch; the last one may be smaller.
    format, session_column, item_column, time_column
        As in :func:`read_log`.

    Yields
    ------
    RaggedLog
        The next sessions of the file.

    Raises
    ------
    ValueError
        As :func:`read_log`, and for a session that comes back after another one began. A file
        that has no rows, or lacks a column, is an error of the call itself; an error in a
        later row comes when it is reached.
    FileNotFoundError
        If there is no such file.
    ImportError
        If pyarrow is not installed.
    """
    if batch_size < 1:
        raise ValueError(f"iter_sessions: batch_size is {batch_size}; expected at least 1")
    source = open_source(
        "iter_sessions",
        path,
        format=format,
        session_column=session_column,
        item_column=item_column,
        time_column=time_column,
    )
    return _batches(source, batch_size, *_id_kinds(source))


def _id_kinds(source: Source) -> tuple[bool, bool]:
    """Find whether the session ids and the item ids of a whole file are integers."""
    typed = source.layout == "parquet"
    sessions = items = True
    rows = 0
    for block in read_blocks(source):
        rows += len(block.items)
        sessions = sessions and integer_ids(block.sessions, typed=typed) is not None
        items = items and integer_ids(block.items, typed=typed) is not None
        if rows and (typed or not (sessions or items)):
            break
    if not rows:
        raise source.error("has no rows")
    return sessions, items


@dataclass
class _Rows:
    """Rows that are read and not yet handed out; ``row`` is the number of the first."""

    sessions: Ids
    items: Ids
    times: NDArray[np.float64] | None
    row: int

    def append(self, other: _Rows) -> _Rows:
        times = None
        if self.times is not None and other.times is not None:
            times = np.concatenate([self.times, other.times])
        return _Rows(
            np.concatenate([self.sessions, other.sessions]),
            np.concatenate([self.items, other.items]),
            times,
            self.row,
        )

    def after(self, start: int) -> _Rows:
        times = None if self.times is None else self.times[start:]
        return _Rows(self.sessions[start:], self.items[start:], times, self.row + start)


def _batches(
    source: Source, batch_size: int, integer_sessions: bool, integer_items: bool
) -> Iterator[RaggedLog]:
    over = _FinishedSessions(source)
    rest: _Rows | None = None
    for block in read_blocks(source):
        rows = _Rows(
            _ids(block, "sessions", integer_sessions),
            _ids(block, "items", integer_items),
            block.times,
            block.row,
        )
        rest = rows if rest is None else rest.append(rows)
        starts = _starts(rest.sessions)
        # the last session may go on in the next block
        done = (len(starts) - 1) // batch_size * batch_size
        for first in range(0, done, batch_size):
            yield over.add(_cut(rest, starts[first : first + batch_size + 1]), rest, starts[first:])
        rest = rest.after(int(starts[done])) if done else rest
    if rest is None:
        return
    starts = np.append(_starts(rest.sessions), len(rest.sessions))
    for first in range(0, len(starts) - 1, batch_size):
        yield over.add(_cut(rest, starts[first : first + batch_size + 1]), rest, starts[first:])


def _ids(block: Block, column: str, integers: bool) -> Ids:
    values = getattr(block, column)
    if integers:
        return cast("Ids", integer_ids(values, typed=False))
    return string_ids(values)


def _starts(sessions: Ids) -> NDArray[np.int64]:
    """Return where each run of equal ids begins."""
    changes = np.flatnonzero(sessions[1:] != sessions[:-1]) + 1
    return np.concatenate([np.zeros(min(1, len(sessions)), np.int64), changes.astype(np.int64)])


def _cut(rows: _Rows, bounds: NDArray[np.int64]) -> RaggedLog:
    begin, end = int(bounds[0]), int(bounds[-1])
    offsets = bounds - begin
    items, times = rows.items[begin:end], None
    if rows.times is not None:
        session = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        times = rows.times[begin:end]
        order = np.lexsort((times, session))
        items, times = items[order], times[order]
    return RaggedLog(rows.sessions[bounds[:-1]], items, offsets, times)


class _FinishedSessions:
    """Keeps 8 bytes for each session that is over, to notice one that comes back."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._runs: list[NDArray[np.int64]] = []

    def add(self, batch: RaggedLog, rows: _Rows, starts: NDArray[np.int64]) -> RaggedLog:
        """Note the sessions of a batch, which began at ``starts``, and return the batch."""
        if self._source.layout == "lines":
            return batch
        keys = _keys(batch.session_ids)
        order = np.argsort(keys, kind="stable")
        run = keys[order]
        again = np.zeros(len(keys), dtype=bool)
        again[order[1:]] = run[1:] == run[:-1]
        for older in self._runs:
            at = np.minimum(np.searchsorted(older, keys), len(older) - 1)
            again |= older[at] == keys
        if again.any():
            first = int(np.argmax(again))
            raise self._source.row_error(
                rows.row + int(starts[first]),
                f"session {batch.session_ids[first]} comes back after another session began; "
                "sort the file by session (read_log and build_sessions need no sorting)",
            )
        self._runs.append(run)
        # like a binary counter: few runs, each at least twice as long as the next
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            merged = np.concatenate([self._runs.pop(), self._runs.pop()])
            self._runs.append(np.sort(merged))
        return batch


def _keys(ids: Ids) -> NDArray[np.int64]:
    if ids.dtype.kind == "i":
        return cast("NDArray[np.int64]", ids)
    digests = b"".join(
        hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ids.tolist()
    )
    return np.frombuffer(digests, dtype=np.int64)
