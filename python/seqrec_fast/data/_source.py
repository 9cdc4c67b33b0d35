"""What an interaction file is: its layout, its separator, where its columns stand."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from typing import Any

_SESSION_NAMES = ("sessionid", "session", "userid", "user", "visitorid", "uid")
_ITEM_NAMES = ("itemid", "item", "productid", "movieid", "iid")
_TIME_NAMES = ("time", "timestamp", "datetime", "ts")
_FORMATS = ("auto", "table", "pairs", "lines")
_SEPARATORS = ("\t", ",", ";", " ")
_SAMPLE_BYTES = 1 << 18
# Names of the columns of sessions, items, times and labels, as far as they are given.
_Wanted = tuple[str | None, str | None, str | None, str | None]
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@dataclass(frozen=True)
class Column:
    """A column of a table: its name as the file writes it, and its position."""

    name: str
    index: int


@dataclass(frozen=True)
class Source:
    """An interaction file whose layout is known.

    ``layout`` is ``"parquet"``, ``"table"``, ``"pairs"`` or ``"lines"``; the fields below it
    are set for the first two only (``separator`` and ``skip_rows`` for ``"table"`` only).
    ``caller`` is the public function that error messages name.
    """

    caller: str
    path: str
    layout: str
    session: Column = field(default_factory=lambda: Column("session", 0))
    item: Column = field(default_factory=lambda: Column("item", 1))
    time: Column | None = None
    label: Column | None = None
    n_columns: int = 0
    separator: str = ","
    skip_rows: int = 0

    def error(self, message: str) -> ValueError:
        """Make the exception for ``message``, with the function and the file in front."""
        return ValueError(f"{self.caller}: {self.path} {message}")

    def row_error(self, row: int, message: str) -> ValueError:
        """Make the exception for one row, counted from 1 and without the header."""
        return ValueError(f"{self.caller}: {self.path}, row {row}: {message}")


def import_pyarrow(caller: str) -> Any:
    """Import pyarrow, or say how to install it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{caller}: reading interaction files needs pyarrow: pip install seqrec-fast[train]"
        ) from error
    return pyarrow


def open_bytes(source_path: str, caller: str) -> Any:
    """Open a file for reading, decompressed by the ending of its name."""
    pa = import_pyarrow(caller)
    ending = os.path.splitext(source_path)[1].lower()
    return pa.input_stream(source_path, compression=COMPRESSIONS.get(ending))


