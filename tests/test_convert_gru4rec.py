"""Checkpoints of the official GRU4Rec: the model file scores as the checkpoint does."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import seqrec_fast as sf
from official_gru4rec import OLD_SERIES, item_map, program, rewrite, save, series
from seqrec_fast import convert
from seqrec_fast.cli import main
from seqrec_fast.io import load_model
from seqrec_fast.models import GRU4Rec

SESSIONS = [[0], [3, 1, 4, 1, 5], [8, 8, 2], list(range(9)) * 5, []]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "official.pt"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "model.safetensors"


def scores(recommender, sessions):
    """(sessions, n_items) scores, for sessions and by order of item positions."""
    ids = recommender.vocabulary.ids
    items, values = recommender.recommend([ids[session] for session in sessions], len(ids))
    order = np.argsort([recommender.vocabulary.index_of(row) for row in items], axis=1)
    return np.take_along_axis(values, order, axis=1)


@pytest.mark.parametrize(
    ("mode", "layers"),
    [
        ("tied", (12,)),
        ("tied", (12, 12, 12)),
        ("tied", (20, 11)),
        ("tied", (6, 15)),
        ("separate", (12,)),
        ("separate", (12, 12)),
        ("separate", (4, 9, 17)),
        ("none", (12,)),
        ("none", (3,)),
        ("none", (33,)),
    ],
)
def test_scores_are_equal(path, out, mode, layers):
    saved = program(mode, layers, seed=len(layers))
    save(saved, path)
    file = convert.gru4rec(path, out)
    recommender = sf.load(out)
    expected = np.array([saved.model.scores(session) for session in SESSIONS])
    np.testing.assert_allclose(scores(recommender, SESSIONS), expected, rtol=0, atol=1e-5)
    assert file.config == recommender.config
    assert recommender.config["embedding"] == mode
    assert recommender.vocabulary.ids.tolist() == [7 * i + 3 for i in range(9)]


@pytest.mark.parametrize("mode", ["tied", "separate", "none"])
def test_command_line_writes_the_same_file(path, out, mode):
    save(program(mode), path)
    convert.gru4rec(path, out)
    other = out.with_name("other.safetensors")
    result = CliRunner().invoke(main, ["convert", "gru4rec", str(path), str(other)])
    assert result.output == f"{other}: 9 items, 1 x 12 GRU, {mode} embedding\n"
    assert other.read_bytes() == out.read_bytes()
    help_text = CliRunner().invoke(main, ["convert", "gru4rec", "--help"]).output
    assert "Examples:\n    seqrec-fast convert gru4rec" in help_text


@pytest.mark.parametrize(
    ("mode", "layers"), [("tied", (8, 10)), ("separate", (8,)), ("none", (8,))]
)
def test_training_goes_on_from_what_was_converted(path, out, mode, layers):
    saved = program(mode, layers)
    save(saved, path)
    convert.gru4rec(path, out)
    file = load_model(out)
    model = GRU4Rec(**file.config)
    model.load_state_dict({name: torch.from_numpy(a) for name, a in file.tensors.items()})
    assert (model.config["dropout_embedding"], model.config["dropout_hidden"]) == (0.25, 0.5)
    hidden, _ = model.eval()(torch.tensor([3, 1, 4]), torch.tensor([0, 3]))
    expected = saved.model.scores([3, 1, 4])
    np.testing.assert_allclose(model.scores(hidden)[-1].detach(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "form"),
    [
        ([5, -3, 2**62, 0], "pandas 3"),
        ([5, -3, 2**62, 0], "pandas 1"),
        (["a", "", "mütze", "帽子"], "pandas 3"),
        (["a", "", "mütze", "帽子"], "pandas 1"),
        (["a", "", "mütze", "帽子"], "StringArray"),
        (["a", "", "mütze", "帽子"], "string"),
        (["a", "", "mütze", "帽子"], "large_string"),
    ],
)
def test_item_ids_of_every_version_of_pandas(path, out, ids, form):
    save(program(ids=ids, form=form), path)
    assert convert.gru4rec(path, out).item_ids.tolist() == ids
    assert sf.load(out).vocabulary.ids.tolist() == ids


@pytest.mark.parametrize("dtype", ["<i4", ">i8", "u2", "<u8", object])
def test_integer_ids_of_other_dtypes(path, out, dtype):
    saved = program(ids=[4, 2, 9])
    saved.data_iterator.itemidmap = series(np.array([4, 2, 9], dtype), np.arange(3), OLD_SERIES)
    save(saved, path)
    np.testing.assert_array_equal(convert.gru4rec(path, out).item_ids, [4, 2, 9], strict=True)


def test_ids_stand_at_their_positions(path, out):
    saved = program(ids=[4, 2, 9])
    saved.data_iterator.itemidmap = series(np.array([4, 2, 9]), np.array([1, 2, 0]))
    save(saved, path)
    assert convert.gru4rec(path, out).item_ids.tolist() == [9, 4, 2]


def test_parameters_that_share_a_storage(path, out):
    saved = program()
    save(saved, path)
    expected = convert.gru4rec(path, out).tensors
    together = torch.cat([parameter.detach().flatten() for parameter in saved.model.parameters()])
    begin = 0
    for parameter in saved.model.parameters():
        end = begin + parameter.numel()
        parameter.data = together[begin:end].view(parameter.shape)
        begin = end
    save(saved, path)
    for name, tensor in convert.gru4rec(path, out).tensors.items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_big_endian_storages(path, out):
    save(program(), path)
    expected = convert.gru4rec(path, out).tensors
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    swapped = {
        name: np.frombuffer(content, ">f4").astype("<f4").tobytes()
        for name, content in entries.items()
        if name.startswith("data/")
    }
    rewrite(path, {**swapped, "byteorder": b"big"})
    for name, tensor in convert.gru4rec(path, out).tensors.items():
        np.testing.assert_array_equal(tensor, expected[name])
    # files of older versions of PyTorch do not say
    rewrite(path, {**{name: entries[name] for name in swapped}, "byteorder": None})
    for name, tensor in convert.gru4rec(path, out).tensors.items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_conversion_needs_neither_torch_nor_pandas(path, out):
    save(program(ids=["a", "b"], form="large_string"), path)
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'pandas', 'pyarrow']));"
        f"from seqrec_fast import convert, load; convert.gru4rec({str(path)!r}, {str(out)!r});"
        f"print(load({str(out)!r}).vocabulary.ids.tolist())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "['a', 'b']\n", result.stderr


def test_item_map_without_the_newer_attribute(path, out):
    saved = program(ids=[4, 2, 9])
    saved.data_iterator.itemidmap = item_map([4, 2, 9], "pandas 1")
    attributes = vars(saved.data_iterator.itemidmap)
    attributes["_data"] = attributes.pop("_mgr")
    save(saved, path)
    assert convert.gru4rec(path, out).item_ids.tolist() == [4, 2, 9]
