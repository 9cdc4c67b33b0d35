"""Item indices in files."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from item_cases import ints, normal, ragged, same
from seqrec_fast import ItemIndex
from seqrec_fast._index_file import IndexFile, file_header
from seqrec_fast._item_arrays import Layout


@pytest.fixture(params=["float32", "int8"])
def scan(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "items.safetensors"


@pytest.mark.parametrize("n_items", [0, 1, 64, 700])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_file_holds_the_index(scan, precision, n_items, path, rng):
    items, bias, queries = normal(rng, n_items, 11), normal(rng, n_items), normal(rng, 7, 11)
    options = {"precision": precision, "scan": scan, "id_offset": 40, "n_ids": 2000}
    for used in (None, bias):
        index = ItemIndex(items, bias=used, **options)
        index.save(path)
        opened = ItemIndex.open(path)
        assert repr(opened) == repr(index)
        assert (opened.nbytes, opened.dim, len(opened)) == (index.nbytes, 11, n_items)
        exclude = ragged([[1999, 41]] * 7)
        same(opened.topk(queries, 30, exclude=exclude), index.topk(queries, 30, exclude=exclude))
        ids = np.arange(40, 40 + n_items)
        np.testing.assert_array_equal(opened.rows(ids), index.rows(ids))
    assert os.listdir(path.parent) == [path.name]


def test_a_file_is_safetensors_with_aligned_arrays(scan, path, rng):
    items = normal(rng, 130, 10)
    ItemIndex(items, scan=scan, bias=items[:, 0]).save(path)
    with safe_open(path, framework="numpy") as stream:
        header = json.loads(stream.metadata()["seqrec_fast.index"])
        ids, vectors = stream.get_tensor("ids"), stream.get_tensor("vectors")
        assert ("high" in stream.keys()) == (scan == "int8")  # noqa: SIM118 - not a dict
    assert header["format_version"] == 1
    assert header["config"]["n_items"] == 130
    if scan == "int8":
        np.testing.assert_array_equal(vectors[:130], items[ids[:130]])
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    offsets = [e["data_offsets"] for n, e in json.loads(content[8:begin]).items() if n[0] != "_"]
    assert all((begin + offset[0]) % 64 == 0 for offset in offsets)


def test_a_grown_index_is_saved_without_its_room(scan, path, rng):
    items, queries = normal(rng, 300, 8), normal(rng, 3, 8)
    index = ItemIndex(items[:200], scan=scan)
    index.extend(items[200:260])
    index.extend(items[260:])
    index.save(path)
    assert path.stat().st_size < index.nbytes + 2000
    opened = ItemIndex.open(path)
    same(opened.topk(queries, 300), ItemIndex(items, scan=scan).topk(queries, 300))
    opened.save(path)  # over the file that it is mapped from
    same(opened.topk(queries, 9), ItemIndex.open(path).topk(queries, 9))


def test_a_mapped_index_cannot_be_changed(scan, path, rng):
    items = normal(rng, 70, 4)
    ItemIndex(items, scan=scan).save(path)
    opened = ItemIndex.open(path)
    for change in (lambda: opened.update(ints(1), items[:1]), lambda: opened.extend(items)):
        with pytest.raises(ValueError, match="is mapped from a file, which cannot change"):
            change()
    assert len(opened) == 70
    assert opened.stats()["blocks"] == 2


def test_a_file_larger_than_memory_opens_at_once(path):
    n_items, dim = 200_000_000, 64
    layout = Layout(dim, "float32", "float32", False)
    header = file_header(IndexFile(layout, n_items, 0, n_items, {}))
    entries = json.loads(header[8:])
    with open(path, "wb") as stream:
        stream.write(header)
        try:
            stream.truncate(len(header) + entries["bounds"]["data_offsets"][1])
        except OSError as error:
            pytest.skip(f"no room for a sparse file: {error}")
        stream.seek(len(header) + entries["ids"]["data_offsets"][0] + 4 * (n_items - 1))
        stream.write((n_items - 1).to_bytes(4, "little"))
        stream.seek(len(header) + entries["positions"]["data_offsets"][0] + 4 * (n_items - 1))
        stream.write((n_items - 1).to_bytes(4, "little"))
    start = time.perf_counter()
    index = ItemIndex.open(path)
    assert time.perf_counter() - start < 0.5
    _, ids = index.topk(np.ones((1, dim), np.float32), 3, allow=ints(0, n_items - 1))
    assert ids.tolist() == [[0, n_items - 1, -1]]
    assert index.nbytes > 50e9


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=r"ItemIndex.open: no file .*items\.safetensors"):
        ItemIndex.open(path)
    with pytest.raises(IsADirectoryError):
        ItemIndex.open(path.parent)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_truncated_file(path, keep, rng):
    ItemIndex(normal(rng, 100, 8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else keep])
    with pytest.raises(ValueError, match=r"items\.safetensors is truncated"):
        ItemIndex.open(path)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a pickle, say" * 50,
        b"a,b\n1,2\n",
        b"\x02" + bytes(7) + b"[]",
        b"\x02" + bytes(9),
    ],
)
def test_foreign_file(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"items\.safetensors is truncated, or no file that"):
        ItemIndex.open(path)


def test_safetensors_of_another_program(path):
    save_file({"w": np.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"safetensors file without 'seqrec_fast\.index'"):
        ItemIndex.open(path)


def rewritten(path, change):
    """Change the header of a file in place of its writer."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:begin])
    header = json.loads(entries["__metadata__"]["seqrec_fast.index"])
    change(header, entries)
    entries["__metadata__"]["seqrec_fast.index"] = json.dumps(header)
    text = json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[begin:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, e: h.update(format_version=2), "format_version 2; this version .* up to 1, so"),
        (lambda h, e: h.update(format_version="1"), "format_version '1'; expected an integer"),
        (lambda h, e: h.update(config=[1]), r"config \[1\]; expected a dict"),
        (lambda h, e: h["config"].update(n_items=-1), "which is no catalogue's"),
        (lambda h, e: h["config"].update(n_items=2**40, n_ids=2**41), "which is no catalogue's"),
        (lambda h, e: h["config"].update(dim=0), "which is no catalogue's"),
        (lambda h, e: h["config"].update(scan="int4"), "which is no catalogue's"),
        (lambda h, e: h["config"].update(has_bias=1), "which is no catalogue's"),
        (lambda h, e: h["config"].update(n_ids=99), "which is no catalogue's"),
        (lambda h, e: h["config"].update(dim=9), "is damaged: its arrays do not fit"),
        (lambda h, e: h["config"].update(n_items=300, n_ids=300), "arrays do not fit"),
        (lambda h, e: e.pop("ids"), "arrays do not fit"),
        (lambda h, e: e["ids"].update(dtype="I64"), "arrays do not fit"),
        (lambda h, e: e["ids"].update(data_offsets=[0, 512]), "arrays do not fit"),
    ],
)
def test_damaged_header(path, change, message, rng):
    ItemIndex(normal(rng, 100, 8)).save(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=rf"items\.safetensors .*{message}"):
        ItemIndex.open(path)


