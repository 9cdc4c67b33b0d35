"""Functions on tensors, in the manner of ``torch.nn.functional``."""

from __future__ import annotations

from .attention_pooling import segment_softmax, segment_sum
from .dispatch import combine_by_expert, dispatch_by_expert, expand_segments, segment_mean
from .expert_choice import expert_choice, expert_gate
from .gate_losses import (
    expert_load,
    gate_diagnostics,
    importance_loss,
    load_balancing_loss,
    router_z_loss,
    update_selection_bias,
)
from .grouped_linear import grouped_linear
from .linear_cross_entropy import linear_cross_entropy
from .multi_gate import multi_gate_mixture
from .route_segments import route_segments
from .row_update import RowUpdate
from .sampled_losses import bpr_max_loss, gbce_loss, sampled_softmax_loss, top1_max_loss
from .segments import session_segments
from .topk import topk

__all__ = [
    "RowUpdate",
    "bpr_max_loss",
    "combine_by_expert",
    "dispatch_by_expert",
    "expand_segments",
    "expert_choice",
    "expert_gate",
    "expert_load",
    "gate_diagnostics",
    "gbce_loss",
    "grouped_linear",
    "importance_loss",
    "linear_cross_entropy",
    "load_balancing_loss",
    "multi_gate_mixture",
    "route_segments",
    "router_z_loss",
    "sampled_softmax_loss",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "session_segments",
    "top1_max_loss",
    "topk",
    "update_selection_bias",
]
