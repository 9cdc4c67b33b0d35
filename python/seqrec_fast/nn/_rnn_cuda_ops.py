"""
The recurrent operators on CUDA.

The kernels are the loops over time. What is one product over all events, the input gates before
the loop and the gradients of x and of the weights after it, is PyTorch's: nothing is as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqrec_fast import _core

from ._devices import DEVICES, run
from ._ops import library
from ._tensors import array, product

_Run = Callable[..., None]  # as _devices.run; tests give one for emulated threads
_RESET_AFTER = ("gru", "augru_paper", "augru_tf", "agru")


def _check_supported(
    weight_hh: Tensor, weight_hr: Tensor | None, precision: str, noise: float
) -> None:
    missing = {
        "weight_hr (proj_size)": weight_hr is not None,
        "layers of several experts": weight_hh.dim() != 2,
        "recurrent_dropout and zoneout": noise != 0,
        f"the precision {precision!r}": precision not in ("full", "bfloat16"),
    }
    for what, is_asked in missing.items():
        if is_asked:
            raise NotImplementedError(
                f"rnn_forward: {what}: not on CUDA yet; expected a layer without, or CPU tensors"
            )


def _sequences(
    x: Tensor, offsets: Tensor | None, batch_sizes: Tensor | None, batch_first: bool
) -> tuple[Any, ...]:
    """Where events lie, as cpp/ops/cuda/rnn.h takes it; without waiting for the device."""
    if offsets is not None:
        offsets = offsets.to(x.device)
        length = offsets.diff()
        # Sessions of a block should end together.
        order = torch.argsort(length, descending=True, stable=True)
        return length.shape[0], 0, False, offsets[:-1], None, length, order
    if batch_sizes is not None:
        _core.SequenceLayout.packed("rnn", array(batch_sizes), x.shape[0])  # raises if they are not
        steps, batch = batch_sizes.shape[0], int(batch_sizes[0])
        ended = torch.searchsorted(batch_sizes.flip(0), torch.arange(batch), right=True)
        step = batch_sizes.cumsum(0) - batch_sizes
        return batch, steps, False, None, step.to(x.device), (steps - ended).to(x.device), None
    first, second = x.shape[0], x.shape[1]
    batch, steps = (first, second) if batch_first else (second, first)
    return batch, steps, batch_first, None, None, None, None


def _flat(tensor: Tensor) -> Tensor:
    """(events, width), whatever the layout of the sequence."""
    return tensor.reshape(-1, tensor.shape[-1])


def _mask(reset: Tensor | None) -> Tensor | None:
    return None if reset is None else reset.to(torch.bool).reshape(-1).view(torch.uint8)


def _scores(attention: Tensor | None) -> Tensor | None:
    return None if attention is None else attention.reshape(-1)


def _recurrent_weights(
    matrices: Tensor, full: Tensor, precision: str
) -> tuple[Tensor | None, Tensor | None]:
    """One (H, H) matrix per gate, as the loop multiplies by it: `full`, or packed."""
    return (full, None) if precision == "full" else (None, packed(matrices))


def packed(matrices: Tensor) -> Tensor:
    """
    Pack square matrices as the lanes of a warp load them, in bfloat16.

    The order is that of cpp/cuda/rnn_tensor_product.h: 16 rows, matrix, 32 columns, half of them,
    lane (row % 8, columns 8 t on), then its values: of columns 2 j + e of a half, row or row + 8.
    """
    count, size, _ = matrices.shape
    rows, columns = -size % 16, -size % 32
    padded = torch.nn.functional.pad(matrices, (0, columns, 0, rows))
    parts = padded.reshape(count, (size + rows) // 16, 2, 8, (size + columns) // 32, 4, 2, 2, 2)
    return parts.permute(1, 0, 4, 6, 3, 5, 7, 2, 8).to(torch.bfloat16).reshape(-1)


def forward(
    run: _Run,
    cell: str,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor | None,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    offsets: Tensor | None,
    batch_sizes: Tensor | None,
    reset: Tensor | None,
    batch_first: bool,
    reverse: bool,
    save: bool,
    precision: str = "full",
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    seed: Tensor | None = None,
    stream: int = 0,
    sessions: Tensor | None = None,
    attention: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Kernel of the operator ``rnn_forward``; `run` calls the compiled functions."""
    _check_supported(weight_hh, weight_hr, precision, recurrent_dropout or zoneout)
    precision = precision if x.dtype == torch.float32 else "full"
    hidden = weight_hh.shape[1]
    events = _flat(x)
    if weight_ih is None or precision != "full":
        x_gates = events if weight_ih is None else product(events, weight_ih.t(), precision)
        x_gates = x_gates if bias_ih is None else x_gates + bias_ih
    else:
        x_gates = torch.nn.functional.linear(events, weight_ih, bias_ih)
    matrices = weight_hh.reshape(-1, hidden, hidden)
    weights = _recurrent_weights(matrices, weight_hh.t(), precision)
    y, h_n = x.new_empty(*x.shape[:-1], hidden), x.new_empty(h_0.shape)
    c_n = x.new_empty(h_0.shape if cell == "lstm" else 0)
    width = _core.saved_count(cell) * hidden
    saved = x.new_empty((events.shape[0], width) if save and width else 0)
    run(
        "rnn_forward", x.dtype, x,
        cell, *_sequences(x, offsets, batch_sizes, batch_first), *weights, x_gates, bias_hh,
        h_0, c_0, _mask(reset), _scores(attention), reverse, _flat(y), h_n,
        c_n if cell == "lstm" else None, saved if saved.dim() == 2 else None,
    )  # fmt: skip
    return y, h_n, c_n, saved


