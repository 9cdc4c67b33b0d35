"""A session store answers event by event what the recommender answers for whole sessions."""

import threading

import numpy as np
import pytest

import seqrec_fast as sf
from seqrec_fast._model_format import gru4rec_shapes
from seqrec_fast.io import save_model

N_ITEMS = 50


def make_recommender(path, cell="gru", embedding="separate", layers=1, strings=False):
    config = {
        "n_items": N_ITEMS,
        "cell": cell,
        "embedding": embedding,
        "embedding_dim": 20,
        "hidden_size": 20,
        "num_layers": layers,
        "nonlinearity": "tanh",
    }
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.normal(scale=0.5, size=shape).astype("f")
        for name, shape in gru4rec_shapes(config, "").items()
    }
    ids = np.arange(N_ITEMS) + 1000
    save_model(path, "gru4rec", config, tensors, ids.astype(str) if strings else ids)
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


def test_k_beyond_the_catalogue_is_the_catalogue(recommender):
    store = recommender.sessions()
    stepped = store.step(["a"], [1001], 10**12)
    assert stepped[0].shape == (1, N_ITEMS)
    assert_same(store.recommend(["a"], 10**12), stepped)
    assert_same(recommender.recommend([[1001]], N_ITEMS), stepped)


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


def test_a_key_may_be_anything_that_is_an_integer(recommender):
    class Sly:
        def __init__(self, store):
            self.store = store

        def __index__(self):
            self.store.push([5, 6, 7], [1005, 1006, 1007])  # a call within the call
            return 1

    store = recommender.sessions()
    store.push([np.int64(3), Sly(store), True], [1001, 1002, 1003])
    assert_same(store.recommend([3, 1, 5]), recommender.recommend([[1001], [1002, 1003], [1005]]))


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
    with pytest.raises(ValueError, match="k is 0"):
        store.step(["a"], [1001], k=0)
    with pytest.raises(TypeError, match=r"push: a key is of type tuple; expected int or str"):
        store.push([("a", 1)], [1001])
    with pytest.raises(ValueError, match=r"push: keys has a number of more than 64 bits"):
        store.push([2**64], [1001])
    with pytest.raises(ValueError, match="capacity is 0; expected at least 1"):
        recommender.sessions(capacity=0)
    assert len(store) == 0


def test_arguments_of_other_types(recommender):
    store = recommender.sessions()
    calls = {
        "SessionStore.recommend": lambda **o: store.recommend(["a"], **o),
        "SessionStore.step": lambda **o: store.step(["a"], [1001], **o),
        "Recommender.recommend": lambda **o: recommender.recommend([[1001]], **o),
    }
    for name, call in calls.items():
        for k in (2.5, "a", None, True):
            with pytest.raises(TypeError, match=f"^{name}: k is {k!r}; expected an int"):
                call(k=k)
        with pytest.raises(TypeError, match=f"^{name}: exclude_seen is 'no'; expected True or Fal"):
            call(exclude_seen="no")
    for capacity in (2.5, "a"):
        with pytest.raises(TypeError, match=f"SessionStore: capacity is {capacity!r}; expected an"):
            recommender.sessions(capacity)
    with pytest.raises(ValueError, match=r"SessionStore: capacity is .* of 64 bits"):
        recommender.sessions(2**70)
    assert len(store) == 0


def test_keys_that_are_no_text_are_named(recommender):
    store = recommender.sessions()
    bad = "\ud800"
    for name, call in {
        "SessionStore.push": lambda: store.push(["a", bad], [1001, 1001]),
        "SessionStore.push:": lambda: store.push(["a", bad], np.array([1001, 1001])),
        "SessionStore.step": lambda: store.step(["a", bad], [1001, 1001]),
        "SessionStore.recommend": lambda: store.recommend([bad]),
        "SessionStore.forget": lambda: store.forget([bad]),
        "SessionStore": lambda: bad in store,
    }.items():
        with pytest.raises(
            ValueError, match=rf"^{name.strip(':')}: key '\\ud800' is no Unicode text"
        ):
            call()
    assert len(store) == 0
    before = recommender.unknown_items
    store.push(["a"], [bad])
    assert recommender.unknown_items == before + 1


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


@pytest.mark.parametrize("strings", [False, True])
def test_step_is_push_then_recommend(tmp_path, strings):
    recommender = make_recommender(tmp_path / "m.safetensors", strings=strings)
    one, two = recommender.sessions(), recommender.sessions()
    for keys, items in [([1], [1001]), ([1, "b"], [1002, 1003]), ([1], [7]), ([2, 2], [1004, 1])]:
        named = [str(item) for item in items] if strings else items
        expected = (two.push(keys, named), two.recommend(keys, 5, True))[1]
        assert_same(one.step(keys, named, 5, True), expected)
    assert recommender.unknown_items == 4
    assert_same(one.step(np.array([1]), np.array([1005])), two.step([1], [1005]))


