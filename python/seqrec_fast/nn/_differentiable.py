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


def is_traced() -> bool:
    """Return whether a dispatch mode or a transform of ``torch.func`` is at work."""
    modes: int = torch._C._len_torch_dispatch_stack()
    return modes > 0 or torch._C._functorch.maybe_current_level() is not None


def is_wrapped(tensor: Tensor) -> bool:
    """Return whether the tensor stands for others: of ``torch.func`` or of `is_grads_batched`."""
    functorch: Any = torch._C._functorch
    wrapped: bool = functorch.is_functorch_wrapped_tensor(tensor)
    return wrapped or functorch.is_legacy_batchedtensor(tensor)


def _skips_dispatcher(args: tuple[Any, ...]) -> bool:
    """Return whether nobody but the kernel of the CPU would see the call."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None or is_traced():
        return False
    for arg in args:
        for part in arg if isinstance(arg, list) else (arg,):
            if isinstance(part, Tensor) and (
                type(part) not in _PLAIN or part.device.type != "cpu" or is_wrapped(part)
            ):
                return False
    return True


_PLAIN = (Tensor, torch.nn.Parameter)


def direct(name: str, on_cpu: Callable[..., Any]) -> Callable[..., Any]:
    """
    Return what calls the operator `name`, or where nobody else would see it `on_cpu`, its kernel.

    The dispatcher and its way back to Python take longer than the work of a small call. No gradient
    is recorded.
    """
    operator = getattr(torch.ops.seqrec_fast, name)

    def call(*args: Any) -> Any:
        return on_cpu(*args) if _skips_dispatcher(args) else operator(*args)

    return call


def with_transforms(name: str, function: Any) -> Callable[..., Any]:
    """Return what applies the autograd.Function `function` of `name`, transformed or not."""
    transformed = _transformed(name, function).apply
    plain = light = function.apply
    if function.setup_context is not torch.autograd.Function.setup_context:
        light = _with_context(name, function.forward, function.setup_context, function.backward)

    def call(*args: Any) -> Any:
        if is_differentiated():
            return transformed(*args)
        return plain(*args) if torch.compiler.is_compiling() else light(*args)

    return call


def _transformed(name: str, function: Any) -> Any:
    # A class of its own: compilers take none that defines jvp and vmap.
    return type(f"_Transformed_{name}", (_Transforms, function), {"operator": name})


def _with_context(
    name: str,
    run: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Apply them as a Function of the older form; the newer looks its signature up at each call."""

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = run(*inputs)
        setup_context(ctx, inputs, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Any = type(name, (torch.autograd.Function,), members)
    applied: Callable[..., Any] = function.apply
    return applied


def differentiable(
    name: str,
    backward: Callable[..., Any],
    setup_context: Callable[..., None],
    library: Any,
    on_cpu: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """
    Register the gradient of the operator `name`; return what calls it, transformed or not.

    Eager calls go straight to `on_cpu`, its kernel, as :func:`direct` says.
    """
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
    transformed = _transformed(name, function).apply
    if on_cpu is None:
        return lambda *args: transformed(*args) if is_differentiated() else operator(*args)
    kernel, recorded = on_cpu, _with_context(name, on_cpu, setup_context, backward)

    def call(*args: Any) -> Any:
        if is_differentiated():
            return transformed(*args)
        if not _skips_dispatcher(args):
            return operator(*args)
        needs_grad = torch.is_grad_enabled() and any(
            isinstance(arg, Tensor) and arg.requires_grad for arg in args
        )
        return recorded(*args) if needs_grad else kernel(*args)

    return call
