"""Recurrent dropout, zoneout and variational dropout of nn.GRU, LSTM and RNN."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import seqrec_fast as sf
import seqrec_fast.nn as snn
from rnn_cases import CELLS, make_weights
from seqrec_fast import reference
from seqrec_fast.nn._rnn_autograd import rnn_forward
from seqrec_fast.nn._rnn_call import RnnCall

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
SEED = 0x1234_5678_9ABC_DEF0
NOISES = [
    reference.Noise(recurrent_dropout=0.3, seed=SEED, stream=2),
    reference.Noise(zoneout=0.4, seed=SEED),
    reference.Noise(recurrent_dropout=0.5, zoneout=0.2, seed=7),
    reference.Noise(zoneout=0.4),
    reference.Noise(recurrent_dropout=0.3),
]


def test_philox_gives_the_published_words():
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    for key, counter, words in [
        (0, [0] * 4, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (2**64 - 1, [2**32 - 1] * 4, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (0x299F31D0_A4093822, pi, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ]:
        assert reference.philox4x32(key, np.array(counter, np.uint32)).tolist() == words


def arguments(cell, inputs, hidden, noise, *, projection=0, dtype=torch.float64, reverse=False):
    """Of the operator, for four ragged sessions with a reset."""
    rng = np.random.default_rng(3)
    offsets = np.array([0, 4, 4, 5, 12])
    weights = make_weights(rng, cell, inputs, hidden, projection)
    state = projection or hidden
    arrays = {"x": rng.normal(size=(12, inputs)), "h_0": rng.normal(size=(4, state))}
    if cell == "lstm":
        arrays["c_0"] = rng.normal(size=(4, hidden))
    arrays |= weights
    tensors = [
        torch.tensor(arrays[name], dtype=dtype) if name in arrays else None
        for name in ("x", "h_0", "c_0", *NAMES)
    ]
    reset = np.zeros(12, bool)
    reset[[2, 8]] = True
    seed = None if noise.seed is None else torch.tensor(noise.seed)
    rest = [
        torch.tensor(offsets), None, torch.tensor(reset), False, reverse, True, "full",
        noise.recurrent_dropout if noise.seed is not None else 0.0, noise.zoneout, seed,
        noise.stream, None,
    ]  # fmt: skip
    truth = reference.rnn(
        cell, arrays["x"], offsets, weights, arrays["h_0"], arrays.get("c_0"),
        reset=reset, reverse=reverse, noise=noise,
    )  # fmt: skip
    return tensors, rest, truth


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("cell", [*CELLS, "projection"])
def test_forward_is_the_reference(cell, noise, target):
    projection = 70 if cell == "projection" else 0
    cell = "lstm" if projection else cell
    for hidden, reverse in ((5, False), (133, True)):
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            if projection > hidden:
                continue
            tensors, rest, truth = arguments(
                cell, 9, hidden, noise, projection=projection, dtype=dtype, reverse=reverse
            )
            results = rnn_forward(RnnCall(cell, *tensors, *rest))[:3]
            for value, expected in zip(results, truth, strict=True):
                if expected is not None:
                    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("noise", NOISES[:4], ids=str)
@pytest.mark.parametrize("cell", [*CELLS, "projection"])
def test_gradients(cell, noise, target):
    projection = 3 if cell == "projection" else 0
    cell = "lstm" if projection else cell
    tensors, rest, _ = arguments(cell, 3, 5, noise, projection=projection, reverse=True)
    given = [t.requires_grad_(True) for t in tensors if t is not None]

    def forward(*values):
        left = iter(values)
        call = RnnCall(cell, *(t if t is None else next(left) for t in tensors), *rest)
        return rnn_forward(call)[:3]

    assert torch.autograd.gradcheck(forward, given, fast_mode=True)


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_every_layout_and_thread_count_draws_the_same(kind):
    torch.manual_seed(1)
    noise = {"recurrent_dropout": 0.3, "zoneout": 0.2, "variational_dropout": 0.4}
    ours = getattr(snn, kind)(6, 40, 2, bidirectional=True, **noise)
    first = copy.deepcopy(ours)
    first.batch_first = True
    lengths = torch.tensor([3, 7, 1, 7, 5])
    x = torch.randn(7, 5, 6)
    ragged = torch.cat([x[:n, b] for b, n in enumerate(lengths)])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)

    def run(module, *args, **kwargs):
        torch.manual_seed(4)
        output, state = module(*args, **kwargs)
        return output, state[0] if isinstance(state, tuple) else state

    y, h_n = run(ours, ragged, offsets=offsets)
    for threads in (1, 3):
        sf.set_num_threads(threads)
        assert torch.equal(run(ours, ragged, offsets=offsets)[0], y)
        assert torch.equal(run(ours, packed)[1], h_n)
        of_packed = torch.nn.utils.rnn.pad_packed_sequence(run(ours, packed)[0])[0]
        for b, n in enumerate(lengths):
            assert torch.equal(of_packed[:n, b], y[offsets[b] : offsets[b + 1]])
    # sessions of full length do not see that others are padded
    padded = run(ours, x)[0]
    assert torch.equal(padded[:, 1], y[offsets[1] : offsets[2]])
    assert torch.equal(run(first, x.transpose(0, 1))[0].transpose(0, 1), padded)
    assert not torch.equal(ours(x)[0], padded)


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_a_seed_reproduces_gradients_and_compiled_calls_run(kind):
    torch.manual_seed(2)
    ours = getattr(snn, kind)(4, 20, recurrent_dropout=0.3, zoneout=0.2)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    x = torch.randn(6, 3, 4)
    grads = []
    for threads, module in ((1, ours), (2, ours), (1, compiled)):
        sf.set_num_threads(threads)
        torch.manual_seed(5)
        y = module(x)[0]
        grads.append([y, *torch.autograd.grad(y.sum(), list(ours.parameters()))])
    for first, second in zip(*grads[:2], strict=True):
        assert torch.equal(first, second)
    assert all(torch.isfinite(grad).all() for grad in grads[2])


def test_rates_are_those_asked_for():
    noise = reference.Noise(recurrent_dropout=0.3, seed=SEED)
    dropped = [noise.happens(0, 0.3, step, 5, 64) for step in range(400)]
    assert abs(np.mean(dropped) - 0.3) < 0.01
    torch.manual_seed(3)
    rnn = snn.RNN(1, 64, recurrent_dropout=0.25)
    y = rnn(torch.randn(50, 20, 1))[0]
    assert abs((y == 0).float().mean() - 0.25) < 0.01
    zoned = snn.RNN(1, 64, zoneout=0.25)(torch.randn(50, 20, 1))[0]
    assert abs((zoned[1:] == zoned[:-1]).float().mean() - 0.25) < 0.01
    gru = snn.GRU(64, 64, variational_dropout=0.25)
    x = torch.ones(3, 200, 64, requires_grad=True)
    (dx,) = torch.autograd.grad(gru(x)[0].sum(), x)
    assert abs((dx == 0).float().mean() - 0.25) < 0.02
    assert torch.equal(dx[0] == 0, dx[2] == 0)


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_eval(kind):
    torch.manual_seed(6)
    plain = getattr(snn, kind)(4, 20)
    x = torch.randn(5, 3, 4)
    dropping = getattr(snn, kind)(4, 20, recurrent_dropout=0.3, variational_dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    assert torch.equal(dropping.eval()(x)[0], plain(x)[0])
    zoning = getattr(snn, kind)(4, 20, zoneout=0.3)
    zoning.load_state_dict(plain.state_dict())
    first = zoning.eval()(x)[0][0]
    torch.testing.assert_close(first, 0.7 * plain(x)[0][0])


def test_extra_repr_and_errors():
    assert repr(snn.GRU(3, 4, zoneout=0.1)) == "GRU(3, 4, zoneout=0.1)"
    for bad in (1.0, -0.1, float("nan"), "0.5", True):
        with pytest.raises(ValueError, match=r"LSTM: recurrent_dropout is .*; expected a number"):
            snn.LSTM(3, 4, recurrent_dropout=bad)
    tensors, rest, _ = arguments("gru", 3, 5, NOISES[1])
    rest[8] = 1.0
    with pytest.raises(ValueError, match=r"rnn_forward: zoneout is 1; expected 0 <= zoneout < 1"):
        rnn_forward(RnnCall("gru", *tensors, *rest))
    tensors, rest, _ = arguments("gru", 3, 5, NOISES[1])
    with pytest.raises(ValueError, match=r"rnn_forward: sessions has 3 entries; expected 4"):
        rnn_forward(RnnCall("gru", *tensors, *rest[:-1], torch.arange(3)))
