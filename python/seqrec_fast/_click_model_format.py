"""Configurations of the click-through models, and the tensors that they call for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqrec_fast.augru import MODES

Shapes = dict[str, tuple[int, ...]]

#: Activations of an MLP, and the tensors that some of them have for each layer.
ACTIVATIONS = ("relu", "prelu", "sigmoid", "dice")
ACTIVATION_TENSORS = {"prelu": ("weight",), "dice": ("alpha", "running_mean", "running_var")}
_CHOICES = {
    "cell": ("gru", "lstm", "augru"),
    "attention_mode": MODES,
    "activation": ACTIVATIONS,
}
_SIZES = ("n_items", "embedding_dim", "hidden_size")
_LISTS = ("attention_sizes", "head_sizes")
_RATES = ("dropout_embedding", "dropout")
_COMMON = ("n_items", "embedding_dim", "head_sizes", "activation", *_RATES)

#: What the configuration of each model holds.
CLICK_MODELS = {
    "din": (*_COMMON, "attention_sizes", "softmax"),
    "dien": (*_COMMON, "hidden_size", "attention_mode", "auxiliary_weight"),
    "recurrent_ctr": (*_COMMON, "hidden_size", "cell", "attention_mode"),
}


def check_click_config(where: str, model: str, config: Mapping[str, Any]) -> None:
    """Raise ValueError, with `where` in front, unless all entries of a model are in range."""
    for name in CLICK_MODELS[model]:
        value = config.get(name)
        if (expected := _expected(name, value)) is not None:
            raise ValueError(f"{where}{name} is {value!r}; expected {expected}")
    if config.get("auxiliary_weight") and config["hidden_size"] != config["embedding_dim"]:
        raise ValueError(
            f"{where}hidden_size is {config['hidden_size']}, embedding_dim "
            f"{config['embedding_dim']}; the auxiliary loss expects them to be equal"
        )


def _expected(name: str, value: Any) -> str | None:
    """Return what an entry is expected to be if it is not that."""
    if name in _CHOICES:
        return None if value in _CHOICES[name] else f"one of {', '.join(_CHOICES[name])}"
    if name in _SIZES:
        return None if _is_size(value) else "an integer of at least 1"
    if name in _LISTS:
        good = isinstance(value, list) and len(value) > 0 and all(map(_is_size, value))
        return None if good else "a list of one integer or more, of at least 1"
    if name == "softmax":
        return None if isinstance(value, bool) else "True or False"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _RATES:
        return None if number and 0 <= value < 1 else f"0 <= {name} < 1"
    return None if number and 0 <= value < math.inf else "a number of at least 0"


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def click_model_shapes(model: str, config: Mapping[str, Any], where: str) -> Shapes:
    """Return the tensors that a configuration calls for."""
    check_click_config(f"{where}config: ", model, config)
    width, activation = config["embedding_dim"], config["activation"]
    shapes: Shapes = {"embedding.weight": (config["n_items"], width)}
    interest = width
    if model == "din":
        shapes |= _mlp("attention.mlp.", 4 * width, config["attention_sizes"], activation)
    else:
        interest = hidden = config["hidden_size"]
        if model == "dien":
            shapes |= _rnn("extractor.", width, hidden) | _rnn("evolution.", hidden, hidden)
            shapes["attention.weight"] = (hidden, width)
        else:
            shapes |= _rnn("rnn.", width, hidden, 4 if config["cell"] == "lstm" else 3)
            if config["cell"] == "augru":
                shapes["attention.weight"] = (width, width)
    return shapes | _mlp("head.", 3 * width + interest, config["head_sizes"], activation)


def _rnn(prefix: str, input_size: int, hidden_size: int, gates: int = 3) -> Shapes:
    rows = gates * hidden_size
    return {
        f"{prefix}weight_ih_l0": (rows, input_size),
        f"{prefix}weight_hh_l0": (rows, hidden_size),
        f"{prefix}bias_ih_l0": (rows,),
        f"{prefix}bias_hh_l0": (rows,),
    }


def _mlp(prefix: str, input_size: int, hidden_sizes: Sequence[int], activation: str) -> Shapes:
    shapes: Shapes = {}
    before = input_size
    for number, size in enumerate([*hidden_sizes, 1]):
        shapes[f"{prefix}layers.{number}.weight"] = (size, before)
        shapes[f"{prefix}layers.{number}.bias"] = (size,)
        if number < len(hidden_sizes):
            for name in ACTIVATION_TENSORS.get(activation, ()):
                shapes[f"{prefix}activations.{number}.{name}"] = (size,)
        before = size
    return shapes
