"""Dispatch by expert without PyTorch: order, capacity, inverse, streams, wrong input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqrec_fast as sf
from dispatch_cases import CASES, case, choices, offsets_of
from seqrec_fast import _core
from seqrec_fast import reference_dispatch as reference


@pytest.mark.parametrize("capacity", [None, 0, 1, 3, 1000])
@pytest.mark.parametrize("shape", CASES, ids=str)
def test_equals_its_definition(rng, shape, capacity):
    offsets, ids = case(rng, *shape)
    found = sf.dispatch_by_expert(offsets, ids, shape[1], capacity=capacity)
    expected = reference.dispatch_by_expert(offsets.tolist(), ids, shape[1], capacity=capacity)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == np.int64
        assert ours.shape == theirs.shape


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 12), max_size=6),
    num_experts=st.integers(1, 6),
    k=st.integers(1, 3),
    capacity=st.none() | st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_properties(lengths, num_experts, k, capacity, seed):
    rng = np.random.default_rng(seed)
    offsets = offsets_of(lengths)
    ids = choices(rng, int(offsets[-1]), num_experts, min(k, num_experts), empty=0.3)
    d = sf.dispatch_by_expert(offsets, ids, num_experts, capacity=capacity)
    flat, batch = ids.reshape(-1), len(lengths)
    # Each row's slot names its expert and its sequence.
    parts = np.repeat(np.arange(num_experts * batch), np.diff(d.offsets))
    np.testing.assert_array_equal(flat[d.slot], parts // max(batch, 1))
    np.testing.assert_array_equal(
        np.searchsorted(offsets, d.index, side="right") - 1, parts % max(batch, 1)
    )
    # Permutation times inverse is the identity, and time increases inside a subsequence.
    np.testing.assert_array_equal(d.position.reshape(-1)[d.slot], np.arange(len(d.slot)))
    np.testing.assert_array_equal(d.index, d.slot // max(ids.shape[1], 1))
    for first, last in zip(d.offsets[:-1], d.offsets[1:], strict=True):
        assert (np.diff(d.index[first:last]) > 0).all()
    if capacity is None:
        np.testing.assert_array_equal(np.sort(d.slot), np.flatnonzero(flat >= 0))
    else:
        assert (np.diff(d.offsets) <= capacity).all()
        whole = sf.dispatch_by_expert(offsets, ids, num_experts)
        for i in range(num_experts * batch):
            kept = d.index[d.offsets[i] : d.offsets[i + 1]]
            all_of_it = whole.index[whole.offsets[i] : whole.offsets[i + 1]]
            np.testing.assert_array_equal(kept, all_of_it[max(0, len(all_of_it) - capacity) :])


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_and_batch_composition_do_not_matter(rng, threads):
    offsets, ids = case(rng, [30, 0, 5] * 30, 4, 2)
    sf.set_num_threads(1)
    one = sf.dispatch_by_expert(offsets, ids, 4, capacity=6)
    sf.set_num_threads(threads)
    for a, b in zip(one, sf.dispatch_by_expert(offsets, ids, 4, capacity=6), strict=True):
        np.testing.assert_array_equal(a, b)
    first, last = offsets[9], offsets[10]
    alone = sf.dispatch_by_expert(np.array([0, last - first]), ids[first:last], 4, capacity=6)
    for m in range(4):
        i = m * (len(offsets) - 1) + 9
        np.testing.assert_array_equal(
            one.index[one.offsets[i] : one.offsets[i + 1]] - first,
            alone.index[alone.offsets[m] : alone.offsets[m + 1]],
        )


@pytest.mark.parametrize("capacity", [None, 0, 2])
def test_event_by_event_equals_the_whole(rng, capacity):
    ids = choices(rng, 40, 5, 2)
    stream = sf.StreamingDispatch(5, capacity=capacity)
    for n in range(40):
        assert stream.append(ids[n]) == n
        whole = sf.dispatch_by_expert([0, n + 1], ids[: n + 1], 5, capacity=capacity)
        for ours, theirs in zip(stream.dispatch(), whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    for m in range(5):
        rows = slice(*whole.offsets[m : m + 2])
        np.testing.assert_array_equal(stream.events_of(m), whole.index[rows])


def test_a_stream_of_nothing():
    stream = sf.StreamingDispatch(3)
    assert [part.size for part in stream.dispatch()] == [0, 0, 4, 0]
    assert stream.append(2) == 0
    assert stream.dispatch().offsets.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 7, 16, 33, 64])
def test_rows_go_out_and_come_back(rng, target, dtype, dim):
    offsets, ids = case(rng, [0, 5, 300, 1], 4, 2)
    d = sf.dispatch_by_expert(offsets, ids, 4)
    suffix = "_f32" if dtype == np.float32 else "_f64"
    values = rng.standard_normal((len(ids), dim)).astype(dtype)
    weights = rng.standard_normal(ids.shape).astype(dtype)
    rows = np.full((len(d.index), dim), np.nan, dtype)
    getattr(_core, "dispatch_rows" + suffix)(values, d.position, None, None, rows, None)
    np.testing.assert_array_equal(rows, values[d.index])
    getattr(_core, "dispatch_rows" + suffix)(values, d.position, weights, None, rows, None)
    np.testing.assert_array_equal(rows, values[d.index] * weights.reshape(-1)[d.slot, None])
    sums, dots = np.full_like(values, np.nan), np.full_like(weights, np.nan)
    getattr(_core, "combine_rows" + suffix)(rows, d.position, weights, values, sums, dots)
    expected = reference.combine_by_expert(rows, d.position, weights)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12}
    np.testing.assert_allclose(sums, expected, **tolerance)
    products = (values[:, None] * rows[d.position]).sum(-1)
    np.testing.assert_allclose(dots, np.where(d.position >= 0, products, 0), **tolerance)
    assert not sums[(ids < 0).all(1)].any()


def test_many_rows_are_written_past_the_caches(rng, target):
    """Above 4 MB, with weights and threads; also where rows do not fill vectors."""
    sf.set_num_threads(2)
    for dim in (64, 61):
        offsets, ids = case(rng, [20000, 21000], 3, 1)
        d = sf.dispatch_by_expert(offsets, ids, 3)
        values = rng.standard_normal((len(ids), dim), dtype=np.float32)
        weights = rng.random(ids.shape, dtype=np.float32)
        rows = np.full((len(d.index), dim), np.nan, np.float32)
        assert rows.nbytes > 4 << 20
        _core.dispatch_rows_f32(values, d.position, weights, None, rows, None)
        expected = values[d.index] * weights[d.index]
        np.testing.assert_array_equal(rows, expected)


IDS = np.array([[0, 1], [2, -1]])
GOOD = ([0, 2], IDS, 3)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0, 2], IDS, 2), {}, r"dispatch_by_expert: expert_ids\[2\] is 2; expected -1 to 1"),
        (([0, 2], IDS - 1, 3), {}, r"expert_ids\[3\] is -2; expected -1 to 2"),
        (([0, 2], [[1, 1], [0, 2]], 3), {}, r"expert_ids\[0\] names expert 1 twice"),
        (([1, 2], IDS, 3), {}, r"offsets\[0\] is 1; expected 0"),
        (([0, 2, 1, 2], IDS, 3), {}, "offsets decreases from 2 to 1 at index 2"),
        (([0, 3], IDS, 3), {}, "offsets ends at 3; expected 2, the number of rows of expert_ids"),
        ((np.zeros(0, int), IDS, 3), {}, "offsets has no entries"),
        ((*GOOD[:2], 0), {}, "num_experts is 0; expected at least 1"),
        ((*GOOD[:2], 1 << 40), {}, "num_experts is 1099511627776; expected 1 to"),
        (GOOD, {"capacity": -1}, "capacity is -1; expected 0 or more"),
        (([0, 2], IDS[None], 3), {}, r"expert_ids has shape \(1, 2, 2\)"),
    ],
)
def test_wrong_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        sf.dispatch_by_expert(*arguments, **options)


def test_wrong_dtypes():
    with pytest.raises(TypeError, match="expert_ids is int32; expected int64"):
        sf.dispatch_by_expert([0, 2], IDS.astype(np.int32), 3)
    with pytest.raises(TypeError, match="offsets is float64; expected int64"):
        sf.dispatch_by_expert([0.0, 2.0], IDS, 3)


def test_plans_of_other_arrays_are_refused(rng):
    values, position = rng.standard_normal((2, 4)), np.array([[0], [5]])
    with pytest.raises(ValueError, match=r"position\[1\] is 5; expected -1 to 1"):
        _core.dispatch_rows_f64(values, position, None, None, np.empty((2, 4)), None)
    with pytest.raises(ValueError, match=r"position\[1\] is 5; expected -1 to 1"):
        _core.combine_rows_f64(values, position, None, None, np.empty((2, 4)), None)
    with pytest.raises(ValueError, match=r"weights has shape \(1, 2\); expected \(2, 1\)"):
        _core.dispatch_rows_f64(values, position, np.ones(2), None, np.empty((2, 4)), None)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (5, ValueError, "expert_ids holds 5; expected -1 to 2"),
        ([1, 1], ValueError, "expected each expert at most once"),
        (0.5, TypeError, "expert_ids are float64"),
        ([[1]], ValueError, r"expert_ids has shape \(1, 1\)"),
    ],
)
def test_wrong_events_of_a_stream(ids, error, message):
    stream = sf.StreamingDispatch(3)
    with pytest.raises(error, match=message):
        stream.append(ids)
    assert stream.n_events == 0
    stream.append([0, 1])
    with pytest.raises(ValueError, match=r"has shape \(1,\); expected \(2,\)"):
        stream.append(0)
    with pytest.raises(ValueError, match="capacity is -2"):
        sf.StreamingDispatch(3, capacity=-2)
    with pytest.raises(ValueError, match="num_experts is 0"):
        sf.StreamingDispatch(0)
