"""Losses, gates and the operators of experts under torch.func and forward-mode differentiation."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

import seqrec_fast as sf
from seqrec_fast.nn import functional as SF
from transform_checks import check_gradients, check_jacobian

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(6, 4, generator=GENERATOR)
ITEMS = torch.randn(20, 4, generator=GENERATOR)
INDEX = sf.ItemIndex(ITEMS.numpy())
GATES = torch.randn(5, 3, 2, generator=GENERATOR)
TARGET = torch.tensor([1, 0, 7, 19, 7, 3])
NEGATIVES = torch.tensor([2, 5, 7, 11, 0])
OFFSETS = torch.tensor([0, 2, 2, 5, 6])
EXPERT_IDS = torch.tensor([[0], [2], [0], [1], [2], [0]])
_, PLAN = SF.dispatch_by_expert(X, OFFSETS, EXPERT_IDS, 3)
SAMPLED = ("sampled_softmax_loss", "bpr_max_loss", "top1_max_loss", "gbce_loss")


def sampled(name, reduction):
    return lambda x: getattr(SF, name)(x, ITEMS, TARGET, NEGATIVES, reduction=reduction)


CASES = {
    "linear_cross_entropy": lambda x: SF.linear_cross_entropy(x, ITEMS, TARGET),
    "linear_cross_entropy, weight": lambda x: SF.linear_cross_entropy(
        ITEMS[:3], x, TARGET[:3] % 6, reduction="none"
    ),
    **{f"{name}, {how}": sampled(name, how) for name in SAMPLED for how in ("none", "sum", "mean")},
    "sampled_softmax_loss, weight": lambda x: SF.sampled_softmax_loss(
        ITEMS[:3], x, TARGET[:3] % 6, NEGATIVES % 6
    ),
    "expert_gate": lambda x: SF.expert_gate(x, 2)[0],
    "segment_mean": lambda x: SF.segment_mean(x, OFFSETS),
    "expand_segments": lambda x: SF.expand_segments(x[:4], OFFSETS, 6),
    "dispatch_by_expert": lambda x: SF.dispatch_by_expert(x, OFFSETS, EXPERT_IDS, 3)[0],
    "combine_by_expert": lambda x: SF.combine_by_expert(x, PLAN, x[:, :1].contiguous()),
    "grouped_linear": lambda x: SF.grouped_linear(
        x, ITEMS[:12].reshape(3, 4, 4), None, torch.tensor([0, 2, 5, 6])
    ),
    "multi_gate_mixture": lambda x: SF.multi_gate_mixture(x.reshape(2, 3, 4), GATES),
    "route_segments": lambda x: SF.route_segments(x, OFFSETS, ITEMS[:5], 2).weights,
    "topk": lambda x: SF.topk(x, ITEMS, 3)[0],
    "topk of an index": lambda x: SF.topk(x, INDEX, 3)[0],
}  # fmt: skip
# Their gradients sum equal ids, whose number depends on values, which vmap does not allow.
SUMS_IDS = {"sampled_softmax_loss, weight"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_reverse_mode(name):
    check_gradients(CASES[name], X)
    if name not in SUMS_IDS:
        check_jacobian(CASES[name], X)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_vmap(name):
    function = CASES[name]
    x = torch.stack([X, -X, 2 * X])
    found = torch.func.vmap(function)(x)
    torch.testing.assert_close(found, torch.stack([function(one) for one in x]))


@pytest.mark.parametrize("name", [name for name in CASES if name not in SUMS_IDS])
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_gradients_of_every_sample(name):
    def gradient(x):
        return torch.func.grad(lambda x: CASES[name](x).square().sum())(x)

    x = torch.stack([X, -X, 2 * X])
    expected = torch.stack([gradient(one) for one in x])
    torch.testing.assert_close(torch.func.vmap(gradient)(x), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own decompositions
@pytest.mark.parametrize("name", CASES)
def test_forward_mode_is_refused(name):
    function, message = CASES[name], "has no forward-mode derivative .* expected reverse mode"
    with pytest.raises(NotImplementedError, match=message):
        torch.func.jvp(function, (X,), (X,))
    with forward_ad.dual_level():
        with pytest.raises(NotImplementedError, match=message):
            function(forward_ad.make_dual(X, X))
        torch.testing.assert_close(function(X), CASES[name](X))
