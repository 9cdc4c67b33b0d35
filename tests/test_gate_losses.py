"""Losses and diagnostics of gates: what is not finite, sequences, compiled graphs, wrong input."""

from __future__ import annotations

import math

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from seqrec_fast.nn import functional as SF

INF, NAN = math.inf, math.nan
# Rows as the gate knows them, and the shares that it gives to the experts of each.
ODD = [[-INF] * 3, [NAN] * 3, [INF, 0, 1], [INF, -INF, INF], [NAN, -INF, -INF], [0, -INF, NAN]]
SHARES = [[1 / 3] * 3, [0] * 3, [1, 0, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [1, 0, 0]]


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def odd_rows(dtype):
    """Ordinary rows, then the odd ones."""
    return torch.cat([normal(4, 3), torch.tensor(ODD)]).to(dtype)


def losses(logits, ids, **options):
    weights = SF.expert_gate(logits, ids.shape[1])[0]
    return {
        "balance": SF.load_balancing_loss(logits, ids, **options),
        "z": SF.router_z_loss(logits, **options),
        "importance": SF.importance_loss(weights, ids, logits.shape[1], **options),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shares_are_those_of_the_gate(dtype):
    logits = torch.tensor(ODD, dtype=dtype)
    weights, ids = SF.expert_gate(logits, 3)
    dense = torch.zeros(6, 3, dtype=dtype).scatter_add_(1, ids.clamp(min=0), weights)
    torch.testing.assert_close(dense, torch.tensor(SHARES, dtype=dtype))
    chosen, _ = SF.expert_choice(logits, capacity_factor=3.0)
    torch.testing.assert_close(chosen, dense)
    for row in (0, 2, 3, 4, 5):
        one = logits[row : row + 1]
        wanted = torch.special.entr(dense[row]).sum()
        found = SF.gate_diagnostics(one, ids[row : row + 1])
        torch.testing.assert_close(found.entropy, wanted)
        for expert in range(3):
            loss = SF.load_balancing_loss(one, torch.tensor([[expert]]))
            torch.testing.assert_close(loss, 3 * dense[row, expert])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_are_not_finite(dtype):
    logits = odd_rows(dtype).requires_grad_()
    ids = SF.expert_gate(logits.detach(), 2)[1]
    found = losses(logits, ids)
    assert found["balance"].isfinite()
    assert found["importance"].isfinite()
    assert found["z"] == INF
    for name, loss in found.items():
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert gradient.isfinite().all(), name
        assert gradient[:4].any(), name
    diagnostics = SF.gate_diagnostics(logits, ids)
    assert all(field.isfinite().all() for field in diagnostics)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_do_not_count_change_nothing(dtype):
    logits = odd_rows(dtype).requires_grad_()
    ids = SF.expert_gate(logits.detach(), 2)[1]
    valid = torch.arange(10) < 4
    found, kept = losses(logits, ids, valid=valid), losses(logits[:4], ids[:4])
    for name, loss in found.items():
        torch.testing.assert_close(loss, kept[name])
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        torch.testing.assert_close(gradient, torch.autograd.grad(kept[name], logits)[0])
        assert not gradient[4:].any(), name
    ours = SF.gate_diagnostics(logits, ids, valid=valid)
    for a, b in zip(ours, SF.gate_diagnostics(logits[:4], ids[:4]), strict=True):
        torch.testing.assert_close(a, b)


def test_z_loss_of_infinities():
    logits = torch.tensor([[1.0, 2.0], [-INF, -INF], [-INF, 3.0]], requires_grad=True)
    loss = SF.router_z_loss(logits)
    wanted = (math.log(math.e + math.e**2) ** 2 + 0 + 9) / 3
    torch.testing.assert_close(loss, torch.tensor(wanted))
    loss.backward()
    assert logits.grad[1].tolist() == [0, 0]
    torch.testing.assert_close(logits.grad[2], torch.tensor([0.0, 2 * 3 / 3]))
    with_inf = torch.tensor([[1.0, 2.0], [INF, 0.0]], requires_grad=True)
    SF.router_z_loss(with_inf).backward()
    assert with_inf.grad[1].tolist() == [0, 0]
    assert with_inf.grad[0].all()


def test_expert_choice_with_rows_that_are_not_finite():
    logits = torch.cat([torch.tensor(ODD).double(), normal(4, 3)]).requires_grad_()
    weights, ids = SF.expert_choice(logits, capacity_factor=0.6)  # 2 events for each of 3 experts
    assert (ids >= 0).sum(0).tolist() == [2, 2, 2]
    assert ids[:, 0].tolist() == [-1, -1, 0, -1, -1, 0, -1, -1, -1, -1]
    (gradient,) = torch.autograd.grad(weights.square().sum(), logits)
    assert gradient.isfinite().all()
    valid = torch.arange(10) >= 6
    weights, ids = SF.expert_choice(logits, valid=valid)
    assert not weights[:6].any()
    assert torch.equal(weights[6:], SF.expert_choice(logits[6:])[0])
    (gradient,) = torch.autograd.grad(weights.square().sum(), logits)
    assert not gradient[:6].any()
    assert gradient[6:].any()


def test_expert_choice_of_nothing():
    for offsets in ([0], [0, 0, 0]):
        found = SF.expert_choice(torch.zeros(0, 3), offsets=torch.tensor(offsets))
        assert [t.shape for t in found] == [(0, 3), (0, 3)]


def test_sequences_are_taken_alone():
    logits = normal(12, 5)
    logits[7:9] = NAN
    weights, ids = SF.expert_gate(logits, 2)
    valid = torch.ones(12, dtype=torch.bool)
    valid[[3, 11]] = False
    offsets = torch.tensor([0, 5, 5, 7, 9, 12])  # one sequence is empty, one of NaN alone
    parts = [slice(0, 5), slice(5, 7), slice(9, 12)]
    for of_part, whole in (
        (lambda p: SF.router_z_loss(logits[p], valid=valid[p]),
         SF.router_z_loss(logits, valid=valid, offsets=offsets)),
        (lambda p: SF.importance_loss(weights[p], ids[p], 5, valid=valid[p]),
         SF.importance_loss(weights, ids, 5, valid=valid, offsets=offsets)),
        (lambda p: SF.load_balancing_loss(logits[p], ids[p], valid=valid[p]),
         SF.load_balancing_loss(logits, ids, valid=valid, offsets=offsets)),
    ):  # fmt: skip
        torch.testing.assert_close(whole, torch.stack([of_part(p) for p in parts]).mean())
    found = SF.gate_diagnostics(logits, ids, valid=valid, offsets=offsets)
    for sequence, part in zip((0, 2, 4), parts, strict=True):
        alone = SF.gate_diagnostics(logits[part], ids[part], valid=valid[part])
        for ours, theirs in zip(found[:3], alone[:3], strict=True):
            torch.testing.assert_close(ours[sequence], theirs)
    assert found.load.shape == (5, 5)
    assert not any(field[[1, 3]].any() for field in found[:3])
    assert torch.equal(found.dead, SF.gate_diagnostics(logits, ids, valid=valid).dead)
    for loss in (
        lambda x: SF.router_z_loss(x, valid=valid[:7], offsets=offsets[:4]),
        lambda x: SF.importance_loss(x[:, :2], ids[:7], 5, valid=valid[:7], offsets=offsets[:4]),
    ):
        assert torch.autograd.gradcheck(loss, (logits[:7].clone().requires_grad_(),))


def test_no_sequences():
    logits, ids, none = torch.zeros(0, 3), torch.zeros(0, 2, dtype=torch.int64), torch.tensor([0])
    assert SF.load_balancing_loss(logits, ids, offsets=none) == 0
    assert SF.router_z_loss(logits, offsets=none) == 0
    assert SF.importance_loss(logits[:, :2], ids, 3, offsets=none) == 0
    assert SF.gate_diagnostics(logits, ids, offsets=none).entropy.shape == (0,)


def test_many_rows_in_bfloat16():
    """Counts and sums are of float32."""
    logits = normal(5000, 4).bfloat16()
    weights, ids = SF.expert_gate(logits, 2)
    wide = logits.float()
    assert SF.load_balancing_loss(logits, ids) == SF.load_balancing_loss(wide, ids)
    assert SF.router_z_loss(logits) == SF.router_z_loss(wide)
    narrow = weights.bfloat16()
    assert SF.importance_loss(narrow, ids, 4) == SF.importance_loss(narrow.float(), ids, 4)


def test_sizes_stay_open_in_a_graph():
    """The checks fix no number of rows, nor does a float option break the graph."""
    graphs = CompileCounter()

    def function(values, offsets, prototypes):
        n = values.shape[0]
        means = SF.expand_segments(SF.segment_mean(values, offsets), offsets, n)
        route = SF.route_segments(values, offsets, prototypes, 2)
        return SF.expert_gate(means, 2)[0].sum() + route.weights.sum()

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=graphs, dynamic=True)
    for rows in (5, 9, 13):
        compiled(normal(rows, 3), torch.tensor([0, 2, rows]), normal(4, 3))
    assert graphs.frame_count == 1


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_a_break(dynamic):
    def function(logits, ids, valid, offsets):
        options = {"valid": valid, "offsets": offsets}
        return (
            SF.load_balancing_loss(logits, ids, **options),
            SF.router_z_loss(logits, **options),
            SF.importance_loss(logits[:, :2], ids, 5, **options),
            SF.expert_load(ids, 5, **options),
            SF.expert_choice(logits, **options)[0],
            *SF.gate_diagnostics(logits, ids, **options),
        )

    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
        for rows in (12, 14):
            logits = normal(rows, 5)
            ids = SF.expert_gate(logits, 2)[1]
            valid = torch.arange(rows) != 4
            arguments = (logits, ids, valid, torch.tensor([0, 3, 3, rows]))
            for ours, theirs in zip(compiled(*arguments), function(*arguments), strict=True):
                torch.testing.assert_close(ours, theirs)


def test_losses_compile_as_they_are():
    """No setting is needed but for what has as many entries as the values say."""
    torch._dynamo.reset()
    logits, ids = normal(6, 4), torch.tensor([[0, 1]] * 6)
    found = torch.compile(
        lambda x: (SF.load_balancing_loss(x, ids), SF.expert_load(ids, 4), SF.router_z_loss(x)),
        fullgraph=True,
        backend="aot_eager",
    )(logits)
    torch.testing.assert_close(found[0], SF.load_balancing_loss(logits, ids))
    assert found[1].tolist() == [6, 6, 0, 0]


def test_shapes_and_ids_that_do_not_fit():
    logits, ids = torch.zeros(6, 4), torch.zeros(6, 2, dtype=torch.int64)
    cut = torch.tensor([0, 7])
    for call, message in (
        (lambda: SF.load_balancing_loss(logits, ids[:3]),
         r"load_balancing_loss: expert_ids has shape \(3, 2\); expected \(6, k\)"),
        (lambda: SF.load_balancing_loss(logits, ids + 4),
         "load_balancing_loss: expert_ids holds 4; expected -1 to 3"),
        (lambda: SF.load_balancing_loss(logits[0], ids),
         r"load_balancing_loss: logits has shape \(4,\); expected \(N, E\)"),
        (lambda: SF.load_balancing_loss(logits, ids, offsets=cut),
         "load_balancing_loss: offsets ends at 7; expected 6"),
        (lambda: SF.gate_diagnostics(logits, ids[:3]),
         r"gate_diagnostics: expert_ids has shape \(3, 2\)"),
        (lambda: SF.gate_diagnostics(logits, ids, valid=torch.ones(5) > 0),
         r"gate_diagnostics: valid has shape \(5,\); expected \(6,\)"),
        (lambda: SF.router_z_loss(logits[None]),
         r"router_z_loss: logits has shape \(1, 6, 4\); expected \(N, E\)"),
        (lambda: SF.router_z_loss(logits, offsets=cut), "router_z_loss: offsets ends at 7"),
        (lambda: SF.importance_loss(logits[:, :2], ids - 7, 4),
         "importance_loss: expert_ids holds -7; expected -1 to 3"),
        (lambda: SF.importance_loss(logits[:, :2], ids + 9, 4),
         "importance_loss: expert_ids holds 9; expected -1 to 3"),
        (lambda: SF.expert_load(ids[0], 4), r"expert_load: expert_ids has shape \(2,\)"),
        (lambda: SF.expert_load(ids, 4, offsets=torch.tensor([0, 4, 3, 6])),
         "expert_load: offsets decreases from 4 to 3 at index 2"),
        (lambda: SF.expert_choice(logits, valid=torch.ones(5) > 0), "expert_choice: valid has sh"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
