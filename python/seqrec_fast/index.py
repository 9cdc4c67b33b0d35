"""Exact top-k of dot products over a catalogue of item vectors."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core

__all__ = ["ItemIndex", "topk"]

Array = NDArray[Any]


class ItemIndex:
    """
    A catalogue, packed once, that answers top-k queries exactly.

    The score of an item is ``query @ item + bias`` in float32, summed in one fixed order: the same
    query and item give the same bits whatever the batch and the number of threads (as long as the
    CPU target is the same). Items come by descending score; equal scores by ascending id, where
    -0.0 equals 0.0. An item whose score is NaN is never returned.

    An index never changes, so threads may share it.

    Parameters
    ----------
    items : (N, d) float32 array
        Item vectors, copied; the id of an item is its row. N below 2**31, d at least 1.
    bias : (N,) float32 array, optional
        Added to the scores.

    Raises
    ------
    TypeError
        If an array is not float32.
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from seqrec_fast import ItemIndex
    >>> index = ItemIndex(np.array([[1, 0], [0, 1], [2, 2]], np.float32))
    >>> scores, ids = index.topk(np.array([3, 1], np.float32), k=2)
    >>> scores.tolist(), ids.tolist()
    ([8.0, 3.0], [2, 0])
    """

    def __init__(self, items: ArrayLike, bias: ArrayLike | None = None) -> None:
        array = _checked("ItemIndex", "items", items, np.float32)
        if array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(
                f"ItemIndex: items has shape {array.shape}; expected (N, d) with d >= 1"
            )
        if bias is not None:
            bias = _checked("ItemIndex", "bias", bias, np.float32)
            if bias.shape != array.shape[:1]:
                raise ValueError(
                    f"ItemIndex: bias has shape {bias.shape}; expected {array.shape[:1]} because "
                    f"items has shape {array.shape}"
                )
        self._items = _core.PackedItems("ItemIndex", array, bias)
        self._dim: int = self._items.dim

    def __len__(self) -> int:
        return int(self._items.n_items)

    @property
    def dim(self) -> int:
        """Terms of an item vector."""
        return self._dim

    @property
    def packed(self) -> _core.PackedItems:
        """What the kernels read."""
        return self._items

    @property
    def nbytes(self) -> int:
        """Bytes of the packed catalogue."""
        return int(self._items.nbytes)

    def __repr__(self) -> str:
        return f"ItemIndex({len(self)} items, dim={self.dim})"

    def topk(
        self,
        queries: ArrayLike,
        k: SupportsIndex,
        exclude: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """
        Return the k best items for each query.

        Parameters
        ----------
        queries : (B, d) or (d,) float32 array
        k : int
            At least 1; may exceed the number of items.
        exclude : tuple of two int64 arrays, optional
            ``(values, offsets)``: query b gets none of ``values[offsets[b]:offsets[b + 1]]``,
            which need not be sorted or distinct; B + 1 offsets.

        Returns
        -------
        scores : (B, k) or (k,) float32 array
            Descending; -inf where fewer than k items are left.
        ids : (B, k) or (k,) int64 array
            -1 where fewer than k items are left.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If k is below 1, a shape does not fit, offsets decrease, or an excluded id is out of
            range.
        """
        array = _checked("topk", "queries", queries, np.float32)
        if array.ndim not in (1, 2) or array.shape[-1] != self._dim:
            raise ValueError(
                f"topk: queries has shape {array.shape}; expected (B, {self._dim}) or "
                f"({self._dim},) for items of {self._dim} terms"
            )
        k = operator.index(k)
        if k < 1:
            raise ValueError(f"topk: k is {k}; expected at least 1")
        values, offsets = (None, None) if exclude is None else _exclusions(exclude)
        shape = (*array.shape[:-1], k)
        scores = np.empty(shape, np.float32)
        ids = np.empty(shape, np.int64)
        self._items.topk(array, k, values, offsets, scores, ids)
        return scores, ids


def topk(
    queries: ArrayLike,
    items: ArrayLike,
    k: SupportsIndex,
    *,
    bias: ArrayLike | None = None,
    exclude: tuple[ArrayLike, ArrayLike] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """
    Return the k best items for each query, of a catalogue that is used only once.

    Packing the catalogue takes longer than a few queries: for more than one call, keep an
    :class:`ItemIndex`, which also documents the arguments, the result and the errors.

    Parameters
    ----------
    queries : (B, d) or (d,) float32 array
    items : (N, d) float32 array
    k : int
    bias : (N,) float32 array, optional
    exclude : tuple of two int64 arrays, optional

    Returns
    -------
    scores : (B, k) or (k,) float32 array
    ids : (B, k) or (k,) int64 array

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If a shape does not fit or a value is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import seqrec_fast as sf
    >>> sf.topk(np.array([1], np.float32), np.array([[5], [7]], np.float32), k=1)
    (array([7.], dtype=float32), array([1]))
    """
    return ItemIndex(items, bias).topk(queries, k, exclude)


def _checked(function: str, argument: str, value: ArrayLike, dtype: type[np.generic]) -> Array:
    """`value` as a C-contiguous array; its dtype is never changed."""
    array = np.asarray(value)
    if array.dtype != dtype:
        raise TypeError(f"{function}: {argument} is {array.dtype}; expected {dtype.__name__}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _exclusions(exclude: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
    if not isinstance(exclude, tuple) or len(exclude) != 2:
        raise TypeError(
            f"topk: exclude is {type(exclude).__name__}; expected a tuple (values, offsets)"
        )
    values = _checked("topk", "exclude values", exclude[0], np.int64)
    offsets = _checked("topk", "exclude offsets", exclude[1], np.int64)
    for name, array in (("values", values), ("offsets", offsets)):
        if array.ndim != 1:
            raise ValueError(f"topk: exclude {name} has shape {array.shape}; expected a vector")
    return values, offsets
