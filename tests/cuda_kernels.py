"""CUDA kernels on arrays of the CPU: emulated threads, so no GPU is needed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from seqrec_fast import _core

SUFFIX = {"float32": "_f32", "float64": "_f64", "int64": "_i64"}


def on_cpu(name: str, dtype: Any, *arguments: Any) -> None:
    """Call the function of the CPU."""
    getattr(_core, name + ("" if dtype is None else SUFFIX[np.dtype(dtype).name]))(*arguments)


def emulated(name: str, dtype: Any, *arguments: Any) -> None:
    """
    Call a function of `_cuda` on emulated threads, with arrays and tensors by their address.

    Without `dtype` the function is for one alone.
    """
    module = importlib.import_module("seqrec_fast._cuda_emulated")

    kept: list[Any] = []  # copies live until the call has ended

    def handed(argument: Any) -> Any:
        if isinstance(argument, tuple):
            return tuple(handed(a) for a in argument)
        if hasattr(argument, "detach"):
            tensor = argument.detach().contiguous()
            kept.append(tensor)
            dtype = str(tensor.dtype).removeprefix("torch.")
            return module.DeviceArray(tensor.data_ptr(), dtype, tuple(tensor.shape))
        if not isinstance(argument, np.ndarray):
            return argument
        assert argument.flags.c_contiguous
        return module.DeviceArray(argument.ctypes.data, argument.dtype.name, argument.shape)

    function = getattr(module, name + ("" if dtype is None else SUFFIX[np.dtype(dtype).name]))
    function(*(handed(a) for a in arguments), 0)


def run_emulated(name: str, dtype: Any, like: Any, *arguments: Any) -> None:
    """Stand in for `seqrec_fast.nn._devices.run`, see the fixture ``emulated_kernels``."""
    emulated(name, None if dtype is None else str(dtype).removeprefix("torch."), *arguments)
