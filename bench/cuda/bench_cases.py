"""The benchmarks of CUDA kernels compare the same things; with small sizes, on the CPU."""

from __future__ import annotations

import pytest
import torch

from bench.cuda.cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_competitors_return_the_same(name) -> None:
    torch.manual_seed(1)
    ours, *peers = CASES[name](device="cpu", small=True).values()
    tolerance = 3e-2 if "bfloat16" in name else 1e-4
    expected = ours().detach().float()
    for peer in peers:
        found = peer().detach().float()
        if "ragged" in name:  # packed rows lie in another order
            found, wanted = found.sum(0), expected.sum(0)
            torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.5)
        else:
            torch.testing.assert_close(
                found.reshape(expected.shape), expected, rtol=tolerance, atol=tolerance
            )
