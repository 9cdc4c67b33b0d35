"""CUDA kernels on arrays of the CPU: emulated threads, so no GPU is needed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

SUFFIX = {"float32": "_f32", "float64": "_f64", "int64": "_i64"}


def emulated(name: str, dtype: Any, *arguments: Any) -> None:
    """Call a function of `_cuda` on emulated threads; arrays are handed over by their address."""
    module = importlib.import_module("seqrec_fast._cuda_emulated")

    def device_array(array: np.ndarray) -> Any:
        assert array.flags.c_contiguous
        return module.DeviceArray(array.ctypes.data, array.dtype.name, array.shape)

    function = getattr(module, name + SUFFIX[np.dtype(dtype).name])
    function(*(device_array(a) if isinstance(a, np.ndarray) else a for a in arguments), 0)


def run_emulated(name: str, dtype: Any, like: Any, *arguments: Any) -> None:
    """Stand in for `seqrec_fast.nn._devices.run`, for tensors of the CPU."""
    arrays = (a.detach().contiguous().numpy() if hasattr(a, "detach") else a for a in arguments)
    emulated(name, str(dtype).removeprefix("torch."), *arrays)
