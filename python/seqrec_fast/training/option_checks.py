"""Checks of options: sizes and numbers of any type, NumPy's included, become Python's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqrec_fast._checks import checked_flag, checked_int, checked_number


def check_sizes(options: Any, names: Iterable[str]) -> None:
    """Bring sizes, where they are given, and the seed to ints; raise for what is out of range."""
    function = type(options).__name__
    for name in names:
        if (value := getattr(options, name)) is not None:
            object.__setattr__(options, name, checked_int(function, name, value, 1))
    object.__setattr__(options, "seed", checked_int(function, "seed", options.seed))


def check_flags(options: Any, names: Iterable[str]) -> None:
    """Bring flags to bools; raise TypeError for what is none."""
    for name in names:
        value = checked_flag(type(options).__name__, name, getattr(options, name))
        object.__setattr__(options, name, value)


def check_numbers(options: Any, names: Iterable[str]) -> None:
    """Bring NumPy's numbers to Python's; raise for what is none, or not finite."""
    for name in names:
        value = getattr(options, name)
        checked_number(type(options).__name__, name, value, finite=True)
        if isinstance(value, np.generic):
            object.__setattr__(options, name, value.item())
