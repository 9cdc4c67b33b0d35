"""nn.GRU, LSTM and RNN in place of torch.nn's: values, gradients, forms of input, compile."""

from __future__ import annotations

import copy
import io
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.rnn import pack_padded_sequence

import seqrec_fast.nn as snn
from rnn_cases import CELLS, assert_at_most_twice, pair
from seqrec_fast.nn._rnn_autograd import rnn_forward
from seqrec_fast.nn._rnn_call import RnnCall

KINDS = ("GRU", "LSTM", "RNN")


def results(module, x, hx=None, **kwargs):
    """Output, states, and all gradients of a weighted sum of them."""
    x = x.clone().requires_grad_(True)
    states = [] if hx is None else [s.clone().requires_grad_(True) for s in hx]
    given = None if hx is None else tuple(states) if len(states) == 2 else states[0]
    y, final = module(x, given, **kwargs)
    final = final if isinstance(final, tuple) else (final,)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    total = (y * weights).sum() + sum((s * (i + 2)).sum() for i, s in enumerate(final))
    total.backward()
    tensors = {"y": y, "dx": x.grad}
    tensors |= {f"state{i}": s for i, s in enumerate(final)}
    tensors |= {f"dstate{i}": s.grad for i, s in enumerate(states)}
    tensors |= {name: p.grad for name, p in module.named_parameters()}
    return {name: t.detach() for name, t in tensors.items()}


def compare(theirs, ours, x, hx=None):
    truth = results(copy.deepcopy(theirs).double(), x.double(), hx and [s.double() for s in hx])
    for name, value in results(ours, x, hx).items():
        their = truth[name] if x.dtype == torch.float64 else results(theirs, x, hx)[name]
        assert_at_most_twice(value, their, truth[name], x.dtype, name)
        theirs.zero_grad()


SHAPES = [
    # input, hidden, T, B: odd sizes, one step, one row, many rows
    (5, 1, 7, 3), (29, 63, 5, 2), (100, 100, 9, 1), (64, 129, 6, 33), (31, 257, 3, 5),
    (16, 16, 1, 1), (12, 24, 2, 1000),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(kind, shape):
    torch.manual_seed(1)
    inputs, hidden, steps, batch = shape
    theirs, ours = pair(kind, inputs, hidden)
    compare(theirs, ours, torch.randn(steps, batch, inputs))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options", list(itertools.product((1, 2), (False, True), (False, True), (False, True))), ids=str
)
def test_options_with_initial_states(kind, options):
    layers, bidirectional, batch_first, bias = options
    torch.manual_seed(2)
    theirs, ours = pair(
        kind, 11, 20, layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias
    )
    states = [torch.randn(layers * (1 + bidirectional), 4, 20) for _ in range(1 + (kind == "LSTM"))]
    compare(theirs, ours, torch.randn(*((4, 6) if batch_first else (6, 4)), 11), states)


def test_relu_and_projection():
    torch.manual_seed(3)
    theirs, ours = pair("RNN", 9, 33, nonlinearity="relu")
    compare(theirs, ours, torch.randn(5, 3, 9))
    with warnings.catch_warnings():  # torch.nn's own, about a slow path of its LSTM
        warnings.simplefilter("ignore")
        _check_projection()


