"""Rows of an interaction file, block by block, as Arrow arrays and as NumPy arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast.data._source import Column, Source, import_pyarrow, open_bytes

_BLOCK_BYTES = 1 << 20
_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class Block:
    """Consecutive rows, ids as Arrow arrays; `row` numbers the first (from 1, no header)."""

    sessions: Any
    items: Any
    times: NDArray[np.float64] | None
    row: int
    labels: NDArray[np.int8] | None = None


def read_blocks(source: Source) -> Iterator[Block]:
    """Yield the rows of a file in order; raise for the first row that is no interaction."""
    reader = {"parquet": _parquet, "table": _table, "pairs": _pairs, "lines": _lines}
    for block in reader[source.layout](source):
        _check_present(source, block.sessions, source.session, block.row)
        _check_present(source, block.items, source.item, block.row)
        yield block


def integer_ids(column: Any, *, typed: bool) -> NDArray[np.int64] | None:
    """Return ids as int64, or None where they must stay strings.

    Text counts as an integer when it is written as one (``7``, not ``007`` or ``7.0``), so
    that writing the id again gives back what the file holds. A string column of a file that
    knows types (``typed``) stays a string column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    is_text = _is_text(column.type)
    if is_text and typed:
        return None
    try:
        integers = pc.cast(column, pa.int64())
    except pa.ArrowInvalid:
        return None
    if is_text and not pc.all(pc.equal(pc.cast(integers, column.type), column)).as_py():
        return None
    return np.ascontiguousarray(integers.to_numpy(zero_copy_only=False), dtype=np.int64)


