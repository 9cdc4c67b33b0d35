"""Compiled functions for the device that tensors are on: CPU, or CUDA where it was built."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from seqrec_fast import _core

from ._tensors import array


def _compiled_for_cuda() -> Any:
    try:
        return importlib.import_module("seqrec_fast._cuda")
    except ModuleNotFoundError:
        return None


_cuda = _compiled_for_cuda()
SUFFIX = {torch.float32: "_f32", torch.float64: "_f64", torch.int64: "_i64"}
#: Where operators have kernels, by the names of PyTorch's dispatcher.
DEVICES = ("CPU",) if _cuda is None else ("CPU", "CUDA")


def run(name: str, dtype: torch.dtype, like: Tensor, *arguments: Any) -> None:
    """
    Call the compiled function `name` for `dtype` and the device of `like`.

    Tensors among the arguments are handed over without a copy if they are contiguous, as outputs
    have to be. On CUDA the work is put on PyTorch's current stream.
    """
    if not like.is_cuda:
        function = getattr(_core, name + SUFFIX[dtype])
        function(*(array(a) if isinstance(a, Tensor) else a for a in arguments))
        return
    function = getattr(_cuda, name + SUFFIX[dtype])
    # what the kernels read must live until they are queued
    kept = [a.detach().contiguous() if isinstance(a, Tensor) else a for a in arguments]
    with torch.cuda.device(like.device):
        stream = torch.cuda.current_stream().cuda_stream
        function(*(_device_array(a) if isinstance(a, Tensor) else a for a in kept), stream)


def cuda_function(name: str) -> Any:
    """Return a compiled function that takes no tensors, of the CUDA kernels."""
    return getattr(_cuda, name)


def _device_array(tensor: Tensor) -> Any:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return _cuda.DeviceArray(tensor.data_ptr(), dtype, tuple(tensor.shape))
