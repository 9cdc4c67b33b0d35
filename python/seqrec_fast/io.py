"""Model files: weights, configuration and item ids in one safetensors file, enough to serve."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast._model_format import check_model
from seqrec_fast.data.vocabulary import Ids, as_ids

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

#: The newest format that this version reads, and the one that it writes.
FORMAT_VERSION = 1

_METADATA_KEY = "seqrec_fast"


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds.

    Attributes
    ----------
    model : str
        Kind of the model: ``"gru4rec"``, ``"theme_mixture"``, ``"din"``, ``"dien"`` or
        ``"recurrent_ctr"``.
    config : dict
        The parameters of its class in :mod:`seqrec_fast.models`: ``n_items``, ``hidden_size`` and
        others.
    tensors : dict of str to float32 array
        The weights under their ``state_dict`` names.
    item_ids : (n_items,) int64 or str array
        The user's id of each item.
    format_version : int
        Format of the file.
    """

    model: str
    config: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]
    item_ids: Ids
    format_version: int = FORMAT_VERSION


def save_model(
    path: str | os.PathLike[str],
    model: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, ArrayLike],
    item_ids: ArrayLike,
) -> None:
    """Write a model file, whole or not at all.

    The file is written under another name in the same folder, synced, and renamed: whatever
    goes wrong, a file that stood under `path` before is still there, and nothing else is.

    Parameters
    ----------
    path : str or path-like
        The file.
    model : str
        Kind of the model, as in :class:`ModelFile`.
    config : mapping
        As in :class:`ModelFile`; values that JSON can hold.
    tensors : mapping of str to float32 array
        The weights under their ``state_dict`` names.
    item_ids : (n_items,) array of int or str
        The user's id of each item, each once.

    Raises
    ------
    ValueError
        If the model is unknown, a tensor is missing, has a wrong shape or dtype, or is not
        finite, or an item id occurs twice.
    OSError
        If the file cannot be written, for example because the disk is full.
    """
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    ids = as_ids(item_ids, "save_model: item_ids")
    check_model("save_model: ", model, config, arrays, ids)
    header = {"format_version": FORMAT_VERSION, "model": model, "config": dict(config)}
    write_arrays(path, {**arrays, **_encoded_ids(ids)}, {_METADATA_KEY: json.dumps(header)})


def load_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read a model file and check everything in it.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ModelFile

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, is no model file of this package, is of a newer format, or
        holds tensors that do not fit its configuration, weights that are not finite, or item
        ids that occur twice.
    """
    name = os.fspath(path)
    header, arrays = read_arrays(name, "load_model", _METADATA_KEY)
    version = header.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"load_model: {name} has format_version {version!r}; expected an integer")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"load_model: {name} has format_version {version}; this version of seqrec_fast reads "
            f"up to {FORMAT_VERSION}, so it needs a newer one"
        )
    ids = _decoded_ids(arrays, name)
    config = header.get("config")
    if not isinstance(config, dict):
        raise ValueError(f"load_model: {name} has config {config!r}; expected a dict")
    model = str(header.get("model"))
    check_model(f"load_model: {name}: ", model, config, arrays, ids)
    return ModelFile(model, config, arrays, ids, version)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give the name of a temporary file that becomes `path` when the block ends well.

    It lies in the same folder, is synced to the disk and then renamed. If the block raises,
    the temporary file is removed and `path` is left as it was. If the process is killed, `path` is
    left as it was, too, and the next one to write it removes the temporary file.
    """
    # a link stays one: what it points to is replaced
    target = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(f"{os.fspath(path)}: no folder {os.path.dirname(target)}")
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(f"{os.fspath(path)} exists and is no regular file")
    _remove_stale(target)
    temporary, lock = "", None
    try:
        temporary, lock = _locked_temporary(target)
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno and error.filename in (None, temporary):
            error.filename = os.fspath(path)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _locked_temporary(target: str) -> tuple[str, int | None]:
    """Create a file beside the target; it is locked as long as the descriptor is open."""
    while True:
        temporary = f"{target}.{secrets.token_hex(4)}.part"
        if fcntl is None:
            return temporary, None
        lock = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # another process takes it for stale
        except OSError:
            return temporary, lock  # a file system without locks
        else:
            if os.path.exists(temporary):
                return temporary, lock
        os.close(lock)


