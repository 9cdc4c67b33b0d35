"""GRU, LSTM and RNN for NumPy arrays: inference without PyTorch, from PyTorch's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core

__all__ = ["GRU", "LSTM", "RNN"]

Array = NDArray[Any]
Layer = TypeVar("Layer", bound="_RecurrentLayer")

_PACKED: dict[str, Any] = {"float32": _core.PackedRnnF32, "float64": _core.PackedRnnF64}


def _working_precision(hidden_size: int, precision: str) -> str:
    return "float64" if hidden_size <= _core.FLOAT64_UNITS else precision


_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class _RecurrentLayer:
    """What GRU, LSTM and RNN share: packed weights per layer and direction, and the call."""

    def __init__(self, packed: list[Any], bidirectional: bool, precision: str) -> None:
        self._packed = packed
        self._dtype = np.dtype(precision)
        # Arithmetic; small layers take float64, see _core.FLOAT64_UNITS.
        self._working = np.dtype(_working_precision(packed[0].hidden_size, precision))
        self._directions = 2 if bidirectional else 1
        self.precision = precision
        self.bidirectional = bidirectional
        self.num_layers = len(packed) // self._directions
        self.input_size: int = packed[0].input_size
        self.hidden_size: int = packed[0].hidden_size
        self.output_size: int = packed[0].state_size * self._directions

    @classmethod
    def _from_state_dict(
        cls: type[Layer], cell: str, arrays: Mapping[str, ArrayLike], precision: str, prefix: str
    ) -> Layer:
        name = cls.__name__
        if precision not in _PACKED:
            raise ValueError(
                f"{name}.from_state_dict: precision is {precision!r}; "
                f"expected {' or '.join(map(repr, _PACKED))}"
            )
        own = {key[len(prefix) :]: np.asarray(value) for key, value in arrays.items()
               if key.startswith(prefix)}  # fmt: skip
        if "weight_hh_l0" not in own:
            raise ValueError(
                f"{name}.from_state_dict: arrays have no '{prefix}weight_hh_l0'; "
                f"they have {', '.join(map(str, arrays)) or 'nothing'}"
            )
        bidirectional = "weight_hh_l0_reverse" in own
        packed: list[Any] = []
        while f"weight_hh_l{len(packed) // (1 + bidirectional)}" in own:
            layer, reverse = divmod(len(packed), 1 + bidirectional)
            suffix = f"_l{layer}" + ("_reverse" if reverse else "")
            packed.append(cls._pack(cell, own, prefix, suffix, precision))
        return cls(packed, bidirectional, precision)

    @classmethod
    def _pack(
        cls, cell: str, own: Mapping[str, Array], prefix: str, suffix: str, precision: str
    ) -> Any:
        parameters: list[Any] = []
        for parameter in _PARAMETERS:
            key = parameter + suffix
            value = own.get(key)
            if value is not None:
                if not np.isfinite(value).all():
                    raise ValueError(
                        f"{cls.__name__}.from_state_dict: '{prefix}{key}' has a value that is "
                        "not finite"
                    )
                value = np.ascontiguousarray(value, precision)
            elif parameter == "weight_hh" or (parameter == "weight_ih" and suffix != "_l0"):
                raise ValueError(f"{cls.__name__}.from_state_dict: arrays have no '{prefix}{key}'")
            parameters.append(value)
        units = parameters[1].shape[0] // _core.gate_count(cell)
        working = _working_precision(units, precision)
        parameters = [None if p is None else p.astype(working, copy=False) for p in parameters]
        return _PACKED[working](cell, *parameters, float32_states=working != precision)

    def __call__(
        self, x: ArrayLike, h0: Any = None, offsets: ArrayLike | None = None
    ) -> tuple[Array, Any]:
        """
        Run the layers over a batch of sequences.

        Parameters
        ----------
        x : (T, B, I) array, or (events, I) with `offsets`
            Of the layer's precision (float32 or float64).
        h0 : (num_layers * D, B, H) array, optional
            Initial state, zeros if absent; for an LSTM the pair (h_0, c_0). D is 2 for a
            bidirectional layer, else 1.
        offsets : (B + 1,) integer array, optional
            Makes `x` ragged: sequence b is its rows ``offsets[b]`` to ``offsets[b + 1] - 1``. A
            sequence of length 0 yields its initial state.

        Returns
        -------
        y : (T, B, D * H) or (events, D * H) array
            States of the top layer.
        h_n : (num_layers * D, B, H) array
            Final states; for an LSTM the pair (h_n, c_n).

        Raises
        ------
        TypeError
            If `x` has another dtype.
        ValueError
            If a shape does not fit, or offsets are not a partition of the rows of `x`.
        """
        y, h_n, _ = self._run(x, h0, None, offsets)
        return y, h_n

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return sum(packed.nbytes for packed in self._packed)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"num_layers={self.num_layers}, bidirectional={self.bidirectional}, "
            f"precision={self.precision!r})"
        )

    def _run(
        self, x: ArrayLike, h_0: Array | None, c_0: Array | None, offsets: ArrayLike | None
    ) -> tuple[Array, Array, Array | None]:
        values, layout, shape = self._layout(x, offsets)
        layers, batch = len(self._packed), layout.batch
        state_size = self._packed[0].state_size
        h_0 = self._checked_state("h_0", h_0, (layers, batch, state_size))
        c_0 = self._checked_state("c_0", c_0, (layers, batch, self.hidden_size))
        values = values.astype(self._working, copy=False)
        h_n = np.empty((layers, batch, state_size), self._working)
        c_n = None
        if isinstance(self, LSTM):
            c_n = np.empty((layers, batch, self.hidden_size), self._working)
        for layer in range(self.num_layers):
            y = np.empty((layout.n_events, self.output_size), self._working)
            for direction in range(self._directions):
                i = layer * self._directions + direction
                columns = slice(direction * state_size, (direction + 1) * state_size)
                self._packed[i].forward(
                    layout,
                    values,
                    None if h_0 is None else h_0[i],
                    None if c_0 is None else c_0[i],
                    None,
                    direction == 1,
                    y[:, columns],
                    h_n[i],
                    None if c_n is None else c_n[i],
                    None,
                )
            # Between layers too, so that the result is the one of layers called one by one.
            values = y.astype(self._dtype, copy=False).astype(self._working, copy=False)
        y = y.astype(self._dtype, copy=False).reshape(*shape, self.output_size)
        h_n = h_n.astype(self._dtype, copy=False)
        return y, h_n, None if c_n is None else c_n.astype(self._dtype, copy=False)

    def _layout(
        self, x: ArrayLike, offsets: ArrayLike | None
    ) -> tuple[Array, Any, tuple[int, ...]]:
        """Input as (events, input_size), its layout, and the shape without the last dimension."""
        name = type(self).__name__
        values = np.asarray(x)
        if values.dtype != self._dtype:
            raise TypeError(f"{name}: x is {values.dtype}; expected {self._dtype}")
        expected = 3 if offsets is None else 2
        if values.ndim != expected or values.shape[-1] != self.input_size:
            form = "(T, B, {})" if offsets is None else "(events, {}), because offsets are given"
            raise ValueError(
                f"{name}: x has shape {values.shape}; expected {form.format(self.input_size)}"
            )
        shape = values.shape[:-1]
        values = np.ascontiguousarray(values).reshape(-1, self.input_size)
        if offsets is None:
            return values, _core.SequenceLayout.padded(shape[0], shape[1], False), shape
        offsets = np.asarray(offsets)
        if offsets.ndim != 1 or offsets.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: offsets have shape {offsets.shape} and dtype {offsets.dtype}; "
                "expected (B + 1,) integers"
            )
        offsets = np.ascontiguousarray(offsets, np.int64)
        return values, _core.SequenceLayout.ragged(name, offsets, len(values)), shape

    def _checked_state(
        self, argument: str, state: Array | None, shape: tuple[int, ...]
    ) -> Array | None:
        if state is None:
            return None
        state = np.asarray(state)
        if state.shape != shape or state.dtype != self._dtype:
            raise ValueError(
                f"{type(self).__name__}: {argument} is {state.dtype} of shape {state.shape}; "
                f"expected {self._dtype} of shape {shape}"
            )
        return np.ascontiguousarray(state, self._working)


class GRU(_RecurrentLayer):
    """
    Gated recurrent unit; build it with :meth:`from_state_dict`.

    Examples
    --------
    >>> import numpy as np, seqrec_fast as sf
    >>> rng = np.random.default_rng(0)
    >>> weights = {"weight_ih_l0": rng.normal(size=(12, 3)), "weight_hh_l0": np.zeros((12, 4))}
    >>> y, h_n = sf.GRU.from_state_dict(weights)(np.zeros((5, 2, 3), np.float32))
    >>> y.shape, h_n.shape
    ((5, 2, 4), (1, 2, 4))
    """

    @classmethod
    def from_state_dict(
        cls,
        arrays: Mapping[str, ArrayLike],
        *,
        precision: str = "float32",
        prefix: str = "",
        reset_after: bool = True,
    ) -> GRU:
        """
        Build the layer from the parameters of its PyTorch twin.

        Parameters
        ----------
        arrays : mapping of str to array
            State dict as NumPy arrays: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``,
            ``bias_hh_l0``, ``weight_ih_l0_reverse``, ... Without ``weight_ih_l0`` the input of
            the first layer is its input gates.
        precision : str
            ``"float32"`` or ``"float64"``: weights, arithmetic and arrays.
        prefix : str
            Only keys that start with it are read, for example ``"rnn."``.
        reset_after : bool
            False: the reset gate acts before the product with ``weight_hh``.

        Raises
        ------
        ValueError
            If a parameter is missing, has a wrong shape or is not finite, or for an unknown
            precision.
        """
        cell = "gru" if reset_after else "gru_reset_before"
        return cls._from_state_dict(cell, arrays, precision, prefix)


class LSTM(_RecurrentLayer):
    """Long short-term memory, with or without projection; see :meth:`from_state_dict`."""

    @classmethod
    def from_state_dict(
        cls, arrays: Mapping[str, ArrayLike], *, precision: str = "float32", prefix: str = ""
    ) -> LSTM:
        """Build the layer from its PyTorch twin's parameters, see :meth:`GRU.from_state_dict`."""
        return cls._from_state_dict("lstm", arrays, precision, prefix)

    def __call__(
        self,
        x: ArrayLike,
        h0: tuple[Array, Array] | None = None,
        offsets: ArrayLike | None = None,
    ) -> tuple[Array, tuple[Array, Array]]:
        """Run the layers as the other classes do, with pairs (h, c) for the states."""
        if h0 is not None and (not isinstance(h0, tuple | list) or len(h0) != 2):
            raise ValueError("LSTM: h0 is not a pair; expected (h_0, c_0)")
        h_0, c_0 = (None, None) if h0 is None else h0
        y, h_n, c_n = self._run(x, h_0, c_0, offsets)
        assert c_n is not None
        return y, (h_n, c_n)


class RNN(_RecurrentLayer):
    """Elman network; see :meth:`from_state_dict`, with `nonlinearity` "tanh" or "relu"."""

    @classmethod
    def from_state_dict(
        cls,
        arrays: Mapping[str, ArrayLike],
        *,
        precision: str = "float32",
        prefix: str = "",
        nonlinearity: str = "tanh",
    ) -> RNN:
        """
        Build the layer from the parameters of its PyTorch twin, see :meth:`GRU.from_state_dict`.

        `nonlinearity` is ``"tanh"`` or ``"relu"``.
        """
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"RNN.from_state_dict: nonlinearity is {nonlinearity!r}; expected 'tanh' or 'relu'"
            )
        return cls._from_state_dict(f"rnn_{nonlinearity}", arrays, precision, prefix)
