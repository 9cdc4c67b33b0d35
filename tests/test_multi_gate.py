"""The dense mixture with several gates: values, gradients, hostile logits, wrong input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast import reference_dispatch as reference
from seqrec_fast.nn import functional as SF

# Experts, gates, rows, dim.
SHAPES = [
    (1, 1, 1, 1),
    (4, 2, 33, 7),
    (8, 3, 70, 33),
    (3, 5, 5, 16),
    (17, 9, 40, 64),
    (2, 2, 0, 4),
    (2, 1, 3, 0),
]


def problem(experts, gates, rows, dim, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(experts, rows, dim, generator=generator, dtype=torch.float64)
    logits = 3 * torch.randn(gates, rows, experts, generator=generator, dtype=torch.float64)
    return outputs.to(dtype), logits.to(dtype)


def by_torch(outputs, logits):
    return torch.einsum("gne,end->gnd", logits.softmax(-1), outputs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_and_gradients(target, shape, dtype):
    exact = [t.requires_grad_() for t in problem(*shape)]
    inputs = [t.detach().to(dtype).requires_grad_() for t in exact]
    found, expected = SF.multi_gate_mixture(*inputs), by_torch(*exact)
    truth = reference.multi_gate_mixture(*(t.detach().numpy() for t in exact))
    np.testing.assert_allclose(expected.detach().numpy(), truth, rtol=1e-12, atol=1e-12)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    seed = torch.randn(expected.shape, dtype=torch.float64)
    ours = (found, *torch.autograd.grad(found, inputs, seed.to(dtype)))
    theirs = (expected, *torch.autograd.grad(expected, exact, seed))
    for a, b in zip(ours, theirs, strict=True):
        scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance * scale)


def test_gradcheck_and_operators():
    inputs = [t.requires_grad_() for t in problem(3, 2, 5, 4)]
    assert torch.autograd.gradcheck(SF.multi_gate_mixture, inputs, fast_mode=True)
    torch.library.opcheck(torch.ops.seqrec_fast.multi_gate_mixture, tuple(inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_hostile_logits(target, dtype):
    outputs, logits = problem(4, 2, 6, 5, dtype)
    logits[0, 0] = torch.tensor([-torch.inf, 1e30, -1e30, 1e30])
    logits[0, 1] = -torch.inf
    logits[1, 2, 3] = torch.nan
    logits[1, 3, 1] = torch.inf
    logits[0, 4] = torch.tensor([-torch.inf, -torch.inf, 2.0, -torch.inf])
    logits.requires_grad_()
    found = SF.multi_gate_mixture(outputs, logits)
    torch.testing.assert_close(found[0, 0], (outputs[1, 0] + outputs[3, 0]) / 2)
    torch.testing.assert_close(found[0, 4], outputs[2, 4])
    assert not found[0, 1].any()
    assert found[1, 2].isnan().all()
    assert found[1, 3].isnan().all()
    seed = torch.ones_like(found)
    gradient = torch.autograd.grad(found, logits, seed)[0]
    assert not gradient[0, 1].any()
    assert gradient[1, 2].isnan().all()
    assert torch.isfinite(gradient[0]).all()


def test_bits_do_not_depend_on_threads_or_other_rows():
    outputs, logits = problem(5, 3, 200, 21, torch.float32)
    results = []
    for threads in (1, 3):
        sf.set_num_threads(threads)
        inputs = [t.clone().requires_grad_() for t in (outputs, logits)]
        mixture = SF.multi_gate_mixture(*inputs)
        results.append((mixture, *torch.autograd.grad(mixture.square().sum(), inputs)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    alone = SF.multi_gate_mixture(outputs[:, 77:78], logits[:, 77:78])
    assert torch.equal(alone[:, 0], results[0][0][:, 77])


def test_wrong_input():
    outputs, logits = problem(4, 2, 6, 5)
    with pytest.raises(ValueError, match=r"gate_logits has shape \(2, 5, 4\); expected \(G, 6, 4"):
        SF.multi_gate_mixture(outputs, logits[:, 1:])
    with pytest.raises(ValueError, match=r"gate_logits has shape \(0, 6, 4\)"):
        SF.multi_gate_mixture(outputs, logits[:0])
    with pytest.raises(ValueError, match=r"expert_outputs has shape \(6, 5\); expected \(E, N, D"):
        SF.multi_gate_mixture(outputs[0], logits)
    with pytest.raises(ValueError, match=r"expert_outputs has shape \(0, 6, 5\)"):
        SF.multi_gate_mixture(outputs[:0], logits[..., :0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_expert_left_out_may_hold_anything(target, dtype, value):
    outputs, logits = problem(5, 3, 9, 33, dtype)
    logits[:, :, 2] = -math.inf
    clean = SF.multi_gate_mixture(outputs, logits)
    outputs[2] = value
    outputs.requires_grad_()
    logits.requires_grad_()
    mixture = SF.multi_gate_mixture(outputs, logits)
    torch.testing.assert_close(mixture, clean, rtol=0, atol=0)
    found = torch.autograd.grad(mixture.square().sum(), (outputs, logits))
    assert all(gradient.isfinite().all() for gradient in found)
    assert not found[0][2].any()
    assert not found[1][:, :, 2].any()
