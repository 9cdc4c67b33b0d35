"""From a PyTorch state dict and an embedding to what the recurrent kernels read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core

Array = NDArray[Any]

_PACKED: dict[str, Any] = {"float32": _core.PackedRnnF32, "float64": _core.PackedRnnF64}
STACKS: dict[str, Any] = {"float32": _core.RnnStackF32, "float64": _core.RnnStackF64}
# Of weights and arithmetic; states and outputs are float32.
REDUCED = ("bfloat16", "int8")
PRECISIONS = (*_PACKED, *REDUCED)
#: Of a layer in one direction, without its suffix, in the order in which kernels take them.
RNN_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
_PARAMETER = re.compile(rf"({'|'.join(RNN_PARAMETERS)})_l(?P<layer>\d+)(?P<reverse>_reverse)?")


def array_precision(precision: str) -> str:
    """Dtype of inputs, states and outputs."""
    return "float32" if precision in REDUCED else precision


def working_precision(hidden_size: int, precision: str) -> str:
    """Dtype of the arithmetic's arrays: small layers take float64, see _core.FLOAT64_UNITS."""
    if precision in REDUCED:
        return "float32"
    return "float64" if hidden_size <= _core.FLOAT64_UNITS else precision


def pack_state_dict(
    function: str, cell: str, arrays: Mapping[str, ArrayLike], precision: str, prefix: str
) -> tuple[list[Any], bool]:
    """
    Packed weights per layer and direction, and whether there are two directions.

    Raises
    ------
    ValueError
        As :meth:`GRU.from_state_dict` says; `function` names it.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"{function}: precision is {precision!r}; expected {' or '.join(map(repr, PRECISIONS))}"
        )
    own = {key[len(prefix) :]: np.asarray(value) for key, value in arrays.items()
           if key.startswith(prefix)}  # fmt: skip
    if "weight_hh_l0" not in own:
        raise ValueError(
            f"{function}: arrays have no '{prefix}weight_hh_l0'; "
            f"they have {', '.join(map(str, arrays)) or 'nothing'}"
        )
    bidirectional = "weight_hh_l0_reverse" in own
    packed: list[Any] = []
    while f"weight_hh_l{len(packed) // (1 + bidirectional)}" in own:
        layer, reverse = divmod(len(packed), 1 + bidirectional)
        suffix = f"_l{layer}" + ("_reverse" if reverse else "")
        packed.append(_pack(function, cell, own, prefix, suffix, precision))
    _check_all_read(function, own, prefix, len(packed) // (1 + bidirectional), bidirectional)
    return packed, bidirectional


def _check_all_read(
    function: str, own: Mapping[str, Array], prefix: str, layers: int, bidirectional: bool
) -> None:
    """Raise ValueError for a layer or direction that follows one that is not there."""
    for key in own:
        match = _PARAMETER.fullmatch(key)
        if match is None:
            continue
        if match["reverse"] and not bidirectional:
            missing = "weight_hh_l0_reverse"
        elif int(match["layer"]) >= layers:
            missing = f"weight_hh_l{layers}"
        else:
            continue
        raise ValueError(f"{function}: arrays have '{prefix}{key}' but no '{prefix}{missing}'")


def _pack(
    function: str, cell: str, own: Mapping[str, Array], prefix: str, suffix: str, precision: str
) -> Any:
    parameters: list[Any] = []
    for parameter in RNN_PARAMETERS:
        key = parameter + suffix
        value = own.get(key)
        if value is not None:
            if not np.isfinite(value).all():
                raise ValueError(f"{function}: '{prefix}{key}' has a value that is not finite")
            value = np.ascontiguousarray(value, array_precision(precision))
        elif parameter == "weight_hh" or (parameter == "weight_ih" and suffix != "_l0"):
            raise ValueError(f"{function}: arrays have no '{prefix}{key}'")
        parameters.append(value)
    units = parameters[1].shape[0] // _core.gate_count(cell)
    working = working_precision(units, precision)
    parameters = [None if p is None else p.astype(working, copy=False) for p in parameters]
    return _PACKED[working](
        cell,
        *parameters,
        float32_states=working != array_precision(precision),
        precision=precision if precision in REDUCED else "full",
    )


def checked_embedding(
    function: str, embedding: ArrayLike, input_size: int, dtype: np.dtype[Any]
) -> Array:
    """`embedding` as a contiguous (V, input_size) array of finite values."""
    table = np.asarray(embedding)
    if table.ndim != 2 or table.shape[1] != input_size or not np.isfinite(table).all():
        raise ValueError(
            f"{function}: embedding has shape {table.shape}; expected (V, {input_size}) finite "
            "values"
        )
    return np.ascontiguousarray(table, dtype)


def gate_tables(first_layer: list[Any], embedding: Array, budget: int) -> list[Array]:
    """Input gates of all items for each direction; none if they take more than `budget` bytes."""
    width = first_layer[0].gate_table_width
    if not first_layer[0].has_input_weights:
        return []
    if len(first_layer) * len(embedding) * width * embedding.itemsize > budget:
        return []
    tables = [np.empty((len(embedding), width), embedding.dtype) for _ in first_layer]
    for packed, table in zip(first_layer, tables, strict=True):
        packed.gate_table(embedding, table)
    return tables
