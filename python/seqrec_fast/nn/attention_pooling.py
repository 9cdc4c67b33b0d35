"""Attention of a target to the events of ragged histories, as DIN and DIEN have it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsIndex

import torch
from torch import Tensor

from seqrec_fast._checks import check_choice, checked_flag, checked_int

from ._checks import check_floating, check_offsets, check_partition, check_shape
from ._mlp import ACTIVATIONS, MLP
from .grouped_linear import grouped_linear
from .segments import expand_segments, segment_softmax, segment_sum, softmax_of, sum_of

__all__ = ["AttentionPooling", "BilinearAttention", "segment_softmax", "segment_sum"]


class AttentionPooling(torch.nn.Module):
    """
    DIN's weighted sum of a history (Zhou et al., 2018, arXiv:1706.06978, eq. 3).

    The weight of an event with embedding e for the target embedding q is ``MLP([q, e, q - e,
    q * e])``. The four-fold rows of the events never exist: for one history, the first layer is one
    linear layer of e, whose weight and bias hold q.

    Parameters
    ----------
    input_size : int
        Width D of embeddings.
    hidden_sizes : sequence of int
        Of the MLP; at least one.
    activation : {"relu", "prelu", "sigmoid", "dice"}
    softmax : bool
        Make the weights of a history sum to 1. By default they are taken as they are, so that the
        length of the result tells how much of the history fits, as in the paper.

    Raises
    ------
    TypeError
        If an argument has another type.
    ValueError
        If a size is below 1 or the activation is unknown.

    Examples
    --------
    >>> import torch
    >>> from seqrec_fast.nn import AttentionPooling
    >>> pool = AttentionPooling(8)
    >>> pool(torch.zeros(2, 8), torch.zeros(5, 8), torch.tensor([0, 3, 5])).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_sizes: Sequence[SupportsIndex] = (64, 32),
        *,
        activation: str = "prelu",
        softmax: bool = False,
    ) -> None:
        super().__init__()
        name = "AttentionPooling"
        self.input_size = checked_int(name, "input_size", input_size, 1)
        sizes = [checked_int(name, "hidden_sizes", size, 1) for size in hidden_sizes]
        if not sizes:
            raise ValueError(f"{name}: hidden_sizes is {hidden_sizes!r}; expected at least one")
        check_choice(name, "activation", activation, tuple(ACTIVATIONS))
        self.softmax = checked_flag(name, "softmax", softmax)
        self.mlp = MLP(4 * self.input_size, sizes, activation)

    def forward(self, query: Tensor, keys: Tensor, offsets: Tensor) -> Tensor:
        """
        Return the weighted sum of each history.

        Parameters
        ----------
        query : (B, D) Tensor
            Embedding of each target.
        keys : (N, D) Tensor
            Embeddings of events, history after history.
        offsets : (B + 1,) int64 Tensor
            History b is ``keys[offsets[b]:offsets[b + 1]]``.

        Returns
        -------
        (B, D) Tensor
            Zeros for an empty history.

        Raises
        ------
        TypeError
            If a tensor has another dtype.
        ValueError
            If a shape does not fit, or offsets are no partition of the events; on CUDA
            they are not looked at.
        """
        weights = self.weights(query, keys, offsets)
        return sum_of(weights[:, None] * keys, offsets)

    def weights(self, query: Tensor, keys: Tensor, offsets: Tensor) -> Tensor:
        """Return the (N,) weights of the events; parameters are those of :meth:`forward`."""
        width = self.input_size
        _check("AttentionPooling", query, width, keys, width, offsets)
        first = self.mlp.first
        of_query, of_key, of_difference, of_product = torch.split(first.weight, width, 1)
        bias = torch.addmm(first.bias, query, (of_query + of_difference).t())
        # one (hidden, D) matrix for each history, which is smaller than its events mostly are
        weight = torch.addcmul((of_key - of_difference)[None], of_product[None], query[:, None])
        scores = self.mlp.after_first(grouped_linear(keys, weight, bias, offsets))
        return softmax_of(scores, offsets) if self.softmax else scores


class BilinearAttention(torch.nn.Module):
    """
    DIEN's attention scores (Zhou et al., 2019, arXiv:1809.03672, eq. 8).

    ``softmax(h @ weight @ q)`` over the states h of a history, for the target embedding q.

    Parameters
    ----------
    key_size, query_size : int
        Widths of states and of targets.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If a size is below 1.
    """

    def __init__(self, key_size: SupportsIndex, query_size: SupportsIndex) -> None:
        super().__init__()
        key_size = checked_int("BilinearAttention", "key_size", key_size, 1)
        query_size = checked_int("BilinearAttention", "query_size", query_size, 1)
        self.weight = torch.nn.Parameter(torch.empty(key_size, query_size))
        bound = 1 / math.sqrt(query_size)
        torch.nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, query: Tensor, keys: Tensor, offsets: Tensor) -> Tensor:
        """
        Return the score of each event, from 0 to 1; those of a history sum to 1.

        Parameters
        ----------
        query : (B, query_size) Tensor
        keys : (N, key_size) Tensor
        offsets : (B + 1,) int64 Tensor

        Returns
        -------
        (N,) Tensor
        """
        key_size, query_size = self.weight.shape
        _check("BilinearAttention", query, query_size, keys, key_size, offsets)
        wanted = expand_segments(query @ self.weight.t(), offsets, keys.shape[0])
        return softmax_of((wanted * keys).sum(1), offsets)


def _check(
    caller: str, query: Tensor, query_size: int, keys: Tensor, key_size: int, offsets: Tensor
) -> None:
    check_floating(caller, "query", query)
    check_floating(caller, "keys", keys)
    check_offsets(caller, "offsets", offsets, "B")
    check_shape(caller, "keys", keys, "N", key_size)
    check_partition(caller, "offsets", offsets, keys.shape[0])
    check_shape(caller, "query", query, offsets.shape[0] - 1, query_size)
