"""The expert gate on tensors: gradients, torch.library, torch.compile."""

from __future__ import annotations

import itertools

import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.nn import functional as SF
from test_gate import OPTIONS


def normal(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradcheck(options):
    mask = torch.rand(6, 7, generator=torch.Generator().manual_seed(1)) < 0.7
    for k, extra in itertools.product((1, 3, 7), ({}, {"mask": mask}, {"mask": mask[0]})):
        assert torch.autograd.gradcheck(
            lambda x, k=k, extra=extra: SF.expert_gate(x, k, scale=1.5, **options, **extra)[0],
            (normal(6, 7),),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("renormalize", [True, False])
def test_equals_softmax_and_topk_of_torch(target, dtype, renormalize):
    for experts, k in ((64, 2), (8, 1), (256, 8), (33, 33)):
        logits = normal(50, experts, dtype=dtype)
        upstream = normal(50, k, dtype=dtype, seed=1).detach()
        weights, ids = SF.expert_gate(logits, k, renormalize=renormalize)
        truth = logits.detach().double().requires_grad_()
        wanted, chosen = torch.topk(torch.softmax(truth, -1), k)
        wanted = wanted / wanted.sum(-1, keepdim=True) if renormalize else wanted
        assert torch.equal(ids, chosen)
        atol = 1e-6 if dtype == torch.float32 else 1e-13
        torch.testing.assert_close(weights.double(), wanted, rtol=atol, atol=atol)
        (ours,) = torch.autograd.grad((weights * upstream).sum(), logits)
        (theirs,) = torch.autograd.grad((wanted * upstream).sum(), truth)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=atol)


def test_gradients_of_rows_without_candidates_are_zero():
    logits = torch.full((20, 5), torch.nan)
    logits[1, 2], logits[2] = 1.0, -torch.inf
    logits[3] = torch.inf
    for options in OPTIONS:
        x = logits.clone().requires_grad_()
        weights, _ = SF.expert_gate(x, 2, **options)
        weights.sum().backward()
        assert weights.isfinite().all()
        assert x.grad.isfinite().all()
        assert not x.grad[x.isnan()].any()


def test_half_precision_is_computed_in_float32():
    logits = normal(30, 9, dtype=torch.float32).detach().bfloat16()
    weights, ids = SF.expert_gate(logits.requires_grad_(), 3)
    wanted, chosen = SF.expert_gate(logits.float(), 3)
    assert weights.dtype == torch.float32
    assert torch.equal(weights, wanted)
    assert torch.equal(ids, chosen)
    weights[:, 0].sum().backward()
    assert logits.grad.dtype == torch.bfloat16


def test_the_same_bits_for_any_number_of_threads():
    results = []
    for threads in (1, 3):
        sf.set_num_threads(threads)
        logits = normal(1000, 40, dtype=torch.float32)
        weights, ids = SF.expert_gate(logits, 3, renormalize=False)
        weights.square().sum().backward()
        results.append((weights, ids, logits.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_strided_and_empty_tensors():
    logits = normal(9, 20)
    for view in (logits.t(), logits[:, ::2], logits[::2]):
        wanted = SF.expert_gate(view.detach().contiguous(), 2)
        ours = SF.expert_gate(view, 2, mask=torch.ones_like(view, dtype=torch.bool).t().t())
        assert all(torch.equal(a, b) for a, b in zip(ours, wanted, strict=True))
    empty = torch.empty(0, 4, requires_grad=True)
    weights, ids = SF.expert_gate(empty, 2)
    assert weights.shape == ids.shape == (0, 2)
    weights.sum().backward()
    assert empty.grad.shape == (0, 4)


def test_opcheck():
    options = (2, "softmax", "score_then_topk", False)
    extra = (torch.randn(7).double(), torch.rand(5, 7) < 0.8, 1.5)
    arguments = (normal(5, 7), *options, *extra)
    torch.library.opcheck(torch.ops.seqrec_fast.expert_gate, arguments)
    weights, ids = torch.ops.seqrec_fast.expert_gate(*arguments)
    torch.library.opcheck(
        torch.ops.seqrec_fast.expert_gate_grad,
        (normal(5, 7).detach(), *options, *extra, weights.detach(), ids, torch.ones_like(weights)),
    )


def test_compile():
    compiled = torch.compile(
        lambda x: SF.expert_gate(2 * x, 2)[0].square().sum(), fullgraph=True, backend="aot_eager"
    )
    a, b = normal(9, 6), normal(9, 6)
    compiled(a).backward()
    SF.expert_gate(2 * b, 2)[0].square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_wrong_input():
    good = torch.zeros(3, 8)
    for arguments, options, error, message in (
        ((good, 9), {}, ValueError, "k is 9; expected 1 to 8"),
        ((good[0], 1), {}, ValueError, r"logits has shape \(8,\)"),
        ((good.long(), 1), {}, TypeError, "logits is torch.int64; expected a floating type"),
        ((good, 1), {"score": "max"}, ValueError, "score is 'max'; expected one of"),
        ((good, 1), {"bias": torch.zeros(7)}, ValueError, r"bias has shape \(7,\)"),
        ((good, 1), {"mask": torch.zeros(8)}, TypeError, "mask is torch.float32; expected bool"),
        ((good, 1), {"mask": torch.zeros(7) > 0}, ValueError, r"mask has shape \(7,\)"),
    ):
        with pytest.raises(error, match="expert_gate: " + message):
            SF.expert_gate(*arguments, **options)
