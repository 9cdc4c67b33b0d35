"""Click probabilities from a model file, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast._click_layers import MLP, interest_of
from seqrec_fast._click_targets import checked_targets
from seqrec_fast._item_scorer import KnownItems
from seqrec_fast._ragged_arrays import segment_means
from seqrec_fast.data.sessions import gather
from seqrec_fast.data.vocabulary import ItemVocabulary
from seqrec_fast.io import ModelFile
from seqrec_fast.layers import GATE_TABLE_BYTES
from seqrec_fast.recommender import check_precision, ragged

__all__ = ["ClickPredictor"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_BLOCK_TARGETS = 1024


class ClickPredictor(KnownItems):
    """Tells how likely users click on given items; any number of threads may share it.

    Made by :func:`seqrec_fast.load` from the file of a click-through model. Items of a history
    that the model does not know are skipped and counted in :attr:`unknown_items`.

    Parameters
    ----------
    file : ModelFile
    gate_table_bytes, precision
        As :func:`seqrec_fast.load` has them; DIN has no recurrent layer and is float32.

    Attributes
    ----------
    config : dict
        The model's sizes and kinds.
    vocabulary : ItemVocabulary
        The items; ``vocabulary.ids`` are the user's ids.

    Raises
    ------
    ValueError
        If the precision is unknown, or another one than float32 is wanted of DIN.
    """

    #: See :attr:`Recommender.task`.
    task = "click-through"

    def __init__(
        self,
        file: ModelFile,
        gate_table_bytes: int = GATE_TABLE_BYTES,
        precision: str = "float32",
    ) -> None:
        check_precision(precision)
        self.model = file.model
        self.config: dict[str, Any] = dict(file.config)
        super().__init__(ItemVocabulary(file.item_ids))
        self.precision = precision
        self._table = file.tensors["embedding.weight"]
        self._head = MLP(file.tensors, "head.", self.config["activation"])
        self._interest = interest_of(
            file.model, self.config, file.tensors, gate_table_bytes, precision
        )

    def __repr__(self) -> str:
        return f"ClickPredictor({self.model}, n_items={self.n_items}, precision={self.precision!r})"

    def predict(
        self,
        histories: Sequence[ArrayLike] | ArrayLike,
        targets: ArrayLike,
        *,
        offsets: ArrayLike | None = None,
    ) -> Floats:
        """Return the probability of a click on each target after each history.

        Parameters
        ----------
        histories : list of B lists or arrays of item ids
            What each user has clicked, oldest first; may be empty. With ``offsets``: all
            histories in one (events,) array.
        targets : (B,) or (B, C) array of item ids
            One target of each user, or C candidates: what does not depend on the target is then
            computed once.
        offsets : (B + 1,) int array, optional
            History b is ``histories[offsets[b]:offsets[b + 1]]``.

        Returns
        -------
        (B,) or (B, C) float32 array
            NaN for a target that the model does not know.

        Raises
        ------
        TypeError
            If ids are neither integers nor strings.
        ValueError
            If a shape does not fit, or offsets do not rise from 0 to the number of events.

        Examples
        --------
        >>> predictor = load("din.safetensors")  # doctest: +SKIP
        >>> predictor.predict([["hat", "shoe"], []], ["sock", "hat"])  # doctest: +SKIP
        """
        ids, bounds = ragged(histories, offsets, "ClickPredictor.predict: histories")
        wanted = checked_targets(
            "ClickPredictor.predict", self.vocabulary, targets, len(bounds) - 1
        )
        items, bounds, _ = self.known_items(ids, bounds)
        return wanted.probabilities(self.logits(items, bounds, wanted.items, wanted.history))

    def logits(
        self,
        items: Ints,
        offsets: Ints,
        targets: Ints,
        history: Ints | None = None,
        times: NDArray[np.float64] | None = None,
    ) -> Floats:
        """Return the logit of a click on each target, in item indices.

        Parameters
        ----------
        items : (events,) int64 array
            Indices, 0 to n_items - 1, history after history.
        offsets : (B + 1,) int64 array
        targets : (n,) int64 array
        history : (n,) int64 array, optional
            The history of each target; by default target b has history b.
        times : (events,) float64 array, optional
            Has no effect on these models.

        Returns
        -------
        (n,) float32 array
        """
        if history is None:
            history = np.arange(len(targets))
        lengths = np.diff(offsets)
        logits = np.empty(len(targets), np.float32)
        # some at a time: a target has a copy of its history, or of a matrix, while it is scored
        for begin in range(0, len(targets), _BLOCK_TARGETS):
            part = slice(begin, begin + _BLOCK_TARGETS)
            used, own = np.unique(history[part], return_inverse=True)
            events, bounds = gather(offsets[:-1][used], lengths[used])
            logits[part] = self._logits(items[events], bounds, targets[part], own)
        return logits

    def _logits(self, items: Ints, offsets: Ints, targets: Ints, history: Ints) -> Floats:
        query, events = self._table[targets], self._table[items]
        mean = segment_means(events, offsets)[history]
        interest = self._interest(query, events, items, offsets, history)
        return self._head(np.concatenate([query, mean, query * mean, interest], axis=1))
