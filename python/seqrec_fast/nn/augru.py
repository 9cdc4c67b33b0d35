"""GRUs whose update is weighed by an attention score of each event, as DIEN has them."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from seqrec_fast.augru import cell_of_mode

from ._recurrent_layer import RecurrentLayer, State, _Input

__all__ = ["AUGRU"]


class AUGRU(RecurrentLayer):
    """
    GRU with attentional update gate, in both definitions in use, and its relatives.

    With r, z, n of :class:`torch.nn.GRU`, whose ``state_dict`` it shares, GRU(h) the step of a GRU
    and a the attention score of the event, the new state is

    ==================  =====================================================================
    ``"augru_paper"``   h + a (GRU(h) - h), the formula of DIEN (Zhou et al., 2019,
                        arXiv:1809.03672) and of its PyTorch ports; a = 0 keeps the state
    ``"augru_tf"``      (1 - a) GRU(h) + a n, that of TensorFlow's ``VecAttGRUCell``, oneDNN and
                        OpenVINO; a = 0 is an ordinary GRU
    ``"agru"``          h + a (n - h): a in place of the update gate, whose weights then do nothing
    ``"aigru"``         GRU(h) of the input a x
    ==================  =====================================================================

    Parameters
    ----------
    input_size, hidden_size : int
    mode : str
        One of the above.
    bias, batch_first, device, dtype
        As in :class:`torch.nn.GRU`.

    Raises
    ------
    ValueError
        If `mode` is unknown.

    Examples
    --------
    >>> import torch
    >>> from seqrec_fast.nn import AUGRU
    >>> y, h_n = AUGRU(8, 16)(torch.zeros(5, 3, 8), torch.ones(5, 3))
    >>> y.shape, h_n.shape
    (torch.Size([5, 3, 16]), torch.Size([1, 3, 16]))
    """

    _gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        mode: str = "augru_paper",
        bias: bool = True,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        cell = cell_of_mode("AUGRU", mode)
        super().__init__(
            "GRU", input_size, hidden_size, 0.0, 0.0, 0.0,
            bias=bias, batch_first=batch_first, device=device, dtype=dtype,
        )  # fmt: skip
        # torch's `mode` names the gates.
        self._cell, self.attention_mode = cell, mode

    @property
    def cell(self) -> str:
        """Name of the cell, as the kernels know it."""
        return self._cell

    def extra_repr(self) -> str:
        """As torch.nn's, with the mode."""
        return f"{super().extra_repr()}, mode={self.attention_mode!r}"

    def forward(  # type: ignore[override]
        self,
        input: Tensor | PackedSequence,
        attention: Tensor | PackedSequence,
        hx: Tensor | None = None,
        *,
        offsets: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """
        Run the layer over a batch of sequences.

        Parameters
        ----------
        input : Tensor or PackedSequence
            In any form that :meth:`GRU.forward` takes: (T, B, I), (B, T, I) with ``batch_first``,
            (T, I), a PackedSequence, a jagged nested tensor, or (events, I) with `offsets`.
        attention : Tensor or PackedSequence
            A score per event, in the layout of `input` without its last dimension and of its
            dtype. For a PackedSequence or a jagged tensor: one of the same lengths, or (events,).
            Any numbers; as a rule from 0 to 1. Gradients reach it.
        hx : (1, B, H) Tensor, optional
            Initial state, zeros if absent; (1, H) for unbatched input.
        offsets : (B + 1,) int64 Tensor, optional
            Makes `input` ragged: sequence b is its rows ``offsets[b]`` to ``offsets[b + 1] - 1``.
            A sequence of length 0 yields its initial state.

        Returns
        -------
        output : Tensor or PackedSequence
            States after every event, in the layout of `input`.
        h_n : (1, B, H) Tensor
            Final states.

        Raises
        ------
        RuntimeError, ValueError
            As :meth:`GRU.forward`, and if the shape or dtype of `attention` does not fit.
        """
        if isinstance(attention, PackedSequence):
            attention = attention.data
        elif attention.is_nested:
            attention = attention.values()
        return self._forward(input, hx, offsets, None, attention)

    def _run(self, events: _Input, hx: State | None) -> tuple[Tensor, Any]:
        return super()._run(weighed(type(self).__name__, events, self.attention_mode), hx)


def weighed(function: str, events: _Input, mode: str) -> _Input:
    """Check the attention scores; for ``"aigru"`` they move into the values."""
    values, attention = events.values, events.attention
    assert attention is not None
    if attention.shape != values.shape[:-1]:
        raise ValueError(
            f"{function}: attention has shape {tuple(attention.shape)}; expected "
            f"{tuple(values.shape[:-1])}, that of the input without its last dimension"
        )
    if not attention.is_floating_point():
        raise ValueError(f"{function}: attention is {attention.dtype}; expected {values.dtype}")
    if mode != "aigru":
        return events
    return events._replace(values=values * attention.unsqueeze(-1), attention=None)
