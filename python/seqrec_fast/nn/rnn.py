"""GRU, LSTM and RNN with the signatures, parameters and numbers of ``torch.nn``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ._ops import rnn_forward

__all__ = ["GRU", "LSTM", "RNN"]

State = Tensor | tuple[Tensor, Tensor]


class _Input(NamedTuple):
    """An input of any accepted form as (events, I) or (T, B, I) values and their layout."""

    values: Tensor
    batch: int
    offsets: Tensor | None = None
    batch_sizes: Tensor | None = None
    batch_first: bool = False
    reset: Tensor | None = None


class _RecurrentLayer(torch.nn.RNNBase):
    """What GRU, LSTM and RNN share: the forms of the input, layers and directions."""

    _gates: int

    def __init__(self, mode: str, input_size: int | None, hidden_size: int, **kwargs: Any) -> None:
        super().__init__(mode, 1 if input_size is None else input_size, hidden_size, **kwargs)
        self.takes_input_gates = input_size is None
        if input_size is None:
            if self.bidirectional:
                raise ValueError(
                    f"{type(self).__name__}: input_size is None (the input is the input gates) "
                    "and bidirectional is True; the two directions would share their gates"
                )
            self.input_size = self._gates * hidden_size
            del self.weight_ih_l0
            self._all_weights[0].remove("weight_ih_l0")
            self._flat_weights_names.remove("weight_ih_l0")
            self._init_flat_weights()

    @property
    def cell(self) -> str:
        """Name of the cell, as the kernels know it."""
        return self.mode.lower()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        offsets: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """
        Run the layers over a batch of sequences.

        Parameters
        ----------
        input : Tensor or PackedSequence
            (T, B, I), (B, T, I) with ``batch_first``, (T, I) unbatched, a PackedSequence, a
            jagged nested tensor (B, *, I), or (events, I) with `offsets`.
        hx : Tensor (num_layers * D, B, H), optional
            Initial state, zeros if absent; (num_layers * D, H) for unbatched input. For an LSTM
            the pair (h_0, c_0). D is 2 if bidirectional, else 1.
        offsets : (B + 1,) int64 Tensor, optional
            Makes `input` ragged: sequence b is its rows ``offsets[b]`` to ``offsets[b + 1] - 1``.
            A sequence of length 0 yields its initial state.
        reset : bool Tensor, optional
            One per event, in the layout of `input` without its last dimension. True: the state
            is zeroed before this event.

        Returns
        -------
        output : Tensor or PackedSequence
            Top layer's states in the layout of `input`, D * H wide.
        h_n : Tensor (num_layers * D, B, H)
            Final states; for an LSTM the pair (h_n, c_n).

        Raises
        ------
        RuntimeError, ValueError
            As ``torch.nn``'s modules do, and for offsets that are not a partition of the rows.
        """
        if isinstance(input, PackedSequence):
            if offsets is not None or reset is not None:
                raise ValueError(
                    f"{type(self).__name__}: a PackedSequence takes neither offsets nor reset"
                )
            values, batch_sizes, order, original = input
            events = _Input(values, int(batch_sizes[0]), batch_sizes=batch_sizes)
            output, state = self._run(events, _permuted(hx, order))
            packed = PackedSequence(output, batch_sizes, order, original)
            return packed, _permuted(state, original)
        if input.is_nested:
            jagged: Any = input
            rows = jagged.offsets()
            output, state = self.forward(jagged.values(), hx, offsets=rows, reset=reset)
            return torch.nested.nested_tensor_from_jagged(output, rows), state
        if offsets is not None:
            if input.dim() != 2:
                raise ValueError(
                    f"{type(self).__name__}: input has {input.dim()} dimensions; expected 2, "
                    "(events, input_size), because offsets are given"
                )
            events = _Input(input, offsets.shape[0] - 1, offsets=offsets, reset=reset)
            return self._run(events, hx)
        return self._run_padded(input, hx, reset)

    def _run_padded(
        self, input: Tensor, hx: State | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        name = type(self).__name__
        if input.dim() not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        batch_dim = 0 if self.batch_first else 1
        for state in () if hx is None else hx if isinstance(hx, tuple) else (hx,):
            if state.dim() != input.dim():
                raise RuntimeError(
                    f"For {'batched 3-D' if batched else 'unbatched 2-D'} input, hx should also "
                    f"be {input.dim()}-D but got {state.dim()}-D tensor"
                )
        if not batched:
            input = input.unsqueeze(batch_dim)
            reset = None if reset is None else reset.unsqueeze(batch_dim)
            hx = _mapped(hx, lambda state: state.unsqueeze(1))
        if input.shape[1 - batch_dim] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if reset is not None and reset.shape != input.shape[:2]:
            raise RuntimeError(
                f"{name}: reset has shape {tuple(reset.shape)}; expected {tuple(input.shape[:2])}"
            )
        events = _Input(input, input.shape[batch_dim], batch_first=self.batch_first, reset=reset)
        output, final = self._run(events, hx)
        if not batched:
            output = output.squeeze(batch_dim)
            final = _mapped(final, lambda state: state.squeeze(1))
        return output, final

    def _run(self, events: _Input, hx: State | None) -> tuple[Tensor, Any]:
        lstm = self.mode == "LSTM"
        values = events.values
        weights: list[tuple[Any, ...]] = [
            tuple(getattr(self, f"{name}_l{suffix}", None) for name in _PARAMETERS)
            for suffix in self._suffixes()
        ]
        if torch.is_autocast_enabled(values.device.type):
            values = values.to(weights[0][1].dtype)
        self._check(values, hx, events)
        state_size = self.proj_size or self.hidden_size
        if hx is None:
            zeros = values.new_zeros(events.batch, state_size)
            cell_zeros = values.new_zeros(events.batch, self.hidden_size) if lstm else None
        h_0, c_0 = hx if isinstance(hx, tuple) else (hx, None)
        tensors = [values, h_0, c_0, *(w for layer in weights for w in layer)]
        save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
        h_n, c_n = [], []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self._directions):
                i = layer * self._directions + direction
                y, h, c, _ = rnn_forward(
                    self.cell,
                    values,
                    zeros if h_0 is None else h_0[i],
                    cell_zeros if lstm and c_0 is None else c_0 if c_0 is None else c_0[i],
                    *weights[i],
                    events.offsets,
                    events.batch_sizes,
                    events.reset,
                    events.batch_first,
                    direction == 1,
                    save,
                )
                outputs.append(y)
                h_n.append(h)
                c_n.append(c)
            values = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                values = self._dropped(values, events.batch_first)
        h_all = torch.stack(h_n) if len(h_n) > 1 else h_n[0].unsqueeze(0)
        if not lstm:
            return values, h_all
        return values, (h_all, torch.stack(c_n) if len(c_n) > 1 else c_n[0].unsqueeze(0))

    def _dropped(self, values: Tensor, batch_first: bool) -> Tensor:
        # In time-major order, so that a seed drops the same units as it does in torch.nn.
        if batch_first:
            values = values.transpose(0, 1).contiguous()
        values = torch.nn.functional.dropout(values, self.dropout, True)
        return values.transpose(0, 1).contiguous() if batch_first else values

    def _suffixes(self) -> list[str]:
        return [
            f"{layer}{direction}"
            for layer in range(self.num_layers)
            for direction in ("", "_reverse")[: self._directions]
        ]

    def _check(self, values: Tensor, hx: State | None, events: _Input) -> None:
        flat = events.offsets is not None or events.batch_sizes is not None
        self.check_input(values, events.batch_sizes if not flat else values)
        if values.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"{type(self).__name__}: input is {values.dtype}; expected torch.float32 or "
                "torch.float64"
            )
        if hx is None:
            return
        layers = self.num_layers * self._directions
        expected = (layers, events.batch, self.proj_size or self.hidden_size)
        if self.mode != "LSTM":
            if isinstance(hx, tuple):
                raise TypeError(f"{type(self).__name__}: hx is a tuple; expected one tensor")
            self.check_hidden_size(hx, expected)
            return
        if not isinstance(hx, tuple | list) or len(hx) != 2:
            raise TypeError("LSTM: hx is not a pair; expected (h_0, c_0)")
        self.check_hidden_size(hx[0], expected, "Expected hidden[0] size {}, got {}")
        expected = (layers, events.batch, self.hidden_size)
        self.check_hidden_size(hx[1], expected, "Expected hidden[1] size {}, got {}")


_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def _mapped(state: Any, function: Any) -> Any:
    if state is None:
        return None
    if isinstance(state, tuple | list):
        return tuple(function(part) for part in state)
    return function(state)


def _permuted(state: Any, order: Tensor | None) -> Any:
    return state if order is None else _mapped(state, lambda part: part.index_select(1, order))


class GRU(_RecurrentLayer):
    """
    Multi-layer gated recurrent unit, a drop-in for :class:`torch.nn.GRU`.

    Parameters
    ----------
    input_size : int or None
        Features per event. None: the input already is the input gates (3 * hidden_size wide, in
        the order r, z, n), the first layer has no ``weight_ih_l0``.
    hidden_size : int
    num_layers : int
    bias, batch_first, dropout, bidirectional, device, dtype
        As in :class:`torch.nn.GRU`.
    reset_after : bool
        True: the reset gate acts after the product with ``weight_hh`` (PyTorch, cuDNN). False:
        before it (Cho et al., 2014, arXiv:1406.1078; the first layer of GRU4Rec).

    Examples
    --------
    >>> import torch
    >>> from seqrec_fast.nn import GRU
    >>> y, h_n = GRU(8, 16)(torch.zeros(5, 3, 8))
    >>> y.shape, h_n.shape
    (torch.Size([5, 3, 16]), torch.Size([1, 3, 16]))
    """

    _gates = 3

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers=num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.reset_after = reset_after

    @property
    def cell(self) -> str:
        """Name of the cell, as the kernels know it."""
        return "gru" if self.reset_after else "gru_reset_before"


class LSTM(_RecurrentLayer):
    """
    Multi-layer long short-term memory, a drop-in for :class:`torch.nn.LSTM`.

    Parameters
    ----------
    input_size : int or None
        Features per event. None: the input already is the input gates (4 * hidden_size wide, in
        the order i, f, g, o).
    hidden_size : int
    num_layers : int
    bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        As in :class:`torch.nn.LSTM`.
    """

    _gates = 4

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers=num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
            proj_size=proj_size, device=device, dtype=dtype,
        )  # fmt: skip


class RNN(_RecurrentLayer):
    """
    Multi-layer Elman network, a drop-in for :class:`torch.nn.RNN`.

    Parameters
    ----------
    input_size : int or None
        Features per event. None: the input already is ``W_ih x``, hidden_size wide.
    hidden_size : int
    num_layers : int
    nonlinearity : str
        ``"tanh"`` or ``"relu"``.
    bias, batch_first, dropout, bidirectional, device, dtype
        As in :class:`torch.nn.RNN`.
    """

    _gates = 1

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers=num_layers,
            bias=bias, batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity
