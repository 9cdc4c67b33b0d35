"""Checkpoints that want to run code or are damaged: refused with a reason, nothing is written."""

import os
import pickle
import random
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from official_gru4rec import Call, importable, program, rewrite, save, series
from seqrec_fast import convert
from seqrec_fast.cli import main


@pytest.fixture
def path(tmp_path):
    return tmp_path / "official.pt"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "model.safetensors"


def refused(path, out, message):
    """The conversion fails so, and leaves what was there before as it was."""
    out.write_bytes(b"before")
    with pytest.raises(ValueError, match=message) as raised:
        convert.gru4rec(path, out)
    assert str(raised.value).startswith("convert.gru4rec: ")
    assert len(str(raised.value)) < 1000
    assert out.read_bytes() == b"before"
    assert sorted(os.listdir(out.parent)) == sorted({path.name, out.name})


def content(path, entry):
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.partition("/")[2] == entry]
        return archive.read(name)


def test_code_is_named_and_not_run(path, out, tmp_path):
    marker = tmp_path / "marker"
    saved = program()
    saved.loss_function = Call(os.system, f"touch {marker}")
    save(saved, path)
    refused(path, out, r"refers to posix\.system, which has no place")
    assert not marker.exists()
    result = CliRunner().invoke(main, ["convert", "gru4rec", str(path), str(out)])
    assert (result.exit_code, marker.exists()) == (1, False)
    assert "posix.system" in result.output
    # the file does run it where pickles are run, before the stand-in for pandas objects
    with importable(), pytest.raises(AssertionError, match="_new_Index is for pickling only"):
        torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", r"builtins\.eval"),
        (b"c__builtin__\n__import__\nX\x02\x00\x00\x00os\x85R.", r"__builtin__\.__import__"),
        (b"cevil\nGRU4Rec\n)\x81.", r"evil\.GRU4Rec"),
        (b"cgru4rec_pytorch\nos\n.", r"gru4rec_pytorch\.os"),
        (b"ctorch\nGRU4Rec\n.", r"torch\.GRU4Rec"),
        (b"c__builtin__\ngetattr\n)R)R.", "calls what is no class"),
        (b"c__builtin__\ngetattr\n]R.", "calls what is no class"),
        (b"c__builtin__\ngetattr\n}b.", "Global in place of Record"),
        (b"(c__builtin__\ngetattr\nX\x01\x00\x00\x00ao.", "opcode OBJ"),
        (b"(ios\nsystem\n.", "opcode INST"),
        (b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.", "opcode STACK_GLOBAL"),
        (b"\x82\x01.", "opcode EXT1"),
        (b"}))s.", "keys are neither strings nor integers"),
        (b"K\x01.", "no GRU4Rec where one is expected"),
        (b"cgru4rec_pytorch\nGRU4Rec\n)\x81.", "GRU4Rec has no attributes"),
        (b"cgru4rec_pytorch\nGRU4Rec\n)\x81}b.", "no SessionDataIterator where one is expected"),
        # sizes that are declared and not there
        (b"X\xff\xff\xff\x7fabc.", "truncated or no valid pickle"),
        (b"B\xff\xff\xff\x7fabc.", "truncated or no valid pickle"),
        (b"K\x01r\xff\xff\xff\x7f.", "no GRU4Rec"),
        (b"h\x05.", "truncated or no valid pickle"),
        (b"0.", "opcode POP"),
        (b"\x86.", "truncated or no valid pickle"),
        (b"t.", "truncated or no valid pickle"),
        (b".", "truncated or no valid pickle"),
        (b"", "truncated or no valid pickle"),
        (b"\xff", "truncated or no valid pickle"),
        (b")" + b"\x85" * 300_000 + b".", "no GRU4Rec"),
        (b"})" + b"\x85" * 300_000 + b"Ns.", "keys are neither strings nor integers"),
    ],
)
def test_handmade_pickles(path, out, body, message):
    save(program(), path)
    rewrite(path, {"data.pkl": b"\x80\x02" + body})
    refused(path, out, message)


def test_other_protocols_are_refused(path, out):
    save(program(), path)
    rewrite(path, {"data.pkl": pickle.dumps({}, 4)})
    refused(path, out, "pickle of protocol 4; expected 2")


def test_every_cut_of_the_pickle_is_an_error(path, out):
    save(program(), path)
    whole = content(path, "data.pkl")
    for length in range(0, len(whole), 97):
        rewrite(path, {"data.pkl": whole[:length]})
        refused(path, out, "truncated or no valid pickle")


