from __future__ import annotations

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import seqrec_fast as sf
import seqrec_fast.io
from seqrec_fast.data import ClickSamples, ItemVocabulary, Sessions, simulate_hopping
from seqrec_fast.evaluation import evaluate_click_through
from seqrec_fast.io import load_model
from seqrec_fast.models import ThemeMixture
from seqrec_fast.theme_serving import ThemeRecommender

N_ITEMS = 64
IDS = np.arange(N_ITEMS) * 10 + 7


@pytest.fixture(scope="module")
def histories() -> Sessions:
    return simulate_hopping(9, N_ITEMS, 4, n_categories=4, length=(1, 60), seed=4).sessions


def made(**options) -> ThemeMixture:
    return ThemeMixture(N_ITEMS, **{"hidden_size": 12, "n_themes": 5, "seed": 3, **options}).eval()


def served(model: ThemeMixture, folder, **options) -> ThemeRecommender:
    model.export(folder / "model.safetensors", ItemVocabulary(IDS))
    return sf.load(folder / "model.safetensors", **options)


def as_lists(histories: Sessions) -> tuple[list, list]:
    cut = histories.offsets[1:-1]
    return np.split(IDS[histories.items], cut), np.split(histories.times, cut)


def expected_scores(model: ThemeMixture, histories: Sessions, with_times: bool) -> np.ndarray:
    times = torch.from_numpy(histories.times) if with_times else None
    inputs = model.input_table[torch.from_numpy(histories.items)]
    with torch.no_grad():
        hidden, _ = model.run(inputs, torch.from_numpy(histories.offsets), times=times)
        return model.scores(hidden[torch.from_numpy(histories.offsets[1:] - 1)]).numpy()


@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("options", [{}, {"k": 2}, {"n_themes": 0}, {"n_themes": 1}])
def test_scores_equal_the_module(histories, tmp_path, options, with_times) -> None:
    model = made(session_window=4, **options)
    recommender = served(model, tmp_path)
    items, times = as_lists(histories)
    found, scores = recommender.recommend(items, N_ITEMS, times=times if with_times else None)
    expected = expected_scores(model, histories, with_times)
    of_found = np.take_along_axis(expected, recommender.vocabulary.index_of(
        found.ravel()).reshape(found.shape), 1)  # fmt: skip
    np.testing.assert_allclose(scores, of_found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("options", [{}, {"k": 3}, {"n_themes": 0}])
def test_outputs_are_those_after_each_event(histories, tmp_path, options, with_times) -> None:
    model = made(session_window=4, **options)
    times = histories.times if with_times else None
    with torch.no_grad():
        expected, _ = model.run(
            model.input_table[torch.from_numpy(histories.items)],
            torch.from_numpy(histories.offsets),
            times=torch.from_numpy(times) if with_times else None,
        )
    found = served(model, tmp_path).outputs(histories.items, histories.offsets, times)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_step_by_step_equals_the_whole(histories, tmp_path, k, with_times, target) -> None:
    recommender = served(made(k=k, session_window=3), tmp_path)
    items, times = as_lists(histories)
    store = recommender.users()
    for place in range(60):
        now = [user for user in range(9) if len(items[user]) > place]
        if now:
            store.push(
                now, [items[u][place] for u in now],
                [times[u][place] for u in now] if with_times else None,
            )  # fmt: skip
    whole = recommender.recommend(items, 10, times=times if with_times else None)
    steps = store.recommend(range(9), 10)
    assert (whole[0] == steps[0]).all()
    assert (whole[1] == steps[1]).all()


def test_several_events_of_a_user_in_one_push(histories, tmp_path) -> None:
    recommender = served(made(), tmp_path)
    items, times = as_lists(histories)
    store = recommender.users()
    keys = np.repeat(np.arange(9), histories.lengths)
    order = np.argsort(histories.times, kind="stable")
    store.push(keys[order].tolist(), IDS[histories.items[order]], histories.times[order])
    whole = recommender.recommend(items, 5, exclude_seen=True, times=times)
    steps = store.recommend(range(9), 5, exclude_seen=True)
    assert (whole[0] == steps[0]).all()
    assert (whole[1] == steps[1]).all()
    assert not np.isin(whole[0][0], items[0]).any()


def test_a_users_answer_does_not_depend_on_the_others(histories, tmp_path) -> None:
    recommender = served(made(), tmp_path)
    items, times = as_lists(histories)
    together = recommender.recommend(items, 8, times=times)
    for user in range(9):
        alone = recommender.recommend([items[user]], 8, times=[times[user]])
        assert (alone[1][0] == together[1][user]).all()


def test_explain(histories, tmp_path) -> None:
    model = made()
    recommender = served(model, tmp_path)
    items, times = as_lists(histories)
    of_events = model.themes(
        torch.from_numpy(histories.items), torch.from_numpy(histories.offsets),
        torch.from_numpy(histories.times),
    )[1][:, 0].numpy()  # fmt: skip
    store = recommender.users()
    for user, explained in enumerate(recommender.explain(items, times=times)):
        own = of_events[histories.offsets[user] : histories.offsets[user + 1]]
        assert sorted(theme.theme for theme in explained) == list(range(5))
        assert np.isclose(sum(theme.weight for theme in explained), 1)
        assert explained[0].theme == own[-1]
        for theme in explained:
            behind = items[user][own == theme.theme]
            assert theme.items.tolist() == list(dict.fromkeys(behind[::-1].tolist()))
            assert np.isclose(theme.share, len(behind) / len(own))
        store.push([str(user)] * len(own), items[user], times[user])
        for one, other in zip(store.explain(str(user)), explained, strict=True):
            assert (one.theme, one.weight, one.share) == (other.theme, other.weight, other.share)
            assert one.items.tolist() == other.items.tolist()


def test_click_probabilities_equal_the_module(histories, tmp_path) -> None:
    model = made(task="click-through", k=2)
    recommender = served(model, tmp_path)
    items, times = as_lists(histories)
    targets = np.arange(9) * 5
    with torch.no_grad():
        logits = model(
            torch.from_numpy(histories.items), torch.from_numpy(histories.offsets),
            torch.from_numpy(targets), torch.from_numpy(histories.times),
        )  # fmt: skip
    found = recommender.predict(items, IDS[targets], times=times)
    np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), rtol=1e-5, atol=1e-6)
    candidates = np.stack([IDS[targets], np.full(9, -3)], axis=1)
    several = recommender.predict(items, candidates, times=times)
    np.testing.assert_allclose(several[:, 0], found, rtol=1e-5)
    assert np.isnan(several[:, 1]).all()


