from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from seqrec_fast import baselines
from seqrec_fast.data import (
    ItemVocabulary,
    Sessions,
    Simulation,
    build_sessions,
    read_log,
    simulate,
    split_by_time,
)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(n_sessions=2500, n_items=400, n_categories=20, seed=3)


def hour(time: float) -> int:
    return int(time // 3600) % 24


def by_enumeration(simulation: Simulation, items: list[int], times: list[float]) -> np.ndarray:
    """Distribution of the next item, summed over all histories of the hidden state."""
    model = simulation.model
    n_profiles, places = model.profiles.shape
    demand = [model.demand[hour(time)] for time in times]
    profile_weight = np.array([demand[0][themes].sum() for themes in model.profiles])
    profile_weight /= profile_weight.sum()
    result = np.zeros(model.n_items)
    for profile, path in itertools.product(
        range(n_profiles), itertools.product(range(places), repeat=len(items) + 1)
    ):
        themes = model.profiles[profile]
        weight = profile_weight[profile]
        for i, place in enumerate(path):
            wanted = demand[max(i - 1, 0)][themes]
            anew = wanted[place] / wanted.sum()
            stays = path[i - 1] == place if i else False
            weight *= model.persistence * stays + (1 - model.persistence) * anew if i else anew
            row = model.first[themes[place]]
            if i:
                row = model.following[themes[place], model.category[items[i - 1]]]
            if i < len(items):
                weight *= row[model.category[items[i]]] * model.popularity[items[i]]
            else:
                result += weight * row[model.category] * model.popularity
    return result / result.sum()


def test_the_filter_is_exact() -> None:
    simulation = simulate(
        40,
        30,
        4,
        n_categories=7,
        n_profiles=3,
        themes_per_profile=2,
        persistence=0.6,
        order=0.7,
        mean_length=4.0,
        seed=3,
    )
    sessions = simulation.sessions.select(simulation.sessions.lengths <= 6)
    assert sessions.times is not None
    longest_first = np.argsort(-sessions.lengths, kind="stable")
    predictions = list(simulation.model.predictions(sessions))
    assert len(predictions) == sessions.lengths.max() - 1
    for position, (probability, targets) in enumerate(predictions, start=1):
        np.testing.assert_allclose(probability.sum(axis=1), 1)
        assert len(targets) == np.count_nonzero(sessions.lengths > position)
        for row, session in enumerate(longest_first[: len(targets)]):
            begin = sessions.offsets[session]
            items = sessions.items[begin : begin + position].tolist()
            times = sessions.times[begin : begin + position].tolist()
            assert targets[row] == sessions.items[begin + position]
            np.testing.assert_allclose(
                probability[row], by_enumeration(simulation, items, times), rtol=1e-9
            )


def test_expected_and_realised_recall_agree(simulation: Simulation) -> None:
    sessions = simulation.sessions
    n = sessions.n_events - len(sessions)
    for k in (1, 20):
        expected = simulation.reachable_recall(sessions, k)
        spread = np.sqrt(expected * (1 - expected) / n)
        assert abs(simulation.reachable_hits(sessions, k) - expected) < 4 * spread
    assert simulation.reachable_recall(sessions, 400) == pytest.approx(1)
    assert simulation.reachable_hits(sessions, 400) == 1


def test_the_ceiling_is_above_the_baselines(simulation: Simulation) -> None:
    train, test = split_by_time(simulation.sessions, fraction=0.2)
    ceiling = simulation.reachable_hits(test)
    knn = baselines.evaluate(baselines.ItemKNN(train, 400), test)["recall@20"]
    popularity = baselines.evaluate(baselines.Popularity(train, 400), test)["recall@20"]
    assert popularity + 0.1 < knn < ceiling - 0.1


def test_order_and_hour_matter(simulation: Simulation) -> None:
    sessions, rng = simulation.sessions, np.random.default_rng(0)
    assert sessions.times is not None
    kept = simulation.reachable_hits(sessions, 5)
    half_a_day_off = Sessions(sessions.items, sessions.offsets, sessions.times + 43_200)
    assert simulation.reachable_hits(half_a_day_off, 5) < kept - 0.005
    shuffled = sessions.items.copy()
    for begin, end in itertools.pairwise(sessions.offsets):
        rng.shuffle(shuffled[begin : end - 1])
    mixed = Sessions(shuffled, sessions.offsets, sessions.times)
    assert simulation.reachable_hits(mixed, 5) < kept - 0.05


def test_themes_come_go_and_return(simulation: Simulation) -> None:
    sessions, themes = simulation.sessions, simulation.themes
    assert themes.shape == sessions.items.shape
    by_session = [themes[a:b] for a, b in itertools.pairwise(sessions.offsets) if b - a > 5]
    same = np.concatenate([one[1:] == one[:-1] for one in by_session])
    assert 0.85 < same.mean() < 0.98
    assert max(len(set(one.tolist())) for one in by_session) <= 3
    visits = [[k for k, _ in itertools.groupby(one.tolist())] for one in by_session]
    assert sum(len(set(one)) < len(one) for one in visits) > 50
    # the theme in highest demand at some hour is drawn more often then than at other hours
    assert sessions.times is not None
    starts = sessions.times[sessions.offsets[:-1]]
    hours = (starts // 3600).astype(int) % 24
    first = themes[sessions.offsets[:-1]]
    shares = np.array([np.bincount(first[hours == h], minlength=20) for h in range(24)])
    shares = shares / shares.sum(axis=1, keepdims=True)
    assert (shares.max(axis=0) > 2 * shares.mean(axis=0)).any()


def test_sessions_are_well_formed() -> None:
    simulation = simulate(5000, 300, seed=2)
    sessions = simulation.sessions
    assert len(sessions) == 5000
    assert sessions.lengths.min() == 2
    assert sessions.lengths.mean() == pytest.approx(10, rel=0.05)
    assert sessions.items.min() >= 0
    assert sessions.items.max() < 300
    assert sessions.times is not None
    assert all(
        (np.diff(sessions.times[a:b]) >= 0).all() for a, b in itertools.pairwise(sessions.offsets)
    )
    starts = sessions.times[sessions.offsets[:-1]]
    assert (np.diff(starts) >= 0).all()


def test_the_seed_fixes_everything() -> None:
    one, same, other = (simulate(200, 100, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.sessions.items, same.sessions.items)
    np.testing.assert_array_equal(one.sessions.times, same.sessions.times)
    np.testing.assert_array_equal(one.themes, same.themes)
    assert one.reachable_recall(one.sessions) == same.reachable_recall(same.sessions)
    assert one.sessions.items.tolist() != other.sessions.items.tolist()


def test_through_a_file_and_another_vocabulary(simulation: Simulation, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    simulation.write_tsv(tmp_path / "simulated.tsv")
    sessions, vocabulary, report = build_sessions(read_log(tmp_path / "simulated.tsv"))
    np.testing.assert_array_equal(vocabulary.ids[sessions.items], simulation.sessions.items)
    np.testing.assert_array_equal(sessions.times, simulation.sessions.times)
    assert report.events == simulation.sessions.n_events
    turned = ItemVocabulary(np.arange(400)[::-1])
    sessions, _, _ = build_sessions(simulation.to_log(), vocabulary=turned)
    for method in (simulation.reachable_recall, simulation.reachable_hits):
        assert method(sessions, 10, vocabulary=turned) == pytest.approx(
            method(simulation.sessions, 10)
        )


def test_part_of_the_sessions_in_any_order(simulation: Simulation) -> None:
    some = simulation.sessions.select([9, 3, 700])
    one_by_one = [
        (simulation.reachable_recall(some.select([i])), some.lengths[i] - 1) for i in range(3)
    ]
    values, weights = zip(*one_by_one, strict=True)
    assert simulation.reachable_recall(some) == pytest.approx(np.average(values, weights=weights))


@pytest.mark.parametrize(
    "options",
    [
        {"themes_per_profile": 1},
        {"n_themes": 1, "themes_per_profile": 1},
        {"n_categories": 1},
        {"n_categories": 3},
        {"persistence": 0.0, "order": 0.0},
        {"persistence": 1.0, "order": 1.0},
        {"mean_length": 2.0},
        {"n_sessions": 1},
        {"zipf_exponent": 0.0},
    ],
)
def test_extremes(options: dict) -> None:
    simulation = simulate(**{"n_sessions": 60, "n_items": 50, **options}, seed=1)
    for k in (1, 50):
        assert 0 < simulation.reachable_recall(simulation.sessions, k) <= 1 + 1e-12
    assert simulation.reachable_hits(simulation.sessions, 50) == 1


def test_errors(simulation: Simulation) -> None:
    for options, message in (
        ({"n_sessions": 0}, "n_sessions is 0; expected at least 1"),
        ({"n_items": 10}, "n_items is 10; expected at least 40"),
        ({"n_themes": 2}, "n_themes is 2; expected at least 3"),
        ({"mean_length": 1.5}, "mean_length is 1.5; expected at least 2"),
        ({"persistence": 1.5}, "persistence is 1.5; expected between 0 and 1"),
        ({"order": float("nan")}, "order is nan"),
    ):
        with pytest.raises(ValueError, match=f"simulate: {message}"):
            simulate(**options)
    times = np.zeros(2)
    with pytest.raises(ValueError, match="no times"):
        simulation.reachable_recall(Sessions.from_lists([[1, 2]]))
    for k in (0, 401):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 to 400"):
            simulation.reachable_recall(simulation.sessions, k)
    with pytest.raises(ValueError, match="items from 1 to 400; expected 0 to 399"):
        simulation.reachable_recall(Sessions(np.array([1, 400]), np.array([0, 2]), times))
    with pytest.raises(ValueError, match="no session has two events"):
        simulation.reachable_hits(Sessions(np.array([1, 2]), np.array([0, 1, 2]), times))
    with pytest.raises(ValueError, match="expected integer ids"):
        simulation.reachable_hits(
            simulation.sessions, vocabulary=ItemVocabulary(np.arange(400).astype(str))
        )
    strict = simulate(20, 50, persistence=1.0, order=1.0, themes_per_profile=1, n_categories=10)
    reversed_items = strict.sessions.items[::-1]
    with pytest.raises(ValueError, match="a sequence that it cannot produce"):
        strict.reachable_recall(
            Sessions(reversed_items, strict.sessions.offsets, strict.sessions.times)
        )
