"""Model files: what goes in comes out, and nothing else gets in or is left behind."""

import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from seqrec_fast.io import FORMAT_VERSION, load_model, replacing, save_model

GATES = {"gru": 3, "lstm": 4, "rnn": 1}


def make_config(cell="gru", embedding="separate", n_items=7, layers=1, **more):
    return {
        "cell": cell,
        "n_items": n_items,
        "embedding": embedding,
        "embedding_dim": 4 if embedding == "tied" else 3,
        "hidden_size": 4,
        "num_layers": layers,
        "nonlinearity": "tanh",
        "reset_after": True,
        "dropout_embedding": 0.0,
        "dropout_hidden": 0.0,
        **more,
    }


def make_tensors(config, seed=0):
    rng = np.random.default_rng(seed)
    hidden, n_items, width = config["hidden_size"], config["n_items"], config["embedding_dim"]
    gates = GATES[config["cell"]] * hidden
    shapes = {"output.bias": (n_items,)}
    if config["embedding"] == "none":
        shapes["input_gates.weight"] = (n_items, gates)
    else:
        shapes |= {"embedding.weight": (n_items, width), "rnn.weight_ih_l0": (gates, width)}
    if config["embedding"] != "tied":
        shapes["output.weight"] = (n_items, hidden)
    for layer in range(config["num_layers"]):
        if layer:
            shapes[f"rnn.weight_ih_l{layer}"] = (gates, hidden)
        shapes |= {
            f"rnn.weight_hh_l{layer}": (gates, hidden),
            f"rnn.bias_ih_l{layer}": (gates,),
            f"rnn.bias_hh_l{layer}": (gates,),
        }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def parts(**changes):
    config = changes.pop("config", make_config())
    if "tensors" not in changes:
        changes["tensors"] = make_tensors(config)
    ids = np.arange(10, 10 + config["n_items"])
    return {"model": "gru4rec", "config": config, "item_ids": ids, **changes}


def raw_file(path, header, tensors):
    save_file(tensors, path, metadata={"seqrec_fast": json.dumps(header)})


def raw_parts():
    header = {"format_version": FORMAT_VERSION, "model": "gru4rec", "config": make_config()}
    return header, {**make_tensors(make_config()), "item_ids": np.arange(7)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
@pytest.mark.parametrize("layers", [1, 3])
def test_round_trip(path, cell, embedding, layers):
    given = parts(config=make_config(cell, embedding, layers=layers))
    save_model(path, **given)
    file = load_model(path)
    assert (file.model, file.config, file.format_version) == ("gru4rec", given["config"], 1)
    assert sorted(file.tensors) == sorted(given["tensors"])
    for name, tensor in given["tensors"].items():
        np.testing.assert_array_equal(file.tensors[name], tensor, strict=True)
    np.testing.assert_array_equal(file.item_ids, given["item_ids"], strict=True)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "ids",
    [
        [5, -3, 2**62, 0, 1, 2, 3],
        ["a", "", "mütze", "帽子", "a b", "x" * 300, "7"],
    ],
)
def test_item_ids_of_both_kinds(path, ids):
    save_model(path, **parts(item_ids=ids))
    assert load_model(path).item_ids.tolist() == ids


def test_permissions_are_those_of_any_new_file(path):
    save_model(path, **parts())
    other = path.parent / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_link_is_kept(path, tmp_path):
    target = tmp_path / "v1.safetensors"
    target.touch()
    path.symlink_to(target)
    save_model(path, **parts())
    assert path.is_symlink()
    assert load_model(target).model == "gru4rec"


