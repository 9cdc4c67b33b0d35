"""What the torch-free and the PyTorch side of a theme mixture have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Length that embeddings are brought to before the gate; with it a softmax can become sharp.
THEME_SCALE = 8.0
TASKS = ("next-item", "click-through")


def theme_mixture_shapes(config: Mapping[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    """Return the tensors that a configuration calls for."""
    if config.get("task") not in TASKS:
        raise ValueError(
            f"{where}config has task={config.get('task')!r}; expected {' or '.join(TASKS)}"
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
