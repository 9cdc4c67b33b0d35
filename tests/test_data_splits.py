from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqrec_fast.data import Sessions, split_by_time, split_leave_one_out

DAY = 86_400.0


def test_leave_one_out() -> None:
    sessions = Sessions.from_lists([[1, 2, 3, 4], [5, 6], [7, 8, 9], [], [10]])
    train, valid, test = split_leave_one_out(sessions)
    assert [train[i].tolist() for i in range(len(train))] == [[1, 2], [5, 6], [7], [], [10]]
    assert train.session_ids.tolist() == [0, 1, 2, 3, 4]
    history, target = valid.split_last()
    assert [history[i].tolist() for i in range(len(history))] == [[1, 2], [7]]
    assert target.tolist() == [3, 8]
    history, target = test.split_last()
    assert [history[i].tolist() for i in range(len(history))] == [[1, 2, 3], [7, 8]]
    assert target.tolist() == [4, 9]
    assert test.session_ids.tolist() == valid.session_ids.tolist() == [0, 2]


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=10))
def test_leave_one_out_never_trains_on_a_target(lists) -> None:
    sessions = Sessions.from_lists(lists)
    train, valid, test = split_leave_one_out(sessions)
    assert train.n_events + 2 * len(test) == sessions.n_events
    for part, left_out in ((valid, 1), (test, 0)):
        for i, session in enumerate(part.session_ids.tolist()):
            assert part[i].tolist() == lists[session][: len(lists[session]) - left_out]
            assert train[session].tolist() == lists[session][:-2]


def timed(starts: list[float]) -> Sessions:
    items = np.arange(2 * len(starts))
    times = np.array([t for start in starts for t in (start, start + 10.0)])
    return Sessions(items, 2 * np.arange(len(starts) + 1), times)


def test_by_moment() -> None:
    train, test = split_by_time(timed([50, 10, 45, 49.9]), cut=50)
    assert test.session_ids.tolist() == [0]
    assert train.session_ids.tolist() == [1, 2, 3]
    # session 3 goes on after the cut and stays whole
    assert train.times is not None
    assert train.times.tolist() == [10, 20, 45, 55, 49.9, 59.9]


def test_by_fraction() -> None:
    sessions = timed([9, 1, 8, 2, 7, 3, 6, 4, 5, 10])
    for fraction, n in ((0.1, 1), (0.3, 3), (0.7, 7), (0.9, 9), (0.01, 1)):
        train, test = split_by_time(sessions, fraction=fraction)
        assert len(test) == n
        assert train.times is not None
        assert test.times is not None
        assert train.times[train.offsets[:-1]].max() < test.times[test.offsets[:-1]].min()
    _, test = split_by_time(timed([1, 2, 2, 2]), fraction=0.25)
    assert len(test) == 3


def test_by_days() -> None:
    # the last event is at two days and 20 seconds
    sessions = timed([0, DAY, DAY + 20, 2 * DAY + 10])
    for days, test_ids in ((0.5, [3]), (1, [2, 3]), (1.5, [1, 2, 3])):
        _, test = split_by_time(sessions, days=days)
        assert test.session_ids.tolist() == test_ids


def test_errors() -> None:
    sessions = timed([1, 2])
    with pytest.raises(ValueError, match="exactly one of cut, fraction and days; got none"):
        split_by_time(sessions)
    with pytest.raises(ValueError, match="got cut, days"):
        split_by_time(sessions, cut=1, days=1)
    for fraction in (0, 1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="fraction is"):
            split_by_time(sessions, fraction=fraction)
    for days in (0, float("nan")):
        with pytest.raises(ValueError, match="days is"):
            split_by_time(sessions, days=days)
    for cut, n in ((0, 2), (99, 0), (float("nan"), 0)):
        with pytest.raises(ValueError, match=rf"cut={cut} puts {n} of 2 sessions into test"):
            split_by_time(sessions, cut=cut)
    with pytest.raises(ValueError, match="no times"):
        split_by_time(Sessions.from_lists([[1]]), cut=1)
    with pytest.raises(ValueError, match="session 0 is empty"):
        split_by_time(Sessions(np.arange(1), np.array([0, 0, 1]), np.zeros(1)), cut=1)
    empty = Sessions(np.arange(0), np.array([0]), np.zeros(0))
    for option in ({"cut": 1}, {"fraction": 0.5}, {"days": 1}):
        with pytest.raises(ValueError, match="0 of 0 sessions"):
            split_by_time(empty, **option)
