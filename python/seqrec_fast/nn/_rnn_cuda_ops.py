"""
The recurrent operators on CUDA.

The kernels are the loops over time. Before the loop comes one product over all events, the input
gates, after it those that give the gradients of x and of the weights: see `_rnn_products`.

float16 and bfloat16 tensors are read and written as they are; sums and states are float32 inside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from seqrec_fast import _core
from seqrec_fast._packing import RNN_PARAMETERS

from . import _devices
from ._rnn_call import RnnCall
from ._rnn_cuda_projection import Ends, ProjectionGrads, combined_weights
from ._rnn_cuda_steps import StepLoop, longest_first, takes_steps
from ._rnn_ops import library
from ._rnn_products import RESET_AFTER, ExpertProducts, GateGradients, LayerProducts
from ._tensors import array, product

_Function = TypeVar("_Function", bound=Callable[..., Any])
_HALF = {torch.bfloat16: "_bf16", torch.float16: "_f16"}


def _check_supported(call: RnnCall) -> None:
    projects = call.weight_hr is not None
    missing = {
        "weight_hr (proj_size) together with zoneout": projects and call.zoneout != 0,
        "weight_hr (proj_size) of several experts": projects and call.experts is not None,
        f"the precision {call.precision!r}": call.precision not in ("full", "bfloat16"),
    }
    for what, is_asked in missing.items():
        if is_asked:
            raise NotImplementedError(
                f"rnn_forward: {what}: not on CUDA yet; expected a layer without, or CPU tensors"
            )


def _run_loop(
    name: str,
    call: RnnCall,
    sequences: tuple[Any, ...],
    matrix: Tensor,
    precision: str,
    *arguments: Any,
) -> None:
    """Run the loop `name` with the recurrent `matrix`; then come what it takes after weights."""
    like, cell = call.x, call.cell
    dtype = None if like.dtype in _HALF else like.dtype
    name += _HALF.get(like.dtype, "")
    # what the factors of products with weight_hh are rounded to
    is_full = like.dtype in _HALF or precision == "full"
    operand = like.dtype if is_full else torch.bfloat16

    def run(*arguments: Any) -> None:
        _devices.run(name, dtype, like, *arguments)

    backward = name.startswith("rnn_backward")
    if takes_steps(matrix, operand, sequences[1]):
        loop = StepLoop(run, cell, like, sequences, matrix.to(operand), arguments)
        loop.backward() if backward else loop.forward()
    else:
        weights = _recurrent_weights(matrix, operand, backward)
        run(cell, *sequences, *weights, *arguments, None)


def _sequences(call: RnnCall) -> tuple[Any, ...]:
    """Where events lie, as cpp/ops/cuda/rnn.h takes it; without waiting for the device."""
    x, experts = call.x, call.experts or 1
    if call.offsets is not None:
        offsets = call.offsets.to(x.device)
        length = offsets.diff()
        sessions = length.shape[0]
        # Sessions of a block, all of one expert, should end together.
        order = longest_first(length, experts)
        return experts, sessions, 0, False, offsets[:-1], None, length, order
    if call.batch_sizes is not None:
        batch_sizes = call.batch_sizes
        _core.SequenceLayout.packed(call.layer, array(batch_sizes), x.shape[0])  # or raises
        steps, batch = batch_sizes.shape[0], int(batch_sizes[0])
        ended = torch.searchsorted(batch_sizes.flip(0), torch.arange(batch), right=True)
        step = batch_sizes.cumsum(0) - batch_sizes
        return 1, batch, steps, False, None, step.to(x.device), (steps - ended).to(x.device), None
    first, second = x.shape[:2]
    batch, steps = (first, second) if call.batch_first else (second, first)
    return 1, batch, steps, call.batch_first, None, None, None, None


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


def _products(call: RnnCall, precision: str) -> LayerProducts:
    """Products over all events; those of experts if weights have a leading dimension."""
    experts, offsets = call.experts, call.offsets
    if experts is None:
        return LayerProducts(precision)
    if offsets is None:
        raise ValueError("rnn_forward: offsets are missing; expected those of all experts")
    sessions = (offsets.shape[0] - 1) // experts
    # of the first session of each expert; without sessions there are no events
    expert_offsets = offsets[::sessions] if sessions else offsets.expand(experts + 1)
    return ExpertProducts(precision, expert_offsets.to(call.weight_hh.device))


def _noise(
    call: RnnCall, sequences: tuple[Any, ...], events: int
) -> tuple[float, float, Tensor | None]:
    """Noise as the loops take it: its bits are drawn, the same by forward and backward."""
    if call.seed is None or not (call.recurrent_dropout or call.zoneout):
        return 0.0, call.zoneout, None
    like, device = call.x, call.x.device
    bits = torch.empty((events, call.hidden), dtype=torch.uint8, device=device)
    seed = call.seed.to(device).reshape(1)
    sessions = None if call.sessions is None else call.sessions.to(device)
    _devices.run("rnn_noise", None, like, *sequences, call.recurrent_dropout, call.zoneout, seed,
                 call.stream, sessions, bits)  # fmt: skip
    return call.recurrent_dropout, call.zoneout, bits


def _in_told_precision(function: _Function) -> _Function:
    """Return the kernel for the dispatcher, whose products autocast does not change."""

    @functools.wraps(function)
    def kernel(*arguments: Any, **options: Any) -> Any:
        with torch.autocast("cuda", enabled=False):
            return function(*arguments, **options)

    return cast(_Function, kernel)


@_in_told_precision
def forward(*args: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Kernel of the operator ``rnn_forward``; takes the fields of an RnnCall."""
    call = RnnCall(*args, **options)
    _check_supported(call)
    x, h_0, hidden, lstm = call.x, call.h_0, call.hidden, call.cell == "lstm"
    precision = call.precision if x.dtype == torch.float32 else "full"
    events, mask = _flat(x), _mask(call.reset)
    products = _products(call, precision)
    sequences = _sequences(call)
    n, batch = events.shape[0], h_0.shape[0]
    noise = _noise(call, sequences, n)
    x_gates = products.linear(events, call.weight_ih, call.bias_ih)
    matrix, ends = call.weight_hh, None
    start: Tensor | None = h_0
    if call.weight_hr is not None:
        ends = Ends(sequences, n, call.reverse, mask, x)
        x_gates = x_gates.clone() if x_gates is events else x_gates
        ends.add_at_first(x_gates, product(h_0, call.weight_hh.t(), precision))
        matrix, start = combined_weights(call.weight_hh, call.weight_hr), None
    y, h_n = x.new_empty(n, hidden), x.new_empty(batch, hidden)
    c_n = x.new_empty((batch, hidden) if lstm else 0)
    width = _core.saved_count(call.cell) * hidden
    saved = x.new_empty((n, width) if call.save and width else 0)
    _run_loop(
        "rnn_forward", call, sequences, matrix, precision, x_gates, call.bias_hh, start, call.c_0,
        mask, _scores(call.attention), noise, call.reverse, y, h_n, c_n if lstm else None,
        saved if saved.dim() == 2 else None,
    )  # fmt: skip
    if call.weight_hr is not None and ends is not None:
        y = product(y, call.weight_hr.t(), precision)
        h_n = ends.unless_empty(product(h_n, call.weight_hr.t(), precision), h_0)
    return y.reshape(*x.shape[:-1], y.shape[1]), h_n, c_n, saved


