"""Top-k of tensors: values, gradients, and what PyTorch asks of an operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.nn import functional


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(7, 12, generator=generator)
    items = torch.randn(300, 12, generator=generator)
    return queries, items, torch.randn(300, generator=generator)


EXCLUDE = (torch.tensor([5, 0, 299]), torch.tensor([0, 1, 1, 1, 3, 3, 3, 3]))


def by_torch(queries, items, ids, bias=None):
    """Scores of the items that were found, which torch differentiates."""
    scores = (queries[:, None] * items[ids]).sum(-1)
    return scores if bias is None else scores + bias[ids]


def test_equals_the_call_on_arrays(tensors):
    queries, items, bias = tensors
    exclude = tuple(part.numpy() for part in EXCLUDE)
    expected = sf.topk(queries.numpy(), items.numpy(), 9, bias=bias.numpy(), exclude=exclude)
    index = sf.ItemIndex(items.numpy(), bias=bias.numpy(), scan="int8")
    for scores, ids in (
        functional.topk(queries, items, 9, bias=bias, exclude=EXCLUDE),
        functional.topk(queries, index, 9, exclude=EXCLUDE),
    ):
        assert (scores.dtype, ids.dtype) == (torch.float32, torch.int64)
        np.testing.assert_array_equal(scores.numpy(), expected[0])
        np.testing.assert_array_equal(ids.numpy(), expected[1])
    one = functional.topk(queries[2], items, 9, bias=bias)
    assert [tensor.shape for tensor in one] == [(9,), (9,)]
    np.testing.assert_array_equal(one[1].numpy(), expected[1][2])


def test_masks_of_allowed_items(tensors):
    queries, items, _ = tensors
    index = sf.ItemIndex(items.numpy())
    masks = torch.rand(7, 300, generator=torch.Generator().manual_seed(2)) < 0.1
    for allow in (masks, masks[3]):
        expected = sf.topk(queries.numpy(), items.numpy(), 9, allow=allow.numpy())
        for table in (items, index):
            scores, ids = functional.topk(queries, table, 9, allow=allow)
            np.testing.assert_array_equal(scores.numpy(), expected[0])
            np.testing.assert_array_equal(ids.numpy(), expected[1])
    wanted = queries.clone().requires_grad_()
    functional.topk(wanted, items, 9, allow=masks)[0].sum().backward()
    assert wanted.grad.abs().sum() > 0


def test_views_of_tensors(tensors):
    queries, items, _ = tensors
    expected = functional.topk(queries, items, 5)
    turned = items.t().contiguous().t()
    for a, b in zip(functional.topk(queries.flip(0), turned, 5), expected, strict=True):
        torch.testing.assert_close(a.flip(0), b, rtol=0, atol=0)


@pytest.mark.parametrize("k", [1, 9, 310])
def test_gradients_are_those_of_the_chosen_items(tensors, k):
    ours = [tensor.clone().requires_grad_() for tensor in tensors]
    theirs = [tensor.clone().requires_grad_() for tensor in tensors]
    scores, ids = functional.topk(ours[0], ours[1], k, bias=ours[2], exclude=EXCLUDE)
    weight = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    left = ids >= 0
    scores[left].mul(weight[left]).sum().backward()
    expected = by_torch(theirs[0], theirs[1], ids.clamp(min=0), theirs[2])
    torch.testing.assert_close(scores[left], expected[left])
    expected[left].mul(weight[left]).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)
    assert not ids.requires_grad


def test_gradient_through_an_index_and_of_one_query(tensors):
    queries, items, _ = tensors
    index = sf.ItemIndex(items.numpy(), precision="bfloat16")
    stored = torch.from_numpy(index.rows(np.arange(300)))
    ours, theirs = (queries.clone().requires_grad_() for _ in range(2))
    scores, ids = functional.topk(ours, index, 4)
    scores.square().sum().backward()
    by_torch(theirs, stored, ids).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    one = queries[1].clone().requires_grad_()
    functional.topk(one, index, 4)[0].square().sum().backward()
    torch.testing.assert_close(one.grad, ours.grad[1])


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 2)])
def test_only_needed_gradients(tensors, needed):
    arguments = [t.clone().requires_grad_(i in needed) for i, t in enumerate(tensors)]
    functional.topk(arguments[0], arguments[1], 3, bias=arguments[2])[0].sum().backward()
    assert [i for i, tensor in enumerate(arguments) if tensor.grad is not None] == list(needed)


def test_no_items():
    queries = torch.ones(2, 3, requires_grad=True)
    empty = torch.empty(0, 3, requires_grad=True)
    for items in (empty, sf.ItemIndex(np.empty((0, 3), np.float32))):
        scores, ids = functional.topk(queries, items, 2)
        assert (ids == -1).all()
        scores.sum().backward()
    assert (queries.grad == 0).all()
    assert empty.grad.shape == (0, 3)


def test_compiles_into_one_graph(tensors):
    arguments = [tensor.clone().requires_grad_() for tensor in tensors]
    index = sf.ItemIndex(tensors[1].numpy())

    def loss(queries, items, bias):
        scores, ids = functional.topk(queries * 2, items, 5, bias=bias, exclude=EXCLUDE)
        others = functional.topk(queries, index, 5)[0]
        return (scores.exp() * (ids % 3)).sum() + others.square().sum()

    expected = loss(*arguments)
    expected_grads = torch.autograd.grad(expected, arguments)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = compiled(*arguments)
    torch.testing.assert_close(got, expected)
    grads = torch.autograd.grad(got, arguments)
    for a, b in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("with_bias", [False, True])
def test_what_pytorch_asks_of_an_operator(tensors, with_bias):
    queries, items, bias = (tensor.clone().requires_grad_() for tensor in tensors)
    own = bias if with_bias else None
    torch.library.opcheck(torch.ops.seqrec_fast.topk, (queries, items, 5, own, *EXCLUDE))
    index = sf.ItemIndex(tensors[1].numpy())
    torch.library.opcheck(torch.ops.seqrec_fast.index_topk, (queries, index.number, 5, None, None))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(tensors, dtype):
    halves = [tensor.to(dtype).requires_grad_() for tensor in tensors]
    singles = [tensor.detach().float().requires_grad_() for tensor in halves]
    found, expected = (functional.topk(q, items, 5, bias=b) for q, items, b in (halves, singles))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    grads = [torch.autograd.grad(f[0].sum(), x) for f, x in ((found, halves), (expected, singles))]
    for ours, theirs in zip(*grads, strict=True):
        assert torch.equal(ours, theirs.to(dtype))
    index = sf.ItemIndex(singles[1].detach().numpy())
    assert torch.equal(
        functional.topk(halves[0], index, 5)[0], functional.topk(singles[0], index, 5)[0]
    )


def test_other_dtypes_are_named(tensors):
    queries, items, bias = tensors
    index = sf.ItemIndex(items.numpy())
    for arguments, options, argument in (
        ((queries.double(), items), {}, "queries"), ((queries.double(), index), {}, "queries"),
        ((queries, items.double()), {}, "items"), ((queries, items), {"bias": bias.long()}, "bias"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=rf"topk: {argument} is torch.\w+; expected float32"):
            functional.topk(*arguments, 5, **options)


def test_the_number_of_an_index_dies_with_it(tensors):
    queries, items, _ = tensors
    index = sf.ItemIndex(items.numpy())
    number = index.number
    assert number != sf.ItemIndex(items.numpy()).number
    del index
    with pytest.raises(ValueError, match="does not exist any more"):
        torch.ops.seqrec_fast.index_topk(queries, number, 3, None, None)


def test_an_index_lives_until_its_backward(tensors):
    queries = tensors[0].clone().requires_grad_()
    scores, _ = functional.topk(queries, sf.ItemIndex(tensors[1].numpy()), 3)
    scores.sum().backward()
    assert queries.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda q, i, b: functional.topk(q.double(), i, 3), TypeError, "queries is torch.float64"),
        (lambda q, i, b: functional.topk(q, i.double(), 3), TypeError, "items is torch.float64"),
        (lambda q, i, b: functional.topk(q, i[:, :3], 3), ValueError, r"queries has shape \(7, 12"),
        (lambda q, i, b: functional.topk(q, i, 0), ValueError, "topk: k is 0"),
        (
            lambda q, i, b: functional.topk(q, i, 3, bias=b[1:]),
            ValueError,
            r"bias has shape \(299,",
        ),
        (
            lambda q, i, b: functional.topk(q, sf.ItemIndex(i.numpy()), 3, bias=b),
            ValueError,
            "bias is given; an ItemIndex has its own",
        ),
    ],
)
def test_bad_arguments(tensors, call, error, message):
    with pytest.raises(error, match=message):
        call(*tensors)
