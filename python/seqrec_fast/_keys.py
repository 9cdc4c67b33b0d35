"""Keys that sessions and users are named by: ints of 64 bits or strs."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = int | str
Keys = Sequence[Key] | NDArray[Any] | Iterable[Key]


def key_list(keys: Keys, function: str) -> list[Any]:
    """Return keys as a list, whatever they are; raise TypeError for a single one."""
    if isinstance(keys, str | bytes) or not hasattr(keys, "__iter__"):
        raise TypeError(
            f"{function}: keys is {keys!r}; expected a sequence of keys, such as [{keys!r}]"
        )
    return keys.tolist() if isinstance(keys, np.ndarray) else list(keys)


def checked_keys(keys: Keys, function: str) -> list[Key]:
    """Return keys as a list of ints of 64 bits and strs, what a file of states can hold.

    Raises
    ------
    TypeError
        If keys is no sequence, or a key is neither an integer nor a string.
    ValueError
        If an integer has more than 64 bits, or a string is no Unicode text.
    """
    return [_checked(key, function) for key in key_list(keys, function)]


def _checked(key: Any, function: str) -> Key:
    if isinstance(key, str):
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{function}: key {key!r} is no Unicode text: {error}") from error
        return str(key)
    try:
        number = operator.index(key)
    except TypeError:
        raise TypeError(
            f"{function}: a key is of type {type(key).__name__}; expected int or str"
        ) from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{function}: keys has a number of more than 64 bits")
    return number
