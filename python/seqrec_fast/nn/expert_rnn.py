"""Recurrent experts: a layer per expert over sequences of its own, all in one operator call."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seqrec_fast._packing import RNN_PARAMETERS
from seqrec_fast.augru import cell_of_mode

from ._checks import check_dtype, check_tensor
from ._recurrent_layer import _Input, checked_pair
from ._rnn_autograd import rnn_forward
from ._rnn_call import RnnCall
from ._tensors import autocast_precision
from .augru import weighed

__all__ = ["ExpertAUGRU", "ExpertGRU", "ExpertLSTM"]


class _ExpertLayer(torch.nn.Module):
    """Parameters of :class:`torch.nn.GRU` or LSTM with a leading dimension, and the call."""

    _gates: int
    _cell: str
    weight_hh_l0: Tensor

    def __init__(
        self,
        num_experts: int,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        for name, size in (
            ("num_experts", num_experts), ("input_size", input_size), ("hidden_size", hidden_size),
        ):  # fmt: skip
            if not isinstance(size, int) or size < 1:
                raise ValueError(
                    f"{type(self).__name__}: {name} is {size!r}; expected an integer, at least 1"
                )
        self.num_experts, self.input_size, self.hidden_size = num_experts, input_size, hidden_size
        self.bias = bias
        rows = self._gates * hidden_size
        shapes = {"weight_ih_l0": (rows, input_size), "weight_hh_l0": (rows, hidden_size)}
        shapes |= {"bias_ih_l0": (rows,), "bias_hh_l0": (rows,)} if bias else {}  # type: ignore[dict-item]
        for name, shape in shapes.items():
            values = torch.empty(num_experts, *shape, device=device, dtype=dtype)
            self.register_parameter(name, torch.nn.Parameter(values))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters as ``torch.nn`` does, uniformly from +-1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """Sizes and options."""
        text = f"{self.num_experts}, {self.input_size}, {self.hidden_size}"
        return text if self.bias else f"{text}, bias=False"

    def _run(
        self,
        input: Tensor,
        states: tuple[Tensor, ...] | None,
        offsets: Tensor,
        attention: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        name = type(self).__name__
        sessions = self._check(input, states, offsets)
        precision = autocast_precision(input.device.type)
        dtype = self.weight_hh_l0.dtype
        values = input.to(dtype) if torch.is_autocast_enabled(input.device.type) else input
        if values.dtype != dtype:
            raise ValueError(f"{name}: input is {values.dtype}; expected {dtype}, as the weights")
        for state in states or ():
            if state.dtype != dtype and not torch.is_autocast_enabled(input.device.type):
                raise ValueError(f"{name}: hx is {state.dtype}; expected {dtype}, as the weights")
        shape = (self.num_experts, sessions // self.num_experts, self.hidden_size)
        if states is None:
            states = (values.new_zeros(shape),) * (2 if self._cell == "lstm" else 1)
        flat = [state.to(dtype).reshape(sessions, self.hidden_size) for state in states]
        h_0, c_0 = flat if self._cell == "lstm" else (flat[0], None)
        weights: dict[str, Any] = {
            name: getattr(self, f"{name}_l0", None) for name in RNN_PARAMETERS
        }
        attention = None if attention is None else attention.to(dtype)
        call = RnnCall(
            self._cell, values, h_0, c_0, **weights,
            offsets=offsets, precision=precision, attention=attention,
        )  # fmt: skip
        y, h_n, c_n, _ = rnn_forward(call)
        return y, h_n.reshape(shape), c_n.reshape(shape) if c_0 is not None else c_n

    def _check(self, input: Tensor, states: tuple[Tensor, ...] | None, offsets: Tensor) -> int:
        """Return the number of sequences of all experts."""
        name = type(self).__name__
        check_tensor(name, "input", input)
        check_dtype(name, "offsets", offsets, torch.int64)
        if input.dim() != 2 or input.shape[1] != self.input_size:
            raise ValueError(
                f"{name}: input has shape {tuple(input.shape)}; expected (events, "
                f"{self.input_size})"
            )
        sessions = offsets.numel() - 1
        if offsets.dim() != 1 or sessions < 0 or sessions % self.num_experts:
            raise ValueError(
                f"{name}: offsets have shape {tuple(offsets.shape)}; expected "
                f"({self.num_experts} * B + 1,), sequence b of expert m being number m * B + b"
            )
        expected = (self.num_experts, sessions // self.num_experts, self.hidden_size)
        for state in states or ():
            check_tensor(name, "an initial state", state)
            if tuple(state.shape) != expected:
                raise ValueError(
                    f"{name}: an initial state has shape {tuple(state.shape)}; expected {expected}"
                )
        return sessions


class ExpertGRU(_ExpertLayer):
    """
    One GRU per expert over sequences of its own, bit for bit that many GRUs, in one call.

    Parameters
    ----------
    num_experts : int
    input_size, hidden_size : int
    bias, device, dtype
        As in :class:`torch.nn.GRU`. Its parameters have a leading dimension of `num_experts` here:
        ``weight_ih_l0`` (M, 3 * H, I), ``weight_hh_l0`` (M, 3 * H, H), ``bias_ih_l0`` and
        ``bias_hh_l0`` (M, 3 * H).

    Raises
    ------
    ValueError
        If a size is not a positive integer.

    Examples
    --------
    Two experts, two sequences: expert 0 gets 2 events of the first, expert 1 one of each.

    >>> import torch
    >>> from seqrec_fast.nn import ExpertGRU
    >>> y, h_n = ExpertGRU(2, 8, 16)(torch.zeros(4, 8), offsets=torch.tensor([0, 2, 2, 3, 4]))
    >>> y.shape, h_n.shape
    (torch.Size([4, 16]), torch.Size([2, 2, 16]))
    """

    _gates, _cell = 3, "gru"

    def forward(
        self, input: Tensor, hx: Tensor | None = None, *, offsets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """
        Run every expert.

        Parameters
        ----------
        input : (events, I) Tensor
            Expert by expert, sequence by sequence, oldest first: what
            :func:`seqrec_fast.nn.functional.dispatch_by_expert` gives.
        hx : (M, B, H) Tensor, optional
            Initial states, zeros if absent.
        offsets : (M * B + 1,) int64 Tensor
            Events of sequence b for expert m are the rows ``offsets[m * B + b]`` to
            ``offsets[m * B + b + 1] - 1``. Where there are none the final state is the initial one.

        Returns
        -------
        output : (events, H) Tensor
            States after every event.
        h_n : (M, B, H) Tensor
            Final states.

        Raises
        ------
        TypeError
            If an argument is no tensor, or offsets are not int64.
        ValueError
            If a shape or dtype does not fit, or offsets are not a partition of the rows.
        """
        y, h_n, _ = self._run(input, None if hx is None else (hx,), offsets)
        return y, h_n


class ExpertLSTM(_ExpertLayer):
    """One LSTM per expert; as :class:`ExpertGRU`, with 4 * H rows and pairs (h, c) of states."""

    _gates, _cell = 4, "lstm"

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, *, offsets: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run every expert, see :meth:`ExpertGRU.forward`."""
        states = None if hx is None else checked_pair("ExpertLSTM", hx)
        y, h_n, c_n = self._run(input, states, offsets)
        return y, (h_n, c_n)


class ExpertAUGRU(_ExpertLayer):
    """
    One AUGRU per expert, with the parameters of :class:`ExpertGRU`.

    Parameters
    ----------
    num_experts, input_size, hidden_size, bias, device, dtype
        As in :class:`ExpertGRU`.
    mode : str
        As in :class:`AUGRU`.
    """

    _gates = 3

    def __init__(
        self,
        num_experts: int,
        input_size: int,
        hidden_size: int,
        *,
        mode: str = "augru_paper",
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        cell = cell_of_mode("ExpertAUGRU", mode)
        super().__init__(
            num_experts, input_size, hidden_size, bias=bias, device=device, dtype=dtype
        )
        self._cell, self.mode = cell, mode

    def extra_repr(self) -> str:
        """Sizes and options."""
        return f"{super().extra_repr()}, mode={self.mode!r}"

    def forward(
        self, input: Tensor, attention: Tensor, hx: Tensor | None = None, *, offsets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run every expert, see :meth:`ExpertGRU.forward`; `attention` is (events,)."""
        events = weighed("ExpertAUGRU", _Input(input, 0, attention=attention), self.mode)
        states = None if hx is None else (hx,)
        y, h_n, _ = self._run(events.values, states, offsets, events.attention)
        return y, h_n
