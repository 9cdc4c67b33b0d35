"""What keeps experts in use: losses, the update of a selection bias, and what to watch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "GateDiagnostics",
    "expert_load",
    "gate_diagnostics",
    "importance_loss",
    "load_balancing_loss",
    "router_z_loss",
    "update_selection_bias",
]


class GateDiagnostics(NamedTuple):
    """How evenly a gate uses its experts, over the rows that count."""

    load: Tensor  #: (E,) int64: how often each expert was chosen
    entropy: Tensor  #: (): mean entropy of a row's softmax, in nats
    load_entropy: Tensor  #: (): entropy of the load's shares; log(E) if all are used alike
    dead: Tensor  #: (D,) int64: experts that no row chose


def _checked_valid(name: str, valid: Tensor | None, rows: int) -> None:
    if valid is None:
        return
    if valid.dtype != torch.bool:
        raise TypeError(f"{name}: valid is {valid.dtype}; expected bool")
    if valid.shape != (rows,):
        raise ValueError(f"{name}: valid has shape {tuple(valid.shape)}; expected ({rows},)")


def _row_weights(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Shares of the rows in a mean over those that count: also those without a finite logit."""
    counts = ~logits.isnan().all(1)
    if valid is not None:
        counts = counts & valid
    return counts.to(logits.dtype) / counts.sum().clamp(min=1)


def _log_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return log probabilities and logsumexp; NaN logits count in neither, and get no gradient."""
    least = torch.finfo(logits.dtype).min
    cleaned = torch.where(logits.isnan(), least, logits)
    log_sum = cleaned.logsumexp(1)
    return cleaned - log_sum[:, None], log_sum


def sequence_of_row(name: str, offsets: Tensor | None, rows: int) -> tuple[Tensor | None, int]:
    """Return the sequence of each row, and their number."""
    if offsets is None:
        return None, 1
    if offsets.dtype != torch.int64 or offsets.dim() != 1 or len(offsets) < 1:
        raise ValueError(f"{name}: offsets is {offsets.dtype} of {offsets.dim()} dimensions; "
                         "expected int64 (B + 1,)")  # fmt: skip
    lengths = offsets.diff()
    if int(offsets[0]) != 0 or int(offsets[-1]) != rows or bool((lengths < 0).any()):
        raise ValueError(f"{name}: offsets do not ascend from 0 to {rows}")
    batch = len(lengths)
    numbers = torch.arange(batch, device=offsets.device)
    return torch.repeat_interleave(numbers, lengths, output_size=rows), batch


def expert_load(
    expert_ids: Tensor,
    num_experts: int,
    *,
    valid: Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    Count how often each expert was chosen.

    Parameters
    ----------
    expert_ids : (N, k) int64 Tensor
        -1 counts for none.
    num_experts : int
    valid : (N,) bool Tensor, optional
        Rows that count; by default all.
    offsets : (B + 1,) int64 Tensor, optional
        Rows of the sequences, to count in each.

    Returns
    -------
    (E,) int64 Tensor, or (B, E) with `offsets`

    Raises
    ------
    ValueError
        If a shape does not fit or an id is out of range.
    """
    name = "expert_load"
    if expert_ids.dim() != 2:
        raise ValueError(f"{name}: expert_ids has {expert_ids.dim()} dimensions; expected (N, k)")
    rows = expert_ids.shape[0]
    _checked_valid(name, valid, rows)
    sequence, batch = sequence_of_row(name, offsets, rows)
    if (
        expert_ids.numel()
        and not -1 <= int(expert_ids.min()) <= int(expert_ids.max()) < num_experts
    ):
        raise ValueError(f"{name}: an id is out of range; expected -1 to {num_experts - 1}")
    places = expert_ids if sequence is None else expert_ids + sequence[:, None] * num_experts
    counts = expert_ids >= 0
    if valid is not None:
        counts = counts & valid[:, None]
    load = torch.bincount(places[counts], minlength=batch * num_experts)
    return load if offsets is None else load.reshape(batch, num_experts)