def string_ids(column: Any) -> NDArray[np.str_]:
    """Return ids as a NumPy string array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.asarray(pc.cast(column, pa.string()).to_numpy(zero_copy_only=False)).astype(np.str_)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_present(source: Source, column: Any, name: Column, row: int) -> None:
    import pyarrow.compute as pc

    missing = pc.is_null(column)
    if _is_text(column.type):
        missing = pc.or_(missing, pc.fill_null(pc.equal(column, ""), True))
    first = pc.index(missing, True).as_py()
    if first >= 0:
        raise source.row_error(row + first, f"column {name.name!r} has no value")


def _columns(source: Source) -> list[Column]:
    """Return the columns to read; that of the times is the third, that of the labels the last."""
    found = (source.session, source.item, source.time, source.label)
    return [column for column in found if column is not None]


def _labels(source: Source, column: Any, row: int) -> NDArray[np.int8]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.float64() if _casts(column.slice(0, 1), pa.float64()) else pa.bool_()
    try:
        numbers = pc.cast(pc.cast(column, kind), pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        good = [_casts(column.slice(i, 1), kind) for i in range(len(column))]
        numbers = pc.if_else(pa.array(good), 1.0, None)
    values = np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        at = int(np.argmax(wrong))
        assert source.label is not None
        raise source.row_error(
            row + at, f"column {source.label.name!r} holds {column[at].as_py()!r}; expected 0 or 1"
        )
    return values.astype(np.int8)


def _table(source: Source) -> Iterator[Block]:
    pa = import_pyarrow(source.caller)
    columns = _columns(source)
    rejected: list[Any] = []

    def reject(row: Any) -> str:
        rejected.append(row)
        return "error"

    options = {
        # columns go by position: a header may repeat a name that nobody asks for
        "read_options": pa.csv.ReadOptions(
            use_threads=False,
            block_size=_BLOCK_BYTES,
            skip_rows=source.skip_rows,
            column_names=[str(i) for i in range(source.n_columns)],
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter=source.separator, invalid_row_handler=reject
        ),
        "convert_options": pa.csv.ConvertOptions(
            include_columns=[str(column.index) for column in columns],
            column_types={str(column.index): pa.string() for column in columns},
        ),
    }
    times = _Seconds(source)
    row = 1
    try:
        with open_bytes(source.path, source.caller) as stream:
            for batch in pa.csv.open_csv(stream, **options):
                if batch.num_rows == 0:
                    continue
                values = [pa.compute.utf8_trim_whitespace(column) for column in batch.columns]
                seconds = times.convert(values[2], row) if source.time else None
                labels = _labels(source, values[-1], row) if source.label else None
                yield Block(values[0], values[1], seconds, row, labels)
                row += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        if rejected:
            bad = rejected[0]
            raise source.row_error(
                bad.number - source.skip_rows,
                f"{bad.actual_columns} fields; expected {bad.expected_columns} as in the "
                f"header: {bad.text[:80]!r}",
            ) from None
        raise source.error(f"cannot be read: {error}") from error


def _parquet(source: Source) -> Iterator[Block]:
    pa = import_pyarrow(source.caller)
    columns = _columns(source)
    times = _Seconds(source)
    row = 1
    try:
        with pa.parquet.ParquetFile(source.path) as file:
            for batch in file.iter_batches(_BLOCK_ROWS, columns=[c.name for c in columns]):
                session, item = (_id_column(source, batch, c) for c in columns[:2])
                seconds = (
                    times.convert(batch.column(source.time.name), row) if source.time else None
                )
                labels = (
                    _labels(source, batch.column(source.label.name), row) if source.label else None
                )
                yield Block(session, item, seconds, row, labels)
                row += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise source.error(f"cannot be read: {error}") from error


def _id_column(source: Source, batch: Any, name: Column) -> Any:
    import pyarrow as pa

    column = batch.column(name.name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if str(column.type) == "string_view":
        column = column.cast(pa.string())
    kind = column.type
    if pa.types.is_integer(kind) or _is_text(kind):
        return column
    if pa.types.is_floating(kind):
        # pandas turns integer ids into floats as soon as one of them is missing
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    raise source.error(
        f"column {name.name!r} holds values of type {kind}; expected integers or strings"
    )


def _text_blocks(source: Source) -> Iterator[list[str]]:
    try:
        with io.TextIOWrapper(open_bytes(source.path, source.caller), "utf-8-sig") as text:
            while lines := text.readlines(_BLOCK_BYTES):
                yield lines
    except UnicodeDecodeError as error:
        raise source.error(f"cannot be read: {error}") from error
    except OSError as error:
        raise source.error(f"cannot be read: {error}") from error


def _pairs(source: Source) -> Iterator[Block]:
    import pyarrow as pa

    row = 1
    for lines in _text_blocks(source):
        fields = [line.split() for line in lines]
        kept = [pair for pair in fields if pair]
        if any(len(pair) != 2 for pair in kept):
            at = next(i for i, pair in enumerate(fields) if pair and len(pair) != 2)
            raise source.row_error(
                row + at,
                f"{len(fields[at])} fields; expected 2, `user item` (a file with one session "
                f"per line is format='lines'): {lines[at].rstrip()[:80]!r}",
            )
        if kept:
            users, items = zip(*kept, strict=True)
            yield Block(pa.array(users, pa.string()), pa.array(items, pa.string()), None, row)
        row += len(lines)


def _lines(source: Source) -> Iterator[Block]:
    """Read one session per line; its id is the number of its line, from 1."""
    import pyarrow as pa

    row = 1
    for lines in _text_blocks(source):
        fields = [line.split() for line in lines]
        lengths = np.array([len(items) for items in fields], dtype=np.int64)
        numbers = np.repeat(np.arange(row, row + len(lines), dtype=np.int64), lengths)
        if len(numbers):
            items = pa.array([item for line in fields for item in line], pa.string())
            yield Block(pa.array(numbers), items, None, row)
        row += len(lines)


class _Seconds:
    """Turns the time column into seconds; the first block decides between numbers and dates."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kind: Any = None

    def convert(self, column: Any, row: int) -> NDArray[np.float64]:
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("s"))
        if pa.types.is_timestamp(column.type):
            return self._finite(_seconds_of(column), column, row)
        if self._kind is None:
            # numbers first; dates with an offset from UTC; dates without, taken as UTC
            kinds = (pa.float64(), pa.timestamp("ns", "UTC"), pa.timestamp("ns"))
            first = column.slice(0, 1)
            self._kind = next((kind for kind in kinds if _casts(first, kind)), pa.float64())
        try:
            converted = pc.cast(column, self._kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            texts = pc.cast(column, pa.string())
            at = next(i for i in range(len(texts)) if not _casts(texts.slice(i, 1), self._kind))
            raise self._error(texts[at].as_py(), row + at) from None
        return self._finite(_seconds_of(converted), column, row)

    def _finite(self, seconds: NDArray[np.float64], column: Any, row: int) -> NDArray[np.float64]:
        if not np.isfinite(seconds).all():
            at = int(np.argmin(np.isfinite(seconds)))
            raise self._error(column[at].as_py(), row + at)
        return seconds

    def _error(self, value: object, row: int) -> ValueError:
        assert self._source.time is not None
        return self._source.row_error(
            row,
            f"column {self._source.time.name!r} holds {value!r}; expected a number of seconds "
            "or a date and time",
        )


def _casts(column: Any, kind: Any) -> bool:
    import pyarrow as pa

    try:
        column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _seconds_of(column: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    if not pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    ticks = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
    values = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64) / ticks
