from __future__ import annotations

import bz2
import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from seqrec_fast.data import InteractionLog, read_log, write_log  # noqa: E402

ROWS = [(3, 20, 5.0), (3, 10, 4.5), (1, 20, 6.0)]


def write(folder: Path, text: str | bytes, name: str = "clicks.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def table(header: str, separator: str = ",", end: str = "\n") -> str:
    rows = [separator.join(map(str, row)) for row in ROWS]
    return end.join([header, *rows]) + end


def assert_rows(log: InteractionLog) -> None:
    assert log.session_ids.dtype == np.int64
    assert log.session_ids.tolist() == [3, 3, 1]
    assert log.item_ids.dtype == np.int64
    assert log.item_ids.tolist() == [20, 10, 20]
    assert log.times is not None
    assert log.times.dtype == np.float64
    assert log.times.tolist() == [5.0, 4.5, 6.0]


@pytest.mark.parametrize(
    "names",
    [
        "SessionId ItemId Time",
        "session_id item_id timestamp",
        "user_id item_id timestamp",
        "UserId ItemId Time",
        "user_id:token item_id:token timestamp:float",
        "userId movieId timestamp",
        "SESSIONID ITEMID TIME",
    ],
)
@pytest.mark.parametrize("separator", ["\t", ",", ";", " "])
def test_finds_columns_and_separator(tmp_path: Path, names: str, separator: str) -> None:
    assert_rows(read_log(write(tmp_path, table(names.replace(" ", separator), separator))))


def test_columns_in_any_order_and_others_ignored(tmp_path: Path) -> None:
    text = "Time,Note,ItemId,Note,SessionId\n5,a,20,,3\n4.5,b,10,x,3\n6,,20,y,1\n"
    assert_rows(read_log(write(tmp_path, text)))


def test_session_goes_before_user(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, "UserId,SessionId,ItemId\n9,3,20\n"))
    assert log.session_ids.tolist() == [3]
    assert log.times is None


def test_named_columns(tmp_path: Path) -> None:
    path = write(tmp_path, table("who,what:token,when"))
    assert_rows(read_log(path, session_column="who", item_column="what", time_column="when"))
    log = read_log(
        write(tmp_path, table("SessionId,UserId,Time")),
        session_column="UserId",
        item_column="SessionId",
    )
    assert log.session_ids.tolist() == [20, 10, 20]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_blank_lines_spaces_and_byte_order_mark(tmp_path: Path, end: str) -> None:
    text = "\ufeff" + end + "SessionId, ItemId, Time" + end + "3, 20, 5" + end + end
    text += " 3,10 ,4.5" + end + "1,20,6"
    assert_rows(read_log(write(tmp_path, text)))


@pytest.mark.parametrize(
    ("name", "compress"), [("c.csv.gz", gzip.compress), ("c.csv.bz2", bz2.compress)]
)
def test_compressed(tmp_path: Path, name: str, compress) -> None:
    assert_rows(read_log(write(tmp_path, compress(table("SessionId,ItemId,Time").encode()), name)))
    lines = read_log(write(tmp_path, compress(b"1 2 3\n4\n"), name))
    assert lines.item_ids.tolist() == [1, 2, 3, 4]


def test_zstd(tmp_path: Path) -> None:
    path = tmp_path / "clicks.tsv.zst"
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(table("SessionId\tItemId\tTime", "\t").encode())
    assert_rows(read_log(path))


def test_large_compressed_file(tmp_path: Path) -> None:
    rows = "".join(f"{i // 5},{i % 97},{i}\n" for i in range(100_000))
    text = "SessionId,ItemId,Time\n" + rows
    log = read_log(write(tmp_path, gzip.compress(text.encode(), 1), "clicks.csv.gz"))
    np.testing.assert_array_equal(log.session_ids, np.arange(100_000) // 5)
    np.testing.assert_array_equal(log.times, np.arange(100_000))


def test_truncated_archive_names_the_file(tmp_path: Path) -> None:
    data = gzip.compress(b"SessionId,ItemId\n" + b"1,2\n" * 100_000)
    path = write(tmp_path, data[: len(data) // 2], "half.csv.gz")
    with pytest.raises(ValueError, match=r"half\.csv\.gz"):
        read_log(path)
    with pytest.raises(ValueError, match=r"not\.csv\.gz cannot be read"):
        read_log(write(tmp_path, b"SessionId,ItemId\n1,2\n", "not.csv.gz"))


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["7", "-3", "0"], "i"),
        (["7", "x", "0"], "U"),
        (["007", "7", "1"], "U"),
        (["1.0", "2", "3"], "U"),
        (["9223372036854775808", "1", "2"], "U"),
        (["9223372036854775807", "1", "2"], "i"),
        (["ä b", "日本", "NA"], "U"),
    ],
)
def test_ids_are_integers_only_if_all_are_written_as_integers(
    tmp_path: Path, ids: list[str], kind: str
) -> None:
    text = "SessionId,ItemId\n" + "".join(f"{one},5\n" for one in ids)
    log = read_log(write(tmp_path, text))
    assert log.session_ids.dtype.kind == kind
    assert log.session_ids.astype(str).tolist() == ids
    assert log.item_ids.dtype == np.int64


