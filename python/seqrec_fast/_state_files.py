"""Files of users' states: their keys, and the model that the states belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast._keys import Key
from seqrec_fast.io import read_arrays, write_arrays

Arrays = Mapping[str, NDArray[Any]]

_FORMAT_VERSION = 1


def write_states(
    path: str | os.PathLike[str], kind: str, fingerprint: str, keys: Sequence[Key], arrays: Arrays
) -> None:
    """Write the states of users, atomically.

    Parameters
    ----------
    path : str or path-like
    kind : str
        Of states, ``"sessions"`` or ``"themes"``.
    fingerprint : str
        Of the model, see :meth:`ItemScorer.fingerprint`.
    keys : sequence of int or str
    arrays : mapping
        The states, in the order of the keys.
    """
    encoded = [key.encode() for key in keys if isinstance(key, str)]
    of_keys: dict[str, NDArray[Any]] = {
        "key_is_text": np.array([isinstance(key, str) for key in keys], dtype=np.uint8),
        "key_numbers": np.array([k for k in keys if not isinstance(k, str)], dtype=np.int64),
        "key_texts": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "key_text_ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
    }
    header = {"format_version": _FORMAT_VERSION, "model": fingerprint}
    write_arrays(path, {**of_keys, **arrays}, {_metadata_key(kind): json.dumps(header)})


@contextmanager
def read_states(
    path: str | os.PathLike[str], kind: str, fingerprint: str, function: str
) -> Iterator[tuple[list[Key], Arrays]]:
    """Hand out the keys and arrays that :func:`write_states` wrote.

    What the block raises because of the content (ValueError, TypeError, KeyError, IndexError) is
    turned into a ValueError that calls the file damaged. ``function`` begins every message.
    """
    name = os.fspath(path)
    header, arrays = read_arrays(name, function, _metadata_key(kind))
    if header.get("format_version") != _FORMAT_VERSION:
        raise ValueError(
            f"{function}: {name} has format_version {header.get('format_version')!r}; expected "
            f"{_FORMAT_VERSION}"
        )
    if header.get("model") != fingerprint:
        raise ValueError(f"{function}: {name} holds {kind} of another model")
    try:
        yield _decoded_keys(arrays), arrays
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{function}: {name} is damaged: {error}") from error


def _metadata_key(kind: str) -> str:
    return f"seqrec_fast.{kind}"


def _decoded_keys(arrays: Arrays) -> list[Key]:
    ends = arrays["key_text_ends"].tolist()
    content = arrays["key_texts"].tobytes()
    if ends and ends[-1] != len(content):
        raise ValueError("key_text_ends do not end with key_texts")
    bounds = zip([0, *ends][: len(ends)], ends, strict=True)
    texts = iter([content[begin:end].decode() for begin, end in bounds])
    numbers = iter(arrays["key_numbers"].tolist())
    is_text = arrays["key_is_text"].tolist()
    if sum(is_text) != len(ends) or len(is_text) - len(ends) != len(arrays["key_numbers"]):
        raise ValueError("key_is_text does not fit the keys")
    return [next(texts) if text else next(numbers) for text in is_text]
