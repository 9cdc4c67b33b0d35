"""The torch.library glue of segments, dispatch and experts: operators and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqrec_fast import _core

from . import _devices
from ._differentiable import differentiable, direct
from ._tensors import argument

_library: Any = torch.library.Library("seqrec_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("segment_sum(Tensor values, Tensor segment_offsets, bool mean) -> Tensor")
_library.define(
    "expand_segments(Tensor per_segment, Tensor segment_offsets, SymInt n_events, bool mean)"
    " -> Tensor"
)
_library.define(
    "dispatch_by_expert(Tensor offsets, Tensor expert_ids, int num_experts, int capacity)"
    " -> (Tensor index, Tensor slot, Tensor subsequence_offsets, Tensor position)"
)
_library.define(
    "dispatch_rows(Tensor values, Tensor position, Tensor? weights, SymInt rows) -> Tensor"
)
_library.define(
    "dispatch_rows_grad(Tensor grad, Tensor values, Tensor position, Tensor weights)"
    " -> (Tensor dvalues, Tensor dweights)"
)
_library.define("combine_rows(Tensor rows, Tensor position, Tensor? weights) -> Tensor")
_library.define(
    "combine_rows_grad(Tensor grad, Tensor rows, Tensor position, Tensor weights)"
    " -> (Tensor drows, Tensor dweights)"
)


def _segment_sum_fake(values: Tensor, segment_offsets: Tensor, mean: bool) -> Tensor:
    return values.new_empty(segment_offsets.shape[0] - 1, values.shape[1])


def _segment_sum(values: Tensor, segment_offsets: Tensor, mean: bool) -> Tensor:
    out = _segment_sum_fake(values, segment_offsets, mean)
    _devices.run("segment_sum", values.dtype, values, values, segment_offsets, mean, out)
    return out


def _expand_segments_fake(
    per_segment: Tensor, segment_offsets: Tensor, n_events: int, mean: bool
) -> Tensor:
    return per_segment.new_empty(n_events, per_segment.shape[1])


def _expand_segments(
    per_segment: Tensor, segment_offsets: Tensor, n_events: int, mean: bool
) -> Tensor:
    out = _expand_segments_fake(per_segment, segment_offsets, n_events, mean)
    _devices.run("expand_segments", out.dtype, per_segment, per_segment, segment_offsets, mean, out)
    return out


def _dispatch_by_expert_cpu(
    offsets: Tensor, expert_ids: Tensor, num_experts: int, capacity: int
) -> tuple[Tensor, ...]:
    plan = _core.dispatch_by_expert(argument(offsets), argument(expert_ids), num_experts, capacity)
    return tuple(torch.from_numpy(part) for part in plan)


def _dispatch_by_expert_cuda(
    offsets: Tensor, expert_ids: Tensor, num_experts: int, capacity: int
) -> tuple[Tensor, ...]:
    # How many rows there are is known on the device alone, so the host waits for the count once.
    events, k = expert_ids.shape
    batch = offsets.shape[0] - 1
    workspace = _devices.workspace("dispatch_workspace", expert_ids, events, k, batch, num_experts)
    parts = expert_ids.new_empty(num_experts * batch + 1)
    status = expert_ids.new_zeros(2)
    call = (offsets, expert_ids, num_experts, capacity, workspace, parts)
    _devices.run("dispatch_offsets", torch.int64, expert_ids, *call, status)
    rows, wrong = status.tolist()
    if wrong:  # the CPU says of what
        _dispatch_by_expert_cpu(offsets.cpu(), expert_ids.cpu(), num_experts, capacity)
    index, slot = expert_ids.new_empty(rows), expert_ids.new_empty(rows)
    position = torch.empty_like(expert_ids, memory_format=torch.contiguous_format)
    _devices.run("dispatch_plan", torch.int64, expert_ids, *call, index, slot, position)
    return index, slot, parts, position


def _dispatch_by_expert_fake(
    offsets: Tensor, expert_ids: Tensor, num_experts: int, capacity: int
) -> tuple[Tensor, ...]:
    rows = torch.library.get_ctx().new_dynamic_size()
    n_parts = num_experts * (offsets.shape[0] - 1) + 1
    return (
        expert_ids.new_empty(rows),
        expert_ids.new_empty(rows),
        expert_ids.new_empty(n_parts),
        expert_ids.new_empty(expert_ids.shape),
    )


def _dispatch_rows_fake(
    values: Tensor, position: Tensor, weights: Tensor | None, rows: int
) -> Tensor:
    return values.new_empty(rows, values.shape[1])


def _dispatch_rows(values: Tensor, position: Tensor, weights: Tensor | None, rows: int) -> Tensor:
    out = _dispatch_rows_fake(values, position, weights, rows)
    _devices.run("dispatch_rows", out.dtype, values, values, position, weights, None, out, None)
    return out


def _combine_rows_fake(rows: Tensor, position: Tensor, weights: Tensor | None) -> Tensor:
    return rows.new_empty(position.shape[0], rows.shape[1])


def _combine_rows(rows: Tensor, position: Tensor, weights: Tensor | None) -> Tensor:
    out = _combine_rows_fake(rows, position, weights)
    _devices.run("combine_rows", out.dtype, rows, rows, position, weights, None, out, None)
    return out


def _rows_grad_fake(
    grad: Tensor, forward_input: Tensor, position: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    return forward_input.new_empty(forward_input.shape), weights.new_empty(weights.shape)


def _dispatch_rows_grad(
    grad: Tensor, values: Tensor, position: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    dvalues, dweights = _rows_grad_fake(grad, values, position, weights)
    _devices.run(
        "combine_rows", grad.dtype, grad, grad, position, weights, values, dvalues, dweights
    )
    return dvalues, dweights


def _combine_rows_grad(
    grad: Tensor, rows: Tensor, position: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    drows, dweights = _rows_grad_fake(grad, rows, position, weights)
    _devices.run("dispatch_rows", grad.dtype, grad, grad, position, weights, rows, drows, dweights)
    return drows, dweights


# Each operator and its adjoint are the other's gradient.
def _segment_sum_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, segment_offsets, ctx.mean = inputs
    ctx.n_events = values.shape[0]
    ctx.save_for_backward(segment_offsets)


def _segment_sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (segment_offsets,) = ctx.saved_tensors
    return expand_segments(grad, segment_offsets, ctx.n_events, ctx.mean), None, None


def _expand_segments_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, segment_offsets, _, ctx.mean = inputs
    ctx.save_for_backward(segment_offsets)


def _expand_segments_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (segment_offsets,) = ctx.saved_tensors
    return segment_sum(grad, segment_offsets, ctx.mean), None, None, None


def _rows_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    rows, position, weights = inputs[:3]
    # Without weights the gradient needs no rows, and so none are kept.
    ctx.save_for_backward(rows if weights is not None else None, position, weights)
    ctx.n_rows = rows.shape[0]


def _dispatch_rows_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    values, position, weights = ctx.saved_tensors
    if not ctx.needs_input_grad[2]:
        return combine_rows(grad, position, weights), None, None, None
    gradients = dispatch_rows_grad(grad, values, position, weights)
    return gradients[0], None, gradients[1], None


def _rows_grad_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _dispatch_rows_grad_backward(
    ctx: Any, of_dvalues: Tensor, of_dweights: Tensor
) -> tuple[Tensor | None, ...]:
    # Products of three factors, of which these ops take two each: so are their derivatives.
    grad, values, position, weights = ctx.saved_tensors
    n = grad.shape[0]
    through_dvalues = dispatch_rows(of_dvalues, position, weights, n)
    of_grad = through_dvalues + dispatch_rows(values, position, of_dweights, n)
    of_values = combine_rows(grad, position, of_dweights)
    _, of_weights = dispatch_rows_grad(grad, of_dvalues, position, weights)
    return of_grad, of_values, None, of_weights


def _combine_rows_grad_backward(
    ctx: Any, of_drows: Tensor, of_dweights: Tensor
) -> tuple[Tensor | None, ...]:
    grad, rows, position, weights = ctx.saved_tensors
    through_drows = combine_rows(of_drows, position, weights)
    of_grad = through_drows + combine_rows(rows, position, of_dweights)
    of_rows = dispatch_rows(grad, position, of_dweights, rows.shape[0])
    _, of_weights = combine_rows_grad(grad, of_drows, position, weights)
    return of_grad, of_rows, None, of_weights


def _combine_rows_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rows, position, weights = ctx.saved_tensors
    if not ctx.needs_input_grad[2]:
        return dispatch_rows(grad, position, weights, ctx.n_rows), None, None
    gradients = combine_rows_grad(grad, rows, position, weights)
    return gradients[0], None, gradients[1]


for _name, _function, _fake in (
    ("segment_sum", _segment_sum, _segment_sum_fake),
    ("expand_segments", _expand_segments, _expand_segments_fake),
    ("dispatch_rows", _dispatch_rows, _dispatch_rows_fake),
    ("dispatch_rows_grad", _dispatch_rows_grad, _rows_grad_fake),
    ("combine_rows", _combine_rows, _combine_rows_fake),
    ("combine_rows_grad", _combine_rows_grad, _rows_grad_fake),
):
    for _device in _devices.DEVICES:
        _library.impl(_name, _function, _device)
    torch.library.register_fake(f"seqrec_fast::{_name}", _fake, lib=_library)
_library.impl("dispatch_by_expert", _dispatch_by_expert_cpu, "CPU")
if "CUDA" in _devices.DEVICES:
    _library.impl("dispatch_by_expert", _dispatch_by_expert_cuda, "CUDA")
torch.library.register_fake(
    "seqrec_fast::dispatch_by_expert", _dispatch_by_expert_fake, lib=_library
)
dispatch_by_expert = direct("dispatch_by_expert", _dispatch_by_expert_cpu)
segment_sum = differentiable(
    "segment_sum", _segment_sum_backward, _segment_sum_setup, _library, _segment_sum
)
expand_segments = differentiable(
    "expand_segments", _expand_segments_backward, _expand_segments_setup, _library, _expand_segments
)
dispatch_rows = differentiable(
    "dispatch_rows", _dispatch_rows_backward, _rows_setup, _library, _dispatch_rows
)
dispatch_rows_grad = differentiable(
    "dispatch_rows_grad",
    _dispatch_rows_grad_backward,
    _rows_grad_setup,
    _library,
    _dispatch_rows_grad,
)
combine_rows = differentiable(
    "combine_rows", _combine_rows_backward, _rows_setup, _library, _combine_rows
)
combine_rows_grad = differentiable(
    "combine_rows_grad", _combine_rows_grad_backward, _rows_grad_setup, _library, _combine_rows_grad
)