def load_balancing_loss(
    logits: Tensor,
    expert_ids: Tensor,
    *,
    valid: Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    Return E * sum_e f_e P_e, which is 1 for an even load (Fedus et al., 2021, arXiv:2101.03961).

    f_e is the share of the choices that went to expert e, P_e the mean softmax probability of e,
    both over the rows that count.

    Parameters
    ----------
    logits : (N, E) Tensor
    expert_ids : (N, k) int64 Tensor
        As the gate chose them; -1 counts for none.
    valid : (N,) bool Tensor, optional
        Rows that count; by default all.
    offsets : (B + 1,) int64 Tensor, optional
        The loss of each sequence alone, and the mean over those with rows that count.

    Returns
    -------
    () Tensor
        0 if no row counts.

    Raises
    ------
    ValueError
        If a shape does not fit or an id is out of range.
    """
    rows, experts = logits.shape
    load = expert_load(expert_ids, experts, valid=valid, offsets=offsets).reshape(-1, experts)
    share = load.to(logits.dtype) / load.sum(1, keepdim=True).clamp(min=1)
    sequence, batch = sequence_of_row("load_balancing_loss", offsets, rows)
    if sequence is None:
        sequence = torch.zeros(rows, dtype=torch.int64, device=logits.device)
    counts = (_row_weights(logits, valid) > 0).to(logits.dtype)
    of_sequence = counts.new_zeros(batch).index_add(0, sequence, counts)
    probabilities = _log_softmax(logits)[0].exp()
    row_share = (share[sequence] * probabilities).sum(1) * counts
    total = row_share / of_sequence.clamp(min=1)[sequence]
    return experts * total.sum() / (of_sequence > 0).sum().clamp(min=1)


def router_z_loss(logits: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """
    Return the mean of logsumexp(logits)^2 (Zoph et al., 2022, arXiv:2202.08906).

    Parameters
    ----------
    logits : (N, E) Tensor
    valid : (N,) bool Tensor, optional
        Rows that count; by default all.

    Returns
    -------
    () Tensor
        0 if no row counts.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    _checked_valid("router_z_loss", valid, logits.shape[0])
    weights = _row_weights(logits, valid)
    log_sum = torch.where(weights > 0, _log_softmax(logits)[1], 0.0)
    return (weights * log_sum.square()).sum()


def importance_loss(
    weights: Tensor, expert_ids: Tensor, num_experts: int, *, valid: Tensor | None = None
) -> Tensor:
    """
    Return the squared coefficient of variation of the experts' summed weights.

    Shazeer et al., 2017 (arXiv:1701.06538), section 4.

    Parameters
    ----------
    weights : (N, k) Tensor
    expert_ids : (N, k) int64 Tensor
    num_experts : int
    valid : (N,) bool Tensor, optional
        Rows that count; by default all.

    Returns
    -------
    () Tensor
        0 for an even use.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    name = "importance_loss"
    if weights.shape != expert_ids.shape:
        raise ValueError(
            f"{name}: weights has shape {tuple(weights.shape)}; expected "
            f"{tuple(expert_ids.shape)}, that of expert_ids"
        )
    _checked_valid(name, valid, weights.shape[0])
    counts = expert_ids >= 0
    if valid is not None:
        counts = counts & valid[:, None]
    kept = torch.where(counts, weights, 0.0).reshape(-1)
    ids = expert_ids.clamp(min=0).reshape(-1)
    importance = weights.new_zeros(num_experts).index_add(0, ids, kept)
    mean = importance.mean()
    variance = (importance - mean).square().mean()
    return variance / mean.square().clamp(min=torch.finfo(weights.dtype).tiny)


@torch.no_grad()
def update_selection_bias(bias: Tensor, load: Tensor, *, rate: float = 1e-3) -> Tensor:
    """
    Raise the bias of experts below the mean load and lower that of those above it, in place.

    Balance without a loss (Wang et al., 2024, arXiv:2408.15664): bias += rate * sign(mean - load).
    Sum the loads of all processes first.

    Parameters
    ----------
    bias : (E,) Tensor
        The `bias` of the gate, for the choice alone.
    load : (E,) Tensor
        As :func:`expert_load` counts it.
    rate : float

    Returns
    -------
    (E,) Tensor
        `bias`.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if load.shape != bias.shape:
        raise ValueError(
            f"update_selection_bias: load has shape {tuple(load.shape)}; expected "
            f"{tuple(bias.shape)}"
        )
    load = load.to(torch.float64)
    return bias.add_(torch.sign(load.mean() - load).to(bias.dtype), alpha=rate)


@torch.no_grad()
def gate_diagnostics(
    logits: Tensor, expert_ids: Tensor, *, valid: Tensor | None = None
) -> GateDiagnostics:
    """
    Return load, entropies and the experts that no row chose.

    Parameters
    ----------
    logits : (N, E) Tensor
    expert_ids : (N, k) int64 Tensor
    valid : (N,) bool Tensor, optional
        Rows that count; by default all.

    Returns
    -------
    GateDiagnostics

    Raises
    ------
    ValueError
        If a shape does not fit or an id is out of range.
    """
    load = expert_load(expert_ids, logits.shape[1], valid=valid)
    log_p = _log_softmax(logits)[0]
    row_entropy = -(log_p.exp() * log_p).nan_to_num(0.0).sum(1)
    weights = _row_weights(logits, valid)
    share = load.to(logits.dtype) / load.sum().clamp(min=1)
    return GateDiagnostics(
        load,
        (weights * row_entropy).sum(),
        -torch.special.xlogy(share, share).sum(),
        (load == 0).nonzero()[:, 0],
    )
