"""GRU, LSTM and RNN for NumPy arrays: inference without PyTorch, from PyTorch's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._packing import (
    STACKS,
    array_precision,
    checked_embedding,
    gate_tables,
    pack_state_dict,
    working_precision,
)

__all__ = ["GRU", "LSTM", "RNN"]

Array = NDArray[Any]

GATE_TABLE_BYTES = 1 << 28

_Layer = TypeVar("_Layer", bound="_RecurrentLayer")


class _RecurrentLayer:
    """What GRU, LSTM and RNN share: packed weights per layer and direction, and the call."""

    def __init__(self, *_: Any, **__: Any) -> None:
        name = type(self).__name__
        raise TypeError(f"{name}: is made of a state dict; expected {name}.from_state_dict(arrays)")

    @classmethod
    def _built(cls: type[_Layer], *arguments: Any) -> _Layer:
        layer = cls.__new__(cls)
        layer._build(*arguments)
        return layer

    def _build(
        self,
        cell: str,
        arrays: Mapping[str, ArrayLike],
        precision: str,
        prefix: str,
        embedding: ArrayLike | None,
        gate_table_bytes: int,
    ) -> None:
        name = f"{type(self).__name__}.from_state_dict"
        packed, bidirectional = pack_state_dict(name, cell, arrays, precision, prefix)
        self._packed = packed
        self._dtype = np.dtype(array_precision(precision))
        # Arithmetic; small layers take float64, see _core.FLOAT64_UNITS.
        self._working = np.dtype(working_precision(packed[0].hidden_size, precision))
        self._name, self._converts = type(self).__name__, self._dtype != self._working
        self._directions = 2 if bidirectional else 1
        self.precision = precision
        self.bidirectional = bidirectional
        self.num_layers = len(packed) // self._directions
        self.input_size: int = packed[0].input_size
        self.hidden_size: int = packed[0].hidden_size
        self.output_size: int = packed[0].state_size * self._directions
        self._takes_ids = embedding is not None
        tables: list[Array] = []
        table: Array | None = None
        if embedding is not None:
            table = checked_embedding(name, embedding, self.input_size, self._working)
            tables = gate_tables(packed[: self._directions], table, gate_table_bytes)
            if tables:
                table = None
        self._table_bytes = sum(part.nbytes for part in (*tables, table) if part is not None)
        self._stack: Any = STACKS[self._working.name](packed, self._directions, table, tables)
        self._run_stack = self._stack.run

    def __call__(
        self,
        x: ArrayLike,
        h0: Any = None,
        offsets: ArrayLike | None = None,
        *,
        outputs: str = "all",
    ) -> tuple[Array, Any]:
        """
        Run the layers over a batch of sequences.

        Parameters
        ----------
        x : (T, B, I) array, or (events, I) with `offsets`
            Of the layer's precision (float32 or float64). For a layer with an embedding: integer
            item ids, (T, B) or (events,).
        h0 : (num_layers * D, B, H) array, optional
            Initial state, zeros if absent; for an LSTM the pair (h_0, c_0). D is 2 for a
            bidirectional layer, else 1.
        offsets : (B + 1,) integer array, optional
            Makes `x` ragged: sequence b is its rows ``offsets[b]`` to ``offsets[b + 1] - 1``. A
            sequence of length 0 yields its initial state.
        outputs : str
            ``"all"``: `y` has the states after every event. ``"last"``: only the final ones.

        Returns
        -------
        y : (T, B, D * H) or (events, D * H) array
            States of the top layer; (B, D * H) with ``outputs="last"``.
        h_n : (num_layers * D, B, H) array
            Final states; for an LSTM the pair (h_n, c_n).

        Raises
        ------
        TypeError
            If `x` has another dtype.
        ValueError
            If a shape does not fit, an id is out of range, `outputs` is unknown, or offsets are
            not a partition of the rows of `x`.
        """
        # The common call straight away: a step of one session takes microseconds.
        if outputs == "all" and not self._converts:
            found = self._run_stack(self._name, x, h0, None, offsets, False)
            if found is not None:
                return found[0], found[1]
        y, h_n, _ = self._run(x, h0, None, offsets, outputs)
        return y, h_n

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights, and of the gate tables or the embedding."""
        return sum(int(part.nbytes) for part in self._packed) + self._table_bytes

    @property
    def stack(self) -> Any:
        """What the kernels read: the layers, and the table of their input."""
        return self._stack

    def __copy__(self: _Layer) -> _Layer:
        layer = type(self).__new__(type(self))
        layer.__dict__.update(self.__dict__)
        return layer

    def __deepcopy__(self: _Layer, memo: Any) -> _Layer:
        return self.__copy__()  # packed weights never change

    def __reduce__(self) -> Any:
        name = type(self).__name__
        raise TypeError(
            f"{name}: cannot be pickled, its weights are packed; expected the state dict that "
            f"{name}.from_state_dict takes"
        )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"num_layers={self.num_layers}, bidirectional={self.bidirectional}, "
            f"precision={self.precision!r})"
        )

    def _run(
        self,
        x: ArrayLike,
        h_0: Array | None,
        c_0: Array | None,
        offsets: ArrayLike | None,
        outputs: str,
        attention: Array | None = None,
    ) -> tuple[Array, Array, Array | None]:
        last = outputs != "all"
        if last and outputs != "last":
            raise ValueError(f"{self._name}: outputs is {outputs!r}; expected 'all' or 'last'")
        if not self._converts:
            found = self._run_stack(self._name, x, h_0, c_0, offsets, last, attention)
            if found is not None:
                return found  # type: ignore[no-any-return]
        values, offsets, batch = self._checked_input(x, offsets)
        layers = len(self._packed)
        state, pair = (layers, batch, self._packed[0].state_size), c_0 is not None
        h_0 = self._checked_state("h0[0]" if pair else "h0", h_0, state)
        c_0 = self._checked_state("h0[1]", c_0, (layers, batch, self.hidden_size))
        y, h_n, c_n = self._run_stack(self._name, values, h_0, c_0, offsets, last, attention)
        if c_n is not None:
            c_n = c_n.astype(self._dtype, copy=False)
        return y.astype(self._dtype, copy=False), h_n.astype(self._dtype, copy=False), c_n

    def _checked_input(
        self, x: ArrayLike, offsets: ArrayLike | None
    ) -> tuple[Array, Array | None, int]:
        """Input and offsets in the form that the kernels read, and the number of sequences."""
        name = self._name
        values = np.asarray(x)
        takes_ids = self._takes_ids
        if values.dtype.kind not in "iu" if takes_ids else values.dtype != self._dtype:
            wanted = "integer item ids" if takes_ids else self._dtype
            raise TypeError(f"{name}: x is {values.dtype}; expected {wanted}")
        features = () if takes_ids else (self.input_size,)
        leading = 2 if offsets is None else 1
        if values.ndim != leading + len(features) or values.shape[leading:] != features:
            names = "T, B" if offsets is None else "events"
            form = ", ".join((names, *map(str, features)))
            reason = "" if offsets is None else ", because offsets are given"
            raise ValueError(f"{name}: x has shape {values.shape}; expected ({form}){reason}")
        dtype = np.dtype(np.int64) if takes_ids else self._working
        values = np.ascontiguousarray(values, dtype)
        if offsets is None:
            return values, None, values.shape[1]
        offsets = np.asarray(offsets)
        if offsets.ndim != 1 or offsets.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: offsets have shape {offsets.shape} and dtype {offsets.dtype}; "
                "expected (B + 1,) integers"
            )
        return values, np.ascontiguousarray(offsets, np.int64), len(offsets) - 1

    def _checked_state(
        self, argument: str, state: Array | None, shape: tuple[int, ...]
    ) -> Array | None:
        if state is None:
            return None
        state = np.asarray(state)
        if state.shape != shape or state.dtype != self._dtype:
            raise ValueError(
                f"{self._name}: {argument} is {state.dtype} of shape {state.shape}; "
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
        embedding: ArrayLike | None = None,
        gate_table_bytes: int = GATE_TABLE_BYTES,
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
            Of weights and arithmetic. ``"float32"`` or ``"float64"``: that of the arrays too.
            ``"bfloat16"`` or ``"int8"``: inputs and states are rounded for the products with the
            weights; arrays, states and the rest of the arithmetic stay float32. int8 has one scale
            per row of a weight matrix and per input vector, and takes states from -1 to 1.
        prefix : str
            Only keys that start with it are read, for example ``"rnn."``.
        reset_after : bool
            False: the reset gate acts before the product with ``weight_hh``.
        embedding : (V, I) array, optional
            Makes the layer take item ids 0 to V - 1 in place of vectors.
        gate_table_bytes : int
            With an embedding, the input gates of all items are computed once if they fit in so
            many bytes (V * 3 * H values, H rounded up to 16; twice that if bidirectional): a
            lookup then replaces the product with ``weight_ih``, with the same bits. 0: never.

        Raises
        ------
        ValueError
            If a parameter is missing, has a wrong shape or is not finite, or for an unknown
            precision.
        """
        cell = "gru" if reset_after else "gru_reset_before"
        return cls._built(cell, arrays, precision, prefix, embedding, gate_table_bytes)


class LSTM(_RecurrentLayer):
    """Long short-term memory, with or without projection; see :meth:`from_state_dict`."""

    @classmethod
    def from_state_dict(
        cls,
        arrays: Mapping[str, ArrayLike],
        *,
        precision: str = "float32",
        prefix: str = "",
        embedding: ArrayLike | None = None,
        gate_table_bytes: int = GATE_TABLE_BYTES,
    ) -> LSTM:
        """Build the layer from its PyTorch twin's parameters, see :meth:`GRU.from_state_dict`."""
        return cls._built("lstm", arrays, precision, prefix, embedding, gate_table_bytes)

    def __call__(
        self,
        x: ArrayLike,
        h0: tuple[Array, Array] | None = None,
        offsets: ArrayLike | None = None,
        *,
        outputs: str = "all",
    ) -> tuple[Array, tuple[Array, Array]]:
        """Run the layers as the other classes do, with pairs (h, c) for the states."""
        if h0 is not None and (not isinstance(h0, tuple | list) or len(h0) != 2):
            raise ValueError("LSTM: h0 is not a pair; expected (h_0, c_0)")
        h_0, c_0 = (None, None) if h0 is None else h0
        y, h_n, c_n = self._run(x, h_0, c_0, offsets, outputs)
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
        embedding: ArrayLike | None = None,
        gate_table_bytes: int = GATE_TABLE_BYTES,
    ) -> RNN:
        """
        Build the layer from the parameters of its PyTorch twin, see :meth:`GRU.from_state_dict`.

        `nonlinearity` is ``"tanh"`` or ``"relu"``.
        """
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"RNN.from_state_dict: nonlinearity is {nonlinearity!r}; expected 'tanh' or 'relu'"
            )
        return cls._built(
            f"rnn_{nonlinearity}", arrays, precision, prefix, embedding, gate_table_bytes
        )
