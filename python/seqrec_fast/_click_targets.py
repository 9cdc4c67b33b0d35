"""Targets that a user may click on: their indices, and which history each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast._click_layers import sigmoid
from seqrec_fast.data.vocabulary import ItemVocabulary, as_ids

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Targets:
    """The items that a prediction is asked for.

    Attributes
    ----------
    items : (n,) int64 array
        Item indices, 0 for an item that the model does not know.
    history : (n,) int64 array
        The history of each.
    """

    items: Ints
    history: Ints
    _is_known: NDArray[np.bool_]
    _shape: tuple[int, ...]

    def probabilities(self, logits: Floats) -> Floats:
        """Return the probabilities of (n,) logits in the shape of what was asked.

        NaN where the model does not know the item.
        """
        result = np.where(self._is_known, sigmoid(logits), np.float32(np.nan))
        return result.reshape(self._shape)


def checked_targets(
    function: str, vocabulary: ItemVocabulary, targets: ArrayLike, n_histories: int
) -> Targets:
    """Look up (B,) or (B, C) targets in the user's ids.

    Raises
    ------
    TypeError
        If they are neither integers nor strings.
    ValueError
        If there is not one row of them for each history.
    """
    wanted = np.asarray(targets)
    if wanted.ndim not in (1, 2) or len(wanted) != n_histories:
        raise ValueError(
            f"{function}: targets has shape {wanted.shape}; expected ({n_histories},) or "
            f"({n_histories}, C), a row for each history"
        )
    index = vocabulary.index_of(as_ids(wanted.ravel(), f"{function}: targets"))
    candidates = 1 if wanted.ndim == 1 else wanted.shape[1]
    history = np.repeat(np.arange(n_histories), candidates)
    return Targets(np.maximum(index, 0), history, index >= 0, wanted.shape)
