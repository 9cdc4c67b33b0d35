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
from . import _rnn_flops as _rnn_flops  # counts the operations of the operators
from . import _rnn_ops
from ._differentiable import differentiable, is_differentiated, is_traced, is_wrapped
from ._differentiable_once import differentiable_once
from ._rnn_call import DIFFERENTIABLE, TENSORS, RnnCall

_Forward = tuple[Tensor, Tensor, Tensor, Tensor]
_HALF = (torch.bfloat16, torch.float16)
_IS_TENSOR = [name in TENSORS for name in RnnCall._fields]


def rnn_forward(call: RnnCall) -> _Forward:
    """Call the operator ``rnn_forward``, which saves what a gradient needs if there can be one."""
    x = call.x
    if x.dtype in _HALF and x.device.type == "cpu":
        return _in_float32(call)
    save = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad
        for tensor in (x, call.h_0, call.c_0, *call.weights, call.attention)
    )
    if save:
        call = call._replace(save=True)
    if is_differentiated():
        # Whether a transform differentiates, requires_grad does not tell at every level.
        result: _Forward = _differentiable_operator(*call._replace(save=True))
        return result
    if torch.compiler.is_compiling():
        return _operator(*call)
    if torch._C._get_tracing_state() is not None:
        # The graph of torch.jit.trace may be trained, and is made again without gradients to check.
        return _operator(*call._replace(save=True))
    if type(x) not in (Tensor, torch.nn.Parameter) or x.device.type != "cpu" or is_traced():
        return _operator(*call)
    if not save:
        return _rnn_ops.forward(call)
    result = _RnnFunction.apply(*call)  # type: ignore[no-untyped-call]
    return result


def _in_float32(call: RnnCall) -> _Forward:
    """Run a call of 16-bit tensors on the CPU, whose kernels have none."""
    dtype = call.x.dtype
    wide = {name: tensor.float() for name in DIFFERENTIABLE
            if (tensor := getattr(call, name)) is not None}  # fmt: skip
    y, h_n, c_n, saved = rnn_forward(call._replace(**wide))
    return y.to(dtype), h_n.to(dtype), c_n.to(dtype), saved


def _operator(*args: Any) -> _Forward:
    result: _Forward = torch.ops.seqrec_fast.rnn_forward(*args)
    return result


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
    found = run(dy, dh_n, dc_n, y, saved, needed.x, needed.h_0, need_dweights, *call)
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
        if is_traced() or any(g is not None and is_wrapped(g) for g in grads):
            return _autograd(ctx, *grads)
        return _backward(ctx, _rnn_ops.rnn_backward_cpu, *grads[:3])


def _autograd(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return _backward(ctx, torch.ops.seqrec_fast.rnn_backward, *grads[:3])


_differentiable_operator = differentiable(
    "rnn_forward", _autograd, _setup_context, _rnn_ops.library
)