def test_empty_and_unknown(tmp_path) -> None:
    model = made(task="click-through")
    recommender = served(model, tmp_path)
    empty = recommender.recommend([[], [-5, 3]], 4)
    assert (empty[1][0] == empty[1][1]).all()
    store = recommender.users()
    store.push(["a"], [-5])
    assert "a" not in store
    assert (store.recommend(["a"], 4)[1] == empty[1][0]).all()
    with torch.no_grad():
        logit = model(torch.zeros(0, dtype=torch.int64), torch.tensor([0, 0]), torch.tensor([3]))
    np.testing.assert_allclose(recommender.predict([[]], [IDS[3]]), torch.sigmoid(logit), rtol=1e-5)
    assert recommender.recommend([], 3)[0].shape == (0, 3)


def test_forgotten_users_start_anew(tmp_path) -> None:
    recommender = served(made(), tmp_path)
    store = recommender.users()
    store.push(["a", "b"], [7, 17])
    before = store.recommend(["a"], 3)
    store.forget(["a", "nobody"])
    assert len(store) == 1
    assert "a" not in store
    store.push(["c", "a"], [27, 7])
    assert (store.recommend(["a"], 3)[1] == before[1]).all()
    with pytest.raises(KeyError, match="no user 'nobody'"):
        store.explain("nobody")


