"""What served models share: the items they know, and scores of items for hidden states."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast._checks import checked_int
from seqrec_fast.data.vocabulary import Ids, ItemVocabulary
from seqrec_fast.index import ItemIndex

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class KnownItems:
    """The items of a model, by the user's ids; any number of threads may share it.

    Parameters
    ----------
    vocabulary : ItemVocabulary
    """

    def __init__(self, vocabulary: ItemVocabulary) -> None:
        self.vocabulary = vocabulary
        self._unknown_items = 0
        self._lock = threading.Lock()

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.vocabulary)

    @property
    def unknown_items(self) -> int:
        """How many events have been skipped so far because their item is unknown."""
        return self._unknown_items

    def count_unknown(self, events: int) -> None:
        """Add events whose item is unknown to :attr:`unknown_items`."""
        with self._lock:
            self._unknown_items += events

    def at_most_all(self, k: int, function: str | None = None) -> int:
        """Return k, or the number of items if it is more: no answer is allocated by k alone."""
        if type(k) is not int or k < 1:  # a call takes microseconds
            k = checked_int(function or f"{type(self).__name__}.recommend", "k", k, 1)
        return min(k, self.n_items)

    def named(self, found: Ints) -> Ids:
        """Turn item indices into the user's ids; an index of -1 becomes -1 or ``""``."""
        ids = self.vocabulary.ids
        filler: int | str = -1 if ids.dtype.kind == "i" else ""
        return np.where(found >= 0, ids[found], filler)

    def known_items(self, item_ids: Ids, offsets: Ints) -> tuple[Ints, Ints, Ints | None]:
        """Turn the user's ids into item indices, without the items that are unknown.

        Parameters
        ----------
        item_ids : (events,) int64 or str array
        offsets : (B + 1,) int64 array

        Returns
        -------
        items : (known events,) int64 array
        offsets : (B + 1,) int64 array
        events : (known events,) int64 array or None
            Which events these are; None: all.
        """
        items = self.vocabulary.index_of(item_ids)
        if items.size == 0 or items.min() >= 0:
            return items, offsets, None
        is_known = items >= 0
        n_known = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_known)])
        self.count_unknown(len(items) - int(n_known[-1]))
        return items[is_known], n_known[offsets], np.flatnonzero(is_known)


class ItemScorer(KnownItems):
    """Items ranked for hidden states; any number of threads may share it.

    Parameters
    ----------
    vocabulary : ItemVocabulary
    weight : (n_items, H) float32 array
        Item i is scored ``h @ weight[i] + bias[i]``.
    bias : (n_items,) float32 array
    config : dict
        The model's sizes and kinds.
    parameters : sequence of arrays, optional
        Of the model, enough of them to tell it from others; by default weight and bias.
    """

    #: Whether the model looks at the times of events.
    uses_times = False

    def __init__(
        self,
        vocabulary: ItemVocabulary,
        weight: Floats,
        bias: Floats,
        config: dict[str, Any],
        parameters: Sequence[Floats] | None = None,
    ) -> None:
        super().__init__(vocabulary)
        self.config = config
        self._parameters = (weight, bias) if parameters is None else parameters
        self._index = ItemIndex(weight, bias=bias)
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """Return a digest of the model: states of one model mean nothing to another."""
        if self._fingerprint is None:
            digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
            for array in (*self._parameters, self.vocabulary.ids):
                digest.update(np.ascontiguousarray(array).tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def best_indices(
        self, outputs: Floats, k: int, exclude: tuple[Ints, Ints] | None = None
    ) -> tuple[Floats, Ints]:
        """Return (B, min(k, n_items)) scores and item indices for (B, H) hidden states.

        ``exclude`` is a pair of (n,) and (B + 1,) int64 arrays: item indices to leave out, ragged.
        """
        return self._index.topk(outputs, self.at_most_all(k), exclude=exclude)

    def ranks(
        self,
        outputs: Floats,
        targets: Ints,
        exclude: tuple[Ints, Ints] | None = None,
        *,
        ties: str = "conservative",
    ) -> NDArray[np.float64]:
        """Return the rank of one item index for each hidden state.

        Parameters
        ----------
        outputs : (n, H) float32 array
        targets : (n,) int64 array
        exclude : pair of (m,) and (n + 1,) int64 arrays, optional
            Item indices to leave out, ragged; a target among them has rank infinity.
        ties : {"conservative", "standard", "median"}
            See :func:`seqrec_fast.metrics.rank_from_counts`.

        Returns
        -------
        (n,) float64 array
        """
        ranks = self._index.rank_of(outputs, targets, exclude=exclude, ties=ties)
        return np.asarray(ranks, dtype=np.float64)
