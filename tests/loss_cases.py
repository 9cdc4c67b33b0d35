"""Tables of random numbers for the tests of losses."""

from __future__ import annotations

import torch


def tables(rows, items, dim, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    target = torch.randint(0, items, (rows,), generator=generator)
    return normal(rows, dim), normal(items, dim), normal(items), target