def test_a_late_string_makes_all_ids_strings(tmp_path: Path) -> None:
    text = "SessionId,ItemId\n" + "1,123456\n" * 200_000 + "1,x\n"
    log = read_log(write(tmp_path, text))
    assert log.item_ids.dtype.kind == "U"
    assert log.item_ids[0] == "123456"
    assert log.item_ids[-1] == "x"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2014-04-07T10:51:09.277Z", 1396867869.277),
        ("2014-04-07T12:51:09.277+02:00", 1396867869.277),
        ("2014-04-07 10:51:09", 1396867869.0),
        ("2014-04-07", 1396828800.0),
        ("1e3", 1000.0),
    ],
)
def test_times(tmp_path: Path, text: str, seconds: float) -> None:
    log = read_log(write(tmp_path, f"SessionId,ItemId,Time\n1,2,{text}\n"))
    assert log.times is not None
    assert log.times[0] == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("value", ["soon", "", "nan", "inf", "2014-04-07", "12,5"])
def test_time_that_is_no_time_names_column_row_and_value(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f'SessionId,ItemId,Time\n1,2,3\n1,2,4\n1,2,"{value}"\n1,2,5\n')
    with pytest.raises(ValueError, match=r"read_log: .*clicks\.txt, row 3: column 'Time'") as error:
        read_log(path)
    assert repr(value) in str(error.value) or value in ("nan", "inf")


def test_bad_time_far_down(tmp_path: Path) -> None:
    text = "SessionId,ItemId,Time\n" + "1,2,3\n" * 200_000 + "1,2,late\n"
    with pytest.raises(ValueError, match=r"row 200001: column 'Time' holds 'late'"):
        read_log(write(tmp_path, text))


@pytest.mark.parametrize(("row", "column"), [(",2", "SessionId"), ("1,", "ItemId"), ("1,  ", "It")])
def test_missing_id_names_column_and_row(tmp_path: Path, row: str, column: str) -> None:
    path = write(tmp_path, f"SessionId,ItemId\n1,2\n{row}\n")
    with pytest.raises(ValueError, match=rf"row 2: column '{column}\w*' has no value"):
        read_log(path)


@pytest.mark.parametrize("row", ["1,2", "1,2,3,4"])
def test_malformed_row(tmp_path: Path, row: str) -> None:
    path = write(tmp_path, f"SessionId,ItemId,Time\n1,2,3\n{row}\n1,2,4\n")
    with pytest.raises(ValueError, match=r"clicks\.txt, row 2: \d fields; expected 3"):
        read_log(path)


def test_missing_columns(tmp_path: Path) -> None:
    path = write(tmp_path, table("a,b,c"), "clicks.tsv")
    with pytest.raises(
        ValueError, match=r"no column 'SessionId'; columns are a, b, c \(name it with session_col"
    ):
        read_log(path)
    path = write(tmp_path, table("SessionId,b,c"))
    with pytest.raises(ValueError, match=r"no column 'ItemId'; .*item_column"):
        read_log(path)
    path = write(tmp_path, table("SessionId,ItemId,c"))
    with pytest.raises(
        ValueError, match=r"no column 'Time' \(from time_column\); columns are SessionId, ItemId, c"
    ):
        read_log(path, time_column="Time")
    path = write(tmp_path, table("ItemId,ItemId,SessionId"))
    with pytest.raises(ValueError, match="2 columns 'ItemId'"):
        read_log(path)


