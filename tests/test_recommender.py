"""The recommender gives the torch model's answers, in the user's ids, without torch."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.data import ItemVocabulary, Sessions
from seqrec_fast.evaluation import evaluate
from seqrec_fast.models import GRU4Rec

N_ITEMS = 60
KINDS = [
    ("gru", "separate", 1),
    ("gru", "tied", 2),
    ("gru", "projected", 1),
    ("gru", "none", 1),
    ("lstm", "separate", 2),
    ("lstm", "none", 1),
    ("rnn", "tied", 1),
    ("rnn", "none", 3),
]


def random_model(cell="gru", embedding="separate", layers=1, **options):
    torch.manual_seed(0)
    width = 24 if embedding == "tied" else 16
    embedding = "tied" if embedding == "projected" else embedding
    sizes = {"embedding_dim": width, "hidden_size": 24, "num_layers": layers}
    model = GRU4Rec(N_ITEMS, cell=cell, embedding=embedding, **sizes, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model.eval()


def ids_of(kind):
    numbers = np.random.default_rng(1).permutation(N_ITEMS) * 7 + 100
    return numbers if kind == "int" else np.array([f"item {n}" for n in numbers])


def exported(path, model, kind="int"):
    model.export(path, ItemVocabulary(ids_of(kind)))
    return sf.load(path)


def draw_sessions(n=40, seed=2):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, N_ITEMS, length).tolist() for length in rng.integers(1, 9, n)]


@pytest.fixture
def recommender(tmp_path):
    return exported(tmp_path / "model.safetensors", random_model())


def torch_scores(model, sessions):
    with torch.no_grad():
        ragged = Sessions.from_lists(sessions)
        hidden, _ = model(torch.from_numpy(ragged.items), torch.from_numpy(ragged.offsets))
        return model.scores(hidden[ragged.offsets[1:] - 1]).numpy()


@pytest.mark.parametrize("kind", ["int", "str"])
@pytest.mark.parametrize(("cell", "embedding", "layers"), KINDS)
def test_equals_the_torch_model(tmp_path, cell, embedding, layers, kind):
    model = random_model(cell, embedding, layers)
    sessions = draw_sessions()
    ids = ids_of(kind)
    items, scores = exported(tmp_path / "m.safetensors", model, kind).recommend(
        [ids[session].tolist() for session in sessions], k=5
    )
    expected = torch_scores(model, sessions)
    order = np.argsort(-expected, axis=1)[:, :5]
    assert items.dtype.kind == ids.dtype.kind
    np.testing.assert_array_equal(items, ids[order])
    assert scores.dtype == np.float32
    np.testing.assert_allclose(
        scores, np.take_along_axis(expected, order, axis=1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "options", [{"reset_after": False}, {"cell": "rnn", "nonlinearity": "relu"}]
)
def test_variants_of_cells(tmp_path, options):
    model = random_model(**options)
    sessions = draw_sessions()
    items, _ = exported(tmp_path / "m.safetensors", model).recommend(
        [ids_of("int")[session] for session in sessions], k=1
    )
    best = torch_scores(model, sessions).argmax(axis=1)
    np.testing.assert_array_equal(items[:, 0], ids_of("int")[best])


def test_forms_of_sessions_agree(recommender):
    sessions = [ids_of("int")[session].tolist() for session in draw_sessions()]
    flat = np.concatenate(sessions)
    offsets = np.cumsum([0, *map(len, sessions)])
    expected = recommender.recommend(sessions, k=7)
    one_by_one = [recommender.recommend([session], k=7) for session in sessions]
    for form in (
        recommender.recommend([np.array(session) for session in sessions], k=7),
        recommender.recommend(flat, k=7, offsets=offsets),
        [np.concatenate(answers) for answers in zip(*one_by_one, strict=True)],
        recommender.recommend([list(map(str, session)) for session in sessions], k=7),
    ):
        for ours, theirs in zip(form, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_a_gate_table_changes_no_bit(cell, tmp_path):
    path = tmp_path / "model.safetensors"
    with_table = exported(path, random_model(cell))
    without = sf.load(path, gate_table_bytes=0)
    sessions = [[int(i) * 7 + 100 for i in session] for session in draw_sessions()]
    for ours, theirs in zip(
        with_table.recommend(sessions), without.recommend(sessions), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_unknown_items_are_skipped_and_counted(recommender):
    a, b = ids_of("int")[:2].tolist()
    expected = recommender.recommend([[a, b], [b], []])
    assert recommender.unknown_items == 0
    found = recommender.recommend([[a, -5, b, 3], [3, b], [2**40]])
    assert recommender.unknown_items == 4
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_empty_session_has_the_scores_of_the_initial_state(recommender, tmp_path):
    model = random_model()
    items, scores = recommender.recommend([[], []], k=3)
    best = model.output.bias.detach().numpy().argsort()[::-1][:3]
    np.testing.assert_array_equal(items, [ids_of("int")[best]] * 2)
    np.testing.assert_array_equal(scores, [model.output.bias.detach().numpy()[best]] * 2)


def test_no_sessions(recommender):
    items, scores = recommender.recommend([], k=3)
    assert (items.shape, scores.shape) == ((0, 3), (0, 3))


@pytest.mark.parametrize(("kind", "filler"), [("int", -1), ("str", "")])
def test_short_answers_are_filled_up(tmp_path, kind, filler):
    recommender = exported(tmp_path / "m.safetensors", random_model(), kind)
    ids = ids_of(kind).tolist()
    # so many that nothing of this length could be allocated
    items, scores = recommender.recommend([ids[:58], []], k=10**12, exclude_seen=True)
    assert items.shape == scores.shape == (2, N_ITEMS)
    assert set(items[0, :2].tolist()) == set(ids[58:])
    assert items[0, 2:].tolist() == [filler] * 58
    assert np.isneginf(scores[0, 2:]).all()
    assert sorted(items[1].tolist()) == sorted(ids)


def test_seen_items_are_recommended_unless_excluded(recommender):
    ids = ids_of("int")
    sessions = [ids[session] for session in draw_sessions()]
    everything, scores = recommender.recommend(sessions, k=N_ITEMS)
    others, other_scores = recommender.recommend(sessions, k=N_ITEMS, exclude_seen=True)
    for row, session in enumerate(sessions):
        kept = ~np.isin(everything[row], session)
        assert not kept.all()
        np.testing.assert_array_equal(others[row, : kept.sum()], everything[row, kept])
        np.testing.assert_array_equal(other_scores[row, : kept.sum()], scores[row, kept])


@pytest.mark.parametrize(
    ("sessions", "options", "error", "message"),
    [
        ([1, 2], {}, TypeError, r"sessions\[0\] is 1; expected a list of item ids"),
        (["shoe"], {}, TypeError, r"sessions\[0\] is 'shoe'"),
        ("shoe", {}, TypeError, "expected a list of sessions"),
        (7, {}, TypeError, "sessions is 7"),
        ([[1.5]], {}, TypeError, "dtype float64; expected integers or strings"),
        ([[1]], {"k": 0}, ValueError, "k is 0; expected at least 1"),
        ([1, 2], {"offsets": [0, 3]}, ValueError, "offsets go from 0 to 3; expected 0 to .* 2"),
        ([1, 2], {"offsets": [0, 2, 1, 2]}, ValueError, "offsets decrease at position 2"),
        ([1, 2], {"offsets": [0.0, 2.0]}, ValueError, "offsets is float64"),
    ],
)
def test_wrong_sessions(recommender, sessions, options, error, message):
    with pytest.raises(error, match=message):
        recommender.recommend(sessions, **options)


def test_threads_share_a_recommender(recommender):
    sessions = [[*ids_of("int")[session].tolist(), -1] for session in draw_sessions()]
    expected = recommender.recommend(sessions)
    results = []

    def work():
        for _ in range(5):
            results.append(recommender.recommend(sessions))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert recommender.unknown_items == 21 * len(sessions)
    for items, scores in results:
        np.testing.assert_array_equal(items, expected[0])
        np.testing.assert_array_equal(scores, expected[1])


def test_repr_names_the_sizes(recommender):
    expected = "Recommender(gru, n_items=60, hidden_size=24, num_layers=1, precision='float32')"
    assert repr(recommender) == expected


def test_serves_where_torch_cannot_be_imported(recommender, tmp_path):
    program = f"""
