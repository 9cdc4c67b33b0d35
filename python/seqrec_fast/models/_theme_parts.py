"""Formulas of ThemeMixture: session means, theme scores, what the gate learns from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast._checks import checked_int, checked_number
from seqrec_fast._theme_mixture_format import TASKS, THEME_SCALE
from seqrec_fast.nn.functional import session_segments

_NUMBERS = (
    "session_gap", "theme_loss", "next_item_loss", "dropout_embedding", "dropout_hidden"
)  # fmt: skip


class Output(torch.nn.Module):
    """The bias of the scores, under the name that GRU4Rec has for it."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(n_items))


def theme_logits(embeddings: Tensor, weight: Tensor) -> Tensor:
    """Return (N, n_themes) scores of the directions of (N, H) embeddings.

    Embeddings get no gradient from it: they serve the scores of items, the gate follows.
    """
    events = embeddings.detach()
    length: Tensor = torch.linalg.vector_norm(events, dim=1, keepdim=True).clamp(min=1e-12)
    return functional.linear(events, weight) * (THEME_SCALE / length)


def session_mean_so_far(values: Tensor, position: Tensor) -> Tensor:
    """Return the mean over the events of a session up to each event.

    Parameters
    ----------
    values : (N, D) Tensor
    position : (N,) int64 Tensor
        Place of each event in its session, from 0.

    Returns
    -------
    (N, D) Tensor
    """
    means: Tensor = _SessionMean.apply(values, position)  # type: ignore[no-untyped-call]
    return means


class _SessionMean(torch.autograd.Function):
    """Sums over 1, 2, 4, ... events: few passes, and bits that depend on the session alone."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, position: Tensor) -> Tensor:
        count = (position + 1)[:, None].to(values.dtype)
        ctx.save_for_backward(position, count)
        total = values.clone()
        _add_neighbours(total, position, to_later=True)
        return total.div_(count)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        position, count = ctx.saved_tensors
        total = grad / count
        _add_neighbours(total, position, to_later=False)
        return total, None


def _add_neighbours(total: Tensor, position: Tensor, to_later: bool) -> None:
    longest = int(position.max()) if len(position) else 0
    if total.is_cuda:
        add_neighbours_everywhere(total, position, longest, to_later)
        return
    later, reach = torch.arange(len(position), device=position.device), 1
    while reach <= longest:
        later = later[position[later] >= reach]
        to, of = (later, later - reach) if to_later else (later - reach, later)
        total.index_add_(0, to, total.index_select(0, of))
        reach *= 2


def add_neighbours_everywhere(
    total: Tensor, position: Tensor, longest: int, to_later: bool
) -> None:
    """
    Add to each event the sum of the one 1, 2, 4, ... events before it in its session, in place.

    With zeros where there is none: the host need not know how many there are, as it has to for
    lists of them.

    Parameters
    ----------
    total : (N, D) Tensor
    position : (N,) int64 Tensor
        Place of each event in its session, from 0.
    longest : int
        The greatest of them.
    to_later : bool
        False: the one after it, which is the adjoint.
    """
    reach = 1
    while reach <= longest:
        own = (position[reach:] >= reach)[:, None]
        early, late = total[:-reach], total[reach:]
        to, of = (late, early) if to_later else (early, late)
        to += torch.where(own, of, 0.0)
        reach *= 2


def session_position(
    offsets: Tensor, times: Tensor | None, gap: float, window: int, n_events: int
) -> Tensor:
    """Return the place of each event in its session, from 0; without times by `window`."""
    if times is None:
        cut = session_segments(offsets, rule="window", window=window, n_events=n_events)
    else:
        cut = session_segments(offsets, times, rule="gap", gap=gap, n_events=n_events)
    first = cut.offsets
    starts = torch.repeat_interleave(first[:-1], first.diff(), output_size=n_events)
    return torch.arange(n_events, device=offsets.device) - starts


def last_rows(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the last row of each sequence, zeros for an empty one."""
    filled = (offsets[1:] > offsets[:-1]).to(values.dtype)
    if not len(values):
        return values.new_zeros(len(filled), values.shape[1])
    return values[(offsets[1:] - 1).clamp(min=0)] * filled[:, None]


def events_with_next(offsets: Tensor) -> Tensor:
    """Return the positions of the events that are not the last ones of their sequences."""
    has_next = torch.ones(int(offsets[-1]), dtype=torch.bool, device=offsets.device)
    has_next[offsets[1:][offsets[1:] > offsets[:-1]] - 1] = False
    return has_next.nonzero()[:, 0]


def theme_mutual_information(logits: Tensor, position: Tensor) -> Tensor:
    """Return the mutual information, in nats, of the themes of neighbours within sessions.

    Ji et al. (2019, arXiv:1807.06653), equation 3, with neighbours for their pairs of images.

    Parameters
    ----------
    logits : (N, n_themes) Tensor
        Of each event alone.
    position : (N,) int64 Tensor
        Place of each event in its session, from 0.

    Returns
    -------
    () Tensor
        0 to log(n_themes).
    """
    share = functional.softmax(logits, 1)
    has_before = position[1:] > 0
    before = torch.where(has_before[:, None], share[:-1], 0.0)
    joint = before.T @ share[1:] / has_before.sum().clamp(min=1)
    joint = (joint + joint.T) / 2
    alone = joint.sum(0)
    tiny = torch.finfo(joint.dtype).tiny
    independent = torch.log(alone + tiny)[:, None] + torch.log(alone + tiny)
    return (joint * (torch.log(joint + tiny) - independent)).sum()


def check_config(config: dict[str, Any]) -> None:
    """Raise ValueError unless the parameters of a ThemeMixture are in range; make sizes ints."""
    if config["task"] not in TASKS:
        raise ValueError(
            f"ThemeMixture: task is {config['task']!r}; expected one of {', '.join(TASKS)}"
        )
    for name in ("n_items", "hidden_size", "k", "session_window"):
        config[name] = checked_int("ThemeMixture", name, config[name], 1)
    config["n_themes"] = checked_int("ThemeMixture", "n_themes", config["n_themes"])
    if config["k"] > max(config["n_themes"], 1):
        raise ValueError(
            f"ThemeMixture: k is {config['k']}; expected 1 to n_themes={config['n_themes']}"
        )
    for name in _NUMBERS:
        checked_number("ThemeMixture", name, config[name])
    if not config["session_gap"] > 0:
        raise ValueError(
            f"ThemeMixture: session_gap is {config['session_gap']}; expected more than 0"
        )
    for name in ("theme_loss", "next_item_loss"):
        if not config[name] >= 0:
            raise ValueError(f"ThemeMixture: {name} is {config[name]}; expected 0 or more")
    for name in ("dropout_embedding", "dropout_hidden"):
        if not 0 <= config[name] < 1:
            raise ValueError(f"ThemeMixture: {name} is {config[name]}; expected 0 <= {name} < 1")