def test_metadata_that_is_no_json(path):
    save_file({"w": np.zeros(3)}, path, metadata={"seqrec_fast.index": "no json"})
    with pytest.raises(ValueError, match=r"items\.safetensors has metadata that is no JSON"):
        ItemIndex.open(path)


def test_a_file_that_is_too_long_or_whose_ids_are_wrong(path, rng):
    ItemIndex(normal(rng, 100, 8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    with pytest.raises(ValueError, match=r"items\.safetensors is truncated or damaged: it has"):
        ItemIndex.open(path)
    begin = 8 + int.from_bytes(content[:8], "little")
    first = json.loads(content[8:begin])["ids"]["data_offsets"][0]
    path.write_bytes(content[: begin + first] + b"\xff" * 4 + content[begin + first + 4 :])
    with pytest.raises(ValueError, match=r"items\.safetensors is damaged: its ids are no permut"):
        ItemIndex.open(path)


def test_an_interrupted_save_leaves_the_old_file(path, monkeypatch, rng):
    ItemIndex(normal(rng, 100, 8)).save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        ItemIndex(normal(rng, 200, 8)).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_disk_that_is_full_half_way(path):
    program = f"""
import resource, signal
import numpy as np, seqrec_fast as sf
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    sf.ItemIndex(np.ones((5000, 8), np.float32)).save({os.fspath(path)!r})
except OSError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "File too large" in run.stdout, run.stderr
    assert os.listdir(path.parent) == []
