"""The Python of the README runs as it stands."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from seqrec_fast import data
from seqrec_fast.models import DIN

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def _folder(tmp_path, monkeypatch):
    """A folder with the files that the README reads; its large simulation is a small one."""
    monkeypatch.chdir(tmp_path)
    log = data.simulate(60, 40, 5, n_categories=8, mean_length=6.0).to_log()
    data.write_log(log, "clicks.tsv")
    items = data.ItemVocabulary(["hat", "shoe", "sock", "scarf"])
    DIN(len(items), embedding_dim=4).export("din.safetensors", items)
    small = functools.partial(data.simulate_hopping, n_users=3, length=(20, 30))
    monkeypatch.setattr(data, "simulate_hopping", small)


@pytest.mark.usefixtures("_folder")
def test_each_snippet_runs_alone():
    snippets = list(re.finditer(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S))
    assert len(snippets) > 5
    for snippet in snippets:
        line = README.read_text()[: snippet.start(1)].count("\n")
        exec(compile("\n" * line + snippet[1], README, "exec"), {})  # errors show the line
