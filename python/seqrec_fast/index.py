"""Exact top-k of dot products over a catalogue of item vectors."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any, SupportsIndex
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._catalogue import Catalogue, packed_once
from ._checks import checked_int
from ._item_queries import best_items, merged, ranks_of

__all__ = ["ItemIndex", "merge_topk", "topk"]

Scores = NDArray[np.float32]
Ids = NDArray[np.int64]
Pair = tuple[ArrayLike, ArrayLike]

_numbers = itertools.count()
_by_number: WeakValueDictionary[int, ItemIndex] = WeakValueDictionary()


class ItemIndex:
    """
    A catalogue, packed once, that answers top-k queries exactly.

    The score of an item is ``query @ item + bias`` in float32, summed in one fixed order: the same
    query and item give the same bits whatever the batch, the number of threads and the scan (as
    long as the CPU target is the same). Items come by descending score; equal scores by ascending
    id, where -0.0 equals 0.0. An item whose score is NaN is never returned.

    Any number of threads may share an index, also while one of them changes it: a query sees
    all of a change or nothing of it.

    Parameters
    ----------
    items : (N, d) float32 array
        Item vectors, copied; the id of an item is its row. N below 2**31, d at least 1.
    bias : (N,) float32 array, optional
        Added to the scores.
    precision : {"float32", "bfloat16"}
        Of the stored vectors, which bfloat16 rounds to nearest, ties to even. The answer is the
        exact one for what is stored; queries and scores stay float32.
    scan : {"auto", "float32", "int8"}
        How candidates are found; the answer is the same. ``"int8"`` reads 8-bit codes first and
        the vectors of the few items that the codes cannot rule out, which is faster by far unless
        the catalogue is small or one term outweighs all others; d at most 50,000. ``"auto"`` picks.
    id_offset : int
        For a slice of a larger catalogue: added to the ids.
    n_ids : int, optional
        Size of the larger catalogue: ids in exclusions are below it, and those outside the slice
        are ignored. By default ``id_offset + N``.

    Raises
    ------
    TypeError
        If an array is not float32, or an option has another type.
    ValueError
        If a shape does not fit, an option is unknown or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from seqrec_fast import ItemIndex
    >>> index = ItemIndex(np.array([[1, 0], [0, 1], [2, 2]], np.float32))
    >>> scores, ids = index.topk(np.array([3, 1], np.float32), k=2)
    >>> scores.tolist(), ids.tolist()
    ([8.0, 3.0], [2, 0])
    """

    def __init__(
        self,
        items: ArrayLike,
        *,
        bias: ArrayLike | None = None,
        precision: str = "float32",
        scan: str = "auto",
        id_offset: SupportsIndex = 0,
        n_ids: SupportsIndex | None = None,
    ) -> None:
        first = checked_int("ItemIndex", "id_offset", id_offset)
        end = None if n_ids is None else checked_int("ItemIndex", "n_ids", n_ids)
        self._hold(Catalogue.of(items, bias, precision, scan, first, end))

    def _hold(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._dim = catalogue.layout.dim
        self._number = next(_numbers)
        _by_number[self._number] = self

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ItemIndex:
        """
        Map a file that :meth:`save` has written.

        It takes milliseconds whatever the size: pages are read when a query needs them, so the
        file may be larger than memory. The index cannot be changed.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        ItemIndex

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is truncated or foreign, or of a newer format. What the arrays hold is
            not read, and so not checked.
        """
        index = cls.__new__(cls)
        index._hold(Catalogue.open(path))
        return index

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write the index to a file for :meth:`open`, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            The file, in the safetensors format. It is written under another name, synced and
            renamed: whatever goes wrong, a file that stood there before is still there.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        self._catalogue.save(path)

    def __len__(self) -> int:
        return self._catalogue.packed.n_items

    @property
    def dim(self) -> int:
        """Terms of an item vector."""
        return self._dim

    @property
    def precision(self) -> str:
        """What the vectors are stored in: ``"float32"`` or ``"bfloat16"``."""
        return self._catalogue.layout.precision

    @property
    def scan(self) -> str:
        """What candidates are found with: ``"float32"`` or ``"int8"``."""
        return self._catalogue.layout.scan

    @property
    def packed(self) -> _core.PackedItems:
        """What the kernels read."""
        return self._catalogue.packed

    @property
    def number(self) -> int:
        """A number that :func:`index_of_number` knows the index by, while it exists."""
        return self._number

    @property
    def nbytes(self) -> int:
        """Bytes of the packed catalogue."""
        return self._catalogue.layout.nbytes(len(self))

    def __repr__(self) -> str:
        return (
            f"ItemIndex({len(self)} items, dim={self.dim}, precision={self.precision!r}, "
            f"scan={self.scan!r})"
        )

    def topk(
        self,
        queries: ArrayLike,
        k: SupportsIndex,
        *,
        exclude: Pair | None = None,
        allow: ArrayLike | Pair | None = None,
        k_per_query: ArrayLike | None = None,
    ) -> tuple[Scores, Ids]:
        """
        Return the k best items for each query.

        Parameters
        ----------
        queries : (B, d) or (d,) float32 array
        k : int
            At least 1; may exceed the number of items. The answer has k columns all the same.
        exclude : tuple of two int64 arrays, optional
            ``(values, offsets)``: query b gets none of ``values[offsets[b]:offsets[b + 1]]``,
            which need not be sorted or distinct; B + 1 offsets.
        allow : array or tuple of two arrays, optional
            The items that may be returned, by default all: a bool (N,) mask or an int64 list of
            ids for all queries, or for each query a mask, (B, N), or a list, ``(values,
            offsets)`` as of `exclude`. A mask may also be of length n_ids.
        k_per_query : (B,) integer array, optional
            What each query wants of the k, 0 to k; the rest of its row is empty. An int for a
            query of shape (d,).

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
            If k is below 1, a shape does not fit, offsets decrease, or an id is out of range.
        MemoryError
            If there is no memory for k columns.
        """
        return best_items(
            self._catalogue.packed, self._dim, queries, k, exclude, allow, k_per_query
        )

    def rank_of(
        self,
        queries: ArrayLike,
        ids: ArrayLike,
        *,
        exclude: Pair | None = None,
        ties: str = "order",
    ) -> NDArray[np.int64] | NDArray[np.float64]:
        """
        Return the rank of one item for each query, from 1, without sorting the others.

        Parameters
        ----------
        queries : (B, d) or (d,) float32 array
        ids : (B,) int64 array, or an int for a query of shape (d,)
        exclude : tuple of two int64 arrays, optional
            As of :meth:`topk`; excluded items are not counted.
        ties : {"order", "standard", "conservative", "median"}
            ``"order"``: the place of the item in the answer of :meth:`topk` with k = N. The
            others count items of the same score as :func:`seqrec_fast.metrics.rank_from_counts`
            does.

        Returns
        -------
        (B,) or () array
            int64 for ``"order"``, with -1 for an item that :meth:`topk` never returns because it
            is excluded or its score is NaN. For the others float64 with infinity there, which
            the metrics take as a miss.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If a shape does not fit, an id is out of range, or `ties` is unknown.
        """
        return ranks_of(self._catalogue.packed, self._dim, queries, ids, exclude, ties)

    def rows(self, ids: ArrayLike) -> Scores:
        """
        Return stored item vectors.

        Parameters
        ----------
        ids : int64 array

        Returns
        -------
        (..., d) float32 array

        Raises
        ------
        TypeError
            If ids is not int64.
        ValueError
            If an id is out of range.
        """
        return self._catalogue.rows(ids)

    def update(self, ids: ArrayLike, rows: ArrayLike, *, bias: ArrayLike | None = None) -> None:
        """
        Replace the vectors of items.

        Parameters
        ----------
        ids : (m,) int64 array
            Distinct ids of the index.
        rows : (m, d) float32 array
        bias : (m,) float32 array, optional
            By default the items keep theirs.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If a shape does not fit, an id is out of range or occurs twice, the index has no
            bias, or it is mapped from a file. Nothing is changed then.
        """
        self._catalogue.update(ids, rows, bias)

    def extend(self, rows: ArrayLike, *, bias: ArrayLike | None = None) -> Ids:
        """
        Append items.

        Parameters
        ----------
        rows : (m, d) float32 array
        bias : (m,) float32 array, optional
            Needed if and only if the index has a bias.

        Returns
        -------
        (m,) int64 array
            The ids of the new items, which follow those that are there.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If a shape does not fit, bias is missing or too much, an id would reach the n_ids that
            was given, or the index is mapped from a file. Nothing is changed then.
        """
        return self._catalogue.extend(rows, bias)

    def stats(self) -> dict[str, Any]:
        """
        Return what all calls of :meth:`topk` so far have cost.

        Returns
        -------
        dict
            ``queries``; ``survivors_per_query``: items whose codes did not rule them out, in the
            mean; ``blocks``: blocks of 64 items; ``blocks_scanned`` and ``blocks_skipped``
            because no item in them could be among the best, both once per tile of up to 64
            queries; ``scan``; ``backend``: what computes it.
        """
        return self._catalogue.stats()


def index_of_number(number: int) -> ItemIndex:
    """Return the index whose :attr:`ItemIndex.number` it is."""
    index = _by_number.get(number)
    if index is None:
        raise ValueError(f"topk: the ItemIndex of number {number} does not exist any more")
    return index


def topk(
    queries: ArrayLike,
    items: ArrayLike,
    k: SupportsIndex,
    *,
    bias: ArrayLike | None = None,
    exclude: Pair | None = None,
    allow: ArrayLike | Pair | None = None,
) -> tuple[Scores, Ids]:
    """
    Return the k best items for each query, of a catalogue that is used only once.

    It is read as it lies, in float32. For more than a few calls keep an :class:`ItemIndex`, which
    rules most items out by 8-bit codes, and documents the arguments, the result and the errors.

    Parameters
    ----------
    queries : (B, d) or (d,) float32 array
    items : (N, d) float32 array
    k : int
    bias : (N,) float32 array, optional
    exclude : tuple of two int64 arrays, optional
    allow : array or tuple of two arrays, optional

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
    packed = packed_once(items, bias)
    return best_items(packed, packed.dim, queries, k, exclude, allow, None)


