"""The arguments of the recurrent operators, by name."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from seqrec_fast import _core
from seqrec_fast._packing import RNN_PARAMETERS

_GATES = {cell: _core.gate_count(cell) for cell in _core.CELLS}

#: Fields of a call that have gradients, in the order in which ``rnn_backward`` returns these.
DIFFERENTIABLE = ("x", "h_0", "c_0", *RNN_PARAMETERS, "attention")
#: All fields that are tensors.
TENSORS = (*DIFFERENTIABLE, "offsets", "batch_sizes", "reset", "seed", "sessions")
#: Of the operators: the fields of :class:`RnnCall` with their defaults.
SCHEMA = (
    "str cell, Tensor x, Tensor h_0, Tensor? c_0, Tensor? weight_ih, Tensor weight_hh,"
    " Tensor? bias_ih, Tensor? bias_hh, Tensor? weight_hr, Tensor? offsets, Tensor? batch_sizes,"
    " Tensor? reset, bool batch_first, bool reverse, bool save, str precision='full',"
    " float recurrent_dropout=0.0, float zoneout=0.0, Tensor? seed=None, int stream=0,"
    " Tensor? sessions=None, Tensor? attention=None"
)


class RnnCall(NamedTuple):
    """
    One call of ``rnn_forward``; cpp/ops/rnn.h has the shapes.

    Weights with a leading dimension, that of experts, make one layer per expert: expert m of M
    then runs the sessions m * B to (m + 1) * B - 1 of `offsets`.
    """

    cell: str
    x: Tensor
    h_0: Tensor
    c_0: Tensor | None
    weight_ih: Tensor | None
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    offsets: Tensor | None = None
    batch_sizes: Tensor | None = None
    reset: Tensor | None = None
    batch_first: bool = False
    reverse: bool = False
    save: bool = False
    precision: str = "full"
    # Noise as in cpp/cpu/rnn_noise.h; without a seed zoneout acts by its expectation.
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    seed: Tensor | None = None
    stream: int = 0
    sessions: Tensor | None = None
    attention: Tensor | None = None

    @property
    def weights(self) -> tuple[Tensor | None, ...]:
        """In the order of RNN_PARAMETERS."""
        return (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.weight_hr)

    @property
    def hidden(self) -> int:
        """Number of units."""
        return self.weight_hh.shape[-2] // _GATES[self.cell]

    @property
    def layer(self) -> str:
        """Name of the layer that makes such calls, for messages."""
        name = self.cell.split("_")[0].upper()
        name = "AUGRU" if name == "AGRU" else name
        return name if self.experts is None else f"Expert{name}"

    @property
    def experts(self) -> int | None:
        """How many there are; None for one layer without that dimension."""
        return self.weight_hh.shape[0] if self.weight_hh.dim() == 3 else None
