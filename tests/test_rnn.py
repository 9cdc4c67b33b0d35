"""The torch-free layers and the kernels below them, against the float64 reference."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading

import numpy as np
import pytest

import seqrec_fast as sf
from rnn_cases import CELLS, SIZES, make_weights, relative_error
from seqrec_fast import _core, reference

TOLERANCE = {"float32": 2e-6, "float64": 2e-15}


def layer_of(cell: str, weights: dict[str, np.ndarray], precision: str = "float32"):
    arrays = {f"{name}_l0": value for name, value in weights.items()}
    if cell.startswith("gru"):
        return sf.GRU.from_state_dict(arrays, precision=precision, reset_after=cell == "gru")
    if cell == "lstm":
        return sf.LSTM.from_state_dict(arrays, precision=precision)
    return sf.RNN.from_state_dict(arrays, precision=precision, nonlinearity=cell[4:])


def run(layer, x, offsets=None, h0=None):
    y, state = layer(x, h0, offsets)
    return y, *(state if isinstance(state, tuple) else (state, None))


def ragged(rng: np.random.Generator, lengths: list[int], input_size: int, dtype: str):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return rng.standard_normal((offsets[-1], input_size)).astype(dtype), offsets


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_target_equals_the_reference(cell, precision, target, rng):
    for hidden in SIZES:
        weights = make_weights(rng, cell, 13, hidden)
        x, offsets = ragged(rng, [3, 0, 1, 7, 2], 13, precision)
        y, h_n, c_n = run(layer_of(cell, weights, precision), x, offsets)
        expected = reference.rnn(cell, x, offsets, weights)
        for name, got, truth in zip(("y", "h_n", "c_n"), (y, h_n, c_n), expected, strict=True):
            if truth is not None:
                assert relative_error(got.reshape(truth.shape), truth) < TOLERANCE[precision], (
                    hidden,
                    name,
                )


@pytest.mark.parametrize("cell", CELLS)
def test_initial_state(cell, target, rng):
    weights = make_weights(rng, cell, 5, 20)
    x, offsets = ragged(rng, [4, 0, 2], 5, "float32")
    h_0, c_0 = (rng.standard_normal((1, 3, 20)).astype("f") for _ in range(2))
    h0 = (h_0, c_0) if cell == "lstm" else h_0
    y, h_n, c_n = run(layer_of(cell, weights), x, offsets, h0)
    expected = reference.rnn(cell, x, offsets, weights, h_0[0], c_0[0])
    assert relative_error(y, expected[0]) < 1e-6
    assert relative_error(h_n[0], expected[1]) < 1e-6
    np.testing.assert_array_equal(h_n[0, 1], h_0[0, 1])  # length 0: the state as it came
    if c_n is not None:
        assert relative_error(c_n[0], expected[2]) < 1e-6


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_of_zeros_beside_others_is_no_state(cell, target, rng):
    """Products with zeros are left out only where a whole tile has none but zeros."""
    layer = layer_of(cell, make_weights(rng, cell, 5, 20))
    x, offsets = ragged(rng, [4, 1], 5, "float32")
    alone = run(layer, x[:4], offsets[:2])
    for other in (0, 1):
        states = [np.stack([np.zeros(20), np.full(20, other)])[None].astype("f") for _ in range(2)]
        beside = run(layer, x, offsets, tuple(states) if cell == "lstm" else states[0])
        np.testing.assert_array_equal(beside[0][:4], alone[0])
        np.testing.assert_array_equal(beside[1][0, 0], alone[1].reshape(-1))


@pytest.mark.parametrize("projection", [1, 16, 30])
def test_lstm_projection(projection, target, rng):
    weights = make_weights(rng, "lstm", 9, 40, projection)
    x, offsets = ragged(rng, [5, 1, 3], 9, "float32")
    y, h_n, c_n = run(layer_of("lstm", weights), x, offsets)
    expected = reference.rnn("lstm", x, offsets, weights)
    assert y.shape == (9, projection)
    assert h_n.shape == (1, 3, projection)
    assert c_n.shape == (1, 3, 40)
    for got, truth in zip((y, h_n[0], c_n[0]), expected, strict=True):
        assert relative_error(got, truth) < 1e-6


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("hidden", [5, 40, 129])
def test_a_session_does_not_depend_on_its_batch(cell, hidden, target, rng):
    """Alone, in any batch, on any number of threads, whole or event by event: the same bits."""
    layer = layer_of(cell, make_weights(rng, cell, 11, hidden))
    lengths = [int(n) for n in rng.integers(0, 9, 70)]
    x, offsets = ragged(rng, lengths, 11, "float32")
    for threads in (1, 2, 3):
        sf.set_num_threads(threads)
        y, h_n, _ = run(layer, x, offsets)
        if threads == 1:
            first = y, h_n
        np.testing.assert_array_equal(y, first[0])
        np.testing.assert_array_equal(h_n, first[1])
    for b in (0, 13, 69):
        rows = slice(offsets[b], offsets[b + 1])
        alone = run(layer, x[rows], np.array([0, lengths[b]]))
        np.testing.assert_array_equal(alone[0], y[rows])
        state = None
        for event in x[rows]:
            step, state = layer(event.reshape(1, 1, -1), state)
        if lengths[b]:
            np.testing.assert_array_equal(step[0, 0], y[rows][-1])
    shuffled = rng.permutation(70)
    parts = [x[offsets[b] : offsets[b + 1]] for b in shuffled]
    shuffled_offsets = np.concatenate([[0], np.cumsum([len(p) for p in parts])])
    again = run(layer, np.concatenate(parts), shuffled_offsets)
    np.testing.assert_array_equal(again[1][0], h_n[0][shuffled])


def test_padded_equals_ragged(rng):
    layer = layer_of("gru", make_weights(rng, "gru", 6, 24))
    x = rng.standard_normal((7, 5, 6)).astype("f")
    y, h_n = layer(x)
    flat = np.ascontiguousarray(x.transpose(1, 0, 2)).reshape(35, 6)
    y_ragged, h_ragged = layer(flat, offsets=np.arange(0, 36, 7))
    np.testing.assert_array_equal(y.transpose(1, 0, 2).reshape(35, 24), y_ragged)
    np.testing.assert_array_equal(h_n, h_ragged)


@pytest.mark.parametrize("cell", CELLS)
def test_input_gates_in_place_of_weight_ih(cell, rng):
    weights = make_weights(rng, cell, 10, 21)
    x, offsets = ragged(rng, [3, 5], 10, "float64")
    gates = x @ weights["weight_ih"].T
    without = {name: value for name, value in weights.items() if name != "weight_ih"}
    y, _, _ = run(layer_of(cell, weights, "float64"), x, offsets)
    y_gates, _, _ = run(layer_of(cell, without, "float64"), gates, offsets)
    np.testing.assert_allclose(y, y_gates, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_hostile_values_do_what_the_definition_does(cell, target, rng):
    weights = make_weights(rng, cell, 3, 20)
    x = np.array([[1e30, -1e30, 1e4], [np.inf, 0, 0], [np.nan, 0, 0], [1e-40, -1e-40, 0]], "f")
    offsets = np.arange(5)
    y, _, _ = run(layer_of(cell, weights), x, offsets)
    with np.errstate(all="ignore"):
        expected = reference.rnn(cell, x.astype(np.float64), offsets, weights)[0]
    assert np.isnan(y[2]).all()
    np.testing.assert_allclose(y[[0, 3]], expected[[0, 3]], rtol=1e-5, atol=1e-6)
    if cell != "rnn_relu":  # inf - inf inside a ReLU network's sums is NaN in both
        np.testing.assert_allclose(y[1], expected[1], rtol=1e-5, atol=1e-6)


def test_empty_inputs(rng):
    layer = layer_of("lstm", make_weights(rng, "lstm", 4, 12))
    y, h_n, c_n = run(layer, np.zeros((0, 4), "f"), np.array([0]))
    assert y.shape == (0, 12)
    assert h_n.shape == c_n.shape == (1, 0, 12)
    y, h_n, _ = run(layer, np.zeros((0, 4), "f"), np.array([0, 0, 0]))
    assert not h_n.any()
    assert layer(np.zeros((0, 2, 4), "f"))[0].shape == (0, 2, 12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f(np.zeros((2, 2, 5), "f")), r"x has shape \(2, 2, 5\); expected \(T, B, 4\)"),
        (lambda f: f(np.zeros((2, 2, 4))), "x is float64; expected float32"),
        (lambda f: f(np.zeros((2, 4), "f"), offsets=[0, 2, 1]), "offsets decrease from 2 to 1"),
        (lambda f: f(np.zeros((2, 4), "f"), offsets=[0, 3]), "offsets end at 3; expected 2"),
        (lambda f: f(np.zeros((2, 4), "f"), offsets=[1, 2]), r"offsets\[0\] is 1"),
        (lambda f: f(np.zeros((2, 4), "f"), offsets=np.zeros(0, int)), "offsets is empty"),
        (lambda f: f(np.zeros((2, 4), "f"), offsets=[0.0, 2.0]), "expected .* integers"),
        (lambda f: f(np.zeros((2, 2, 4), "f"), np.zeros((1, 3, 6), "f")), "GRU: h0 is float32 of"),
    ],
)
def test_bad_input(call, message, rng):
    layer = layer_of("gru", make_weights(rng, "gru", 4, 6))
    with pytest.raises((ValueError, TypeError), match=message):
        call(layer)


def test_states_of_a_pair_are_named_by_their_place(rng):
    layer = layer_of("lstm", make_weights(rng, "lstm", 4, 6))
    right, wrong, x = np.zeros((1, 2, 6), "f"), np.zeros((1, 2, 5), "f"), np.zeros((2, 2, 4), "f")
    for place, pair in enumerate([(wrong, right), (right, wrong)]):
        with pytest.raises(ValueError, match=rf"LSTM: h0\[{place}\] is float32 of shape"):
            layer(x, pair)


def test_bad_weights(rng):
    weights = make_weights(rng, "gru", 4, 10)
    for change, message in (
        ({"weight_hh": np.zeros((30, 9))}, r"weight_hh has shape \(30, 9\); expected \(30, 10\)"),
        ({"weight_hh": np.zeros((31, 10))}, "weight_hh has 31 rows; expected 3 times"),
        ({"bias_ih": np.zeros(29)}, r"bias_ih has shape \(1, 29\); expected \(1, 30\)"),
        ({"bias_hh": np.full(30, np.nan)}, "'bias_hh_l0' has a value that is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            layer_of("gru", {**weights, **change})
    with pytest.raises(ValueError, match="arrays have no 'weight_hh_l0'"):
        sf.GRU.from_state_dict({})
    with pytest.raises(ValueError, match="precision is 'float16'"):
        layer_of("gru", weights, "float16")
    skip = ("weight_ih1",)
    with pytest.raises(ValueError, match="arrays have no 'weight_ih_l1'"):
        sf.GRU.from_state_dict(
            {f"{k}_l{i}": v for k, v in weights.items() for i in (0, 1) if f"{k}{i}" not in skip}
        )
    for present, missing in (
        (("l0", "l2"), "weight_hh_l1"),
        (("l0", "l1_reverse"), "weight_hh_l0_reverse"),
        (("l0", "l0_reverse", "l1", "l1_reverse", "l3_reverse"), "weight_hh_l2"),
    ):
        square = {k: np.zeros((30, 10)) if k == "weight_ih" else v for k, v in weights.items()}
        arrays = {f"rnn.{k}_{layer}": v for k, v in square.items() for layer in present}
        if "l0_reverse" in present:
            wide = np.zeros((30, 20))
            arrays |= {f"rnn.weight_ih_{layer}": wide for layer in ("l1", "l1_reverse")}
        with pytest.raises(ValueError, match=rf"arrays have 'rnn\..*' but no 'rnn\.{missing}'"):
            sf.GRU.from_state_dict(arrays, prefix="rnn.")


@pytest.mark.parametrize("layer", [sf.GRU, sf.LSTM, sf.RNN, sf.AUGRU])
def test_layers_are_made_of_state_dicts(layer):
    for arguments in ((), (4, 5)):
        message = rf"^{layer.__name__}: is made of a state dict; expected .*\.from_state_dict"
        with pytest.raises(TypeError, match=message):
            layer(*arguments)


@pytest.mark.parametrize("cell", CELLS)
def test_copies_share_the_packed_weights(cell, rng):
    layer = layer_of(cell, make_weights(rng, cell, 5, 12))
    x = rng.standard_normal((3, 2, 5)).astype("float32")
    for copied in (copy.copy(layer), copy.deepcopy(layer), copy.deepcopy({"rnn": layer})["rnn"]):
        assert copied is not layer
        assert repr(copied) == repr(layer)
        np.testing.assert_array_equal(copied(x)[0], layer(x)[0])
    with pytest.raises(TypeError, match=r"cannot be pickled, .*; expected the state dict"):
        pickle.dumps(layer)


def test_kernels_refuse_arrays_that_do_not_fit(rng):
    weights = {k: v.astype("f") for k, v in make_weights(rng, "gru", 4, 10).items()}
    packed = _core.PackedRnnF32("gru", *weights.values(), None)
    layout = _core.SequenceLayout.padded(3, 2, False)
    good = {
        "layout": layout, "x": np.zeros((6, 4), "f"), "h_0": None, "c_0": None, "reset": None,
        "reverse": False, "y": np.zeros((6, 10), "f"), "h_n": np.zeros((2, 10), "f"),
        "c_n": None, "saved": None,
    }  # fmt: skip
    packed.forward(**good)
    for name, value in (
        ("x", np.zeros((5, 4), "f")),
        ("y", np.zeros((6, 9), "f")),
        ("h_n", np.zeros((2, 9), "f")),
        ("saved", np.zeros((6, 10), "f")),
        ("c_0", np.zeros((2, 10), "f")),
    ):
        with pytest.raises(ValueError, match=name):
            packed.forward(**{**good, name: value})
    with pytest.raises(TypeError, match="x is not a NumPy array of float32"):
        packed.forward(**{**good, "x": np.zeros((6, 4))})
    with pytest.raises(TypeError, match="not contiguous"):
        packed.forward(**{**good, "x": np.zeros((6, 8), "f")[:, ::2]})
    with pytest.raises(ValueError, match="cell 'gur' is unknown"):
        _core.PackedRnnF32("gur", *weights.values(), None)


def test_concurrent_calls_give_the_same_bits(rng):
    layer = layer_of("gru", make_weights(rng, "gru", 16, 48))
    inputs = [rng.standard_normal((20, 30, 16)).astype("f") for _ in range(6)]
    expected = [layer(x)[0] for x in inputs]
    sf.set_num_threads(3)
    results: list = [None] * len(inputs)

    def work(i: int) -> None:
        for _ in range(5):
            results[i] = layer(inputs[i])[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, want)


def _child(queue, x, weights) -> None:
    sf.set_num_threads(2)
    queue.put(layer_of("gru", weights)(x)[0].sum())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(rng):
    weights = make_weights(rng, "gru", 8, 32)
    x = rng.standard_normal((6, 100, 8)).astype("f")
    sf.set_num_threads(2)
    expected = layer_of("gru", weights)(x)[0].sum()  # the pool exists before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_child, args=(queue, x, weights))
    process.start()
    assert queue.get(timeout=60) == expected
    process.join(60)
    assert process.exitcode == 0
