"""
The torch.library glue: every compiled op as a PyTorch operator with its fake kernel.

Operators are functional and have a fixed number of outputs; a tensor that a cell does not have
(c_n of a GRU, say) is an empty one. Gradients are in `_rnn_autograd`.

Weights of the recurrent operators with a leading dimension, that of experts, make one layer per
expert: expert m of M then runs the sessions m * B to (m + 1) * B - 1 of `offsets`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from seqrec_fast import _core

from ._tensors import array

_Tensor = TypeVar("_Tensor", Tensor, None, Tensor | None)

_GATES = {cell: _core.gate_count(cell) for cell in _core.CELLS}
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
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
_SAVED = {cell: _core.saved_count(cell) for cell in _core.CELLS}

# Noise as in cpp/cpu/rnn_noise.h; without a seed zoneout acts by its expectation.
_OPTIONS = (
    " str precision='full', float recurrent_dropout=0.0, float zoneout=0.0, Tensor? seed=None,"
    " int stream=0, Tensor? sessions=None, Tensor? attention=None"
)

library: Any = torch.library.Library("seqrec_fast", "DEF")  # type: ignore[no-untyped-call]
library.define(
    "rnn_forward(str cell, Tensor x, Tensor h_0, Tensor? c_0, Tensor? weight_ih,"
    " Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, Tensor? weight_hr, Tensor? offsets,"
    " Tensor? batch_sizes, Tensor? reset, bool batch_first, bool reverse, bool save,"
    + _OPTIONS
    + ")"
    " -> (Tensor y, Tensor h_n, Tensor c_n, Tensor saved)"
)
library.define(
    "rnn_backward(str cell, Tensor dy, Tensor dh_n, Tensor? dc_n, Tensor x, Tensor h_0,"
    " Tensor? c_0, Tensor? weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh,"
    " Tensor? weight_hr, Tensor y, Tensor saved, Tensor? offsets, Tensor? batch_sizes,"
    " Tensor? reset, bool batch_first, bool reverse, bool need_dx, bool need_dweights,"
    + _OPTIONS
    + ")"
    " -> (Tensor dx, Tensor dh_0, Tensor dc_0, Tensor dweight_ih, Tensor dweight_hh,"
    " Tensor dbias_ih, Tensor dbias_hh, Tensor dweight_hr, Tensor dattention)"
)


def _flat(tensor: Tensor | None) -> np.ndarray[Any, Any] | None:
    """(events, width), whatever the layout of the sequence."""
    if tensor is None:
        return None
    values = array(tensor)
    return values.reshape(-1, values.shape[-1])  # type: ignore[no-any-return]


def _mask(reset: Tensor | None) -> np.ndarray[Any, Any] | None:
    if reset is None:
        return None
    return reset.detach().to(torch.bool).contiguous().numpy().reshape(-1).view(np.uint8)


def _scores(attention: Tensor | None, dtype: torch.dtype) -> np.ndarray[Any, Any] | None:
    return None if attention is None else array(_cast(dtype, attention)).reshape(-1)


def _working_dtype(x: Tensor, hidden: int) -> torch.dtype:
    """Dtype of the arithmetic: small layers take float64 on the CPU, see _core.FLOAT64_UNITS."""
    return torch.float64 if hidden <= _core.FLOAT64_UNITS and not x.is_cuda else x.dtype


def _cast(dtype: torch.dtype, tensor: _Tensor) -> _Tensor:
    return tensor if tensor is None or tensor.dtype == dtype else tensor.detach().to(dtype)


def _noise(
    recurrent_dropout: float,
    zoneout: float,
    seed: Tensor | None,
    stream: int,
    sessions: Tensor | None,
) -> _core.RnnNoise | None:
    if not recurrent_dropout and not zoneout:
        return None
    return _core.RnnNoise(
        recurrent_dropout, zoneout, None if seed is None else int(seed), stream, array(sessions)
    )


def _layout(
    x: Tensor, offsets: Tensor | None, batch_sizes: Tensor | None, batch_first: bool
) -> _core.SequenceLayout:
    if offsets is not None:
        return _core.SequenceLayout.ragged("rnn", array(offsets), x.shape[0])
    if batch_sizes is not None:
        return _core.SequenceLayout.packed("rnn", array(batch_sizes), x.shape[0])
    first, second = x.shape[0], x.shape[1]
    if batch_first:
        return _core.SequenceLayout.padded(second, first, True)
    return _core.SequenceLayout.padded(first, second, False)


def _sizes(
    cell: str, x: Tensor, h_0: Tensor, weight_hh: Tensor, save: bool
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Shapes of y, h_n, c_n and saved."""
    state, hidden = weight_hh.shape[-1], weight_hh.shape[-2] // _GATES[cell]
    # Of a packed vector; kernels of CUDA have none.
    lanes = 1 if x.is_cuda else 64 // _working_dtype(x, hidden).itemsize
    width = _SAVED[cell] * ((hidden + lanes - 1) // lanes * lanes) if save else 0
    events = x.shape[0] if x.dim() == 2 else x.shape[0] * x.shape[1]
    return (
        [*x.shape[:-1], state],
        list(h_0.shape),
        [h_0.shape[0], hidden] if cell == "lstm" else [0],
        [events, width] if width else [0],
    )


def rnn_forward_cpu(
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
    """Kernel of the operator; see its schema and cpp/ops/rnn.h for the shapes."""
    sizes = _sizes(cell, x, h_0, weight_hh, save)
    dtype = x.dtype
    working = _working_dtype(x, weight_hh.shape[-2] // _GATES[cell])
    x, h_0 = _cast(working, x), _cast(working, h_0)
    weights = [_flat(w if w is None else _cast(working, w))
               for w in (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)]  # fmt: skip
    precision = precision if working == torch.float32 else "full"
    noise = _noise(recurrent_dropout, zoneout, seed, stream, sessions)
    y, h_n, c_n, saved = (x.new_empty(size) for size in sizes)
    if weight_hh.dim() == 3:
        _EXPERTS_FORWARD[working](
            cell, weight_hh.shape[0], reverse, precision, noise, working != dtype,
            **dict(zip(_WEIGHTS, weights, strict=True)),
            offsets=array(offsets),
            x=_flat(x), h_0=array(h_0), c_0=array(_cast(working, c_0)), reset=_mask(reset),
            attention=_scores(attention, working),
            y=_flat(y), h_n=h_n.numpy(), c_n=c_n.numpy() if cell == "lstm" else None,
            saved=saved.numpy() if saved.dim() == 2 else None,
        )  # fmt: skip
        return _cast(dtype, y), _cast(dtype, h_n), _cast(dtype, c_n), saved
    packed = _PACKED[working](cell, *weights, float32_states=working != dtype, precision=precision)
    packed.forward(
        _layout(x, offsets, batch_sizes, batch_first),
        _flat(x),
        array(h_0),
        array(_cast(working, c_0)),
        _mask(reset),
        reverse,
        _flat(y),
        h_n.numpy(),
        c_n.numpy() if cell == "lstm" else None,
        saved.numpy() if saved.dim() == 2 else None,
        noise=noise,
        attention=_scores(attention, working),
    )
    return _cast(dtype, y), _cast(dtype, h_n), _cast(dtype, c_n), saved


def _rnn_forward_fake(
    cell: str, x: Tensor, h_0: Tensor, c_0: Tensor | None, *rest: Any, **options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight_hh, save = rest[1], rest[10]
    *states, saved = _sizes(cell, x, h_0, weight_hh, save)
    working = _working_dtype(x, weight_hh.shape[-2] // _GATES[cell])
    y, h_n, c_n = (x.new_empty(size) for size in states)
    return y, h_n, c_n, x.new_empty(saved, dtype=working)


def rnn_backward_cpu(
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
    """Kernel of the operator; see its schema and cpp/ops/rnn.h for the shapes."""
    hidden = weight_hh.shape[-2] // _GATES[cell]
    dtype, working = x.dtype, _working_dtype(x, hidden)
    dy, dh_n, dc_n, x = (_cast(working, t) for t in (dy, dh_n, dc_n, x))  # type: ignore[assignment]
    h_0, c_0, y = (_cast(working, t) for t in (h_0, c_0, y))  # type: ignore[assignment]
    none = x.new_empty(0)

    def like(tensor: Tensor | None) -> Tensor:
        wanted = need_dweights and tensor is not None
        return x.new_empty(tensor.shape) if wanted else none  # type: ignore[union-attr]

    dx = x.new_empty(x.shape) if need_dx else none
    dh_0 = x.new_empty(h_0.shape)
    dc_0 = x.new_empty(h_0.shape[0], hidden) if cell == "lstm" else none
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)
    dweights = [like(w) for w in weights]
    dattention = none if attention is None else x.new_empty(attention.shape)
    grads = (dx, dh_0, dc_0, *dweights, dattention)
    dscores = None if attention is None else dattention.numpy().reshape(-1)
    precision = precision if working == torch.float32 else "full"
    noise = _noise(recurrent_dropout, zoneout, seed, stream, sessions)
    flat_weights = [_flat(w if w is None else _cast(working, w)) for w in weights]
    flat_grads = [None if grad is none else _flat(grad) for grad in dweights]
    if weight_hh.dim() == 3:
        _EXPERTS_BACKWARD[working](
            cell, weight_hh.shape[0], reverse, precision, noise,
            **dict(zip(_WEIGHTS, flat_weights, strict=True)),
            **dict(zip((f"d{name}" for name in _WEIGHTS), flat_grads, strict=True)),
            offsets=array(offsets),
            x=_flat(x), h_0=array(h_0), c_0=array(c_0), reset=_mask(reset),
            attention=_scores(attention, working),
            y=_flat(y), saved=saved.numpy() if saved.dim() == 2 else None,
            dy=_flat(dy), dh_n=array(dh_n), dc_n=array(dc_n),
            dx=_flat(dx) if need_dx else None, dh_0=dh_0.numpy(),
            dc_0=dc_0.numpy() if cell == "lstm" else None, dattention=dscores,
        )  # fmt: skip
        return tuple(_cast(dtype, grad) for grad in grads)
    _BACKWARD[working](
        cell,
        flat_weights[0],
        flat_weights[1],
        flat_weights[4],
        _layout(x, offsets, batch_sizes, batch_first),
        _flat(x),
        array(h_0),
        array(c_0),
        _mask(reset),
        reverse,
        _flat(y),
        saved.numpy() if saved.dim() == 2 else None,
        _flat(dy),
        array(dh_n),
        array(dc_n),
        _flat(dx) if need_dx else None,
        dh_0.numpy(),
        dc_0.numpy() if cell == "lstm" else None,
        *flat_grads,
        precision=precision,
        noise=noise,
        attention=_scores(attention, working),
        dattention=dscores,
    )
    return tuple(_cast(dtype, grad) for grad in grads)


def _rnn_backward_fake(
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
    *rest: Any,
    **options: Any,
) -> tuple[Tensor, ...]:
    need_dx, need_dweights = rest[7:9]
    attention = rest[15] if len(rest) > 15 else options.get("attention")
    none = x.new_empty(0)

    def like(tensor: Tensor | None) -> Tensor:
        return none.clone() if tensor is None or not need_dweights else torch.empty_like(tensor)

    hidden = weight_hh.shape[-2] // _GATES[cell]
    return (
        x.new_empty(x.shape) if need_dx else none,
        x.new_empty(h_0.shape),
        x.new_empty([h_0.shape[0], hidden] if cell == "lstm" else [0]),
        *(like(w) for w in (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)),
        none.clone() if attention is None else x.new_empty(attention.shape),
    )


library.impl("rnn_forward", rnn_forward_cpu, "CPU")
library.impl("rnn_backward", rnn_backward_cpu, "CPU")
torch.library.register_fake("seqrec_fast::rnn_forward", _rnn_forward_fake, lib=library)
torch.library.register_fake("seqrec_fast::rnn_backward", _rnn_backward_fake, lib=library)
