"""Operations of recurrent layers as FlopCounterMode counts them."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import seqrec_fast.nn as snn


def counted(call):
    with FlopCounterMode(display=False) as counter:
        found = call()
    return counter.get_total_flops(), found


def forward_and_backward(layer, x, hx):
    forward, (y, _) = counted(lambda: layer(x, hx))
    return forward, counted(y.sum().backward)[0]


@pytest.mark.parametrize("kind", ["GRU", "RNN"])  # torch counts nothing of its LSTM
def test_as_many_as_torch_counts(kind):
    options = {"num_layers": 2, "bidirectional": True}
    x, hx = (torch.randn(size, requires_grad=True) for size in ((5, 3, 4), (4, 3, 16)))
    theirs, ours = (getattr(n, kind)(4, 16, **options) for n in (torch.nn, snn))
    expected = forward_and_backward(theirs, x, hx)
    assert expected[0] > 0
    assert forward_and_backward(ours, x, hx) == expected


def test_projections_and_experts():
    x = torch.randn(7, 4)
    layer = snn.LSTM(4, 16, proj_size=3)
    products = 7 * (64 * 4 + 64 * 3 + 16 * 3)
    forward, backward = forward_and_backward(layer, x, None)
    assert forward == 2 * products
    # of an input without a gradient there is none
    assert backward == 2 * (2 * products - 7 * 64 * 4)
    experts = snn.ExpertGRU(3, 4, 16)
    assert counted(lambda: experts(x, offsets=torch.tensor([0, 2, 5, 7])))[0] == (
        2 * 7 * 48 * (4 + 16)
    )
