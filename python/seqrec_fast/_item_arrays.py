"""The arrays of a packed catalogue: their shapes, how they are filled, and how they grow."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core

Array = NDArray[Any]
Arrays = dict[str, Array]

BLOCK: int = _core.PackedItems.BLOCK

#: The most terms that can be scanned in int8: their sums stay within 32 bits.
MAX_CODED_DIM = 50_000

# Back ends whose int8 products are no faster than float32 ones.
_SLOW_BACKENDS = ("highway", "amx_emulated")
_ALIGNMENT = 64
_GROWTH = 1.5


class Layout(NamedTuple):
    """What the shapes of the arrays follow from, the number of blocks aside."""

    dim: int
    precision: str
    scan: str
    has_bias: bool

    def shapes(self, blocks: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Return dtype and shape of each array; ``bounds``, whose rows are of 40 bytes, is last."""
        coded = self.scan == "int8"
        capacity = blocks * BLOCK
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "vectors": (
                np.float32 if self.precision == "float32" else np.uint16,
                (capacity, self.dim) if coded else (blocks * self.dim, BLOCK),
            )
        }
        if self.has_bias:
            shapes["bias"] = (np.float32, (capacity,))
        shapes["ids"] = shapes["positions"] = (np.int32, (capacity,))
        if coded:
            pairs = -(-self.dim // 8)
            shapes["high"] = shapes["low"] = (np.uint8, (blocks * pairs, 4 * BLOCK))
        shapes["bounds"] = (np.float64, (blocks, 6))
        return {name: (np.dtype(kind), shape) for name, (kind, shape) in shapes.items()}

    def nbytes(self, n_items: int) -> int:
        """Return the bytes of all blocks that hold items."""
        shapes = self.shapes(blocks_of(n_items)).values()
        return sum(kind.itemsize * math.prod(shape) for kind, shape in shapes)


def blocks_of(n_items: int) -> int:
    """Return how many blocks the items fill."""
    return -(-n_items // BLOCK)


def chosen_scan(n_items: int, dim: int) -> str:
    """Return the scan to try first if the caller leaves it open."""
    fast = _core.active_backend("int8") not in _SLOW_BACKENDS
    return "int8" if fast and 8 <= dim <= MAX_CODED_DIM and n_items >= 256 else "float32"


def codes_separate(items: Array, bounds: Array) -> bool:
    """
    Say whether the codes tell items apart: what they leave open is below the spread of scores.

    Both are for a query of length sqrt(d) in no special direction. What is open comes from the
    codes of the items and of the query; the spread is that of a sample around its mean.
    """
    sample = items[:: max(1, items.size >> 20)].astype(np.float64)
    sample = sample[np.isfinite(sample).all(axis=1)]
    spread = np.sqrt(sample.var(axis=0).sum()) if len(sample) else 0.0
    residual, norm = bounds[:, 1], bounds[:, 3]
    return bool(np.median(residual + norm / 128) * np.sqrt(items.shape[1]) <= spread)


def build(
    function: str,
    items: Array,
    bias: Array | None,
    layout: Layout,
    order: Array,
    id_offset: int,
    n_ids: int,
) -> tuple[Arrays, _core.PackedItems]:
    """Pack a catalogue; position p gets row ``order[p]``."""
    n_items = len(items)
    positions = np.arange(n_items)
    arrays = _allocate(layout, blocks_of(n_items))
    arrays["ids"][:n_items] = order
    arrays["positions"][order] = positions
    packed = bound(function, arrays, layout, n_items, id_offset, n_ids)
    packed.write(function, positions, order, items, bias, n_items)
    return arrays, packed


def order_of(function: str, rows: Array) -> Array:
    """Return rows by descending magnitude, so that neighbours share a scale and blocks a bound."""
    peaks = np.empty(len(rows), np.float32)
    _core.item_peaks(function, rows, peaks)
    return np.argsort(np.negative(peaks, out=peaks), kind="stable")


def bound(
    function: str, arrays: Arrays, layout: Layout, n_items: int, id_offset: int, n_ids: int
) -> _core.PackedItems:
    """Return what the kernels read; it keeps the arrays alive."""
    return _core.PackedItems(
        function,
        n_items,
        layout.dim,
        arrays["vectors"],
        arrays.get("bias"),
        arrays["ids"],
        arrays["positions"],
        arrays.get("high"),
        arrays.get("low"),
        arrays["bounds"],
        id_offset,
        n_ids,
    )


def trimmed(arrays: Arrays, layout: Layout, n_items: int) -> Arrays:
    """Return views of the blocks that hold items."""
    shapes = layout.shapes(blocks_of(n_items))
    return {name: arrays[name][: shape[0]] for name, (_, shape) in shapes.items()}


def grown(arrays: Arrays, layout: Layout, n_items: int, wanted: int) -> Arrays:
    """Return copies with room for `wanted` items and for about as many more calls like this."""
    blocks = len(arrays["ids"]) // BLOCK
    larger = _allocate(layout, max(blocks_of(wanted), int(_GROWTH * blocks)))
    for name, array in trimmed(arrays, layout, n_items).items():
        larger[name][: len(array)] = array
    return larger


def rows_at(arrays: Arrays, layout: Layout, positions: Array) -> NDArray[np.float32]:
    """Return the vectors at some positions, in float32."""
    stored = arrays["vectors"]
    if layout.scan == "int8":
        rows = stored[positions]
    else:
        panels = stored.reshape(-1, layout.dim, BLOCK)
        rows = panels[positions // BLOCK, :, positions % BLOCK]
    if layout.precision == "bfloat16":
        rows = (rows.astype(np.uint32) << 16).view(np.float32)
    return rows


def _allocate(layout: Layout, blocks: int) -> Arrays:
    return {name: _aligned(kind, shape) for name, (kind, shape) in layout.shapes(blocks).items()}


def _aligned(kind: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Zeros whose first byte begins a cache line; the kernel hands zeroed pages out lazily."""
    size = kind.itemsize * math.prod(shape)
    room = np.zeros(size + _ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % _ALIGNMENT
    return room[begin : begin + size].view(kind).reshape(shape)
