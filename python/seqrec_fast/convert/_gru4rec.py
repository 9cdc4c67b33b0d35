"""Checkpoints of the official PyTorch GRU4Rec."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast._model_format import check_model
from seqrec_fast.convert._pandas_records import ids_by_position
from seqrec_fast.convert._pickle_records import Record
from seqrec_fast.convert._torch_archive import TorchArchive
from seqrec_fast.io import ModelFile, save_model

Array = NDArray[np.float32]

_FUNCTION = "convert.gru4rec: "
_CLASSES = {"GRU4Rec", "GRU4RecModel", "GRUEmbedding", "SampleCache", "SessionDataIterator"}
_STORAGES = {f"{kind}Storage" for kind in ("Bool", "Double", "Float", "Half", "Int", "Long")}
_ALLOWED = {
    "__builtin__": {"bytearray", "bytes", "getattr", "set", "slice"},
    "_codecs": {"encode"},
    "collections": {"OrderedDict"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "pandas": {"Index", "NA", "Series", "StringDtype"},
    "pandas._libs.arrays": {"__pyx_unpickle_NDArrayBacked"},
    "pandas._libs.missing": {"NA"},
    "pandas.arrays": {"ArrowStringArray", "StringArray"},
    "pandas.core.arrays.string_": {"StringArray", "StringArrayNumpySemantics", "StringDtype"},
    "pandas.core.arrays.string_arrow": {"ArrowStringArray", "ArrowStringArrayNumpySemantics"},
    "pandas.core.indexes.base": {"Index", "_new_Index"},
    "pandas.core.indexes.numeric": {"Int64Index", "UInt64Index"},
    "pandas.core.internals.managers": {"SingleBlockManager"},
    "pandas.core.series": {"Series"},
    "pyarrow.lib": {"_restore_array", "py_buffer", "type_for_alias"},
    "torch": {"device", *_STORAGES},
    "torch._utils": {"_rebuild_parameter", "_rebuild_tensor_v2"},
    "torch.nn.modules.container": {"ModuleList"},
    "torch.nn.modules.dropout": {"Dropout"},
    "torch.nn.modules.rnn": {"GRUCell"},
    "torch.nn.modules.sparse": {"Embedding"},
}


def gru4rec(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> ModelFile:
    """Turn a checkpoint of the official PyTorch GRU4Rec into a model file.

    The checkpoint is what ``GRU4Rec.savemodel`` of that program writes: a pickle of the whole
    object. It is read as data, no code in it is run, and a name that has no place in it is an
    error. Neither that program nor PyTorch nor pandas needs to be installed.

    The scores are those of its ``model.forward(..., training=False)``, which it ranks by: linear
    in the last hidden state, with the bias of each item. The ELU of its loss ``bpr-max`` and the
    softmax act in training only and keep the order; they are not converted. Neither is what
    concerns training: optimiser, loss, sampling. The model file keeps the two dropout rates.

    Parameters
    ----------
    path : str or path-like
        The checkpoint, with a constrained, a separate or no embedding. Layers of different sizes
        become layers of the largest size, filled up with units that stay 0.
    out : str or path-like
        The model file. It appears when it is complete; what stood under the name is there until
        then.

    Returns
    -------
    ModelFile
        What was written. Its item ids are those of the training log. For training on:
        ``GRU4Rec(**file.config)`` and ``load_state_dict`` of its tensors.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If the file is damaged or no such checkpoint, refers to other classes or functions, its
        tensors do not fit its sizes or are not finite, or it has several layers and no embedding
        (a model that the official program can make but not run).
    OSError
        If the model file cannot be written.

    Examples
    --------
    >>> from seqrec_fast import convert, load
    >>> convert.gru4rec("gru4rec.pt", "model.safetensors")  # doctest: +SKIP
    >>> items, scores = load("model.safetensors").recommend([[214, 733]])  # doctest: +SKIP
    """
    name = os.fspath(path)
    where = f"{_FUNCTION}{name}: "
    if os.path.exists(out) and os.path.exists(name) and os.path.samefile(name, out):
        raise ValueError(f"{_FUNCTION}out is {os.fspath(out)}, the checkpoint; expected another")
    with TorchArchive(name, _FUNCTION) as archive:
        saved = _state(archive.content(_is_allowed), "GRU4Rec", where)
        iterator = _state(saved.get("data_iterator"), "SessionDataIterator", where)
        ids = ids_by_position(iterator.get("itemidmap"), f"{where}itemidmap")
        model = _state(saved.get("model"), "GRU4RecModel", where)
        config, sizes = _config(model, where)
        weights = _official_weights(archive, model, _official_shapes(config, sizes), where)
    tensors = _tensors(config, sizes, weights)
    check_model(where, "gru4rec", config, tensors, ids)
    save_model(out, "gru4rec", config, tensors, ids)
    return ModelFile("gru4rec", config, tensors, ids)


def _is_allowed(name: str) -> bool:
    module, _, attribute = name.partition(" ")
    if module.rpartition(".")[2] in ("gru4rec_pytorch", "__main__"):
        return attribute in _CLASSES
    return attribute in _ALLOWED.get(module, ())


def _state(value: Any, kind: str, where: str) -> dict[str, Any]:
    """Return the attributes of an object of the official program."""
    if not isinstance(value, Record) or value.name.partition(" ")[2] != kind:
        raise ValueError(
            f"{where}no {kind} where one is expected; the file is no checkpoint of the official "
            "PyTorch GRU4Rec (GRU4Rec.savemodel)"
        )
    if not isinstance(value.state, dict):
        raise ValueError(f"{where}{kind} has no attributes")
    return value.state


def _config(model: dict[str, Any], where: str) -> tuple[dict[str, Any], list[int]]:
    """Return our configuration, and the size of each layer."""
    sizes, n_items, width = (model.get(key) for key in ("layers", "n_items", "embedding"))
    if not isinstance(sizes, list) or not sizes or not all(_is_size(size) for size in sizes):
        raise ValueError(f"{where}layers is not a list of sizes above 0")
    if not _is_size(n_items):
        raise ValueError(f"{where}n_items is not an integer above 0")
    hidden_size = max(sizes)
    if model.get("constrained_embedding"):
        embedding, width = "tied", hidden_size
    elif width:
        embedding = "separate"
    else:
        embedding, width = "none", hidden_size
        if len(sizes) > 1:
            raise ValueError(
                f"{where}has {len(sizes)} layers without an embedding; expected 1 layer, because "
                "the official program fails to run such a model"
            )
    if not _is_size(width):
        raise ValueError(f"{where}embedding is not an integer of at least 0")
    config = {
        "cell": "gru",
        "n_items": n_items,
        "embedding": embedding,
        "embedding_dim": width,
        "hidden_size": hidden_size,
        "num_layers": len(sizes),
        "nonlinearity": "tanh",
        "reset_after": embedding != "none",
        "dropout_embedding": _dropout(model, "dropout_p_embed", where),
        "dropout_hidden": _dropout(model, "dropout_p_hidden", where),
    }
    return config, sizes


def _dropout(model: dict[str, Any], key: str, where: str) -> float:
    rate = model.get(key)
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ValueError(f"{where}{key} is not a number of at least 0 and below 1")
    return float(rate)


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _official_shapes(config: dict[str, Any], sizes: list[int]) -> dict[str, tuple[int, ...]]:
    """Return the parameters that the official model has."""
    n_items, width = config["n_items"], config["embedding_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "Wy.weight": (n_items, sizes[-1]),
        "By.weight": (n_items, 1),
    }
    if config["embedding"] == "none":
        return shapes | {
            "GE.Wx0.weight": (n_items, 3 * width),
            "GE.Wrz0": (width, 2 * width),
            "GE.Wh0": (width, width),
            "GE.Bh0": (3 * width,),
        }
    below = sizes[-1]
    if config["embedding"] == "separate":
        shapes["E.weight"] = (n_items, width)
        below = width
    for layer, size in enumerate(sizes):
        shapes[f"G.{layer}.weight_ih"] = (3 * size, below)
        shapes[f"G.{layer}.weight_hh"] = (3 * size, size)
        shapes[f"G.{layer}.bias_ih"] = shapes[f"G.{layer}.bias_hh"] = (3 * size,)
        below = size
    return shapes


def _parameter(model: dict[str, Any], name: str, where: str) -> Any:
    """Return a parameter of the official model by its name, such as ``"G.0.weight_ih"``."""
    *modules, last = name.split(".")
    state: Any = model
    found: Any = None
    for kind, key in (*(("_modules", module) for module in modules), ("_parameters", last)):
        members = state.get(kind) if isinstance(state, dict) else None
        if isinstance(members, Record) and members.name == "collections OrderedDict":
            members = members.items
        if not isinstance(members, dict) or key not in members:
            raise ValueError(f"{where}the model has no parameter {name}")
        found = members[key]
        state = found.state if isinstance(found, Record) else None
    return found


def _official_weights(
    archive: TorchArchive, model: dict[str, Any], shapes: dict[str, tuple[int, ...]], where: str
) -> dict[str, Array]:
    weights = {}
    for name, shape in shapes.items():
        array = archive.array(_parameter(model, name, where), name)
        if array.shape != shape:
            raise ValueError(
                f"{where}{name} has shape {array.shape}; expected {shape} from the sizes of the "
                "model"
            )
        weights[name] = array
    return weights


def _tensors(
    config: dict[str, Any], sizes: list[int], weights: dict[str, Array]
) -> dict[str, Array]:
    """Return our tensors, from weights whose shapes have been checked."""
    n_items, hidden_size = config["n_items"], config["hidden_size"]
    table = _padded(weights["Wy.weight"], n_items, hidden_size)
    tensors = {"output.bias": weights["By.weight"].reshape(-1)}
    if config["embedding"] == "none":
        return tensors | {"output.weight": table} | _reset_before_layer(weights)
    if config["embedding"] == "tied":
        tensors["embedding.weight"] = table
    else:
        tensors["output.weight"] = table
        tensors["embedding.weight"] = weights["E.weight"]
    for layer, size in enumerate(sizes):
        columns = {
            "weight_ih": hidden_size if layer else config["embedding_dim"],
            "weight_hh": hidden_size,
        }
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            gates = weights[f"G.{layer}.{name}"].reshape(3, size, -1)
            gates = _padded(gates, 3, hidden_size, columns.get(name, 1))
            shape = (-1, columns[name]) if name in columns else (-1,)
            tensors[f"rnn.{name}_l{layer}"] = gates.reshape(shape)
    return tensors


def _padded(array: Array, *shape: int) -> Array:
    """Fill up with zeros: a unit whose weights are all 0 keeps its initial state, 0."""
    padded = np.zeros(shape, np.float32)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def _reset_before_layer(weights: dict[str, Array]) -> dict[str, Array]:
    """Return the layer of a model without an embedding.

    Its gates stand in the order n, r, z, its z is the share of the new state where ours is that
    of the old one, and 1 - sigmoid(a) = sigmoid(-a).
    """
    n, r, z = np.split(weights["GE.Wx0.weight"], 3, axis=1)
    bias_n, bias_r, bias_z = np.split(weights["GE.Bh0"], 3)
    hidden_r, hidden_z = np.split(weights["GE.Wrz0"].T, 2)
    bias = np.concatenate([bias_r, -bias_z, bias_n])
    return {
        "input_gates.weight": np.concatenate([r, -z, n], axis=1),
        "rnn.weight_hh_l0": np.concatenate([hidden_r, -hidden_z, weights["GE.Wh0"].T]),
        "rnn.bias_ih_l0": bias,
        "rnn.bias_hh_l0": np.zeros_like(bias),
    }
