"""What a training run is made of."""

from __future__ import annotations

from dataclasses import dataclass

from seqrec_fast._checks import check_choice

from .devices import check_device
from .negatives import COLLISIONS
from .option_checks import check_flags, check_numbers, check_sizes

LOSSES = ("auto", "full", "sampled", "bpr-max")
BATCHINGS = ("whole-session", "session-parallel")
OPTIMIZERS = ("adam", "adagrad", "sgd")
MONITORS = ("recall@20", "mrr@20", "ndcg@20")

_DEFAULTS = {
    "lr": {"adam": 0.02, "adagrad": 0.07, "sgd": 0.1},
    "weight_decay": {"adam": 0.15, "adagrad": 0.0, "sgd": 0.0},
}
_NUMBERS = ("alpha", "logq", "bpreg", "elu", "lr", "weight_decay", "momentum", "validation")
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
    carry_dropout : bool
        A lane of ``"session-parallel"`` goes on from a state that ``dropout_hidden`` has acted
        on, as in the official GRU4Rec.
    loss : {"auto", "full", "sampled", "bpr-max"}
        Cross-entropy over the whole catalogue, or over the targets of the mini-batch and
        shared negatives, see :class:`NegativeSampler`; or :func:`bpr_max_loss` over these.
        ``"auto"``: the whole catalogue up to 10,000 items, else sampled.
    n_sample : int
        Negatives in addition to the targets of the mini-batch.
    alpha : float
        Negatives are drawn with probability proportional to popularity ** alpha.
    logq : float
        Strength of the correction for that in ``"sampled"``, 0 to 1.
    collisions : {"mask", "own"}
        Whether a negative may happen to be the target, see :class:`NegativeSampler`.
    bpreg : float
        ``"bpr-max"``: strength of the penalty for high scores of negatives.
    elu : float
        ``"bpr-max"``: alpha of the ELU that scores go through; 0: none.
    optimizer : {"adam", "adagrad", "sgd"}
        See :func:`make_optimizers`.
    lr : float
        Learning rate at the start; by default 0.02 for Adam, 0.07 for Adagrad and 0.1 for
        gradient descent.
    weight_decay : float
        Share of the parameters, times the learning rate, that each update takes away; by
        default 0.15 for Adam. The others have none.
    momentum : float
        Of Adagrad and gradient descent, 0 to less than 1. Adam has its own.
    lr_decay : bool
        Lower the learning rate in equal steps to 0 at the end of the last epoch.
    average_epochs : int
        The model is the mean of the parameters after each of the last so many epochs, see
        :class:`EpochAverage`; 1: those after the last one. Of use with a constant learning rate.
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
    device : {"auto", "cpu", "cuda", "cuda:N"}, optional
        Where to train; the model is moved there and stays. ``"cuda"``: the current GPU, or, for
        the processes of ``torchrun``, one for each. ``"auto"``: a GPU if it can be used, else the
        CPU. By default where the model is.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If a size is no integer, another number none, or a choice or flag of another type.
    """

    epochs: int = 8
    batch_size: int = 64
    batching: str = "whole-session"
    max_length: int = 50
    bptt: int = 1
    carry_dropout: bool = False
    loss: str = "auto"
    n_sample: int = 2048
    alpha: float = 0.5
    logq: float = 1.0
    collisions: str = "mask"
    bpreg: float = 1.0
    elu: float = 0.5
    optimizer: str = "adam"
    lr: float = None  # type: ignore[assignment]
    weight_decay: float = None  # type: ignore[assignment]
    momentum: float = 0.0
    lr_decay: bool = True
    average_epochs: int = 1
    patience: int | None = None
    monitor: str = "recall@20"
    validation: float = 0.1
    seed: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        """Fill in what depends on the optimiser, and check the ranges."""
        check_choice("TrainingOptions", "optimizer", self.optimizer, OPTIMIZERS)
        for name, values in _DEFAULTS.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, values[self.optimizer])
        for name, known in (
            ("batching", BATCHINGS),
            ("loss", LOSSES),
            ("collisions", COLLISIONS),
            ("monitor", MONITORS),
        ):
            check_choice("TrainingOptions", name, getattr(self, name), known)
        check_flags(self, ("lr_decay", "carry_dropout"))
        sizes = ("epochs", "batch_size", "max_length", "bptt", "n_sample", "average_epochs")
        check_sizes(self, (*sizes, "patience"))
        check_numbers(self, _NUMBERS)
        for name in ("alpha", "logq"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ValueError(f"TrainingOptions: {name} is {share}; expected 0 to 1")
        if not self.lr > 0:
            raise ValueError(f"TrainingOptions: lr is {self.lr}; expected more than 0")
        for name in ("weight_decay", "bpreg", "elu"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"TrainingOptions: {name} is {value}; expected 0 or more")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"TrainingOptions: momentum is {self.momentum}; expected 0 <= it < 1")
        for name, used in (
            ("weight_decay", self.optimizer == "adam"),
            ("momentum", self.optimizer != "adam"),
            ("carry_dropout", self.batching == "session-parallel"),
        ):
            if getattr(self, name) and not used:
                raise ValueError(
                    f"TrainingOptions: {name} is {getattr(self, name)}; expected 0 with "
                    f"optimizer={self.optimizer!r} and batching={self.batching!r}"
                )
        if not 0 < self.validation < 1:
            raise ValueError(
                f"TrainingOptions: validation is {self.validation}; expected between 0 and 1"
            )
        check_device("TrainingOptions", self.device)
