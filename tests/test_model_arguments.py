"""Sizes of models of any integer type, items out of range, and what is said without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.data import ItemVocabulary
from seqrec_fast.models import DIEN, DIN, GRU4Rec, RecurrentCTR, ThemeMixture

N = 10
EVENTS = torch.tensor([3, 9, 0])
OFFSETS = torch.tensor([0, 2, 3])
TARGETS = torch.tensor([1, 2])
BIG = np.int64(8)

MODELS = {
    "gru4rec": lambda n: GRU4Rec(
        n, embedding_dim=BIG, hidden_size=np.int32(8), num_layers=np.uint8(1)
    ),
    "din": lambda n: DIN(
        n, embedding_dim=BIG, attention_sizes=np.array([4]), softmax=np.bool_(True),
        dropout=np.float32(0.5),
    ),
    "dien": lambda n: DIEN(n, embedding_dim=BIG, hidden_size=BIG, head_sizes=[BIG]),
    "recurrent_ctr": lambda n: RecurrentCTR(n, hidden_size=BIG),
    "next": lambda n: ThemeMixture(n, hidden_size=BIG, n_themes=np.int64(3), k=np.int64(2)),
    "themes": lambda n: ThemeMixture(
        n, task="click-through", hidden_size=BIG, session_gap=np.float32(60), k=np.int64(1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_sizes_of_numpy(name, tmp_path) -> None:
    model = MODELS[name](np.int64(N)).eval()
    model.export(tmp_path / "model", ItemVocabulary(np.arange(N)))
    assert sf.load(tmp_path / "model").config == model.config
    assert type(model.config["n_items"]) is int


@pytest.mark.parametrize("make", [DIN, GRU4Rec, ThemeMixture])
@pytest.mark.parametrize("size", [10.5, "ten", None])
def test_sizes_of_no_integer_type(make, size) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{make.__name__}: n_items is {size!r}; exp"):
        make(size)


@pytest.mark.parametrize("name", ["din", "dien", "recurrent_ctr", "themes"])
def test_items_and_targets_out_of_range_are_named(name) -> None:
    model = MODELS[name](N)
    forward = f"{type(model).__name__}.forward"
    with pytest.raises(IndexError, match=rf"^{forward}: items from 0 to 10; expected 0 to 9 from"):
        model(EVENTS + (EVENTS == 9).long(), OFFSETS, TARGETS)
    with pytest.raises(IndexError, match=rf"^{forward}: target from -1 to 0; expected 0 to 9"):
        model(EVENTS, OFFSETS, TARGETS - 2)
    assert model(EVENTS, OFFSETS, TARGETS).shape == (2,)
    assert model(EVENTS[:0], OFFSETS * 0, TARGETS).shape == (2,)


def test_items_out_of_range_of_next_item_models() -> None:
    with pytest.raises(IndexError, match=r"^GRU4Rec.forward: items from -1 to 8; expected 0 to 9"):
        GRU4Rec(N)(EVENTS - 1, OFFSETS)
    with pytest.raises(IndexError, match=r"^GRU4Rec.forward: items from 10 to 10"):
        GRU4Rec(N).step(torch.tensor([10]))
    with pytest.raises(IndexError, match=r"^ThemeMixture.themes: items from 1 to 10"):
        ThemeMixture(N).themes(EVENTS + 1, OFFSETS)


@pytest.mark.parametrize("module", ["nn", "models", "training"])
def test_modules_say_what_they_need(module) -> None:
    code = f"import sys; sys.modules['torch'] = None; import seqrec_fast.{module}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip().endswith(
        f"ImportError: seqrec_fast.{module} needs PyTorch: pip install seqrec-fast[train]"
    )
