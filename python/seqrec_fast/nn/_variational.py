"""Variational dropout: one mask per sequence, whatever the layout of the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def variational_mask(values: Tensor, rate: float, events: Any) -> Tensor:
    """
    Draw what multiplies the input of a layer.

    Parameters
    ----------
    values : (events, I), (T, B, I) or (B, T, I) Tensor
    rate : float
        Probability of 0; the other features get 1 / (1 - rate).
    events
        The layout: ``batch``, ``offsets``, ``batch_sizes``, ``batch_first`` and ``sessions`` as
        in ``_recurrent_layer._Input``.

    Returns
    -------
    Tensor that broadcasts to `values`
        Every layout of the same sequences draws the same masks.
    """
    device = values.device
    kept = torch.rand(events.batch, values.shape[-1], device=device).ge(rate)
    mask = kept.to(values) / (1 - rate)
    if events.sessions is not None:
        mask = mask[events.sessions.to(device)]
    if events.offsets is not None:
        rows = torch.arange(values.shape[0], device=device)
        of_row = torch.bucketize(rows, events.offsets[1:].to(device), right=True)
        return mask[of_row.clamp(max=events.batch - 1)]
    if events.batch_sizes is not None:
        rows = torch.cat([torch.arange(int(n)) for n in events.batch_sizes])
        return mask[rows.to(device)]
    return mask.unsqueeze(1 if events.batch_first else 0)
