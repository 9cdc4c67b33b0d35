"""
A process whose operators run their CUDA kernels on emulated threads, for whole models.

Tensors stay on the CPU and play those of the GPU. The host is played by the device "meta": a
tensor that is made without naming a device lands there, and does not mix with the others.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cuda_kernels import run_emulated


def install() -> None:
    """Make the emulated kernels those of CUDA; before seqrec_fast.nn is imported."""
    assert "seqrec_fast.nn" not in sys.modules
    sys.modules["seqrec_fast._cuda"] = importlib.import_module("seqrec_fast._cuda_emulated")
    devices: Any = importlib.import_module("seqrec_fast.nn._devices")
    devices.run_emulated = run_emulated
    # Operators hold the function itself, which looks for tensors on CUDA.
    devices.run.__code__ = (
        lambda name, dtype, like, *arguments: run_emulated(name, dtype, like, *arguments)
    ).__code__


class _CudaKernels(TorchDispatchMode):
    """Hands our operators to what is registered for CUDA, whatever device tensors are on."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()
        self.in_kernel = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "seqrec_fast":
            return func(*args, **kwargs or {})
        self.called.add(func._schema.name.split("::")[1])
        self.in_kernel = True
        try:
            return func._op_dk(torch._C.DispatchKey.CUDA, *args, **kwargs or {})
        finally:
            self.in_kernel = False


@contextmanager
def emulated_device() -> Iterator[set[str]]:
    """Run our operators on the emulated device; gives the names of those that were called."""
    mode = _CudaKernels()
    numpy = torch.Tensor.numpy

    def only_in_kernels(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        assert mode.in_kernel, "a tensor of the device was taken for an array of the host"
        return numpy(tensor, *arguments, **options)

    torch.Tensor.numpy = only_in_kernels  # type: ignore[method-assign]
    try:
        with torch.device("meta"), mode:
            yield mode.called
    finally:
        torch.Tensor.numpy = numpy  # type: ignore[method-assign]
