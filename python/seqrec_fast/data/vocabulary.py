"""Ids of users and items, and the vocabulary that numbers the items."""

from __future__ import annotations

import re
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

# an integer as str() writes it: 007 or +7 is the name of something else
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")

Ids: TypeAlias = "NDArray[np.int64] | NDArray[np.str_]"


class ItemVocabulary:
    """The items of a catalogue: item ``i`` of a model is ``ids[i]`` of the user.

    Parameters
    ----------
    ids : (n_items,) array of int or str
        The user's ids, each once, in the order of the model's rows.

    Raises
    ------
    TypeError
        If the ids are neither integers nor strings.
    ValueError
        If an id occurs twice.

    Examples
    --------
    >>> ItemVocabulary(["hat", "shoe"]).index_of(["shoe", "sock"])
    array([ 1, -1])
    """

    def __init__(self, ids: ArrayLike) -> None:
        self.ids: Ids = as_ids(ids, "ItemVocabulary: ids")
        unique, counts = np.unique(self.ids, return_counts=True)
        if len(unique) != len(self.ids):
            twice = unique[np.argmax(counts > 1)]
            raise ValueError(f"ItemVocabulary: id {twice} occurs more than once")
        if self.ids.dtype.kind == "U":
            self._index = dict(zip(self.ids.tolist(), range(len(self.ids)), strict=True))
        else:
            self._order = np.argsort(self.ids)
            self._sorted = unique
            self._by_id = _table_of(self.ids, unique)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.ids)

    def index_of(self, item_ids: ArrayLike) -> NDArray[np.int64]:
        """Return the index of each id, -1 for an id that is not in the vocabulary.

        An integer and the string that writes it (``7`` and ``"7"``) are the same id.

        Parameters
        ----------
        item_ids : (n,) array of int or str

        Returns
        -------
        (n,) int64 array
        """
        ids = as_ids(item_ids, "ItemVocabulary.index_of: item_ids")
        if self.ids.dtype.kind == "U":
            texts = ids.astype(np.str_).tolist()
            return np.array([self._index.get(text, -1) for text in texts], dtype=np.int64)
        if len(self.ids) == 0:
            return np.full(len(ids), -1, dtype=np.int64)
        if ids.dtype.kind == "U":
            return self._index_of_texts(cast("NDArray[np.str_]", ids))
        if self._by_id is not None:
            first, last = self._sorted[0], self._sorted[-1]
            inside = (ids >= first) & (ids <= last)
            return np.where(inside, self._by_id[np.where(inside, ids - first, 0)], -1)
        at = np.minimum(np.searchsorted(self._sorted, ids), len(self.ids) - 1)
        return np.where(self._sorted[at] == ids, self._order[at], -1).astype(np.int64)

    def _index_of_texts(self, texts: NDArray[np.str_]) -> NDArray[np.int64]:
        unique, inverse = factorize(texts)
        written = [(i, int(t)) for i, t in enumerate(unique.tolist()) if _INTEGER.fullmatch(t)]
        fitting = [(i, number) for i, number in written if -(2**63) <= number < 2**63]
        index = np.full(len(unique), -1, dtype=np.int64)
        if fitting:
            positions, numbers = zip(*fitting, strict=True)
            index[list(positions)] = self.index_of(np.array(numbers, dtype=np.int64))
        return index[inverse]


def _table_of(ids: NDArray[Any], ordered: NDArray[Any]) -> NDArray[np.int64] | None:
    """Return the index of every id from the smallest on, if they lie close enough for a table."""
    if len(ids) == 0 or int(ordered[-1]) - int(ordered[0]) >= 8 * len(ids):
        return None
    table = np.full(ordered[-1] - ordered[0] + 1, -1, dtype=np.int64)
    table[ids - ordered[0]] = np.arange(len(ids))
    return table


def as_ids(values: Any, where: str) -> Ids:
    """Return ids as a one-dimensional int64 or str array."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{where} has shape {array.shape}; expected one dimension")
    if array.size == 0 and array.dtype.kind not in "US":
        return array.astype(np.int64)
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind == "T" or (
        array.dtype.kind == "O" and all(isinstance(value, str) for value in array)
    ):
        return array.astype(np.str_)
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and int(array.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{where} holds {array.max()}; expected integers below 2**63")
        return np.ascontiguousarray(array, dtype=np.int64)
    raise TypeError(f"{where} has dtype {array.dtype}; expected integers or strings")


def factorize(ids: Ids) -> tuple[Ids, NDArray[np.int64]]:
    """Return the sorted distinct ids, and the position among them of each id."""
    if ids.dtype.kind == "i":
        unique, inverse = np.unique(ids, return_inverse=True)
        return cast("Ids", unique), inverse.astype(np.int64)
    # hashing beats sorting strings by a factor of ten
    texts = ids.tolist()
    names = sorted(set(texts))
    index = dict(zip(names, range(len(names)), strict=True))
    return cast("Ids", np.array(names, dtype=ids.dtype)), np.array(
        [index[t] for t in texts], dtype=np.int64
    )
