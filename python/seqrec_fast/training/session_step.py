"""A whole step of training GRU4Rec against sampled negatives, in one call of the compiled part."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrec_fast import _core
from seqrec_fast._packing import RNN_PARAMETERS
from seqrec_fast.models import GRU4Rec

from .batches import Batch
from .negatives import NegativeSampler
from .optimizers import RowOptimizer
from .options import TrainingOptions

_KERNELS: dict[torch.dtype, Any] = {
    torch.float32: _core.session_step_f32,
    torch.float64: _core.session_step_f64,
}
_WEIGHTS = RNN_PARAMETERS[:4]  # without a projection


class SessionStep:
    """
    Looks up, runs the layers, takes the loss and its gradients, and updates all parameters.

    Does what the same steps do through autograd, to the rounding; masks of dropout are drawn by
    counter, from other random bits. Parameters and the optimiser's state change in place.

    Parameters
    ----------
    model : GRU4Rec
    options : TrainingOptions
    sampler : NegativeSampler
    optimizer : RowOptimizer
        Of all parameters of the model.
    """

    def __init__(
        self,
        model: GRU4Rec,
        options: TrainingOptions,
        sampler: NegativeSampler,
        optimizer: RowOptimizer,
    ) -> None:
        self._sampler, self._optimizer = sampler, optimizer
        self._group = optimizer.param_groups[0]
        self._bpr_max, self._mask = options.loss == "bpr-max", options.collisions == "mask"
        self._parameters = list(model.parameters())
        dtype = model.item_table.dtype
        self._kernel, self._dtype = _KERNELS[dtype], torch.empty(0, dtype=dtype).numpy().dtype
        config, rnn = model.config, model.rnn
        self._layers, self._hidden = rnn.num_layers, rnn.hidden_size
        self._lstm = config["cell"] == "lstm"
        tied = model.input_table is model.item_table
        layers = [
            tuple(self._trained(getattr(rnn, f"{name}_l{i}", None)) for name in _WEIGHTS)
            for i in range(self._layers)
        ]
        self._before = (
            self._trained(model.input_table),
            None if tied else self._trained(model.item_table),
            self._trained(model.output.bias),
            layers,
            "bpr_max" if self._bpr_max else "softmax",
            options.collisions,
            (options.elu or -1.0) if self._bpr_max else -1.0,
            options.bpreg,
            config["dropout_embedding"],
            config["dropout_hidden"],
            options.carry_dropout,
        )
        self._cell = rnn.cell

    @staticmethod
    def serves(model: torch.nn.Module) -> TypeGuard[GRU4Rec]:
        """Return whether the compiled step does what the model would do."""
        if type(model) is not GRU4Rec or model.projection is not None:
            return False
        if torch.is_autocast_enabled("cpu"):
            return False
        rnn: Any = model.rnn
        dtype = model.item_table.dtype
        return (
            not any((rnn.recurrent_dropout, rnn.zoneout, rnn.variational_dropout))
            and dtype in _KERNELS
            and all(
                p.dtype == dtype and p.device.type == "cpu" and p.is_contiguous()
                for p in model.parameters()
            )
        )

    def _trained(self, parameter: Tensor | None) -> tuple[Any, ...] | None:
        if parameter is None:
            return None
        mean, square = self._optimizer.moments(parameter, self._group["momentum"])
        arrays = (parameter.detach(), mean, square)
        return tuple(None if a is None else a.numpy() for a in arrays)

    def __call__(
        self, batch: Batch, state: Any, seed: int, rng: np.random.Generator
    ) -> tuple[Any, float]:
        """
        Update the parameters once.

        Parameters
        ----------
        batch : Batch
        state : pair of (num_layers, B, H) arrays, or None
            h and c (None but for an LSTM) before the first event, as returned for the batch before.
        seed : int
            Of dropout.
        rng : Generator
            Of the negatives.

        Returns
        -------
        state : pair of (num_layers, B, H) arrays
        loss : float
            Mean over the events. If it is not finite, nothing was updated.
        """
        negatives, log_q, target_log_q = self._negatives(batch.targets, rng)
        lanes = len(batch.offsets) - 1
        before = (None, None) if state is None else state
        h_0, c_0 = (None if s is None else self._rows(s[:, :lanes]) for s in before)
        h_n = np.empty((self._layers, lanes, self._hidden), self._dtype)
        c_n = np.empty_like(h_n) if self._lstm else None
        step = self._optimizer.next_step(self._parameters)
        rule = self._optimizer.rule(self._group, step)
        loss = self._kernel(
            self._cell, rule, *self._before, seed,
            batch.items.numpy(), batch.targets.numpy(), batch.offsets.numpy(),
            None if batch.reset is None else batch.reset.numpy().view(np.uint8),
            negatives, log_q, target_log_q, h_0, c_0,
            self._rows(h_n), None if c_n is None else self._rows(c_n),
        )  # fmt: skip
        if math.isfinite(loss):
            self._optimizer.count(self._parameters, step)
        return (h_n, c_n), loss

    def _negatives(self, targets: Tensor, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        """Return what the targets of a mini-batch stand against, and the corrections."""
        if self._mask and not self._bpr_max:
            items, log_q = self._sampler.merged(targets, rng)
            return items, log_q.astype(self._dtype, copy=False), None
        among = self._sampler.candidates(targets, rng)
        items = among.items[among.negatives].numpy()
        if self._bpr_max:
            return items, None, None
        of_negatives, of_targets = (
            among.log_q[places].numpy().astype(self._dtype, copy=False)
            for places in (among.negatives, among.targets)
        )
        return items, of_negatives, of_targets

    def _rows(self, state: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(state).reshape(-1, self._hidden)
