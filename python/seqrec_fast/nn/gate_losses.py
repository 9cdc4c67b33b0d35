"""What keeps experts in use: losses, the update of a selection bias, and what to watch."""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

import torch
from torch import Tensor

from seqrec_fast._checks import checked_int, checked_number

from ._checks import (
    check_dtype,
    check_floating,
    check_ids,
    check_offsets,
    check_partition,
    check_shape,
    check_tensor,
)
from ._tensors import add_at, working

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
    """How evenly a gate uses its experts, over the rows that count; with offsets in B sequences."""

    load: Tensor  #: (E,) or (B, E) int64: how often each expert was chosen
    entropy: Tensor  #: () or (B,): mean entropy of a row's softmax, in nats
    load_entropy: Tensor  #: () or (B,): entropy of the load's shares; log(E) if all are used alike
    dead: Tensor  #: (D,) int64: experts that no row chose, of any sequence


def check_valid(function: str, valid: Tensor | None, rows: int) -> None:
    """Raise unless it is a mask of the rows."""
    if valid is not None:
        check_dtype(function, "valid", valid, torch.bool)
        check_shape(function, "valid", valid, rows)


def as_gate_reads(logits: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """
    Return logits as the gate computes with them, and the (N,) rows that count.

    Infinities become the largest finite numbers. NaN becomes -inf, which adds to no sum. Rows that
    are not valid, or of NaN alone, do not count and become 0; nothing of a gradient reaches them,
    nor what is not finite.
    """
    most = torch.finfo(logits.dtype).max
    read = logits.nan_to_num(-torch.inf, most, -most)
    counts = _largest(read) > -torch.inf
    if valid is not None:
        counts = counts & valid
    return torch.where(counts[:, None], read, 0.0), counts


def _largest(logits: Tensor) -> Tensor:
    """Return the largest of each row, -inf of a row without columns."""
    logits = logits.detach()
    return logits.amax(1) if logits.shape[1] else logits.new_full(logits.shape[:1], -torch.inf)


def sequence_of_row(function: str, offsets: Tensor | None, like: Tensor) -> tuple[Tensor, int]:
    """Return the sequence of each row of `like`, and their number."""
    rows = like.shape[0]
    if offsets is None:
        return torch.zeros(rows, dtype=torch.int64, device=like.device), 1
    check_offsets(function, "offsets", offsets, "B")
    check_partition(function, "offsets", offsets, rows)
    batch = offsets.shape[0] - 1
    numbers = torch.arange(rows, device=offsets.device)
    # Whatever offsets a compiled graph comes with, a row is of some sequence.
    sequence = torch.searchsorted(offsets[1:].contiguous(), numbers, right=True)
    return sequence.clamp(max=max(batch - 1, 0)), batch


def _sums(values: Tensor, places: Tensor, size: int) -> Tensor:
    if size == 1:  # in pairs, which rounds less than one after the other
        return values.sum().reshape(1)
    return add_at(values.new_zeros(size), places, values)


def _mean_of_sequences(
    values: Tensor, counts: Tensor, sequence: Tensor, batch: int
) -> tuple[Tensor, Tensor]:
    """Return the mean of the rows of each sequence that count, and which sequences have some."""
    rows = _sums(counts.long(), sequence, batch)
    total = _sums(torch.where(counts, values, 0.0), sequence, batch)
    return total / rows.clamp(min=1).to(values.dtype), rows > 0


def _mean_where(values: Tensor, used: Tensor) -> Tensor:
    return torch.where(used, values, 0.0).sum() / used.sum().clamp(min=1)


def _check_choices(function: str, logits: Tensor, expert_ids: Tensor) -> None:
    check_floating(function, "logits", logits)
    check_shape(function, "logits", logits, "N", "E")
    check_dtype(function, "expert_ids", expert_ids, torch.int64)
    check_shape(function, "expert_ids", expert_ids, logits.shape[0], "k")


def _load(
    function: str, expert_ids: Tensor, experts: int, valid: Tensor | None, offsets: Tensor | None
) -> tuple[Tensor, Tensor, int]:
    """Return the (B, E) load, the sequence of each row, and B, which is 1 without offsets."""
    check_valid(function, valid, expert_ids.shape[0])
    sequence, batch = sequence_of_row(function, offsets, expert_ids)
    check_ids(function, "expert_ids", expert_ids, experts)
    counts = (expert_ids >= 0) & (expert_ids < experts)
    if valid is not None:
        counts = counts & valid[:, None]
    places = expert_ids.clamp(0, max(experts - 1, 0)) + sequence[:, None] * experts
    return _sums(counts.flatten().long(), places.flatten(), batch * experts), sequence, batch


def expert_load(
    expert_ids: Tensor,
    num_experts: SupportsIndex,
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
    TypeError
        If a tensor has another dtype, or an option another type.
    ValueError
        If a shape does not fit or an id is out of range.
    """
    name = "expert_load"
    check_dtype(name, "expert_ids", expert_ids, torch.int64)
    check_shape(name, "expert_ids", expert_ids, "N", "k")
    experts = checked_int(name, "num_experts", num_experts, 1)
    load, _, batch = _load(name, expert_ids, experts, valid, offsets)
    return load if offsets is None else load.reshape(batch, experts)


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
    both over the rows that count. Logits that are not finite are read as the gate reads them: NaN
    is left out, the infinities are the largest finite numbers.

    Parameters
    ----------
    logits : (N, E) Tensor
        bfloat16 and float16 are computed as float32.
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
    TypeError
        If a tensor has another dtype, or an option another type.
    ValueError
        If a shape does not fit or an id is out of range.
    """
    name = "load_balancing_loss"
    _check_choices(name, logits, expert_ids)
    logits, experts = working(logits), logits.shape[1]
    load, sequence, batch = _load(name, expert_ids, experts, valid, offsets)
    load = load.reshape(batch, experts).to(logits.dtype)
    share = load / load.sum(1, keepdim=True).clamp(min=1)
    read, counts = as_gate_reads(logits, valid)
    share = share if offsets is None else share[sequence]
    of_rows = (share * torch.softmax(read, 1)).sum(1)
    return experts * _mean_where(*_mean_of_sequences(of_rows, counts, sequence, batch))


def router_z_loss(
    logits: Tensor, *, valid: Tensor | None = None, offsets: Tensor | None = None
) -> Tensor:
    """
    Return the mean of logsumexp(logits)^2 (Zoph et al., 2022, arXiv:2202.08906).

    NaN logits are left out of the sums. A row with inf makes the loss inf, one of -inf alone adds
    0, and neither gets a gradient.

    Parameters
    ----------
    logits : (N, E) Tensor
        bfloat16 and float16 are computed as float32.
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
    TypeError
        If a tensor has another dtype, or an option another type.
    ValueError
        If a shape does not fit.
    """
    name = "router_z_loss"
    check_floating(name, "logits", logits)
    check_shape(name, "logits", logits, "N", "E")
    check_valid(name, valid, logits.shape[0])
    logits = working(logits)
    sequence, batch = sequence_of_row(name, offsets, logits)
    read, counts = as_gate_reads(logits, valid)
    largest, most = _largest(read), torch.finfo(logits.dtype).max
    # logsumexp of zeros at the ends, so that its gradient is a number
    inside = (largest < most) & (largest > -most)
    square = torch.where(inside[:, None], read, 0.0).logsumexp(1).square()
    square = torch.where(inside, square, torch.where(largest > 0, torch.inf, 0.0))
    return _mean_where(*_mean_of_sequences(square, counts, sequence, batch))


def importance_loss(
    weights: Tensor,
    expert_ids: Tensor,
    num_experts: SupportsIndex,
    *,
    valid: Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    Return the squared coefficient of variation of the experts' summed weights.

    Shazeer et al., 2017 (arXiv:1701.06538), section 4.

    Parameters
    ----------
    weights : (N, k) Tensor
        bfloat16 and float16 are computed as float32.
    expert_ids : (N, k) int64 Tensor
        -1 counts for none.
    num_experts : int
    valid : (N,) bool Tensor, optional
        Rows that count; by default all.
    offsets : (B + 1,) int64 Tensor, optional
        The loss of each sequence alone, and the mean over those with a choice that counts.

    Returns
    -------
    () Tensor
        0 for an even use.

    Raises
    ------
    TypeError
        If a tensor has another dtype, or an option another type.
    ValueError
        If a shape does not fit or an id is out of range.
    """
    name = "importance_loss"
    check_floating(name, "weights", weights)
    check_dtype(name, "expert_ids", expert_ids, torch.int64)
    check_shape(name, "expert_ids", expert_ids, "N", "k")
    check_shape(name, "weights", weights, *expert_ids.shape)
    experts = checked_int(name, "num_experts", num_experts, 1)
    load, sequence, batch = _load(name, expert_ids, experts, valid, offsets)
    counts = (expert_ids >= 0) & (expert_ids < experts)
    if valid is not None:
        counts = counts & valid[:, None]
    weights = working(weights)
    kept = torch.where(counts, weights, 0.0)
    places = expert_ids.clamp(0, experts - 1) + sequence[:, None] * experts
    importance = _sums(kept.flatten(), places.flatten(), batch * experts).reshape(batch, experts)
    mean = importance.mean(1)
    variance = (importance - mean[:, None]).square().mean(1)
    spread = variance / mean.square().clamp(min=torch.finfo(weights.dtype).tiny)
    return _mean_where(spread, load.reshape(batch, experts).any(1))


@torch.no_grad()
def update_selection_bias(bias: Tensor, load: Tensor, *, rate: float = 1e-3) -> Tensor:
    """
    Raise the bias of experts below the mean load and lower that of those above it, in place.

    Balance without a loss (Wang et al., 2024, arXiv:2408.15664): bias += rate * sign(mean - load).
    Sum the loads of all processes first. In 16 bits a small rate is lost beside a bias of some
    tenths: keep the bias in float32, as ``ExpertGate`` does.

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
    name = "update_selection_bias"
    check_floating(name, "bias", bias)
    check_shape(name, "bias", bias, "E")
    check_tensor(name, "load", load)
    check_shape(name, "load", load, *bias.shape)
    rate = checked_number(name, "rate", rate, finite=True)
    load = load.to(torch.float64)
    return bias.add_(torch.sign(load.mean() - load).to(bias.dtype), alpha=rate)


@torch.no_grad()
def gate_diagnostics(
    logits: Tensor,
    expert_ids: Tensor,
    *,
    valid: Tensor | None = None,
    offsets: Tensor | None = None,
) -> GateDiagnostics:
    """
    Return load, entropies and the experts that no row chose.

    Logits that are not finite are read as in :func:`load_balancing_loss`. How many experts are dead
    is known from the values alone, so a compiled graph needs
    ``torch._dynamo.config.capture_dynamic_output_shape_ops``.

    Parameters
    ----------
    logits : (N, E) Tensor
    expert_ids : (N, k) int64 Tensor
        -1 counts for none.
    valid : (N,) bool Tensor, optional
        Rows that count; by default all.
    offsets : (B + 1,) int64 Tensor, optional
        Load and entropies of each sequence; entropies are 0 where no row counts.

    Returns
    -------
    GateDiagnostics

    Raises
    ------
    TypeError
        If a tensor has another dtype, or an option another type.
    ValueError
        If a shape does not fit or an id is out of range.
    """
    name = "gate_diagnostics"
    _check_choices(name, logits, expert_ids)
    logits, experts = working(logits), logits.shape[1]
    load, sequence, batch = _load(name, expert_ids, experts, valid, offsets)
    load = load.reshape(batch, experts)
    read, counts = as_gate_reads(logits, valid)
    of_rows = torch.special.entr(torch.softmax(read, 1)).sum(1)
    entropy, _ = _mean_of_sequences(of_rows, counts, sequence, batch)
    shares = load.to(logits.dtype) / load.sum(1, keepdim=True).clamp(min=1)
    load_entropy = torch.special.entr(shares).sum(1)
    dead = (~load.any(0)).nonzero()[:, 0]
    if offsets is None:
        return GateDiagnostics(load[0], entropy[0], load_entropy[0], dead)
    return GateDiagnostics(load, entropy, load_entropy, dead)
