"""
The recurrent operators: their schemas, kernels on the CPU and fake kernels.

Operators are functional and have a fixed number of outputs; a tensor that a cell does not have
(c_n of a GRU, say) is an empty one. Gradients are in `_rnn_autograd`, kernels of CUDA in
`_rnn_cuda_ops`.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from torch import Tensor

from seqrec_fast import _core
from seqrec_fast._packing import RNN_PARAMETERS

from ._rnn_call import DIFFERENTIABLE, SCHEMA, RnnCall
from ._tensors import argument

_Tensor = TypeVar("_Tensor", Tensor, None, Tensor | None)

_PACKED = {torch.float32: _core.PackedRnnF32, torch.float64: _core.PackedRnnF64}
_BACKWARD: dict[torch.dtype, Any] = {
    torch.float32: _core.rnn_backward_f32,
    torch.float64: _core.rnn_backward_f64,
}
_EXPERTS_FORWARD: dict[torch.dtype, Any] = {
    torch.float32: _core.rnn_experts_forward_f32,
    torch.float64: _core.rnn_experts_forward_f64,
}
_EXPERTS_BACKWARD: dict[torch.dtype, Any] = {
    torch.float32: _core.rnn_experts_backward_f32,
    torch.float64: _core.rnn_experts_backward_f64,
}
_SAVED = {cell: _core.saved_count(cell) for cell in _core.CELLS}

_GRADIENTS = (
    "Tensor dx, Tensor dh_0, Tensor dc_0, Tensor dweight_ih, Tensor dweight_hh, Tensor dbias_ih,"
    " Tensor dbias_hh, Tensor dweight_hr, Tensor dattention"
)

library: Any = torch.library.Library("seqrec_fast", "DEF")  # type: ignore[no-untyped-call]
library.define(f"rnn_forward({SCHEMA}) -> (Tensor y, Tensor h_n, Tensor c_n, Tensor saved)")
library.define(
    "rnn_backward(Tensor dy, Tensor dh_n, Tensor? dc_n, Tensor y, Tensor saved, bool need_dx,"
    f" bool need_dh_0, bool need_dweights, {SCHEMA}) -> ({_GRADIENTS})"
)


def _mask(reset: Tensor | None) -> Tensor | None:
    return None if reset is None else argument(reset.to(torch.bool).reshape(-1))


def _scores(attention: Tensor | None) -> Tensor | None:
    return None if attention is None else argument(attention.reshape(-1))


def _working_dtype(call: RnnCall) -> torch.dtype:
    """Dtype of the arithmetic: small layers take float64 on the CPU, see _core.FLOAT64_UNITS."""
    small = call.hidden <= _core.FLOAT64_UNITS and not call.x.is_cuda
    return torch.float64 if small else call.x.dtype


def _cast(dtype: torch.dtype, tensor: _Tensor) -> _Tensor:
    return tensor if tensor is None or tensor.dtype == dtype else tensor.detach().to(dtype)


def _cast_call(dtype: torch.dtype, call: RnnCall) -> RnnCall:
    if call.x.dtype == dtype:
        return call
    return call._replace(**{name: _cast(dtype, getattr(call, name)) for name in DIFFERENTIABLE})


def _noise(call: RnnCall) -> _core.RnnNoise | None:
    if not call.recurrent_dropout and not call.zoneout:
        return None
    return _core.RnnNoise(
        call.recurrent_dropout, call.zoneout, None if call.seed is None else int(call.seed),
        call.stream, argument(call.sessions),
    )  # fmt: skip


def _precision(call: RnnCall, working: torch.dtype) -> str:
    return call.precision if working == torch.float32 else "full"


def _layout(call: RnnCall) -> _core.SequenceLayout:
    first, second = call.x.shape[:2]
    if call.offsets is not None:
        return _core.SequenceLayout.ragged(call.layer, argument(call.offsets), first)
    if call.batch_sizes is not None:
        return _core.SequenceLayout.packed(call.layer, argument(call.batch_sizes), first)
    if call.batch_first:
        return _core.SequenceLayout.padded(second, first, True)
    return _core.SequenceLayout.padded(first, second, False)


def _sizes(call: RnnCall) -> tuple[tuple[int, ...], ...]:
    """Shapes of y, h_n, c_n and saved."""
    shape, state, hidden = call.x.shape, call.h_0.shape, call.hidden
    saved: tuple[int, ...] = (0,)
    if call.save and _SAVED[call.cell]:
        # Of a packed vector; kernels of CUDA have none.
        lanes = 1 if call.x.is_cuda else 64 // _working_dtype(call).itemsize
        width = _SAVED[call.cell] * ((hidden + lanes - 1) // lanes * lanes)
        saved = (math.prod(shape[:-1]), width)
    c_n = (state[0], hidden) if call.cell == "lstm" else (0,)
    return (*shape[:-1], call.weight_hh.shape[-1]), state, c_n, saved


def rnn_forward_cpu(*args: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Kernel of the operator; takes the fields of an RnnCall."""
    return forward(RnnCall(*args, **options))


