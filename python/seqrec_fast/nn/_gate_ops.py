"""The torch.library glue of the expert gate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _devices
from ._differentiable import differentiable, direct
from ._differentiable_once import differentiable_once

_library: Any = torch.library.Library("seqrec_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_OPTIONS = (
    "SymInt k, str score, str order, bool renormalize, Tensor? bias, Tensor? mask, float scale"
)
_library.define(f"expert_gate(Tensor logits, {_OPTIONS}) -> (Tensor weights, Tensor expert_ids)")
_library.define(
    f"expert_gate_grad(Tensor logits, {_OPTIONS}, Tensor weights, Tensor expert_ids,"
    " Tensor dweights) -> Tensor"
)


def _bytes(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.view(torch.uint8)


def _outputs(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (logits.shape[0], k)
    return logits.new_empty(shape), logits.new_empty(shape, dtype=torch.int64)


def _expert_gate(
    logits: Tensor,
    k: int,
    score: str,
    order: str,
    renormalize: bool,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    weights, expert_ids = _outputs(logits, k)
    _devices.run(
        "expert_gate", logits.dtype, logits,
        logits, k, score, order, renormalize, bias, _bytes(mask), scale, weights, expert_ids,
    )  # fmt: skip
    return weights, expert_ids


def _expert_gate_fake(logits: Tensor, k: int, *rest: Any) -> tuple[Tensor, Tensor]:
    return _outputs(logits, k)


def _expert_gate_grad(
    logits: Tensor,
    k: int,
    score: str,
    order: str,
    renormalize: bool,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float,
    weights: Tensor,
    expert_ids: Tensor,
    dweights: Tensor,
) -> Tensor:
    dlogits = logits.new_empty(logits.shape)
    _devices.run(
        "expert_gate_grad", logits.dtype, logits,
        logits, k, score, order, renormalize, bias, _bytes(mask), scale, expert_ids, weights,
        dweights, dlogits,
    )  # fmt: skip
    return dlogits


def _expert_gate_grad_fake(logits: Tensor, *rest: Any) -> Tensor:
    return logits.new_empty(logits.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, *options, bias, mask, scale = inputs
    ctx.options, ctx.scale = options, scale
    ctx.save_for_backward(logits, bias, mask, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


@differentiable_once("expert_gate")
def _backward(ctx: Any, dweights: Tensor | None, dids: Tensor | None) -> tuple[Any, ...]:
    if dweights is None:
        return (None,) * 8
    logits, bias, mask, weights, expert_ids = ctx.saved_tensors
    dlogits = expert_gate_grad(
        logits, *ctx.options, bias, mask, ctx.scale, weights, expert_ids, dweights
    )
    return dlogits, *(None,) * 7


def gate_noise(logits: Tensor, noise: str, seed: int, step: int) -> Tensor:
    """Return a number for each logit, of the standard distribution, by seed, step and place."""
    values = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
    _devices.run("gate_noise", None, values, noise, seed, step, values)
    return values.to(logits.dtype)


for _device in _devices.DEVICES:
    _library.impl("expert_gate", _expert_gate, _device)
    _library.impl("expert_gate_grad", _expert_gate_grad, _device)
torch.library.register_fake("seqrec_fast::expert_gate", _expert_gate_fake, lib=_library)
torch.library.register_fake("seqrec_fast::expert_gate_grad", _expert_gate_grad_fake, lib=_library)
expert_gate_grad = direct("expert_gate_grad", _expert_gate_grad)
expert_gate = differentiable("expert_gate", _backward, _setup, _library, _expert_gate)
