"""
Gradients of the recurrent operator.

Small layers spend more time around the kernels than in them, so eager calls skip the dispatcher:
one ``autograd.Function`` around the CPU kernels. Whatever traces or transforms the operator (a
compiler, a dispatch mode, ``torch.func``) gets the operator itself.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from seqrec_fast._packing import RNN_PARAMETERS

from . import _rnn_cuda_ops as _rnn_cuda_ops  # registers the operators on CUDA
from . import _rnn_ops
from ._differentiable_once import differentiable_once
from ._rnn_call import DIFFERENTIABLE, TENSORS, RnnCall

_Forward = tuple[Tensor, Tensor, Tensor, Tensor]
_IS_TENSOR = [name in TENSORS for name in RnnCall._fields]


def rnn_forward(call: RnnCall) -> _Forward:
    """Call the operator ``rnn_forward``, which saves what a gradient needs if there can be one."""
    save = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad
        for tensor in (call.x, call.h_0, call.c_0, *call.weights, call.attention)
    )
    call = call._replace(save=save)
    x = call.x
    if (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or x.device.type != "cpu"
        or _is_traced()
    ):
        result: _Forward = torch.ops.seqrec_fast.rnn_forward(*call)
        return result
    if not save:
        return _rnn_ops.rnn_forward_cpu(*call)
    result = _RnnFunction.apply(*call)  # type: ignore[no-untyped-call]
    return result


def _is_traced() -> bool:
    """Whether a dispatch mode, a transform of ``torch.func`` or a batched gradient is at work."""
    modes: int = torch._C._len_torch_dispatch_stack()
    return modes > 0 or torch._C._functorch.maybe_current_level() is not None


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, _, _, saved = output
    ctx.save_for_backward(y, saved, *itertools.compress(inputs, _IS_TENSOR))
    ctx.others = [None if there else value for value, there in zip(inputs, _IS_TENSOR, strict=True)]
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
    y, saved, *tensors = ctx.saved_tensors
    left = iter(tensors)
    pairs = zip(ctx.others, _IS_TENSOR, strict=True)
    call = RnnCall(*(next(left) if there else value for value, there in pairs))
    if not call.save:
        raise RuntimeError(
            "seqrec_fast: rnn_forward was called with save=False; its gradient needs save=True"
        )
    h_0 = call.h_0
    dy = torch.zeros_like(y) if dy is None else dy
    dh_n = torch.zeros_like(h_0) if dh_n is None else dh_n
    if call.cell == "lstm":
        dc_n = h_0.new_zeros(h_0.shape[0], call.hidden) if dc_n is None else dc_n
    else:
        dc_n = None
    # An argument that has its default may be missing.
    needed: Any = RnnCall(*ctx.needs_input_grad)
    need_dweights = any(getattr(needed, name) for name in RNN_PARAMETERS)
    found = run(dy, dh_n, dc_n, y, saved, needed.x, need_dweights, *call)
    grads: dict[str, Tensor | None] = dict.fromkeys(RnnCall._fields)
    for name, grad in zip(DIFFERENTIABLE, found, strict=True):
        if getattr(needed, name):
            grads[name] = grad
    return tuple(grads.values())


class _RnnFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> _Forward:
        output = _rnn_ops.rnn_forward_cpu(*args)
        _setup_context(ctx, args, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        ops = torch.ops.seqrec_fast
        run: Any = ops.rnn_backward if _is_traced() else _rnn_ops.rnn_backward_cpu
        return _backward(ctx, run, *grads[:3])


def _autograd(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return _backward(ctx, torch.ops.seqrec_fast.rnn_backward, *grads[:3])


torch.library.register_autograd(
    "seqrec_fast::rnn_forward", _autograd, setup_context=_setup_context, lib=_rnn_ops.library
)
