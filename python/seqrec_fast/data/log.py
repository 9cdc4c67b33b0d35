"""Interaction logs: who clicked what, when, as raw columns."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast.data._blocks import integer_ids, read_blocks, string_ids
from seqrec_fast.data._source import Source, open_source
from seqrec_fast.data.vocabulary import Ids, as_ids


@dataclass(frozen=True)
class InteractionLog:
    """One row per interaction, in the order of the file.

    Attributes
    ----------
    session_ids : (n_events,) int64 or str array
        Session (or user) of each event, in the user's own ids.
    item_ids : (n_events,) int64 or str array
        Item of each event, in the user's own ids.
    times : (n_events,) float64 array or None
        Time of each event in seconds; None where the order of the rows is the only clock.
    labels : (n_events,) int8 array or None
        1 where the item was clicked, 0 where it was shown only; None: all rows are clicks.

    Raises
    ------
    ValueError
        If the columns differ in length, are not one-dimensional, a time is not finite, or a label
        is neither 0 nor 1.
    TypeError
        If ids are neither integers nor strings.
    """

    session_ids: Ids
    item_ids: Ids
    times: NDArray[np.float64] | None = None
    labels: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        """Bring the columns to their dtypes and check that they belong together."""
        for name in ("session_ids", "item_ids"):
            object.__setattr__(self, name, as_ids(getattr(self, name), f"InteractionLog: {name}"))
        if self.times is not None:
            object.__setattr__(self, "times", np.asarray(self.times, dtype=np.float64))
        if self.labels is not None:
            labels = np.asarray(self.labels)
            if not np.isin(labels, (0, 1)).all():
                raise ValueError("InteractionLog: labels holds another value than 0 and 1")
            object.__setattr__(self, "labels", labels.astype(np.int8))
        for name in ("item_ids", "times", "labels"):
            column = getattr(self, name)
            if column is not None and column.shape != self.session_ids.shape:
                raise ValueError(
                    f"InteractionLog: {name} has shape {column.shape}; expected "
                    f"{self.session_ids.shape} as session_ids"
                )
        if self.times is not None and not np.isfinite(self.times).all():
            raise ValueError("InteractionLog: times holds NaN or infinity; expected seconds")

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.session_ids)


def read_log(
    path: str | os.PathLike[str],
    *,
    format: str = "auto",
    session_column: str | None = None,
    item_column: str | None = None,
    time_column: str | None = None,
    label_column: str | None = None,
) -> InteractionLog:
    """Read an interaction log from a CSV, TSV, Parquet or plain text file.

    Text may be compressed (``.gz``, ``.bz2``, ``.zst``). Rows keep the order of the file, and
    the rows of a session need not be neighbours: :func:`build_sessions` puts them together.

    Parameters
    ----------
    path : str or path-like
        The file.
    format : {"auto", "table", "pairs", "lines"}
        ``"table"``: Parquet, or text with a header; the separator (tab, comma, semicolon,
        space) is found from the header. ``"pairs"``: ``user item`` in each line, no header,
        oldest first. ``"lines"``: one session per line, its items separated by spaces, oldest
        first; a session's id is the number of its line, from 1. ``"auto"`` tells them apart:
        a header with known names is a table, exactly two fields in every line are pairs, a
        varying number of fields is one session per line.
    session_column, item_column, time_column : str, optional
        Names of the columns. By default they are found without regard to case, underscores
        and RecBole's ``:token`` endings: SessionId (or UserId), ItemId, Time (or timestamp).
        A table without a time column is in time order already.
    label_column : str, optional
        Name of the column that says whether the item was clicked: 0 and 1, or false and true. By
        default there are no labels.

    Returns
    -------
    InteractionLog
        Ids are int64 where all ids of the column are integers, else strings. Times are
        seconds: numbers are taken as they are, dates are counted from 1970 (UTC).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, has no rows, lacks a column, or has a row without an id, with a
        time or label that is none, or with the wrong number of fields. The message names file,
        column and row; rows are counted from 1, without the header.
    ImportError
        If pyarrow is not installed.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "clicks.tsv")
    >>> write_log(InteractionLog([7, 7], ["shoe", "hat"], [10, 12]), path)
    >>> log = read_log(path)
    >>> log.item_ids.tolist(), log.times.tolist()
    (['shoe', 'hat'], [10.0, 12.0])
    """
    source = open_source(
        "read_log",
        path,
        format=format,
        session_column=session_column,
        item_column=item_column,
        time_column=time_column,
        label_column=label_column,
    )
    blocks = list(read_blocks(source))
    if not any(len(block.items) for block in blocks):
        raise source.error("has no rows")
    times = [block.times for block in blocks if block.times is not None]
    labels = [block.labels for block in blocks if block.labels is not None]
    return InteractionLog(
        _join_ids([block.sessions for block in blocks], source),
        _join_ids([block.items for block in blocks], source),
        np.concatenate(times) if times else None,
        np.concatenate(labels) if labels else None,
    )


def _join_ids(columns: list[Any], source: Source) -> Ids:
    typed = source.layout == "parquet"
    parts = []
    for column in columns:
        integers = integer_ids(column, typed=typed)
        if integers is None:
            return np.concatenate([string_ids(column) for column in columns])
        parts.append(integers)
    return np.concatenate(parts)


def write_log(log: InteractionLog, path: str | os.PathLike[str]) -> None:
    """Write a log as a tab-separated table with columns SessionId, ItemId, Time and Label.

    The file appears under its name when it is complete, never half written.

    Parameters
    ----------
    log : InteractionLog
        The log; the columns of times and labels are left out where it has none.
    path : str or path-like
        The file to write; :func:`read_log` reads it back.

    Raises
    ------
    ValueError
        If an id holds a tab, a quote or a line break.
    OSError
        If the file cannot be written.
    """
    columns: list[list[str]] = []
    for ids in (log.session_ids, log.item_ids):
        texts = ids.astype(np.str_).tolist()
        bad = next((t for t in texts if any(c in t for c in '\t"\r\n')), None)
        if bad is not None:
            raise ValueError(f"write_log: id {bad!r} holds a tab, a quote or a line break")
        columns.append(texts)
    header = ["SessionId", "ItemId"]
    if log.times is not None:
        header.append("Time")
        columns.append([repr(time) for time in log.times.tolist()])
    if log.labels is not None:
        header.append("Label")
        columns.append([str(label) for label in log.labels.tolist()])

    def rows() -> Iterable[str]:
        yield "\t".join(header) + "\n"
        for row in zip(*columns, strict=True):
            yield "\t".join(row) + "\n"

    from seqrec_fast.io import replacing  # which reads vocabularies of this package

    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(rows())