@pytest.mark.parametrize("options", [{}, {"k": 2}, {"n_themes": 0}])
def test_users_are_saved_and_restored(histories, tmp_path, options) -> None:
    recommender = served(made(**options), tmp_path)
    items, times = as_lists(histories)
    keys = [f"ü {b}" if b % 2 else b - 4 for b in range(9)]
    store, again = recommender.users(), recommender.users()
    for b, key in enumerate(keys):
        store.push([key] * len(items[b]), items[b], times[b])
    store.forget(keys[2:3])
    again.push(["another"], [7])
    store.save(tmp_path / "users")
    again.restore(tmp_path / "users")
    assert len(again) == 8
    assert "another" not in again
    for one in (store, again):  # as well after events of users old and new
        one.push(["new", keys[0], keys[2]], [17, 27, 37], [2e9] * 3)
    for side in zip(
        store.recommend([*keys, "new"], 6), again.recommend([*keys, "new"], 6), strict=True
    ):
        np.testing.assert_array_equal(*side)
    for key in [*keys, "new"]:
        for theme, same in zip(store.explain(key), again.explain(key), strict=True):
            assert (theme.theme, theme.weight, theme.share) == (same.theme, same.weight, same.share)
            np.testing.assert_array_equal(theme.items, same.items)


def test_an_empty_store_is_saved_and_restored(tmp_path) -> None:
    recommender = served(made(), tmp_path)
    recommender.users().save(tmp_path / "users")
    store = recommender.users()
    store.push([1], [7])
    store.restore(tmp_path / "users")
    assert len(store) == 0
    store.push([1], [7])
    assert 1 in store


def test_restore_refuses_what_does_not_fit(tmp_path) -> None:
    recommender = served(made(), tmp_path)
    path = tmp_path / "users"
    store = recommender.users()
    store.push([1, "b"], [7, 17], [1.0, 2.0])
    store.save(path)
    other = served(made(seed=4), tmp_path).users()
    with pytest.raises(ValueError, match=r"ThemeStore.restore: .* holds themes of another model"):
        other.restore(path)
    with pytest.raises(FileNotFoundError):
        store.restore(tmp_path / "nothing")
    header, arrays = sf.io.read_arrays(path, "test", "seqrec_fast.themes")
    text = {"seqrec_fast.themes": json.dumps(header)}
    changes = {
        "out of range": {"items": np.array([0, N_ITEMS])},
        "theme is out": {"first_themes": np.array([0, -1])},
        "recent is float32 of shape": {"recent": np.zeros((2, 3), np.float32)},
        "count is float64": {"count": np.zeros(2)},
        "themes is not finite": {"themes": np.full((2, 5, 12), np.inf, np.float32)},
        "offsets decrease": {"item_offsets": np.array([0, 3, 2])},
        "fit together": {"item_offsets": np.array([0, 1, 1, 2])},
        "key_is_text": {"key_is_text": np.zeros(2, np.uint8)},
        "twice": {"key_is_text": np.zeros(2, np.uint8), "key_numbers": np.ones(2, np.int64),
                  "key_texts": np.zeros(0, np.uint8), "key_text_ends": np.zeros(0, np.int64)},
    }  # fmt: skip
    for message, change in changes.items():
        sf.io.write_arrays(tmp_path / "damaged", {**arrays, **change}, text)
        with pytest.raises(ValueError, match=f"is damaged: .*{message}"):
            store.restore(tmp_path / "damaged")
    assert len(store) == 2