@_in_told_precision
def backward(
    dy: Tensor,
    dh_n: Tensor,
    dc_n: Tensor | None,
    y: Tensor,
    saved: Tensor,
    need_dx: bool,
    need_dh_0: bool,
    need_dweights: bool,
    *args: Any,
    **options: Any,
) -> tuple[Tensor, ...]:
    """Kernel of the operator ``rnn_backward``; takes the fields of an RnnCall after these."""
    call = RnnCall(*args, **options)
    _check_supported(call)
    x, h_0, hidden, weight_hh = call.x, call.h_0, call.hidden, call.weight_hh
    precision = call.precision if x.dtype == torch.float32 else "full"
    gates = weight_hh.shape[-2]
    events, mask = _flat(x), _mask(call.reset)
    sequences = _sequences(call)
    n, batch = events.shape[0], h_0.shape[0]
    noise = _noise(call, sequences, n)
    outputs, doutputs, dfinal = _flat(y), _flat(dy), dh_n
    matrix = weight_hh
    start: Tensor | None = h_0
    if call.weight_hr is not None:
        values = saved.reshape(n, _core.saved_count(call.cell), hidden)
        outputs = values[:, 3] * values[:, 4].tanh()  # before the projection
        doutputs, dfinal = (product(d, call.weight_hr, precision) for d in (doutputs, dh_n))
        matrix, start = combined_weights(weight_hh, call.weight_hr), None
    dgates = x.new_empty(n, gates + (hidden if call.cell in RESET_AFTER else 0))
    h_before = x.new_empty(n, hidden)
    rh_before = x.new_empty(n, hidden) if call.cell == "gru_reset_before" else None
    dh_0 = x.new_empty(batch, hidden)
    dc_0 = x.new_empty(batch, hidden) if call.cell == "lstm" else None
    dattention = None if call.attention is None else x.new_empty(call.attention.shape)
    _run_loop(
        "rnn_backward", call, sequences, matrix, precision, start, call.c_0, mask,
        _scores(call.attention), noise, call.reverse, outputs, saved if saved.dim() == 2 else None,
        doutputs, dfinal, dc_n, dgates, h_before, rh_before, dh_0, dc_0, _scores(dattention),
    )  # fmt: skip
    grads = GateGradients(call.cell, dgates, hidden, _products(call, precision))
    wanted: dict[str, Tensor | None] = dict.fromkeys(RNN_PARAMETERS)
    dx = grads.of_input(call.weight_ih).reshape(x.shape) if need_dx else None
    if need_dweights:
        dbias_ih, dbias_hh = grads.of_biases()
        wanted["weight_ih"] = None if call.weight_ih is None else grads.of_weight_ih(events)
        wanted["weight_hh"] = grads.of_weight_hh(h_before, rh_before)
        wanted["bias_ih"] = None if call.bias_ih is None else dbias_ih
        wanted["bias_hh"] = None if call.bias_hh is None else dbias_hh
    if call.weight_hr is not None:
        ends = Ends(sequences, n, call.reverse, mask, x)
        inner = ProjectionGrads(
            ends, weight_hh, call.weight_hr, dgates, wanted["weight_hh"], precision
        )
        dh_0 = inner.of_h_0(dh_n)
        if need_dweights:
            wanted["weight_hh"] = inner.of_weight_hh(h_0)
            wanted["weight_hr"] = inner.of_weight_hr(_flat(dy), dh_n, outputs)
    results = (dx, dh_0 if need_dh_0 else None, dc_0, *wanted.values(), dattention)
    return tuple(x.new_empty(0) if grad is None else grad for grad in results)


if "CUDA" in _devices.DEVICES:
    library.impl("rnn_forward", forward, "CUDA")
    library.impl("rnn_backward", backward, "CUDA")
