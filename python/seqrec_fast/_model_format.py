"""Which tensors a model consists of, and the checks that a model file has to pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast.data.vocabulary import Ids, ItemVocabulary

#: Gates of each cell: the rows of its weights are this many times the hidden size.
GATES = {"gru": 3, "lstm": 4, "rnn": 1}
EMBEDDINGS = ("separate", "tied", "none")


def check_model(
    where: str,
    model: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    item_ids: Ids,
) -> None:
    """Raise ValueError unless names, shapes, dtypes, values and ids of a model fit together.

    ``where`` is what the message begins with.
    """
    if model not in _SHAPES:
        known = " or ".join(map(repr, _SHAPES))
        raise ValueError(f"{where}model is {model!r}; expected {known}")
    expected = _SHAPES[model](config, where)
    missing = sorted(set(expected) - set(tensors))
    if missing:
        raise ValueError(f"{where}no tensor {', '.join(missing)}")
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise ValueError(f"{where}unexpected tensor {', '.join(unknown)}")
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise ValueError(
                f"{where}{name} is {tensor.dtype} of shape {tensor.shape}; expected float32 of "
                f"shape {shape} from the configuration"
            )
        # NaN and infinity both show in the extremes, without an array of flags
        if tensor.size and not (np.isfinite(tensor.min()) and np.isfinite(tensor.max())):
            raise ValueError(f"{where}{name} holds NaN or infinity; expected finite weights")
    if len(item_ids) != config["n_items"]:
        raise ValueError(
            f"{where}{len(item_ids)} item ids; expected {config['n_items']} from n_items"
        )
    try:
        ItemVocabulary(item_ids)
    except ValueError as error:
        raise ValueError(f"{where}item ids: {error}") from error


def _gru4rec_shapes(config: Mapping[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    """Return the tensors that a configuration calls for."""
    choices: dict[str, tuple[str, ...]] = {"cell": tuple(GATES), "embedding": EMBEDDINGS}
    if config.get("cell") == "rnn":
        choices["nonlinearity"] = ("tanh", "relu")
    for name, values in choices.items():
        if config.get(name) not in values:
            raise ValueError(
                f"{where}config has {name}={config.get(name)!r}; expected {' or '.join(values)}"
            )
    sizes = ["n_items", "hidden_size", "num_layers"]
    if config["embedding"] != "none":
        sizes.append("embedding_dim")
    for name in sizes:
        value = config.get(name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{where}config has {name}={value!r}; expected an integer above 0")
    n_items, hidden, embedding = config["n_items"], config["hidden_size"], config["embedding"]
    gates, width = GATES[config["cell"]] * hidden, config.get("embedding_dim")
    if embedding == "tied" and width != hidden:
        raise ValueError(
            f"{where}config has embedding_dim={width}; expected hidden_size={hidden}, because the "
            "embedding is tied to the output"
        )
    shapes: dict[str, Any] = {"output.bias": (n_items,)}
    if embedding == "none":
        shapes["input_gates.weight"] = (n_items, gates)
    else:
        shapes["embedding.weight"] = (n_items, width)
        shapes["rnn.weight_ih_l0"] = (gates, width)
    if embedding != "tied":
        shapes["output.weight"] = (n_items, hidden)
    for layer in range(config["num_layers"]):
        if layer:
            shapes[f"rnn.weight_ih_l{layer}"] = (gates, hidden)
        shapes[f"rnn.weight_hh_l{layer}"] = (gates, hidden)
        shapes[f"rnn.bias_ih_l{layer}"] = shapes[f"rnn.bias_hh_l{layer}"] = (gates,)
    return shapes


def _theme_mixture_shapes(config: Mapping[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    """Return the tensors that a configuration calls for."""
    if config.get("task") not in ("next-item", "click-through"):
        raise ValueError(
            f"{where}config has task={config.get('task')!r}; expected 'next-item' or "
            "'click-through'"
        )
    for name, least in (
        ("n_items", 1), ("hidden_size", 1), ("n_themes", 0), ("k", 1), ("session_window", 1)
    ):  # fmt: skip
        value = config.get(name)
        if not isinstance(value, int) or value < least:
            raise ValueError(
                f"{where}config has {name}={value!r}; expected an integer of at least {least}"
            )
    n_items, hidden, n_themes = config["n_items"], config["hidden_size"], config["n_themes"]
    if config["k"] > max(n_themes, 1):
        raise ValueError(f"{where}config has k={config['k']}; expected 1 to n_themes={n_themes}")
    if not isinstance(gap := config.get("session_gap"), int | float) or not gap > 0:
        raise ValueError(f"{where}config has session_gap={gap!r}; expected a number above 0")
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.weight": (n_items, hidden),
        "fusion.weight": (hidden, (3 if n_themes else 2) * hidden),
        "fusion.bias": (hidden,),
        "output.bias": (n_items,),
    }
    if n_themes:
        shapes["gate.weight"] = (n_themes, hidden)
    for rnn in ("global_rnn", "theme_rnn") if n_themes else ("global_rnn",):
        shapes[f"{rnn}.weight_ih_l0"] = shapes[f"{rnn}.weight_hh_l0"] = (3 * hidden, hidden)
        shapes[f"{rnn}.bias_ih_l0"] = shapes[f"{rnn}.bias_hh_l0"] = (3 * hidden,)
    if config["task"] == "click-through":
        shapes |= {"head.0.weight": (hidden, 3 * hidden), "head.0.bias": (hidden,)}
        shapes |= {"head.2.weight": (1, hidden), "head.2.bias": (1,)}
    return shapes


_SHAPES = {"gru4rec": _gru4rec_shapes, "theme_mixture": _theme_mixture_shapes}
