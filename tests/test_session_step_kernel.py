from __future__ import annotations

import numpy as np
import pytest

import seqrec_fast as sf
from seqrec_fast import _core

N = 40


def arguments(**changes):
    rng = np.random.default_rng(0)

    def parameter(*shape):
        value, mean, square = (rng.standard_normal(shape) * 0.1 for _ in range(3))
        return value, mean, square**2

    given = {
        "cell": "gru", "rule": ("adagrad", 0.1, 0.0, 0.5, 0.9, 0.999, 1e-6, 1, None, None),
        "input_table": parameter(N, 4), "item_table": None, "item_bias": parameter(N),
        "layers": [(parameter(12, 4), parameter(12, 4), parameter(12), parameter(12))],
        "loss": "softmax", "collisions": "mask", "elu": -1.0, "regularization": 0.0,
        "dropout_input": 0.0, "dropout_hidden": 0.0, "carry_dropout": False, "seed": 0,
        "items": np.arange(3), "target": np.arange(3) + 1, "offsets": np.array([0, 2, 3]),
        "reset": None, "negatives": np.arange(7), "log_q": None, "target_log_q": None,
        "h_0": None, "c_0": None, "h_n": np.empty((2, 4)), "c_n": None,
    }  # fmt: skip
    return {**given, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": np.array([0, N, 1])}, rf"items\[1\] is {N}; expected 0 to {N - 1}"),
        ({"target": np.array([0, -1, 1])}, r"target\[1\] is -1"),
        ({"negatives": np.array([N])}, r"negatives\[0\] is 40"),
        ({"offsets": np.array([0, 2, 4])}, "offsets"),
        ({"h_n": np.empty((3, 4))}, r"h_n has shape \(3, 4\); expected \(2, 4\)"),
        ({"item_bias": (np.zeros(3),) * 3}, r"item_bias has shape \(1, 3\)"),
        ({"dropout_input": 1.0}, "dropout is 1; expected 0 <= dropout < 1"),
        ({"layers": []}, "there are no layers"),
        ({"layers": [(None,) + ((np.zeros((12, 4)),) * 3,) * 3]}, "has no weight_ih"),
        ({"input_table": (np.zeros((N, 4)), None, None)}, "mean is missing"),
        ({"loss": "hinge"}, "loss is hinge; expected one of softmax"),
    ],
)
def test_wrong_input_changes_nothing(changes, message) -> None:
    given = arguments(**changes)
    before = given["input_table"][0].copy()
    with pytest.raises(ValueError, match=message):
        _core.session_step_f64(**given)
    assert (given["input_table"][0] == before).all()


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    given = arguments()
    given["input_table"][0][1, 2] = np.nan
    before = [p[0].copy() for p in given["layers"][0]]
    assert np.isnan(_core.session_step_f64(**given))
    for (value, _, _), old in zip(given["layers"][0], before, strict=True):
        assert (value == old).all()


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm", "rnn_tanh"])
@pytest.mark.parametrize("loss", ["softmax", "bpr_max"])
def test_threads_do_not_change_a_bit(cell, loss, target) -> None:
    results = []
    for threads in (1, 3):
        sf.set_num_threads(threads)
        given = arguments(
            cell=cell, loss=loss, dropout_input=0.3, dropout_hidden=0.2, carry_dropout=True
        )
        rng = np.random.default_rng(1)
        rows = _core.gate_count(cell) * 4

        def parameter(*shape, rng=rng):
            return rng.standard_normal(shape), np.zeros(shape), np.zeros(shape)

        given["layers"] = [
            (parameter(rows, 4), parameter(rows, 4), parameter(rows), parameter(rows))
            for _ in range(2)
        ]
        given["h_n"] = np.empty((4, 4))
        given["c_n"] = np.empty((4, 4)) if cell == "lstm" else None
        losses = [_core.session_step_f64(**given) for _ in range(3)]
        assert losses[2] < losses[0]
        results.append([*losses, given["input_table"][0], given["layers"][1][1][0], given["h_n"]])
    for one, several in zip(*results, strict=True):
        np.testing.assert_array_equal(one, several)
