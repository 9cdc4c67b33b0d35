"""GRU, LSTM and RNN with the signatures, parameters and numbers of ``torch.nn``."""

from __future__ import annotations

from typing import Any

from ._recurrent_layer import RecurrentLayer

__all__ = ["GRU", "LSTM", "RNN"]


class GRU(RecurrentLayer):
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
        As in :class:`torch.nn.GRU`. float16 and bfloat16 are computed in float32 on the CPU.
    reset_after : bool
        True: the reset gate acts after the product with ``weight_hh`` (PyTorch, cuDNN). False:
        before it (Cho et al., 2014, arXiv:1406.1078; the first layer of GRU4Rec).
    recurrent_dropout : float
        Probability that a unit of the candidate n is dropped at a step, 0 <= p < 1
        (Semeniuta et al., 2016, arXiv:1603.05118); those kept are scaled by 1 / (1 - p). Off in
        ``eval()``.
    zoneout : float
        Probability that a unit of the state keeps its value of the step before (Krueger et al.,
        2017, arXiv:1606.01305). In ``eval()`` states are blended by this expectation,
        h = p * h_before + (1 - p) * h_new.
    variational_dropout : float
        Probability that a feature of a layer's input is dropped, the same ones at all steps of a
        sequence (Gal and Ghahramani, 2016, arXiv:1512.05287). Off in ``eval()``.

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
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        variational_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size,
            recurrent_dropout, zoneout, variational_dropout, num_layers=num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.reset_after = reset_after

    @property
    def cell(self) -> str:
        """Name of the cell, as the kernels know it."""
        return "gru" if self.reset_after else "gru_reset_before"


class LSTM(RecurrentLayer):
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
    recurrent_dropout, zoneout, variational_dropout : float
        As in :class:`GRU`. The candidate is g; which units zoneout keeps is drawn for h and for c.
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
        *,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        variational_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size,
            recurrent_dropout, zoneout, variational_dropout, num_layers=num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
            proj_size=proj_size, device=device, dtype=dtype,
        )  # fmt: skip


class RNN(RecurrentLayer):
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
    recurrent_dropout, zoneout, variational_dropout : float
        As in :class:`GRU`. The candidate is the new state.
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
        *,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        variational_dropout: float = 0.0,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size,
            recurrent_dropout, zoneout, variational_dropout, num_layers=num_layers,
            bias=bias, batch_first=batch_first, dropout=dropout, bidirectional=bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity
