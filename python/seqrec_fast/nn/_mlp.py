"""Feed-forward layers with the activations of click-through models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast._click_model_format import ACTIVATIONS as ACTIVATIONS


class Dice(torch.nn.Module):
    """
    Data-adaptive activation of DIN (Zhou et al., 2018, arXiv:1706.06978, section 5.3).

    ``p(x) * x + (1 - p(x)) * alpha * x`` with ``p(x) = sigmoid((x - mean) / sqrt(var + eps))``: of
    the rows of the call in training, of running averages else. In a ragged batch all rows are
    events, so no padding is in these statistics. A call of fewer than two rows uses the averages.

    Parameters
    ----------
    size : int
        Width of the input.
    eps : float
    momentum : float
        Of the running averages, as in :class:`torch.nn.BatchNorm1d`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int, eps: float = 1e-8, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.alpha = torch.nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of (rows, size) values."""
        own = self.training and x.shape[0] > 1
        p = functional.batch_norm(
            x, self.running_mean, self.running_var,
            training=own, momentum=self.momentum, eps=self.eps,
        ).sigmoid()  # fmt: skip
        return x * (p + (1 - p) * self.alpha)

    def extra_repr(self) -> str:
        """Name the width."""
        return str(len(self.alpha))


class MLP(torch.nn.Module):
    """
    Linear layers with an activation after each, and a last one to a single value.

    Parameters
    ----------
    input_size : int
    hidden_sizes : sequence of int
    activation : {"relu", "prelu", "sigmoid", "dice"}
        PReLU and Dice have a slope for each unit.
    dropout : float
        After each activation.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        activation: str,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [input_size, *hidden_sizes]
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(before, after)
            for before, after in zip(sizes, [*hidden_sizes, 1], strict=True)
        )
        self.activations = torch.nn.ModuleList(_activation(activation, n) for n in hidden_sizes)
        self.dropout = dropout

    @property
    def first(self) -> torch.nn.Linear:
        """The first linear layer."""
        layer = self.layers[0]
        assert isinstance(layer, torch.nn.Linear)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows,) values for (rows, input_size) ones."""
        return self.after_first(self.first(x))

    def after_first(self, x: Tensor) -> Tensor:
        """Return what :meth:`forward` does, given what comes out of the first linear layer."""
        for layer, activation in zip(self.layers[1:], self.activations, strict=True):
            x = layer(functional.dropout(activation(x), self.dropout, self.training))
        return x.squeeze(-1)


def _activation(name: str, size: int) -> torch.nn.Module:
    if name == "prelu":
        return torch.nn.PReLU(size)
    if name == "dice":
        return Dice(size)
    return torch.nn.ReLU() if name == "relu" else torch.nn.Sigmoid()
