"""Recommendations from a model file, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast._checks import checked_flag
from seqrec_fast._click_model_format import CLICK_MODELS
from seqrec_fast._item_scorer import ItemScorer
from seqrec_fast.data.vocabulary import Ids, ItemVocabulary, as_ids
from seqrec_fast.io import ModelFile, load_model
from seqrec_fast.layers import GATE_TABLE_BYTES, GRU, LSTM, RNN

if TYPE_CHECKING:
    from seqrec_fast.sessions import SessionStore

__all__ = ["Recommender", "load"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def load(
    path: str | os.PathLike[str],
    *,
    precision: str = "float32",
    gate_table_bytes: int = GATE_TABLE_BYTES,
) -> Any:
    """Make a recommender, or a predictor of clicks, from a model file.

    Parameters
    ----------
    path : str or path-like
        A ``model.safetensors`` that :func:`seqrec_fast.io.save_model` or
        ``seqrec-fast train`` has written.
    precision : {"float32", "bfloat16", "int8"}
        Of the recurrent layers, see :meth:`seqrec_fast.GRU.from_state_dict`. Scores of items are
        float32.
    gate_table_bytes : int
        Memory that the input gates of all items may take, see
        :meth:`seqrec_fast.GRU.from_state_dict`; the answers are the same with and without.

    Returns
    -------
    Recommender, ThemeRecommender for a theme mixture, or ClickPredictor for another
    click-through model

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`seqrec_fast.io.load_model`; ValueError also for an unknown precision.
    """
    file = load_model(path)
    if file.model == "theme_mixture":
        from seqrec_fast.theme_serving import ThemeRecommender

        return ThemeRecommender(file, gate_table_bytes, precision)
    if file.model in CLICK_MODELS:
        from seqrec_fast.click_predictor import ClickPredictor

        return ClickPredictor(file, gate_table_bytes, precision)
    return Recommender(file, gate_table_bytes, precision)


class Recommender(ItemScorer):
    """Recommends the items that come next in a session; any number of threads may share it.

    Items that the model does not know are skipped and counted in :attr:`unknown_items`. A
    session without a known item is answered from the model's initial state, which is the same
    for all of them.

    Parameters
    ----------
    file : ModelFile
        A model, see :func:`load`.
    gate_table_bytes, precision
        As :func:`load` has them.

    Attributes
    ----------
    config : dict
        The model's sizes and kinds.
    vocabulary : ItemVocabulary
        The items; ``vocabulary.ids`` are the user's ids.
    """

    #: What :func:`load` returns is for: the next item, or ``"click-through"``.
    task = "next-item"

    def __init__(
        self,
        file: ModelFile,
        gate_table_bytes: int = GATE_TABLE_BYTES,
        precision: str = "float32",
    ) -> None:
        check_precision(precision)
        config: dict[str, Any] = dict(file.config)
        embedding = config["embedding"]
        inputs = "input_gates.weight" if embedding == "none" else "embedding.weight"
        self._layer = _layer(
            config,
            file.tensors,
            embedding=file.tensors[inputs],
            gate_table_bytes=gate_table_bytes,
            precision=precision,
        )
        scored_with = _score_tensors(config, file.tensors)
        vocabulary = ItemVocabulary(file.item_ids)
        super().__init__(vocabulary, *_item_weights(*scored_with), config, scored_with)

    def __repr__(self) -> str:
        config = self.config
        return (
            f"Recommender({config['cell']}, n_items={self.n_items}, "
            f"hidden_size={config['hidden_size']}, num_layers={config['num_layers']}, "
            f"precision={self._layer.precision!r})"
        )

    def recommend(
        self,
        sessions: Sequence[ArrayLike] | ArrayLike,
        k: int = 20,
        exclude_seen: bool = False,
        *,
        offsets: ArrayLike | None = None,
    ) -> tuple[Ids, Floats]:
        """Return the ``k`` items that are most likely to come next in each session.

        Parameters
        ----------
        sessions : list of B lists or arrays of item ids
            The events of each session so far, oldest first. With ``offsets``: all sessions in
            one (events,) array.
        k : int
            Length of the list; no more than all items are returned.
        exclude_seen : bool
            Leave out the items of the session. People often return to an item, so that by
            default they are recommended like all others.
        offsets : (B + 1,) int array, optional
            Session ``i`` is ``sessions[offsets[i]:offsets[i + 1]]``.

        Returns
        -------
        items : (B, min(k, n_items)) array of the user's ids, int64 or str
            Most likely first; among equal scores the item that stands first in the model.
            Where fewer are left: -1, or ``""`` for string ids.
        scores : (B, min(k, n_items)) float32 array
            Greater is likelier; -inf where no item is left.

        Raises
        ------
        TypeError
            If a session is no list of integers or strings, or k no integer.
        ValueError
            If k is below 1, or offsets do not rise from 0 to the number of events.

        Examples
        --------
        >>> items, scores = load("model.safetensors").recommend(  # doctest: +SKIP
        ...     [[214821275, 214821371], [214717867]], k=3
        ... )
        """
        exclude_seen = checked_flag("Recommender.recommend", "exclude_seen", exclude_seen)
        ids, bounds = ragged(sessions, offsets)
        items, bounds, _ = self.known_items(ids, bounds)
        state = self.advance(items, bounds, outputs="last")[1]
        return self.best(state, k, (items, bounds) if exclude_seen else None)

    def sessions(self, capacity: int | None = None) -> SessionStore:
        """Return an empty store of sessions that answers event by event.

        Parameters
        ----------
        capacity : int, optional
            Sessions that it keeps, see :class:`seqrec_fast.SessionStore`; by default all.
        """
        from seqrec_fast.sessions import SessionStore

        return SessionStore(self, capacity)

    @property
    def stack(self) -> Any:
        """The recurrent layers as the kernels read them."""
        return self._layer.stack

    @property
    def packed_items(self) -> Any:
        """The packed output weights that the kernels read."""
        return self._index.packed

    def outputs(
        self, items: Ints, offsets: Ints, times: NDArray[np.float64] | None = None
    ) -> Floats:
        """Return the (events, hidden_size) hidden states after each event, from the initial state.

        ``items`` are indices; ``times`` have no effect on this model.
        """
        return self.advance(items, offsets)[0]

    def advance(
        self, items: Ints, offsets: Ints, state: Floats | None = None, *, outputs: str = "all"
    ) -> tuple[Floats, Floats]:
        """Run the recurrent layers over item indices.

        Parameters
        ----------
        items : (events,) int64 array
            Indices, 0 to n_items - 1.
        offsets : (B + 1,) int64 array
        state : (n_states, B, hidden_size) float32 array, optional
            The state before the first event: the hidden state of each layer, then, for an
            LSTM, the cell state of each layer. By default zeros.
        outputs : str
            ``"all"`` or ``"last"``.

        Returns
        -------
        outputs : (events, hidden_size) float32 array
            The top layer after each event; with ``"last"`` (B, hidden_size), after the last one.
        state : (n_states, B, hidden_size) float32 array
            The state after the last event.
        """
        if not isinstance(self._layer, LSTM):
            return self._layer(items, state, offsets, outputs=outputs)
        layers = self._layer.num_layers
        pair = None if state is None else (state[:layers], state[layers:])
        y, (h_n, c_n) = self._layer(items, pair, offsets, outputs=outputs)
        return y, np.concatenate([h_n, c_n])

    @property
    def n_states(self) -> int:
        """How many vectors of hidden_size make up the state of a session."""
        layers = self._layer.num_layers
        return 2 * layers if isinstance(self._layer, LSTM) else layers

    def best(
        self, state: Floats, k: int, exclude: tuple[Ints, Ints] | None = None
    ) -> tuple[Ids, Floats]:
        """Return the best items, in the user's ids, for states as of :meth:`advance`.

        Parameters
        ----------
        state : (n_states, B, hidden_size) float32 array
        k : int
        exclude : pair of (n,) and (B + 1,) int64 arrays, optional
            Item indices to leave out, ragged.

        Returns
        -------
        items, scores : (B, min(k, n_items)) arrays
            As of :meth:`recommend`.
        """
        scores, found = self.best_indices(state[self._layer.num_layers - 1], k, exclude)
        return self.named(found), scores


def check_precision(precision: str) -> None:
    """Raise ValueError for a precision that no model is served in."""
    if precision not in ("float32", "bfloat16", "int8"):
        raise ValueError(
            f"load: precision is {precision!r}; expected 'float32', 'bfloat16' or 'int8'"
        )


def _layer(config: dict[str, Any], tensors: dict[str, Floats], **options: Any) -> GRU | LSTM | RNN:
    if config["cell"] == "lstm":
        return LSTM.from_state_dict(tensors, prefix="rnn.", **options)
    if config["cell"] == "rnn":
        nonlinearity = config["nonlinearity"]
        return RNN.from_state_dict(tensors, prefix="rnn.", nonlinearity=nonlinearity, **options)
    reset_after = config.get("reset_after", True)
    return GRU.from_state_dict(tensors, prefix="rnn.", reset_after=reset_after, **options)


def _score_tensors(config: dict[str, Any], tensors: dict[str, Floats]) -> list[Floats]:
    """Return the items' weights and biases, and those of the projection if there is one."""
    weight = "embedding.weight" if config["embedding"] == "tied" else "output.weight"
    names = [weight, "output.bias", "projection.weight", "projection.bias"]
    return [tensors[name] for name in names if name in tensors]


