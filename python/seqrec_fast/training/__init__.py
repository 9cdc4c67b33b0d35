"""Training and evaluation of the models in :mod:`seqrec_fast.models`."""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError(
        "seqrec_fast.training needs PyTorch: pip install seqrec-fast[train]"
    ) from error

from .averaging import EpochAverage
from .base_run import EpochResult, History
from .batches import Batch, SessionParallelBatches, WholeSessionBatches
from .checkpoint import load_checkpoint, save_checkpoint
from .click_through import ClickThroughTrainer, evaluate_click_through
from .click_through_options import ClickThroughOptions
from .evaluation import evaluate
from .losses import bpr_max_loss, cross_entropy, sampled_softmax_loss
from .negatives import Candidates, NegativeSampler
from .optimizers import RowOptimizer, make_optimizers
from .options import TrainingOptions
from .rows import RowLookups
from .trainer import Trainer, TrainingInterrupted, hold_out_last

__all__ = [
    "Batch",
    "Candidates",
    "ClickThroughOptions",
    "ClickThroughTrainer",
    "EpochAverage",
    "EpochResult",
    "History",
    "NegativeSampler",
    "RowLookups",
    "RowOptimizer",
    "SessionParallelBatches",
    "Trainer",
    "TrainingInterrupted",
    "TrainingOptions",
    "WholeSessionBatches",
    "bpr_max_loss",
    "cross_entropy",
    "evaluate",
    "evaluate_click_through",
    "hold_out_last",
    "load_checkpoint",
    "make_optimizers",
    "sampled_softmax_loss",
    "save_checkpoint",
]
del _torch
