"""Arguments of the models: sizes of any integer type, items that are in the catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with NumPy's numbers as Python's, which a model file can hold."""
    return {
        name: [_plain(one) for one in value] if isinstance(value, list) else _plain(value)
        for name, value in config.items()
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def check_in_catalogue(function: str, n_items: int, **arguments: Tensor) -> None:
    """Raise IndexError for an item that is not in the catalogue, by the name of the argument.

    On the CPU alone, where it costs no waiting, and not in a compiled graph.
    """
    if torch.compiler.is_compiling():
        return
    for name, items in arguments.items():
        # subclasses, such as fake tensors, may have no values
        if type(items) is not Tensor or items.device.type != "cpu" or not items.numel():
            continue
        if items.dtype not in (torch.int64, torch.int32):
            continue
        least, most = (int(end) for end in items.aminmax())
        if least < 0 or most >= n_items:
            raise IndexError(
                f"{function}: {name} from {least} to {most}; expected 0 to {n_items - 1} from "
                f"n_items={n_items}"
            )
