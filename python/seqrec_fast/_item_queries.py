"""What a query on a packed catalogue is made of: checked arguments, filters, the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core, metrics
from ._checks import checked_int

Array = NDArray[Any]
Ragged = tuple[Array, Array]

_FLOAT32 = np.dtype(np.float32)
_INT64 = np.dtype(np.int64)
# A filter that lets fewer items than one in so many pass is a list of ids, else bits.
_SPARSE = 32
# Bits of masks of single queries that exist at one time.
_MASK_BYTES = 1 << 24
# Ids that are turned into bits at one time.
_ID_PIECE = 1 << 18
# The place of the item itself, or how those that score the same count.
_TIES = ("order", *metrics.TIE_MODES)


def checked(function: str, argument: str, value: ArrayLike, dtype: type[np.generic]) -> Array:
    """`value` as a C-contiguous array; its dtype is never changed."""
    array = np.asarray(value)
    if array.dtype != dtype:
        raise TypeError(f"{function}: {argument} is {array.dtype}; expected {dtype.__name__}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def checked_k(function: str, k: SupportsIndex) -> int:
    """`k` as an int of at least 1."""
    return checked_int(function, "k", k, 1)


def _no_items(function: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return scores and ids for answers of this shape whose last size is k, without items."""
    try:
        return np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
    except (MemoryError, ValueError) as error:  # NumPy has limits to sizes of its own
        raise MemoryError(
            f"{function}: k is {shape[-1]}; no memory for answers of shape {shape}, which are "
            "filled up where fewer items are left"
        ) from error


