"""Losses of targets against sampled negatives on CUDA; `_loss_ops.py` makes an operator of it."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _devices
from ._tensors import product

# Bytes of gathered vectors that exist at once where each row has negatives of its own.
_GATHERED_BYTES = 64 << 20


def sampled_loss_cuda(
    outputs: tuple[Tensor, ...],
    function: str,
    kind: str,
    collisions: str,
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None,
    log_q: Tensor | None,
    target_log_q: Tensor | None,
    scale: float,
    elu: float,
    regularization: float,
    beta: float,
    precision: str,
    row_grad: Tensor | None,
) -> None:
    """
    Fill `outputs`: losses and, with `row_grad`, gradients, as the operator returns them.

    Products are PyTorch's, in `precision` with negatives that rows share; what lies between them is
    one kernel.
    """
    loss, dhidden, dtarget, dnegatives, dbias = outputs
    rows, dim = hidden.shape
    sets = negatives if negatives.dim() == 2 else negatives[None]
    groups, n = sets.shape
    needed = row_grad is not None
    with torch.autocast(hidden.device.type, enabled=False):
        own = weight[target]
        target_products = (hidden * own).sum(1)
        options = (scale, elu, regularization, beta)

        def scored(part: slice, ids: Tensor, logs: Tensor | None, products: Tensor) -> Tensor:
            """Make losses of a part's products, and their gradients take the place of these."""
            _devices.run(
                "sampled_loss_rows", hidden.dtype, hidden,
                function, kind, collisions, bias, target[part], ids, logs,
                None if target_log_q is None else target_log_q[part], *options,
                target_products[part], products, loss[part],
                None if row_grad is None else row_grad[part],
                dtarget[part] if needed else None,
            )  # fmt: skip
            return products

        if negatives.dim() == 2 and groups == rows:
            at_once = max(1, _GATHERED_BYTES // (n * dim * hidden.element_size()))
            for first in range(0, rows, at_once):
                part = slice(first, min(first + at_once, rows))
                vectors = weight[sets[part]]
                products = (vectors @ hidden[part, :, None])[..., 0].contiguous()
                logs = None if log_q is None else log_q[part]
                found = scored(part, sets[part], logs, products)
                if needed:
                    dhidden[part] = (found[:, None] @ vectors)[:, 0]
                    dbias.view(rows, n)[part] = found
        else:
            vectors, grouped = weight[sets], by_group(hidden, groups)
            products = product(grouped, vectors.mT, precision).reshape(-1, n)[:rows]
            found = scored(slice(0, rows), sets, log_q, products)
            if needed:
                grads = by_group(found, groups)
                dhidden.copy_(product(grads, vectors, precision).reshape(-1, dim)[:rows])
                torch.sum(grads, 1, out=dbias.view(groups, n))
                found = product(grads.mT, grouped, precision).reshape(-1, dim)
                torch.mul(found, scale, out=dnegatives)
        if needed:
            dhidden.addcmul_(dtarget[:, None], own).mul_(scale)


def by_group(rows: Tensor, groups: int) -> Tensor:
    """Return rows as (groups, rows of a group, columns), with zeros after the last row."""
    per_group = -(-rows.shape[0] // groups)
    padding = groups * per_group - rows.shape[0]
    padded = torch.nn.functional.pad(rows, (0, 0, 0, padding)) if padding else rows
    return padded.reshape(groups, per_group, rows.shape[1])
