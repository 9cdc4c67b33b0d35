"""A dense mixture of experts with several gates (MMoE, PLE) as one op."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _devices
from ._checks import check_floating, check_shape
from ._differentiable import differentiable, direct
from ._differentiable_once import differentiable_once
from ._loss_checks import as_working
from ._tensors import working

__all__ = ["multi_gate_mixture"]

_library: Any = torch.library.Library("seqrec_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("multi_gate_mixture(Tensor expert_outputs, Tensor gate_logits) -> Tensor")
_library.define(
    "multi_gate_mixture_grad(Tensor grad, Tensor expert_outputs, Tensor gate_logits)"
    " -> (Tensor dexpert_outputs, Tensor dgate_logits)"
)


def _mixture_fake(expert_outputs: Tensor, gate_logits: Tensor) -> Tensor:
    return expert_outputs.new_empty(*gate_logits.shape[:2], expert_outputs.shape[2])


def _run_cpu(name: str, expert_outputs: Tensor, gate_logits: Tensor, *others: Tensor) -> None:
    tensors = (expert_outputs, gate_logits, *others)
    _devices.run_on_cpu(
        name, expert_outputs.dtype, expert_outputs.shape[0], gate_logits.shape[0],
        *(t.flatten(0, 1) for t in tensors),
    )  # fmt: skip


def _mixture_cpu(expert_outputs: Tensor, gate_logits: Tensor) -> Tensor:
    mixture = _mixture_fake(expert_outputs, gate_logits)
    _run_cpu("multi_gate", expert_outputs, gate_logits, mixture)
    return mixture


def _mixture_grad_fake(
    grad: Tensor, expert_outputs: Tensor, gate_logits: Tensor
) -> tuple[Tensor, Tensor]:
    return (
        expert_outputs.new_empty(expert_outputs.shape),
        gate_logits.new_empty(gate_logits.shape),
    )


def _mixture_grad_cpu(
    grad: Tensor, expert_outputs: Tensor, gate_logits: Tensor
) -> tuple[Tensor, Tensor]:
    found = _mixture_grad_fake(grad, expert_outputs, gate_logits)
    _run_cpu("multi_gate_grad", expert_outputs, gate_logits, grad, *found)
    return found


def _mixture_cuda(expert_outputs: Tensor, gate_logits: Tensor) -> Tensor:
    mixture = _mixture_fake(expert_outputs, gate_logits)
    _run_cuda("multi_gate", expert_outputs, gate_logits, mixture)
    return mixture


def _mixture_grad_cuda(
    grad: Tensor, expert_outputs: Tensor, gate_logits: Tensor
) -> tuple[Tensor, Tensor]:
    found = _mixture_grad_fake(grad, expert_outputs, gate_logits)
    _run_cuda("multi_gate_grad", expert_outputs, gate_logits, grad, *found)
    return found


def _run_cuda(name: str, expert_outputs: Tensor, gate_logits: Tensor, *others: Tensor) -> None:
    shares = torch.empty_like(gate_logits, memory_format=torch.contiguous_format)
    tensors = (expert_outputs, gate_logits, *others, shares)
    _devices.run(
        name, expert_outputs.dtype, expert_outputs,
        expert_outputs.shape[0], gate_logits.shape[0], *(t.flatten(0, 1) for t in tensors),
    )  # fmt: skip


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


@differentiable_once("multi_gate_mixture")
def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _mixture_grad(grad, *ctx.saved_tensors)
    return found


_library.impl("multi_gate_mixture", _mixture_cpu, "CPU")
_library.impl("multi_gate_mixture_grad", _mixture_grad_cpu, "CPU")
if "CUDA" in _devices.DEVICES:
    _library.impl("multi_gate_mixture", _mixture_cuda, "CUDA")
    _library.impl("multi_gate_mixture_grad", _mixture_grad_cuda, "CUDA")
for _name, _fake in (
    ("multi_gate_mixture", _mixture_fake),
    ("multi_gate_mixture_grad", _mixture_grad_fake),
):
    torch.library.register_fake(f"seqrec_fast::{_name}", _fake, lib=_library)
_mixture_grad = direct("multi_gate_mixture_grad", _mixture_grad_cpu)
_multi_gate_mixture = differentiable(
    "multi_gate_mixture", _backward, _setup, _library, _mixture_cpu
)


def multi_gate_mixture(expert_outputs: Tensor, gate_logits: Tensor) -> Tensor:
    """
    Mix the outputs of all experts, once for each gate.

    ``mixture[g, n] = sum over e of softmax(gate_logits[g, n])[e] * expert_outputs[e, n]`` in one
    pass (Ma et al., 2018, "Modeling task relationships in multi-task learning with multi-gate
    mixture-of-experts"). Logits of -inf leave experts out, as PLE's gates do with experts of other
    tasks; if all logits of a row are -inf, its mixture and gradients are 0.

    Parameters
    ----------
    expert_outputs : (E, N, D) Tensor
        float32 or float64; bfloat16 and float16 are computed as float32.
    gate_logits : (G, N, E) Tensor

    Returns
    -------
    (G, N, D) Tensor

    Raises
    ------
    TypeError
        If a tensor is of no floating type.
    ValueError
        If a shape does not fit.
    """
    name = "multi_gate_mixture"
    check_floating(name, "expert_outputs", expert_outputs)
    check_shape(name, "expert_outputs", expert_outputs, "E", "N", "D")
    experts, rows = expert_outputs.shape[:2]
    check_floating(name, "gate_logits", gate_logits)
    check_shape(name, "gate_logits", gate_logits, "G", rows, experts)
    for argument, tensor in (("expert_outputs", expert_outputs), ("gate_logits", gate_logits)):
        if tensor.shape[0] < 1:
            raise ValueError(
                f"{name}: {argument} has shape {tuple(tensor.shape)}; expected at least one matrix"
            )
    outputs = working(expert_outputs)
    mixture: Tensor = _multi_gate_mixture(outputs, as_working(gate_logits, outputs))
    return mixture
