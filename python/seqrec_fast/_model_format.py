"""Which tensors a model consists of, and the checks that a model file has to pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast._click_model_format import CLICK_MODELS, click_model_shapes
from seqrec_fast._theme_mixture_format import theme_mixture_shapes
from seqrec_fast.data.vocabulary import Ids, ItemVocabulary

#: Gates of each cell: the rows of its weights are this many times the hidden size.
GATES = {"gru": 3, "lstm": 4, "rnn": 1}
EMBEDDINGS = ("separate", "tied", "none")
NONLINEARITIES = ("tanh", "relu")


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


def gru4rec_shapes(config: Mapping[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    """Return the tensors that a configuration calls for."""
    choices: dict[str, tuple[str, ...]] = {"cell": tuple(GATES), "embedding": EMBEDDINGS}
    if config.get("cell") == "rnn":
        choices["nonlinearity"] = NONLINEARITIES
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
    shapes: dict[str, Any] = {"output.bias": (n_items,)}
    if embedding == "none":
        shapes["input_gates.weight"] = (n_items, gates)
    else:
        shapes["embedding.weight"] = (n_items, width)
        shapes["rnn.weight_ih_l0"] = (gates, width)
    if embedding != "tied":
        shapes["output.weight"] = (n_items, hidden)
    elif width != hidden:
        shapes["projection.weight"], shapes["projection.bias"] = (width, hidden), (width,)
    for layer in range(config["num_layers"]):
        if layer:
            shapes[f"rnn.weight_ih_l{layer}"] = (gates, hidden)
        shapes[f"rnn.weight_hh_l{layer}"] = (gates, hidden)
        shapes[f"rnn.bias_ih_l{layer}"] = shapes[f"rnn.bias_hh_l{layer}"] = (gates,)
    return shapes


_SHAPES: dict[str, Callable[[Mapping[str, Any], str], dict[str, tuple[int, ...]]]] = {
    "gru4rec": gru4rec_shapes,
    "theme_mixture": theme_mixture_shapes,
    **{model: partial(click_model_shapes, model) for model in CLICK_MODELS},
}
