"""A session store answers event by event what the recommender answers for whole sessions."""

import threading

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.data import ItemVocabulary
from seqrec_fast.models import GRU4Rec

N_ITEMS = 50


def make_recommender(path, cell="gru", embedding="separate", layers=1, strings=False):
    torch.manual_seed(0)
    model = GRU4Rec(
        N_ITEMS,
        cell=cell,
        embedding=embedding,
        embedding_dim=20,
        hidden_size=20,
        num_layers=layers,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    ids = np.arange(N_ITEMS) + 1000
    model.export(path, ItemVocabulary(ids.astype(str) if strings else ids))
    return sf.load(path)


@pytest.fixture
def recommender(tmp_path):
    return make_recommender(tmp_path / "model.safetensors")


def draw_events(n_events=400, n_keys=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, n_keys, n_events), rng.integers(1000, 1000 + N_ITEMS, n_events)


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize(
    ("cell", "embedding", "layers"),
    [("gru", "separate", 1), ("gru", "none", 2), ("lstm", "tied", 2), ("rnn", "none", 1)],
)
def test_equals_whole_sessions_bit_for_bit(tmp_path, cell, embedding, layers, exclude_seen):
    recommender = make_recommender(tmp_path / "m.safetensors", cell, embedding, layers)
    store = recommender.sessions()
    keys, items = draw_events()
    begin = 0
    for size in [1, 1, 2, 3, 50, 1, 100, 242]:
        store.push(keys[begin : begin + size], items[begin : begin + size])
        begin += size
    assert begin == len(keys)
    whole = [items[keys == key] for key in range(30)]
    assert len(store) == 30
    assert_same(
        store.recommend(range(30), 10, exclude_seen), recommender.recommend(whole, 10, exclude_seen)
    )


def test_one_event_at_a_time(recommender):
    store = recommender.sessions()
    keys, items = draw_events(60, 3)
    for key, item in zip(keys.tolist(), items.tolist(), strict=True):
        store.push([key], [item])
    assert_same(
        store.recommend([0, 1, 2]), recommender.recommend([items[keys == key] for key in range(3)])
    )


def test_events_of_one_key_in_one_call_keep_their_order(recommender):
    store = recommender.sessions()
    store.push(["a", "b", "a", "a"], [1001, 1002, 1003, 1004])
    assert_same(store.recommend(["a", "b"]), recommender.recommend([[1001, 1003, 1004], [1002]]))


def test_string_items(tmp_path):
    recommender = make_recommender(tmp_path / "m.safetensors", strings=True)
    store = recommender.sessions()
    store.push(["a", "a"], ["1001", "1003"])
    assert_same(store.recommend(["a"]), recommender.recommend([["1001", "1003"]]))


def test_unknown_items_are_skipped_and_counted(recommender):
    store = recommender.sessions()
    store.push(["a", "b", "a"], [1001, 5, 6])
    store.push(["c"], [7])
    assert recommender.unknown_items == 3
    assert ("a" in store, "b" in store, "c" in store, len(store)) == (True, False, False, 1)
    assert_same(store.recommend(["a", "b"]), recommender.recommend([[1001], []]))


def test_unknown_key_is_an_empty_session(recommender):
    store = recommender.sessions()
    assert_same(store.recommend(["nobody"], exclude_seen=True), recommender.recommend([[]]))
    assert "nobody" not in store


def test_forgotten_sessions_begin_anew(recommender):
    store = recommender.sessions()
    store.push(["a", "b", "a"], [1001, 1002, 1003])
    store.forget(["a", "never seen"])
    assert ("a" in store, "b" in store, len(store)) == (False, True, 1)
    assert_same(store.recommend(["a"]), recommender.recommend([[]]))
    store.push(["new", "a"], [1004, 1005])
    assert_same(
        store.recommend(["a", "b", "new"], 5, True),
        recommender.recommend([[1005], [1002], [1004]], 5, True),
    )


def test_keys_may_repeat_in_a_question(recommender):
    store = recommender.sessions()
    store.push([1, 2], [1001, 1002])
    assert_same(store.recommend([2, 1, 2]), recommender.recommend([[1002], [1001], [1002]]))


def test_nothing_to_do(recommender):
    store = recommender.sessions()
    store.push([], [])
    assert store.recommend([], k=3)[0].shape == (0, 3)
    assert len(store) == 0


def test_wrong_arguments(recommender):
    store = recommender.sessions()
    with pytest.raises(ValueError, match=r"push: 2 keys and 1 items"):
        store.push(["a", "b"], [1001])
    with pytest.raises(TypeError, match=r"push: keys is 'alice'; expected .* such as \['alice'\]"):
        store.push("alice", [1001])
    with pytest.raises(TypeError, match="forget: keys is 7"):
        store.forget(7)
    with pytest.raises(TypeError, match=r"push: items has dtype float64"):
        store.push(["a"], [1.5])
    with pytest.raises(ValueError, match="k is 0"):
        store.recommend(["a"], k=0)
    assert len(store) == 0


def test_threads_share_a_store(recommender):
    store = recommender.sessions()
    keys, items = draw_events(600, 40)

    def work(part):
        mine = keys % 4 == part
        for key, item in zip(keys[mine].tolist(), items[mine].tolist(), strict=True):
            store.push([key], [item])
            store.recommend([key, key + 1], k=2, exclude_seen=True)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = [items[keys == key] for key in range(40)]
    assert_same(store.recommend(range(40)), recommender.recommend(whole))
