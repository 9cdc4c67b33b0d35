"""The training run of a next-item model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast.data import Sessions
from seqrec_fast.models import NextItemModel

from .base_run import TrainingRun, Update
from .batches import Batch, Batches, SessionParallelBatches, WholeSessionBatches
from .distributed import Share
from .losses import bpr_max_loss, cross_entropy, sampled_softmax_loss
from .negatives import Candidates, NegativeSampler
from .optimizers import RowOptimizer, make_optimizers
from .options import MAX_FULL_ITEMS, TrainingOptions
from .rows import RowLookups
from .session_step import SessionStep


class Run(TrainingRun):
    """All that changes while a next-item model is trained, by one process or several."""

    caller = "Trainer.fit"
    data_name = "sessions"

    def __init__(self, model: NextItemModel, options: TrainingOptions, train: Sessions) -> None:
        if options.carry_dropout and getattr(model, "projection", None) is not None:
            raise ValueError(
                "Trainer: carry_dropout is set, but the model projects its hidden state; expected "
                "a model whose embedding_dim is its hidden_size"
            )
        self._train = train
        self._sampler: NegativeSampler | None = None
        large = model.n_items > MAX_FULL_ITEMS
        if options.loss in ("sampled", "bpr-max") or (options.loss == "auto" and large):
            counts = np.bincount(train.items, minlength=model.n_items)
            self._sampler = NegativeSampler(
                counts, options.n_sample, options.alpha, options.logq, options.collisions
            )
        super().__init__(model, options, (train.items, train.offsets), options.average_epochs)

    def _make_batches(self) -> Batches:
        options = self.options
        if options.batching == "whole-session":
            return WholeSessionBatches(
                self._train, options.batch_size, options.max_length,
                with_times=self.model.uses_times,
            )  # fmt: skip
        return SessionParallelBatches(self._train, options.batch_size, options.bptt)

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        options = self.options
        return make_optimizers(
            self.model, options.optimizer, options.lr, options.weight_decay, options.momentum,
            sparse=self._sampler is not None,
        )  # fmt: skip

    def _updates(self, rng: np.random.Generator, seed: int) -> Update:
        compiled = self._compiled_step()
        state: Any = None

        def update(batch: Batch, step: int) -> tuple[Tensor | float, int]:
            nonlocal state
            loss: Tensor | float
            if compiled is not None:
                carried = None if batch.reset is None else state
                state, loss = compiled(batch, carried, (seed + step) % 2**64, rng)
            else:
                share = self.processes.share(batch, self.options.batch_size)
                state, loss = self._step(batch, share, state, rng)
            return loss, len(batch.items)

        return update

    def _compiled_step(self) -> SessionStep | None:
        """Return the step in one call, if it can do the work; gradients are sent one by one."""
        sampler, alone = self._sampler, self.processes.size == 1
        if sampler is None or not alone or not SessionStep.serves(self.model):
            return None
        (optimizer,) = self._optimizers
        assert isinstance(optimizer, RowOptimizer)
        return SessionStep(self.model, self.options, sampler, optimizer)

    def _step(
        self, batch: Batch, share: Share, state: Any, rng: np.random.Generator
    ) -> tuple[Any, Tensor]:
        """Update the parameters once; return the states after it and the loss.

        The states are those of this process, the loss is that of all.
        """
        model, sampler, own = self.model, self._sampler, share.batch.to(self.device)
        state = None if own.reset is None else _carried(state, len(own.offsets) - 1)
        times: dict[str, Any] = {} if own.times is None else {"times": own.times}
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        if sampler is None:
            inputs = functional.embedding(own.items, model.input_table)
            hidden, state = model.run(inputs, own.offsets, state, own.reset, **times)
            loss = cross_entropy(hidden, model.item_table, model.output.bias, own.targets)
            loss = _with_auxiliary(model, loss * share.weight, share.weight)
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            lookups = RowLookups()
            inputs = lookups.take(model.input_table, own.items)
            hidden, state = model.run(inputs, own.offsets, state, own.reset, **times)
            among = sampler.candidates(batch.targets, rng).of(share.events)
            loss = self._sampled_loss(hidden, among, lookups) / len(batch.items)
            loss = _with_auxiliary(model, loss, share.weight)
            loss.backward()  # type: ignore[no-untyped-call]
            lookups.set_gradients()
        value = self.processes.sum_gradients(model.parameters(), loss)
        for optimizer in self._optimizers:
            optimizer.step()
        if self.options.carry_dropout:
            state = self._dropped(state, hidden, own)
        return state, value

    def _sampled_loss(self, hidden: Tensor, among: Candidates, lookups: RowLookups) -> Tensor:
        options = self.options
        bpr_max, mask = options.loss == "bpr-max", options.collisions == "mask"
        if mask and not bpr_max:
            among = among.merged()
        among = among.to(self.device)
        weight = lookups.take(self.model.item_table, among.items, increasing=mask)
        bias = lookups.take(self.model.output.bias, among.items, increasing=mask)
        arguments = hidden, weight, among.targets, among.negatives, bias
        if bpr_max:
            return bpr_max_loss(
                *arguments, regularization=options.bpreg, elu=options.elu or None,
                collisions=options.collisions, reduction="sum",
            )  # fmt: skip
        return sampled_softmax_loss(
            *arguments,
            log_q=among.log_q,
            target_log_q=torch.zeros(len(hidden), device=self.device) if mask else None,
            collisions=options.collisions,
            reduction="sum",
        )

    def _dropped(self, state: Any, hidden: Tensor, batch: Batch) -> Any:
        """Return the state with dropout in all layers; that of the top one is in `hidden`."""
        h = state[0] if isinstance(state, tuple) else state
        share = self.model.config["dropout_hidden"]
        below = functional.dropout(h[:-1].detach(), share)
        h = torch.cat([below, hidden.detach()[None, batch.offsets[1:] - 1]])
        return (h, state[1]) if isinstance(state, tuple) else h


def _with_auxiliary(model: NextItemModel, loss: Tensor, weight: float) -> Tensor:
    auxiliary = model.auxiliary_loss()
    return loss if auxiliary is None else loss + auxiliary * weight


def _carried(state: Any, lanes: int) -> Any:
    """Return the state of the first lanes, cut off from its past."""
    if isinstance(state, tuple):
        return tuple(_carried(part, lanes) for part in state)
    return None if state is None else state[:, :lanes].detach()
