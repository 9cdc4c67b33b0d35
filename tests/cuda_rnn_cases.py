"""Calls of the recurrent operators: what the CUDA kernels give, and those of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rnn_cases import ATTENTION_CELLS, make_weights
from seqrec_fast.nn import _rnn_cuda_ops, _rnn_ops

# More sessions than one tile has rows, none of them in order; one and two of them are empty.
LENGTHS = {
    "tiles": (3, 0, 5, 1, 4, 4, 2, 0, 6, 1, 3),
    "few": (2, 0, 3),
    "one": (4,),
    "empty": (0, 0),
}
GRADS = ("dx", "dh_0", "dc_0", "dweight_ih", "dweight_hh", "dbias_ih", "dbias_hh", "dweight_hr",
         "dattention")  # fmt: skip

SEED = torch.tensor(0x1234_5678_9ABC_DEF0)
NOISES = [
    {"recurrent_dropout": 0.3, "seed": SEED, "stream": 2},
    {"zoneout": 0.4, "seed": SEED},
    {"recurrent_dropout": 0.5, "zoneout": 0.2, "seed": torch.tensor(7)},
    {"zoneout": 0.4},
    {"recurrent_dropout": 0.3},
]


class Call:
    """The arguments of one call of the operators, in one of the layouts."""

    def __init__(self, cell, hidden, dtype, layout="tiles", reverse=False, bias=True,
                 input_size=3, states=True, reset=True, precision="full", projection=0,
                 noise=None):  # fmt: skip
        rng = np.random.default_rng(7)
        self.cell, self.dtype, self.precision = cell, dtype, precision

        def tensor(values: Any) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)

        weights = make_weights(rng, cell, input_size or 1, hidden, projection)
        self.weights = [tensor(weights[name]) if name in weights else None for name in
                        ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")]  # fmt: skip
        self.noise, state = noise or {}, projection or hidden
        if not bias:
            self.weights[2:4] = [None, None]
        if not input_size:
            self.weights[0] = None
            input_size = self.weights[1].shape[0]
        offsets = batch_sizes = None
        batch_first = layout == "batch_first"
        if layout in LENGTHS:
            lengths = LENGTHS[layout]
            offsets = torch.tensor([0, *np.cumsum(lengths)])
            shape, batch = [int(offsets[-1])], len(lengths)
        elif layout == "packed":
            batch_sizes = torch.tensor([10, 7, 7, 2, 1])
            shape, batch = [27], 10
        else:
            shape, batch = [4, 9], 4 if batch_first else 9
        self.x = tensor(rng.normal(size=(*shape, input_size)))
        lstm = cell == "lstm"
        self.h_0 = tensor(rng.normal(size=(batch, state)) * states)
        self.c_0 = tensor(rng.normal(size=(batch, hidden))) if lstm and states else None
        flags = torch.from_numpy(rng.random(shape) < 0.2) if reset and layout != "packed" else None
        self.layout = (offsets, batch_sizes, flags, batch_first, reverse)
        self.attention = tensor(rng.random(shape)) if cell in ATTENTION_CELLS else None
        self.seeds = [tensor(rng.normal(size=(*shape, state))),
                      tensor(rng.normal(size=(batch, state))),
                      tensor(rng.normal(size=(batch, hidden))) if lstm else None]  # fmt: skip

    def results(self, forward: Any, backward: Any) -> dict[str, torch.Tensor]:
        inputs = (self.x, self.h_0, self.c_0, *self.weights)
        options = {"attention": self.attention, "precision": self.precision,
                   **self.noise}  # fmt: skip
        y, h_n, c_n, saved = forward(self.cell, *inputs, *self.layout, True, **options)
        call = (self.cell, *inputs, *self.layout, True)
        grads = backward(*self.seeds, y, saved, True, True, True, *call, **options)
        return {"y": y, "h_n": h_n, "c_n": c_n, **dict(zip(GRADS, grads, strict=True))}

    def emulated(self) -> dict[str, torch.Tensor]:
        """Needs the fixture ``emulated_kernels``."""
        return self.results(_rnn_cuda_ops.forward, _rnn_cuda_ops.backward)

    def on_cpu(self) -> dict[str, torch.Tensor]:
        return self.results(_rnn_ops.rnn_forward_cpu, _rnn_ops.rnn_backward_cpu)


def assert_same(call: Call) -> None:
    found = call.emulated()
    expected = call.on_cpu()
    tolerance = 2e-5 if call.dtype == torch.float32 else 1e-11
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        torch.testing.assert_close(
            found[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
