"""Single steps with the signatures, parameters and numbers of ``torch.nn``'s cells."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from ._checks import check_tensor
from ._recurrent_layer import check_state_dtype, checked_pair, fx_leaf
from ._rnn_autograd import rnn_forward
from ._rnn_call import RnnCall

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


def _step(
    module: torch.nn.RNNCellBase,
    cell: str,
    input: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One step of a batch (N, I) or of one row (I,), as a sequence of length 1."""
    name = type(module).__name__
    check_tensor(name, "input", input)
    if input.dim() not in (1, 2):
        raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
    for state in (h_0, c_0):
        if state is not None and state.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {state.dim()}D instead")
    batched = input.dim() == 2
    x = input if batched else input.unsqueeze(0)
    if x.shape[1] != module.input_size:
        raise RuntimeError(
            f"{name}: input has {x.shape[1]} features; expected input_size, {module.input_size}"
        )
    if x.dtype != module.weight_hh.dtype:
        raise RuntimeError(f"{name}: input is {x.dtype}; the weights are {module.weight_hh.dtype}")
    states = []
    for state in (h_0, c_0) if cell == "lstm" else (h_0,):
        if state is None:
            state = x.new_zeros(x.shape[0], module.hidden_size)
        state = state if state.dim() == 2 else state.unsqueeze(0)
        if state.shape != (x.shape[0], module.hidden_size):
            raise RuntimeError(
                f"{name}: hidden has shape {tuple(state.shape)}; expected "
                f"{(x.shape[0], module.hidden_size)}"
            )
        check_state_dtype(name, state, x.dtype)
        states.append(state)
    weights = (module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh)
    c = states[1] if cell == "lstm" else None
    _, h_n, c_n, _ = rnn_forward(RnnCall(cell, x.unsqueeze(0), states[0], c, *weights))
    return (h_n, c_n) if batched else (h_n.squeeze(0), c_n.squeeze(0) if c_n.dim() == 2 else c_n)


class GRUCell(torch.nn.RNNCellBase):
    """
    One step of a GRU, a drop-in for :class:`torch.nn.GRUCell`.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As in :class:`torch.nn.GRUCell`.
    reset_after : bool
        As in :class:`seqrec_fast.nn.GRU`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device=device, dtype=dtype)
        self.reset_after = reset_after

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the next state (N, H) or (H,) from `input` (N, I) or (I,) and `hx`."""
        if isinstance(input, Proxy):
            return fx_leaf(self, input, hx)
        if hx is not None:
            check_tensor("GRUCell", "hx", hx)
        return _step(self, "gru" if self.reset_after else "gru_reset_before", input, hx, None)[0]


class LSTMCell(torch.nn.RNNCellBase):
    """
    One step of an LSTM, a drop-in for :class:`torch.nn.LSTMCell`.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As in :class:`torch.nn.LSTMCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device=device, dtype=dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the next (h, c), each (N, H) or (H,), from `input` and `hx` = (h, c)."""
        if isinstance(input, Proxy):
            return fx_leaf(self, input, hx)
        h_0, c_0 = (None, None) if hx is None else checked_pair("LSTMCell", hx)
        return _step(self, "lstm", input, h_0, c_0)


class RNNCell(torch.nn.RNNCellBase):
    """
    One step of an Elman network, a drop-in for :class:`torch.nn.RNNCell`.

    Parameters
    ----------
    input_size, hidden_size, bias, nonlinearity, device, dtype
        As in :class:`torch.nn.RNNCell`.
    """

    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]  # noqa: RUF012
    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the next state (N, H) or (H,) from `input` (N, I) or (I,) and `hx`."""
        if isinstance(input, Proxy):
            return fx_leaf(self, input, hx)
        if hx is not None:
            check_tensor("RNNCell", "hx", hx)
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return _step(self, f"rnn_{self.nonlinearity}", input, hx, None)[0]
