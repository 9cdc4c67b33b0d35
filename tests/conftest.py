"""Fixtures of all tests."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import seqrec_fast as sf


@pytest.fixture(params=sf.supported_targets())
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once on every CPU target of this machine."""
    with sf.force_target(request.param):
        yield request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def emulated_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let the operators' functions for CUDA run on emulated threads, with tensors of the CPU.

    What a kernel does not write of their results and of its scratch memory is NaN.
    """
    import torch

    from cuda_kernels import run_emulated
    from seqrec_fast.nn import _devices

    new_empty = torch.Tensor.new_empty

    def poisoned(*arguments: Any, **options: Any) -> torch.Tensor:
        tensor = new_empty(*arguments, **options)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    monkeypatch.setattr(_devices, "_cuda", importlib.import_module("seqrec_fast._cuda_emulated"))
    monkeypatch.setattr(_devices, "run", run_emulated)


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    threads = sf.get_num_threads()
    yield
    sf.set_num_threads(threads)
