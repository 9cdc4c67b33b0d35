"""Exact top-k of tensors on CUDA; `topk.py` makes an operator of it."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _devices

_LARGEST = 2**31 - 1  # no id is beyond


def topk_cuda(
    queries: Tensor,
    items: Tensor,
    k: int,
    bias: Tensor | None,
    excluded: Tensor | None,
    exclude_offsets: Tensor | None,
    allow: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """
    Return the k best items for each query.

    Ids and offsets of exclusions are not checked, since that would wait for the GPU: ids that do
    not exist exclude nothing.
    """
    if queries.dim() not in (1, 2) or items.dim() != 2 or queries.shape[-1] != items.shape[1]:
        raise ValueError(
            f"topk: queries has shape {tuple(queries.shape)}; expected (B, d) or (d,) for items "
            f"of shape {tuple(items.shape)}"
        )
    if excluded is not None and exclude_offsets is not None:
        excluded = ascending_by_query(excluded, exclude_offsets)
    batch = queries.reshape(-1, items.shape[1])
    if allow is not None:
        if allow.dtype != torch.bool:
            raise TypeError(f"topk: allow is {allow.dtype}; expected bool")
        allow = allow.contiguous().view(torch.uint8)
    sizes = (batch.shape[0], *items.shape, k)
    workspace = _devices.workspace("topk_workspace", queries, *sizes, dtype=torch.int64)
    shape = (*queries.shape[:-1], k)
    scores, ids = queries.new_empty(shape), queries.new_empty(shape, dtype=torch.int64)
    _devices.run(
        "topk", torch.float32, queries,
        batch, items, bias, k, excluded, exclude_offsets, allow,
        workspace, scores.view(-1, k), ids.view(-1, k),
    )  # fmt: skip
    return scores, ids


def ascending_by_query(values: Tensor, offsets: Tensor) -> Tensor:
    """Return a ragged list of ids, each query's in ascending order, as the kernel looks them up."""
    place = torch.arange(values.numel(), device=values.device)
    query = torch.searchsorted(offsets[1:].contiguous(), place, right=True)
    keys = (query << 32) + values.clamp(-1, _LARGEST) + 1
    return (keys.sort().values & 0xFFFFFFFF) - 1
