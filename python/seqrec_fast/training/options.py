"""What a training run is made of."""

from __future__ import annotations

from dataclasses import dataclass

LOSSES = ("auto", "full", "sampled")
BATCHINGS = ("whole-session", "session-parallel")
OPTIMIZERS = ("adam", "adagrad")
MONITORS = ("recall@20", "mrr@20", "ndcg@20")

_DEFAULTS = {
    "lr": {"adam": 0.02, "adagrad": 0.1},
    "weight_decay": {"adam": 0.15, "adagrad": 0.0},
}
#: The largest catalogue for which ``loss="auto"`` is the full loss.
MAX_FULL_ITEMS = 10_000


@dataclass(frozen=True)
class TrainingOptions:
    """
    Options of :class:`Trainer`.

    Attributes
    ----------
    epochs : int
        Passes over the training sessions, at most.
    batch_size : int
        Sessions in a mini-batch, or lanes.
    batching : {"whole-session", "session-parallel"}
        See :class:`WholeSessionBatches` and :class:`SessionParallelBatches`.
    max_length : int
        Longest stretch of a session that the gradient goes back through; ``"whole-session"``.
    bptt : int
        The same for ``"session-parallel"``.
    loss : {"auto", "full", "sampled"}
        Cross-entropy over the whole catalogue, or over the targets of the mini-batch and
        shared negatives, see :class:`NegativeSampler`. ``"auto"``: the whole catalogue up to
        10,000 items.
    n_sample : int
        Negatives in addition to the targets of the mini-batch.
    alpha : float
        Negatives are drawn with probability proportional to popularity ** alpha.
    logq : float
        Strength of the correction for that, 0 to 1.
    optimizer : {"adam", "adagrad"}
        See :func:`make_optimizers`.
    lr : float
        Learning rate at the start; by default 0.02 for Adam and 0.1 for Adagrad.
    weight_decay : float
        Share of the parameters, times the learning rate, that each update takes away; by
        default 0.15 for Adam. Adagrad has none.
    lr_decay : bool
        Lower the learning rate in equal steps to 0 at the end of the last epoch.
    patience : int, optional
        Stop after this many epochs without a better validation result, and take the best
        epoch. None: train all epochs.
    monitor : {"recall@20", "mrr@20", "ndcg@20"}
        The validation result that counts.
    validation : float
        Share of the training sessions, the last ones, to validate with if there is a
        ``patience`` and no validation data.
    seed : int
        Fixes order, negatives and dropout.

    Raises
    ------
    ValueError
        If an option is out of range.
    """

    epochs: int = 8
    batch_size: int = 64
    batching: str = "whole-session"
    max_length: int = 50
    bptt: int = 1
    loss: str = "auto"
    n_sample: int = 2048
    alpha: float = 0.5
    logq: float = 1.0
    optimizer: str = "adam"
    lr: float = None  # type: ignore[assignment]
    weight_decay: float = None  # type: ignore[assignment]
    lr_decay: bool = True
    patience: int | None = None
    monitor: str = "recall@20"
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Fill in what depends on the optimiser, and check the ranges."""
        for name, values in _DEFAULTS.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, values.get(self.optimizer, 1.0))
        for name, known in (
            ("batching", BATCHINGS),
            ("loss", LOSSES),
            ("optimizer", OPTIMIZERS),
            ("monitor", MONITORS),
        ):
            if (value := getattr(self, name)) not in known:
                raise ValueError(
                    f"TrainingOptions: {name} is {value!r}; expected one of {', '.join(known)}"
                )
        for name in ("epochs", "batch_size", "max_length", "bptt", "n_sample", "patience"):
            if (size := getattr(self, name)) is not None and size < 1:
                raise ValueError(f"TrainingOptions: {name} is {size}; expected at least 1")
        for name in ("alpha", "logq"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ValueError(f"TrainingOptions: {name} is {share}; expected 0 to 1")
        if not self.lr > 0:
            raise ValueError(f"TrainingOptions: lr is {self.lr}; expected more than 0")
        if not self.weight_decay >= 0:
            raise ValueError(
                f"TrainingOptions: weight_decay is {self.weight_decay}; expected 0 or more"
            )
        if not 0 < self.validation < 1:
            raise ValueError(
                f"TrainingOptions: validation is {self.validation}; expected between 0 and 1"
            )
        if self.seed < 0:
            raise ValueError(f"TrainingOptions: seed is {self.seed}; expected 0 or more")