import sys
sys.modules["torch"] = None
sys.modules["pyarrow"] = None
import seqrec_fast as sf
recommender = sf.load({str(tmp_path / "model.safetensors")!r})
store = recommender.sessions()
store.push(["a"], [107])
print(recommender.recommend([[107]], k=3)[0].tolist() == store.recommend(["a"], k=3)[0].tolist())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "True\n", run.stderr


def test_import_is_light():
    program = """
import sys
import seqrec_fast
heavy = {"click", "tqdm", "safetensors", "torch", "pyarrow"}
print(sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr


@pytest.mark.parametrize("targets", ["all", "last"])
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_evaluation_equals_that_of_the_torch_model(tmp_path, targets, exclude_seen):
    from seqrec_fast.training.evaluation import evaluate as evaluate_torch

    model = random_model()
    test = Sessions.from_lists(draw_sessions(200))
    options = {"ks": (1, 5, 20), "targets": targets, "exclude_seen": exclude_seen}
    ours = evaluate(exported(tmp_path / "m.safetensors", model), test, **options)
    lengths = test.lengths
    counts = {"all": (lengths - 1).sum(), "last": (lengths >= 2).sum()}
    assert ours["predictions"] == counts[targets]
    assert ours == pytest.approx(evaluate_torch(model, test, **options))


def test_evaluation_in_blocks_is_the_same(recommender, monkeypatch):
    test = Sessions.from_lists(draw_sessions(200))
    expected = evaluate(recommender, test, (5,), exclude_seen=True)
    monkeypatch.setattr("seqrec_fast.evaluation._BLOCK_PREDICTIONS", 3)
    monkeypatch.setattr("seqrec_fast.evaluation._BLOCK_EVENTS", 7)
    done = []
    found = evaluate(recommender, test, (5,), exclude_seen=True, on_sessions=done.append)
    assert found == pytest.approx(expected)
    assert sum(done) == np.count_nonzero(test.lengths >= 2)


@pytest.mark.parametrize(
    ("sessions", "options", "message"),
    [
        ([[1, 2]], {"targets": "first"}, "targets is 'first'"),
        ([[1, N_ITEMS]], {}, "items from 1 to 60; expected 0 to 59"),
        ([[1], []], {}, "no session has two events"),
        ([[1, 2]], {"mode": "lucky"}, "mode is 'lucky'"),
    ],
)
def test_wrong_evaluation(recommender, sessions, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(recommender, Sessions.from_lists(sessions), **options)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_precision(tmp_path, precision):
    full = exported(tmp_path / "m.safetensors", random_model())
    reduced = sf.load(tmp_path / "m.safetensors", precision=precision)
    assert f"precision={precision!r}" in repr(reduced)
    sessions = [ids_of("int")[session] for session in draw_sessions()]
    scores, expected = (r.recommend(sessions, 60)[1] for r in (reduced, full))
    assert 0 < np.abs(scores - expected).max() < 0.1 * np.abs(expected).max()


def test_unknown_precision(tmp_path):
    exported(tmp_path / "m.safetensors", random_model())
    with pytest.raises(ValueError, match="load: precision is 'float64'; expected 'float32', 'bf"):
        sf.load(tmp_path / "m.safetensors", precision="float64")
