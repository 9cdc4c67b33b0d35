"""Checks of arguments: what came, and what was expected."""

from __future__ import annotations

import operator
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = sys.float_info.max


def checked_int(
    function: str, argument: str, value: Any, least: int = 0, most: int | None = None
) -> int:
    """Return an integer of any kind as an int, inside the limits and of 64 bits."""
    if isinstance(value, bool):
        raise TypeError(f"{function}: {argument} is {value}; expected an int")
    try:
        # An int may be a size that a compiler keeps open, which operator.index would fix.
        number = value if isinstance(value, int) else operator.index(value)
    except TypeError:
        raise TypeError(f"{function}: {argument} is {value!r}; expected an int") from None
    if most is not None and not least <= number <= most:
        raise ValueError(f"{function}: {argument} is {number}; expected {least} to {most}")
    if number < least:
        expected = "0 or more" if least == 0 else f"at least {least}"
        raise ValueError(f"{function}: {argument} is {number}; expected {expected}")
    if most is None and number >= 2**63:
        raise ValueError(f"{function}: {argument} is {number}; expected an int of 64 bits")
    return number


def checked_number(function: str, argument: str, value: Any, *, finite: bool = False) -> float:
    """Return a number of any kind as a float."""
    if isinstance(value, str | bytes):  # float() would read it
        raise TypeError(f"{function}: {argument} is {value!r}; expected a number")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{function}: {argument} is {value!r}; expected a number") from None
    if finite and not -_LARGEST <= number <= _LARGEST:  # math.isfinite does not compile
        raise ValueError(f"{function}: {argument} is {number}; expected a finite number")
    return number


def checked_flag(function: str, argument: str, value: Any) -> bool:
    """Return a bool, of Python or NumPy, as it is."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{function}: {argument} is {value!r}; expected True or False")
    return bool(value)


def check_choice(function: str, argument: str, value: Any, known: tuple[str | None, ...]) -> None:
    """Raise unless the value is one of those that are known."""
    if value not in known:
        wrong = ValueError if isinstance(value, str) else TypeError
        expected = ", ".join(map(str, known))
        raise wrong(f"{function}: {argument} is {value!r}; expected one of {expected}")


def check_items(caller: str, items: NDArray[Any], n_items: int, name: str = "items") -> None:
    """Raise ValueError if an item is not in the catalogue."""
    if items.size and not (items.min() >= 0 and items.max() < n_items):
        raise ValueError(
            f"{caller}: {name} from {items.min()} to {items.max()}; expected 0 to {n_items - 1} "
            f"from n_items={n_items}"
        )