def _item_weights(
    weight: Floats, bias: Floats, projection: Floats | None = None, shift: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return what scores the hidden state itself: e . (P h + s) = (e P) . h + e . s."""
    if projection is None or shift is None:
        return weight, bias
    factors, constants = projection.astype(np.float64), shift.astype(np.float64)
    folded = np.empty((len(weight), projection.shape[1]), dtype=np.float32)
    moved = np.empty_like(bias)
    for begin in range(0, len(weight), 65_536):  # float64 of some rows at a time
        rows = weight[begin : begin + 65_536].astype(np.float64)
        folded[begin : begin + len(rows)] = rows @ factors
        moved[begin : begin + len(rows)] = bias[begin : begin + len(rows)] + rows @ constants
    return folded, moved


def ragged(
    sessions: Any, offsets: ArrayLike | None, where: str = "Recommender.recommend: sessions"
) -> tuple[Ids, Ints]:
    """Return sessions of either form as one array with offsets, both checked.

    ``where`` names the function and the argument in messages.
    """
    if offsets is None:
        return _joined(sessions, where)
    ids = as_ids(sessions, where)
    caller = where.split(":")[0]
    bounds = np.asarray(offsets)
    if bounds.ndim != 1 or len(bounds) == 0 or bounds.dtype.kind not in "iu":
        raise ValueError(
            f"{caller}: offsets is {bounds.dtype} of shape {bounds.shape}; expected "
            "integers of shape (B + 1,)"
        )
    bounds = bounds.astype(np.int64)
    if bounds[0] != 0 or bounds[-1] != len(ids):
        raise ValueError(
            f"{caller}: offsets go from {bounds[0]} to {bounds[-1]}; expected 0 to "
            f"the number of events, {len(ids)}"
        )
    if (falls := np.flatnonzero(np.diff(bounds) < 0)).size:
        raise ValueError(f"{caller}: offsets decrease at position {falls[0] + 1}")
    return ids, bounds


def _joined(sessions: Any, where: str) -> tuple[Ids, Ints]:
    if isinstance(sessions, str | bytes) or not hasattr(sessions, "__iter__"):
        raise TypeError(
            f"{where} is {sessions!r}; expected a list of sessions, each a list of item ids"
        )
    flat: list[Any] = []
    ends = [0]
    for number, session in enumerate(sessions):
        if isinstance(session, str | bytes) or not hasattr(session, "__iter__"):
            raise TypeError(
                f"{where}[{number}] is {session!r}; expected a list of "
                "item ids (one session alone is a list in a list)"
            )
        flat.extend(session.tolist() if isinstance(session, np.ndarray) else session)
        ends.append(len(flat))
    return as_ids(flat, where), np.array(ends, dtype=np.int64)