def open_source(
    caller: str,
    path: str | os.PathLike[str],
    *,
    format: str = "auto",
    session_column: str | None = None,
    item_column: str | None = None,
    time_column: str | None = None,
    label_column: str | None = None,
) -> Source:
    """Look at the beginning of a file and find its layout and its columns."""
    name = os.fspath(path)
    if format not in _FORMATS:
        raise ValueError(f"{caller}: format is {format!r}; expected one of {', '.join(_FORMATS)}")
    wanted = (session_column, item_column, time_column, label_column)
    if format in ("pairs", "lines") and any(wanted):
        raise ValueError(f"{caller}: format={format!r} has no columns to name")
    if os.path.isdir(name):
        raise IsADirectoryError(f"{caller}: {name} is a folder; expected a file")
    if not os.path.exists(name):
        raise FileNotFoundError(f"{caller}: no file {name}")
    with open(name, "rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        if format in ("pairs", "lines"):
            raise ValueError(f"{caller}: {name} is a Parquet file; format is {format!r}")
        return _parquet_source(caller, name, wanted)
    lines = _sample_lines(caller, name)
    if not any(line.strip() for line in lines):
        raise ValueError(f"{caller}: {name} is empty")
    if any("\0" in line for line in lines):
        raise ValueError(
            f"{caller}: {name} holds bytes that are no text; expected UTF-8 text or Parquet"
        )
    if any("\r" in line.rstrip("\r") for line in lines[:1]):
        raise ValueError(
            f"{caller}: {name} has lines that end in a carriage return alone; expected newlines"
        )
    try:
        if format == "auto":
            format = "table" if any(wanted) else _detect_layout(caller, name, lines)
        if format != "table":
            return Source(caller, name, format)
        return _table_source(caller, name, lines, wanted)
    except csv.Error as error:
        raise ValueError(
            f"{caller}: {name} has a first line that is no row of a table: {error}"
        ) from error


def _sample_lines(caller: str, name: str) -> list[str]:
    try:
        with open_bytes(name, caller) as stream:
            # decompressed streams hand out short reads: ask until the sample is full
            parts, size = [], 0
            while size < _SAMPLE_BYTES and (part := stream.read(_SAMPLE_BYTES - size)):
                parts.append(part)
                size += len(part)
    except OSError as error:
        raise ValueError(f"{caller}: {name} cannot be read: {error}") from error
    lines = b"".join(parts).decode("utf-8-sig", errors="replace").split("\n")
    return lines[:-1] if size >= _SAMPLE_BYTES and len(lines) > 1 else lines


def _detect_layout(caller: str, name: str, lines: list[str]) -> str:
    """Tell a table with a header from ``user item`` pairs and from one session per line."""
    rows = [line for line in lines if line.strip()]
    if any(_recognised(_split(rows[0], separator)) for separator in _SEPARATORS):
        return "table"
    if "," in rows[0] or ";" in rows[0]:
        return "table"
    fields = [row.split() for row in rows]
    counts = {len(row) for row in fields}
    words_above_numbers = not any(map(_is_number, fields[0])) and all(
        _is_number(value) for row in fields[1:] for value in row
    )
    if len(rows) > 1 and len(counts) == 1 and len(fields[0]) > 1 and words_above_numbers:
        return "table"
    if counts == {2}:
        return "pairs"
    if "\t" in rows[0]:
        return "table"
    if len(counts) == 1 and len(rows) > 1 and counts != {1}:
        raise ValueError(
            f"{caller}: {name} has {len(fields[0])} fields in every line and no header; say "
            "format='lines' if a line is a session, or give the file a header with column names"
        )
    return "lines"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split(line: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]


def _plain(name: str) -> str:
    """Reduce a column name: no RecBole type, no case, no punctuation."""
    return "".join(c for c in name.split(":")[0].lower() if c.isalnum())


def _recognised(names: list[str]) -> int:
    """Count the columns (of session, item, time) that the names hold."""
    plain = {_plain(name) for name in names}
    return sum(bool(plain & set(known)) for known in (_SESSION_NAMES, _ITEM_NAMES, _TIME_NAMES))


def _table_source(caller: str, name: str, lines: list[str], wanted: _Wanted) -> Source:
    header_row = next(i for i, line in enumerate(lines) if line.strip())
    header = lines[header_row]

    def fitness(separator: str) -> tuple[int, int]:
        names = _split(header, separator)
        return sum(column in names for column in wanted if column) + _recognised(names), len(names)

    separator = max(_SEPARATORS, key=fitness)
    names = _split(header, separator)
    found = _find_columns(caller, name, names, wanted)
    if not any(line.strip() for line in lines[header_row + 1 :]):
        raise ValueError(f"{caller}: {name} has no rows")
    return Source(caller, name, "table", *found, len(names), separator, header_row + 1)


def _parquet_source(caller: str, name: str, wanted: _Wanted) -> Source:
    pa = import_pyarrow(caller)
    try:
        with pa.parquet.ParquetFile(name) as file:
            names = list(file.schema_arrow.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{caller}: {name} is not a readable Parquet file: {error}") from error
    return Source(caller, name, "parquet", *_find_columns(caller, name, names, wanted), len(names))


def _find_columns(
    caller: str, path: str, names: list[str], wanted: _Wanted
) -> tuple[Column, Column, Column | None, Column | None]:
    kinds = (
        ("session_column", "SessionId", _SESSION_NAMES),
        ("item_column", "ItemId", _ITEM_NAMES),
        ("time_column", None, _TIME_NAMES),
        ("label_column", None, ()),  # only where it is named
    )
    found = [
        _find_column(f"{caller}: {path}", names, column, *kind)
        for column, kind in zip(wanted, kinds, strict=True)
    ]
    session, item, time, label = found
    assert session is not None
    assert item is not None
    return session, item, time, label


def _find_column(
    where: str,
    names: list[str],
    wanted: str | None,
    option: str,
    example: str | None,
    known: tuple[str, ...],
) -> Column | None:
    listed = ", ".join(names)
    if wanted is not None:
        matches = [i for i, name in enumerate(names) if wanted in (name, name.split(":")[0])]
        if not matches:
            raise ValueError(
                f"{where} has no column {wanted!r} (from {option}); columns are {listed}"
            )
    else:
        plain = [_plain(name) for name in names]
        best = next((name for name in known if name in plain), None)
        matches = [i for i, name in enumerate(plain) if name == best]
        if not matches and example is not None:
            raise ValueError(
                f"{where} has no column {example!r}; columns are {listed} "
                f"(name it with {option}=...)"
            )
    if not matches:
        return None
    if len(matches) > 1:
        raise ValueError(f"{where} has {len(matches)} columns {names[matches[0]]!r}: {listed}")
    return Column(names[matches[0]], matches[0])