def best_items(
    items: _core.PackedItems,
    dim: int,
    queries: ArrayLike,
    k: SupportsIndex,
    exclude: tuple[ArrayLike, ArrayLike] | None,
    allow: Any,
    k_per_query: ArrayLike | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Answer :meth:`ItemIndex.topk`."""
    # One query takes microseconds: a float32 array goes through without a call.
    if not (
        type(queries) is np.ndarray and queries.dtype is _FLOAT32 and queries.flags.c_contiguous
    ):
        queries = checked("topk", "queries", queries, np.float32)
    shape = queries.shape
    if not 1 <= len(shape) <= 2 or shape[-1] != dim:
        raise _wrong_queries("topk", shape, dim)
    if type(k) is not int or k < 1:
        k = checked_k("topk", k)
    while k > (width := max(items.n_items, 1)):  # kernels keep k candidates for each query
        answer = best_items(items, dim, queries, width, exclude, allow, None)
        if items.n_items > width:
            continue  # items were added meanwhile
        scores, ids = _no_items("topk", (*shape[:-1], k))
        scores[..., :width], ids[..., :width] = answer
        if k_per_query is not None:
            _shorten(scores, ids, k, k_per_query)
        return scores, ids
    shape = (*shape[:-1], k)
    scores = np.empty(shape, _FLOAT32)
    ids = np.empty(shape, _INT64)
    if exclude is None and allow is None:
        items.topk(queries, k, None, None, None, None, None, scores, ids)
    else:
        excluded = None if exclude is None else _ragged("topk", "exclude", exclude)
        _filtered(items, queries, k, excluded, allow, scores, ids)
    if k_per_query is not None:
        _shorten(scores, ids, k, k_per_query)
    return scores, ids


def ranks_of(
    items: _core.PackedItems,
    dim: int,
    queries: ArrayLike,
    ids: ArrayLike,
    exclude: tuple[ArrayLike, ArrayLike] | None,
    ties: str,
) -> NDArray[np.int64] | NDArray[np.float64]:
    """Answer :meth:`ItemIndex.rank_of`."""
    if ties not in _TIES:
        raise ValueError(f"rank_of: ties is {ties!r}; expected one of {', '.join(_TIES)}")
    batch = checked("rank_of", "queries", queries, np.float32)
    if batch.ndim not in (1, 2) or batch.shape[-1] != dim:
        raise _wrong_queries("rank_of", batch.shape, dim)
    targets = checked("rank_of", "ids", ids, np.int64)
    if targets.shape != batch.shape[:-1]:
        raise ValueError(
            f"rank_of: ids has shape {targets.shape}; expected {batch.shape[:-1]} because queries "
            f"has shape {batch.shape}"
        )
    values, offsets = (None, None) if exclude is None else _ragged("rank_of", "exclude", exclude)
    greater, equal, before = np.empty((3, targets.size), np.int64)
    items.ranks(batch, targets.reshape(-1), values, offsets, greater, equal, before)
    if ties == "order":
        ranks: Array = np.where(greater < 0, -1, 1 + greater + before)
    else:
        ranks = np.where(greater < 0, np.inf, metrics.rank_from_counts(greater, equal, ties))
    return ranks.reshape(targets.shape)


def merged(
    parts: Sequence[tuple[ArrayLike, ArrayLike]], k: SupportsIndex
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Answer :func:`merge_topk`."""
    k = checked_k("merge_topk", k)
    scores, ids = _joined(parts)
    order = np.lexsort((ids, -scores, ids < 0))
    scores, ids = _taken(scores, order), _taken(ids, order)
    # An id that stands further left already is no item: in a stable order by id it comes second.
    by_id = np.argsort(ids, axis=-1, kind="stable")
    grouped = _taken(ids, by_id)
    again = np.zeros(ids.shape, np.bool_)
    np.put_along_axis(again, by_id[..., 1:], grouped[..., 1:] == grouped[..., :-1], axis=-1)
    is_item = (ids >= 0) & ~again
    kept = np.argsort(~is_item, axis=-1, kind="stable")[..., :k]
    is_item = _taken(is_item, kept)
    best_scores, best_ids = _no_items("merge_topk", (*ids.shape[:-1], k))
    width = kept.shape[-1]
    np.copyto(best_scores[..., :width], _taken(scores, kept), where=is_item)
    np.copyto(best_ids[..., :width], _taken(ids, kept), where=is_item)
    return best_scores, best_ids


def _taken(array: Array, places: Array) -> Array:
    return np.take_along_axis(array, places, axis=-1)


def _joined(parts: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[Array, Array]:
    """Return the lists of all parts side by side."""
    function = "merge_topk"
    scores = [
        checked(function, f"scores of part {i}", p[0], np.float32) for i, p in enumerate(parts)
    ]
    ids = [checked(function, f"ids of part {i}", p[1], np.int64) for i, p in enumerate(parts)]
    if not scores:
        raise ValueError("merge_topk: parts is empty; expected at least one")
    rows = scores[0].shape[:-1]
    for i, (part_scores, part_ids) in enumerate(zip(scores, ids, strict=True)):
        shape = part_scores.shape
        if len(shape) not in (1, 2) or shape[:-1] != rows or part_ids.shape != shape:
            raise ValueError(
                f"merge_topk: part {i} has scores of shape {shape}, ids {part_ids.shape}; expected "
                f"both {(*rows, 'k')}, as of part 0".replace("'k'", "k")
            )
    both = np.concatenate(scores, axis=-1), np.concatenate(ids, axis=-1)
    return both[0], np.where(np.isnan(both[0]), -1, both[1])


def _wrong_queries(function: str, shape: tuple[int, ...], dim: int) -> ValueError:
    return ValueError(
        f"{function}: queries has shape {shape}; expected (B, {dim}) or ({dim},) for items of "
        f"{dim} terms"
    )


def _ragged(function: str, argument: str, pair: tuple[ArrayLike, ArrayLike]) -> Ragged:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(
            f"{function}: {argument} is {type(pair).__name__}; expected a tuple (values, offsets)"
        )
    values = checked(function, f"{argument} values", pair[0], np.int64)
    offsets = checked(function, f"{argument} offsets", pair[1], np.int64)
    for name, array in (("values", values), ("offsets", offsets)):
        if array.ndim != 1:
            raise ValueError(
                f"{function}: {argument} {name} has shape {array.shape}; expected a vector"
            )
    return values, offsets


def _filtered(
    items: _core.PackedItems,
    queries: Array,
    k: int,
    excluded: Ragged | None,
    allow: Any,
    scores: Array,
    ids: Array,
) -> None:
    """Call the kernel with an allow of any form."""
    values, offsets = (None, None) if excluded is None else excluded
    if allow is None:
        items.topk(queries, k, values, offsets, None, None, None, scores, ids)
        return
    if isinstance(allow, tuple):
        allowed = _ragged("topk", "allow", allow)
        items.topk(queries, k, values, offsets, None, *allowed, scores, ids)
        return
    array = np.asarray(allow)
    if array.dtype == np.int64 and array.ndim == 1:
        bits = _bits_of_ids(items, array) if array.size * _SPARSE > items.n_items else None
        few = np.ascontiguousarray(array) if bits is None else None
        items.topk(queries, k, values, offsets, bits, few, None, scores, ids)
        return
    if array.dtype != np.bool_:
        raise TypeError(
            f"topk: allow is {array.dtype} of shape {array.shape}; expected bool, a vector of "
            "int64, or a tuple (values, offsets)"
        )
    mask = _local_mask(items, array, queries.size // queries.shape[-1])
    if mask.ndim == 2:
        _with_masks(items, queries, k, excluded, mask, scores, ids)
    elif np.count_nonzero(mask) * _SPARSE < items.n_items:
        few = np.flatnonzero(mask) + items.id_offset
        items.topk(queries, k, values, offsets, None, few, None, scores, ids)
    else:
        items.topk(queries, k, values, offsets, _bits(mask[None]), None, None, scores, ids)


def _local_mask(items: _core.PackedItems, mask: Array, n_queries: int) -> Array:
    """Cut a mask over all ids down to the slice that these items are."""
    n_items, n_ids = items.n_items, items.n_ids
    fits = mask.ndim == 1 or (mask.ndim == 2 and len(mask) == n_queries)
    if not fits or mask.shape[-1] not in (n_items, n_ids):
        raise ValueError(
            f"topk: allow has shape {mask.shape}; expected (N,) or (B, N) with B = {n_queries}, "
            f"the number of queries, and N = {n_items}"
            + (f" or {n_ids}" if n_ids != n_items else "")
        )
    if mask.shape[-1] == n_items:
        return mask
    return mask[..., items.id_offset : items.id_offset + n_items]


def _bits(masks: Array) -> NDArray[np.uint64]:
    """(B, N) bool as (B, ceil(N / 64)) words, the first item in the lowest bit."""
    packed = np.packbits(masks, axis=1, bitorder="little")
    words = np.zeros((len(masks), -(-masks.shape[1] // 64)), np.uint64)
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    return words


def _bits_of_ids(items: _core.PackedItems, ids: Array) -> NDArray[np.uint64]:
    """Bits of the items that a list of ids names, in any order."""
    words = np.zeros((1, -(-items.n_items // 64)), np.uint64)
    for begin in range(0, len(ids), _ID_PIECE):
        piece = ids[begin : begin + _ID_PIECE]
        if (wrong := np.flatnonzero((piece < 0) | (piece >= items.n_ids))).size:
            raise ValueError(
                f"topk: allow holds the id {piece[wrong[0]]} at index {begin + wrong[0]}; "
                f"expected ids from 0 to {items.n_ids - 1}"
            )
        local = piece - items.id_offset
        local = local[(local >= 0) & (local < items.n_items)].astype(np.uint64)
        bits = np.left_shift(np.uint64(1), local & np.uint64(63))
        np.bitwise_or.at(words[0], (local >> np.uint64(6)).astype(np.int64), bits)
    return words


def _with_masks(
    items: _core.PackedItems,
    queries: Array,
    k: int,
    excluded: Ragged | None,
    masks: Array,
    scores: Array,
    ids: Array,
) -> None:
    """Call the kernel for some queries at a time, so that the bits of their masks stay few."""
    queries = queries.reshape(-1, queries.shape[-1])
    scores, ids = scores.reshape(-1, k), ids.reshape(-1, k)
    step = max(1, _MASK_BYTES // (masks.shape[1] // 8 + 1))
    if len(queries) > step and excluded is not None:
        _check_partition(excluded, len(queries))
    for begin in range(0, max(1, len(queries)), step):
        part = slice(begin, begin + step)
        values, offsets = (None, None) if excluded is None else excluded
        if len(queries) > step and values is not None and offsets is not None:
            offsets = offsets[begin : begin + step + 1]
            values, offsets = values[offsets[0] : offsets[-1]], offsets - offsets[0]
        bits = _bits(masks[part])
        items.topk(queries[part], k, values, offsets, bits, None, None, scores[part], ids[part])


def _check_partition(excluded: Ragged, n_queries: int) -> None:
    values, offsets = excluded
    if len(offsets) != n_queries + 1:
        raise ValueError(
            f"topk: the offsets of exclude have {len(offsets)} entries; expected {n_queries + 1} "
            f"for {n_queries} queries"
        )
    if offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"topk: the offsets of exclude do not rise from 0 to {len(values)}, the number of its "
            "values"
        )


def _shorten(scores: Array, ids: Array, k: int, k_per_query: ArrayLike) -> None:
    """Empty the places that a query did not ask for."""
    wanted = np.asarray(k_per_query)
    if wanted.dtype.kind not in "iu":
        raise TypeError(f"topk: k_per_query is {wanted.dtype}; expected integers")
    if wanted.shape != ids.shape[:-1]:
        raise ValueError(
            f"topk: k_per_query has shape {wanted.shape}; expected {ids.shape[:-1]}, one for each "
            "query"
        )
    if wanted.size and not (wanted.min() >= 0 and wanted.max() <= k):
        raise ValueError(
            f"topk: k_per_query goes from {wanted.min()} to {wanted.max()}; expected 0 to k = {k}"
        )
    beyond = np.arange(k) >= wanted[..., None]
    scores[beyond] = -np.inf
    ids[beyond] = -1
