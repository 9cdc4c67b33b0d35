"""Operators of dispatch, segments and rows on a GPU against those on the CPU."""

from __future__ import annotations

import pytest
import torch

from dispatch_cases import case
from seqrec_fast.nn import functional as SF
from seqrec_fast.nn._devices import DEVICES
from seqrec_fast.nn._gate_ops import gate_noise
from seqrec_fast.training.optimizers import RowOptimizer
from seqrec_fast.training.rows import RowLookups

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        "CUDA" not in DEVICES or not torch.cuda.is_available(), reason="needs a GPU"
    ),
]


def assert_same_on_both(function):
    """`function` of a device gives tensors that are close, and the same bits twice on the GPU."""
    expected = function("cpu")
    found, again = function("cuda"), function("cuda")
    for ours, once_more, theirs in zip(found, again, expected, strict=True):
        assert torch.equal(ours, once_more)
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("capacity", [None, 3])
def test_dispatch_and_combine(rng, capacity):
    arrays = case(rng, [40, 0, 700, 3], 6, 2)
    numbers = torch.from_numpy(rng.standard_normal((743, 64))).float()
    scores = torch.from_numpy(rng.random((743, 2))).float()

    def both(device):
        offsets, ids = (torch.from_numpy(a).to(device) for a in arrays)
        values, weights = (t.to(device, copy=True).requires_grad_() for t in (numbers, scores))
        rows, plan = SF.dispatch_by_expert(
            values, offsets, ids, 6, weights=weights, capacity=capacity
        )
        out = SF.combine_by_expert(rows.square(), plan, weights)
        return *plan, out, *torch.autograd.grad(out.sin().sum(), (values, weights))

    assert_same_on_both(both)


def test_wrong_ids_raise(rng):
    offsets, ids = (torch.from_numpy(a).cuda() for a in case(rng, [9, 4], 3, 1))
    ids[5] = 3
    with pytest.raises(ValueError, match=r"expert_ids\[5\] is 3; expected -1 to 2"):
        SF.dispatch_by_expert(torch.zeros(13, 2).cuda(), offsets, ids, 3)
    with pytest.raises(ValueError, match="a tensor is on cpu; expected cuda:0"):
        SF.dispatch_by_expert(torch.zeros(13, 2).cuda(), offsets.cpu(), ids, 3)


def test_segments_and_routes(rng):
    numbers = torch.from_numpy(rng.standard_normal((50, 24))).float()

    def both(device):
        offsets = torch.tensor([0, 7, 7, 40, 50], device=device)
        values = numbers.to(device, copy=True).requires_grad_()
        route = SF.route_segments(values, offsets, numbers[:9].to(device), 2)
        means = SF.segment_mean(values, offsets)
        (dvalues,) = torch.autograd.grad((means.sin() * 2).sum() + route.weights.sum(), values)
        return *route, means, SF.expand_segments(means, offsets), dvalues

    assert_same_on_both(both)


@pytest.mark.parametrize("rule", ["sgd", "adagrad", "adam"])
def test_row_optimizers(rule):
    start = torch.randn(30, 8, generator=torch.Generator().manual_seed(2))
    ids = torch.tensor([4, 9, 4, 4, 29])

    def steps(device):
        table = torch.nn.Parameter(start.to(device, copy=True))
        optimizer = RowOptimizer([table], rule, 0.1)
        for _ in range(3):
            lookups = RowLookups()
            lookups.take(table, ids.to(device)).sin().sum().backward()
            lookups.set_gradients()
            optimizer.step()
        return (table.detach(),)

    assert_same_on_both(steps)


@pytest.mark.parametrize("noise", ["normal", "gumbel"])
def test_noise(noise):
    assert_same_on_both(
        lambda device: (gate_noise(torch.zeros(9, 70, device=device), noise, 3, 4),)
    )
