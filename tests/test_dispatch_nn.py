"""Dispatch, combine and segments of tensors: values, gradients, what PyTorch asks of operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from dispatch_cases import CASES, case, choices, offsets_of
from seqrec_fast import reference_dispatch as reference
from seqrec_fast.nn import functional as SF


def problem(shape, dim=6, dtype=torch.float64, seed=0):
    rng = np.random.default_rng(seed)
    offsets, ids = case(rng, *shape)
    values = torch.from_numpy(rng.standard_normal((len(ids), dim))).to(dtype)
    weights = torch.from_numpy(rng.random(ids.shape)).to(dtype)
    return values, torch.from_numpy(offsets), torch.from_numpy(ids), weights


@pytest.mark.parametrize("shape", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_its_definition(shape, dtype):
    values, offsets, ids, weights = problem(shape, dtype=dtype)
    dispatched, d = SF.dispatch_by_expert(values, offsets, ids, shape[1], weights=weights)
    plain = sf.dispatch_by_expert(offsets.numpy(), ids.numpy(), shape[1])
    for ours, theirs in zip(d, plain, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    rtol = 1e-6 if dtype == torch.float32 else 1e-12
    expected = reference.dispatch_rows(values.numpy(), plain.slot, weights.numpy())
    np.testing.assert_allclose(dispatched.numpy(), expected, rtol=rtol)
    combined = SF.combine_by_expert(dispatched, d, weights)
    expected = reference.combine_by_expert(dispatched.numpy(), plain.position, weights.numpy())
    np.testing.assert_allclose(combined.numpy(), expected, rtol=rtol, atol=rtol)


def test_one_choice_without_weights_is_a_permutation():
    values, offsets, ids, _ = problem(([4, 0, 30], 5, 1))
    dispatched, d = SF.dispatch_by_expert(values, offsets, ids[:, 0], 5)
    assert torch.equal(dispatched, values[d.index])
    back = SF.combine_by_expert(dispatched, d)
    assert torch.equal(back, torch.where(ids >= 0, values, 0.0))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", CASES[2:4], ids=str)
def test_gradients(shape, weighted):
    values, offsets, ids, weights = problem(shape, dim=3)

    def both(values, weights):
        factors = weights if weighted else None
        dispatched, d = SF.dispatch_by_expert(
            values, offsets, ids, shape[1], weights=factors, capacity=9
        )
        return SF.combine_by_expert(dispatched.square(), d, factors)

    inputs = (values.requires_grad_(), weights.requires_grad_(weighted))
    assert torch.autograd.gradcheck(both, inputs, fast_mode=True)


def test_gradients_twice():
    values, offsets, ids, _ = problem(CASES[2], dim=3)

    def both(values):
        dispatched, d = SF.dispatch_by_expert(values, offsets, ids, 4)
        return SF.combine_by_expert(dispatched.square(), d)

    assert torch.autograd.gradgradcheck(both, (values.requires_grad_(),), fast_mode=True)


def test_experts_without_events_get_exactly_zero(target):
    """Also where freed memory is full of NaN."""
    values, offsets, ids, weights = problem(([20, 0, 300], 4, 2), dim=33, dtype=torch.float32)
    scale = torch.ones(4, 33, requires_grad=True)
    values.requires_grad_()
    weights.requires_grad_()
    for _ in range(3):
        poison = [torch.full((n, 33), float("nan")) for n in (320, 320, 640, 500)]
        del poison
        dispatched, d = SF.dispatch_by_expert(values, offsets, ids, 4, weights=weights)
        starts = d.offsets[:: offsets.numel() - 1]
        expert = torch.repeat_interleave(torch.arange(4), starts.diff())
        combined = SF.combine_by_expert(dispatched * scale[expert], d, weights)
        gradients = torch.autograd.grad(combined.sum(), (scale, values, weights))
        assert all(torch.isfinite(g).all() for g in (combined, *gradients))
        assert (gradients[0][1] == 0).all()
        assert (gradients[2][ids < 0] == 0).all()
        alone = (ids < 0).all(1)
        assert (combined[alone] == 0).all()
        assert (gradients[1][alone] == 0).all()


def test_rows_that_go_nowhere_carry_no_nan():
    values, offsets, ids, weights = problem(([50], 4, 2))
    values[(ids < 0).all(1)] = float("nan")
    weights[ids < 0] = float("nan")
    dispatched, d = SF.dispatch_by_expert(values, offsets, ids, 4, weights=weights)
    combined = SF.combine_by_expert(dispatched, d, weights)
    assert torch.isfinite(dispatched).all()
    assert torch.isfinite(combined).all()


def test_routes_of_sessions_are_routes_of_their_events():
    values, offsets, _, _ = problem(([7, 0, 12], 3, 1))
    segments = sf.session_segments(offsets.numpy(), rule="window", window=3)
    cuts = torch.from_numpy(segments.offsets)
    rng = np.random.default_rng(1)
    n = len(segments.offsets) - 1
    ids = torch.from_numpy(choices(rng, n, 3, 2))
    weights = torch.rand(n, 2, dtype=torch.float64, requires_grad=True)
    found = SF.dispatch_by_expert(
        values, offsets, ids, 3, weights=weights, capacity=4, segment_offsets=cuts
    )
    lengths = cuts.diff()
    spread = torch.repeat_interleave(weights, lengths, 0)
    expected = SF.dispatch_by_expert(
        values, offsets, torch.repeat_interleave(ids, lengths, 0), 3, weights=spread, capacity=4
    )
    assert torch.equal(found[0], expected[0])
    seed = torch.randn(found[0].shape, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(out[0], weights, seed)[0] for out in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_segments_and_their_gradients():
    cuts = torch.from_numpy(offsets_of([0, 4, 1, 0, 9]))
    values = torch.randn(14, 5, dtype=torch.float64, requires_grad=True)
    per_segment = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    expected = reference.segment_mean(values.detach().numpy(), cuts.tolist())
    np.testing.assert_allclose(SF.segment_mean(values, cuts).detach().numpy(), expected, rtol=1e-12)
    spread = SF.expand_segments(per_segment, cuts)
    assert torch.equal(spread, torch.repeat_interleave(per_segment, cuts.diff(), 0))
    for function, tensor in ((SF.segment_mean, values), (SF.expand_segments, per_segment)):
        assert torch.autograd.gradcheck(function, (tensor, cuts), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (tensor, cuts), fast_mode=True)


def test_threads_do_not_change_bits():
    values, offsets, ids, weights = problem(([700, 0, 900], 4, 2), dim=40, dtype=torch.float32)
    cuts = torch.arange(0, 1601, 16)
    results = []
    for threads in (1, 3):
        sf.set_num_threads(threads)
        inputs = [t.clone().requires_grad_() for t in (values, weights)]
        dispatched, d = SF.dispatch_by_expert(inputs[0], offsets, ids, 4, weights=inputs[1])
        combined = SF.combine_by_expert(dispatched, d, inputs[1])
        loss = combined.square().sum() + SF.segment_mean(inputs[0], cuts).square().sum()
        results.append((combined, *torch.autograd.grad(loss, inputs)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_views_and_half_precision():
    values, offsets, ids, weights = problem(([9, 3], 3, 2), dim=8, dtype=torch.float32)
    expected, _ = SF.dispatch_by_expert(values, offsets, ids, 3, weights=weights)
    turned = values.t().contiguous().t()
    found, d = SF.dispatch_by_expert(turned, offsets, ids, 3, weights=weights.flip(0).flip(0))
    assert torch.equal(found, expected)
    half, _ = SF.dispatch_by_expert(values.bfloat16(), offsets, ids, 3)
    assert torch.equal(half, values.bfloat16().float()[d.index])


def test_operators():
    values, offsets, ids, weights = problem(([9, 3], 3, 2), dim=8)
    ops = torch.ops.seqrec_fast
    plan = ops.dispatch_by_expert(offsets, ids, 3, -1)
    n = plan[0].shape[0]
    cuts = torch.tensor([0, 5, 12])
    values.requires_grad_()
    weights.requires_grad_()
    rows = torch.randn(n, 8, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(ops.dispatch_by_expert, (offsets, ids, 3, -1))
    torch.library.opcheck(ops.dispatch_rows, (values, plan[3], weights, n))
    torch.library.opcheck(ops.combine_rows, (rows, plan[3], weights))
    torch.library.opcheck(ops.segment_sum, (values, cuts, True))
    two = rows[:2].detach().requires_grad_()
    torch.library.opcheck(ops.expand_segments, (two, cuts, 12, False))


def test_compiled():
    values, offsets, ids, weights = problem(([9, 3], 3, 2), dim=8, dtype=torch.float32)

    def model(values, weights):
        dispatched, d = SF.dispatch_by_expert(values, offsets, ids, 3, weights=weights)
        return SF.combine_by_expert(dispatched.tanh(), d, weights)

    inputs = [t.requires_grad_() for t in (values, weights)]
    expected = torch.autograd.grad(model(*inputs).square().sum(), inputs)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        found = torch.autograd.grad(compiled(*inputs).square().sum(), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_wrong_input():
    values, offsets, ids, weights = problem(([9, 3], 3, 2), dim=8)
    with pytest.raises(ValueError, match=r"values has shape \(96,\); expected \(N, D\)"):
        SF.dispatch_by_expert(values.reshape(-1), offsets, ids, 3)
    with pytest.raises(ValueError, match=r"expert_ids has shape \(11, 2\); expected \(12,\) or"):
        SF.dispatch_by_expert(values, offsets, ids[1:], 3)
    with pytest.raises(TypeError, match=r"expert_ids is torch\.int32; expected int64"):
        SF.dispatch_by_expert(values, offsets, ids.int(), 3)
    with pytest.raises(ValueError, match=r"weights has shape \(12, 1\); expected \(12, 2\)"):
        SF.dispatch_by_expert(values, offsets, ids, 3, weights=weights[:, :1])
    with pytest.raises(ValueError, match="offsets ends at 11; expected 12"):
        SF.dispatch_by_expert(values, offsets - torch.tensor([0, 0, 1]), ids, 3)
    with pytest.raises(ValueError, match="capacity is -1"):
        SF.dispatch_by_expert(values, offsets, ids, 3, capacity=-1)
    dispatched, d = SF.dispatch_by_expert(values, offsets, ids, 3)
    with pytest.raises(ValueError, match="dispatched has shape"):
        SF.combine_by_expert(dispatched[1:], d)
    with pytest.raises(ValueError, match=r"weights has shape \(11, 2\); expected \(12, 2\)"):
        SF.combine_by_expert(dispatched, d, weights[1:])
    with pytest.raises(ValueError, match="segment_offsets ends at 3; expected 12"):
        SF.segment_mean(values, torch.tensor([0, 3]))
    with pytest.raises(TypeError, match=r"segment_offsets is torch\.int32"):
        SF.segment_mean(values, torch.tensor([0, 12], dtype=torch.int32))
    with pytest.raises(ValueError, match=r"segment_offsets has shape \(2,\); expected \(13,\)"):
        SF.expand_segments(values, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="there are -3 events"):
        SF.expand_segments(values[:1], torch.tensor([0, -3]))