def test_changed_bytes_are_an_error_or_harmless(path, out):
    save(program(ids=["a", "b", "c"], form="large_string"), path)
    whole = content(path, "data.pkl")
    rng = random.Random(3)
    n_refused = 0
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4, 30])):
            changed[rng.randrange(len(whole))] = rng.randrange(256)
        rewrite(path, {"data.pkl": bytes(changed)})
        try:
            convert.gru4rec(path, out)
        except ValueError as error:
            n_refused += 1
            assert str(error).startswith("convert.gru4rec: ")  # noqa: PT017 - either is right
    assert n_refused > 100


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(path, out, share):
    save(program(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, out, "truncated or no zip archive")


def test_files_of_other_kinds(path, out):
    path.write_bytes(pickle.dumps({"a": 1}))
    refused(path, out, "no zip archive; expected one that torch.save of PyTorch 1.6")
    torch.save({"a": torch.ones(2)}, path)
    refused(path, out, "no checkpoint of the official PyTorch GRU4Rec")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b", b"")
    refused(path, out, r"has 0 entries data\.pkl")
    with pytest.raises(FileNotFoundError, match=r"convert\.gru4rec: no file"):
        convert.gru4rec(path.with_name("absent"), out)
    with pytest.raises(IsADirectoryError, match=r"convert\.gru4rec: no file"):
        convert.gru4rec(path.parent, out)


def test_storages_that_do_not_fit(path, out):
    save(program(), path)
    whole = path.read_bytes()
    for entries, message in (
        ({"data/3": None}, "has no entry data/3"),
        ({"data/3": b""}, "entry data/3 has 0 bytes; expected"),
        ({"data/3": bytes(10**6)}, "entry data/3 has 1000000 bytes; expected"),
        ({"byteorder": b"middle"}, "byteorder is b'middle'"),
    ):
        path.write_bytes(whole)
        rewrite(path, entries)
        refused(path, out, message)
    path.write_bytes(whole)
    rewrite(path, {}, zipfile.ZIP_DEFLATED)
    refused(path, out, "is compressed")
    path.write_bytes(whole)
    rewrite(path, {})
    damaged = path.read_bytes()
    at = damaged.index(content(path, "data/3"))
    path.write_bytes(damaged[:at] + b"\xff" + damaged[at + 1 :])
    refused(path, out, "entry data/3 is damaged")


def set_parameter(saved, module, value):
    getattr(saved.model, module).__dict__["_parameters"]["weight"] = value


def view(shape, strides, offset=0, dtype=torch.float32):
    storage = torch.zeros(108, dtype=dtype)._typed_storage()
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, storage, offset, shape, strides, False, OrderedDict())


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (view((9, 11), (11, 1)), r"Wy.weight has shape \(9, 11\); expected \(9, 12\)"),
        (view((108,), (1,)), r"Wy.weight has shape \(108,\); expected \(9, 12\)"),
        (view((2**40, 2**20), (2**20, 1)), "its storage has 108 values"),
        (view((2**40, 2**20), (0, 0)), "expected a contiguous tensor"),
        (view((9, 12), (1, 9)), "expected a contiguous tensor"),
        (view((9, 12), (12, 1), 1), "from position 1; its storage has 108 values"),
        (view((9, 12), (12, 1), -1), "has no valid shape"),
        (view((-9, -12), (-12, 1)), "has no valid shape"),
        (view((9, 12), (12, 1), dtype=torch.float64), "torch.DoubleStorage; expected torch.Float"),
        ([1.0], "Wy.weight is no tensor"),
        (None, "Wy.weight is no tensor"),
        (torch.full((9, 12), torch.nan), "holds NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit(path, out, tensor, message):
    saved = program()
    set_parameter(saved, "Wy", tensor)
    save(saved, path)
    refused(path, out, message)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("n_items", 10, r"Wy.weight has shape \(9, 12\); expected \(10, 12\)"),
        ("n_items", 10**15, "expected"),
        ("n_items", 0, "n_items is not an integer above 0"),
        ("n_items", True, "n_items is not an integer above 0"),
        ("layers", [10**12, 12], r"G.0.weight_ih has shape \(36, 12\); expected"),
        ("layers", [12, 12], "the model has no parameter G.1.weight_ih"),
        ("layers", [], "layers is not a list of sizes"),
        ("layers", 12, "layers is not a list of sizes"),
        ("layers", [12.0], "layers is not a list of sizes"),
        ("constrained_embedding", False, "the model has no parameter GE.Wx0.weight"),
        ("dropout_p_embed", 1.0, "dropout_p_embed is not a number"),
        ("dropout_p_hidden", "0.1", "dropout_p_hidden is not a number"),
        ("_modules", {}, "the model has no parameter Wy.weight"),
    ],
)
def test_sizes_that_do_not_fit(path, out, attribute, value, message):
    saved = program()
    saved.model.__dict__[attribute] = value
    save(saved, path)
    refused(path, out, message)


def test_several_layers_without_an_embedding(path, out):
    save(program("none", (8, 8)), path)
    refused(path, out, "has 2 layers without an embedding; expected 1 layer")


@pytest.mark.parametrize(
    ("labels", "positions", "message"),
    [
        (np.array([1, 2, 2]), np.arange(3), "id 2 occurs more than once"),
        (np.array([1, 2, 3]), np.array([0, 1, 1]), "expected each of 0 to 2 once"),
        (np.array([1, 2, 3]), np.arange(4), "maps 3 ids to 4 positions"),
        (np.array([1, 2]), np.arange(2), "2 item ids; expected 3"),
        (np.array([1.0, 2.0, 3.0]), np.arange(3), "dtype f8; expected integers or strings"),
        (np.array([1, "a", 2], object), np.arange(3), "only integers or only strings"),
        (np.array([1, 2, 2**70], object), np.arange(3), "too large"),
        (np.array([1, 2, 2**63], np.uint64), np.arange(3), "expected integers below"),
        (np.array(["a", "b", "c" * 2000], object), np.arange(3), "an id of 2000 characters"),
        (np.ones((3, 1), int), np.arange(3), "no pandas Series that can be read"),
        ([1, 2, 3], np.arange(3), "no pandas Series that can be read"),
    ],
)
def test_item_maps_that_do_not_fit(path, out, labels, positions, message):
    saved = program(ids=[1, 2, 3])
    saved.data_iterator.itemidmap = series(labels, positions)
    save(saved, path)
    refused(path, out, message)


def test_item_map_that_is_none(path, out):
    saved = program()
    saved.data_iterator.itemidmap = None
    save(saved, path)
    refused(path, out, "itemidmap is no pandas Series")


def test_the_checkpoint_is_never_the_output(path):
    save(program(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"out is .*, the checkpoint; expected another"):
        convert.gru4rec(path, path)
    assert path.read_bytes() == before
