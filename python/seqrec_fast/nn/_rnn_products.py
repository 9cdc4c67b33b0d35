"""
The products over all events of recurrent layers on CUDA, outside of the loop over time.

Those of one layer are PyTorch's: nothing is as fast. Those of experts are grouped linear layers,
one per expert, whose events lie together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _grouped_linear_cuda as grouped
from ._tensors import product

RESET_AFTER = ("gru", "augru_paper", "augru_tf", "agru")


class LayerProducts:
    """Of one layer: weights (G * H, I), biases (G * H)."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def linear(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Return x times the transposed weight, or x itself, plus bias."""
        if weight is not None and self.precision == "full":
            return torch.nn.functional.linear(x, weight, bias)
        y = x if weight is None else product(x, weight.t(), self.precision)
        return y if bias is None else y + bias

    def prepared(self, grad: Tensor) -> Tensor:
        """Return gradients of gates as the two methods that follow take them."""
        return grad

    def input_grad(self, grad: Tensor, weight: Tensor) -> Tensor:
        """Return grad times the weight."""
        return product(grad, weight, self.precision)

    def weight_grad(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return the transposed grad times x."""
        return product(grad.t(), x, self.precision)

    def sums(self, grad: Tensor) -> Tensor:
        """Return the sum of the rows."""
        return grad.sum(0)


class ExpertProducts(LayerProducts):
    """Of a layer per expert: weights (M, G * H, I), biases (M, G * H)."""

    def __init__(self, precision: str, expert_offsets: Tensor) -> None:
        super().__init__(precision)
        self._offsets = expert_offsets

    def linear(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if weight is not None:
            return grouped.forward(x, weight, bias, self._offsets, self.precision)
        if bias is None:
            return x
        return x + bias.index_select(0, grouped.group_of_rows(self._offsets, x.shape[0]))

    def prepared(self, grad: Tensor) -> Tensor:
        # Once, not in each product: a part of the slots is a strided view.
        return grouped.rounded(grad, self.precision).contiguous()

    def input_grad(self, grad: Tensor, weight: Tensor) -> Tensor:
        transposed = weight.transpose(1, 2)
        return grouped.forward(grad, transposed, None, self._offsets, self.precision)

    def weight_grad(self, grad: Tensor, x: Tensor) -> Tensor:
        dweight = x.new_empty(self._offsets.shape[0] - 1, grad.shape[1], x.shape[1])
        x = grouped.rounded(x, self.precision)
        grouped.weight_grad(grad, x, self._offsets, dweight, None)
        return dweight

    def sums(self, grad: Tensor) -> Tensor:
        return grouped.group_sums(grad, self._offsets)


class GateGradients:
    """
    What follows from the gradients of the gates' sums, in the slots of cpp/cells/cell_kind.h.

    A reset-after GRU has the slots n of the input, r, z, n of the state, so that the sums of the
    input and those of the state are neighbours; the first are n, r, z, which a roll puts in order.
    """

    def __init__(self, cell: str, dgates: Tensor, hidden: int, products: LayerProducts) -> None:
        reset_after = cell in RESET_AFTER
        self._n_gates = dgates.shape[1] - (hidden if reset_after else 0)
        self._roll = hidden if reset_after else 0
        self._slots = dgates
        self._hidden, self._products = hidden, products
        self._recurrent = self._input = products.prepared(dgates[:, self._roll :])
        if reset_after:
            self._input = products.prepared(dgates[:, : self._n_gates])

    def of_input(self, weight_ih: Tensor | None) -> Tensor:
        """Return dx."""
        if weight_ih is None:
            return self._slots[:, : self._n_gates].roll(-self._roll, 1)
        return self._products.input_grad(self._input, weight_ih.roll(self._roll, -2))

    def of_weight_ih(self, x: Tensor) -> Tensor:
        """Return the gradient of weight_ih."""
        return self._products.weight_grad(self._input, x).roll(-self._roll, -2)

    def of_weight_hh(self, h_before: Tensor, rh_before: Tensor | None) -> Tensor:
        """Return the gradient of weight_hh."""
        if rh_before is None:
            return self._products.weight_grad(self._recurrent, h_before)
        plain = 2 * self._hidden
        parts = (
            self._products.weight_grad(self._recurrent[:, :plain], h_before),
            self._products.weight_grad(self._recurrent[:, plain:], rh_before),
        )
        return torch.cat(parts, -2)

    def of_biases(self) -> tuple[Tensor, Tensor]:
        """Return the gradients of bias_ih and bias_hh."""
        sums = self._products.sums(self._slots)
        return sums[..., : self._n_gates].roll(-self._roll, -1), sums[..., self._roll :].clone()
