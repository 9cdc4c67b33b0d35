"""The compiled backward pass without PyTorch: against differences of the forward pass."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import seqrec_fast as sf
from rnn_cases import ATTENTION_CELLS, CELLS, make_weights
from seqrec_fast import _core

LENGTHS = (4, 0, 1, 7, 2)
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class Call:
    """One ragged batch with resets, its forward and backward pass in float64."""

    def __init__(
        self, cell: str, inputs: int, hidden: int, projection: int, reverse: bool,
        lengths: Sequence[int] = LENGTHS,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(5)
        self.cell, self.hidden, self.reverse = cell, hidden, reverse
        state = projection or hidden
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        n, batch = int(self.offsets[-1]), len(lengths)
        self.values: dict[str, Any] = make_weights(rng, cell, inputs, hidden, projection)
        self.values |= {"x": rng.normal(size=(n, inputs)), "h_0": rng.normal(size=(batch, state))}
        if cell == "lstm":
            self.values["c_0"] = rng.normal(size=(batch, hidden))
        if cell in ATTENTION_CELLS:
            self.values["attention"] = rng.random(n)
        self.reset = (rng.random(n) < 0.2).astype(np.uint8)
        self.wanted: dict[str, np.ndarray] = {}  # arrays for the gradients, else new ones
        self.seeds = [rng.normal(size=(n, state)), rng.normal(size=(batch, state))]
        self.seeds.append(rng.normal(size=(batch, hidden)))

    def of_sessions(self, first: int, last: int) -> Call:
        """The same call with some of the sessions only."""
        part = copy.copy(self)
        rows = slice(self.offsets[first], self.offsets[last])
        part.offsets = self.offsets[first : last + 1] - self.offsets[first]
        part.values = dict(self.values)
        for name, own in (("x", rows), ("attention", rows), ("h_0", None), ("c_0", None)):
            if name in self.values:
                part.values[name] = self.values[name][own or slice(first, last)]
        part.reset = self.reset[rows]
        part.seeds = [self.seeds[0][rows], *(seed[first:last] for seed in self.seeds[1:])]
        return part

    def forward(self, values: dict[str, Any]) -> tuple[float, np.ndarray, np.ndarray | None]:
        """The scalar whose gradient is taken, y and saved."""
        packed = _core.PackedRnnF64(self.cell, *(values.get(name) for name in NAMES))
        n = len(values["x"])
        y, h_n = np.empty((n, packed.state_size)), np.empty_like(values["h_0"])
        c_0 = values.get("c_0")
        c_n = None if c_0 is None else np.empty_like(c_0)
        saved = np.empty((n, packed.saved_width)) if packed.saved_width else None
        layout = _core.SequenceLayout.ragged("test", self.offsets, n)
        packed.forward(
            layout, values["x"], values["h_0"], c_0, self.reset, self.reverse, y, h_n, c_n, saved,
            attention=values.get("attention"),
        )  # fmt: skip
        outputs = [y, h_n] if c_n is None else [y, h_n, c_n]
        pairs = zip(self.seeds, outputs, strict=False)
        return sum(float((seed * out).sum()) for seed, out in pairs), y, saved

    def gradients(self) -> dict[str, np.ndarray]:
        values = self.values
        _, y, saved = self.forward(values)
        grads = {name: np.full_like(value, np.nan) for name, value in values.items()} | self.wanted
        dy, dh_n, dc_n = self.seeds
        lstm = self.cell == "lstm"
        _core.rnn_backward_f64(
            self.cell, values.get("weight_ih"), values["weight_hh"], values.get("weight_hr"),
            _core.SequenceLayout.ragged("test", self.offsets, len(y)),
            values["x"], values["h_0"], values.get("c_0"), self.reset, self.reverse,
            y, saved, dy, dh_n, dc_n if lstm else None,
            *(grads.get(name) for name in ("x", "h_0", "c_0", *NAMES)),
            attention=values.get("attention"), dattention=grads.get("attention"),
        )  # fmt: skip
        return grads


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS, "projection"])
@pytest.mark.parametrize(("inputs", "hidden"), [(3, 5), (17, 65)])
def test_gradients_are_those_of_differences(cell, inputs, hidden, reverse, target):
    projection = 4 if cell == "projection" else 0
    call = Call("lstm" if projection else cell, inputs, hidden, projection, reverse)
    rng = np.random.default_rng(6)
    for name, grad in call.gradients().items():
        direction = rng.normal(size=grad.shape) / np.sqrt(grad.size)
        step = 1e-6
        up, down = (
            call.forward(call.values | {name: call.values[name] + sign * step * direction})[0]
            for sign in (1, -1)
        )
        expected = (up - down) / (2 * step)
        np.testing.assert_allclose((grad * direction).sum(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS, "projection", "input gates"])
def test_a_batch_that_is_cut_into_ranges_of_steps(cell):
    """Its sums over events are those of its sessions, of which some tens need no cut."""
    lengths = [*np.random.default_rng(7).integers(5, 60, 800), 0, 500]
    hidden = 24 if cell.startswith("rnn") else 12
    kind = {"projection": "lstm", "input gates": "gru"}.get(cell, cell)
    call = Call(kind, 3, hidden, 5 if cell == "projection" else 0, cell == "gru", lengths)
    if cell == "input gates":
        del call.values["weight_ih"]
        call.values["x"] = np.random.default_rng(8).normal(size=(len(call.values["x"]), 3 * hidden))
    whole = call.gradients()
    parts = [call.of_sessions(i, min(i + 60, 802)).gradients() for i in range(0, 802, 60)]
    for name, grad in whole.items():
        grads = [part[name] for part in parts]
        if name in NAMES:
            np.testing.assert_allclose(grad, sum(grads), rtol=1e-9, atol=1e-10, err_msg=name)
        else:
            np.testing.assert_array_equal(grad, np.concatenate(grads), err_msg=name)


@pytest.mark.parametrize("lengths", [LENGTHS, [100] * 220])
@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS])
def test_same_bits_for_every_thread_count(cell, lengths):
    hidden = 70 if lengths is LENGTHS else 24
    call = Call(cell, 33, hidden, 0, False, lengths)
    sf.set_num_threads(1)
    one = call.gradients()
    sf.set_num_threads(3)
    for name, grad in call.gradients().items():
        np.testing.assert_array_equal(grad, one[name], err_msg=name)


def test_attention_belongs_to_its_cells_only():
    for cell, message in (("gru", "does not belong here"), ("agru", "is missing")):
        call = Call(cell, 3, 5, 0, False)
        n = len(call.values["x"])
        values = call.values | {"attention": None if cell == "agru" else np.zeros(n)}
        with pytest.raises(ValueError, match=f"rnn_forward: attention {message}"):
            call.forward(values)
    call = Call("agru", 3, 5, 0, False)
    call.wanted["attention"] = np.zeros(n + 1)
    with pytest.raises(ValueError, match=r"rnn_backward: dattention has shape \(1, 15\)"):
        call.gradients()
    with pytest.raises(ValueError, match=r"rnn_forward: attention has shape \(1, 13\)"):
        call.forward(call.values | {"attention": np.zeros(n - 1)})


def test_a_wrong_gradient_shape_is_named():
    call = Call("gru", 3, 5, 0, False)
    call.wanted["bias_hh"] = np.zeros(14)
    with pytest.raises(ValueError, match=r"rnn_backward: dbias_hh has shape \(1, 14\)"):
        call.gradients()
