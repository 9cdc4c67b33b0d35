"""Sessions to experts in one pass over their events."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor

from seqrec_fast.gating import checked_options

from . import _devices, _dispatch_ops, _gate_ops
from ._checks import check_bias_and_mask, check_floating, check_offsets, check_shape
from ._differentiable import differentiable
from ._differentiable_once import differentiable_once
from ._loss_checks import as_working
from ._tensors import working

__all__ = ["SegmentRoute", "route_segments"]

_library: Any = torch.library.Library("seqrec_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "route_segments(Tensor values, Tensor segment_offsets, Tensor prototypes, SymInt k, str score,"
    " str order, bool renormalize, Tensor? bias, Tensor? mask, float scale)"
    " -> (Tensor weights, Tensor expert_ids, Tensor means, Tensor logits)"
)


class SegmentRoute(NamedTuple):
    """Where each segment goes."""

    #: (S, k): 0 where no candidate is left.
    weights: Tensor
    #: (S, k) int64: -1 there.
    expert_ids: Tensor
    #: (S, D): means of the segments.
    means: Tensor
    #: (S, M): what experts were chosen by; for losses that balance them.
    logits: Tensor


def _outputs(values: Tensor, segment_offsets: Tensor, prototypes: Tensor, k: int) -> SegmentRoute:
    segments = segment_offsets.shape[0] - 1
    return SegmentRoute(
        values.new_empty(segments, k),
        segment_offsets.new_empty(segments, k),
        values.new_empty(segments, values.shape[1]),
        values.new_empty(segments, prototypes.shape[0]),
    )


def _route_segments(
    values: Tensor,
    segment_offsets: Tensor,
    prototypes: Tensor,
    k: int,
    score: str,
    order: str,
    renormalize: bool,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, ...]:
    route = _outputs(values, segment_offsets, prototypes, k)
    _devices.run(
        "route_segments", values.dtype, values,
        values, segment_offsets, prototypes, k, score, order, renormalize, bias,
        None if mask is None else mask.view(torch.uint8), scale,
        route.means, route.logits, route.weights, route.expert_ids,
    )  # fmt: skip
    return tuple(route)


def _route_segments_fake(
    values: Tensor, segment_offsets: Tensor, prototypes: Tensor, k: int, *rest: Any
) -> tuple[Tensor, ...]:
    return tuple(_outputs(values, segment_offsets, prototypes, k))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    values, segment_offsets, prototypes, *ctx.options, bias, mask, ctx.scale = inputs
    weights, expert_ids, means, logits = output
    ctx.n_events = values.shape[0]
    ctx.save_for_backward(
        segment_offsets, prototypes, bias, mask, weights, expert_ids, means, logits
    )
    ctx.mark_non_differentiable(expert_ids)
    ctx.set_materialize_grads(False)


@differentiable_once("route_segments")
def _backward(
    ctx: Any,
    dweights: Tensor | None,
    dids: Tensor | None,
    dmeans: Tensor | None,
    dlogits: Tensor | None,
) -> tuple[Tensor | None, ...]:
    segment_offsets, prototypes, bias, mask, weights, expert_ids, means, logits = ctx.saved_tensors
    if dweights is not None:
        chosen = _gate_ops.expert_gate_grad(
            logits, *ctx.options, bias, mask, ctx.scale, weights, expert_ids, dweights
        )
        dlogits = chosen if dlogits is None else chosen + dlogits
    dprototypes = dvalues = None
    if dlogits is not None:
        dprototypes = dlogits.t() @ means if ctx.needs_input_grad[2] else None
        through = dlogits @ prototypes
        dmeans = through if dmeans is None else through + dmeans
    if dmeans is not None and ctx.needs_input_grad[0]:
        dvalues = _dispatch_ops.expand_segments(dmeans, segment_offsets, ctx.n_events, True)
    return dvalues, None, dprototypes, *(None,) * 7


for _device in _devices.DEVICES:
    _library.impl("route_segments", _route_segments, _device)
torch.library.register_fake("seqrec_fast::route_segments", _route_segments_fake, lib=_library)
_differentiable_route = differentiable(
    "route_segments", _backward, _setup, _library, _route_segments
)


def route_segments(
    values: Tensor,
    segment_offsets: Tensor,
    prototypes: Tensor,
    k: SupportsIndex,
    *,
    score: str = "softmax",
    order: str = "score_then_topk",
    renormalize: bool = True,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float = 1.0,
) -> SegmentRoute:
    """
    Choose k experts for each segment by the mean of its events, in one pass.

    The logit of an expert is the dot product of its prototype and the mean; choice and weights are
    those of :func:`expert_gate`. A segment's route depends on its own events alone, to the last
    bit. :func:`dispatch_by_expert` takes the result with ``segment_offsets=``.

    Parameters
    ----------
    values : (N, D) Tensor
        float32 or float64; bfloat16 and float16 are computed as float32.
    segment_offsets : (S + 1,) int64 Tensor
        Segment s holds the events from ``segment_offsets[s]`` to ``segment_offsets[s + 1]``.
    prototypes : (M, D) Tensor
    k : int
        1 to M.
    score, order, renormalize, bias, mask, scale
        As :func:`expert_gate` has them; a mask of (M,) or (S, M).

    Returns
    -------
    SegmentRoute
        ``(weights, expert_ids, means, logits)``; gradients reach `values` and `prototypes`.

    Raises
    ------
    TypeError
        If a tensor has another dtype, or an option another type.
    ValueError
        If a shape does not fit, the offsets are no partition of the events, or an option is out of
        range.
    """
    name = "route_segments"
    check_floating(name, "values", values)
    check_shape(name, "values", values, "N", "D")
    check_floating(name, "prototypes", prototypes)
    check_shape(name, "prototypes", prototypes, "M", values.shape[1])
    experts = prototypes.shape[0]
    k, *options, scale = checked_options(name, experts, k, score, order, renormalize, scale)
    check_offsets(name, "segment_offsets", segment_offsets, "S")
    check_bias_and_mask(name, bias, mask, segment_offsets.shape[0] - 1, experts)
    rows = working(values)
    found = _differentiable_route(
        rows, segment_offsets, as_working(prototypes, rows), k, *options,
        None if bias is None else as_working(bias.detach(), rows), mask, scale,
    )  # fmt: skip
    return SegmentRoute(*found)
