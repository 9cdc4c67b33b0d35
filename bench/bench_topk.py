"""
Exact top-k over a catalogue against the ways it is done today, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_topk.py

Every competitor's answer is checked before it is timed. Medians are what to compare; a group
holds the competitors of one shape.
"""

from __future__ import annotations

import numpy as np
import pytest

import seqrec_fast as sf

SHAPES = {  # N items, d terms, B queries, k
    "10k x 64, 1 query, k=20": (10_000, 64, 1, 20),
    "1M x 64, 1 query, k=20": (1_000_000, 64, 1, 20),
    "1M x 128, 1 query, k=100": (1_000_000, 128, 1, 100),
    "100k x 64, 64 queries, k=20": (100_000, 64, 64, 20),
    "1M x 64, 64 queries, k=20": (1_000_000, 64, 64, 20),
}
N_EXCLUDED = 200


def ours(items, queries, k):
    index = sf.ItemIndex(items)
    return lambda: index.topk(queries, k)


def ours_with_exclusion(items, queries, k):
    rng = np.random.default_rng(1)
    values = rng.integers(0, len(items), N_EXCLUDED * len(queries))
    offsets = np.arange(0, len(values) + 1, N_EXCLUDED)
    index = sf.ItemIndex(items)
    return lambda: index.topk(queries, k, exclude=(values, offsets))


def numpy_argpartition(items, queries, k):
    def run():
        scores = queries @ items.T
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        return np.take_along_axis(found, order, 1), np.take_along_axis(best, order, 1)

    return run


def torch_mm_topk(items, queries, k):
    import torch

    torch.set_num_threads(1)
    table, batch = torch.from_numpy(items), torch.from_numpy(queries)

    @torch.inference_mode()
    def run():
        scores, ids = torch.topk(batch @ table.T, k)
        return scores.numpy(), ids.numpy()

    return run


def faiss_flat(items, queries, k):
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    return lambda: index.search(queries, k)


COMPETITORS = (ours, ours_with_exclusion, torch_mm_topk, faiss_flat, numpy_argpartition)


@pytest.fixture(scope="module", params=SHAPES)
def problem(request):
    n_items, dim, n_queries, k = SHAPES[request.param]
    rng = np.random.default_rng(0)
    items = rng.standard_normal((n_items, dim), dtype=np.float32)
    queries = rng.standard_normal((n_queries, dim), dtype=np.float32)
    sf.set_num_threads(1)
    return request.param, items, queries, k, sf.ItemIndex(items).topk(queries, k)[0]


@pytest.mark.parametrize("competitor", COMPETITORS, ids=lambda make: make.__name__)
def test_topk(benchmark, problem, competitor):
    name, items, queries, k, expected = problem
    try:
        run = competitor(items, queries, k)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed")
    scores, _ = run()
    if competitor is ours_with_exclusion:
        assert (scores <= expected).all()
    else:
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-3)
    benchmark.group = name
    benchmark.extra_info.update(target=sf.active_target(), threads=1, dtype="float32")
    work = items.size * len(queries)
    rounds = 200 if work < 1e7 else 15 if work < 1e9 else 5
    benchmark.pedantic(run, rounds=rounds, warmup_rounds=2)