def test_the_longest_unused_session_makes_room(recommender):
    store = recommender.sessions(capacity=2)
    store.push(["a", "b"], [1001, 1002])
    store.recommend(["a"])
    store.push(["c"], [1003])
    assert ("a" in store, "b" in store, "c" in store, len(store)) == (True, False, True, 2)
    assert_same(store.recommend(["b", "c"]), recommender.recommend([[], [1003]]))
    with pytest.raises(ValueError, match="3 sessions in one call; expected at most the capacity"):
        store.push(["x", "y", "z", "x"], [1001] * 4)
    assert ("a" in store, "x" in store) == (True, False)
    store.push(["x", "y", "x", "q"], [1001, 1002, 1003, 7])
    assert_same(store.recommend(["x", "y"]), recommender.recommend([[1001, 1003], [1002]]))


def test_capacity_under_many_keys(recommender):
    keys, items = draw_events(2000, 300, seed=3)
    store = recommender.sessions(capacity=40)
    alive: dict[int, list[int]] = {}
    for key, item in zip(keys.tolist(), items.tolist(), strict=True):
        store.push([key], [item])
        history = alive.pop(key, [])
        alive[key] = [*history, item]
        if len(alive) > 40:
            alive.pop(next(iter(alive)))
    assert len(store) == 40
    assert all(key in store for key in alive)
    assert_same(store.recommend(list(alive)), recommender.recommend(list(alive.values())))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_save_and_restore(tmp_path, cell):
    recommender = make_recommender(tmp_path / "m.safetensors", cell, layers=2)
    store = recommender.sessions()
    keys, items = draw_events()
    names = [key if key % 2 else f"k\u00e4y {key}" for key in keys.tolist()]
    store.push(names[:300], items[:300])
    store.save(tmp_path / "sessions.safetensors")
    again = sf.load(tmp_path / "m.safetensors").sessions()
    again.push(["other"], [1001])
    again.restore(tmp_path / "sessions.safetensors")
    assert "other" not in again
    assert len(again) == len(store)
    for one in (store, again):
        one.push(names[300:], items[300:])
    distinct = list(dict.fromkeys(names))
    assert_same(again.recommend(distinct, 9, True), store.recommend(distinct, 9, True))
    small = recommender.sessions(capacity=3)
    small.restore(tmp_path / "sessions.safetensors")
    assert len(small) == 3
    assert names[299] in small


@pytest.mark.parametrize("keys", [[], [1, -2], ["a", "b"]])
def test_save_and_restore_keys_of_one_kind(tmp_path, recommender, keys):
    store = recommender.sessions()
    store.push(keys, [1001, 1002][: len(keys)])
    store.save(tmp_path / "s.safetensors")
    again = recommender.sessions()
    again.push(["other"], [1001])
    again.restore(tmp_path / "s.safetensors")
    assert len(again) == len(keys)
    assert_same(again.recommend(keys), store.recommend(keys))


def test_restore_refuses_what_is_not_its_own(tmp_path, recommender):
    store = recommender.sessions()
    store.push(["a"], [1001])
    path = tmp_path / "s.safetensors"
    store.save(path)
    with pytest.raises(FileNotFoundError, match="restore: no file"):
        store.restore(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"restore: .* without 'seqrec_fast.sessions'"):
        store.restore(tmp_path / "model.safetensors")
    other = make_recommender(tmp_path / "other.safetensors", layers=2).sessions()
    with pytest.raises(ValueError, match="holds sessions of another model"):
        other.restore(path)
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(ValueError, match="truncated"):
        store.restore(path)
    assert_same(store.recommend(["a"]), recommender.recommend([[1001]]))


def test_a_failed_save_leaves_the_old_file(tmp_path, recommender, monkeypatch):
    store = recommender.sessions()
    store.push(["a"], [1001])
    path = tmp_path / "s.safetensors"
    store.save(path)
    before = path.read_bytes()
    store.push(["b"], [1002])

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        store.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("s.")] == ["s.safetensors"]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_precision(tmp_path, recommender, precision):
    reduced = sf.load(tmp_path / "model.safetensors", precision=precision)
    store = reduced.sessions()
    keys, items = draw_events()
    store.push(keys, items)
    whole = [items[keys == key] for key in range(30)]
    assert_same(store.recommend(range(30)), reduced.recommend(whole))


def test_save_while_others_push(tmp_path, recommender):
    store = recommender.sessions(capacity=20)
    keys, items = draw_events(2000, 60)

    def work():
        for key, item in zip(keys.tolist(), items.tolist(), strict=True):
            store.push([key], [item])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        store.save(tmp_path / "s.safetensors")
        recommender.sessions().restore(tmp_path / "s.safetensors")
    for thread in threads:
        thread.join()
    assert len(store) == 20
