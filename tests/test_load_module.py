"""Modules made from model files, and recommendations by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.data import ItemVocabulary
from seqrec_fast.models import (
    DIEN,
    DIN,
    DeviceRecommender,
    GRU4Rec,
    RecurrentCTR,
    ThemeMixture,
    load_module,
)

N = 30
IDS = [f"item {i}" for i in range(N)]
MODELS = {
    "gru": lambda: GRU4Rec(N, embedding_dim=8, hidden_size=8, num_layers=2),
    "lstm": lambda: GRU4Rec(N, cell="lstm", embedding="separate", embedding_dim=4, hidden_size=8),
    "rnn": lambda: GRU4Rec(N, cell="rnn", embedding="none", hidden_size=8, nonlinearity="relu"),
    "projected": lambda: GRU4Rec(N, embedding_dim=4, hidden_size=8),
    "themes": lambda: ThemeMixture(N, hidden_size=8, n_themes=3),
    "din": lambda: DIN(N, activation="dice"),
    "dien": lambda: DIEN(N),
    "ctr": lambda: RecurrentCTR(N, cell="augru"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_holds_the_whole_module(name, tmp_path) -> None:
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    model.export(tmp_path / "model", ItemVocabulary(IDS))
    found, vocabulary = load_module(tmp_path / "model")
    assert type(found) is type(model)
    assert found.config == model.config
    assert not found.training
    assert vocabulary.ids.tolist() == IDS
    theirs = model.state_dict()
    assert list(found.state_dict()) == list(theirs)
    assert all(torch.equal(value, theirs[key]) for key, value in found.state_dict().items())


@pytest.mark.parametrize("name", ["gru", "lstm", "rnn", "projected"])
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_recommendations_are_those_without_torch(name, exclude_seen, tmp_path) -> None:
    MODELS[name]().export(tmp_path / "model", ItemVocabulary(IDS))
    served = sf.load(tmp_path / "model")
    ours = DeviceRecommender(*load_module(tmp_path / "model"))
    sessions = [[IDS[3], IDS[7], "unknown", IDS[3]], [], ["unknown"], [IDS[29]]]
    found, expected = (r.recommend(sessions, 5, exclude_seen) for r in (ours, served))
    assert found[0].tolist() == expected[0].tolist()
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)
    assert ours.unknown_items == served.unknown_items == 2
    every = ours.recommend(np.array([IDS[0], IDS[1]]), 10**12, exclude_seen, offsets=[0, 2])
    assert every[0].shape == (1, N)
    assert (every[0] == "").sum() == (2 if exclude_seen else 0)


def test_errors(tmp_path) -> None:
    with pytest.raises(TypeError, match="model is a DIN; expected a GRU4Rec"):
        DeviceRecommender(DIN(N), ItemVocabulary(IDS))  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="load_model: no file"):
        load_module(tmp_path / "nothing")
    recommender = DeviceRecommender(MODELS["gru"](), ItemVocabulary(IDS))
    with pytest.raises(ValueError, match=r"DeviceRecommender\.recommend: offsets go from 0 to 2"):
        recommender.recommend(np.array(IDS), offsets=[0, 2])
