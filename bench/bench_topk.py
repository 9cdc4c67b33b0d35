"""
Exact top-k over a catalogue against the ways it is done today, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_topk.py

Every answer is compared with the exact one before it is timed. Medians are what to compare; a group
holds the competitors of one shape. `python -m bench.run topk` prints the ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pytest

import seqrec_fast as sf

Run = Callable[[], tuple[np.ndarray, np.ndarray]]

N_EXCLUDED = 200
# Elements of a (B, N) matrix beyond which NumPy's way runs out of memory before it ends.
MOST_NUMPY_SCORES = 1 << 27
ITEMS_AT_ONCE = 1 << 16


class Shape(NamedTuple):
    """Sizes of a problem; `popular` scales items like trained ones, see :class:`Problem`."""

    n_items: int
    dim: int
    n_queries: int
    k: int
    popular: bool = False

    def __str__(self) -> str:
        size, unit = (self.n_items, "") if self.n_items < 1000 else (self.n_items // 1000, "k")
        size, unit = (size // 1000, "M") if size >= 1000 else (size, unit)
        queries = "1 query" if self.n_queries == 1 else f"{self.n_queries} queries"
        kind = ", popularity norms" if self.popular else ""
        return f"{size}{unit} x {self.dim}, {queries}, k={self.k}{kind}"


SHAPES = [
    Shape(10_000, 64, 1, 20),
    Shape(1_000_000, 64, 1, 20),
    Shape(1_000_000, 128, 1, 100),
    Shape(100_000, 64, 64, 20),
    Shape(1_000_000, 64, 64, 20),
    Shape(1_000_000, 128, 256, 100),
]
POPULAR = Shape(1_000_000, 64, 64, 20, popular=True)
AVX2 = Shape(1_000_000, 64, 64, 20)
SCALING = [Shape(1_000_000, 64, 1, 20), Shape(1_000_000, 64, 64, 20)]


class Problem:
    """
    Random normal items and queries of a shape.

    Trained embeddings differ from these in two ways, which `popular` imitates: their spectrum
    decays, and the norm of an item grows with its popularity, here log-normal.
    """

    def __init__(self, shape: Shape) -> None:
        rng = np.random.default_rng(0)
        self.shape, self.k = shape, shape.k
        self.items = rng.standard_normal((shape.n_items, shape.dim), dtype=np.float32)
        self.queries = rng.standard_normal((shape.n_queries, shape.dim), dtype=np.float32)
        if shape.popular:
            spectrum = np.arange(1, shape.dim + 1, dtype=np.float32) ** -0.5
            norms = np.exp(0.5 * rng.standard_normal((shape.n_items, 1), dtype=np.float32))
            self.items *= norms * spectrum
        self.exclude = (
            rng.integers(0, shape.n_items, N_EXCLUDED * shape.n_queries),
            np.arange(0, N_EXCLUDED * shape.n_queries + 1, N_EXCLUDED),
        )

    @cached_property
    def index(self) -> sf.ItemIndex:
        return sf.ItemIndex(self.items)

    def exact_scores(self, exclude: bool = False) -> np.ndarray:
        """The k best scores of each query, in float64."""
        queries = self.queries.astype(np.float64)
        query_of = np.repeat(np.arange(len(queries)), N_EXCLUDED)
        best = np.full((len(queries), self.k), -np.inf)
        for begin in range(0, len(self.items), ITEMS_AT_ONCE):
            part = self.items[begin : begin + ITEMS_AT_ONCE]
            scores = queries @ part.T.astype(np.float64)
            if exclude:
                local = self.exclude[0] - begin
                inside = (local >= 0) & (local < len(part))
                scores[query_of[inside], local[inside]] = -np.inf
            scores = np.concatenate([best, scores], axis=1)
            best = np.partition(scores, -self.k, axis=1)[:, -self.k :]
        return -np.sort(-best, axis=1)


def ours(problem: Problem) -> Run:
    index, queries, k = problem.index, problem.queries, problem.k
    return lambda: index.topk(queries, k)


def ours_with_exclusion(problem: Problem) -> Run:
    index, queries, k = problem.index, problem.queries, problem.k
    return lambda: index.topk(queries, k, exclude=problem.exclude)


def ours_once(problem: Problem) -> Run:
    """Without an index: the catalogue as it lies."""
    items, queries, k = problem.items, problem.queries, problem.k
    return lambda: sf.topk(queries, items, k)


def numpy_argpartition(problem: Problem) -> Run:
    items, queries, k = problem.items, problem.queries, problem.k

    def run():
        scores = queries @ items.T
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        return np.take_along_axis(found, order, 1), np.take_along_axis(best, order, 1)

    return run


def torch_mm_topk(problem: Problem) -> Run:
    import torch

    torch.set_num_threads(1)
    table, batch = torch.from_numpy(problem.items), torch.from_numpy(problem.queries)

    @torch.inference_mode()
    def run():
        scores, ids = torch.topk(batch @ table.T, problem.k)
        return scores.numpy(), ids.numpy()

    return run


def torch_mm_alone(problem: Problem) -> Run:
    """The matrix product without any selection."""
    import torch

    torch.set_num_threads(1)
    table, batch = torch.from_numpy(problem.items), torch.from_numpy(problem.queries)

    @torch.inference_mode()
    def run():
        return (batch @ table.T).numpy(), np.empty(0)

    return run


def faiss_flat(problem: Problem) -> Run:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(problem.items.shape[1])
    index.add(problem.items)
    return lambda: index.search(problem.queries, problem.k)


def usearch_exact(problem: Problem) -> Run:
    from usearch.index import MetricKind, search

    def run():
        found = search(
            problem.items, problem.queries, problem.k, MetricKind.IP, exact=True, threads=1
        )
        return 1 - np.atleast_2d(found.distances), np.atleast_2d(found.keys)

    return run


def implicit_topk(problem: Problem) -> Run:
    from implicit.cpu.topk import topk

    def run():
        ids, scores = topk(problem.items, problem.queries, problem.k, num_threads=1)
        return scores, ids

    return run


COMPETITORS = (
    ours,
    ours_with_exclusion,
    ours_once,
    torch_mm_topk,
    torch_mm_alone,
    faiss_flat,
    usearch_exact,
    implicit_topk,
    numpy_argpartition,
)


def competitors_of(shape: Shape) -> list[Callable[[Problem], Run]]:
    """Return those that a shape is for."""
    left_out = set()
    if shape.n_queries < 256:
        left_out.add(torch_mm_alone)  # of few queries it takes the time that memory takes
    if shape.n_items * shape.n_queries > MOST_NUMPY_SCORES:
        left_out.add(numpy_argpartition)
    return [make for make in COMPETITORS if make not in left_out]


def runs_of(problem: Problem) -> tuple[dict[str, Run], list[str]]:
    """Ours first, then each peer that is here; and what is said of those that are not."""
    runs, missing = {}, []
    for make in competitors_of(problem.shape):
        try:
            runs[make.__name__] = make(problem)
        except ImportError as error:
            missing.append(f"top-k {problem.shape}: {make.__name__} left out, {error}")
    return runs, missing


def check(problem: Problem, runs: dict[str, Run]) -> None:
    """Compare what the runs find with the exact scores."""
    expected = problem.exact_scores()
    for name, run in runs.items():
        if name == torch_mm_alone.__name__:
            continue
        wanted = expected if name != ours_with_exclusion.__name__ else problem.exact_scores(True)
        np.testing.assert_allclose(run()[0], wanted, rtol=1e-4, atol=1e-3, err_msg=name)


def statistics(problem: Problem) -> str:
    """What our scan of a problem leaves to be scored, and what it does not even read."""
    index = sf.ItemIndex(problem.items)
    index.topk(problem.queries, problem.k)
    stats = index.stats()
    blocks = stats["blocks_scanned"] + stats["blocks_skipped"]
    return (
        f"{stats['survivors_per_query']:.1f} survivors per query, "
        f"{stats['blocks_skipped'] / blocks:.1%} of blocks skipped ({stats['backend']})"
    )


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def problem(request):
    sf.set_num_threads(1)
    problem = Problem(request.param)
    return problem, problem.exact_scores(), problem.exact_scores(exclude=True)


@pytest.mark.parametrize("competitor", COMPETITORS, ids=lambda make: make.__name__)
def test_topk(benchmark, problem, competitor):
    problem, expected, without_excluded = problem
    if competitor not in competitors_of(problem.shape):
        pytest.skip("not for this shape")
    try:
        run = competitor(problem)
    except ImportError as error:
        pytest.skip(f"left out: {error}")
    if competitor is not torch_mm_alone:
        wanted = without_excluded if competitor is ours_with_exclusion else expected
        np.testing.assert_allclose(run()[0], wanted, rtol=1e-4, atol=1e-3)
    benchmark.group = str(problem.shape)
    benchmark.extra_info.update(target=sf.active_target(), threads=1, dtype="float32")
    work = problem.items.size * len(problem.queries)
    rounds = 200 if work < 1e7 else 15 if work < 1e9 else 5
    benchmark.pedantic(run, rounds=rounds, warmup_rounds=2)


def test_trained_embeddings_leave_little_to_score():
    sf.set_num_threads(1)
    problem = Problem(POPULAR._replace(n_items=100_000))
    check(problem, {"ours": ours(problem)})
    if problem.index.scan == "int8":
        assert "survivors" in statistics(problem)
        assert problem.index.stats()["survivors_per_query"] < problem.shape.n_items / 100
