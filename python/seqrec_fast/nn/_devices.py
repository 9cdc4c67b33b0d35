"""Compiled functions for the device that tensors are on: CPU, or CUDA where it was built."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqrec_fast import _core

from ._tensors import argument


def _compiled_for_cuda() -> Any:
    try:
        return importlib.import_module("seqrec_fast._cuda")
    except ModuleNotFoundError:
        return None


_cuda = _compiled_for_cuda()
_SUFFIX = {torch.float32: "_f32", torch.float64: "_f64", torch.int64: "_i64"}
#: Where operators have kernels, by the names of PyTorch's dispatcher.
DEVICES = ("CPU",) if _cuda is None else ("CPU", "CUDA")


def run(name: str, dtype: torch.dtype | None, like: Tensor, *arguments: Any) -> None:
    """
    Call the compiled function `name` for `dtype` and the device of `like`.

    Tensors among the arguments, and in tuples and lists among them, are handed over without a copy
    if they are contiguous, as outputs have to be. On CUDA the work is put on PyTorch's current
    stream. Without `dtype` the function is for one alone.
    """
    if not like.is_cuda:
        run_on_cpu(name, dtype, *arguments)
        return
    function = cuda_function(name, dtype)
    handed = Handed(name, like, arguments)
    with torch.cuda.device(like.device):
        stream = torch.cuda.current_stream().cuda_stream
        function(*handed.arguments, stream)


def run_on_cpu(name: str, dtype: torch.dtype | None, *arguments: Any) -> None:
    """Call the compiled function of the CPU for `dtype`; see `run`."""
    getattr(_core, name + suffix(dtype))(*_converted(arguments, argument))


class Handed:
    """
    Arguments as compiled functions of the device of `like` take them, for several calls of `run`.

    What the kernels read lives until they are queued, as long as this does.
    """

    def __init__(self, name: str, like: Tensor, arguments: tuple[Any, ...]) -> None:
        def on_device(tensor: Tensor) -> Tensor:
            if tensor.device != like.device:
                raise ValueError(f"{name}: a tensor is on {tensor.device}; expected {like.device}")
            return tensor.detach().contiguous()

        self._kept = _converted(arguments, on_device)
        self.arguments = _converted(self._kept, _device_array) if like.is_cuda else self._kept


def workspace(name: str, like: Tensor, *sizes: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """
    Return scratch memory for a CUDA kernel on the device of `like`.

    It has as many entries as the compiled function `name` says.
    """
    with torch.cuda.device_of(like):  # type: ignore[no-untyped-call]
        entries = getattr(_cuda, name)(*sizes)
    return like.new_empty(entries, dtype=dtype)


def _converted(arguments: tuple[Any, ...], convert: Callable[[Tensor], Any]) -> tuple[Any, ...]:
    def one(argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return convert(argument)
        if isinstance(argument, tuple | list):
            return type(argument)(_converted(tuple(argument), convert))
        return argument

    return tuple(one(argument) for argument in arguments)


def cuda_function(name: str, dtype: torch.dtype | None = None) -> Any:
    """Return a compiled function of the CUDA kernels."""
    return getattr(_cuda, name + suffix(dtype))


def suffix(dtype: torch.dtype | None) -> str:
    """Return how names of compiled functions for the dtype end."""
    return "" if dtype is None else _SUFFIX[dtype]


def _device_array(tensor: Tensor) -> Any:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return _cuda.DeviceArray(tensor.data_ptr(), dtype, tuple(tensor.shape))
