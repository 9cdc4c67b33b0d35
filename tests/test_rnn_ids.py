"""Item ids as input, and last outputs alone: the bits of the plain call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqrec_fast as sf
from rnn_cases import make_weights

ITEMS = 61
BUILDERS = {
    "gru": (sf.GRU, {}),
    "gru_reset_before": (sf.GRU, {"reset_after": False}),
    "lstm": (sf.LSTM, {}),
    "rnn_tanh": (sf.RNN, {}),
    "rnn_relu": (sf.RNN, {"nonlinearity": "relu"}),
}


def arrays_of(
    rng: np.random.Generator, cell: str, inputs: int, hidden: int, layers: int, directions: int
) -> dict[str, np.ndarray]:
    arrays = {}
    for layer in range(layers):
        width = inputs if layer == 0 else hidden * directions
        for suffix in ("", "_reverse")[:directions]:
            weights = make_weights(rng, cell, width, hidden)
            arrays |= {f"{name}_l{layer}{suffix}": value for name, value in weights.items()}
    return arrays


def flat(state: Any) -> list[np.ndarray]:
    return list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("cell", BUILDERS)
@pytest.mark.parametrize(("inputs", "hidden"), [(5, 3), (16, 33), (100, 64)])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("gate_table_bytes", [0, 1 << 20])
def test_ids_give_the_bits_of_their_rows(
    cell, inputs, hidden, precision, gate_table_bytes, rng, target
):
    kind, options = BUILDERS[cell]
    arrays = arrays_of(rng, cell, inputs, hidden, 2, 2)
    table = rng.normal(size=(ITEMS, inputs)).astype(precision)
    dense = kind.from_state_dict(arrays, precision=precision, **options)
    by_id = kind.from_state_dict(
        arrays, precision=precision, embedding=table, gate_table_bytes=gate_table_bytes, **options
    )
    offsets = np.array([0, 3, 3, 4, 60])
    ids = rng.integers(0, ITEMS, 60)
    y, state = dense(table[ids], offsets=offsets)
    y_ids, state_ids = by_id(ids.astype(np.int32), offsets=offsets)
    np.testing.assert_array_equal(y_ids, y)
    for ours, theirs in zip(flat(state_ids), flat(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    padded = ids.reshape(10, 6)
    np.testing.assert_array_equal(by_id(padded)[0], dense(table[padded])[0])


@pytest.mark.parametrize("cell", BUILDERS)
@pytest.mark.parametrize("directions", [1, 2])
def test_last_outputs_are_the_final_states(cell, directions, rng):
    kind, options = BUILDERS[cell]
    layer = kind.from_state_dict(arrays_of(rng, cell, 6, 20, 2, directions), **options)
    x = rng.normal(size=(7, 6)).astype(np.float32)
    offsets = [0, 4, 4, 7]
    y, state = layer(x, offsets=offsets)
    last, last_state = layer(x, offsets=offsets, outputs="last")
    for ours, theirs in zip(flat(last_state), flat(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(last, np.concatenate(flat(state)[0][-directions:], -1))
    np.testing.assert_array_equal(last[[0, 2], :20], y[[3, 6], :20])
    assert not last[1].any()


def test_input_gates_by_id(rng):
    arrays = make_weights(rng, "gru", 4, 9)
    del arrays["weight_ih"]
    arrays = {f"{name}_l0": value for name, value in arrays.items()}
    table = rng.normal(size=(ITEMS, 27)).astype(np.float32)
    ids = rng.integers(0, ITEMS, (5, 2))
    y, _ = sf.GRU.from_state_dict(arrays, embedding=table)(ids)
    np.testing.assert_array_equal(y, sf.GRU.from_state_dict(arrays)(table[ids])[0])


def test_a_gate_table_counts_in_nbytes_and_keeps_to_its_budget(rng):
    arrays = arrays_of(rng, "gru", 8, 16, 1, 1)
    table = rng.normal(size=(ITEMS, 8)).astype(np.float32)
    plain = sf.GRU.from_state_dict(arrays).nbytes
    size = ITEMS * 3 * 16 * 4
    with_table = sf.GRU.from_state_dict(arrays, embedding=table, gate_table_bytes=size)
    without = sf.GRU.from_state_dict(arrays, embedding=table, gate_table_bytes=size - 1)
    assert with_table.nbytes == plain + size
    assert without.nbytes == plain + table.nbytes


@pytest.mark.parametrize("gate_table_bytes", [0, 1 << 20])
@pytest.mark.parametrize("bad", [-1, ITEMS])
def test_an_id_out_of_range_is_named(bad, gate_table_bytes, rng):
    arrays = arrays_of(rng, "gru", 8, 16, 1, 1)
    table = rng.normal(size=(ITEMS, 8)).astype(np.float32)
    layer = sf.GRU.from_state_dict(arrays, embedding=table, gate_table_bytes=gate_table_bytes)
    with pytest.raises(ValueError, match=rf"ids\[1\] is {bad}; expected 0 to {ITEMS - 1}"):
        layer(np.array([[3], [bad]]))


def test_wrong_input_is_named(rng):
    arrays = arrays_of(rng, "gru", 8, 16, 1, 1)
    table = rng.normal(size=(ITEMS, 8)).astype(np.float32)
    layer = sf.GRU.from_state_dict(arrays, embedding=table)
    with pytest.raises(TypeError, match=r"GRU: x is float32; expected integer item ids"):
        layer(table[None, :2])
    with pytest.raises(ValueError, match=r"GRU: x has shape \(3,\); expected \(T, B\)"):
        layer(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"outputs is 'first'; expected 'all' or 'last'"):
        layer(np.zeros((3, 1), np.int64), outputs="first")
    with pytest.raises(ValueError, match=r"embedding has shape \(61, 8\); expected \(V, 9\)"):
        sf.GRU.from_state_dict(arrays_of(rng, "gru", 9, 16, 1, 1), embedding=table)
    table[4, 4] = np.nan
    with pytest.raises(ValueError, match="finite"):
        sf.GRU.from_state_dict(arrays, embedding=table)
