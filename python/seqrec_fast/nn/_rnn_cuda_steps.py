"""
Time loops of recurrent layers on CUDA whose products with weight_hh are PyTorch's.

They are for weights that no cluster of blocks has room for. A step of all sessions is a product
and a kernel, which does what is left of the step; see OneStep in cpp/cuda/rnn_kernels.h. Sessions
are in the order of their lengths, so that those that have a step are the first.

Nothing waits for the device but the lengths of ragged sessions, so that calls on padded ones can
be captured in CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._devices import Handed, cuda_function
from ._tensors import wide_product

_STREAMED = 2 << 20  # bytes of weights that loops read from L2 at the least


def takes_steps(weight_hh: Tensor, operand: torch.dtype, batch: int) -> bool:
    """Whether weights (..., G * H, H) that a loop keeps as `operand` are too large for it."""
    size = weight_hh.shape[-2] * weight_hh.shape[-1] * operand.itemsize
    return batch > 0 and size > _STREAMED and size > cuda_function("rnn_most_kept_bytes")()


def longest_first(length: Tensor, experts: int) -> Tensor:
    """Return (B,), the sessions of each expert by their length."""
    by_expert = length.reshape(experts, length.shape[0] // experts)
    order = torch.argsort(by_expert, dim=1, descending=True, stable=True)
    before = torch.arange(experts, device=length.device)[:, None] * by_expert.shape[1]
    return (order + before).reshape(-1)


def _active(sequences: tuple[Any, ...], events: int) -> tuple[tuple[Any, ...], list[int]]:
    """Return the layout in order of length, and how many sessions of an expert have each step."""
    experts, batch, steps, batch_first, first, step, length, order = sequences
    if length is None:
        return sequences, [batch] * steps
    if first is not None:
        # as kernels do: offsets that lead out of the arrays lead nowhere
        inside = (first >= 0) & (length >= 0) & (first + length <= events)
        length = length.where(inside, 0)
        order = longest_first(length, experts)
    lengths = length.cpu().reshape(experts, -1)
    longest = int(lengths.max())
    ended = torch.stack([torch.bincount(row, minlength=longest + 1) for row in lengths])
    rows = lengths.shape[1] - ended.cumsum(1)[:, :longest].amin(0)
    sequences = (experts, batch, steps, batch_first, first, step, length, order)
    return sequences, rows.tolist()


class StepLoop:
    """
    A loop of one call, a step at a time.

    Parameters
    ----------
    call
        Calls the compiled function.
    cell
        Its name.
    like : (..., W) Tensor
        An array of all events.
    sequences
        The layout, as ``_rnn_cuda_ops._sequences`` returns it.
    weight_hh : (G * H, H) or (experts, G * H, H) Tensor
        In the dtype that products are computed from; their sums are float32, of float64 float64.
    arguments
        What the function takes after the weights, the same for all steps.
    """

    def __init__(
        self,
        call: Callable[..., None],
        cell: str,
        like: Tensor,
        sequences: tuple[Any, ...],
        weight_hh: Tensor,
        arguments: tuple[Any, ...],
    ) -> None:
        events = like.numel() // max(like.shape[-1], 1)
        sequences, self._rows = _active(sequences, events)
        arguments = (cell, *sequences, None, None, *arguments)
        self._call, self._arguments = call, Handed(f"rnn of {cell}", like, arguments)
        self._two_parts = cell == "gru_reset_before"
        self._weight = weight_hh.reshape(-1, *weight_hh.shape[-2:])
        self._hidden = weight_hh.shape[-1]
        experts, batch = sequences[:2]
        self._shape = (experts, batch // experts)
        dtype = torch.promote_types(like.dtype, torch.float32)
        self._h = like.new_empty(batch, self._hidden, dtype=dtype)
        has_other = self._two_parts or cell == "lstm"
        self._other = like.new_empty(batch, self._hidden, dtype=dtype) if has_other else None

    def forward(self) -> None:
        """Run all steps, the first first."""
        h, transposed = self._hidden, self._weight.transpose(1, 2)
        left = self._left(h)
        self._part("start", 0, self._shape[1], left, None)
        for s, rows in enumerate(self._rows):
            now = left[:, :rows]
            if self._two_parts:
                self._part("first", s, rows, left, wide_product(now, transposed[:, :, : 2 * h]))
                self._part("second", s, rows, left, wide_product(now, transposed[:, :, 2 * h :]))
            else:
                self._part("first", s, rows, left, wide_product(now, transposed))

    def backward(self) -> None:
        """Run all steps, the last first."""
        h, weight = self._hidden, self._weight
        left = self._left(weight.shape[1])
        sums = None
        last = len(self._rows)
        self._part("start", last, self._shape[1], left, None)
        for s in range(last - 1, -1, -1):
            rows = self._rows[s]
            now = left[:, :rows]
            self._part("first", s, rows, left, sums)
            if self._two_parts:
                of_rh = wide_product(now[:, :, 2 * h :], weight[:, 2 * h :])
                self._part("second", s, rows, left, of_rh)
                sums = wide_product(now[:, :, : 2 * h], weight[:, : 2 * h])
            else:
                sums = wide_product(now, weight)
        self._part("end", -1, self._shape[1], left, sums)

    def _left(self, width: int) -> Tensor:
        """Memory for the left sides of products."""
        return self._weight.new_empty(*self._shape, width)

    def _part(self, part: str, index: int, rows: int, left: Tensor, sums: Tensor | None) -> None:
        sum_rows = 0 if sums is None else sums.shape[1]
        table = None if sums is None else sums.reshape(-1, sums.shape[2])
        flat = left.reshape(-1, left.shape[2])
        sides = (flat, None) if left.dtype == self._h.dtype else (None, flat)
        step = (part, index, rows, sum_rows, table, *sides, self._h, self._other)
        self._call(*self._arguments.arguments, step)
