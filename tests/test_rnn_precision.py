"""bfloat16 and int8 layers, on every back end of this machine, against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

import seqrec_fast as sf
from rnn_cases import CELLS, make_weights
from seqrec_fast import reference
from test_rnn import layer_of, ragged, run

# Of states that go from -1 to 1: 2^-9 relative in bfloat16, half a step of 1/127 in int8, and some
# room for what a recurrence makes of it.
TOLERANCE = {"bfloat16": 0.02, "int8": 0.04}
BACKENDS = [(p, name) for p in TOLERANCE for name in sf.supported_backends(p)]
SIZES = [1, 16, 33, 100, 130]


@pytest.fixture(params=BACKENDS, ids="-".join)
def precision(request):
    """Run the test once with every back end of this machine."""
    with sf.force_backend(*request.param):
        yield request.param[0]


def small_weights(rng, cell, input_size, hidden, projection=None):
    """Weights with which even a plain RNN neither explodes nor amplifies the rounding."""
    weights = make_weights(rng, cell, input_size, hidden, projection)
    scale = 0.5 if cell == "rnn_relu" else 1.0
    return {name: (value * scale).astype("f") for name, value in weights.items()}


def bfloat16(x: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(x, "f").view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return rounded.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("cell", CELLS)
def test_every_back_end_is_near_the_reference(cell, precision, rng):
    for hidden in SIZES:
        weights = small_weights(rng, cell, 13, hidden)
        x, offsets = ragged(rng, [3, 0, 1, 7, 2] * 5, 13, "float32")
        y, h_n, c_n = run(layer_of(cell, weights, precision), x, offsets)
        truth = reference.rnn(cell, x, offsets, weights)
        scale = max(1.0, np.abs(truth[0]).max())
        assert np.abs(y - truth[0]).max() < TOLERANCE[precision] * scale, hidden
        assert np.abs(h_n[0] - truth[1]).max() < TOLERANCE[precision] * scale
        if c_n is not None:
            assert np.abs(c_n[0] - truth[2]).max() < 2 * TOLERANCE[precision] * scale


@pytest.mark.parametrize("hidden", SIZES)
def test_one_step_is_that_of_rounded_operands(hidden, precision, rng):
    # From a zero state only the input's product is rounded: its exact value is known.
    weights = make_weights(rng, "gru", 70, hidden)
    x = rng.standard_normal((1, 40, 70)).astype("f")
    rounded = dict(weights)
    if precision == "bfloat16":
        exact_x = bfloat16(x)
        rounded["weight_ih"] = bfloat16(weights["weight_ih"])
    else:
        unit = np.abs(x).max(-1, keepdims=True).astype("f") / np.float32(127)
        exact_x = np.rint(x / unit) * unit
        unit = np.abs(weights["weight_ih"]).max(-1, keepdims=True) / np.float32(127)
        rounded["weight_ih"] = np.rint(weights["weight_ih"] / unit) * unit
    y, _, _ = run(layer_of("gru", weights, precision), x)
    truth = reference.rnn("gru", exact_x[0], np.arange(41), rounded)[0]
    # A value on the edge between two 8-bit steps may fall to either side.
    off = np.abs(y[0] - truth).max(-1)
    assert np.quantile(off, 0.9) < 2e-6
    assert off.max() < (2e-6 if precision == "bfloat16" else 5e-3)


@pytest.mark.parametrize("cell", CELLS)
def test_same_bits_for_any_batch_threads_and_event_by_event(cell, precision, rng):
    weights = small_weights(rng, cell, 20, 70)
    layer = layer_of(cell, weights, precision)
    x, offsets = ragged(rng, [9, 1, 0, 30, 2, 17] * 4, 20, "float32")
    y, h_n, c_n = run(layer, x, offsets)
    sf.set_num_threads(2)
    np.testing.assert_array_equal(run(layer, x, offsets)[0], y)
    # States of zeros, but for a session of no events: products are not left out.
    h_0, c_0 = (np.zeros((1, 24, 70), "f") for _ in range(2))
    h_0[0, 2::6] = 1
    beside = run(layer, x, offsets, (h_0, c_0) if cell == "lstm" else h_0)
    np.testing.assert_array_equal(beside[0], y)
    for b in (0, 3, 5):
        session = x[offsets[b] : offsets[b + 1]]
        alone = run(layer, session, [0, len(session)])
        np.testing.assert_array_equal(alone[0], y[offsets[b] : offsets[b + 1]])
        state = None
        for event in session:
            step, h, c = run(layer, event[None], [0, 1], state)
            state = (h, c) if cell == "lstm" else h
        np.testing.assert_array_equal(h[0, 0], h_n[0, b])
        np.testing.assert_array_equal(step[0], y[offsets[b + 1] - 1])
        if c_n is not None:
            np.testing.assert_array_equal(c[0, 0], c_n[0, b])


@pytest.mark.parametrize("largest", [False, True])
def test_same_bits_on_every_int8_back_end(largest, rng):
    weights = make_weights(rng, "gru", 24, 50)
    x, offsets = ragged(rng, [5, 40, 1], 24, "float32")
    if largest:  # codes, of weights, inputs and states: products of pairs fill 16 bits
        weights = {name: np.copysign(1, value + 0.1) for name, value in weights.items()}
        x = np.ones_like(x)
    outputs = []
    for name in ("auto", *sf.supported_backends("int8")):  # by itself another for few rows
        with sf.force_backend("int8", name):
            outputs.append(run(layer_of("gru", weights, "int8"), x, offsets)[0])
    for y in outputs[1:]:
        np.testing.assert_array_equal(y, outputs[0])


@pytest.mark.parametrize("precision", TOLERANCE)
def test_every_target(precision, target, rng):
    weights = make_weights(rng, "lstm", 24, 50)
    x, offsets = ragged(rng, [5, 40, 1], 24, "float32")
    y = run(layer_of("lstm", weights, precision), x, offsets)[0]
    truth = reference.rnn("lstm", x, offsets, weights)[0]
    assert np.abs(y - truth).max() < TOLERANCE[precision]


@pytest.mark.parametrize("projection", [1, 30])
def test_projection(projection, precision, rng):
    weights = make_weights(rng, "lstm", 9, 40, projection)
    x, offsets = ragged(rng, [5, 1, 3], 9, "float32")
    y = run(layer_of("lstm", weights, precision), x, offsets)[0]
    assert np.abs(y - reference.rnn("lstm", x, offsets, weights)[0]).max() < TOLERANCE[precision]


def test_ids_with_and_without_the_table_give_the_same_bits(precision, rng):
    weights = {f"{k}_l0": v for k, v in make_weights(rng, "gru", 24, 50).items()}
    table = rng.standard_normal((90, 24)).astype("f")
    ids = rng.integers(0, 90, (11, 7))
    layers = [
        sf.GRU.from_state_dict(weights, precision=precision, embedding=table, gate_table_bytes=size)
        for size in (0, 1 << 20)
    ]
    dense = sf.GRU.from_state_dict(weights, precision=precision)
    expected = dense(table[ids])[0]
    for layer in layers:
        np.testing.assert_array_equal(layer(ids)[0], expected)


def test_weights_take_less_memory(rng):
    weights = make_weights(rng, "gru", 256, 256)
    size = {p: layer_of("gru", weights, p).nbytes for p in ("float32", "bfloat16", "int8")}
    assert size["bfloat16"] < 0.52 * size["float32"]
    assert size["int8"] < 0.28 * size["float32"]


def test_hostile_values(precision, rng):
    weights = make_weights(rng, "gru", 20, 33)
    layer = layer_of("gru", weights, precision)
    x = rng.standard_normal((6, 3, 20)).astype("f")
    expected = layer(x)[0]
    bad = x.copy()
    bad[2, 1, 4] = np.nan
    y = layer(bad)[0]
    assert np.isnan(y[2:, 1]).all()
    np.testing.assert_array_equal(y[:, [0, 2]], expected[:, [0, 2]])
    np.testing.assert_array_equal(y[:2], expected[:2])
    assert np.isfinite(layer(np.full((2, 1, 20), 1e30, "f"))[0]).all()
    assert np.isfinite(layer(np.zeros((2, 1, 20), "f"))[0]).all()
    weights["weight_ih"][:] = 0
    weights["weight_hh"][:] = 1e-42
    assert np.isfinite(layer_of("gru", weights, precision)(x)[0]).all()


def test_int8_wants_states_in_its_range(rng):
    layer = layer_of("gru", make_weights(rng, "gru", 4, 10), "int8")
    x = np.zeros((1, 1, 4), "f")
    layer(x, np.ones((1, 1, 10), "f"))
    with pytest.raises(ValueError, match=r"h_0 has the value 1\.5; expected -1 to 1"):
        layer(x, np.full((1, 1, 10), 1.5, "f"))
    relu = layer_of("rnn_relu", make_weights(rng, "rnn_relu", 4, 10), "int8")
    relu(x, np.full((1, 1, 10), 1.5, "f"))


def test_an_unknown_back_end_is_an_error():
    with pytest.raises(ValueError, match="force_backend: no back end 'mmx' for int8 on this"):
        sf.force_backend("int8", "mmx")
    with pytest.raises(ValueError, match="precision is 'float16'; expected 'bfloat16' or 'int8'"):
        sf.supported_backends("float16")
    assert sf.active_backend("int8") == sf.supported_backends("int8")[-1]