def merge_topk(
    parts: Sequence[tuple[ArrayLike, ArrayLike]], k: SupportsIndex
) -> tuple[Scores, Ids]:
    """
    Return the k best items of catalogues that were asked one by one: of shards, say.

    Exact if each part holds the k best of its catalogue, or all that it has.

    Parameters
    ----------
    parts : sequence of pairs of (B, k_i) or (k_i,) arrays
        ``(scores, ids)`` as of :meth:`ItemIndex.topk`, float32 and int64, in any order; an id of
        -1 is no item. Of an id that occurs more than once for a query, the best score counts.
    k : int
        At least 1.

    Returns
    -------
    scores : (B, k) or (k,) float32 array
        Descending; -inf where fewer than k items are left.
    ids : (B, k) or (k,) int64 array
        Ascending where scores are equal; -1 where fewer than k items are left.

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If there are no parts, shapes do not fit, or k is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from seqrec_fast import merge_topk
    >>> one = np.array([5, 3], np.float32), np.array([2, 0])
    >>> two = np.array([4, -np.inf], np.float32), np.array([9, -1])
    >>> scores, ids = merge_topk([one, two], k=2)
    >>> scores.tolist(), ids.tolist()
    ([5.0, 4.0], [2, 9])
    """
    return merged(parts, k)
