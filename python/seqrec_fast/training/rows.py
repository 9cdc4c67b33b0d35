"""Gradients of the rows of large tables that one step looks up."""

from __future__ import annotations

import torch
from torch import Tensor


class RowLookups:
    """
    Looks up rows of parameters, and gives the parameters sparse gradients of these rows.

    What is looked up is a leaf of autograd with a dense gradient, so that no operator of a step
    is as large as a table. Rows that were looked up more than once get the sum, added in the
    order of the lookups.
    """

    def __init__(self) -> None:
        self._taken: dict[Tensor, list[tuple[Tensor, Tensor]]] = {}
        self._increasing: set[int] = set()

    def take(self, table: Tensor, ids: Tensor, *, increasing: bool = False) -> Tensor:
        """
        Look up rows.

        Parameters
        ----------
        table : (n, ...) Tensor
            A parameter.
        ids : (m,) int64 Tensor
        increasing : bool
            States that `ids` are increasing, each once.

        Returns
        -------
        (m, ...) Tensor
            A copy of ``table[ids]``.
        """
        rows = table.detach().index_select(0, ids).requires_grad_()
        self._taken.setdefault(table, []).append((ids, rows))
        if increasing:
            self._increasing.add(id(rows))
        return rows

    def set_gradients(self) -> None:
        """After ``backward()``: set the ``grad`` of every table to a coalesced sparse tensor."""
        for table, taken in self._taken.items():
            ids = torch.cat([ids for ids, _ in taken])
            values = torch.cat([_gradient(rows) for _, rows in taken])
            if len(taken) > 1 or id(taken[0][1]) not in self._increasing:
                ids, values = sum_rows(ids, values)
            table.grad = sparse_rows(ids, values, table.shape)


def sum_rows(ids: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """
    Sum the rows of each id, in their order.

    Not by ``index_add_``: on a GPU its order changes from run to run.

    Parameters
    ----------
    ids : (m,) int64 Tensor
    values : (m, ...) Tensor

    Returns
    -------
    ids : (n,) int64 Tensor
        Increasing, each once.
    sums : (n, ...) Tensor
    """
    flat = values.reshape(len(ids), values.shape[1:].numel())
    unique, sums = torch.ops.seqrec_fast.sum_rows(ids, [flat], [1], None)
    return unique, sums.view(len(unique), *values.shape[1:])


def summed_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows that a sparse gradient has, increasing, and their values."""
    if gradient.is_coalesced():
        return gradient.indices()[0], gradient.values()
    return sum_rows(gradient._indices()[0], gradient._values())


def sparse_rows(ids: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Return the sparse gradient of a table whose rows `ids`, increasing, have `values`."""
    return torch.sparse_coo_tensor(
        ids[None], values, shape, is_coalesced=True, check_invariants=False
    )


def _gradient(rows: Tensor) -> Tensor:
    return torch.zeros_like(rows) if rows.grad is None else rows.grad
