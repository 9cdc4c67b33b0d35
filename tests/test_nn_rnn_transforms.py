"""Recurrent layers under torch.func, forward-mode differentiation and the tracers of PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

import seqrec_fast.nn as snn
from transform_checks import check_gradients, check_jacobian

X = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(0))
OFFSETS = torch.tensor([0, 2, 2, 3, 10])


def first(found):
    return found if isinstance(found, torch.Tensor) else found[0]


def case(layer, call=lambda layer, x: first(layer(x))):
    return lambda x: call(layer, x)


def over_events(layer, x):
    return layer(x.reshape(10, 4), offsets=OFFSETS)[0]


CASES = {
    "GRU": case(snn.GRU(4, 5)),
    "LSTM": case(snn.LSTM(4, 12, 2)),
    "RNN": case(snn.RNN(4, 12, bidirectional=True)),
    "GRUCell": case(snn.GRUCell(4, 5), lambda layer, x: first(layer(x[0]))),
    "LSTMCell": case(snn.LSTMCell(4, 5), lambda layer, x: first(layer(x[0]))),
    "ragged": case(snn.GRU(4, 5), over_events),
    "ExpertGRU": case(snn.ExpertGRU(2, 4, 5), over_events),
    "AUGRU": case(snn.AUGRU(4, 5), lambda layer, x: first(layer(x, x[..., 0].contiguous()))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_reverse_mode(name):
    check_gradients(CASES[name], X)
    check_jacobian(CASES[name], X)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_gradients_by_session():
    layer = snn.GRU(4, 12)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x,))[0].square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 1))(parameters, X.unsqueeze(2))
    for session in range(2):
        layer.zero_grad()
        layer(X[:, session])[0].square().sum().backward()
        for name, p in layer.named_parameters():
            torch.testing.assert_close(found[name][session], p.grad)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_batched_gradients_and_functionalization(name):
    function = CASES[name]
    expected = torch.autograd.functional.jacobian(function, X)
    found = torch.autograd.functional.jacobian(function, X, vectorize=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.func.functionalize(function)(X), function(X))


def test_transforms_differentiate_once():
    def total(x):
        return CASES["GRU"](x).sum()

    with pytest.raises(RuntimeError, match=r"seqrec_fast\.rnn_forward: is differentiable once"):
        torch.func.grad(lambda x: torch.func.grad(total)(x).sum())(X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own decompositions
@pytest.mark.parametrize("name", CASES)
def test_forward_mode_is_refused_and_never_zero(name):
    function, message = CASES[name], r"seqrec_fast\.rnn_forward: has no forward-mode derivative"
    with pytest.raises(NotImplementedError, match=message):
        torch.func.jvp(function, (X,), (X,))
    with pytest.raises(NotImplementedError, match=message):
        torch.func.hessian(lambda x: function(x).sum())(X)
    for grad_mode in (torch.enable_grad(), torch.no_grad()):
        with grad_mode, forward_ad.dual_level():
            with pytest.raises(NotImplementedError, match=message):
                function(forward_ad.make_dual(X, X))
            torch.testing.assert_close(function(X), CASES[name](X))


@pytest.mark.filterwarnings("ignore")  # graphs break at transforms, and Dynamo warns of it
def test_compiled_transforms():
    function = CASES["GRU"]

    def gradient(x):
        return torch.func.grad(lambda x: function(x).sum())(x)

    def product(x):
        return torch.func.jvp(function, (x,), (x,))[1]

    try:
        compiled = torch.compile(gradient, backend="aot_eager")
        torch.testing.assert_close(compiled(X), gradient(X))
        with pytest.raises(NotImplementedError, match="has no forward-mode derivative"):
            torch.compile(product, backend="aot_eager")(X)
    finally:
        torch._dynamo.reset()  # it goes on to skip the functions in which a graph broke


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell"])
def test_jit_trace(name):
    layer = getattr(snn, name)(4, 12)
    is_cell = name.endswith("Cell")
    x, other = (X[0], X[1, :1]) if is_cell else (X, X[:3, :1])
    for grad_mode in (torch.enable_grad(), torch.no_grad()):
        with grad_mode:
            traced = torch.jit.trace(layer, (x,))
            assert "seqrec_fast::rnn_forward" in str(traced.graph)
            torch.testing.assert_close(traced(other), layer(other))
        layer.zero_grad()
        first(traced(other)).square().sum().backward()
        found = [p.grad for p in layer.parameters()]
        layer.zero_grad()
        first(layer(other)).square().sum().backward()
        for ours, p in zip(found, layer.parameters(), strict=True):
            torch.testing.assert_close(ours, p.grad)
