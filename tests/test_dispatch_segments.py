"""Sessions inside a history: cuts, means, streams, wrong input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqrec_fast as sf
from dispatch_cases import offsets_of
from seqrec_fast import _core
from seqrec_fast import reference_dispatch as reference

RULES = [
    {"rule": "window", "window": 1},
    {"rule": "window", "window": 4},
    {"rule": "window", "window": 2**62},
    {"rule": "gap", "gap": 0.0},
    {"rule": "gap", "gap": 2.5},
    {"rule": "gap", "gap": float("inf")},
    {"rule": "top_gaps", "count": 1},
    {"rule": "top_gaps", "count": 3},
    {"rule": "top_gaps", "count": 10**6},
]


def times_of(rng, lengths):
    """Small whole numbers, so that there are equal times and equal gaps."""
    return np.concatenate([[], *(np.cumsum(rng.integers(0, 5, n)) for n in lengths)])


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 15), max_size=5),
    options=st.sampled_from(RULES),
    whole=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_cuts_equal_their_definition(lengths, options, whole, seed):
    times = times_of(np.random.default_rng(seed), lengths).astype(np.int64 if whole else float)
    offsets = offsets_of(lengths)
    given_times = None if options["rule"] == "window" else times
    found = sf.session_segments(offsets, given_times, **options)
    expected = reference.session_segments(offsets.tolist(), times.tolist(), **options)
    assert found.offsets.tolist() == expected[0]
    assert found.sequence_offsets.tolist() == expected[1]


def test_differences_of_integer_times_are_exact():
    times = np.array([-(2**63), -(2**63) + 1, 2**53, 2**53 + 1, 2**63 - 1])
    assert sf.session_segments([0, 5], times, rule="gap", gap=1).offsets.tolist() == [0, 2, 4, 5]
    # 2**63 - 2 - 2**53 and 2**63 + 2**53 - 1
    found = sf.session_segments([0, 5], times, rule="top_gaps", count=2)
    assert found.offsets.tolist() == [0, 2, 5]


@pytest.mark.parametrize("options", RULES[:6], ids=str)
def test_event_by_event_equals_the_whole(rng, options):
    times = times_of(rng, [40])
    values = rng.standard_normal((40, 9)).astype(np.float32)
    given_times = times if options["rule"] == "gap" else None
    stream, ended = sf.StreamingSegments(**options), []
    for n in range(40):
        starts = stream.append(times[n] if given_times is not None else None, values[n])
        if starts and n > 0:
            ended.append(stream.ended_mean)
        part = None if given_times is None else times[: n + 1]
        whole = sf.session_segments([0, n + 1], part, **options)
        assert starts == (whole.offsets[-2] == n)
        for ours, theirs in zip(stream.segments, whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    means = np.empty((len(whole.offsets) - 1, 9), np.float32)
    _core.segment_sum_f32(values, whole.offsets, True, means)
    np.testing.assert_array_equal(np.array([*ended, stream.mean]), means)


def test_streams_without_values_or_events():
    stream = sf.StreamingSegments("window", window=2)
    assert stream.segments.offsets.tolist() == [0]
    assert stream.mean is None
    assert [stream.append() for _ in range(3)] == [True, False, True]
    assert stream.ended_mean is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 7, 16, 33])
def test_means_and_their_adjoint(rng, target, dtype, dim):
    suffix = "_f32" if dtype == np.float32 else "_f64"
    offsets = offsets_of([0, 1, 40, 0, 3, 0])
    values = rng.standard_normal((44, dim)).astype(dtype)
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    found = np.full((6, dim), np.nan, dtype)
    getattr(_core, "segment_sum" + suffix)(values, offsets, True, found)
    np.testing.assert_allclose(
        found, reference.segment_mean(values, offsets.tolist()), rtol=rtol, atol=rtol
    )
    assert not found[[0, 3, 5]].any()
    lengths = np.diff(offsets)
    for mean, divisor in ((False, 1), (True, lengths.clip(1)[:, None])):
        spread = np.full_like(values, np.nan)
        getattr(_core, "expand_segments" + suffix)(found, offsets, mean, spread)
        expected = np.repeat((found / divisor).astype(dtype), lengths, axis=0)
        np.testing.assert_array_equal(spread, expected)
    ids = rng.integers(-(2**62), 2**62, (6, dim))
    spread_ids = np.empty((44, dim), np.int64)
    _core.expand_segments_i64(ids, offsets, False, spread_ids)
    np.testing.assert_array_equal(spread_ids, np.repeat(ids, lengths, axis=0))


@pytest.mark.parametrize(
    ("times", "options", "message"),
    [
        ([0.0, 2.0, 1.0], {"rule": "gap", "gap": 1}, "times decrease from 2 to 1 at index 2"),
        ([0.0, np.nan, 1.0], {"rule": "gap", "gap": 1}, r"times\[1\] is nan; expected finite"),
        ([0.0, 1.0], {"rule": "gap", "gap": 1}, "offsets ends at 3; expected 2"),
        ([0.0, 1.0, 2.0], {"rule": "gap", "gap": -1}, "gap is -1; expected 0 or more"),
        ([0.0, 1.0, 2.0], {"rule": "gap", "gap": np.nan}, "gap is -?nan; expected 0 or more"),
        ([0.0, 1.0, 2.0], {"rule": "top_gaps", "count": 0}, "count is 0; expected at least 1"),
        (None, {"rule": "window", "window": 0}, "window is 0; expected at least 1"),
        (None, {"rule": "window"}, "window is missing; rule 'window' needs it"),
        (None, {"rule": "window", "window": 1, "gap": 2}, "gap is 2; rule 'window' has none"),
        (None, {"rule": "gap", "gap": 1}, "times are missing; rule 'gap' needs them"),
        ([0.0, 1.0, 2.0], {"rule": "window", "window": 1}, "times are given"),
        (None, {"rule": "day"}, "rule is 'day'; expected one of window, gap, top_gaps"),
    ],
)
def test_wrong_input(times, options, message):
    with pytest.raises(ValueError, match=f"session_segments: {message}"):
        sf.session_segments([0, 3], times, **options)


def test_wrong_dtypes_and_offsets():
    with pytest.raises(TypeError, match="times is float32; expected int64 or float64"):
        sf.session_segments([0, 1], np.zeros(1, np.float32), rule="gap", gap=1)
    with pytest.raises(ValueError, match=r"times has shape \(4, 1\); expected \(N,\)"):
        sf.session_segments([0, 4], np.zeros((4, 1)), rule="gap", gap=1)
    with pytest.raises(ValueError, match=r"offsets has shape \(1, 2\); expected \(B \+ 1,\)"):
        sf.session_segments([[0, 4]], rule="window", window=1)
    with pytest.raises(ValueError, match="offsets decreases from 3 to 2"):
        sf.session_segments([0, 3, 2], rule="window", window=2)
    with pytest.raises(ValueError, match="offsets has no entries"):
        sf.session_segments(np.zeros(0, int), rule="window", window=2)


def test_wrong_streams():
    with pytest.raises(ValueError, match="'top_gaps', which needs the whole history"):
        sf.StreamingSegments("top_gaps")
    with pytest.raises(ValueError, match="window is 0; expected at least 1"):
        sf.StreamingSegments(window=0)
    with pytest.raises(ValueError, match="gap is nan; expected 0 or more"):
        sf.StreamingSegments("gap", gap=float("nan"))
    stream = sf.StreamingSegments("gap", gap=1)
    with pytest.raises(ValueError, match="time is None"):
        stream.append()
    with pytest.raises(ValueError, match="time is inf; expected a finite number"):
        stream.append(float("inf"))
    stream.append(3)
    with pytest.raises(ValueError, match="times decrease from 3 to 2"):
        stream.append(2)
    assert stream.n_events == 1
