"""Operations of the recurrent operators for ``FlopCounterMode``: those of their products."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from ._rnn_call import RnnCall


def _products(*args: Any) -> tuple[int, int]:
    """Operations of the products of all events with weight_ih, and with the other weights."""
    call: Any = RnnCall(*args)  # of shapes in place of tensors
    events = math.prod(call.x[:-1])
    # An event meets the weights of one expert.
    of_input, recurrent, projection = (
        2 * events * math.prod(shape[-2:]) if shape else 0
        for shape in (call.weight_ih, call.weight_hh, call.weight_hr)
    )
    return of_input, recurrent + projection


@register_flop_formula(torch.ops.seqrec_fast.rnn_forward)
def rnn_forward_flops(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Every weight of a layer multiplies and adds once per event."""
    return sum(_products(*args))


@register_flop_formula(torch.ops.seqrec_fast.rnn_backward)
def rnn_backward_flops(
    dy: Any, dh_n: Any, dc_n: Any, y: Any, saved: Any, need_dx: bool, need_dh_0: bool,
    need_dweights: bool, *args: Any, out_shape: Any = None, **kwargs: Any,
) -> int:  # fmt: skip
    """Gradients of the states, and those that are needed of the input and of the weights."""
    of_input, recurrent = _products(*args)
    return of_input * (need_dx + need_dweights) + recurrent * (1 + need_dweights)
