"""Click-through samples: nothing of the future is in a history, negatives are new to the user."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_fast.data import (
    ClickSamples,
    InteractionLog,
    ItemVocabulary,
    Sessions,
    click_samples,
    read_log,
    sampled_clicks,
    simulate,
    split_leave_one_out,
    write_log,
)

rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)


def log_of(entries, with_times=True) -> InteractionLog:
    users, items, times, labels = (np.array(column) for column in zip(*entries, strict=True))
    return InteractionLog(users, items + 10, times if with_times else None, labels)


def history(samples: ClickSamples, i: int) -> list[int]:
    return samples.histories[samples.users[i]][: samples.seen[i]].tolist()


def small() -> ClickSamples:
    sessions = Sessions([1, 2, 3, 4, 5], [0, 3, 3, 5], [0.0, 1, 2, 0, 1])
    return ClickSamples(
        sessions, [0, 0, 2, 1], [3, 1, 2, 0], [7, 8, 9, 6], [1, 0, 1, 0], [3.0, 0.5, 2, 3]
    )


@given(rows, st.booleans())
@settings(max_examples=60)
def test_histories_are_the_clicks_before(entries, with_times) -> None:
    samples, vocabulary, report = click_samples(log_of(entries, with_times))
    assert len(samples) == len(entries)
    assert report.events == len(entries)
    names = vocabulary.ids
    users = samples.histories.session_ids
    expected = []
    for place, (user, item, time, label) in enumerate(entries):
        before = [
            (t, other, i + 10)
            for other, (u, i, t, y) in enumerate(entries)
            if u == user and y and (t < time if with_times else other < place)
        ]
        items = [item for *_, item in (sorted(before) if with_times else before)]
        expected.append((user, item + 10, label, items))
    found = [
        (
            users[u],
            names[samples.targets[i]],
            samples.labels[i],
            names[history(samples, i)].tolist(),
        )
        for i, u in enumerate(samples.users)
    ]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_clicks_of_the_same_page_are_not_known_yet() -> None:
    log = InteractionLog([1] * 5, [5, 6, 7, 8, 5], [0, 0, 0, 1, 2], [1, 1, 0, 0, 0])
    samples, _, _ = click_samples(log)
    assert samples.seen.tolist() == [0, 0, 0, 2, 2]


def test_a_log_of_before_is_in_the_histories_and_is_no_sample() -> None:
    past = InteractionLog(["a", "b", "a"], [1, 2, 3], [0, 0, 5])
    log = InteractionLog(["a", "c"], [2, 2], [3, 3], [1, 0])
    samples, vocabulary, report = click_samples(log, history=past)
    assert vocabulary.ids.tolist() == [1, 2, 3]
    assert report.events_read == 5
    assert [history(samples, i) for i in range(len(samples))] == [[0], []]
    assert samples.histories.session_ids[samples.users].tolist() == ["a", "c"]
    # without times all of it comes before; rows that were not clicked have no part
    past = InteractionLog([1, 1], ["3", "1"], labels=[1, 0])
    samples, vocabulary, _ = click_samples(
        InteractionLog([1], [3], [2.0], [1]), history=past, vocabulary=ItemVocabulary([1, 3])
    )
    assert [history(samples, i) for i in range(1)] == [[1]]


def test_rare_and_unknown_items_are_dropped_and_counted() -> None:
    log = InteractionLog([1, 1, 1, 2], [5, 6, 5, 5], [0, 1, 2, 3], [1, 1, 0, 1])
    samples, vocabulary, report = click_samples(log, min_item_support=2)
    assert vocabulary.ids.tolist() == [5]
    assert (report.rare_events, report.events, len(samples)) == (1, 3, 3)
    samples, _, report = click_samples(log, vocabulary=ItemVocabulary([6, 9]))
    assert (report.unknown_events, report.unknown_examples, len(samples)) == (3, (5,), 1)
    with pytest.raises(ValueError, match="no sample is left: 0 of 4 events"):
        click_samples(log, vocabulary=ItemVocabulary([9]))
    with pytest.raises(ValueError, match="exclude each other"):
        click_samples(log, vocabulary=vocabulary, min_item_support=2)
    with pytest.raises(ValueError, match="min_item_support is 0"):
        click_samples(log, min_item_support=0)
    with pytest.raises(ValueError, match="log has no labels"):
        click_samples(InteractionLog([1], [1]))


@pytest.mark.parametrize("targets", ["all", "last"])
@pytest.mark.parametrize("popularity", [None, "counts"])
def test_sampled_negatives(targets, popularity) -> None:
    sessions = simulate(60, 30, 5, n_categories=6, mean_length=8.0).sessions
    counts = np.bincount(sessions.items, minlength=30)
    options = {"targets": targets, "n_negatives": 3}
    options["popularity"] = None if popularity is None else counts
    samples = sampled_clicks(sessions, 30, **options, seed=4)
    n = len(sessions) if targets == "last" else sessions.n_events - len(sessions)
    assert len(samples) == 4 * n
    assert samples.labels.reshape(-1, 4).tolist() == [[1, 0, 0, 0]] * n
    for i in range(len(samples)):
        session = sessions[samples.users[i]].tolist()
        if samples.labels[i]:
            assert samples.targets[i] == session[samples.seen[i]]
        else:
            assert samples.targets[i] not in session
            assert samples.seen[i] == samples.seen[i - i % 4]
        if targets == "last":
            assert samples.seen[i] == len(session) - 1
    again = sampled_clicks(sessions, 30, **options, seed=4)
    assert np.array_equal(samples.targets, again.targets)
    other = sampled_clicks(sessions, 30, **options, seed=5)
    assert not np.array_equal(samples.targets, other.targets)


def test_negatives_follow_the_popularity() -> None:
    sessions = Sessions.from_lists([[0, 1]])
    weight = np.array([5.0, 5.0, 0.0, 1.0, 3.0, 0.0])
    samples = sampled_clicks(sessions, 6, n_negatives=20_000, popularity=weight)
    counts = np.bincount(samples.targets[samples.labels == 0], minlength=6)
    assert counts[[0, 1, 2, 5]].tolist() == [0, 0, 0, 0]
    assert counts[4] / counts[3] == pytest.approx(3, rel=0.1)


def test_a_user_who_knows_nearly_all_items() -> None:
    sessions = Sessions.from_lists([list(range(400))])
    samples = sampled_clicks(sessions, 401, n_negatives=1)
    assert set(samples.targets[samples.labels == 0].tolist()) == {400}
    with pytest.raises(ValueError, match="session 0 has all items that can be drawn"):
        sampled_clicks(sessions, 400)
    with pytest.raises(ValueError, match="session 0 has all items"):
        sampled_clicks(sessions, 401, popularity=np.zeros(401))


def test_leave_one_out_parts_share_nothing_of_the_future() -> None:
    train, valid, test = split_leave_one_out(Sessions.from_lists([[1, 2, 3, 4]]))
    histories = []
    for part, targets in ((train, "all"), (valid, "last"), (test, "last")):
        samples = sampled_clicks(part, 9, targets=targets)
        histories.append((history(samples, 0), int(samples.targets[0])))
    assert histories == [([1], 2), ([1, 2], 3), ([1, 2, 3], 4)]


def test_batches_keep_the_newest_events() -> None:
    samples = small()
    first, second = samples.batches(3, max_length=2)
    assert first.items.tolist() == [2, 3, 1, 4, 5]
    assert first.offsets.tolist() == [0, 2, 3, 5]
    assert first.times.tolist() == [1, 2, 0, 0, 1]
    assert first.targets.tolist() == [7, 8, 9]
    assert first.labels.tolist() == [1, 0, 1]
    assert (second.items.tolist(), second.offsets.tolist()) == ([], [0, 0])
    (whole,) = samples.batches(9)
    assert whole.items.tolist() == [1, 2, 3, 1, 4, 5]
    with pytest.raises(ValueError, match="batch_size is 0"):
        next(samples.batches(0))
    with pytest.raises(ValueError, match="max_length is 0"):
        next(samples.batches(1, 0))


def test_batches_in_random_order_hold_every_sample_once(rng) -> None:
    samples = sampled_clicks(simulate(30, 40, 5, n_categories=6).sessions, 40)
    targets = [batch.targets for batch in samples.batches(7, rng=rng)]
    assert sorted(np.concatenate(targets)) == sorted(samples.targets)
    assert not np.array_equal(np.concatenate(targets), samples.targets)


def test_hold_out_latest() -> None:
    samples = small()
    earlier, latest = samples.hold_out_latest(0.25)  # two samples of time 3 stay together
    assert (earlier.times.tolist(), latest.times.tolist()) == ([0.5, 2], [3, 3])
    untimed = ClickSamples(samples.histories, [0, 0, 1, 2], [0] * 4, [0] * 4, [0, 1, 0, 1])
    earlier, latest = untimed.hold_out_latest(0.5)
    assert (earlier.users.tolist(), latest.users.tolist()) == ([0, 0], [1, 2])
    with pytest.raises(ValueError, match="share is 1; expected between 0 and 1"):
        samples.hold_out_latest(1)
    with pytest.raises(ValueError, match="leaves none before it"):
        samples.select([0]).hold_out_latest(0.5)
    with pytest.raises(ValueError, match="leaves none before it"):
        samples.select([]).hold_out_latest(0.5)


def test_select_and_text() -> None:
    samples = small()
    assert samples.select([2, 0]).targets.tolist() == [9, 7]
    assert samples.select(samples.labels == 1).users.tolist() == [0, 2]
    assert str(samples) == (
        "4 samples (2 positive) of 3 users, histories of 1.5 events on the average"
    )
    with pytest.raises(ValueError, match=r"mask has shape \(1,\); expected \(4,\)"):
        samples.select(np.array([True]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": [0]}, r"seen has shape \(4,\), users \(1,\)"),
        ({"users": [0, 0, 3, 1]}, "users from 0 to 3; expected 0 to 2"),
        ({"users": [0, 0, -1, 1]}, "users from -1"),
        ({"seen": [4, 1, 2, 0]}, "seen is 4 at position 0; expected 0 to 3"),
        ({"seen": [3, 1, 2, -1]}, "seen is -1 at position 3; expected 0 to 0"),
        ({"labels": [0, 1, 2, 0]}, "labels holds another value than 0 and 1"),
        ({"times": [0, 1, np.nan, 0]}, "times holds NaN"),
        ({"targets": [[1, 2, 3, 4]]}, r"targets has shape \(1, 4\)"),
    ],
)
def test_bad_samples(change, message) -> None:
    fields = {name: getattr(small(), name) for name in ("users", "seen", "targets", "labels")}
    with pytest.raises(ValueError, match=message):
        ClickSamples(small().histories, **{**fields, **change})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "first"}, "targets is 'first'"),
        ({"n_negatives": 0}, "n_negatives is 0"),
        ({"n_items": 2}, "items from 0 to 2; expected 0 to 1"),
        ({"popularity": [1.0]}, r"popularity has shape \(1,\)"),
        ({"popularity": [1.0, 1, 1, -1]}, "none negative"),
        ({"popularity": [1.0, 1, 1, np.nan]}, "finite"),
    ],
)
def test_bad_arguments_of_sampled_clicks(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        sampled_clicks(Sessions.from_lists([[0, 1, 2]]), **{"n_items": 4, **options})


def test_sessions_of_one_event_make_no_sample() -> None:
    with pytest.raises(ValueError, match="none of 2 sessions has two events"):
        sampled_clicks(Sessions.from_lists([[0], []]), 4)


@pytest.mark.parametrize("values", [("1", "0"), ("true", "false"), ("1.0", "0.0")])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_are_read(tmp_path, values, kind) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / f"log.{kind}"
    if kind == "csv":
        path.write_text(f"UserId,Click,ItemId\n1,{values[0]},5\n2,{values[1]},6\n")
    else:
        import pyarrow.parquet

        labels = [value in ("1", "true", "1.0") for value in values]
        labels = pa.array(labels) if values[0] == "true" else pa.array([float(y) for y in labels])
        table = pa.table({"UserId": [1, 2], "Click": labels, "ItemId": [5, 6]})
        pyarrow.parquet.write_table(table, path)
    log = read_log(path, label_column="Click")
    assert log.labels.tolist() == [1, 0]
    assert log.item_ids.tolist() == [5, 6]
    assert read_log(path).labels is None
    write_log(log, tmp_path / "again.tsv")
    assert read_log(tmp_path / "again.tsv", label_column="Label").labels.tolist() == [1, 0]


@pytest.mark.parametrize("bad", ["2", "maybe", "", "nan"])
def test_bad_labels_are_named_with_their_row(tmp_path, bad) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "log.csv"
    path.write_text(f"UserId,ItemId,Click\n1,5,1\n2,6,{bad}\n")
    with pytest.raises(ValueError, match=rf"row 2: column 'Click' holds '{bad}'; expected 0 or 1"):
        read_log(path, label_column="Click")
    with pytest.raises(ValueError, match="no column 'Label'"):
        read_log(path, label_column="Label")
    with pytest.raises(ValueError, match="labels holds another value"):
        InteractionLog([1], [1], None, [2])
