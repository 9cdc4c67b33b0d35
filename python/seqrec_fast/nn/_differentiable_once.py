"""Gradients that have none of their own: a second differentiation raises, it is never 0."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

_Backward = TypeVar("_Backward", bound=Callable[..., Any])


class _HasNoGradient(torch.autograd.Function):
    """Hands the first `count` tensors on, gradients that depend on the others; backward raises."""

    @staticmethod
    def forward(name: str, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient.detach() for gradient in tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            f"seqrec_fast.{ctx.name}: is differentiable once; its gradient was differentiated"
        )

    jvp = backward

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], name: str, count: int, *tensors: Tensor) -> Any:
        found = _HasNoGradient.apply(name, count, *tensors)  # type: ignore[no-untyped-call]
        return found, in_dims[2 : 2 + count]


def differentiable_once(name: str) -> Callable[[_Backward], _Backward]:
    """
    Return a decorator for the backward of the operator `name`, whose kernels autograd cannot see.

    What the gradients are of has to be among ``ctx.saved_tensors``. PyTorch's
    ``once_differentiable`` connects them with nothing: ``torch.autograd.grad`` then passes its
    error by, and derivatives of sums lack a part.
    """

    def decorate(backward: _Backward) -> _Backward:
        @functools.wraps(backward)
        def wrapped(ctx: Any, *gradients: Any) -> Any:
            # Gradients of a compiled graph are differentiable once whatever the operator is.
            if torch.compiler.is_compiling() or not torch.is_grad_enabled():
                return backward(ctx, *gradients)
            inputs = [t for t in (*ctx.saved_tensors, *gradients)
                      if isinstance(t, Tensor) and t.requires_grad]  # fmt: skip
            with torch.no_grad():
                results = backward(ctx, *gradients)
            results = results if isinstance(results, tuple) else (results,)
            found = [gradient for gradient in results if gradient is not None]
            marked = iter(_HasNoGradient.apply(name, len(found), *found, *inputs))  # type: ignore[no-untyped-call]
            return tuple(None if gradient is None else next(marked) for gradient in results)

        return cast(_Backward, wrapped)

    return decorate
