"""Promises about the source tree: layers, what an import pulls in, one version."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import seqrec_fast as sf

ROOT = Path(__file__).parent.parent
# A layer may include what stands before it.
CPP_LAYERS = ("base", "cells", "args", "cpu", "cuda", "ops", "bindings")
DEVICES = {"cpu", "cuda"}  # of which neither knows the other
# Only these import torch, and each only those before it.
TORCH_LAYERS = ("nn", "models", "training")


def test_cpp_layers_point_one_way():
    for position, layer in enumerate(CPP_LAYERS):
        for source in filter(Path.is_file, (ROOT / "cpp" / layer).rglob("*")):
            text = source.read_text()
            included = set(re.findall(r'#include "(\w+)/', text)) & set(CPP_LAYERS)
            assert included <= set(CPP_LAYERS[: position + 1]), source.name
            if layer in DEVICES:
                assert included & DEVICES <= {layer}, source.name
            if layer != "bindings":
                assert "pybind11" not in text, source.name
            assert "torch/" not in text, source.name


def test_only_nn_models_and_training_import_torch():
    package = ROOT / "python" / "seqrec_fast"
    top_level_import = re.compile(r"^(import torch|from torch)", re.MULTILINE)
    for source in package.rglob("*.py"):
        part = source.relative_to(package).parts[0]
        if part not in TORCH_LAYERS:
            assert not top_level_import.search(source.read_text()), source


@pytest.mark.parametrize("layer", TORCH_LAYERS)
def test_torch_layers_point_one_way(layer):
    package = ROOT / "python" / "seqrec_fast"
    above = TORCH_LAYERS[TORCH_LAYERS.index(layer) + 1 :]
    found = re.compile(
        rf"^\s*(?:from|import) (?:\.\.|seqrec_fast\.)({'|'.join(above)})\b", re.MULTILINE
    )
    for source in (package / layer).rglob("*.py"):
        assert not above or not found.search(source.read_text()), source


@pytest.mark.parametrize(
    "module",
    ["seqrec_fast", "seqrec_fast.recommender", "seqrec_fast.convert", "seqrec_fast.cli"],
)
def test_import_needs_no_torch(module):
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_loads_numpy_alone():
    code = (
        "import sys, numpy; before = set(sys.modules); import seqrec_fast;"
        "names = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(names & {'torch', 'pyarrow', 'click', 'tqdm', 'safetensors'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_one_version():
    declared = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert declared[1] == sf.__version__
    assert declared[1] in (ROOT / "CHANGELOG.md").read_text()


def test_public_names_exist():
    for name in sf.__all__:
        assert getattr(sf, name) is not None
    assert set(sf.__all__) <= set(dir(sf))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sf.nothing  # noqa: B018


def test_sources_carry_no_machine_paths():
    suffixes = {".py", ".pyi", ".h", ".cpp", ".cu", ".md", ".toml", ".sh", ".txt", ".in", ".cmake"}
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.suffix in suffixes and parts[0] not in (".venv", "build", "dist", ".git"):
            assert not re.search(r"(^|[\s\"'=(])/(work|root|home)/", path.read_text()), path