def _check_projection():
    theirs, ours = pair("LSTM", 9, 33, 2, proj_size=10, bidirectional=True)
    states = [torch.randn(4, 3, 10), torch.randn(4, 3, 33)]
    compare(theirs, ours, torch.randn(5, 3, 9), states)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_and_float64(kind, target):
    torch.manual_seed(4)
    theirs, ours = pair(kind, 13, 37)
    compare(theirs, ours, torch.randn(4, 5, 13))
    theirs, ours = pair(kind, 13, 37, dtype=torch.float64)
    compare(theirs, ours, torch.randn(4, 5, 13, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell", "RNNCell"])
def test_cells(kind):
    torch.manual_seed(5)
    theirs, ours = pair(kind, 10, 21)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for x in (torch.randn(6, 10), torch.randn(10)):
        torch.testing.assert_close(ours(x), theirs(x))
    state = torch.randn(6, 21)
    hx = (state, state * 2) if kind == "LSTMCell" else state
    x = torch.randn(6, 10, requires_grad=True)
    first = lambda out: out[0] if isinstance(out, tuple) else out  # noqa: E731
    grads = [torch.autograd.grad(first(m(x, hx)).sin().sum(), [x, *m.parameters()])
             for m in (theirs, ours)]  # fmt: skip
    for want, got in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError, match="input has 9 features"):
        ours(torch.randn(6, 9))
    with pytest.raises(RuntimeError, match="hidden has shape"):
        ours(torch.randn(5, 10), hx)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_shows_from_the_first_step(kind, value):
    """Zero times it is NaN, so a layer that diverged says so for sessions of one event too."""
    theirs, ours = pair(kind, 5, 7)
    with torch.no_grad():
        for module in (theirs, ours):
            module.weight_hh_l0[2, 3] = value
    x = torch.randn(3, 2, 5)
    expected = theirs(x)[0]
    assert expected[0].isnan().any()
    assert torch.equal(ours(x)[0].isnan(), expected.isnan())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", list(itertools.product((1, 2), (False, True))), ids=str)
def test_packed(kind, options):
    layers, bidirectional = options
    torch.manual_seed(6)
    theirs, ours = pair(kind, 8, 19, layers, bidirectional=bidirectional)
    x, lengths = torch.randn(9, 4, 8), torch.tensor([3, 9, 1, 5])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    states = [torch.randn(layers * (1 + bidirectional), 4, 19) for _ in range(2)]
    for hx in (None, tuple(states) if kind == "LSTM" else states[0]):
        (a, sa), (b, sb) = theirs(packed, hx), ours(packed, hx)
        torch.testing.assert_close(b.data, a.data)
        assert torch.equal(a.batch_sizes, b.batch_sizes)
        assert torch.equal(a.unsorted_indices, b.unsorted_indices)
        for got, want in zip(sb, sa, strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("kind", KINDS)
def test_ragged_nested_unbatched_and_padded_agree(kind):
    torch.manual_seed(7)
    ours = getattr(snn, kind)(6, 17, 2, bidirectional=True)
    lengths = [4, 0, 1, 6]
    offsets = torch.tensor([0, 4, 4, 5, 11])
    x = torch.randn(11, 6)
    y, state = ours(x, offsets=offsets)
    h_n = state[0] if isinstance(state, tuple) else state
    for b, length in enumerate(lengths):
        if length == 0:
            assert not h_n[:, b].any()
            continue
        rows = slice(offsets[b], offsets[b + 1])
        alone, state = ours(x[rows])
        assert torch.equal(alone, y[rows])
        assert torch.equal(state[0] if isinstance(state, tuple) else state, h_n[:, b])
    nested = torch.nested.nested_tensor_from_jagged(x, offsets)
    assert torch.equal(ours(nested)[0].values(), y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_reset_cuts_a_sequence_in_two(kind, batch_first):
    torch.manual_seed(8)
    ours = getattr(snn, kind)(5, 18, batch_first=batch_first)
    whole = torch.randn(1, 7, 5) if batch_first else torch.randn(7, 1, 5)
    parts = [whole[:, :3], whole[:, 3:]] if batch_first else [whole[:3], whole[3:]]
    reset = torch.zeros(whole.shape[:2], dtype=torch.bool)
    reset.view(-1)[3] = True
    cut = results(ours, whole, reset=reset)
    ours.zero_grad()
    first = ours(parts[0])[0]
    second, _ = ours(parts[1])
    joined = torch.cat([first, second], 1 if batch_first else 0)
    assert torch.equal(cut["y"], joined.detach())
    # the loss of `results` on the two parts: same weights per event, final state of the second
    x = whole.clone().requires_grad_(True)
    a = ours(x[:, :3] if batch_first else x[:3])[0]
    b, state = ours(x[:, 3:] if batch_first else x[3:])
    y = torch.cat([a, b], 1 if batch_first else 0)
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    state = state if isinstance(state, tuple) else (state,)
    ((y * weights).sum() + sum((s * (i + 2)).sum() for i, s in enumerate(state))).backward()
    torch.testing.assert_close(cut["dx"], x.grad)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(cut[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradcheck_of_every_argument(cell, reverse):
    torch.manual_seed(9)
    gates = {"lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}.get(cell, 3)
    sizes = [(7, 3), (3, 4), (gates * 4, 3), (gates * 4, 4), (gates * 4,), (gates * 4,)]
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in sizes]
    c_0 = torch.randn(3, 4, dtype=torch.float64, requires_grad=True) if cell == "lstm" else None
    offsets = torch.tensor([0, 3, 3, 7])
    reset = torch.tensor([0, 0, 1, 0, 1, 0, 0], dtype=torch.bool)

    def run(x, h_0, *weights):
        call = RnnCall(cell, x, h_0, c_0, *weights, offsets=offsets, reset=reset, reverse=reverse)
        out = rnn_forward(call)
        return out[:3] if cell == "lstm" else out[:2]

    assert torch.autograd.gradcheck(run, tensors)
    if cell == "lstm":
        x, h_0, *weights = [t.detach() for t in tensors]
        assert torch.autograd.gradcheck(
            lambda c: rnn_forward(
                RnnCall(cell, x, h_0, c, *weights, offsets=offsets, reverse=reverse)
            )[:3],
            (c_0,),
        )


@pytest.mark.parametrize("module", ["GRU", "LSTM"])
def test_input_gates_as_input(module):
    torch.manual_seed(10)
    gates = 3 if module == "GRU" else 4
    ours = getattr(snn, module)(None, 12).double()
    assert "weight_ih_l0" not in ours.state_dict()
    weight_ih = torch.randn(gates * 12, 5, dtype=torch.float64)
    full = getattr(torch.nn, module)(5, 12).double()
    full.load_state_dict({**ours.state_dict(), "weight_ih_l0": weight_ih})
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x @ weight_ih.T)[0], full(x)[0])
    gates_in = (x[:2, :2] @ weight_ih.T).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda g: ours(g)[0], (gates_in,))
    copied = copy.deepcopy(ours)
    torch.testing.assert_close(copied(x @ weight_ih.T)[0], full(x)[0])
    with pytest.raises(ValueError, match="bidirectional is True"):
        getattr(snn, module)(None, 12, bidirectional=True)


@pytest.mark.parametrize("cell", CELLS)
def test_opcheck(cell):
    torch.manual_seed(11)
    gates = {"lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}.get(cell, 3)
    for requires_grad in (False, True):
        tensors = [
            torch.randn(size, requires_grad=requires_grad)
            for size in [(5, 2, 3), (2, 20), (gates * 20, 3), (gates * 20, 20), (gates * 20,)]
        ]
        x, h_0, weight_ih, weight_hh, bias = tensors
        c_0 = torch.randn(2, 20) if cell == "lstm" else None
        torch.library.opcheck(
            torch.ops.seqrec_fast.rnn_forward.default,
            (cell, x, h_0, c_0, weight_ih, weight_hh, bias, bias, None, None, None, None,
             False, False, requires_grad),
        )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_compile_without_graph_breaks(kind):
    torch.manual_seed(12)
    ours = getattr(snn, kind)(8, 20, 2)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for steps in (3, 5):
        x = torch.randn(steps, 2, 8)
        torch.testing.assert_close(compiled(x)[0], ours(x)[0])
        grads = [torch.autograd.grad(m(x)[0].sum(), list(ours.parameters()))
                 for m in (compiled, ours)]  # fmt: skip
        for got, want in zip(*grads, strict=True):
            torch.testing.assert_close(got, want)


def test_tracers_see_the_operator():
    torch.manual_seed(14)
    ours = snn.GRU(4, 20)
    x = torch.randn(3, 2, 4)
    graph = make_fx(lambda values: ours(values)[0])(x)
    assert "seqrec_fast.rnn_forward" in graph.code
    torch.testing.assert_close(graph(x), ours(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_travel_both_ways(kind):
    theirs, ours = pair(kind, 7, 12, 2, bidirectional=True)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert repr(theirs) == repr(ours)
    theirs.load_state_dict(ours.state_dict())
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    x = torch.randn(3, 2, 7)
    assert torch.equal(again(x)[0], ours(x)[0])
    torch.manual_seed(0)
    a = getattr(torch.nn, kind)(4, 5)
    torch.manual_seed(0)
    b = getattr(snn, kind)(4, 5)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_draws_what_torch_draws(batch_first):
    theirs, ours = pair("GRU", 6, 9, 3, dropout=0.4, batch_first=batch_first)
    x = torch.randn(5, 4, 6)
    outputs = []
    for module in (theirs, ours):
        torch.manual_seed(3)
        outputs.append(module(x)[0])
    torch.testing.assert_close(*outputs)
    theirs.eval(), ours.eval()
    torch.testing.assert_close(theirs(x)[0], ours(x)[0])


def test_the_same_errors_as_torch():
    theirs, ours = pair("GRU", 4, 6)
    packed = pack_padded_sequence(torch.randn(3, 2, 5), torch.tensor([3, 2]))
    for call in (
        lambda m: m(torch.randn(3, 2, 5)),
        lambda m: m(torch.randn(3, 2, 4), torch.zeros(1, 3, 6)),
        lambda m: m(torch.randn(3, 2, 4), torch.zeros(1, 6)),
        lambda m: m(torch.randn(3, 4), torch.zeros(1, 1, 6)),
        lambda m: m(torch.zeros(3, 2, 4, dtype=torch.int64)),
        lambda m: m(torch.zeros(2, 3, 2, 4)),
        lambda m: m(torch.zeros(0, 2, 4)),
        lambda m: m(packed),
    ):
        with pytest.raises((RuntimeError, ValueError)) as expected:
            call(theirs)
        with pytest.raises(expected.type):
            call(ours)
    for bad in (
        lambda n: n.GRU(0, 3), lambda n: n.GRU(3, 0), lambda n: n.LSTM(3, 4, proj_size=4),
        lambda n: n.RNN(3, 4, nonlinearity="sin"), lambda n: n.GRU(3, 4, dropout=2),
        lambda n: n.GRU(3, 4, bias=1),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)) as expected:
            bad(torch.nn)
        with pytest.raises(expected.type):
            bad(snn)
    with pytest.raises(ValueError, match="offsets decrease"):
        ours(torch.randn(3, 4), offsets=torch.tensor([0, 4, 3]))
    with pytest.raises(RuntimeError, match="reset has shape"):
        ours(torch.randn(3, 2, 4), reset=torch.zeros(3, 3, dtype=torch.bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(torch.randn(3, 2, 4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_states_of_another_dtype_are_refused_as_in_torch(dtype):
    x, h = torch.randn(3, 2, 4), torch.zeros(1, 2, 6, dtype=dtype)
    for name, given, hx in (
        ("GRU", x, h), ("RNN", x, h), ("LSTM", x, (h, h)), ("LSTM", x, (h.float(), h)),
        ("GRUCell", x[0], h[0]), ("RNNCell", x[0], h[0]), ("LSTMCell", x[0], (h[0], h[0])),
    ):  # fmt: skip
        with pytest.raises(RuntimeError):
            getattr(torch.nn, name)(4, 6)(given, hx)
        with pytest.raises(RuntimeError, match=f"^{name}: hx is {dtype}; expected torch.float32"):
            getattr(snn, name)(4, 6)(given, hx)


def test_states_of_an_lstm_may_be_a_list():
    layer, h = snn.LSTM(4, 6), torch.randn(2, 1, 2, 6)
    x = torch.randn(3, 2, 4)
    packed = pack_padded_sequence(x, torch.tensor([2, 3]), enforce_sorted=False)
    for given, options in ((x, {}), (x.reshape(6, 4), {"offsets": torch.tensor([0, 2, 6])}),
                           (packed, {})):  # fmt: skip
        expected, found = (layer(given, hx, **options) for hx in ((h[0], h[1]), [h[0], h[1]]))
        for a, b in zip(expected[1], found[1], strict=True):
            assert torch.equal(a, b)
    cell = snn.LSTMCell(4, 6)
    assert torch.equal(cell(x[0], [h[0, 0], h[1, 0]])[0], cell(x[0], (h[0, 0], h[1, 0]))[0])
    for wrong in (h[0], (h[0],), [h[0], None]):
        with pytest.raises(TypeError, match=r"^LSTM: hx.* is .*; expected"):
            layer(x, wrong)
    for wrong in ([h[0]], (h[0], h[1])):
        with pytest.raises(TypeError, match=r"^GRU: hx is .*; expected a torch.Tensor"):
            snn.GRU(4, 6)(x, wrong)


def test_resets_of_the_wrong_kind_are_named():
    layer, x = snn.GRU(4, 6), torch.randn(11, 4)
    for wrong in (torch.full((11,), 0.5), torch.zeros(11, dtype=torch.int64)):
        for options in ({}, {"offsets": torch.tensor([0, 11])}):
            with pytest.raises(TypeError, match=r"^GRU: reset is torch.*; expected bool"):
                layer(x, reset=wrong, **options)
    for options in ({}, {"offsets": torch.tensor([0, 11])}):
        with pytest.raises(RuntimeError, match=r"reset has shape \(10,\); expected \(11,\)"):
            layer(x, reset=torch.zeros(10, dtype=torch.bool), **options)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors():
    layer, parts = snn.GRU(4, 6), [torch.randn(3, 4), torch.randn(2, 4)]
    jagged = torch.nested.nested_tensor(parts, layout=torch.jagged)
    with pytest.raises(ValueError, match=r"^GRU: input is a nested tensor .*strided; expected"):
        layer(torch.nested.nested_tensor(parts))
    gaps = torch.nested.nested_tensor_from_jagged(
        torch.randn(6, 4), torch.tensor([0, 3, 6]), torch.tensor([2, 1])
    )
    with pytest.raises(ValueError, match=r"^GRU: input is a nested tensor .*; expected a contig"):
        layer(gaps)
    with pytest.raises(ValueError, match=r"^GRU: a nested tensor takes no offsets"):
        layer(jagged, offsets=torch.tensor([0, 5]))
    reset = torch.tensor([False, True, False, False, True])
    flat = layer(jagged.values(), offsets=jagged.offsets(), reset=reset)[0]
    of_reset = torch.nested.nested_tensor_from_jagged(reset, jagged.offsets())
    for given in (reset, of_reset):
        assert torch.equal(layer(jagged, reset=given)[0].values(), flat)


@pytest.mark.parametrize("name", ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"])
def test_layers_are_leaves_of_fx(name):
    x = torch.randn(3, 4)
    ours, theirs = (torch.nn.Sequential(torch.nn.Linear(4, 4), getattr(n, name)(4, 6))
                    for n in (snn, torch.nn))  # fmt: skip
    traced, expected = torch.fx.symbolic_trace(ours), torch.fx.symbolic_trace(theirs)
    assert [n.op for n in traced.graph.nodes] == [n.op for n in expected.graph.nodes]
    torch.testing.assert_close(traced(x), ours(x))


def test_same_bits_on_any_number_of_threads():
    import seqrec_fast as sf

    torch.manual_seed(13)
    ours = snn.LSTM(16, 40)
    x = torch.randn(6, 130, 16)
    kept = []
    for threads in (1, 2, 3):
        sf.set_num_threads(threads)
        ours.zero_grad()
        kept.append(results(ours, x))
    for other in kept[1:]:
        for name, value in kept[0].items():
            np.testing.assert_array_equal(value, other[name], name)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (snn.GRU(3, 4), "GRU"), (snn.GRU(3, 4, reset_after=False), "GRU"),
        (snn.LSTM(3, 4), "LSTM"), (snn.RNN(3, 4, nonlinearity="relu"), "RNN"),
        (snn.ExpertGRU(1, 3, 4), "ExpertGRU"), (snn.ExpertLSTM(1, 3, 4), "ExpertLSTM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_wrong_offsets_name_the_layer(layer, name):
    x = torch.zeros(4, 3)
    for offsets, message in (
        ([0, 2, 3], "offsets end at 3; expected 4, the number of events"),
        ([0, 3, 2, 4], "offsets decrease from 3 to 2 at index 2"),
        ([1, 4], r"offsets\[0\] is 1; expected 0"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: {message}"):
            layer(x, offsets=torch.tensor(offsets))
    if name.startswith("Expert"):
        return
    packed = torch.nn.utils.rnn.PackedSequence(x, torch.tensor([1, 2, 1]))
    with pytest.raises(ValueError, match=rf"^{name}: batch_sizes\[1\] is 2"):
        layer(packed)
    for wrong in (torch.tensor(4), torch.zeros(0, dtype=torch.int64), torch.tensor([[0, 4]])):
        with pytest.raises(ValueError, match=rf"^{name}: offsets has shape .*; expected \(B \+ 1"):
            layer(x, offsets=wrong)
    with pytest.raises(TypeError, match=f"^{name}: offsets is torch.int32; expected int64"):
        layer(x, offsets=torch.tensor([0, 4], dtype=torch.int32))
