"""``seqrec-fast recommend``: from a file of sessions to a file of recommendations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np

from seqrec_fast.cli._options import (
    check_output,
    device_option,
    exclude_seen_option,
    log_options,
    model_argument,
    module_on,
    precision_option,
    progress,
    threads_option,
)

if TYPE_CHECKING:
    from seqrec_fast.data import InteractionLog, ItemVocabulary, RaggedLog
    from seqrec_fast.data.vocabulary import Ids

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@click.command(short_help="Recommend the next items of each session in a file.")
@model_argument
@click.argument("sessions", type=click.Path())
@click.option(
    "--out", required=True, type=click.Path(), help="File to write: .parquet, .csv or .tsv."
)
@click.option("--k", default=20, show_default=True, type=click.IntRange(1), help="Items a session.")
@exclude_seen_option("Leave out the items of the session.")
@click.option(
    "--label-column",
    metavar="NAME",
    help="SESSIONS holds items that were shown; column that says whether one was clicked (1) or "
    "not (0). Those clicked alone are the session. SESSIONS is then read as a whole.",
)
@click.option(
    "--batch-size",
    default=1024,
    show_default=True,
    type=click.IntRange(1),
    help="Sessions answered at a time.",
)
@precision_option
@device_option
@threads_option
@log_options
def recommend(
    model: str,
    sessions: str,
    out: str,
    k: int,
    exclude_seen: bool,
    label_column: str | None,
    batch_size: int,
    precision: str,
    device: str | None,
    threads: int | None,
    columns: dict[str, Any],
) -> None:
    """Recommend the next items of each session in the file SESSIONS.

    SESSIONS is read piece by piece, so that it may be larger than the memory; the rows of a
    session must be neighbours. The output has the columns SessionId, Rank (from 1), ItemId and
    Score. It appears under its name when it is complete.

    \b
    Examples:
      seqrec-fast recommend model.safetensors sessions.parquet --out recs.parquet
      seqrec-fast recommend model.safetensors today.tsv --out recs.csv --k 5 --exclude-seen
      seqrec-fast recommend themes.safetensors shown.tsv --label-column click --out recs.csv
    """  # noqa: D301 - a mark for click
    from seqrec_fast.data import iter_sessions, read_log
    from seqrec_fast.recommender import load

    ending = os.path.splitext(out)[1].lower()
    if ending != ".parquet" and ending not in _SEPARATORS:
        raise click.BadParameter(
            f"{out} ends in {ending or 'nothing'!r}; expected .parquet, .csv or .tsv",
            param_hint="--out",
        )
    check_output(out, model, sessions)
    on_device = module_on("recommend", model, device, precision)
    recommender = load(model, precision=precision) if on_device is None else _served(*on_device)
    if not hasattr(recommender, "recommend"):
        raise ValueError(
            f"recommend: {model} is a click-through model ({recommender.model}), which scores "
            "given items; expected a recommender of the next item"
        )
    if label_column is None:
        batches = iter_sessions(sessions, batch_size=batch_size, **columns)
    else:
        shown = read_log(sessions, label_column=label_column, **columns)
        batches = _clicks(shown, batch_size)
    n_sessions = 0
    with progress(unit=" sessions", unit_scale=True) as bar, _writer(out, ending) as write:
        for batch in batches:
            write(_rows(recommender, batch, k, exclude_seen))
            n_sessions += len(batch)
            bar.update(len(batch))
    click.echo(f"{out}: {n_sessions:,} sessions")
    if recommender.unknown_items:
        click.echo(f"skipped {recommender.unknown_items:,} events of unknown items", err=True)


def _served(model: Any, vocabulary: ItemVocabulary) -> Any:
    from seqrec_fast.models import DeviceRecommender, GRU4Rec

    if not isinstance(model, GRU4Rec):
        raise ValueError(
            f"recommend: the model is a {type(model).__name__}; expected a GRU4Rec on CUDA"
        )
    return DeviceRecommender(model, vocabulary)


def _clicks(shown: InteractionLog, batch_size: int) -> Iterator[RaggedLog]:
    """Yield the clicks of each session in the order of the file; a session may have none."""
    from seqrec_fast.data import RaggedLog
    from seqrec_fast.data.sessions import offsets_of

    assert shown.labels is not None
    names, first, of_row = np.unique(shown.session_ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    names = cast("Ids", names[order])
    session = np.argsort(order)[of_row]
    rows = np.flatnonzero(shown.labels)
    times = np.zeros(len(rows)) if shown.times is None else shown.times[rows]
    rows = rows[np.lexsort((times, session[rows]))]
    offsets = offsets_of(np.bincount(session[rows], minlength=len(names)))
    for begin in range(0, len(names), batch_size):
        bounds = offsets[begin : begin + batch_size + 1]
        part = rows[bounds[0] : bounds[-1]]
        yield RaggedLog(
            names[begin : begin + batch_size],
            shown.item_ids[part],
            bounds - bounds[0],
            None if shown.times is None else shown.times[part],
        )


def _rows(recommender: Any, batch: RaggedLog, k: int, exclude_seen: bool) -> dict[str, Any]:
    """Return the columns of the output for a batch of sessions."""
    times = {"times": batch.times} if recommender.uses_times else {}
    items, scores = recommender.recommend(
        batch.item_ids, k, exclude_seen, offsets=batch.offsets, **times
    )
    session, rank = np.nonzero(scores > -np.inf)
    return {
        "SessionId": batch.session_ids[session],
        "Rank": (rank + 1).astype(np.int32),
        "ItemId": items[session, rank],
        "Score": scores[session, rank],
    }


@contextmanager
def _writer(out: str, ending: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that appends columns to a file, which appears when the block is done."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    from seqrec_fast.io import replacing

    with replacing(out) as temporary:
        writer: Any = None

        def write(columns: dict[str, Any]) -> None:
            nonlocal writer
            table = pa.table(columns)
            if writer is None and ending == ".parquet":
                writer = pa.parquet.ParquetWriter(temporary, table.schema)
            elif writer is None:
                options = pa.csv.WriteOptions(delimiter=_SEPARATORS[ending], quoting_style="needed")
                writer = pa.csv.CSVWriter(temporary, table.schema, write_options=options)
            writer.write_table(table)

        try:
            yield write
        finally:
            if writer is not None:
                writer.close()
