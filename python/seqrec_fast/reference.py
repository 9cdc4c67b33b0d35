"""
The definitions of layers and top-k in float64 NumPy: slow, plain, what kernels are tested against.

Those of the gate and of dispatch are in `reference_gate` and `reference_dispatch`.

Signatures follow the fast functions. A batch is always ragged here: ``x`` is (events, I) and
``offsets`` (B + 1,) says which rows belong to which session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

__all__ = ["Noise", "philox4x32", "rank_of", "rnn", "rnn_step", "topk"]


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-x)))


def philox4x32(key: int, counter: ArrayLike) -> NDArray[np.uint32]:
    """
    Philox 4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Parameters
    ----------
    key : int
        64 bits.
    counter : (..., 4) uint32 array

    Returns
    -------
    (..., 4) uint32 array
        Four random words per counter.
    """
    x = [word.astype(np.uint64) for word in np.moveaxis(np.asarray(counter), -1, 0)]
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for i in range(10):
        keys = [
            np.uint64((part + i * weyl) & 0xFFFFFFFF)
            for part, weyl in ((key & 0xFFFFFFFF, 0x9E3779B9), (key >> 32, 0xBB67AE85))
        ]
        p, q = np.uint64(0xD2511F53) * x[0], np.uint64(0xCD9E8D57) * x[2]
        x = [(q >> shift) ^ x[1] ^ keys[0], q & low, (p >> shift) ^ x[3] ^ keys[1], p & low]
    return np.stack(x, -1).astype(np.uint32)


@dataclass(frozen=True)
class Noise:
    """
    Recurrent dropout and zoneout of one layer and direction.

    Unit u of a session takes word ``u % 64 // 16`` of the counter
    ``(u // 64 * 16 + u % 16, step, session, 4 * stream + kind)``; the kind is 0 for recurrent
    dropout, 1 for zoneout of h, 2 for zoneout of c. An event of probability p happens if the word
    is below ``p * 2**32``.
    """

    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    seed: int | None = None  # None: the expectation of zoneout, and no dropout
    stream: int = 0

    def happens(
        self, kind: int, rate: float, step: int, session: int, units: int
    ) -> NDArray[np.bool_]:
        """Whether the event of probability `rate` happens to each of (units,)."""
        u = np.arange(units)
        counter = np.empty((units, 4), np.uint32)
        counter[:, 0] = u // 64 * 16 + u % 16
        counter[:, 1:] = step, session, 4 * self.stream + kind
        assert self.seed is not None
        words = philox4x32(self.seed, counter)[u, u % 64 // 16]
        return np.asarray(words < np.uint32(rate * 2**32))

    def candidate_scale(self, step: int, session: int, units: int) -> Array | float:
        """What multiplies the candidate."""
        p = self.recurrent_dropout
        if self.seed is None or not p:
            return 1.0
        return np.where(self.happens(0, p, step, session, units), 0.0, 1 / (1 - p))

    def kept(self, kind: int, step: int, session: int, units: int) -> Array | float:
        """How much of the state before stays."""
        if self.seed is None or not self.zoneout:
            return self.zoneout
        return self.happens(kind, self.zoneout, step, session, units).astype(np.float64)


def rnn_step(
    cell: str,
    x: Array,
    h: Array,
    c: Array | None,
    weights: Mapping[str, ArrayLike],
    candidate_scale: Array | float = 1.0,
    attention: Array | float = 0.0,
) -> tuple[Array, Array | None]:
    """
    One step of one layer for any number of rows.

    Parameters
    ----------
    cell : str
        ``"gru"``, ``"gru_reset_before"``, ``"augru_paper"``, ``"augru_tf"``, ``"agru"``,
        ``"lstm"``, ``"rnn_tanh"`` or ``"rnn_relu"``.
    x : (N, I) array
        Input; (N, G * H) input gates if `weights` has no ``weight_ih``.
    h : (N, S) array
        State before the step.
    c : (N, H) array or None
        Cell state before the step, LSTM only.
    weights : mapping of str to array
        ``weight_ih`` (optional), ``weight_hh``, ``bias_ih``, ``bias_hh``, ``weight_hr``
        (the last three optional), gates stacked as in PyTorch.
    candidate_scale : float or (H,) array
        Multiplies n of a GRU, g of an LSTM, the new state of a plain RNN.
    attention : float or (N, 1) array
        Score a of each row for the cells that have one: h' is ``h + a * (gru - h)`` for
        ``"augru_paper"``, where gru is the step of a GRU (DIEN, Zhou et al., 2019,
        arXiv:1809.03672); ``(1 - a) * gru + a * n`` for ``"augru_tf"`` (TensorFlow's
        VecAttGRUCell, oneDNN); ``h + a * (n - h)`` for ``"agru"`` (DIEN).

    Returns
    -------
    h : (N, S) array
    c : (N, H) array or None
    """
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    zero = np.zeros(w["weight_hh"].shape[0])
    x_gates = (x @ w["weight_ih"].T if "weight_ih" in w else x) + w.get("bias_ih", zero)
    w_hh, b_hh = w["weight_hh"], w.get("bias_hh", zero)
    if cell == "rnn_tanh":
        return candidate_scale * np.tanh(x_gates + h @ w_hh.T + b_hh), None
    if cell == "rnn_relu":
        return candidate_scale * np.maximum(x_gates + h @ w_hh.T + b_hh, 0.0), None
    if cell == "lstm":
        assert c is not None
        i, f, g, o = np.split(x_gates + h @ w_hh.T + b_hh, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * (candidate_scale * np.tanh(g))
        h = _sigmoid(o) * np.tanh(c)
        return (h @ w["weight_hr"].T if "weight_hr" in w else h), c
    x_r, x_z, x_n = np.split(x_gates, 3, axis=1)
    w_r, w_z, w_n = np.split(w_hh, 3)
    b_r, b_z, b_n = np.split(b_hh, 3)
    r = _sigmoid(x_r + h @ w_r.T + b_r)
    z = _sigmoid(x_z + h @ w_z.T + b_z)
    if cell in ("gru", "augru_paper", "augru_tf", "agru"):
        n = np.tanh(x_n + r * (h @ w_n.T + b_n))
    elif cell == "gru_reset_before":
        n = np.tanh(x_n + (r * h) @ w_n.T + b_n)
    else:
        raise ValueError(
            f"rnn_step: cell is {cell!r}; expected gru, gru_reset_before, augru_paper, augru_tf, "
            "agru, lstm or rnn_*"
        )
    n = candidate_scale * n
    gru = n + z * (h - n)
    if cell == "augru_paper":
        return h + attention * (gru - h), None
    if cell == "augru_tf":
        return (1 - attention) * gru + attention * n, None
    if cell == "agru":
        return h + attention * (n - h), None
    return gru, None


def rnn(
    cell: str,
    x: ArrayLike,
    offsets: ArrayLike,
    weights: Mapping[str, ArrayLike],
    h_0: ArrayLike | None = None,
    c_0: ArrayLike | None = None,
    *,
    reset: ArrayLike | None = None,
    reverse: bool = False,
    noise: Noise | None = None,
    attention: ArrayLike | None = None,
) -> tuple[Array, Array, Array | None]:
    """
    One layer and direction over a ragged batch.

    Parameters
    ----------
    cell, weights
        As in :func:`rnn_step`.
    x : (events, I) array
    offsets : (B + 1,) integer array
        Session b is rows ``offsets[b]`` to ``offsets[b + 1] - 1``, oldest first.
    h_0 : (B, S) array, optional
        Zeros if absent.
    c_0 : (B, H) array, optional
    reset : (events,) bool array, optional
        True: the state is zeroed before this event.
    reverse : bool
        Newest event first.
    noise : Noise, optional
    attention : (events,) array, optional
        For the cells that have it.

    Returns
    -------
    y : (events, S) array
    h_n : (B, S) array
    c_n : (B, H) array or None
    """
    x = np.asarray(x, np.float64)
    offsets = np.asarray(offsets)
    batch = len(offsets) - 1
    hidden = {"lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}.get(cell, 3)
    hidden = np.asarray(weights["weight_hh"]).shape[0] // hidden
    state = np.asarray(weights["weight_hh"]).shape[1]
    h_n = np.zeros((batch, state)) if h_0 is None else np.array(h_0, np.float64)
    c_n = np.zeros((batch, hidden)) if c_0 is None else np.array(c_0, np.float64)
    y = np.zeros((len(x), state))
    for b in range(batch):
        h, c = h_n[b : b + 1], c_n[b : b + 1]
        events = range(offsets[b], offsets[b + 1])
        for e in reversed(events) if reverse else events:
            if reset is not None and np.asarray(reset)[e]:
                h, c = np.zeros_like(h), np.zeros_like(c)
            where = (e - offsets[b], b)
            scale = 1.0 if noise is None else noise.candidate_scale(*where, hidden)
            score = 0.0 if attention is None else float(np.asarray(attention)[e])
            h_new, c_new = rnn_step(cell, x[e : e + 1], h, c, weights, scale, score)
            c_new = c if c_new is None else c_new
            if noise is not None:
                kept_h, kept_c = noise.kept(1, *where, state), noise.kept(2, *where, hidden)
                h_new, c_new = h_new + kept_h * (h - h_new), c_new + kept_c * (c - c_new)
            h, c = h_new, c_new
            y[e] = h
        h_n[b], c_n[b] = h, c
    return y, h_n, (c_n if cell == "lstm" else None)


def topk(
    queries: ArrayLike, items: ArrayLike, k: int, bias: ArrayLike | None = None
) -> tuple[Array, NDArray[np.int64]]:
    """
    Best k items per query: larger score first, then smaller id; NaN never.

    Parameters
    ----------
    queries : (B, d) array
    items : (N, d) array
    k : int
    bias : (N,) array, optional

    Returns
    -------
    scores : (B, k) array
        -inf where fewer than k items have a score.
    ids : (B, k) int64 array
        -1 there.
    """
    scores = np.asarray(queries, np.float64) @ np.asarray(items, np.float64).T
    if bias is not None:
        scores = scores + np.asarray(bias, np.float64)
    best_scores = np.full((len(scores), k), -np.inf)
    best_ids = np.full((len(scores), k), -1, np.int64)
    for row, out_scores, out_ids in zip(scores, best_scores, best_ids, strict=True):
        order = np.argsort(-row, kind="stable")  # NaN sorts last
        order = order[~np.isnan(row[order])][:k]
        out_scores[: len(order)] = row[order]
        out_ids[: len(order)] = order
    return best_scores, best_ids


def rank_of(
    queries: ArrayLike,
    items: ArrayLike,
    ids: ArrayLike,
    bias: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """
    Place of one item per query in the order of :func:`topk`, from 1.

    Parameters
    ----------
    queries : (B, d) array
    items : (N, d) array
    ids : (B,) integer array
    bias : (N,) array, optional

    Returns
    -------
    (B,) int64 array
        -1 where the score of the item is NaN.
    """
    order = topk(queries, items, max(1, len(np.asarray(items))), bias)[1]
    is_target = order == np.asarray(ids)[:, None]
    return np.where(is_target.any(axis=1), is_target.argmax(axis=1) + 1, -1)
