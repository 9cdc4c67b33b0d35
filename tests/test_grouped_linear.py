"""Feed-forward experts as one call: values, gradients, empty groups, wrong input."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from dispatch_cases import offsets_of
from seqrec_fast import reference_dispatch as reference
from seqrec_fast.nn import functional as SF

# Rows of the groups, inputs, outputs.
SHAPES = [
    ([], 3, 4),
    ([0], 3, 4),
    ([1], 1, 1),
    ([5, 0, 97, 1, 0], 7, 33),
    ([200, 3], 130, 65),
    ([1100], 16, 5),
    ([2, 3], 0, 4),
]


def problem(lengths, n_in, n_out, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    offsets = torch.from_numpy(offsets_of(lengths))
    groups, rows = len(lengths), sum(lengths)
    return normal(rows, n_in), normal(groups, n_out, n_in), normal(groups, n_out), offsets


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_its_definition(target, shape, dtype):
    x, weight, bias, offsets = problem(*shape, dtype)
    for given in (bias, None):
        expected = reference.grouped_linear(
            x.numpy(), weight.numpy(), None if given is None else given.numpy(), offsets.tolist()
        )
        tolerance = 3e-5 if dtype == torch.float32 else 1e-12
        found = SF.grouped_linear(x, weight, given, offsets).numpy()
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_equal_a_loop_of_torch(target, shape):
    inputs = [t.requires_grad_() for t in problem(*shape)[:3]]
    offsets = problem(*shape)[3]
    parts = [
        torch.nn.functional.linear(inputs[0][first:last], inputs[1][m], inputs[2][m])
        for m, (first, last) in enumerate(pairwise(offsets))
    ]
    theirs = torch.cat(parts) if parts else inputs[0].new_empty(0, shape[2])
    ours = SF.grouped_linear(*inputs, offsets)
    seed = torch.randn(ours.shape, dtype=torch.float64)
    found = torch.autograd.grad(ours, inputs, seed)
    if parts:
        expected = torch.autograd.grad(theirs, inputs, seed)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for m, rows in enumerate(shape[0]):
        if rows == 0:
            assert not found[1][m].any()
            assert not found[2][m].any()


def test_gradcheck_and_operators():
    x, weight, bias, offsets = problem([3, 0, 2], 4, 3)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(SF.grouped_linear, (*inputs, offsets), fast_mode=True)
    torch.library.opcheck(torch.ops.seqrec_fast.grouped_linear, (*inputs, offsets))
    only = torch.autograd.grad(SF.grouped_linear(*inputs, offsets).sum(), inputs[2])
    torch.testing.assert_close(only[0], offsets.diff()[:, None].expand(3, 3).double())


def test_bits_do_not_depend_on_threads_or_other_rows():
    x, weight, bias, offsets = problem([1000, 70, 300], 40, 33, torch.float32)
    results = []
    for threads in (1, 3):
        sf.set_num_threads(threads)
        inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
        y = SF.grouped_linear(*inputs, offsets)
        results.append((y, *torch.autograd.grad(y.square().sum(), inputs)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    alone = SF.grouped_linear(x[1003:1004], weight[1:2], bias[1:2], torch.tensor([0, 1]))
    assert torch.equal(alone[0], results[0][0][1003])


def test_wrong_input():
    x, weight, bias, offsets = problem([3, 2], 4, 3)
    with pytest.raises(ValueError, match=r"weight has shape \(2, 3, 4\); expected \(M, O, 3\)"):
        SF.grouped_linear(x[:, 1:], weight, bias, offsets)
    with pytest.raises(ValueError, match=r"bias has shape \(1, 3\); expected \(2, 3\)"):
        SF.grouped_linear(x, weight, bias[1:], offsets)
    with pytest.raises(ValueError, match=r"group_offsets has shape \(2,\); expected \(3,\)"):
        SF.grouped_linear(x, weight, bias, offsets[1:])
    with pytest.raises(ValueError, match="group_offsets ends at 5; expected 4"):
        SF.grouped_linear(x[1:], weight, bias, offsets)
    with pytest.raises(ValueError, match=r"group_offsets decreases from 6 to 5 at index 2"):
        SF.grouped_linear(x, weight, bias, torch.tensor([0, 6, 5]))
    with pytest.raises(TypeError, match=r"group_offsets is torch\.int32"):
        SF.grouped_linear(x, weight, bias, offsets.int())
    with pytest.raises(ValueError, match=r"x has shape \(20,\); expected \(N, I\)"):
        SF.grouped_linear(x.reshape(-1), weight, bias, offsets)
