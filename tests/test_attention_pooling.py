"""Attention over ragged histories against its definition, history by history."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from seqrec_fast.nn import AttentionPooling, BilinearAttention, Dice
from seqrec_fast.nn.functional import segment_softmax, segment_sum

OFFSETS = torch.tensor([0, 3, 3, 4, 9])
DTYPES = (torch.float32, torch.float64)


def inputs(dtype, width=5, keys=5):
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(4, width, generator=generator, dtype=dtype)
    return query, torch.randn(9, keys, generator=generator, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ["relu", "prelu", "sigmoid", "dice"])
def test_pooling_is_din_of_each_history(dtype, softmax, activation) -> None:
    torch.manual_seed(0)
    pool = AttentionPooling(5, (4, 3), activation=activation, softmax=softmax).to(dtype).eval()
    query, keys = inputs(dtype)
    found = pool(query, keys, OFFSETS)
    for b, (begin, end) in enumerate(pairwise(OFFSETS.tolist())):
        e = keys[begin:end]
        q = query[b].expand_as(e)
        weights = pool.mlp(torch.cat([q, e, q - e, q * e], 1))
        weights = weights.softmax(0) if softmax else weights
        torch.testing.assert_close(found[b], (weights[:, None] * e).sum(0))
    assert not found[1].any()


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", "prelu", "dice"])
def test_gradients_of_the_pooling(softmax, activation) -> None:
    torch.manual_seed(0)
    pool = AttentionPooling(3, (4,), activation=activation, softmax=softmax).double().eval()
    query, keys = (t.requires_grad_() for t in inputs(torch.float64, 3, 3))
    names, parameters = zip(*pool.named_parameters(), strict=True)

    def run(query, keys, *values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(pool, given, (query, keys, OFFSETS))

    assert torch.autograd.gradcheck(run, (query, keys, *parameters))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bilinear_attention(dtype) -> None:
    torch.manual_seed(0)
    attention = BilinearAttention(4, 5).to(dtype)
    query, keys = inputs(dtype, 5, 4)
    found = attention(query, keys, OFFSETS)
    for b, (begin, end) in enumerate(pairwise(OFFSETS.tolist())):
        expected = (keys[begin:end] @ attention.weight @ query[b]).softmax(0)
        torch.testing.assert_close(found[begin:end], expected)


def test_gradients_of_the_bilinear_attention() -> None:
    query, keys = (t.requires_grad_() for t in inputs(torch.float64, 5, 4))
    attention = BilinearAttention(4, 5).double()
    assert torch.autograd.gradcheck(lambda q, k: attention(q, k, OFFSETS), (query, keys))


@pytest.mark.parametrize("dtype", DTYPES)
def test_segments(dtype) -> None:
    values = inputs(dtype)[1].requires_grad_()
    sums = segment_sum(values, OFFSETS)
    shares = segment_softmax(values[:, 0] * 100, OFFSETS)
    for s, (begin, end) in enumerate(pairwise(OFFSETS.tolist())):
        torch.testing.assert_close(sums[s], values[begin:end].sum(0))
        torch.testing.assert_close(shares[begin:end], (values[begin:end, 0] * 100).softmax(0))
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(lambda v: segment_sum(v, OFFSETS), values)
        assert torch.autograd.gradcheck(lambda v: segment_softmax(v[:, 0], OFFSETS), values)


def test_softmax_of_large_scores_and_of_none() -> None:
    scores = torch.tensor([1e30, 1e30, -1e30, 3.0])
    expected = torch.tensor([0.5, 0.5, 0.0, 1.0])
    assert torch.equal(segment_softmax(scores, torch.tensor([0, 3, 4])), expected)
    empty = torch.tensor([0, 0, 0])
    assert len(segment_softmax(scores[:0], empty)) == 0
    pool = AttentionPooling(5)
    assert torch.equal(pool(torch.ones(2, 5), torch.ones(0, 5), empty), torch.zeros(2, 5))
    assert pool(torch.ones(0, 5), torch.ones(0, 5), empty[:1]).shape == (0, 5)


def test_dice_is_its_definition() -> None:
    torch.manual_seed(0)
    dice, x = Dice(3).double(), torch.randn(20, 3, dtype=torch.float64)
    dice.alpha.data = torch.tensor([0.1, -0.3, 0.5], dtype=torch.float64)
    for own in (True, False):
        dice.train(own)
        mean, var = (x.mean(0), x.var(0, correction=0)) if own else (dice.running_mean, None)
        var = dice.running_var if var is None else var
        p = torch.sigmoid((x - mean) / torch.sqrt(var + 1e-8))
        torch.testing.assert_close(dice(x), p * x + (1 - p) * dice.alpha * x)
    dice.train()
    before = dice.running_mean.clone()
    for rows in (0, 1):  # too few for statistics of their own
        assert dice(x[:rows]).shape == (rows, 3)
    assert torch.equal(dice.running_mean, before)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (torch.tensor([0, 3, 3, 4, 8]), "offsets ends at 8; expected 9"),
        (torch.tensor([1, 3, 3, 4, 9]), r"offsets\[0\] is 1; expected 0"),
        (torch.tensor([0, 5, 3, 4, 9]), "offsets decreases from 5 to 3 at index 2"),
        (torch.tensor([0.0, 3, 3, 4, 9]), "offsets is torch.float32"),
        (torch.zeros(0, dtype=torch.int64), r"offsets has shape \(0,\)"),
    ],
)
def test_bad_offsets(offsets, message) -> None:
    query, keys = inputs(torch.float32)
    with pytest.raises((TypeError, ValueError), match="segment_sum: " + message):
        segment_sum(keys, offsets)
    with pytest.raises((TypeError, ValueError), match="segment_softmax: " + message):
        segment_softmax(keys[:, 0], offsets)
    with pytest.raises((TypeError, ValueError), match="AttentionPooling: "):
        AttentionPooling(5)(query, keys, offsets)


def test_other_errors() -> None:
    query, keys = inputs(torch.float32)
    with pytest.raises(ValueError, match=r"query has shape \(3, 5\); expected \(4, 5\)"):
        AttentionPooling(5)(query[:3], keys, OFFSETS)
    with pytest.raises(ValueError, match=r"keys has shape \(9, 4\); expected \(N, 5\)"):
        AttentionPooling(5)(query, keys[:, :4], OFFSETS)
    with pytest.raises(ValueError, match=r"BilinearAttention: keys has shape"):
        BilinearAttention(4, 5)(query, keys, OFFSETS)
    with pytest.raises(ValueError, match=r"scores has shape \(9, 5\)"):
        segment_softmax(keys, OFFSETS)
    with pytest.raises(ValueError, match=r"hidden_sizes is \(\); expected at least one"):
        AttentionPooling(5, ())
    with pytest.raises(ValueError, match="activation is 'tanh'; expected one of relu"):
        AttentionPooling(5, activation="tanh")


@pytest.mark.parametrize("softmax", [False, True])
def test_the_pooling_compiles_without_a_break(softmax) -> None:
    torch._dynamo.reset()
    pool = AttentionPooling(5, (4,), softmax=softmax)
    query, keys = inputs(torch.float32)
    found = torch.compile(pool, fullgraph=True, backend="aot_eager")(query, keys, OFFSETS)
    torch.testing.assert_close(found, pool(query, keys, OFFSETS))
