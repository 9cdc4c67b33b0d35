"""DSelect-k: a gate that is smooth in training and sparse in the end."""

from __future__ import annotations

from typing import SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_fast._checks import checked_int, checked_number

from ._checks import check_floating, check_shape

__all__ = ["DSelectK"]


def _smooth_step(x: Tensor, gamma: float) -> Tensor:
    """0 below -gamma / 2, 1 above gamma / 2, a cubic between."""
    t = x / gamma
    return torch.where(t <= -0.5, 0.0, torch.where(t >= 0.5, 1.0, -2 * t**3 + 1.5 * t + 0.5))


class DSelectK(nn.Module):
    """
    Mix k of the experts by binary codes (Hazimeh et al., 2021, arXiv:2106.03760).

    Selector i holds m = ceil(log2(E)) numbers per row; expert e gets the product of
    S(number) or 1 - S(number), by the bits of e. Once all are 0 or 1 a selector is one expert.
    The selectors are mixed by a softmax.

    Parameters
    ----------
    input_size : int
        0: one gate for all rows.
    num_experts : int
    k : int
        Selectors.
    gamma : float
        Width of the smooth step S.

    Raises
    ------
    TypeError
        If an option has another type.
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        input_size: SupportsIndex,
        num_experts: SupportsIndex,
        k: SupportsIndex,
        *,
        gamma: float = 1.0,
    ) -> None:
        super().__init__()
        input_size = checked_int("DSelectK", "input_size", input_size)
        num_experts = checked_int("DSelectK", "num_experts", num_experts, 1)
        k = checked_int("DSelectK", "k", k, 1, num_experts)
        gamma = checked_number("DSelectK", "gamma", gamma, finite=True)
        if not gamma > 0:
            raise ValueError(f"DSelectK: gamma is {gamma}; expected more than 0")
        self.input_size, self.num_experts, self.k, self.gamma = input_size, num_experts, k, gamma
        bits = (num_experts - 1).bit_length()
        codes = torch.arange(num_experts)[:, None] >> torch.arange(bits) & 1
        self.codes: Tensor
        self.register_buffer("codes", codes.bool(), persistent=False)
        bound = gamma / 100
        made = torch.empty(k, bits, max(input_size, 1)).uniform_(-bound, bound)
        self.weight_code = nn.Parameter(made)
        self.weight_mix = nn.Parameter(torch.empty(k, max(input_size, 1)).uniform_(-bound, bound))

    def selectors(self, x: Tensor) -> Tensor:
        """
        Return how much of each expert each selector takes.

        Parameters
        ----------
        x : (N, input_size) Tensor

        Returns
        -------
        (N, k, E) Tensor
            Sums over experts to 1 if their number is a power of 2, and to 1 at most else.
        """
        numbers = torch.einsum("nd,kbd->nkb", self._features(x), self.weight_code)
        step = _smooth_step(numbers, self.gamma)[:, :, None]
        return torch.where(self.codes, step, 1 - step).prod(-1)

    def forward(self, x: Tensor) -> Tensor:
        """
        Return dense weights.

        Parameters
        ----------
        x : (N, input_size) Tensor

        Returns
        -------
        (N, E) Tensor
        """
        mix = F.softmax(F.linear(self._features(x), self.weight_mix), 1)
        return torch.einsum("nk,nke->ne", mix, self.selectors(x))

    def entropy_loss(self, x: Tensor) -> Tensor:
        """
        Return the mean entropy of the selectors, plus what they give to codes of no expert.

        Added to the loss it drives selectors to single experts.

        Parameters
        ----------
        x : (N, input_size) Tensor

        Returns
        -------
        () Tensor
        """
        selectors = self.selectors(x)
        entropy = -(selectors * selectors.clamp(min=1e-6).log()).sum(-1)
        total = selectors.sum(-1).clamp(min=1e-6)
        return (entropy + 1 / total - 1).mean()

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.input_size}, {self.num_experts}, k={self.k}, gamma={self.gamma}"

    def _features(self, x: Tensor) -> Tensor:
        check_floating("DSelectK", "x", x)
        check_shape("DSelectK", "x", x, "N", self.input_size or "D")
        return x.new_ones(x.shape[0], 1) if self.input_size == 0 else x
