"""Products of the recurrent operators on CUDA over all events, before and after the loop."""

from __future__ import annotations

import torch
from torch import Tensor

RESET_AFTER = ("gru", "augru_paper", "augru_tf", "agru")


def product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """Return a @ b; of factors rounded to bfloat16, summed in float32, if that is the precision."""
    if precision == "full":
        return a @ b
    a, b = a.bfloat16(), b.bfloat16()
    if a.is_cuda and hasattr(torch.ops.aten.mm, "dtype"):
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def input_gates(
    events: Tensor, weight_ih: Tensor | None, bias_ih: Tensor | None, precision: str
) -> Tensor:
    """Return W_ih x + b_ih of (events, I); the events themselves without weights and bias."""
    if weight_ih is None or precision != "full":
        gates = events if weight_ih is None else product(events, weight_ih.t(), precision)
        return gates if bias_ih is None else gates + bias_ih
    return torch.nn.functional.linear(events, weight_ih, bias_ih)


def packed(matrices: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """
    Pack square matrices as the lanes of a warp load them, in a 16-bit dtype.

    The order is that of cpp/cuda/rnn_tensor_product.h: 16 rows, matrix, 32 columns, half of them,
    lane (row % 8, columns 8 t on), then its values: of columns 2 j + e of a half, row or row + 8.
    """
    count, size, _ = matrices.shape
    rows, columns = -size % 16, -size % 32
    padded = torch.nn.functional.pad(matrices, (0, columns, 0, rows))
    parts = padded.reshape(count, (size + rows) // 16, 2, 8, (size + columns) // 32, 4, 2, 2, 2)
    return parts.permute(1, 0, 4, 6, 3, 5, 7, 2, 8).to(dtype).reshape(-1)


class GateProducts:
    """
    What follows from the gradients of the gates' sums, in the slots of cpp/cells/cell_kind.h.

    A reset-after GRU has the slots n of the input, r, z, n of the state, so that the sums of the
    input and those of the state are neighbours; the first are n, r, z, which a roll puts in order.
    """

    def __init__(self, cell: str, dgates: Tensor, hidden: int, precision: str) -> None:
        reset_after = cell in RESET_AFTER
        self._n_gates = dgates.shape[1] - (hidden if reset_after else 0)
        self._roll = hidden if reset_after else 0
        self._slots = dgates
        self._hidden, self._precision = hidden, precision
        self._input = dgates[:, : self._n_gates]
        self._recurrent = dgates[:, self._roll :]

    def of_input(self, weight_ih: Tensor | None) -> Tensor:
        if weight_ih is None:
            return self._input.roll(-self._roll, 1)
        return product(self._input, weight_ih.roll(self._roll, 0), self._precision)

    def of_weight_ih(self, x: Tensor) -> Tensor:
        return product(self._input.t(), x, self._precision).roll(-self._roll, 0)

    def of_weight_hh(self, h_before: Tensor, rh_before: Tensor | None) -> Tensor:
        if rh_before is None:
            return product(self._recurrent.t(), h_before, self._precision)
        plain = 2 * self._hidden
        parts = (
            product(self._recurrent[:, :plain].t(), h_before, self._precision),
            product(self._recurrent[:, plain:].t(), rh_before, self._precision),
        )
        return torch.cat(parts)

    def of_biases(self) -> tuple[Tensor, Tensor]:
        sums = self._slots.sum(0)
        return sums[: self._n_gates].roll(-self._roll), sums[self._roll :].clone()
