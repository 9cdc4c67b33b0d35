"""
The torch.library glue: every compiled op as a PyTorch operator with its fake kernel.

Operators are functional and have a fixed number of outputs; a tensor that a cell does not have
(c_n of a GRU, say) is an empty one. Gradients are in `_rnn_autograd`.
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
_BACKWARD = {torch.float32: _core.rnn_backward_f32, torch.float64: _core.rnn_backward_f64}
_SAVED = {cell: _core.saved_count(cell) for cell in _core.CELLS}

# Noise as in cpp/cpu/rnn_noise.h; without a seed zoneout acts by its expectation.
_OPTIONS = (
    " str precision='full', float recurrent_dropout=0.0, float zoneout=0.0, Tensor? seed=None,"
    " int stream=0, Tensor? sessions=None"
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
    " Tensor dbias_ih, Tensor dbias_hh, Tensor dweight_hr)"
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


def _working_dtype(x: Tensor, hidden: int) -> torch.dtype:
    """Dtype of the arithmetic: small layers take float64, see _core.FLOAT64_UNITS."""
    return torch.float64 if hidden <= _core.FLOAT64_UNITS else x.dtype


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
    state, hidden = weight_hh.shape[1], weight_hh.shape[0] // _GATES[cell]
    lanes = 64 // _working_dtype(x, hidden).itemsize  # of a packed vector
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Kernel of the operator; see its schema and cpp/ops/rnn.h for the shapes."""
    sizes = _sizes(cell, x, h_0, weight_hh, save)
    dtype = x.dtype
    working = _working_dtype(x, weight_hh.shape[0] // _GATES[cell])
    x, h_0 = _cast(working, x), _cast(working, h_0)
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)
    packed = _PACKED[working](
        cell,
        *(array(_cast(working, w)) for w in weights),
        float32_states=working != dtype,
        precision=precision if working == torch.float32 else "full",
    )
    y, h_n, c_n, saved = (x.new_empty(size) for size in sizes)
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
        noise=_noise(recurrent_dropout, zoneout, seed, stream, sessions),
    )
    return _cast(dtype, y), _cast(dtype, h_n), _cast(dtype, c_n), saved


def _rnn_forward_fake(
    cell: str, x: Tensor, h_0: Tensor, c_0: Tensor | None, *rest: Any, **options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight_hh, save = rest[1], rest[10]
    *states, saved = _sizes(cell, x, h_0, weight_hh, save)
    working = _working_dtype(x, weight_hh.shape[0] // _GATES[cell])
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
) -> tuple[Tensor, ...]:
    """Kernel of the operator; see its schema and cpp/ops/rnn.h for the shapes."""
    hidden = weight_hh.shape[0] // _GATES[cell]
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
    _BACKWARD[working](
        cell,
        array(_cast(working, weight_ih)),
        array(_cast(working, weight_hh)),
        array(_cast(working, weight_hr)),
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
        *(None if grad is none else grad.numpy() for grad in dweights),
        precision=precision if working == torch.float32 else "full",
        noise=_noise(recurrent_dropout, zoneout, seed, stream, sessions),
    )
    return tuple(_cast(dtype, grad) for grad in (dx, dh_0, dc_0, *dweights))


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
    none = x.new_empty(0)

    def like(tensor: Tensor | None) -> Tensor:
        return none.clone() if tensor is None or not need_dweights else torch.empty_like(tensor)

    hidden = weight_hh.shape[0] // _GATES[cell]
    return (
        x.new_empty(x.shape) if need_dx else none,
        x.new_empty(h_0.shape),
        x.new_empty([h_0.shape[0], hidden] if cell == "lstm" else [0]),
        *(like(w) for w in (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)),
    )


library.impl("rnn_forward", rnn_forward_cpu, "CPU")
library.impl("rnn_backward", rnn_backward_cpu, "CPU")
torch.library.register_fake("seqrec_fast::rnn_forward", _rnn_forward_fake, lib=library)
torch.library.register_fake("seqrec_fast::rnn_backward", _rnn_backward_fake, lib=library)
