"""Recommendations of a theme mixture without PyTorch: one state per theme and user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import seqrec_fast as sf
from seqrec_fast._checks import checked_flag
from seqrec_fast._click_layers import linear
from seqrec_fast._click_targets import Targets, checked_targets
from seqrec_fast._item_scorer import ItemScorer
from seqrec_fast._theme_states import ThemeNetwork, ThemeStates, check_times
from seqrec_fast.data.vocabulary import Ids, ItemVocabulary
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
            Length of the list; no more than all items are returned.
        exclude_seen : bool
            Leave out the items of the history.
        offsets : (B + 1,) int array, optional
        times : in the form of `histories`, optional
            Seconds, which do not decrease within a history. Without them sessions are
            ``session_window`` events long.

        Returns
        -------
        items : (B, min(k, n_items)) array of the user's ids
            Most likely first; -1 or ``""`` where fewer are left.
        scores : (B, min(k, n_items)) float32 array

        Raises
        ------
        TypeError
            If a history is no list of integers or strings.
        ValueError
            If k is below 1, offsets do not rise from 0 to the number of events, there is not one
            finite time per event of each history, or times decrease.
        """
        function = "ThemeRecommender.recommend"
        exclude_seen = checked_flag(function, "exclude_seen", exclude_seen)
        states, items, bounds, _ = self._run(
            function, *self._events(function, histories, offsets, times)
        )
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
        function = "ThemeRecommender.explain"
        states, items, bounds, themes = self._run(
            function, *self._events(function, histories, offsets, times)
        )
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
        function = "ThemeRecommender.predict"
        self.check_click_through(function)
        events = self._events(function, histories, offsets, times)
        wanted = checked_targets(function, self.vocabulary, targets, len(events[1]) - 1)
        states = self._run(function, *events)[0]
        return self.click_probabilities(states, wanted)

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
        items, offsets, targets, history
            As in :meth:`ClickPredictor.logits`.
        times : (events,) float64 array, optional
            As in :meth:`recommend`.

        Returns
        -------
        (n,) float32 array

        Raises
        ------
        ValueError
            If the model is not for click-through, or times decrease.
        """
        self.check_click_through("ThemeRecommender.logits")
        states = self.network.initial(len(offsets) - 1)
        check_times("ThemeRecommender.logits", states, offsets, times)
        self.network.advance(states, items, offsets, times)
        return self._logits(
            states, targets, np.arange(len(targets)) if history is None else history
        )

    def check_click_through(self, function: str) -> None:
        """Raise ValueError if the model does not tell of clicks."""
        if not self._head:
            raise ValueError(
                f"{function}: the model's task is 'next-item'; expected 'click-through'"
            )

    def click_probabilities(self, states: ThemeStates, wanted: Targets) -> Floats:
        """Return the probabilities of a click on targets, of which user b's has history b."""
        return wanted.probabilities(self._logits(states, wanted.items, wanted.history))

    def _logits(self, states: ThemeStates, items: Ints, user: Ints) -> Floats:
        hidden = self.network.hidden(states, self.network.item_logits[items], user)
        target = self.network.embedding[items]
        fit = target * hidden
        x = np.concatenate([target, hidden, fit], axis=1)
        x = linear(x, self._head["head.0.weight"], self._head["head.0.bias"])
        x = np.maximum(x, np.float32(0))
        x = linear(x, self._head["head.2.weight"], self._head["head.2.bias"])
        return np.asarray(x[:, 0] + fit.sum(1) + self._bias[items])

    def best(
        self, states: ThemeStates, k: int, exclude: tuple[Ints, Ints] | None
    ) -> tuple[Ids, Floats]:
        """Return the (B, min(k, n_items)) best items of states and their scores."""
        hidden = self.network.hidden(states, self.network.session_logits(states))
        scores, found = self.best_indices(hidden, k, exclude)
        return self.named(found), scores

    def outputs(
        self, items: Ints, offsets: Ints, times: NDArray[np.float64] | None = None
    ) -> Floats:
        """Return the (events, H) vectors that items are scored with after each event.

        ``items`` are indices; without ``times`` sessions are ``session_window`` events long.
        """
        states = self.network.initial(len(offsets) - 1)
        check_times("ThemeRecommender.outputs", states, offsets, times)
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
        self, item_ids: Ids, offsets: Ints, times: NDArray[np.float64] | None
    ) -> tuple[Ints, Ints, NDArray[np.float64] | None]:
        """Return indices, offsets and times of the events whose items are known."""
        items, offsets, events = self.known_items(item_ids, offsets)
        return items, offsets, times if times is None or events is None else times[events]

    def _events(
        self, function: str, histories: Any, offsets: ArrayLike | None, times: Any
    ) -> tuple[Ids, Ints, NDArray[np.float64] | None]:
        """Return ids, offsets and times of histories of either form, checked."""
        ids, bounds = ragged(histories, offsets, f"{function}: histories")
        if times is None:
            return ids, bounds, None
        if offsets is None:
            return ids, bounds, _joined_times(function, times, bounds)
        return ids, bounds, seconds(f"{function}: times", times, len(ids))

    def _run(
        self, function: str, ids: Ids, bounds: Ints, times: NDArray[np.float64] | None
    ) -> tuple[ThemeStates, Ints, Ints, Ints]:
        """Return states, known items, their offsets and themes."""
        items, bounds, times = self.known(ids, bounds, times)
        states = self.network.initial(len(bounds) - 1)
        check_times(function, states, bounds, times)
        themes = self.network.advance(states, items, bounds, times)
        return states, items, bounds, themes


def seconds(where: str, times: ArrayLike, n_events: int) -> NDArray[np.float64]:
    """Return times as float64; raise ValueError unless there is a finite one for each event."""
    try:
        array = np.asarray(times, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is {times!r}; expected numbers of seconds: {error}") from error
    if array.shape != (n_events,):
        raise ValueError(
            f"{where} has shape {array.shape}; expected ({n_events},), a number of seconds for "
            "each event"
        )
    if (wrong := np.flatnonzero(~np.isfinite(array))).size:
        raise ValueError(
            f"{where}[{wrong[0]}] is {array[wrong[0]]}; expected a finite number of seconds"
        )
    return array


def _joined_times(function: str, times: Any, bounds: Ints) -> NDArray[np.float64]:
    """Return the times of a list of histories in one array."""
    lengths = np.diff(bounds).tolist()
    if not hasattr(times, "__len__") or len(times) != len(lengths):
        count = len(times) if hasattr(times, "__len__") else repr(times)
        raise ValueError(
            f"{function}: times has {count} entries; expected {len(lengths)}, an array of seconds "
            "for each history"
        )
    each = [
        seconds(f"{function}: times[{number}]", own, length)
        for number, (own, length) in enumerate(zip(times, lengths, strict=True))
    ]
    return np.concatenate(each or [np.zeros(0)])
