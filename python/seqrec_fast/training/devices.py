"""Where a model is trained: names of devices, and how batches get there."""

from __future__ import annotations

import os
import re
from typing import TypeVar

import torch
from torch import Tensor

from seqrec_fast.nn._devices import DEVICES

_Tensor = TypeVar("_Tensor", Tensor, None, Tensor | None)


def check_device(caller: str, name: str | None) -> None:
    """Raise ValueError unless `name` is None or one that :func:`device_of` knows."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{caller}: device is {name!r}; expected a string or None")
    if name is not None and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"{caller}: device is {name!r}; expected auto, cpu, cuda or cuda:N")


def device_of(caller: str, name: str | None, model: torch.nn.Module) -> torch.device:
    """Return the device to train a model on: the one of that name, or, for None, the model's."""
    return next(model.parameters()).device if name is None else find_device(caller, name)


def find_device(caller: str, name: str) -> torch.device:
    """
    Return the device of a name.

    Parameters
    ----------
    caller : str
        For messages.
    name : {"auto", "cpu", "cuda", "cuda:N"}
        ``"cuda"``: the current GPU; of the processes that ``torchrun`` started on a machine, each
        has one. ``"auto"``: ``"cuda"`` if that can be used, else ``"cpu"``.

    Raises
    ------
    ValueError
        If the name is unknown, or GPU, driver or kernels are missing.
    """
    check_device(caller, name)
    missing = _missing()
    if name == "cpu" or (name == "auto" and missing):
        return torch.device("cpu")
    if missing:
        raise ValueError(f"{caller}: device is {name!r}, but {missing}")
    together = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if together else 1
    if ":" in name:
        wanted = int(name.split(":")[1])
        if processes > 1:
            raise ValueError(
                f"{caller}: device is {name!r} for {processes} processes; expected cuda, which "
                "gives each a GPU of its own"
            )
    else:
        own = int(os.environ.get("LOCAL_RANK", "0"))
        wanted = own if together else torch.cuda.current_device()
    there = torch.cuda.device_count()
    if wanted >= there:
        raise ValueError(
            f"{caller}: device is {name!r}, which is GPU {wanted} for this process; there are "
            f"{there}, numbered from 0"
        )
    return torch.device("cuda", wanted)


def _missing() -> str:
    """Return what keeps GPUs from being used, nothing if they can be."""
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return f"this PyTorch, {torch.__version__}, is built without CUDA"
    if not torch.cuda.is_available():
        return "PyTorch finds no GPU that it can use"
    if "CUDA" not in DEVICES:
        return "seqrec_fast is built without CUDA kernels (build it with SEQREC_CUDA=ON)"
    return ""


def moved(tensor: _Tensor, device: torch.device) -> _Tensor:
    """Return a tensor of the CPU on a device; a copy to a GPU is queued and not waited for."""
    if tensor is None or device.type == "cpu":
        return tensor
    # from pageable memory the host would wait for all that is queued before the copy
    return tensor.pin_memory().to(device, non_blocking=True)