def _remove_stale(target: str) -> None:
    """Remove temporary files of the target whose writers died: nobody has them locked."""
    if fcntl is None:
        return
    folder, name = os.path.split(target)
    pattern = re.compile(re.escape(name) + r"\.[0-9a-f]{8}\.part")
    try:
        entries = os.listdir(folder)
    except OSError:  # it may be written to, not read
        return
    for entry in filter(pattern.fullmatch, entries):
        with contextlib.suppress(OSError), open(os.path.join(folder, entry), "rb+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(stream.name)


def write_arrays(
    path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]], metadata: dict[str, str]
) -> None:
    """Write a safetensors file in the manner of :func:`replacing`."""
    from safetensors.numpy import save

    content = save(arrays, metadata)
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        stream.write(content)


def read_arrays(
    name: str, function: str, metadata_key: str
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the JSON header under `metadata_key` and the arrays of a file that is ours."""
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(name):
        kind = IsADirectoryError if os.path.isdir(name) else FileNotFoundError
        raise kind(f"{function}: no file {name}")
    try:
        with safe_open(name, framework="numpy") as stream:
            metadata = stream.metadata() or {}
            if metadata_key not in metadata:
                raise ValueError(
                    f"{function}: {name} is a safetensors file without {metadata_key!r} in its "
                    "metadata; expected one that seqrec_fast has written"
                )
            arrays = {}
            for key in stream.keys():  # noqa: SIM118 - not a dict
                kind = stream.get_slice(key).get_dtype()
                if kind not in ("F32", "F64", "I64", "U8"):
                    raise ValueError(f"{function}: {name}: {key} is {kind}; expected F32")
                arrays[key] = stream.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(
            f"{function}: {name} is truncated or no safetensors file: {error}"
        ) from error
    try:
        header = json.loads(metadata[metadata_key])
    except json.JSONDecodeError as error:
        raise ValueError(f"{function}: {name} has metadata that is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{function}: {name} has metadata {header!r}; expected a dict")
    return header, arrays


def _encoded_ids(ids: Ids) -> dict[str, NDArray[Any]]:
    if ids.dtype.kind == "i":
        return {"item_ids": ids}
    texts = [text.encode() for text in ids.tolist()]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    utf8 = np.frombuffer(b"".join(texts), dtype=np.uint8)
    return {"item_ids.utf8": utf8, "item_ids.offsets": offsets}


def _decoded_ids(arrays: dict[str, NDArray[Any]], name: str) -> Ids:
    """Take the item ids out of the arrays of a file."""
    if "item_ids" in arrays:
        ids = arrays.pop("item_ids")
        if ids.dtype != np.int64 or ids.ndim != 1:
            raise ValueError(
                f"load_model: {name}: item_ids is {ids.dtype} of shape {ids.shape}; expected "
                "int64 of one dimension"
            )
        return cast("Ids", ids)
    if "item_ids.utf8" not in arrays or "item_ids.offsets" not in arrays:
        raise ValueError(
            f"load_model: {name} has no item ids; expected item_ids, or item_ids.utf8 and "
            "item_ids.offsets"
        )
    utf8, offsets = arrays.pop("item_ids.utf8"), arrays.pop("item_ids.offsets")
    if (
        offsets.dtype != np.int64
        or utf8.dtype != np.uint8
        or offsets.ndim != 1
        or offsets.size == 0
        or offsets[0] != 0
        or offsets[-1] != utf8.size
        or (np.diff(offsets) < 0).any()
    ):
        raise ValueError(
            f"load_model: {name}: item_ids.offsets do not rise from 0 to the "
            f"{utf8.size} bytes of item_ids.utf8"
        )
    content = utf8.tobytes()
    bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    try:
        return np.array([content[begin:end].decode() for begin, end in bounds], dtype=np.str_)
    except UnicodeDecodeError as error:
        raise ValueError(f"load_model: {name}: item_ids.utf8 is no UTF-8: {error}") from error