def test_files_without_rows(tmp_path: Path) -> None:
    for text in ("", "\n\n", "  \n"):
        with pytest.raises(ValueError, match=r"read_log: .*clicks\.txt is empty"):
            read_log(write(tmp_path, text))
    for text in ("SessionId,ItemId,Time", "SessionId,ItemId,Time\n", "SessionId,ItemId\n\n\n"):
        with pytest.raises(ValueError, match=r"clicks\.txt has no rows"):
            read_log(write(tmp_path, text))


def test_no_file_folder_and_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"read_log: no file .*nothing"):
        read_log(tmp_path / "nothing.csv")
    with pytest.raises(IsADirectoryError, match="folder"):
        read_log(tmp_path)
    with pytest.raises(ValueError, match="format is 'json'; expected one of auto"):
        read_log(tmp_path / "x", format="json")
    with pytest.raises(ValueError, match="format='pairs' has no columns"):
        read_log(tmp_path / "x", format="pairs", item_column="i")


def test_not_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clicks\.txt cannot be read.*(UTF|utf)"):
        read_log(write(tmp_path, b"SessionId,ItemId\n1,\xff\xfe\n"))
    with pytest.raises(ValueError, match=r"clicks\.txt cannot be read"):
        read_log(write(tmp_path, b"1 2 3\n4 \xff\n"))


@pytest.mark.parametrize(
    ("text", "sessions", "items"),
    [
        ("1 1\n1 2\n2 1\n", [1, 1, 2], [1, 2, 1]),
        ("u1\ti1\nu1\ti2", ["u1", "u1"], ["i1", "i2"]),
        ("1 2\n3 4 5\n", [1, 1, 2, 2, 2], [1, 2, 3, 4, 5]),
        ("a b c\r\n\r\nd\r\n", [1, 1, 1, 3], ["a", "b", "c", "d"]),
        ("5\n6\n", [1, 2], [5, 6]),
        ("5 6 7\n", [1, 1, 1], [5, 6, 7]),
    ],
)
def test_pairs_and_lines_are_told_apart(
    tmp_path: Path, text: str, sessions: list, items: list
) -> None:
    log = read_log(write(tmp_path, text))
    assert log.session_ids.tolist() == sessions
    assert log.item_ids.tolist() == items
    assert log.times is None


def test_a_layout_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "1 2\n3 4\n")
    assert read_log(path).session_ids.tolist() == [1, 3]
    assert read_log(path, format="lines").item_ids.tolist() == [1, 2, 3, 4]
    path = write(tmp_path, "1 2 3\n3 4 5\n")
    assert read_log(path, format="lines").session_ids.tolist() == [1, 1, 1, 2, 2, 2]
    assert read_log(write(tmp_path, "SessionId ItemId\n1 2\n"), format="table").item_ids == [2]


def test_ambiguous_and_unknown_headers_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 fields in every line and no header; say format='lin"):
        read_log(write(tmp_path, "1 2 3\n3 4 5\n"))
    for text in ("who what\n1 2\n3 4\n", "who\twhat\twhen\n1\t2\t3\n", "1,2\n3,4\n"):
        with pytest.raises(ValueError, match="no column 'SessionId'; columns are"):
            read_log(write(tmp_path, text))


def test_malformed_pair_names_its_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 2: 3 fields; expected 2, `user item`.*'1 2 3'"):
        read_log(write(tmp_path, "1 1\n1 2 3\n"), format="pairs")
    # taken for pairs from its beginning, and an odd line far behind it
    with pytest.raises(ValueError, match=r"row 100001: 1 fields.*format='lines'"):
        read_log(write(tmp_path, "1 1\n" * 100_000 + "7\n"))


def parquet(folder: Path, **columns) -> Path:
    path = folder / "clicks.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet(tmp_path: Path) -> None:
    sessions, items, times = zip(*ROWS, strict=True)
    names = {"SessionId": pa.array(sessions, pa.int32()), "ItemId": items, "Extra": items}
    assert_rows(read_log(parquet(tmp_path, **names, Time=times)))
    stamps = pa.array([5_000, 4_500, 6_000], pa.timestamp("ms", "UTC"))
    assert_rows(read_log(parquet(tmp_path, **names, Time=stamps)))
    floats = {"SessionId": [3.0, 3.0, 1.0], "ItemId": pa.array(items, pa.uint16())}
    assert_rows(read_log(parquet(tmp_path, **floats, Time=times)))


