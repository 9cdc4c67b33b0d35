"""
The recurrent operators on CUDA.

The kernels are the loops over time. Before the loop comes one product over all events, the input
gates, after it those that give the gradients of x and of the weights: see `_rnn_products`.

float16 and bfloat16 tensors are read and written as they are; sums and states are float32 inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqrec_fast import _core

from ._devices import DEVICES, run
from ._ops import library
from ._rnn_cuda_projection import Ends, ProjectionGrads, combined_weights
from ._rnn_cuda_steps import StepLoop, longest_first, takes_steps
from ._rnn_products import RESET_AFTER, ExpertProducts, GateGradients, LayerProducts
from ._tensors import array, product

_Run = Callable[..., None]  # as _devices.run; tests give one for emulated threads
_HALF = {torch.bfloat16: "_bf16", torch.float16: "_f16"}


def _check_supported(
    weight_hh: Tensor, weight_hr: Tensor | None, precision: str, zoneout: float
) -> None:
    missing = {
        "weight_hr (proj_size) together with zoneout": weight_hr is not None and zoneout != 0,
        "weight_hr (proj_size) of several experts": weight_hr is not None and weight_hh.dim() != 2,
        f"the precision {precision!r}": precision not in ("full", "bfloat16"),
    }
    for what, is_asked in missing.items():
        if is_asked:
            raise NotImplementedError(
                f"rnn_forward: {what}: not on CUDA yet; expected a layer without, or CPU tensors"
            )


def _run_loop(
    run: _Run,
    name: str,
    like: Tensor,
    cell: str,
    sequences: tuple[Any, ...],
    weight_hh: Tensor,
    precision: str,
    *arguments: Any,
) -> None:
    """Run the loop `name` for the dtype of `like`; `arguments` are what it takes after weights."""
    dtype = None if like.dtype in _HALF else like.dtype
    name += _HALF.get(like.dtype, "")
    # what the factors of products with weight_hh are rounded to
    is_full = like.dtype in _HALF or precision == "full"
    operand = like.dtype if is_full else torch.bfloat16

    def call(*arguments: Any) -> None:
        run(name, dtype, like, *arguments)

    backward = name.startswith("rnn_backward")
    if takes_steps(weight_hh, operand, sequences[1]):
        loop = StepLoop(call, cell, like, sequences, weight_hh.to(operand), arguments)
        loop.backward() if backward else loop.forward()
    else:
        weights = _recurrent_weights(weight_hh, operand, backward)
        call(cell, *sequences, *weights, *arguments, None)


def _sequences(
    x: Tensor,
    offsets: Tensor | None,
    batch_sizes: Tensor | None,
    batch_first: bool,
    experts: int = 1,
) -> tuple[Any, ...]:
    """Where events lie, as cpp/ops/cuda/rnn.h takes it; without waiting for the device."""
    if offsets is not None:
        offsets = offsets.to(x.device)
        length = offsets.diff()
        sessions = length.shape[0]
        # Sessions of a block, all of one expert, should end together.
        order = longest_first(length, experts)
        return experts, sessions, 0, False, offsets[:-1], None, length, order
    if batch_sizes is not None:
        _core.SequenceLayout.packed("rnn", array(batch_sizes), x.shape[0])  # raises if they are not
        steps, batch = batch_sizes.shape[0], int(batch_sizes[0])
        ended = torch.searchsorted(batch_sizes.flip(0), torch.arange(batch), right=True)
        step = batch_sizes.cumsum(0) - batch_sizes
        return 1, batch, steps, False, None, step.to(x.device), (steps - ended).to(x.device), None
    first, second = x.shape[0], x.shape[1]
    batch, steps = (first, second) if batch_first else (second, first)
    return 1, batch, steps, batch_first, None, None, None, None


def _flat(tensor: Tensor) -> Tensor:
    """(events, width), whatever the layout of the sequence."""
    return tensor.reshape(-1, tensor.shape[-1])


def _mask(reset: Tensor | None) -> Tensor | None:
    return None if reset is None else reset.to(torch.bool).reshape(-1).view(torch.uint8)


def _scores(attention: Tensor | None) -> Tensor | None:
    return None if attention is None else attention.reshape(-1)


def _recurrent_weights(
    weight_hh: Tensor, operand: torch.dtype, transposed: bool
) -> tuple[Tensor | None, Tensor | None]:
    """(..., G * H, H) as the loop multiplies by it: full, or one matrix per gate packed."""
    if operand not in _HALF:
        return _flat(weight_hh if transposed else weight_hh.transpose(-2, -1)), None
    hidden = weight_hh.shape[-1]
    matrices = weight_hh.reshape(-1, weight_hh.shape[-2] // hidden, hidden, hidden)
    matrices = matrices.transpose(-2, -1) if transposed else matrices
    return None, packed(matrices, operand)


def packed(matrices: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """
    Pack square matrices, (..., gates, H, H), as the lanes of a warp load them, in a 16-bit dtype.

    The order is that of cpp/cuda/rnn_tensor_product.h: 16 rows, matrix, 32 columns, half of them,
    lane (row % 8, columns 8 t on), then its values: of columns 2 j + e of a half, row or row + 8.
    """
    count, size, _ = matrices.shape[-3:]
    rows, columns = -size % 16, -size % 32
    padded = torch.nn.functional.pad(matrices, (0, columns, 0, rows))
    parts = padded.reshape(-1, count, (size + rows) // 16, 2, 8, (size + columns) // 32, 4, 2, 2, 2)
    return parts.permute(0, 2, 1, 5, 7, 4, 6, 8, 3, 9).to(dtype).reshape(-1)


def _products(
    run: _Run, weight_hh: Tensor, offsets: Tensor | None, precision: str
) -> LayerProducts:
    """Products over all events; those of experts if weights have a leading dimension."""
    if weight_hh.dim() == 2:
        return LayerProducts(precision)
    if offsets is None:
        raise ValueError("rnn_forward: offsets are missing; expected those of all experts")
    experts = weight_hh.shape[0]
    sessions = (offsets.shape[0] - 1) // experts
    # of the first session of each expert; without sessions there are no events
    expert_offsets = offsets[::sessions] if sessions else offsets.expand(experts + 1)
    return ExpertProducts(run, precision, expert_offsets.to(weight_hh.device))


def _noise(
    run: _Run,
    like: Tensor,
    sequences: tuple[Any, ...],
    shape: tuple[int, int],
    recurrent_dropout: float,
    zoneout: float,
    seed: Tensor | None,
    stream: int,
    sessions: Tensor | None,
) -> tuple[float, float, Tensor | None]:
    """Noise as the loops take it: its bits are drawn, the same by forward and backward."""
    if seed is None or not (recurrent_dropout or zoneout):
        return 0.0, zoneout, None
    bits = torch.empty(shape, dtype=torch.uint8, device=like.device)
    seed = seed.to(like.device).reshape(1)
    sessions = None if sessions is None else sessions.to(like.device)
    run("rnn_noise", None, like, *sequences, recurrent_dropout, zoneout, seed, stream, sessions,
        bits)  # fmt: skip
    return recurrent_dropout, zoneout, bits


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
    _check_supported(weight_hh, weight_hr, precision, zoneout)
    precision = precision if x.dtype == torch.float32 else "full"
    hidden = weight_hh.shape[-2] // _core.gate_count(cell)
    experts = weight_hh.shape[0] if weight_hh.dim() == 3 else 1
    events, mask = _flat(x), _mask(reset)
    products = _products(run, weight_hh, offsets, precision)
    sequences = _sequences(x, offsets, batch_sizes, batch_first, experts)
    n, batch = events.shape[0], h_0.shape[0]
    noise = _noise(run, x, sequences, (n, hidden), recurrent_dropout, zoneout, seed, stream,
                   sessions)  # fmt: skip
    x_gates = products.linear(events, weight_ih, bias_ih)
    matrix, ends = weight_hh, None
    start: Tensor | None = h_0
    if weight_hr is not None:
        ends = Ends(sequences, n, reverse, mask, x)
        x_gates = x_gates.clone() if x_gates is events else x_gates
        ends.add_at_first(x_gates, product(h_0, weight_hh.t(), precision))
        matrix, start = combined_weights(weight_hh, weight_hr), None
    y, h_n = x.new_empty(n, hidden), x.new_empty(batch, hidden)
    c_n = x.new_empty((batch, hidden) if cell == "lstm" else 0)
    width = _core.saved_count(cell) * hidden
    saved = x.new_empty((n, width) if save and width else 0)
    _run_loop(
        run, "rnn_forward", x, cell, sequences, matrix, precision, x_gates, bias_hh, start, c_0,
        mask, _scores(attention), noise, reverse, y, h_n, c_n if cell == "lstm" else None,
        saved if saved.dim() == 2 else None,
    )  # fmt: skip
    if weight_hr is not None and ends is not None:
        y = product(y, weight_hr.t(), precision)
        h_n = ends.unless_empty(product(h_n, weight_hr.t(), precision), h_0)
    return y.reshape(*x.shape[:-1], y.shape[1]), h_n, c_n, saved


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
    _check_supported(weight_hh, weight_hr, precision, zoneout)
    precision = precision if x.dtype == torch.float32 else "full"
    gates, hidden = weight_hh.shape[-2], weight_hh.shape[-2] // _core.gate_count(cell)
    experts = weight_hh.shape[0] if weight_hh.dim() == 3 else 1
    events, mask = _flat(x), _mask(reset)
    sequences = _sequences(x, offsets, batch_sizes, batch_first, experts)
    n, batch = events.shape[0], h_0.shape[0]
    noise = _noise(run, x, sequences, (n, hidden), recurrent_dropout, zoneout, seed, stream,
                   sessions)  # fmt: skip
    outputs, doutputs, dfinal = _flat(y), _flat(dy), dh_n
    matrix = weight_hh
    start: Tensor | None = h_0
    if weight_hr is not None:
        values = saved.reshape(n, _core.saved_count(cell), hidden)
        outputs = values[:, 3] * values[:, 4].tanh()  # before the projection
        doutputs, dfinal = (product(d, weight_hr, precision) for d in (doutputs, dh_n))
        matrix, start = combined_weights(weight_hh, weight_hr), None
    dgates = x.new_empty(n, gates + (hidden if cell in RESET_AFTER else 0))
    h_before = x.new_empty(n, hidden)
    rh_before = x.new_empty(n, hidden) if cell == "gru_reset_before" else None
    dh_0 = x.new_empty(batch, hidden)
    dc_0 = x.new_empty(batch, hidden) if cell == "lstm" else None
    dattention = None if attention is None else x.new_empty(attention.shape)
    _run_loop(
        run, "rnn_backward", x, cell, sequences, matrix, precision, start, c_0, mask,
        _scores(attention), noise, reverse, outputs, saved if saved.dim() == 2 else None,
        doutputs, dfinal, dc_n, dgates, h_before, rh_before, dh_0, dc_0, _scores(dattention),
    )  # fmt: skip
    products = _products(run, weight_hh, offsets, precision)
    grads = GateGradients(cell, dgates, hidden, products)
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
    if weight_hr is not None:
        ends = Ends(sequences, n, reverse, mask, x)
        inner = ProjectionGrads(ends, weight_hh, weight_hr, dgates, wanted[1], precision)
        dh_0 = inner.of_h_0(dh_n)
        if need_dweights:
            wanted[1], wanted[4] = (
                inner.of_weight_hh(h_0),
                inner.of_weight_hr(_flat(dy), dh_n, outputs),
            )
    results = (dx, dh_0, dc_0, *wanted, dattention)
    return tuple(x.new_empty(0) if grad is None else grad for grad in results)


def kernel(function: Callable[..., Any], run: _Run) -> Callable[..., Any]:
    """Return what the dispatcher calls: products in the precision that the operator is told."""

    def call(*arguments: Any, **options: Any) -> Any:
        with torch.autocast("cuda", enabled=False):
            return function(run, *arguments, **options)

    return call


if "CUDA" in DEVICES:
    library.impl("rnn_forward", kernel(forward, run), "CUDA")
    library.impl("rnn_backward", kernel(backward, run), "CUDA")