def backward(
    run: _Run,
    cell: str,
    dy: Tensor,
    dh_n: Tensor,
    dc_n: Tensor | None,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor | None,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    y: Tensor,
    saved: Tensor,
    offsets: Tensor | None,
    batch_sizes: Tensor | None,
    reset: Tensor | None,
    batch_first: bool,
    reverse: bool,
    need_dx: bool,
    need_dweights: bool,
    precision: str = "full",
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    seed: Tensor | None = None,
    stream: int = 0,
    sessions: Tensor | None = None,
    attention: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Kernel of the operator ``rnn_backward``; `run` calls the compiled functions."""
    _check_supported(weight_hh, weight_hr, precision, recurrent_dropout or zoneout)
    precision = precision if x.dtype == torch.float32 else "full"
    gates, hidden = weight_hh.shape
    matrices = weight_hh.reshape(-1, hidden, hidden).transpose(1, 2)
    weights = _recurrent_weights(matrices, weight_hh, precision)
    events = _flat(x)
    n = events.shape[0]
    dgates = x.new_empty(n, gates + (hidden if cell in _RESET_AFTER else 0))
    h_before = x.new_empty(n, hidden)
    rh_before = x.new_empty(n, hidden) if cell == "gru_reset_before" else None
    dh_0 = x.new_empty(h_0.shape)
    dc_0 = x.new_empty(h_0.shape) if cell == "lstm" else None
    dattention = None if attention is None else x.new_empty(attention.shape)
    run(
        "rnn_backward", x.dtype, x,
        cell, *_sequences(x, offsets, batch_sizes, batch_first), *weights, h_0, c_0, _mask(reset),
        _scores(attention), reverse, _flat(y), saved if saved.dim() == 2 else None, _flat(dy),
        dh_n, dc_n, dgates, h_before, rh_before, dh_0, dc_0, _scores(dattention),
    )  # fmt: skip
    grads = _Products(cell, dgates, hidden, precision)
    wanted: list[Tensor | None] = [None] * 5
    dx = grads.of_input(weight_ih).reshape(x.shape) if need_dx else None
    if need_dweights:
        dbias_ih, dbias_hh = grads.of_biases()
        wanted = [
            None if weight_ih is None else grads.of_weight_ih(events),
            grads.of_weight_hh(h_before, rh_before),
            None if bias_ih is None else dbias_ih,
            None if bias_hh is None else dbias_hh,
            None,
        ]
    outputs = (dx, dh_0, dc_0, *wanted, dattention)
    return tuple(x.new_empty(0) if grad is None else grad for grad in outputs)


class _Products:
    """
    What follows from the gradients of the gates' sums, in the slots of cpp/cells/cell_kind.h.

    A reset-after GRU has the slots n of the input, r, z, n of the state, so that the sums of the
    input and those of the state are neighbours; the first are n, r, z, which a roll puts in order.
    """

    def __init__(self, cell: str, dgates: Tensor, hidden: int, precision: str) -> None:
        reset_after = cell in _RESET_AFTER
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


def kernel(function: Callable[..., Any], run: _Run) -> Callable[..., Any]:
    """Return what the dispatcher calls: products in the precision that the operator is told."""

    def call(*arguments: Any, **options: Any) -> Any:
        with torch.autocast("cuda", enabled=False):
            return function(run, *arguments, **options)

    return call


if "CUDA" in DEVICES:
    library.impl("rnn_forward", kernel(forward, run), "CUDA")
    library.impl("rnn_backward", kernel(backward, run), "CUDA")
