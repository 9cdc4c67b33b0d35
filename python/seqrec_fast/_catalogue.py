"""A packed catalogue with the arrays under it: built, changed, saved and mapped."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._index_file import IndexFile, map_index, write_index
from ._item_arrays import (
    MAX_CODED_DIM,
    Array,
    Arrays,
    Layout,
    blocks_of,
    bound,
    build,
    chosen_scan,
    codes_separate,
    grown,
    order_of,
    rows_at,
    trimmed,
)
from ._item_queries import checked


class Catalogue:
    """
    What an :class:`ItemIndex` holds; its methods of the same names say what theirs do.

    A query reads :attr:`packed` once. A change either happens in it, which waits for queries that
    run, or makes another one with more room, whose arrays are whole before anybody sees it.
    """

    def __init__(
        self,
        arrays: Arrays,
        layout: Layout,
        packed: _core.PackedItems,
        ids_grow: bool = False,
    ) -> None:
        self.layout = layout
        self.packed = packed
        self._arrays = arrays
        self._ids_grow = ids_grow  # n_ids is not the user's
        self._counts = np.zeros(4, np.int64)  # of those that `packed` took the place of
        self._lock = threading.Lock()  # of changes

    @classmethod
    def of(
        cls,
        items: ArrayLike,
        bias: ArrayLike | None,
        precision: str,
        scan: str,
        id_offset: int,
        n_ids: int | None,
    ) -> Catalogue:
        """Check and pack the items of an index."""
        array, vector = checked_rows("ItemIndex", "items", items, bias)
        if precision not in ("float32", "bfloat16"):
            raise ValueError(
                f"ItemIndex: precision is {precision!r}; expected 'float32' or 'bfloat16'"
            )
        if scan not in ("auto", "float32", "int8"):
            raise ValueError(f"ItemIndex: scan is {scan!r}; expected 'auto', 'float32' or 'int8'")
        n_items, dim = array.shape
        if scan == "int8" and dim > MAX_CODED_DIM:
            raise ValueError(
                f"ItemIndex: items has {dim} terms; expected at most {MAX_CODED_DIM} for "
                "scan='int8'"
            )
        if id_offset < 0:
            raise ValueError(f"ItemIndex: id_offset is {id_offset}; expected at least 0")
        end = id_offset + n_items if n_ids is None else n_ids
        if end < id_offset + n_items:
            raise ValueError(f"ItemIndex: n_ids is {end}; expected at least {id_offset + n_items}")
        chosen = chosen_scan(n_items, dim) if scan == "auto" else scan
        layout = Layout(dim, precision, chosen, vector is not None)
        order = order_of("ItemIndex", array)
        arrays, packed = build("ItemIndex", array, vector, layout, order, id_offset, end)
        if scan == "auto" and chosen == "int8" and not codes_separate(array, arrays["bounds"]):
            layout = layout._replace(scan="float32")
            arrays, packed = build("ItemIndex", array, vector, layout, order, id_offset, end)
        return cls(arrays, layout, packed, n_ids is None)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Catalogue:
        """Map a file."""
        function = "ItemIndex.open"
        layout, n_items, id_offset, n_ids, arrays = map_index(path, function)
        return cls(arrays, layout, bound(function, arrays, layout, n_items, id_offset, n_ids))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, straight from the arrays."""
        with self._lock:
            items = self.packed
            arrays = trimmed(self._arrays, self.layout, items.n_items)
            file = IndexFile(self.layout, items.n_items, items.id_offset, items.n_ids, arrays)
            write_index(path, file)

    def rows(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Return stored vectors."""
        wanted = checked("rows", "ids", ids, np.int64)
        with self._lock:
            positions = self._positions("rows", wanted.reshape(-1))
            rows = rows_at(self._arrays, self.layout, positions)
        return rows.reshape(*wanted.shape, self.layout.dim)

    def update(self, ids: ArrayLike, rows: ArrayLike, bias: ArrayLike | None) -> None:
        """Replace vectors."""
        array, vector = checked_rows("update", "rows", rows, bias, self.layout.dim)
        wanted = checked("update", "ids", ids, np.int64)
        if wanted.shape != array.shape[:1]:
            raise ValueError(
                f"update: ids has shape {wanted.shape}; expected {array.shape[:1]} because rows "
                f"has shape {array.shape}"
            )
        with self._lock:
            self._check_change("update", vector)
            positions = self._positions("update", wanted)
            order = np.argsort(positions)
            positions = positions[order]
            if (twice := np.flatnonzero(positions[1:] == positions[:-1])).size:
                raise ValueError(f"update: ids holds {wanted[order[twice[0]]]} more than once")
            self.packed.write("update", positions, order, array, vector, self.packed.n_items)

    def extend(self, rows: ArrayLike, bias: ArrayLike | None) -> NDArray[np.int64]:
        """Append items and return their ids."""
        array, vector = checked_rows("extend", "rows", rows, bias, self.layout.dim)
        order = order_of("extend", array)
        with self._lock:
            self._check_change("extend", vector)
            if self.layout.has_bias and vector is None:
                raise ValueError("extend: bias is missing; expected one because the index has one")
            arrays, items = self._arrays, self.packed
            n_items, wanted = items.n_items, items.n_items + len(array)
            first, n_ids = items.id_offset, items.n_ids
            most = 2**31 - 1 if self._ids_grow else n_ids - first
            if wanted > most:
                raise ValueError(
                    f"extend: {len(array)} more items make {wanted}; expected at most {most}"
                )
            if wanted > len(arrays["ids"]):
                arrays = grown(arrays, self.layout, n_items, wanted)
                items = bound("extend", arrays, self.layout, n_items, first, n_ids)
            positions = np.arange(n_items, wanted)
            # Nobody reads beyond n_items, which grows once the vectors are there.
            arrays["ids"][n_items:wanted] = n_items + order
            arrays["positions"][n_items + order] = positions
            items.write("extend", positions, order, array, vector, wanted)
            if items is not self.packed:
                self._counts += self.packed.statistics()
                self._arrays, self.packed = arrays, items
        return first + positions

    def stats(self) -> dict[str, Any]:
        """Return what calls have cost."""
        queries, survivors, scanned, skipped = (self._counts + self.packed.statistics()).tolist()
        is_coded = self.layout.scan == "int8"
        return {
            "queries": queries,
            "survivors_per_query": survivors / max(1, queries),
            "blocks": blocks_of(self.packed.n_items),
            "blocks_scanned": scanned,
            "blocks_skipped": skipped,
            "scan": self.layout.scan,
            "backend": _core.active_backend("int8") if is_coded else _core.active_target(),
        }

    def _positions(self, function: str, ids: Array) -> Array:
        """Return where items lie that global ids name."""
        first, n_items = self.packed.id_offset, self.packed.n_items
        local = ids - first
        if (wrong := np.flatnonzero((local < 0) | (local >= n_items))).size:
            raise ValueError(
                f"{function}: ids holds {ids[wrong[0]]} at index {wrong[0]}; expected ids from "
                f"{first} to {first + n_items - 1}"
            )
        positions: Array = self._arrays["positions"][local].astype(np.int64)
        return positions

    def _check_change(self, function: str, bias: Array | None) -> None:
        if not self._arrays["vectors"].flags.writeable:
            raise ValueError(f"{function}: the index is mapped from a file, which cannot change")
        if bias is not None and not self.layout.has_bias:
            raise ValueError(f"{function}: bias is given; the index has none")


def packed_once(items: ArrayLike, bias: ArrayLike | None) -> _core.PackedItems:
    """Return a catalogue for one call: packing would cost more than one scan saves."""
    array, vector = checked_rows("topk", "items", items, bias)
    n_items, dim = array.shape
    ids = np.arange(blocks_of(n_items) * _core.PackedItems.BLOCK, dtype=np.int32)
    if vector is not None:
        vector = np.pad(vector, (0, len(ids) - n_items))
    return _core.PackedItems(
        "topk", n_items, dim, array, vector, ids, ids, None, None, None, 0, n_items
    )


def checked_rows(
    function: str, argument: str, rows: ArrayLike, bias: ArrayLike | None, dim: int | None = None
) -> tuple[Array, Array | None]:
    """Check vectors and their bias; `dim` is what the vectors must have, if that is known."""
    array = checked(function, argument, rows, np.float32)
    if array.ndim != 2 or array.shape[1] != (dim or max(1, array.shape[1])):
        expected = "(N, d) with d >= 1" if dim is None else f"(m, {dim})"
        raise ValueError(f"{function}: {argument} has shape {array.shape}; expected {expected}")
    if len(array) >= 2**31:
        raise ValueError(f"{function}: {argument} has {len(array)} rows; expected below 2**31")
    if bias is None:
        return array, None
    vector = checked(function, "bias", bias, np.float32)
    if vector.shape != array.shape[:1]:
        raise ValueError(
            f"{function}: bias has shape {vector.shape}; expected {array.shape[:1]} because "
            f"{argument} has shape {array.shape}"
        )
    return array, vector