def test_threads_share_a_store(histories, tmp_path) -> None:
    recommender = served(made(), tmp_path)
    items, times = as_lists(histories)
    store = recommender.users()

    def run(user: int) -> None:
        for item, time in zip(items[user], times[user], strict=True):
            store.push([user], [item], [time])

    threads = [threading.Thread(target=run, args=(user,)) for user in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = recommender.recommend(items, 6, times=times)
    assert (store.recommend(range(9), 6)[1] == whole[1]).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: r.recommend([[7]], 0), ValueError, "k is 0"),
        (
            lambda r: r.recommend([[7]], 2.5),
            TypeError,
            "recommend: k is 2.5; expected an int",
        ),
        (
            lambda r: r.recommend([[7]], 2, "no"),
            TypeError,
            "recommend: exclude_seen is 'no'; expect",
        ),
        (
            lambda r: r.users().recommend([7], 2, "no"),
            TypeError,
            "ThemeStore.recommend: exclude_seen is 'no'; expected True or False",
        ),
        (lambda r: r.recommend([[7]], times=[[1.0, 2.0]]), ValueError, r"times\[0\] has shape"),
        (lambda r: r.recommend([[7]], times=[[np.nan]]), ValueError, r"\[0\]\[0\] is nan"),
        (
            lambda r: r.recommend([[7, 7], [7]], times=[[1.0], [2.0, 3.0]]),
            ValueError,
            r"recommend: times\[0\] has shape \(1,\); expected \(2,\)",
        ),
        (
            lambda r: r.explain([[7], [7]], times=[[1.0]]),
            ValueError,
            "explain: times has 1 entries; expected 2, an array of seconds for each history",
        ),
        (lambda r: r.recommend([[7]], times=[1.0]), ValueError, r"times\[0\] has shape \(\)"),
        (lambda r: r.recommend([[7]], times=1.0), ValueError, "times has 1.0 entries"),
        (lambda r: r.recommend([[7]], times=[["x"]]), ValueError, "expected numbers of seconds"),
        (
            lambda r: r.recommend([7], offsets=[0, 1], times=[[1.0]]),
            ValueError,
            r"recommend: times has shape \(1, 1\); expected \(1,\)",
        ),
        (
            lambda r: r.recommend([[7], [7, -5, 7]], times=[[9.0], [3.0, 1.0, 2.0]]),
            ValueError,
            "recommend: times decrease from 3 to 2 in the events of history 1",
        ),
        (
            lambda r: r.outputs(np.array([0, 0]), np.array([0, 2]), np.array([2.0, 1.0])),
            ValueError,
            "outputs: times decrease",
        ),
        (lambda r: r.recommend([7]), TypeError, "expected a list of item ids"),
        (lambda r: r.predict([[7]], [7]), ValueError, "task is 'next-item'"),
        (lambda r: r.users().push([1, 2], [7]), ValueError, "1 items; expected 2"),
        (lambda r: r.users().push("ab", [7, 7]), TypeError, "push: keys is 'ab'; expected a seq"),
        (lambda r: r.users().recommend("bob"), TypeError, "recommend: keys is 'bob'"),
        (lambda r: r.users().forget("bob"), TypeError, "forget: keys is 'bob'"),
        (lambda r: r.users().predict([1], [7]), ValueError, "ThemeStore.predict: the model's task"),
    ],
)
def test_bad_input(tmp_path, call, error, message) -> None:
    with pytest.raises(error, match=message):
        call(served(made(), tmp_path))


def test_k_beyond_the_catalogue_costs_nothing(tmp_path) -> None:
    recommender = served(made(), tmp_path)
    store = recommender.users()
    store.push(["a"], [7])
    for found, scores in (recommender.recommend([[7]], 10**9), store.recommend(["a"], 10**9)):
        assert found.shape == scores.shape == (1, N_ITEMS)
        assert sorted(found[0].tolist()) == IDS.tolist()


@pytest.mark.parametrize(
    ("key", "error"),
    [(1.5, TypeError), ((1,), TypeError), (None, TypeError), (b"a", TypeError),
     (2**63, ValueError), ("\ud800", ValueError)],
)  # fmt: skip
def test_keys_that_no_file_could_hold_are_refused(tmp_path, key, error) -> None:
    store = served(made(), tmp_path).users()
    calls = (lambda: store.push(["a", key], [7, 7]), lambda: store.recommend([key]))
    for call in calls:
        with pytest.raises(error, match=r"ThemeStore\.\w+: .*key"):
            call()
    assert len(store) == 0


def test_keys_of_numpy_are_saved(tmp_path) -> None:
    store = served(made(), tmp_path).users()
    store.push(np.array([-(2**63), 3]), [7, 17])
    store.push([np.int32(3), True, np.str_("3")], [7, 7, 27])
    store.save(tmp_path / "users")
    store.restore(tmp_path / "users")
    assert len(store) == 4
    assert all(key in store for key in (-(2**63), 3, 1, "3"))


def test_times_of_a_user_neither_decrease_nor_are_missing(tmp_path) -> None:
    store = served(made(), tmp_path).users()
    store.push(["a", "b"], [7, 17], [5.0, 1.0])
    store.push(["c"], [7])
    before = store.recommend(["a", "b", "c", "d"], 3)
    for keys, times, message in (
        (["b", "a"], [4.0, 3.0], "decrease from 5 to 3 in the events of user 'a'"),
        (["d", "d"], [4.0, 3.0], "decrease from 4 to 3 in the events of user 'd'"),
        (["d", "b"], None, "times are missing, but earlier events of user 'b' have some"),
        (["d", "c"], [9.0, 9.0], "times are given, but earlier events of user 'c' have none"),
    ):
        with pytest.raises(ValueError, match=rf"ThemeStore\.push: (times )?{message}"):
            store.push(keys, [27] * len(keys), times)
    assert len(store) == 3
    after = store.recommend(["a", "b", "c", "d"], 3)
    assert (before[1] == after[1]).all()
    store.push(["a", "a"], [7, 7], [5.0, 5.0])


