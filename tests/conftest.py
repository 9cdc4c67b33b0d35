"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    threads = sf.get_num_threads()
    yield
    sf.set_num_threads(threads)
