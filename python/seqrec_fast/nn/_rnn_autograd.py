"""
Gradients of the recurrent operator.

Small layers spend more time around the kernels than in them, so eager calls skip the dispatcher:
one ``autograd.Function`` around the CPU kernels. Whatever traces or transforms the operator (a
compiler, a dispatch mode, ``torch.func``) gets the operator itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _ops
from . import _rnn_cuda_ops as _rnn_cuda_ops  # registers the operators on CUDA
from ._differentiable_once import differentiable_once

_Forward = tuple[Tensor, Tensor, Tensor, Tensor]

# Arguments of the operator, by position.
_N_TENSORS = 9  # cell, x, the states and weights
_BATCH_FIRST, _SAVE, _SEED, _STREAM, _SESSIONS = 12, 14, 18, 19, 20
_ATTENTION = 21
_N_ARGUMENTS = 22
_DEFAULTS = ("full", 0.0, 0.0, None, 0, None, None)


def rnn_forward(*args: Any) -> _Forward:
    """Call the operator ``rnn_forward``; its schema is in `_ops`, the shapes in cpp/ops/rnn.h."""
    x = args[1]
    if (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or x.device.type != "cpu"
        or torch._C._len_torch_dispatch_stack()
        or _is_transformed()
    ):
        result: _Forward = torch.ops.seqrec_fast.rnn_forward(*args)
        return result
    if not args[_SAVE]:
        return _ops.rnn_forward_cpu(*args)
    defaults = _DEFAULTS[len(args) - _N_ARGUMENTS + len(_DEFAULTS) :]
    result = _RnnFunction.apply(*args, *defaults)  # type: ignore[no-untyped-call]
    return result


def _is_transformed() -> bool:
    """Whether a transform of ``torch.func`` or a batched gradient is at work."""
    return torch._C._functorch.maybe_current_level() is not None


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, _, _, saved = output
    ctx.save_for_backward(
        *inputs[1:12], y, saved, inputs[_SEED], inputs[_SESSIONS], inputs[_ATTENTION]
    )  # x to bias_hr, the layout, what forward wrote, the noise
    ctx.cell, ctx.flags, ctx.save = inputs[0], inputs[_BATCH_FIRST:_SAVE], inputs[_SAVE]
    ctx.options, ctx.stream = inputs[_SAVE + 1 : _SEED], inputs[_STREAM]
    ctx.mark_non_differentiable(saved)
    ctx.set_materialize_grads(False)


@differentiable_once("rnn_forward")
def _backward(
    ctx: Any,
    run: Any,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
) -> tuple[Tensor | None, ...]:
    x, h_0, c_0, *rest = ctx.saved_tensors
    weights, layout, (y, saved, seed, sessions, attention) = rest[:5], rest[5:8], rest[8:]
    if not ctx.save:
        raise RuntimeError(
            "seqrec_fast: rnn_forward was called with save=False; its gradient needs save=True"
        )
    dy = torch.zeros_like(y) if dy is None else dy
    dh_n = torch.zeros_like(h_0) if dh_n is None else dh_n
    if ctx.cell == "lstm":
        hidden = weights[1].shape[-2] // 4
        dc_n = h_0.new_zeros(h_0.shape[0], hidden) if dc_n is None else dc_n
    else:
        dc_n = None
    need = ctx.needs_input_grad
    *grads, dattention = run(
        ctx.cell, dy, dh_n, dc_n, x, h_0, c_0, *weights, y, saved, *layout, *ctx.flags,
        need[1], any(need[4:_N_TENSORS]), *ctx.options, seed, ctx.stream, sessions, attention,
    )  # fmt: skip
    wanted = [grad if n else None for grad, n in zip(grads, need[1:_N_TENSORS], strict=True)]
    others = (None,) * (_ATTENTION - _N_TENSORS)
    # An argument that has its default may be missing in `need`.
    wanted_scores = attention is not None and need[_ATTENTION]
    return (None, *wanted, *others, dattention if wanted_scores else None)


class _RnnFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> _Forward:
        output = _ops.rnn_forward_cpu(*args)
        _setup_context(ctx, args, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        traced = torch._C._len_torch_dispatch_stack() or _is_transformed()
        run: Any = torch.ops.seqrec_fast.rnn_backward if traced else _ops.rnn_backward_cpu
        return _backward(ctx, run, *grads[:3])


def _autograd(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return _backward(ctx, torch.ops.seqrec_fast.rnn_backward, *grads[:3])


torch.library.register_autograd(
    "seqrec_fast::rnn_forward", _autograd, setup_context=_setup_context, lib=_ops.library
)
