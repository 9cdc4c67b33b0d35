"""Sessions to experts in one pass: equal to its parts, also alone, with their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from dispatch_cases import offsets_of
from seqrec_fast.nn import functional as SF

LENGTHS = [[], [0], [3, 0, 1], [5] * 70 + [0, 40], [1] * 64]


def problem(lengths, dim=9, experts=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    cuts = torch.from_numpy(offsets_of(lengths))
    values = torch.randn(sum(lengths), dim, generator=generator, dtype=torch.float64)
    prototypes = torch.randn(experts, dim, generator=generator, dtype=torch.float64)
    return values.to(dtype), cuts, prototypes.to(dtype)


def in_parts(values, cuts, prototypes, k, **options):
    means = SF.segment_mean(values, cuts)
    logits = means @ prototypes.t()
    return (*SF.expert_gate(logits, k, **options), means, logits)


@pytest.mark.parametrize("lengths", LENGTHS, ids=len)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_its_parts(target, lengths, dtype):
    values, cuts, prototypes = problem(lengths, dtype=dtype)
    for options in (
        {},
        {"score": "sigmoid", "renormalize": False, "scale": 2.5},
        {"bias": torch.linspace(-1, 1, 5, dtype=dtype), "mask": torch.arange(5) != 2},
        {"mask": (torch.arange(5 * len(lengths)) % 3 != 0).reshape(-1, 5)},
    ):
        found = SF.route_segments(values, cuts, prototypes, 2, **options)
        expected = in_parts(values, cuts, prototypes, 2, **options)
        assert torch.equal(found.expert_ids, expected[1])
        assert torch.equal(found.means, expected[2])
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_gradients_equal_those_of_the_parts():
    values, cuts, prototypes = problem(LENGTHS[3])
    inputs = [t.requires_grad_() for t in (values, prototypes)]
    results = []
    for route in (SF.route_segments, in_parts):
        weights, _, means, logits = route(values, cuts, prototypes, 2, renormalize=False)
        for loss in (
            weights.square().sum(),
            weights[:, 0].sum() + means.square().sum() + logits.logsumexp(1).sum(),
        ):
            results.append(torch.autograd.grad(loss, inputs, retain_graph=True))
    for ours, theirs in zip(results[:2], results[2:], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_route_depends_on_its_segment_alone():
    values, cuts, prototypes = problem(LENGTHS[3], dtype=torch.float32)
    whole = SF.route_segments(values, cuts, prototypes, 2)
    sf.set_num_threads(3)
    for a, b in zip(SF.route_segments(values, cuts, prototypes, 2), whole, strict=True):
        assert torch.equal(a, b)
    for s in (0, 63, 64, 71):
        events = values[cuts[s] : cuts[s + 1]]
        alone = SF.route_segments(events, torch.tensor([0, len(events)]), prototypes, 2)
        for a, b in zip(alone, whole, strict=True):
            assert torch.equal(a[0], b[s])


def test_operator_and_dispatch():
    values, cuts, prototypes = problem([4, 3, 5])
    inputs = [t.requires_grad_() for t in (values, prototypes)]
    options = (2, "softmax", "score_then_topk", True, None, None, 1.0)
    torch.library.opcheck(
        torch.ops.seqrec_fast.route_segments, (values, cuts, prototypes, *options)
    )
    route = SF.route_segments(values, cuts, prototypes, 2)
    dispatched, d = SF.dispatch_by_expert(
        values, torch.tensor([0, 7, 12]), route.expert_ids, 5, weights=route.weights,
        segment_offsets=cuts,
    )  # fmt: skip
    combined = SF.combine_by_expert(dispatched, d)
    torch.testing.assert_close(combined, values)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(dispatched.square().sum(), inputs))


def test_wrong_input():
    values, cuts, prototypes = problem([4, 3, 5])
    with pytest.raises(ValueError, match="route_segments: k is 6; expected 1 to 5"):
        SF.route_segments(values, cuts, prototypes, 6)
    with pytest.raises(ValueError, match=r"prototypes has shape \(5, 8\); expected \(M, 9\)"):
        SF.route_segments(values, cuts, prototypes[:, 1:], 2)
    with pytest.raises(ValueError, match="segment_offsets ends at 12; expected 11"):
        SF.route_segments(values[1:], cuts, prototypes, 2)
    with pytest.raises(ValueError, match=r"mask has shape \(4,\); expected \(5,\) or \(3, 5\)"):
        SF.route_segments(values, cuts, prototypes, 2, mask=torch.ones(4, dtype=torch.bool))
    with pytest.raises(TypeError, match="mask is torch\\.float32; expected bool"):
        SF.route_segments(values, cuts, prototypes, 2, mask=torch.ones(5))
    with pytest.raises(ValueError, match=r"bias has shape \(4,\); expected \(5,\)"):
        SF.route_segments(values, cuts, prototypes, 2, bias=torch.ones(4))
    with pytest.raises(TypeError, match=r"segment_offsets is torch\.int32"):
        SF.route_segments(values, cuts.int(), prototypes, 2)
    with pytest.raises(ValueError, match="score is 'tanh'; expected one of softmax"):
        SF.route_segments(values, cuts, prototypes, 2, score="tanh")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_tensors_and_streams_agree_to_the_last_bit(rng, dtype):
    """A history as a whole, and event by event: sessions are routed as they end."""
    values = rng.standard_normal((50, 6)).astype(dtype)
    prototypes = rng.standard_normal((4, 6)).astype(dtype)
    times = np.cumsum(rng.integers(0, 4, 50))
    cuts = sf.session_segments([0, 50], times, rule="gap", gap=2)
    route = sf.route_segments(values, cuts.offsets, prototypes, 2)
    tensors = SF.route_segments(*map(torch.from_numpy, (values, cuts.offsets, prototypes)), 2)
    for a, b in zip(route, tensors, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    ids = np.repeat(route.expert_ids, np.diff(cuts.offsets), axis=0)
    whole = sf.dispatch_by_expert([0, 50], ids, 4, capacity=7)

    sessions, stream = sf.StreamingSegments("gap", gap=2), sf.StreamingDispatch(4, capacity=7)

    def send(mean, n_events):
        chosen = sf.route_segments(mean[None], [0, 1], prototypes, 2)
        weights.append(chosen.weights[0])
        while stream.n_events < n_events:
            stream.append(chosen.expert_ids[0])

    weights = []
    for n in range(50):
        if sessions.append(times[n], values[n]) and n > 0:
            send(sessions.ended_mean, n)
    send(sessions.mean, 50)
    np.testing.assert_array_equal(np.array(weights), route.weights)
    for a, b in zip(stream.dispatch(), whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_arrays():
    values, cuts, prototypes = (t.numpy() for t in problem([4, 3, 5]))
    with pytest.raises(ValueError, match="route_segments: k is 6; expected 1 to 5"):
        sf.route_segments(values, cuts, prototypes, 6)
    with pytest.raises(TypeError, match="prototypes is float32; expected float64"):
        sf.route_segments(values, cuts, prototypes.astype(np.float32), 2)
    with pytest.raises(TypeError, match="values is int64; expected float32 or float64"):
        sf.route_segments(values.astype(int), cuts, prototypes, 2)
    with pytest.raises(TypeError, match="mask is int64; expected bool"):
        sf.route_segments(values, cuts, prototypes, 2, mask=np.ones(5, int))
    with pytest.raises(ValueError, match="segment_offsets has no entries"):
        sf.route_segments(values, cuts[:0], prototypes, 2)
    with pytest.raises(ValueError, match=r"prototypes has shape \(5, 8\); expected \(M, 9\)"):
        sf.route_segments(values, cuts, prototypes[:, 1:], 2)
    with pytest.raises(ValueError, match=r"values has shape \(9,\); expected \(N, D\)"):
        sf.route_segments(values[0], cuts, prototypes, 2)