def test_parquet_strings_stay_strings(tmp_path: Path) -> None:
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        items = pa.array(["7", "8"]).cast(kind)
        log = read_log(parquet(tmp_path, session_id=[1, 1], item_id=items))
        assert log.item_ids.dtype.kind == "U"
        assert log.item_ids.tolist() == ["7", "8"]


def test_parquet_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clicks\.parquet, row 2: column 'i' has no value"):
        read_log(parquet(tmp_path, s=[1, 1], i=[1, None]), session_column="s", item_column="i")
    with pytest.raises(ValueError, match=r"row 2: column 'Time' holds 'x'"):
        read_log(parquet(tmp_path, SessionId=[1, 1], ItemId=[1, 2], Time=["1", "x"]))
    with pytest.raises(ValueError, match=r"row 2: column 'Time' holds None"):
        read_log(parquet(tmp_path, SessionId=[1, 1], ItemId=[1, 2], Time=[1, None]))
    with pytest.raises(ValueError, match="'ItemId' holds values of type double; expected integers"):
        read_log(parquet(tmp_path, SessionId=[1], ItemId=[0.5]))
    with pytest.raises(ValueError, match="has no rows"):
        read_log(parquet(tmp_path, SessionId=pa.array([], pa.int64()), ItemId=[]))
    with pytest.raises(ValueError, match="no column 'ItemId'; columns are SessionId, b"):
        read_log(parquet(tmp_path, SessionId=[1], b=[1]))
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_log(write(tmp_path, b"PAR1 and no more", "clicks.parquet"))
    with pytest.raises(ValueError, match="is a Parquet file; format is 'lines'"):
        read_log(parquet(tmp_path, SessionId=[1], ItemId=[1]), format="lines")


def test_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install seqrec-fast\[train\]"):
        read_log(write(tmp_path, "1 2\n"))


def test_log_checks_its_columns() -> None:
    with pytest.raises(ValueError, match=r"item_ids has shape \(2,\); expected \(1,\)"):
        InteractionLog(np.array([1]), np.array([1, 2]))
    with pytest.raises(ValueError, match="NaN or infinity"):
        InteractionLog(np.array([1]), np.array([1]), np.array([np.nan]))
    with pytest.raises(TypeError, match="session_ids has dtype float64; expected integers or str"):
        InteractionLog(np.array([1.5]), np.array([1]))
    with pytest.raises(ValueError, match="expected one dimension"):
        InteractionLog(np.array([[1]]), np.array([[1]]))
    with pytest.raises(ValueError, match=r"below 2\*\*63"):
        InteractionLog(np.array([2**63], np.uint64), np.array([1]))
    strings = InteractionLog(np.array(["a"], object), np.array([3], np.uint8))
    assert strings.session_ids.dtype.kind == "U"
    assert len(strings) == 1


ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
    st.lists(
        st.text(st.characters(categories=["L", "N", "P"], exclude_characters='"'), min_size=1),
        min_size=3,
        max_size=3,
    ),
)


@settings(deadline=None, max_examples=40)
@given(ids, ids, st.none() | st.lists(st.floats(-1e12, 1e12), min_size=3, max_size=3))
def test_what_is_written_is_read_back(tmp_path_factory, sessions, items, times) -> None:
    path = tmp_path_factory.mktemp("log") / "log.tsv"
    log = InteractionLog(
        np.array(sessions), np.array(items), None if times is None else np.array(times)
    )
    write_log(log, path)
    back = read_log(path)
    # strings that happen to be integers come back as integers
    assert back.session_ids.astype(str).tolist() == [str(one) for one in sessions]
    assert back.item_ids.astype(str).tolist() == [str(one) for one in items]
    assert (back.times is None) == (times is None)
    if times is not None:
        np.testing.assert_array_equal(back.times, times)


def test_writing_leaves_nothing_half_done(tmp_path: Path) -> None:
    log = InteractionLog(np.array(["a\tb"]), np.array([1]))
    with pytest.raises(ValueError, match=r"id 'a\\tb' holds a tab"):
        write_log(log, tmp_path / "log.tsv")
    with pytest.raises(OSError):  # noqa: PT011
        write_log(InteractionLog(np.array([1]), np.array([1])), tmp_path / "no" / "log.tsv")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):  # noqa: PT011
        write_log(InteractionLog(np.array([1]), np.array([1])), tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    (tmp_path / "link").symlink_to(tmp_path / "log.tsv")
    write_log(InteractionLog(np.array([1]), np.array([1])), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "log.tsv", "taken"]
