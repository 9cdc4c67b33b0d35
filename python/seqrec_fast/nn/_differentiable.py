"""
Gradients of operators, for autograd and for ``torch.func``.

``torch.library.register_autograd`` alone leaves out the transforms of ``torch.func``: reverse mode
raises, and forward mode silently gives 0. They take an ``autograd.Function`` in a form of its own,
which is made here of the same two functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def is_differentiated() -> bool:
    """Return whether a transform or a level of dual numbers is at work that takes a Function."""
    if torch._C._functorch.maybe_current_level() is None:
        level: int = torch.autograd.forward_ad._current_level
        return level >= 0
    interpreter: Any = torch._C._functorch.peek_interpreter_stack()
    # A functionalization takes no autograd.Function, and does not differentiate.
    return bool(interpreter.key() != torch._C._functorch.TransformType.Functionalize)


class _Transforms:
    """What a Function in the form with ``setup_context`` lacks; forward mode is refused."""

    operator: str
    apply: Callable[..., Any]

    @classmethod
    def jvp(cls, ctx: Any, *tangents: Tensor | None) -> Any:
        raise NotImplementedError(
            f"seqrec_fast.{cls.operator}: has no forward-mode derivative (torch.func.jvp, jacfwd, "
            "dual numbers); expected reverse mode (torch.func.vjp, jacrev)"
        )

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        found = [
            cls.apply(
                *(
                    arg.select(dim, i) if isinstance(arg, Tensor) and dim is not None else arg
                    for arg, dim in zip(args, in_dims, strict=True)
                )
            )
            for i in range(info.batch_size)
        ]
        if isinstance(found[0], Tensor):
            return torch.stack(found), 0
        return tuple(map(torch.stack, zip(*found, strict=True))), (0,) * len(found[0])


def with_transforms(name: str, function: Any) -> Callable[..., Any]:
    """Return what applies the autograd.Function `function` of `name`, transformed or not."""
    return _choice(_transformed(name, function).apply, function.apply)


def _transformed(name: str, function: Any) -> Any:
    # A class of its own: compilers take none that defines jvp and vmap.
    return type(f"_Transformed_{name}", (_Transforms, function), {"operator": name})


def _choice(transformed: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return transformed(*args) if is_differentiated() else plain(*args)

    return call


def differentiable(
    name: str, backward: Callable[..., Any], setup_context: Callable[..., None], library: Any
) -> Callable[..., Any]:
    """Register the gradient of the operator `name`; return what calls it, transformed or not."""
    torch.library.register_autograd(
        f"seqrec_fast::{name}", backward, setup_context=setup_context, lib=library
    )
    operator = getattr(torch.ops.seqrec_fast, name)

    def forward(*args: Any) -> Any:
        return operator(*args)

    members = {
        "forward": staticmethod(forward),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
    }
    function = type(name, (torch.autograd.Function,), members)
    return _choice(_transformed(name, function).apply, operator)
