"""Checkpoints of a training run: one file, whole or as it was before."""

from __future__ import annotations

import os
import pickle
from typing import Any

import torch

from seqrec_fast.io import replacing

_KIND = "seqrec_fast checkpoint"
_FORMAT_VERSION = 1


def save_checkpoint(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """
    Write a checkpoint under a temporary name, sync it to the disk, and rename it.

    Parameters
    ----------
    path : str or path-like
    content : dict
        Tensors, numbers, strings, lists and dicts of these.

    Raises
    ------
    OSError
        If the file cannot be written. What stood under `path` before is still there then.
    """
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        try:
            torch.save({"kind": _KIND, "format_version": _FORMAT_VERSION, **content}, stream)
        except RuntimeError as error:
            # closing its archive, torch hides what stopped the writing behind a RuntimeError
            if isinstance(error.__context__, OSError | KeyboardInterrupt):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read a checkpoint; no code that it may hold is run.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no checkpoint of this library, damaged, or one of a newer version.
    """
    name = os.fspath(path)
    with open(name, "rb") as stream:
        try:
            content = torch.load(stream, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise ValueError(f"load_checkpoint: {name} is truncated or no checkpoint") from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise ValueError(f"load_checkpoint: {name} is no checkpoint of seqrec_fast")
    version = content.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise ValueError(
            f"load_checkpoint: {name} is damaged: format_version is {version!r}; expected an int"
        )
    if version > _FORMAT_VERSION:
        raise ValueError(
            f"load_checkpoint: {name} has format_version {version}; this version reads up to "
            f"{_FORMAT_VERSION}"
        )
    return content
