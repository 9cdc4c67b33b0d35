"""Files of packed catalogues: one safetensors file, whose arrays are mapped where they lie."""

from __future__ import annotations

import json
import math
import os
from typing import Any, NamedTuple

import numpy as np

from ._item_arrays import MAX_CODED_DIM, Array, Arrays, Layout, blocks_of

#: The newest format that this version reads, and the one that it writes.
FORMAT_VERSION = 1

_METADATA_KEY = "seqrec_fast.index"
_DTYPES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.uint16): "BF16",
    np.dtype(np.int32): "I32",
    np.dtype(np.uint8): "U8",
    np.dtype(np.float64): "F64",
}
_ALIGNMENT = 64
_MAX_HEADER_BYTES = 1 << 24
_PIECE_BYTES = 1 << 24


class IndexFile(NamedTuple):
    """A catalogue in a file; ``arrays`` are trimmed to the blocks that hold items."""

    layout: Layout
    n_items: int
    id_offset: int
    n_ids: int
    arrays: Arrays


def write_index(path: str | os.PathLike[str], file: IndexFile) -> None:
    """Write a file in the manner of :func:`seqrec_fast.io.replacing`, straight from the arrays."""
    from .io import replacing

    header = file_header(file)
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        stream.write(header)
        for name in _entries(file):
            flat = file.arrays[name].reshape(-1).view(np.uint8)
            for begin in range(0, len(flat), _PIECE_BYTES):
                stream.write(flat[begin : begin + _PIECE_BYTES].data)


def file_header(file: IndexFile) -> bytes:
    """Return what stands before the arrays; they begin on a cache line."""
    config = {
        "n_items": file.n_items,
        **file.layout._asdict(),
        "id_offset": file.id_offset,
        "n_ids": file.n_ids,
    }
    header = {"format_version": FORMAT_VERSION, "config": config}
    entries = {"__metadata__": {_METADATA_KEY: json.dumps(header)}, **_entries(file)}
    content = json.dumps(entries).encode()
    content += b" " * (-(8 + len(content)) % _ALIGNMENT)
    return len(content).to_bytes(8, "little") + content


def map_index(path: str | os.PathLike[str], function: str) -> IndexFile:
    """Map a file read-only and check its header, its size, and a few of its ids."""
    name = os.fspath(path)
    if not os.path.isfile(name):
        kind = IsADirectoryError if os.path.isdir(name) else FileNotFoundError
        raise kind(f"{function}: no file {name}")
    size = os.path.getsize(name)
    with open(name, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        content = stream.read(length) if length <= _MAX_HEADER_BYTES else b""
    begin = 8 + length
    try:
        entries = json.loads(content)
        metadata = entries.pop("__metadata__", {})
        text = metadata.get(_METADATA_KEY)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{function}: {name} is truncated, or no file that ItemIndex.save has written"
        ) from error
    if not isinstance(text, str):
        raise ValueError(
            f"{function}: {name} is a safetensors file without {_METADATA_KEY!r} in its "
            "metadata; expected one that ItemIndex.save has written"
        )
    file = IndexFile(*_config(text, f"{function}: {name}"), arrays={})
    expected = _entries(file)
    if entries != expected or begin % _ALIGNMENT:
        raise ValueError(f"{function}: {name} is damaged: its arrays do not fit its config")
    if size != begin + _end(expected):
        raise ValueError(
            f"{function}: {name} is truncated or damaged: it has {size} bytes; expected "
            f"{begin + _end(expected)}"
        )
    mapped = np.memmap(name, np.uint8, "r").view(np.ndarray)
    for array, (dtype, shape) in file.layout.shapes(blocks_of(file.n_items)).items():
        first, last = expected[array]["data_offsets"]
        file.arrays[array] = mapped[begin + first : begin + last].view(dtype).reshape(shape)
    if not _ends_fit(file.arrays["ids"], file.arrays["positions"], file.n_items):
        raise ValueError(f"{function}: {name} is damaged: its ids are no permutation")
    return file


def _entries(file: IndexFile) -> dict[str, dict[str, Any]]:
    """Return the safetensors header of the arrays, which lie one after the other."""
    entries: dict[str, dict[str, Any]] = {}
    end = 0
    for name, (dtype, shape) in file.layout.shapes(blocks_of(file.n_items)).items():
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        offsets = [begin, end]
        entries[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": offsets}
    return entries


def _end(entries: dict[str, dict[str, Any]]) -> int:
    return max(int(entry["data_offsets"][1]) for entry in entries.values())


def _config(text: str, file: str) -> tuple[Layout, int, int, int]:
    """Return layout, n_items, id_offset and n_ids from the JSON of a file."""
    try:
        header = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} has metadata that is no JSON: {error}") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(f"{file} has format_version {version!r}; expected an integer")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{file} has format_version {version}; this version of seqrec_fast reads up to "
            f"{FORMAT_VERSION}, so it needs a newer one"
        )
    config: Any = header.get("config")
    if not isinstance(config, dict):
        raise ValueError(f"{file} has config {config!r}; expected a dict")
    keys = ("n_items", "id_offset", "n_ids", "dim", "precision", "scan", "has_bias")
    values: list[Any] = [config.get(key) for key in keys]
    n_items, id_offset, n_ids, dim, precision, scan, has_bias = values
    if (
        not all(type(n) is int and 0 <= n < 2**62 for n in (n_items, id_offset, n_ids, dim))
        or precision not in ("float32", "bfloat16")
        or scan not in ("float32", "int8")
        or type(has_bias) is not bool
        or not n_items < 2**31
        or not id_offset + n_items <= n_ids
        or not 1 <= dim <= (MAX_CODED_DIM if scan == "int8" else 2**31)
    ):
        raise ValueError(f"{file} has config {config!r}, which is no catalogue's")
    return Layout(dim, precision, scan, has_bias), n_items, id_offset, n_ids


def _ends_fit(ids: Array, positions: Array, n_items: int) -> bool:
    """Look at two items: to read all ids of a file larger than memory would take minutes."""
    if n_items == 0:
        return True
    return all(
        0 <= ids[place] < n_items and positions[ids[place]] == place for place in (0, n_items - 1)
    )
