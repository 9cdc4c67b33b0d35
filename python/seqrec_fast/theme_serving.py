"""Recommendations of a theme mixture without PyTorch: one state per theme and user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import seqrec_fast as sf
from seqrec_fast._item_scorer import ItemScorer
from seqrec_fast._theme_states import ThemeNetwork, ThemeStates
from seqrec_fast.data.vocabulary import Ids, ItemVocabulary, as_ids
from seqrec_fast.io import ModelFile
from seqrec_fast.layers import GATE_TABLE_BYTES
from seqrec_fast.recommender import check_precision, ragged

if TYPE_CHECKING:
    from seqrec_fast.theme_store import ThemeStore

__all__ = ["Theme", "ThemeRecommender"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Theme:
    """A theme in the history of a user.

    Attributes
    ----------
    theme : int
        Its number in the model.
    weight : float
        Probability that the session that goes on is of this theme; over all themes they sum to 1.
    share : float
        Share of the user's events that went to it first.
    items : (n,) array of int or str
        The user's ids of these events' items, the newest first, each once.
    """

    theme: int
    weight: float
    share: float
    items: Ids


class ThemeRecommender(ItemScorer):
    """Serves a :class:`seqrec_fast.models.ThemeMixture`; any number of threads may share it.

    Made by :func:`seqrec_fast.load`. Items that the model does not know are skipped and counted in
    :attr:`unknown_items`. The answers are those of the PyTorch module but for rounding.

    Parameters
    ----------
    file : ModelFile
        A model ``"theme_mixture"``.
    gate_table_bytes, precision
        As :func:`seqrec_fast.load` has them.

    Attributes
    ----------
    config : dict
        The model's sizes and kinds.
    vocabulary : ItemVocabulary
        The items; ``vocabulary.ids`` are the user's ids.

    Raises
    ------
    ValueError
        For an unknown precision.
    """

    uses_times = True

    def __init__(
        self,
        file: ModelFile,
        gate_table_bytes: int = GATE_TABLE_BYTES,
        precision: str = "float32",
    ) -> None:
        check_precision(precision)
        config: dict[str, Any] = dict(file.config)
        self.network = ThemeNetwork(
            config, file.tensors, gate_table_bytes=gate_table_bytes, precision=precision
        )
        self._bias = file.tensors["output.bias"]
        self._head = {name: t for name, t in file.tensors.items() if name.startswith("head.")}
        super().__init__(
            ItemVocabulary(file.item_ids),
            self.network.embedding,
            self._bias,
            config,
            [self.network.embedding, self._bias, file.tensors["fusion.weight"]],
        )

    @property
    def task(self) -> str:
        """What the model was trained for, ``"next-item"`` or ``"click-through"``."""
        return str(self.config["task"])

    def __repr__(self) -> str:
        config = self.config
        return (
            f"ThemeRecommender(n_items={self.n_items}, hidden_size={config['hidden_size']}, "
            f"n_themes={config['n_themes']}, k={config['k']})"
        )

    def users(self) -> ThemeStore:
        """Return an empty store of users that answers event by event."""
        from seqrec_fast.theme_store import ThemeStore

        return ThemeStore(self)

    def recommend(
        self,
        histories: Sequence[ArrayLike] | ArrayLike,
        k: int = 20,
        exclude_seen: bool = False,
        *,
        offsets: ArrayLike | None = None,
        times: Sequence[ArrayLike] | ArrayLike | None = None,
    ) -> tuple[Ids, Floats]:
        """Return the ``k`` items that are most likely to come next in each history.

        Parameters
        ----------
        histories : list of B lists or arrays of item ids
            The events of each user so far, oldest first. With ``offsets``: all in one array.
        k : int
            Length of the list.
        exclude_seen : bool
            Leave out the items of the history.
        offsets : (B + 1,) int array, optional
        times : in the form of `histories`, optional
            Seconds. Without them sessions are ``session_window`` events long.

        Returns
        -------
        items : (B, k) array of the user's ids
            Most likely first; -1 or ``""`` where fewer than k are left.
        scores : (B, k) float32 array

        Raises
        ------
        TypeError
            If a history is no list of integers or strings.
        ValueError
            If k is below 1, offsets do not rise from 0 to the number of events, or there is not
            one finite time per event.
        """
        states, items, bounds, _ = self._run(histories, offsets, times)
        return self.best(states, k, (items, bounds) if exclude_seen else None)

    def explain(
        self,
        histories: Sequence[ArrayLike] | ArrayLike,
        *,
        offsets: ArrayLike | None = None,
        times: Sequence[ArrayLike] | ArrayLike | None = None,
    ) -> list[list[Theme]]:
        """Return the themes of each history, those of the session that goes on first.

        Parameters and errors are those of :meth:`recommend`.
        """
        states, items, bounds, themes = self._run(histories, offsets, times)
        logits = self.network.session_logits(states)
        return [
            self.explained(logits[b], items[begin:end], themes[begin:end])
            for b, (begin, end) in enumerate(pairwise(bounds.tolist()))
        ]

    def predict(
        self,
        histories: Sequence[ArrayLike] | ArrayLike,
        targets: ArrayLike,
        *,
        offsets: ArrayLike | None = None,
        times: Sequence[ArrayLike] | ArrayLike | None = None,
    ) -> Floats:
        """Return the probability of a click on each target after each history.

        Parameters
        ----------
        histories, offsets, times
            As in :meth:`recommend`.
        targets : (B,) or (B, C) array of item ids
            One target of each user, or C candidates.

        Returns
        -------
        (B,) or (B, C) float32 array
            NaN for a target that the model does not know.

        Raises
        ------
        TypeError, ValueError
            As :meth:`recommend`; ValueError also if the model is not for click-through, or there
            is not one row of targets per history.
        """
        if not self._head:
            raise ValueError(
                "ThemeRecommender.predict: the model's task is 'next-item'; expected "
                "'click-through'"
            )
        states, _, bounds, _ = self._run(histories, offsets, times)
        wanted = np.asarray(targets)
        if wanted.ndim not in (1, 2) or len(wanted) != len(bounds) - 1:
            raise ValueError(
                f"ThemeRecommender.predict: targets has shape {wanted.shape}; expected "
                f"({len(bounds) - 1},) or ({len(bounds) - 1}, C), a row for each history"
            )
        index = self.vocabulary.index_of(
            as_ids(wanted.ravel(), "ThemeRecommender.predict: targets")
        )
        user = np.repeat(np.arange(len(wanted)), wanted.size // max(len(wanted), 1))
        probability = self._click_probability(states.rows(user), np.maximum(index, 0))
        return np.where(index < 0, np.float32(np.nan), probability).reshape(wanted.shape)

    def _click_probability(self, states: ThemeStates, items: Ints) -> Floats:
        """Return (n,) probabilities of a click on one item for each state."""
        hidden = self.network.hidden(states, self.network.item_logits[items])
        target = self.network.embedding[items]
        fit = target * hidden
        x = np.concatenate([target, hidden, fit], axis=1)
        x = np.maximum(x @ self._head["head.0.weight"].T + self._head["head.0.bias"], 0)
        x = x @ self._head["head.2.weight"].T + self._head["head.2.bias"]
        logit = x[:, 0] + fit.sum(1) + self._bias[items]
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-logit)), np.float32)

    def best(
        self, states: ThemeStates, k: int, exclude: tuple[Ints, Ints] | None
    ) -> tuple[Ids, Floats]:
        """Return the (B, k) best items of states, in the user's ids, and their scores."""
        hidden = self.network.hidden(states, self.network.session_logits(states))
        scores, found = self.best_indices(hidden, k, exclude)
        return self.named(found), scores

    def outputs(
        self, items: Ints, offsets: Ints, times: NDArray[np.float64] | None = None
    ) -> Floats:
        """Return the (events, H) vectors that items are scored with after each event.

        ``items`` are indices; without ``times`` sessions are ``session_window`` events long.
        """
        return self.network.outputs(items, offsets, times)

    def explained(self, logits: Floats, items: Ints, themes: Ints) -> list[Theme]:
        """Return the themes of a user with these session logits, items and themes of items."""
        if not len(logits):
            return []
        weights, order = sf.expert_gate(logits[None], len(logits))
        result = []
        for weight, theme in zip(weights[0].tolist(), order[0].tolist(), strict=True):
            behind = items[themes[:, 0] == theme]
            newest = list(dict.fromkeys(behind[::-1].tolist()))
            share = len(behind) / max(len(items), 1)
            result.append(Theme(theme, weight, share, self.vocabulary.ids[newest]))
        return result

    def known(
        self, item_ids: Ids, offsets: Ints, times: Any
    ) -> tuple[Ints, Ints, NDArray[np.float64] | None]:
        """Return indices, offsets and times of the events whose items are known."""
        if times is not None:
            times = np.asarray(times, np.float64)
            if times.shape != item_ids.shape or not np.isfinite(times).all():
                raise ValueError(
                    f"ThemeRecommender: times has shape {times.shape}; expected {item_ids.shape}, "
                    "one finite number of seconds per event"
                )
        items, offsets, events = self.known_items(item_ids, offsets)
        return items, offsets, times if times is None or events is None else times[events]

    def _run(
        self, histories: Any, offsets: ArrayLike | None, times: Any
    ) -> tuple[ThemeStates, Ints, Ints, Ints]:
        ids, bounds = ragged(histories, offsets, "ThemeRecommender: histories")
        if times is not None and offsets is None:
            times = np.concatenate([np.asarray(t, np.float64) for t in times] or [np.zeros(0)])
        items, bounds, times = self.known(ids, bounds, times)
        states = self.network.initial(len(bounds) - 1)
        themes = self.network.advance(states, items, bounds, times)
        return states, items, bounds, themes