def forward(call: RnnCall) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run a call on the CPU, outside the dispatcher and autograd."""
    dtype, working = call.x.dtype, _working_dtype(call)
    call = _cast_call(working, call)
    x, is_lstm = call.x, call.cell == "lstm"
    weights = [argument(weight) for weight in call.weights]
    precision, noise = _precision(call, working), _noise(call)
    y, h_n, c_n, saved = (x.new_empty(*size) for size in _sizes(call))
    gates = saved if saved.dim() == 2 else None
    if call.experts is not None:
        if call.offsets is not None:
            _layout(call)  # names the layer if they are no partition
        _EXPERTS_FORWARD[working](
            call.cell, call.experts, call.reverse, precision, noise, working != dtype,
            **dict(zip(RNN_PARAMETERS, weights, strict=True)),
            offsets=argument(call.offsets),
            x=argument(x), h_0=argument(call.h_0), c_0=argument(call.c_0),
            reset=_mask(call.reset), attention=_scores(call.attention),
            y=y, h_n=h_n, c_n=c_n if is_lstm else None, saved=gates,
        )  # fmt: skip
    else:
        packed = _PACKED[working](
            call.cell, *weights, float32_states=working != dtype, precision=precision
        )
        packed.forward(
            _layout(call),
            argument(x),
            argument(call.h_0),
            argument(call.c_0),
            _mask(call.reset),
            call.reverse,
            y,
            h_n,
            c_n if is_lstm else None,
            gates,
            noise=noise,
            attention=_scores(call.attention),
        )
    return _cast(dtype, y), _cast(dtype, h_n), _cast(dtype, c_n), saved


def _rnn_forward_fake(*args: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    call = RnnCall(*args, **options)
    *states, saved = _sizes(call)
    y, h_n, c_n = (call.x.new_empty(*size) for size in states)
    return y, h_n, c_n, call.x.new_empty(saved, dtype=_working_dtype(call))


def rnn_backward_cpu(
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
    """Kernel of the operator: gradients of a call's DIFFERENTIABLE fields, empty if not needed."""
    call = RnnCall(*args, **options)
    dtype, working = call.x.dtype, _working_dtype(call)
    call = _cast_call(working, call)
    dy, dh_n, dc_n, y = (argument(_cast(working, t)) for t in (dy, dh_n, dc_n, y))  # type: ignore[assignment]
    x, h_0, is_lstm = call.x, call.h_0, call.cell == "lstm"
    dweights = [
        x.new_empty(weight.shape) if need_dweights and weight is not None else None
        for weight in call.weights
    ]
    dx = x.new_empty(x.shape) if need_dx else None
    dh_0 = x.new_empty(h_0.shape) if need_dh_0 else None
    dc_0 = x.new_empty(h_0.shape[0], call.hidden) if is_lstm else None
    dattention = None if call.attention is None else x.new_empty(call.attention.shape)
    precision, noise = _precision(call, working), _noise(call)
    weights = [argument(weight) for weight in call.weights]
    gates = saved if saved.dim() == 2 else None  # some cells need none
    dscores = None if dattention is None else dattention.reshape(-1)
    if call.experts is not None:
        _EXPERTS_BACKWARD[working](
            call.cell, call.experts, call.reverse, precision, noise,
            **dict(zip(RNN_PARAMETERS, weights, strict=True)),
            **{f"d{name}": grad for name, grad in zip(RNN_PARAMETERS, dweights, strict=True)},
            offsets=argument(call.offsets),
            x=argument(x), h_0=argument(h_0), c_0=argument(call.c_0), reset=_mask(call.reset),
            attention=_scores(call.attention),
            y=y, saved=gates, dy=dy, dh_n=dh_n, dc_n=dc_n,
            dx=dx, dh_0=dh_0, dc_0=dc_0, dattention=dscores,
        )  # fmt: skip
    else:
        weight_ih, weight_hh, _, _, weight_hr = weights
        _BACKWARD[working](
            call.cell,
            weight_ih,
            weight_hh,
            weight_hr,
            _layout(call),
            argument(x),
            argument(h_0),
            argument(call.c_0),
            _mask(call.reset),
            call.reverse,
            y,
            gates,
            dy,
            dh_n,
            dc_n,
            dx,
            dh_0,
            dc_0,
            *dweights,
            precision=precision,
            noise=noise,
            attention=_scores(call.attention),
            dattention=dscores,
        )
    none = x.new_empty(0, dtype=dtype)
    grads = (dx, dh_0, dc_0, *dweights, dattention)
    return tuple(none if grad is None else _cast(dtype, grad) for grad in grads)


def _rnn_backward_fake(
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
    call = RnnCall(*args, **options)
    x, h_0 = call.x, call.h_0

    def like(tensor: Tensor | None, needed: bool) -> Tensor:
        return x.new_empty(0) if tensor is None or not needed else x.new_empty(tensor.shape)

    return (
        like(x, need_dx),
        like(h_0, need_dh_0),
        x.new_empty([h_0.shape[0], call.hidden] if call.cell == "lstm" else [0]),
        *(like(weight, need_dweights) for weight in call.weights),
        like(call.attention, True),
    )


library.impl("rnn_forward", rnn_forward_cpu, "CPU")
library.impl("rnn_backward", rnn_backward_cpu, "CPU")
torch.library.register_fake("seqrec_fast::rnn_forward", _rnn_forward_fake, lib=library)
torch.library.register_fake("seqrec_fast::rnn_backward", _rnn_backward_fake, lib=library)
