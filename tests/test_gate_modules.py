"""ExpertGate, its losses and diagnostics, expert choice and DSelect-k."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast import _core, reference
from seqrec_fast.nn import DSelectK, ExpertGate
from seqrec_fast.nn import functional as SF


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_linear_gate_learns_which_expert_fits():
    torch.manual_seed(0)
    gate = ExpertGate(4, 4, 2)
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.05)
    x = torch.eye(4).repeat(8, 1)
    wanted = torch.arange(4).repeat(8)
    for _ in range(150):
        weights, ids = gate(x)
        loss = -(weights * (ids == wanted[:, None])).sum(1).mean()
        loss += torch.nn.functional.cross_entropy(gate.logits(x), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights, ids = gate(x)
    assert torch.equal(ids[:, 0], wanted)
    assert (weights[:, 0] > 0.9).all()


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_gate_is_its_logits_and_the_function(kind):
    torch.manual_seed(0)
    gate = ExpertGate(6, 9, 3, kind=kind, score="sigmoid", selection_bias=True, dtype=torch.float64)
    x = normal(20, 6)
    mask = torch.ones(9, dtype=torch.bool)
    mask[4] = False
    weights, ids, logits = gate.route(x, mask)
    if kind == "linear":
        wanted = x @ gate.weight.T
    else:
        cosine = torch.nn.functional.cosine_similarity(x[:, None], gate.weight[None], dim=-1)
        wanted = 2 * cosine  # the temperature is 0.5 at first
    torch.testing.assert_close(logits, wanted)
    expected = SF.expert_gate(logits, 3, score="sigmoid", mask=mask)
    assert torch.equal(weights, expected[0])
    assert torch.equal(ids, expected[1])
    assert not (ids == 4).any()
    assert torch.autograd.gradcheck(lambda x: gate(x, mask)[0], (x.requires_grad_(),))
    weights.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in gate.parameters())


def test_gate_computes_in_float32_under_autocast():
    gate = ExpertGate(5, 8, 2)
    x = torch.randn(12, 5)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gate.route(x)
    assert inside.logits.dtype == torch.float32
    assert torch.equal(inside.weights, gate(x)[0])


def test_copies_and_state():
    gate = ExpertGate(3, 4, 2, bias=True, selection_bias=True, noise="normal", learned_noise=True)
    names = {"weight", "bias", "weight_noise", "selection_bias", "noise_step"}
    assert set(gate.state_dict()) == names
    gate(torch.randn(5, 3))
    other = copy.deepcopy(gate)
    x = torch.randn(7, 3)
    assert all(torch.equal(a, b) for a, b in zip(gate(x), other(x), strict=True))
    assert int(gate.noise_step) == 2
    assert "k=2" in repr(gate)


def uniform(words):
    return ((words >> 9) + 0.5) / 2**23


def test_noise_is_by_counter(target):
    """Against the generator's definition: any number of rows and threads, every expert."""
    values = np.empty((70, 100), np.float32)
    seed, step = 2**40 + 3, 5
    _core.gate_noise("gumbel", seed, step, values)
    for row, e in ((0, 0), (3, 63), (69, 64), (12, 99)):
        counter = np.array([e // 64 * 16 + e % 16, row, step, 0], np.uint32)
        word = reference.philox4x32(seed, counter)[e % 64 // 16]
        np.testing.assert_allclose(values[row, e], -np.log(-np.log(uniform(word))), rtol=2e-5)
    _core.gate_noise("normal", seed, step, values)
    counters = np.array([[i % 16, 7, step, 0] for i in range(64)], np.uint32)
    words = reference.philox4x32(seed, counters)[np.arange(64), np.arange(64) // 16]
    u = uniform(words)
    radius = np.sqrt(-2 * np.log(u[:32]))
    wanted = radius * np.cos(2 * np.pi * u[32:]), radius * np.sin(2 * np.pi * u[32:])
    np.testing.assert_allclose(values[7, :64], np.concatenate(wanted), rtol=1e-4, atol=1e-5)
    sf.set_num_threads(3)
    fewer = np.empty((9, 100), np.float32)
    _core.gate_noise("normal", seed, step, fewer)
    assert np.array_equal(fewer, values[:9])


def test_noise_has_its_distribution():
    values = np.empty((1000, 77), np.float32)
    _core.gate_noise("normal", 1, 0, values)
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert abs(np.corrcoef(values[:, 0], values[:, 32])[0, 1]) < 0.1
    _core.gate_noise("gumbel", 1, 0, values)
    assert abs(values.mean() - np.euler_gamma) < 0.03
    assert abs(values.var() - np.pi**2 / 6) < 0.05


def test_noise_is_of_training_alone():
    gate = ExpertGate(3, 16, 2, noise="normal", noise_scale=5.0, seed=7)
    x = torch.randn(50, 3)
    first, second = gate(x)[1], gate(x)[1]
    assert not torch.equal(first, second)
    gate.eval()
    assert torch.equal(gate(x)[1], SF.expert_gate(gate.logits(x), 2)[1])
    again = copy.deepcopy(gate).train()
    again.noise_step.zero_()
    assert torch.equal(again(x)[1], first)


def test_load_counts_valid_rows():
    ids = torch.tensor([[0, 1], [1, -1], [2, 1], [0, 2]])
    valid = torch.tensor([True, True, True, False])
    assert SF.expert_load(ids, 4).tolist() == [2, 3, 2, 0]
    assert SF.expert_load(ids, 4, valid=valid).tolist() == [1, 3, 1, 0]
    offsets = torch.tensor([0, 1, 1, 4])
    load = SF.expert_load(ids, 4, valid=valid, offsets=offsets)
    assert load.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 2, 1, 0]]


def test_balance_of_an_even_and_of_a_lopsided_load():
    logits = torch.full((8, 4), -30.0, dtype=torch.float64)
    even = torch.arange(8) % 4
    logits[torch.arange(8), even] = 30.0
    assert SF.load_balancing_loss(logits, even[:, None]) == pytest.approx(1)
    logits[:] = -30.0
    logits[:, 2] = 30.0
    assert SF.load_balancing_loss(logits, torch.full((8, 1), 2)) == pytest.approx(4)


def test_losses_leave_padding_out_and_take_sequences_alone():
    logits = normal(12, 5)
    ids = SF.expert_gate(logits, 2)[1]
    valid = torch.ones(12, dtype=torch.bool)
    valid[[3, 4, 11]] = False
    dirty = torch.where(valid[:, None], logits, torch.nan)
    kept = (logits[valid], ids[valid])
    torch.testing.assert_close(
        SF.load_balancing_loss(dirty, ids, valid=valid), SF.load_balancing_loss(*kept)
    )
    torch.testing.assert_close(
        SF.router_z_loss(dirty, valid=valid), logits[valid].logsumexp(1).square().mean()
    )
    offsets = torch.tensor([0, 5, 5, 12])
    parts = [(logits[a:b][valid[a:b]], ids[a:b][valid[a:b]]) for a, b in ((0, 5), (5, 12))]
    wanted = torch.stack([SF.load_balancing_loss(*part) for part in parts]).mean()
    ours = SF.load_balancing_loss(dirty, ids, valid=valid, offsets=offsets)
    torch.testing.assert_close(ours, wanted)
    nothing = torch.zeros(12, dtype=torch.bool)
    assert SF.load_balancing_loss(logits, ids, valid=nothing) == 0
    assert SF.router_z_loss(logits, valid=nothing) == 0


def test_losses_gradcheck():
    logits = normal(7, 4).requires_grad_()
    ids = SF.expert_gate(logits.detach(), 2)[1]
    valid = torch.tensor([True] * 5 + [False] * 2)
    offsets = torch.tensor([0, 3, 7])
    for loss in (
        lambda x: SF.load_balancing_loss(x, ids, valid=valid, offsets=offsets),
        lambda x: SF.router_z_loss(x, valid=valid),
        lambda x: SF.importance_loss(*SF.expert_gate(x, 2), 4, valid=valid),
    ):
        assert torch.autograd.gradcheck(loss, (logits,))
    holed = logits.detach().clone()
    holed[0] = torch.nan
    holed.requires_grad_()
    (SF.load_balancing_loss(holed, ids) + SF.router_z_loss(holed)).backward()
    assert holed.grad.isfinite().all()


def test_importance():
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    ids = torch.tensor([[0, 1], [1, -1]])
    use = np.array([0.5, 1.5])
    wanted = (use.std() / use.mean()) ** 2
    assert SF.importance_loss(weights, ids, 2) == pytest.approx(wanted)


def test_selection_bias_evens_the_load_out():
    torch.manual_seed(0)
    gate = ExpertGate(8, 6, 1, score="sigmoid", selection_bias=True, bias=True)
    with torch.no_grad():
        gate.bias[0] = 3.0
    x = torch.randn(600, 8)
    before = SF.expert_load(gate(x)[1], 6)
    for _ in range(300):
        gate.update_selection_bias(SF.expert_load(gate(x)[1], 6), rate=0.01)
    after = SF.expert_load(gate(x)[1], 6)
    assert before.max() > 400
    assert after.max() < 200
    with pytest.raises(ValueError, match="made without a selection_bias"):
        ExpertGate(8, 6, 1).update_selection_bias(after)


def test_diagnostics():
    logits = torch.zeros(6, 4)
    logits[5] = torch.nan
    ids = torch.tensor([[0], [1], [0], [1], [0], [-1]])
    found = SF.gate_diagnostics(logits, ids, valid=torch.tensor([True] * 4 + [False, True]))
    assert found.load.tolist() == [2, 2, 0, 0]
    assert found.dead.tolist() == [2, 3]
    assert found.entropy == pytest.approx(math.log(4))
    assert found.load_entropy == pytest.approx(math.log(2))


def test_experts_choose():
    logits, offsets = normal(30, 4), torch.tensor([0, 9, 9, 10, 30])
    valid = torch.ones(30, dtype=torch.bool)
    valid[[2, 15]] = False
    logits[20] = torch.nan
    weights, ids = SF.expert_choice(logits, capacity_factor=1.5, offsets=offsets, valid=valid)
    p = torch.softmax(logits, 1)
    for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        capacity = math.ceil(1.5 * int(valid[a:b].sum()) / 4)
        for e in range(4):
            likes = torch.where(valid[a:b] & ~p[a:b, e].isnan(), p[a:b, e], -1)
            wanted = likes.argsort(descending=True, stable=True)[: min(capacity, b - a)]
            wanted = wanted[likes[wanted] >= 0]
            assert (ids[a:b, e] == e).nonzero()[:, 0].tolist() == sorted(wanted.tolist())
    chosen = ids >= 0
    assert torch.equal(weights, torch.where(chosen, p, 0.0))
    assert not chosen[~valid].any()
    assert torch.autograd.gradcheck(
        lambda x: SF.expert_choice(x, capacity_factor=1.5)[0], (normal(8, 3).requires_grad_(),)
    )
    even = SF.expert_choice(torch.zeros(6, 3))[1]
    assert even.tolist() == [[0, 1, 2]] * 2 + [[-1] * 3] * 4


@pytest.mark.parametrize("input_size", [0, 5])
def test_dselect_k(input_size):
    torch.manual_seed(0)
    gate = DSelectK(input_size, 6, 2).double()
    x = normal(9, 5)
    selectors = gate.selectors(x)
    assert selectors.shape == (9, 2, 6)
    assert (selectors.sum(-1) <= 1 + 1e-12).all()
    assert torch.autograd.gradcheck(gate, (x.requires_grad_(),))
    with torch.no_grad():
        gate.weight_code.fill_(0.0)
        gate.weight_code[..., 0] = 40.0
        gate.weight_code[0, 1] *= -1  # the codes 101 and 111
    x = torch.ones(3, 5, dtype=torch.float64)
    selectors = gate.selectors(x)
    if input_size == 0:
        assert selectors[0, 0].tolist() == [0, 0, 0, 0, 0, 1]
        assert (selectors[0, 1] == 0).all()  # 7 is no expert
        assert gate.entropy_loss(x) > 1000
    gate.entropy_loss(x).backward()
    assert gate.weight_code.grad.isfinite().all()


def test_wrong_input():
    ids, logits = torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 4)
    gate = ExpertGate(3, 4, 2)
    for call, error, message in (
        (lambda: ExpertGate(3, 4, 5), ValueError, "ExpertGate: k is 5; expected 1 to 4"),
        (lambda: ExpertGate(3, 4, 2, kind="x"), ValueError, "kind is 'x'; expected one of lin"),
        (lambda: ExpertGate(3, 4, 2, noise="x"), ValueError, "noise is 'x'; expected one of None"),
        (lambda: ExpertGate(3, 4, 2, temperature=0), ValueError, "temperature is 0.0; expected"),
        (lambda: gate(torch.zeros(3, 4)), ValueError, r"x has shape \(3, 4\); expected \(N, 3\)"),
        (lambda: SF.expert_load(ids + 4, 4), ValueError, "expert_ids holds 4; expected -1 to 3"),
        (lambda: SF.expert_load(ids, 4, valid=ids[:, 0]), TypeError, "valid is torch.int64"),
        (lambda: SF.router_z_loss(logits, valid=torch.ones(2).bool()), ValueError, "valid has sh"),
        (
            lambda: SF.load_balancing_loss(logits, ids, offsets=torch.tensor([0, 2])),
            ValueError,
            "offsets ends at 2; expected 3",
        ),
        (lambda: SF.importance_loss(logits, ids, 4), ValueError, "weights has shape"),
        (lambda: SF.update_selection_bias(torch.zeros(4), ids[0]), ValueError, "load has shape"),
        (lambda: SF.expert_choice(logits, capacity_factor=0), ValueError, "capacity_factor is 0.0"),
        (lambda: DSelectK(3, 4, 5), ValueError, "k is 5; expected 1 to 4"),
        (lambda: _core.gate_noise("x", 0, 0, np.zeros((1, 1), np.float32)), ValueError, "noise is"),
    ):
        with pytest.raises(error, match=message):
            call()