def nan_weights():
    tensors = make_tensors(make_config())
    tensors["rnn.bias_hh_l0"][3] = np.nan
    return tensors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "sasrec"}, "model is 'sasrec'; expected 'gru4rec'"),
        ({"config": make_config() | {"cell": "mlp"}, "tensors": {}}, "cell='mlp'"),
        ({"config": make_config() | {"hidden_size": 0}, "tensors": {}}, "hidden_size=0"),
        (
            {"config": make_config(embedding="tied") | {"embedding_dim": 3}},
            "no tensor projection.bias, projection.weight",
        ),
        ({"tensors": {}}, "no tensor embedding.weight, output.bias"),
        ({"tensors": make_tensors(make_config()) | {"x": np.zeros(1)}}, "unexpected tensor x"),
        (
            {"tensors": make_tensors(make_config()) | {"output.bias": np.zeros(3, np.float32)}},
            r"output.bias is float32 of shape \(3,\); expected float32 of shape \(7,\)",
        ),
        (
            {"tensors": make_tensors(make_config()) | {"output.bias": np.zeros(7)}},
            "output.bias is float64",
        ),
        ({"tensors": nan_weights()}, "rnn.bias_hh_l0 holds NaN"),
        ({"item_ids": np.arange(6)}, "6 item ids; expected 7 from n_items"),
        ({"item_ids": [1, 2, 3, 3, 4, 5, 6]}, "id 3 occurs more than once"),
    ],
)
def test_save_refuses_what_load_would(path, changes, message):
    with pytest.raises(ValueError, match=message):
        save_model(path, **parts(**changes))
    assert os.listdir(path.parent) == []


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=r"load_model: no file .*model\.safetensors"):
        load_model(path)
    with pytest.raises(IsADirectoryError):
        load_model(path.parent)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_file(path, keep):
    save_model(path, **parts())
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated or no safetensors"):
        load_model(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a pickle, say" * 50, b"SessionId,ItemId\n1,2\n"])
def test_foreign_file(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        load_model(path)


def test_safetensors_of_another_program(path):
    save_file({"w": np.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="safetensors file without 'seqrec_fast'"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version 2; this version of seqrec_fast reads up to 1"),
        ({"format_version": "new"}, "format_version 'new'"),
        ({"model": "sasrec"}, r"model\.safetensors: model is 'sasrec'"),
        ({"config": 3}, "config 3; expected a dict"),
        ({"config": make_config(n_items=8)}, r"output.bias is float32 of shape \(7,\); expected"),
    ],
)
def test_header_of_a_file(path, changes, message):
    header, tensors = raw_parts()
    raw_file(path, header | changes, tensors)
    with pytest.raises(ValueError, match=message):
        load_model(path)


@pytest.mark.parametrize("metadata", ["no json", "[1]"])
def test_metadata_that_is_no_header(path, metadata):
    save_file({"w": np.zeros(3)}, path, metadata={"seqrec_fast": metadata})
    with pytest.raises(ValueError, match=r"model\.safetensors has metadata"):
        load_model(path)


def utf8(*offsets):
    return {
        "item_ids.utf8": np.frombuffer(b"abcdefg", np.uint8),
        "item_ids.offsets": np.array(offsets),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output.bias": np.full(7, np.inf, np.float32)}, "output.bias holds NaN or infinity"),
        ({"output.bias": np.zeros(7, np.float16)}, "output.bias is F16; expected F32"),
        ({"item_ids": None}, "has no item ids"),
        ({"item_ids": np.zeros(7, np.int64)}, "id 0 occurs more than once"),
        ({"item_ids": np.arange(7.0)}, "item_ids is float64"),
        ({"item_ids": None, **utf8(0, 1, 2, 3, 4, 5, 6, 6)}, "item_ids.offsets do not rise"),
        ({"item_ids": None, **utf8(0, 2, 1, 3, 4, 5, 6, 7)}, "item_ids.offsets do not rise"),
        ({"item_ids": None, **utf8(0, 7)}, "1 item ids; expected 7"),
        (
            {"item_ids": None, **utf8(*range(8)), "item_ids.utf8": np.full(7, 255, np.uint8)},
            "no UTF-8",
        ),
    ],
)
def test_tensors_of_a_file(path, changes, message):
    header, tensors = raw_parts()
    tensors = {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}
    raw_file(path, header, tensors)
    with pytest.raises(ValueError, match=rf"model\.safetensors.*{message}"):
        load_model(path)


def test_full_disk_leaves_the_old_file(path, monkeypatch):
    save_model(path, **parts())
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_model(path, **parts(item_ids=np.arange(7)))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_disk_that_is_full_half_way(path):
    program = f"""
import resource, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_io import parts, make_config, save_model
whole = parts(config=make_config(n_items=5000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    save_model({os.fspath(path)!r}, **whole)
except OSError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "File too large" in run.stdout, run.stderr
    assert os.listdir(path.parent) == []


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        save_model(tmp_path / "no" / "model.safetensors", **parts())


def test_interruption_leaves_nothing(path):
    def write():
        with replacing(path) as temporary:
            with open(temporary, "wb") as stream:
                stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert os.listdir(path.parent) == []


def test_a_killed_writer_damages_nothing_and_the_next_one_cleans_up(path):
    code = (
        "import os, signal, sys; from seqrec_fast.io import replacing\n"
        "with replacing(sys.argv[1]) as name:\n"
        "    open(name, 'wb').write(b'half'); os.kill(os.getpid(), signal.SIGTERM)"
    )
    path.write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGTERM
    assert path.read_bytes() == b"old"
    assert len(os.listdir(path.parent)) == 2
    others = [path.parent / name for name in ("other.0123abcd.part", f"{path.name}.12.part")]
    for other in others:
        other.write_bytes(b"")
    with replacing(path) as name, open(name, "wb") as stream:
        stream.write(b"new")
        with replacing(path) as later, open(later, "wb") as inner:
            inner.write(b"first")  # and leaves the file of the other one, which lives
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"new"
    assert set(path.parent.iterdir()) == {path, *others}


def test_special_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"), replacing(tmp_path / "pipe"):
        pass
