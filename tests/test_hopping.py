from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from seqrec_fast.data import HoppingSimulation, simulate_hopping


@pytest.fixture(scope="module")
def hopping() -> HoppingSimulation:
    return simulate_hopping(60, 128, 4, n_categories=4, length=(100, 900), seed=5)


def users_of_visits(simulation: HoppingSimulation) -> np.ndarray:
    return np.searchsorted(simulation.sessions.offsets, simulation.visits[:-1], side="right") - 1


def test_sizes(hopping) -> None:
    lengths = hopping.sessions.lengths
    assert len(lengths) == 60
    assert 100 <= lengths.min() < 150
    assert 700 < lengths.max() <= 900
    assert hopping.themes.shape == hopping.sessions.items.shape
    assert np.bincount(hopping.item_themes).tolist() == [32] * 4
    assert np.bincount(hopping.item_themes * 4 + hopping.item_categories).tolist() == [8] * 16


def test_visits_partition_the_histories(hopping) -> None:
    assert set(hopping.sessions.offsets) <= set(hopping.visits)
    assert hopping.visits[0] == 0
    assert (np.diff(hopping.visits) > 0).all()
    assert 3.5 < np.diff(hopping.visits).mean() < 4.5


def test_a_visit_has_one_theme_and_the_next_another(hopping) -> None:
    of_visit = hopping.themes[hopping.visits[:-1]]
    assert (hopping.themes == np.repeat(of_visit, np.diff(hopping.visits))).all()
    same_user = np.diff(users_of_visits(hopping)) == 0
    assert (np.diff(of_visit)[same_user] != 0).all()
    for begin, end in pairwise(hopping.sessions.offsets):
        assert len(set(hopping.themes[begin:end])) == 4


def test_without_hopping_a_user_has_one_theme() -> None:
    simulation = simulate_hopping(40, 64, 4, n_categories=4, hopping=False, length=(50, 80))
    begin = simulation.sessions.offsets[:-1]
    assert (simulation.themes == np.repeat(simulation.themes[begin], np.diff(
        simulation.sessions.offsets))).all()  # fmt: skip
    assert len(set(simulation.themes)) == 4


def test_times_tell_visits_apart(hopping) -> None:
    step = np.diff(hopping.sessions.times)
    at_visit = np.isin(np.arange(1, hopping.sessions.n_events), hopping.visits)
    at_user = np.isin(np.arange(1, hopping.sessions.n_events), hopping.sessions.offsets)
    assert (step[~at_visit] <= 900.001).all()
    assert (step[~at_visit] >= 0).all()
    assert (step[at_visit & ~at_user] > 3600).all()


def test_the_path_goes_on_where_the_last_visit_to_the_theme_ended() -> None:
    simulation = simulate_hopping(
        30, 96, 4, n_categories=6, n_paths=3, order=1.0, noise=0.0, length=(60, 200), seed=2
    )
    for user, (begin, end) in enumerate(pairwise(simulation.sessions.offsets)):
        items = simulation.sessions.items[begin:end]
        assert (simulation.item_themes[items] == simulation.themes[begin:end]).all()
        for theme in range(4):
            visited = items[simulation.themes[begin:end] == theme]
            categories = simulation.item_categories[visited]
            following = simulation.following[theme, simulation.paths[user, theme]]
            assert (categories[1:] == following[categories[:-1]]).all()


def test_paths_are_circles(hopping) -> None:
    for path in hopping.following.reshape(-1, 4):
        place, seen = 0, []
        for _ in range(4):
            place = path[place]
            seen.append(place)
        assert sorted(seen) == [0, 1, 2, 3]


def test_order_and_noise_are_probabilities() -> None:
    simulation = simulate_hopping(
        100, 64, 4, n_categories=4, n_paths=1, order=0.8, noise=0.2, length=(300, 301), seed=1
    )
    items = simulation.sessions.items
    strays = (simulation.item_themes[items] != simulation.themes).mean()
    assert abs(strays - 0.2 * 3 / 4) < 0.01


def test_seeds() -> None:
    first, second, third = (simulate_hopping(10, 64, 4, n_categories=4, seed=s) for s in (1, 1, 2))
    assert (first.sessions.items == second.sessions.items).all()
    assert (first.sessions.times == second.sessions.times).all()
    assert len(first.themes) != len(third.themes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_users": 0}, "n_users is 0; expected at least 1"),
        ({"n_themes": 1}, "n_themes is 1; expected at least 2"),
        ({"n_items": 10}, "n_items is 10; expected at least 64"),
        ({"length": (5, 4)}, "the longest length is 4; expected at least 5"),
        ({"length": (0, 4)}, "the shortest length is 0; expected at least 1"),
        ({"mean_visit": 0.5}, "mean_visit is 0.5; expected at least 1"),
        ({"order": 1.5}, "order is 1.5; expected between 0 and 1"),
        ({"noise": float("nan")}, "noise is nan; expected between 0 and 1"),
    ],
)
def test_bad_arguments(options, message) -> None:
    with pytest.raises(ValueError, match=f"simulate_hopping: {message}"):
        simulate_hopping(**{"n_themes": 8, **options})
