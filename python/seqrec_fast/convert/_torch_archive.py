"""The archives that ``torch.save`` writes: a pickle and the storages of its tensors."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast.convert._pickle_records import Global, Persistent, Record, read_pickle

_BYTE_ORDERS = {b"little": "<", b"big": ">"}
# what the reader of a zip file raises at one that is damaged
_DAMAGE = (zipfile.BadZipFile, RuntimeError, EOFError, ValueError)


class TorchArchive:
    """A file that ``torch.save`` of PyTorch 1.6 or newer has written, open for reading.

    Parameters
    ----------
    path : str
        The file.
    where : str
        What messages begin with; the path follows.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such archive.
    """

    def __init__(self, path: str, where: str) -> None:
        self._where = f"{where}{path}"
        if not os.path.isfile(path):
            kind = IsADirectoryError if os.path.isdir(path) else FileNotFoundError
            raise kind(f"{where}no file {path}")
        self._size = os.path.getsize(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise ValueError(
                f"{self._where} is truncated or no zip archive; expected one that torch.save "
                "of PyTorch 1.6 or newer has written"
            ) from error
        pickles = [name for name in self._zip.namelist() if name.count("/") == 1]
        pickles = [name for name in pickles if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            self._zip.close()
            raise ValueError(
                f"{self._where} has {len(pickles)} entries data.pkl; expected 1, as torch.save "
                "writes it"
            )
        self._root = pickles[0].removesuffix("data.pkl")

    def __enter__(self) -> TorchArchive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._zip.close()

    def content(self, is_allowed: Callable[[str], bool]) -> Any:
        """Return what was saved, as :func:`read_pickle` does."""
        return read_pickle(self._entry("data.pkl"), is_allowed, self._where)

    def array(self, tensor: Any, name: str) -> NDArray[np.float32]:
        """Return the values of a tensor or parameter.

        Parameters
        ----------
        tensor : Record
            As it stands in the pickle.
        name : str
            What messages call it.

        Raises
        ------
        ValueError
            If it is no contiguous float32 tensor that lies within its storage, or the storage
            is missing or has another size than declared.
        """
        where = f"{self._where}: {name}"
        if isinstance(tensor, Record) and tensor.name == "torch._utils _rebuild_parameter":
            tensor = tensor.args[0] if tensor.args else None
        if not (
            isinstance(tensor, Record)
            and tensor.name == "torch._utils _rebuild_tensor_v2"
            and len(tensor.args) >= 4
        ):
            raise ValueError(f"{where} is no tensor")
        storage, offset, shape, strides = tensor.args[:4]
        key, count = self._storage(storage, where)
        if not (_sizes(shape) and _sizes(strides) and _sizes((offset,))):
            raise ValueError(f"{where} has no valid shape")
        size = math.prod(shape)
        if size > 1 and not _is_contiguous(shape, strides):
            raise ValueError(
                f"{where} has shape {shape} and strides {strides}; expected a contiguous tensor"
            )
        if offset + size > count:
            raise ValueError(
                f"{where} has shape {shape} from position {offset}; its storage has {count} values"
            )
        content = self._entry(f"data/{key}")
        if len(content) != 4 * count:
            raise ValueError(
                f"{where}: entry data/{key} has {len(content)} bytes; expected {4 * count}, "
                f"float32 for {count} values"
            )
        values = np.frombuffer(content, self._byte_order() + "f4", size, 4 * offset)
        return values.reshape(shape).astype(np.float32)

    def _storage(self, storage: Any, where: str) -> tuple[str, int]:
        """Return the key of a storage and the number of its values."""
        described = storage.id if isinstance(storage, Persistent) else None
        if not isinstance(described, tuple) or len(described) != 5:
            raise ValueError(f"{where} has no storage")
        kind, key, count = described[1], described[2], described[4]
        if not isinstance(kind, Global) or not isinstance(key, str) or not _sizes((count,)):
            raise ValueError(f"{where} has no valid storage")
        if kind.name != "torch FloatStorage":
            raise ValueError(
                f"{where} is of type {kind.name.replace(' ', '.')}; expected torch.FloatStorage "
                "(float32)"
            )
        return key, count

    def _byte_order(self) -> str:
        # files of PyTorch before 2.1 do not say; theirs is that of the machine, little by far
        if f"{self._root}byteorder" not in self._zip.namelist():
            return "<"
        order = self._entry("byteorder")
        if order not in _BYTE_ORDERS:
            raise ValueError(f"{self._where}: byteorder is {order[:20]!r}; expected little or big")
        return _BYTE_ORDERS[order]

    def _entry(self, name: str) -> bytes:
        try:
            info = self._zip.getinfo(self._root + name)
        except KeyError:
            raise ValueError(f"{self._where} has no entry {name}") from None
        # torch.save never compresses, so that no entry can be larger than the file
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > self._size:
            raise ValueError(
                f"{self._where}: entry {name} is compressed or declares {info.file_size} bytes; "
                f"the file has {self._size}"
            )
        try:
            return self._zip.read(info)
        except _DAMAGE as error:
            raise ValueError(f"{self._where}: entry {name} is damaged: {error}") from error


def _sizes(values: Any) -> bool:
    """Whether values are a tuple of integers that are not negative."""
    return isinstance(values, tuple) and all(isinstance(n, int) and n >= 0 for n in values)


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the values stand one after another; the stride of an axis of size 1 says nothing."""
    return len(shape) == len(strides) and all(
        size == 1 or stride == math.prod(shape[axis + 1 :])
        for axis, (size, stride) in enumerate(zip(shape, strides, strict=True))
    )
