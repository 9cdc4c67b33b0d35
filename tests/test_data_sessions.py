from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqrec_fast.data import ClickSamples, InteractionLog, ItemVocabulary, Sessions, build_sessions


def log_of(sessions, items, times=None) -> InteractionLog:
    return InteractionLog(
        np.array(sessions), np.array(items), None if times is None else np.array(times, float)
    )


def as_lists(sessions: Sessions, vocabulary: ItemVocabulary) -> list[list]:
    return [vocabulary.ids[sessions[i]].tolist() for i in range(len(sessions))]


def test_groups_sorts_and_numbers() -> None:
    log = log_of([5, 2, 5, 2, 5], [30, 10, 20, 10, 40], [3, 9, 1, 8, 2])
    sessions, vocabulary, report = build_sessions(log)
    assert vocabulary.ids.tolist() == [10, 20, 30, 40]
    assert sessions.session_ids.tolist() == [5, 2]
    assert sessions.items.tolist() == [1, 3, 2, 0, 0]
    assert sessions.offsets.tolist() == [0, 3, 5]
    assert sessions.times is not None
    assert sessions.times.tolist() == [1, 2, 3, 8, 9]
    assert (report.events_read, report.sessions_read, report.items_read) == (5, 2, 4)
    assert str(report) == "5 of 5 events, 2 of 2 sessions, 4 of 4 items"


def test_equal_times_keep_the_order_of_the_log() -> None:
    log = log_of([1, 2, 1, 2, 1, 2], [3, 1, 2, 3, 1, 2], [7, 7, 7, 7, 0, 7])
    sessions, vocabulary, report = build_sessions(log)
    assert as_lists(sessions, vocabulary) == [[1, 3, 2], [1, 3, 2]]
    assert report.tied_events == 3


def test_without_times_the_order_is_that_of_the_log() -> None:
    sessions, vocabulary, report = build_sessions(log_of(list("abab"), list("zyxw")))
    assert as_lists(sessions, vocabulary) == [["z", "x"], ["y", "w"]]
    assert sessions.session_ids.tolist() == ["a", "b"]
    assert sessions.times is None
    assert report.tied_events == 0


def test_filters_repeat_until_nothing_more_falls() -> None:
    # dropping item 9 shortens session 3, whose going makes item 2 rare, and so on
    log = log_of([1, 1, 2, 2, 2, 3, 3], [1, 1, 1, 1, 2, 2, 9])
    sessions, vocabulary, report = build_sessions(log, min_item_support=2, min_session_length=2)
    assert as_lists(sessions, vocabulary) == [[1, 1], [1, 1]]
    assert (report.rare_events, report.short_session_events) == (2, 1)
    assert (report.events, report.sessions, report.items) == (4, 2, 1)
    assert str(report).endswith("dropped 2 events of rare items, 1 events of short sessions")


def test_unknown_items_are_dropped_counted_and_reported() -> None:
    vocabulary = ItemVocabulary(np.array([40, 10]))
    log = log_of([1, 1, 1, 2, 2, 3], [10, 99, 40, 98, 10, 99])
    sessions, same, report = build_sessions(log, vocabulary=vocabulary)
    assert same is vocabulary
    assert sessions.items.tolist() == [1, 0]
    assert (report.unknown_events, report.unknown_items) == (3, 2)
    assert report.unknown_examples == (98, 99)
    assert "3 events of 2 unknown items (such as 98, 99)" in str(report)
    nothing, _, report = build_sessions(log_of([1, 1], ["a", "b"]), vocabulary=vocabulary)
    assert len(nothing) == 0
    assert nothing.offsets.tolist() == [0]
    assert report.unknown_events == 2


def test_thresholds_are_checked() -> None:
    log = log_of([1], [1])
    with pytest.raises(ValueError, match="min_item_support is 0"):
        build_sessions(log, min_item_support=0)
    with pytest.raises(ValueError, match="min_session_length is 0"):
        build_sessions(log, min_session_length=0)
    with pytest.raises(ValueError, match="exclude each other"):
        build_sessions(log, min_item_support=2, vocabulary=ItemVocabulary([1]))
    with pytest.raises(ValueError, match=r"no session is left of 1 with .*min_session_length=2"):
        build_sessions(log)


events = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 5)), min_size=1, max_size=60
)


