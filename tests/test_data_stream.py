from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from seqrec_fast.data import _blocks, build_sessions, iter_sessions, read_log, stream  # noqa: E402


def write(folder: Path, text: str, name: str = "clicks.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def as_lists(path: Path, **options) -> list[tuple]:
    result = []
    for batch in iter_sessions(path, **options):
        assert batch.offsets.dtype == np.int64
        assert batch.offsets[0] == 0
        assert batch.offsets[-1] == len(batch.item_ids)
        assert len(batch) == len(batch.offsets) - 1
        for i, session in enumerate(batch.session_ids.tolist()):
            items = batch.item_ids[batch.offsets[i] : batch.offsets[i + 1]].tolist()
            result.append((session, items))
    return result


def test_sorted_by_time_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "SessionId,ItemId,Time\n9,a,3\n9,b,1\n9,c,3\n2,d,0\n"
    assert as_lists(write(tmp_path, text)) == [(9, ["b", "a", "c"]), (2, ["d"])]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batches_have_the_asked_size(tmp_path: Path, batch_size: int) -> None:
    path = write(tmp_path, "1 2\n3 4 5\n6\n7 8\n9\n")
    sizes = [len(batch) for batch in iter_sessions(path, batch_size=batch_size)]
    assert sum(sizes) == 5
    assert set(sizes[:-1]) <= {batch_size}
    assert as_lists(path, batch_size=batch_size)[1] == (2, [3, 4, 5])


sessions = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=30), min_size=1, max_size=60)


@settings(deadline=None, max_examples=40)
@given(sessions, st.integers(1, 20), st.sampled_from(["csv", "parquet", "pairs", "lines"]))
def test_equals_read_log_and_build_sessions(tmp_path_factory, lists, batch_size, layout) -> None:
    folder = tmp_path_factory.mktemp("stream")
    owner = np.repeat(np.arange(len(lists)), [len(one) for one in lists]) * 7 - 3
    items = [item for one in lists for item in one]
    if layout == "lines":
        path = write(folder, "".join(" ".join(map(str, one)) + "\n" for one in lists))
        options = {"format": "lines"}
    elif layout == "pairs":
        path = write(folder, "".join(f"{u} {i}\n" for u, i in zip(owner, items, strict=True)))
        options = {"format": "pairs"}
    else:
        times = [item % 3 for item in items]
        frame = pa.table({"SessionId": owner, "ItemId": items, "Time": times})
        path, options = folder / f"x.{layout}", {}
        if layout == "csv":
            pa.csv.write_csv(frame, path)
        else:
            pq.write_table(frame, path, row_group_size=7)
    with mock.patch.multiple(_blocks, _BLOCK_BYTES=128, _BLOCK_ROWS=5):
        streamed = as_lists(path, batch_size=batch_size, **options)
    whole, vocabulary, _ = build_sessions(read_log(path, **options), min_session_length=1)
    assert streamed == [
        (name, vocabulary.ids[whole[i]].tolist())
        for i, name in enumerate(whole.session_ids.tolist())
    ]


@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
@pytest.mark.parametrize("prefix", ["", "s"])
def test_a_session_that_comes_back(
    tmp_path: Path, block_bytes: int, batch_size: int, prefix: str
) -> None:
    rows = [(i // 2, i) for i in range(40)] + [(5, 1)]
    text = "SessionId,ItemId\n" + "".join(f"{prefix}{s},{i}\n" for s, i in rows)
    path = write(tmp_path, text)
    with (
        mock.patch.object(_blocks, "_BLOCK_BYTES", block_bytes),
        pytest.raises(ValueError, match=rf"iter_sessions: .*row 41: session {prefix}5 comes back"),
    ):
        list(iter_sessions(path, batch_size=batch_size))


def test_sessions_that_come_back_in_lines_are_different_ones(tmp_path: Path) -> None:
    assert as_lists(write(tmp_path, "1 2 3\n4\n1 2 3\n")) == [
        (1, [1, 2, 3]),
        (2, [4]),
        (3, [1, 2, 3]),
    ]


def test_ids_have_one_type_in_the_whole_file(tmp_path: Path) -> None:
    text = "SessionId,ItemId\n" + "".join(f"{i},{i}\n" for i in range(50)) + "x,9\n"
    path = write(tmp_path, text)
    with mock.patch.object(_blocks, "_BLOCK_BYTES", 64):
        batches = list(iter_sessions(path, batch_size=10))
    assert {batch.session_ids.dtype.kind for batch in batches} == {"U"}
    assert {batch.item_ids.dtype.kind for batch in batches} == {"i"}


def test_many_finished_sessions_take_eight_bytes_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keepers = []

    class Kept(stream._FinishedSessions):
        def __init__(self, source) -> None:
            super().__init__(source)
            keepers.append(self)

    monkeypatch.setattr(stream, "_FinishedSessions", Kept)
    path = write(tmp_path, "SessionId,ItemId\n" + "".join(f"s{i},1\n" for i in range(5000)))
    assert sum(len(batch) for batch in iter_sessions(path, batch_size=64)) == 5000
    (keeper,) = keepers
    assert sum(run.nbytes for run in keeper._runs) == 8 * 5000
    assert len(keeper._runs) < 16


def test_errors_of_the_call_itself(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        iter_sessions(tmp_path / "x", batch_size=0)
    with pytest.raises(FileNotFoundError, match="iter_sessions: no file"):
        iter_sessions(tmp_path / "x")
    with pytest.raises(ValueError, match=r"iter_sessions: .*clicks\.txt is empty"):
        iter_sessions(write(tmp_path, ""))
    with pytest.raises(ValueError, match="has no rows"):
        iter_sessions(write(tmp_path, "SessionId,ItemId\n"))
    with pytest.raises(ValueError, match="no column 'ItemId'"):
        iter_sessions(write(tmp_path, "SessionId,b\n1,2\n"))
    with pytest.raises(ValueError, match=r"row 2: column 'Time' holds 'x'"):
        list(iter_sessions(write(tmp_path, "SessionId,ItemId,Time\n1,2,3\n1,2,x\n")))
