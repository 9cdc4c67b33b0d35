"""Draws of items by probability."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast import _core
from seqrec_fast._checks import checked_flag, checked_int


class AliasTable:
    """
    Draws items with given probabilities, each in constant time (Walker, 1977).

    Built in linear time (Vose, 1991, "A linear algorithm for generating random numbers with a
    given distribution"). A draw takes 64 bits of a counter-based generator (Philox 4x32-10,
    Salmon et al., 2011), so the draws of a seed and counter are always the same, on any number
    of threads; other counters give independent ones.

    Parameters
    ----------
    probabilities : (n_items,) array
        Need not sum to 1. An item with 0 is never drawn.

    Raises
    ------
    ValueError
        If one is negative or not finite, or all are 0.
    TypeError
        If one is no number.

    Examples
    --------
    >>> AliasTable([0.0, 2.0, 0.0]).draw(4, seed=1)
    array([1, 1, 1, 1])
    """

    def __init__(self, probabilities: ArrayLike) -> None:
        given = np.asarray(probabilities)
        if given.dtype.kind not in "biuf":
            raise TypeError(f"AliasTable: probabilities is {given.dtype}; expected numbers")
        self._given = np.array(given, dtype=np.float64, order="C")
        if self._given.ndim != 1 or not len(self._given):
            raise ValueError(
                f"AliasTable: probabilities has shape {self._given.shape}; expected (n_items,), "
                "one or more"
            )
        self._table = _core.AliasTable(self._given)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The (n_items,) probabilities, summing to 1."""
        return np.asarray(self._given / self._given.sum())

    def draw(
        self, n: int, seed: int, counter: int = 0, *, ordered: bool = False
    ) -> NDArray[np.int64]:
        """
        Return `n` items, drawn with replacement.

        Parameters
        ----------
        n : int
            Up to 2**32.
        seed, counter : int
            0 to 2**64 - 1. Same numbers, same draws.
        ordered : bool
            In increasing order.

        Returns
        -------
        (n,) int64 array

        Raises
        ------
        ValueError
            If a number is out of range.
        TypeError
            If it is no integer.
        """
        name = "AliasTable.draw"
        return self._table.draw(
            checked_int(name, "n", n, 0, 1 << 32),
            checked_int(name, "seed", seed, 0, (1 << 64) - 1),
            checked_int(name, "counter", counter, 0, (1 << 64) - 1),
            checked_flag(name, "ordered", ordered),
        )

    def __len__(self) -> int:
        return len(self._table)

    def __reduce__(self) -> tuple[type[AliasTable], tuple[NDArray[np.float64]]]:
        return AliasTable, (self._given,)