@given(events, st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())
def test_equals_the_obvious_program(rows, support, length, timed, strings) -> None:
    names = [(f"u{s}", f"i{i}") if strings else (s, i) for s, i, _ in rows]
    groups: dict = {}
    for (session, item), (_, _, when) in zip(names, rows, strict=True):
        groups.setdefault(session, []).append((when if timed else 0, item))
    lists = {s: [i for _, i in sorted(g, key=lambda row: row[0])] for s, g in groups.items()}
    while True:
        counts = Counter(i for items in lists.values() for i in items)
        kept = {s: [i for i in items if counts[i] >= support] for s, items in lists.items()}
        kept = {s: items for s, items in kept.items() if len(items) >= length}
        if kept == lists:
            break
        lists = kept
    sessions, items = zip(*names, strict=True)
    log = log_of(sessions, items, [when for *_, when in rows] if timed else None)
    if not lists:
        with pytest.raises(ValueError, match="no session is left"):
            build_sessions(log, min_item_support=support, min_session_length=length)
        return
    built, vocabulary, report = build_sessions(
        log, min_item_support=support, min_session_length=length
    )
    assert dict(zip(built.session_ids.tolist(), as_lists(built, vocabulary), strict=True)) == lists
    assert built.session_ids.tolist() == list(lists)
    assert vocabulary.ids.tolist() == sorted({i for one in lists.values() for i in one})
    dropped = report.rare_events + report.short_session_events
    assert report.events + dropped == report.events_read == len(rows)


def test_a_million_events_take_less_than_a_moment() -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    log = InteractionLog(
        rng.permutation(np.repeat(np.arange(n // 8), 8)),
        rng.zipf(1.3, n).clip(max=50_000),
        rng.uniform(0, 1e6, n),
    )
    begin = time.perf_counter()
    sessions, _, _ = build_sessions(log, min_item_support=5, min_session_length=2)
    # about .7 s alone on one core of a server; the bound is for a loop in Python, not for noise
    assert time.perf_counter() - begin < 10
    assert (sessions.lengths >= 2).all()


class TestItemVocabulary:
    def test_integers(self) -> None:
        vocabulary = ItemVocabulary(np.array([30, 10, 20], np.int32))
        assert len(vocabulary) == 3
        assert vocabulary.ids.dtype == np.int64
        index = vocabulary.index_of(np.array([10, 30, 5, 99, 20]))
        assert index.dtype == np.int64
        assert index.tolist() == [1, 0, -1, -1, 2]

    def test_integers_and_their_strings_are_the_same(self) -> None:
        numbers, texts = ItemVocabulary([30, -10, 20]), ItemVocabulary(["30", "-10", "x"])
        asked = ["-10", "x", "030", "30", "9" * 30, "9" * 19, "--1", "²", "-0"]
        assert numbers.index_of(asked).tolist() == [1, -1, -1, 0, *[-1] * 5]
        assert texts.index_of(asked).tolist() == [1, 2, -1, 0, *[-1] * 5]
        assert texts.index_of([30, 20]).tolist() == [0, -1]

    def test_empty(self) -> None:
        for vocabulary in (ItemVocabulary([]), ItemVocabulary(np.array([], np.str_))):
            assert vocabulary.index_of([3]).tolist() == [-1]
            assert vocabulary.index_of([]).tolist() == []

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="id 7 occurs more than once"):
            ItemVocabulary([7, 1, 7])
        with pytest.raises(TypeError, match="dtype float64"):
            ItemVocabulary([0.5])
        with pytest.raises(TypeError, match=r"index_of: item_ids has dtype float64"):
            ItemVocabulary([1]).index_of([0.5])

    @given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True))
    def test_round_trip(self, ids) -> None:
        numbers = np.array(ids, dtype=np.int64)
        for vocabulary in (ItemVocabulary(numbers), ItemVocabulary(numbers.astype(np.str_))):
            for asked in (numbers, numbers.astype(np.str_)):
                np.testing.assert_array_equal(vocabulary.index_of(asked), np.arange(len(ids)))