@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("options", [{}, {"k": 2}, {"n_themes": 0}])
def test_clicks_of_stored_users(histories, tmp_path, options, with_times, target) -> None:
    recommender = served(made(task="click-through", session_window=3, **options), tmp_path)
    items, times = as_lists(histories)
    store = recommender.users()
    for user in range(9):
        for place in range(0, len(items[user]), 7):
            part = slice(place, place + 7)
            own = items[user][part]
            store.push([user] * len(own), own, times[user][part] if with_times else None)
    targets = np.concatenate([np.tile(IDS[:12], (9, 1)), np.full((9, 1), -5)], axis=1)
    whole = recommender.predict(items, targets, times=times if with_times else None)
    np.testing.assert_array_equal(store.predict(np.arange(9), targets), whole)
    np.testing.assert_array_equal(store.predict(range(9), targets[:, 3]), whole[:, 3])
    # nor do the bits of a user depend on the other ones
    for user in range(9):
        alone = store.predict([user], targets[user : user + 1, :1])
        np.testing.assert_array_equal(alone, whole[user : user + 1, :1])
    empty = recommender.predict([[]], IDS[:1])
    np.testing.assert_array_equal(store.predict(["nobody"], IDS[:1]), empty)
    with pytest.raises(ValueError, match=r"ThemeStore.predict: targets has shape \(1,\)"):
        store.predict([1, 2], [7])


def test_clicks_that_are_certain_are_told_apart(tmp_path) -> None:
    model = made(task="click-through")
    with torch.no_grad():
        model.output.bias[:2] = torch.tensor([200.0, 220.0])  # both probabilities round to 1
    recommender = served(model, tmp_path)
    nobody = Sessions(np.zeros(0, np.int64), np.array([0, 0]))
    zeros = np.zeros(2, np.int64)
    samples = ClickSamples(nobody, zeros, zeros, np.array([0, 1]), np.array([0, 1]))
    assert evaluate_click_through(recommender, samples)["auc"] == 1


def test_targets_of_another_shape(tmp_path) -> None:
    recommender = served(made(task="click-through"), tmp_path)
    with pytest.raises(ValueError, match=r"targets has shape \(1,\); expected \(2,\) or \(2, C\)"):
        recommender.predict([[7], [17]], [7])


def test_bad_files(tmp_path) -> None:
    model = made()
    with pytest.raises(ValueError, match="vocabulary has 3 items; expected 64"):
        model.export(tmp_path / "m", ItemVocabulary([1, 2, 3]))
    model.export(tmp_path / "m", ItemVocabulary(IDS))
    file = load_model(tmp_path / "m")
    for name, value in (("k", 9), ("n_themes", -1), ("session_gap", 0), ("task", "x")):
        with pytest.raises(ValueError, match=name if name != "k" else "k=9"):
            sf.io.save_model(
                tmp_path / "x", file.model, {**file.config, name: value}, file.tensors, IDS
            )
    with pytest.raises(ValueError, match="precision is 'half'"):
        sf.load(tmp_path / "m", precision="half")


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_other_precisions_are_close(histories, tmp_path, precision) -> None:
    model = made(hidden_size=32)
    items, times = as_lists(histories)
    exact = served(model, tmp_path).recommend(items, N_ITEMS, times=times)
    near = served(model, tmp_path, precision=precision).recommend(items, N_ITEMS, times=times)
    assert np.abs(np.sort(exact[1]) - np.sort(near[1])).max() < 0.02


def test_serving_needs_no_torch(tmp_path) -> None:
    made().export(tmp_path / "m.safetensors", ItemVocabulary(IDS))
    code = (
        "import sys; sys.modules['torch'] = None; import seqrec_fast as sf;"
        f"r = sf.load({str(tmp_path / 'm.safetensors')!r}); s = r.users(); s.push([1], [7]);"
        "print(s.recommend([1], 3)[0].shape)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "(1, 3)"
