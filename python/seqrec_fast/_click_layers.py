"""The parts of click-through models on NumPy arrays: from target and history to interest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast import _core
from seqrec_fast._click_model_format import ACTIVATION_TENSORS
from seqrec_fast._ragged_arrays import segment_softmax, segment_sums
from seqrec_fast.augru import AUGRU
from seqrec_fast.data.sessions import gather
from seqrec_fast.layers import GRU, LSTM

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Interest = Callable[[Floats, Floats, Ints, Ints, Ints], Floats]


class MLP:
    """Feed-forward layers to a single value, from the parameters of their PyTorch twin."""

    def __init__(self, tensors: Mapping[str, Floats], prefix: str, activation: str) -> None:
        n_layers = sum(name.startswith(f"{prefix}layers.") for name in tensors) // 2
        self._layers = [
            (tensors[f"{prefix}layers.{n}.weight"], tensors[f"{prefix}layers.{n}.bias"])
            for n in range(n_layers)
        ]
        self._activation = activation
        self._slopes: list[tuple[Floats, ...]] = []
        for n in range(n_layers - 1):
            parts = ACTIVATION_TENSORS.get(activation, ())
            self._slopes.append(tuple(tensors[f"{prefix}activations.{n}.{p}"] for p in parts))

    @property
    def first(self) -> tuple[Floats, Floats]:
        """Weight and bias of the first linear layer."""
        return self._layers[0]

    def __call__(self, x: Floats) -> Floats:
        return self.after_first(linear(x, *self.first))

    def after_first(self, x: Floats) -> Floats:
        """Return the result, given what comes out of the first linear layer."""
        for layer, slopes in zip(self._layers[1:], self._slopes, strict=True):
            x = linear(self._activated(x, slopes), *layer)
        return x[:, 0]

    def _activated(self, x: Floats, slopes: tuple[Floats, ...]) -> Floats:
        if self._activation == "relu":
            return np.maximum(x, np.float32(0))
        if self._activation == "sigmoid":
            return sigmoid(x)
        if self._activation == "prelu":
            return np.where(x > 0, x, slopes[0] * x)
        alpha, mean, var = slopes
        p = sigmoid((x - mean) / np.sqrt(var + np.float32(1e-8)))
        return np.asarray(x * (p + (1 - p) * alpha))


class DIN:
    """Weighted sum of each history, see :class:`seqrec_fast.nn.AttentionPooling`."""

    def __init__(
        self,
        config: dict[str, Any],
        tensors: Mapping[str, Floats],
        table_bytes: int,
        precision: str,
    ) -> None:
        if precision != "float32":
            raise ValueError(f"load: precision is {precision!r}; expected 'float32' for DIN")
        self._mlp = MLP(tensors, "attention.mlp.", config["activation"])
        self._softmax = config["softmax"]

    def __call__(
        self, query: Floats, events: Floats, items: Ints, offsets: Ints, history: Ints
    ) -> Floats:
        rows, offsets = _rows_of_targets(offsets, history)
        keys = events[rows]
        weight, bias = self._mlp.first
        of_query, of_key, of_difference, of_product = np.split(weight, 4, axis=1)
        of_target = of_key - of_difference + of_product * query[:, None]
        once = linear(query, of_query + of_difference, bias)
        scores = self._mlp.after_first(_grouped_linear(keys, of_target, once, offsets))
        weights = segment_softmax(scores, offsets) if self._softmax else scores
        return segment_sums(weights[:, None] * keys, offsets)


class DIEN:
    """Last state of the AUGRU over the states of the GRU."""

    def __init__(
        self,
        config: dict[str, Any],
        tensors: Mapping[str, Floats],
        table_bytes: int,
        precision: str,
    ) -> None:
        self._extractor = GRU.from_state_dict(
            tensors, prefix="extractor.", embedding=tensors["embedding.weight"],
            gate_table_bytes=table_bytes, precision=precision,
        )  # fmt: skip
        self._evolution = _augru(config, tensors, "evolution.", precision)
        self._weight = tensors["attention.weight"]

    def __call__(
        self, query: Floats, events: Floats, items: Ints, offsets: Ints, history: Ints
    ) -> Floats:
        states = self._extractor(items, None, offsets)[0]
        return _evolved(self._evolution, self._weight, query, states, offsets, history)


class Recurrent:
    """Last state of one recurrent layer."""

    def __init__(
        self,
        config: dict[str, Any],
        tensors: Mapping[str, Floats],
        table_bytes: int,
        precision: str,
    ) -> None:
        self._cell = config["cell"]
        if self._cell == "augru":
            self._layer: Any = _augru(config, tensors, "rnn.", precision)
            self._weight = tensors["attention.weight"]
        else:
            self._layer = (LSTM if self._cell == "lstm" else GRU).from_state_dict(
                tensors, prefix="rnn.", embedding=tensors["embedding.weight"],
                gate_table_bytes=table_bytes, precision=precision,
            )  # fmt: skip

    def __call__(
        self, query: Floats, events: Floats, items: Ints, offsets: Ints, history: Ints
    ) -> Floats:
        if self._cell == "augru":
            return _evolved(self._layer, self._weight, query, events, offsets, history)
        last: Floats = self._layer(items, None, offsets, outputs="last")[0]
        return last[history]


def _augru(
    config: dict[str, Any], tensors: Mapping[str, Floats], prefix: str, precision: str
) -> AUGRU:
    mode = config["attention_mode"]
    return AUGRU.from_state_dict(tensors, mode=mode, prefix=prefix, precision=precision)


def _evolved(
    layer: AUGRU, weight: Floats, query: Floats, states: Floats, offsets: Ints, history: Ints
) -> Floats:
    """Return the last state of an AUGRU whose attention is that of each target."""
    rows, offsets = _rows_of_targets(offsets, history)
    keys = states[rows]
    owner = np.repeat(np.arange(len(query)), np.diff(offsets))
    scores = (linear(query, weight)[owner] * keys).sum(axis=1)
    attention = segment_softmax(scores, offsets)
    return layer(keys, attention, None, offsets, outputs="last")[0]


def _rows_of_targets(offsets: Ints, history: Ints) -> tuple[Ints, Ints]:
    """Return the events of the history of each target, and the offsets of these."""
    return gather(offsets[:-1][history], np.diff(offsets)[history])


def linear(x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    """Return ``x @ weight.T + bias``; unlike a BLAS product, no other row changes a row's bits."""
    bias = None if bias is None else bias[None]
    return _grouped_linear(x, weight[None], bias, np.array([0, len(x)]))


def _grouped_linear(x: Floats, weight: Floats, bias: Floats | None, group_offsets: Ints) -> Floats:
    """Apply the linear layer of its group to each row, with bits that no other row changes."""
    groups, outputs, inputs = weight.shape
    y = np.empty((len(x), outputs), np.float32)
    flat = np.ascontiguousarray(weight).reshape(groups * outputs, inputs)
    _core.grouped_linear_f32(np.ascontiguousarray(x), flat, bias, group_offsets, y)
    return y


def interest_of(
    model: str,
    config: dict[str, Any],
    tensors: Mapping[str, Floats],
    table_bytes: int,
    precision: str,
) -> Interest:
    """Return the function that makes the interests of a model, named as in its file.

    It takes embeddings of the targets (n, D) and of the events, the items of the events, the
    offsets of the histories and the history of each target, and returns (n, interest_size).
    """
    parts: dict[str, Callable[..., Interest]] = {
        "din": DIN, "dien": DIEN, "recurrent_ctr": Recurrent
    }  # fmt: skip
    return parts[model](config, tensors, table_bytes, precision)


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x))."""
    # of -|x|, so that exp does not overflow
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
