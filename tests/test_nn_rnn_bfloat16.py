"""Training under torch.autocast("cpu", torch.bfloat16): products in bfloat16, all else float32."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqrec_fast as sf
import seqrec_fast.nn as snn
from rnn_cases import CELLS, pair, relative_error
from seqrec_fast.nn._rnn_autograd import rnn_forward
from seqrec_fast.nn._rnn_call import RnnCall
from test_nn_rnn import KINDS, results

# Of numbers rounded to 8 bits of mantissa, through a few steps.
TOLERANCE = 0.02


@pytest.fixture(params=sf.supported_backends("bfloat16"))
def backend(request):
    """Run the test once with every back end of this machine."""
    with sf.force_backend("bfloat16", request.param):
        yield request.param


def autocast_results(module, x, hx=None, **kwargs):
    """As `results`, with the forward pass under autocast and the loss in float32."""

    def forward(*args, **kwargs):
        with torch.autocast("cpu", torch.bfloat16):
            y, final = module(*args, **kwargs)
        final = tuple(s.float() for s in final) if isinstance(final, tuple) else final.float()
        return y.float(), final

    forward.named_parameters = module.named_parameters
    return results(forward, x, hx, **kwargs)


def torch_has_bfloat16(kind):
    """Whether torch's layer runs on this processor: oneDNN's LSTM needs AVX-512."""
    return kind != "LSTM" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [(5, 11, 7, 3), (64, 129, 6, 33), (31, 257, 3, 1), (16, 16, 1, 1), (12, 24, 2, 1000)]
)
def test_gradients_beside_float64_and_autocast(kind, shape, backend):
    torch.manual_seed(1)
    inputs, hidden, steps, batch = shape
    theirs, ours = pair(kind, inputs, hidden)
    x = torch.randn(steps, batch, inputs)
    truth = results(copy.deepcopy(theirs).double(), x.double())
    their = autocast_results(theirs, x) if torch_has_bfloat16(kind) else None
    for name, value in autocast_results(ours, x).items():
        assert value.dtype == torch.float32
        allowed = TOLERANCE
        if their is not None:
            allowed = max(2 * relative_error(their[name], truth[name]), TOLERANCE / 4)
        assert relative_error(value, truth[name]) <= min(allowed, TOLERANCE), name


def test_same_bits_for_every_thread_count():
    """Threads cut the batch differently: backward goes through it in ranges of their number."""
    torch.manual_seed(5)
    module, x = snn.GRU(33, 24), torch.randn(100, 220, 33)
    sf.set_num_threads(1)
    one = autocast_results(module, x)
    sf.set_num_threads(3)
    for name, value in autocast_results(module, x).items():
        assert torch.equal(value, one[name]), name


@pytest.fixture(params=["auto", "amx_emulated"])
def gradient_products(request):
    """Gradients as the target takes them, and in bfloat16 on every target."""
    if request.param not in ("auto", *sf.supported_backends("bfloat16")):
        pytest.skip("no such back end")
    with sf.force_backend("bfloat16", request.param):
        yield


@pytest.mark.usefixtures("gradient_products")
@pytest.mark.parametrize("kind", KINDS)
def test_targets_states_and_projection(kind, target):
    torch.manual_seed(2)
    options = {"proj_size": 10} if kind == "LSTM" else {}
    theirs, ours = pair(kind, 13, 37, 2, bidirectional=True, **options)
    states = [torch.randn(4, 5, options.get("proj_size", 37))]
    states += [torch.randn(4, 5, 37)] if kind == "LSTM" else []
    x = torch.randn(4, 5, 13)
    truth = results(theirs.double(), x.double(), [s.double() for s in states])
    for name, value in autocast_results(ours, x, states).items():
        assert relative_error(value, truth[name]) <= 2 * TOLERANCE, name


@pytest.mark.usefixtures("gradient_products")
def test_reset_before_and_relu(target):
    torch.manual_seed(3)
    for module in (snn.GRU(9, 30, reset_after=False), snn.RNN(9, 30, nonlinearity="relu")):
        x = torch.randn(5, 40, 9)
        truth = results(copy.deepcopy(module).double(), x.double())
        for name, value in autocast_results(module, x).items():
            # a ReLU near zero may be rounded to the other side
            assert relative_error(value, truth[name]) <= 3 * TOLERANCE, name


@pytest.mark.parametrize("kind", KINDS)
def test_dtypes_are_those_of_torch(kind):
    if not torch_has_bfloat16(kind):
        pytest.skip("torch has no such layer on this processor")
    theirs, ours = pair(kind, 8, 16)

    def dtypes(module, x, hx):
        with torch.autocast("cpu", torch.bfloat16):
            y, state = module(x, hx)
        y = y.data if isinstance(y, PackedSequence) else y
        return [t.dtype for t in (y, *(state if isinstance(state, tuple) else (state,)))]

    for x_dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(4, 3, 8, dtype=x_dtype)
        packed = pack_padded_sequence(x, torch.tensor([4, 2, 1]))
        for state_dtype in (None, torch.float32, torch.bfloat16):
            state = None if state_dtype is None else torch.randn(1, 3, 16, dtype=state_dtype)
            hx = (state, state) if kind == "LSTM" and state is not None else state
            for given in (x, packed):
                try:
                    expected = dtypes(theirs, given, hx)
                except RuntimeError:  # mixtures that torch refuses
                    continue
                assert dtypes(ours, given, hx) == expected, (x_dtype, state_dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_keep_the_dtype_of_what_they_belong_to(kind):
    ours = getattr(snn, kind)(8, 16)
    x = torch.randn(4, 3, 8, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = ours(x)
    y.float().sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 for p in ours.parameters())
    double = getattr(snn, kind)(8, 16, dtype=torch.float64)
    x = torch.randn(4, 3, 8, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(double(x)[0], double.to(torch.float64)(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_on_any_number_of_threads(kind, backend):
    torch.manual_seed(4)
    ours = getattr(snn, kind)(16, 40)
    x = torch.randn(9, 130, 16)
    kept = []
    for threads in (1, 2, 3):
        sf.set_num_threads(threads)
        ours.zero_grad()
        kept.append(autocast_results(ours, x))
    for other in kept[1:]:
        for name, value in kept[0].items():
            np.testing.assert_array_equal(value, other[name], name)


def test_compile_and_opcheck():
    torch.manual_seed(5)
    ours = snn.GRU(8, 20, 2)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(x)[0], ours(x)[0])
    tensors = [torch.randn(size) for size in [(5, 2, 3), (2, 20), (60, 3), (60, 20), (60,)]]
    x, h_0, weight_ih, weight_hh, bias = tensors
    torch.library.opcheck(
        torch.ops.seqrec_fast.rnn_forward.default,
        ("gru", x, h_0, None, weight_ih, weight_hh, bias, bias, None, None, None, None,
         False, False, True, "bfloat16"),
    )  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_int8_has_no_gradient(cell):
    gates = {"lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}.get(cell, 3)
    x, h_0 = torch.randn(3, 2, 5), torch.rand(2, 20)
    c_0 = torch.randn(2, 20) if cell == "lstm" else None
    weight_ih = torch.randn(gates * 20, 5, requires_grad=True)
    weight_hh = torch.randn(gates * 20, 20)
    y = rnn_forward(RnnCall(cell, x, h_0, c_0, weight_ih, weight_hh, precision="int8"))[0]
    with pytest.raises(ValueError, match="rnn_backward: precision is 'int8'; expected 'full' or"):
        y.sum().backward()
