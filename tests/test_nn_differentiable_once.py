"""Gradients of gradients: right, or refused; never 0 or a part."""

from __future__ import annotations

import pytest
import torch

from dispatch_cases import offsets_of
from seqrec_fast import nn
from seqrec_fast.nn import functional as SF
from test_dispatch_nn import problem as dispatch_problem
from test_grouped_linear import problem as linear_problem

OFFSETS, ITEMS = torch.tensor([0, 3, 4]), 9


def normal(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def loss_of(function, **options):
    def call(hidden, weight):
        target, negatives = torch.tensor([1, 2, 3, 1]), torch.tensor([4, 5, 1])
        arguments = (target,) if function is SF.linear_cross_entropy else (target, negatives)
        return function(hidden, weight, *arguments, **options)

    return call, normal(4, 5), normal(ITEMS, 5)


def layer_of(layer, *more, call=lambda layer, *inputs: layer(*inputs)):
    layer = layer.double()
    return lambda *inputs: call(layer, *inputs), *more


def cell(layer, x):
    found = layer(x)
    return found[0] if isinstance(found, tuple) else found


def over_events(layer, *inputs):
    return layer(*inputs, offsets=OFFSETS)[0]


REFUSED = {
    "expert_gate": (lambda x: SF.expert_gate(x, 2)[0], normal(4, 6)),
    "multi_gate_mixture": (SF.multi_gate_mixture, normal(3, 4, 2), normal(2, 4, 3)),
    "route_segments": (
        lambda x, p: SF.route_segments(x, OFFSETS, p, 2).weights, normal(4, 3), normal(5, 3)
    ),
    "linear_cross_entropy": loss_of(SF.linear_cross_entropy),
    "linear_cross_entropy, by row": loss_of(SF.linear_cross_entropy, reduction="none"),
    "sampled_loss": loss_of(SF.sampled_softmax_loss),
    "sampled_loss, by row": loss_of(SF.gbce_loss, reduction="none"),
    "sampled_loss, sums": loss_of(SF.bpr_max_loss, reduction="sum"),
    "sampled_loss, sparse": loss_of(SF.top1_max_loss, sparse=True),
    "rnn_forward": layer_of(nn.GRU(3, 4), normal(4, 3), call=over_events),
    "rnn_forward, LSTM": layer_of(nn.LSTM(3, 4), normal(4, 3), call=over_events),
    "rnn_forward, RNN": layer_of(nn.RNN(3, 4), normal(4, 3), call=over_events),
    "rnn_forward, AUGRU": layer_of(nn.AUGRU(3, 4), normal(4, 3), normal(4), call=over_events),
    "rnn_forward, ExpertGRU": layer_of(nn.ExpertGRU(2, 3, 4), normal(4, 3), call=over_events),
    "rnn_forward, GRUCell": layer_of(nn.GRUCell(3, 4), normal(4, 3), call=cell),
    "rnn_forward, LSTMCell": layer_of(nn.LSTMCell(3, 4), normal(4, 3), call=cell),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_second_differentiation_is_refused(case):
    function, *inputs = REFUSED[case]
    y = function(*inputs)
    plain = torch.autograd.grad(y.sum(), inputs, retain_graph=True)
    assert not any(gradient.requires_grad for gradient in plain)
    # the gradient that comes in is constant
    found = torch.autograd.grad(y.sum(), inputs, create_graph=True)
    message = rf"seqrec_fast\.{case.split(',')[0]}: is differentiable once"
    for gradient, same, x in zip(found, plain, inputs, strict=True):
        torch.testing.assert_close(gradient.detach(), same)
        penalty = (gradient.to_dense() if gradient.is_sparse else gradient).square().sum()
        # that of x alone would be a part
        with pytest.raises(RuntimeError, match=message):
            torch.autograd.grad(penalty + x.square().sum(), x, retain_graph=True)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_that_are_kept_serve_an_optimizer():
    layer = nn.GRU(3, 4)
    layer(torch.randn(5, 2, 3))[0].sum().backward(create_graph=True)
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    torch.optim.SGD(layer.parameters(), 0.1).step()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("case", ["expert_gate", "linear_cross_entropy", "sampled_loss"])
def test_compiled_graphs_differentiate_once(case):
    function, *inputs = REFUSED[case]
    compiled = torch.compile(lambda *a: function(*a).sum(), fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(function(*inputs).sum(), inputs)
    found = torch.autograd.grad(compiled(*inputs), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)

    def twice():
        first = torch.autograd.grad(compiled(*inputs), inputs, create_graph=True)
        torch.autograd.grad(first[0].square().sum(), inputs)

    with pytest.raises(RuntimeError, match=r"create_graph=False|double backward"):  # PyTorch's own
        twice()


@pytest.mark.parametrize("with_bias", [True, False])
def test_grouped_linear_twice(with_bias):
    x, weight, bias, offsets = linear_problem([3, 0, 2], 4, 3)
    inputs = [t.requires_grad_() for t in ((x, weight, bias) if with_bias else (x, weight))]

    def call(x, weight, bias=None):
        return SF.grouped_linear(x.sin(), weight, bias, offsets).square()

    assert torch.autograd.gradgradcheck(call, inputs)
    for i in range(len(inputs)):  # the others are constant
        given = [t if j == i else t.detach() for j, t in enumerate(inputs)]
        assert torch.autograd.gradgradcheck(call, given)
    grads = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True), *inputs[:2], offsets)
    torch.library.opcheck(torch.ops.seqrec_fast.grouped_linear_grad, (*grads, True, True, True))


@pytest.mark.parametrize("constant", [None, "values", "weights"])
def test_dispatch_with_weights_twice(constant):
    values, offsets, ids, weights = dispatch_problem(([4, 0, 3], 3, 2), dim=2)
    values.requires_grad_(constant != "values")
    weights.requires_grad_(constant != "weights")

    def both(values, weights):
        dispatched, plan = SF.dispatch_by_expert(
            values, offsets, ids, 3, weights=weights, capacity=3
        )
        return SF.combine_by_expert(dispatched.square(), plan, weights)

    assert torch.autograd.gradgradcheck(both, (values, weights))


def test_dispatch_operators_of_gradients():
    values, offsets, ids, weights = dispatch_problem(([4, 0, 3], 3, 2), dim=2)
    ops = torch.ops.seqrec_fast
    index, _, _, position = ops.dispatch_by_expert(offsets, ids, 3, -1)
    rows = torch.randn(len(index), 2, dtype=torch.float64)
    for t in (values, weights, rows):
        t.requires_grad_()
    torch.library.opcheck(ops.dispatch_rows_grad, (rows, values, position, weights))
    torch.library.opcheck(ops.combine_rows_grad, (values, rows, position, weights))


def test_attention_pooling_twice():
    pool = nn.AttentionPooling(2, (3,), activation="sigmoid", softmax=True).double()
    offsets = offsets_of([3, 0, 2])
    assert torch.autograd.gradgradcheck(
        lambda query, keys: pool(query, keys, torch.as_tensor(offsets)),
        (normal(3, 2), normal(5, 2)),
    )


def test_topk_twice():
    queries, items = normal(2, 3).float(), normal(6, 3).float()
    _, ids = SF.topk(queries, items, 2)
    theirs = (queries @ items.t()).gather(1, ids)
    ours = SF.topk(queries, items, 2)[0]
    found = []
    for scores in (ours, theirs):
        first = torch.autograd.grad(scores.square().sum(), (queries, items), create_graph=True)
        found += [torch.autograd.grad(sum(g.square().sum() for g in first), (queries, items))]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