class TestSessions:
    def sessions(self) -> Sessions:
        items = np.array([4, 5, 6, 7, 8, 9])
        times = np.array([20.0, 21, 22, 10, 11, 20])
        return Sessions(items, np.array([0, 3, 3, 5, 6]), times, np.array(list("abcd")))

    def test_basics(self) -> None:
        sessions = self.sessions()
        assert len(sessions) == 4
        assert sessions.n_events == 6
        assert sessions.lengths.tolist() == [3, 0, 2, 1]
        assert sessions[0].tolist() == [4, 5, 6]
        assert sessions[-1].tolist() == [9]
        assert sessions[1].tolist() == []
        with pytest.raises(IndexError, match="no session 4; there are 4"):
            sessions[4]
        assert Sessions.from_lists([[1], [], [2, 3]]).session_ids.tolist() == [0, 1, 2]
        assert len(Sessions.from_lists([])) == 0

    def test_select(self) -> None:
        sessions = self.sessions()
        for wanted in ([2, 0], np.array([2, 0])):
            chosen = sessions.select(wanted)
            assert chosen.items.tolist() == [7, 8, 4, 5, 6]
            assert chosen.offsets.tolist() == [0, 2, 5]
            assert chosen.times is not None
            assert chosen.times.tolist() == [10, 11, 20, 21, 22]
            assert chosen.session_ids.tolist() == ["c", "a"]
        assert sessions.select(sessions.lengths > 1).session_ids.tolist() == ["a", "c"]
        assert len(sessions.select([])) == 0
        with pytest.raises(ValueError, match=r"mask has shape \(2,\); expected \(4,\)"):
            sessions.select(np.array([True, False]))

    def test_sorted_by_start_is_stable(self) -> None:
        assert self.sessions().sorted_by_start().session_ids.tolist() == ["c", "a", "d", "b"]
        untimed = Sessions.from_lists([[2], [1]])
        assert untimed.sorted_by_start() is untimed

    def test_trimmed_and_split_last(self) -> None:
        sessions = self.sessions()
        assert sessions.trimmed(last=2).lengths.tolist() == [1, 0, 0, 0]
        assert sessions.trimmed(last=[0, 0, 1, 9]).items.tolist() == [4, 5, 6, 7]
        history, target = sessions.select(sessions.lengths > 0).split_last()
        assert history.items.tolist() == [4, 5, 7]
        assert history.lengths.tolist() == [2, 1, 0]
        assert target.tolist() == [6, 8, 9]
        with pytest.raises(ValueError, match="session 1 is empty"):
            sessions.split_last()

    def test_checks(self) -> None:
        with pytest.raises(ValueError, match="offsets decrease at position 2"):
            Sessions(np.arange(2), np.array([0, 2, 1, 2]))
        with pytest.raises(ValueError, match="start at 0"):
            Sessions(np.arange(2), np.array([1, 2]))
        with pytest.raises(ValueError, match="start at 0"):
            Sessions(np.arange(2), np.array([], np.int64))
        with pytest.raises(ValueError, match=r"items has shape \(3,\); expected \(2,\)"):
            Sessions(np.arange(3), np.array([0, 2]))
        with pytest.raises(ValueError, match="times has shape"):
            Sessions(np.arange(2), np.array([0, 2]), np.zeros(3))
        for wrong in ([1.7, 2.2], [True, False], ["1", "2"]):
            with pytest.raises(TypeError, match=r"Sessions: items is .*; expected integers"):
                Sessions(wrong, np.array([0, 2]))
        with pytest.raises(TypeError, match=r"Sessions: offsets is float64; expected integers"):
            Sessions(np.arange(2), [0, 1.5, 2])
        with pytest.raises(TypeError, match=r"from_lists: sessions is float64; expected integers"):
            Sessions.from_lists([[1, 2.5]])
        two = Sessions.from_lists([[1, 2], [3]])
        with pytest.raises(TypeError, match=r"select: sessions is float64; expected integers"):
            two.select([0.5])
        with pytest.raises(TypeError, match=r"trimmed: last is float64; expected integers"):
            two.trimmed(0.5)
        assert len(Sessions([], [0])) == len(two.select([])) == 0
        assert Sessions(np.arange(2, dtype=np.uint8), [0, 2]).items.dtype == np.int64
        with pytest.raises(TypeError, match=r"ClickSamples: targets is float64; expected integers"):
            ClickSamples(two, [0], [1], [1.5], [0])
        with pytest.raises(ValueError, match="2 session_ids; expected 1"):
            Sessions(np.arange(2), np.array([0, 2]), None, np.arange(2))
