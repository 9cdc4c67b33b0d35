"""What holds for every function under torch.func."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def check_gradients(function: Function, x: Tensor) -> None:
    """Compare torch.func.grad and vjp with autograd."""

    def loss(x: Tensor) -> Tensor:
        return function(x).square().sum()

    leaf = x.clone().requires_grad_()
    y = function(leaf)
    (expected,) = torch.autograd.grad(y.square().sum(), leaf)
    assert expected.abs().sum() > 0
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    primal, vjp = torch.func.vjp(function, x)
    torch.testing.assert_close(primal, y)
    torch.testing.assert_close(vjp(2 * y.detach())[0], expected)


def check_jacobian(function: Function, x: Tensor) -> None:
    """Compare torch.func.jacrev with autograd."""
    jacobian = torch.autograd.functional.jacobian(function, x)
    torch.testing.assert_close(torch.func.jacrev(function)(x), jacobian)
