"""A GPU that is played on the CPU: the whole way of CUDA tensors, without one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from seqrec_fast.nn import (
    _devices,
    _dispatch_ops,
    _gate_ops,
    _loss_cuda,
    _loss_ops,
    _rnn_cuda_ops,
    _topk_cuda,
)

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
# Functions have the names of these modules in the package.
segments, route_segments, grouped_linear, multi_gate = (
    importlib.import_module(f"seqrec_fast.nn.{name}")
    for name in ("segments", "route_segments", "grouped_linear", "multi_gate")
)
_IMPLEMENTATIONS = {
    "rnn_forward": _rnn_cuda_ops.forward,
    "rnn_backward": _rnn_cuda_ops.backward,
    "cross_entropy": _loss_cuda.cross_entropy_cuda,
    "cross_entropy_grad": _loss_ops._cross_entropy_grad,
    "sampled_loss": _loss_ops._sampled_loss_cuda,
    "sum_rows": _loss_ops._sum_rows_cuda,
    "topk": _topk_cuda.topk_cuda,
    **{
        name: getattr(_dispatch_ops, f"_{name}")
        for name in (
            "segment_sum",
            "expand_segments",
            "dispatch_rows",
            "dispatch_rows_grad",
            "combine_rows",
            "combine_rows_grad",
        )
    },
    "dispatch_by_expert": _dispatch_ops._dispatch_by_expert_cuda,
    "session_segments": segments._session_segments_cuda,
    "route_segments": route_segments._route_segments,
    "grouped_linear": grouped_linear._on_cuda,
    "grouped_linear_grad": grouped_linear._grad_on_cuda,
    "multi_gate_mixture": multi_gate._mixture_cuda,
    "multi_gate_mixture_grad": multi_gate._mixture_grad_cuda,
    "expert_gate": _gate_ops._expert_gate,
    "expert_gate_grad": _gate_ops._expert_gate_grad,
}
# The number of rows of their results is known to the kernels alone.
_DYNAMIC = ("sum_rows", "session_segments", "dispatch_by_expert")


class EmulatedTensor(Tensor):
    """
    A tensor that says it is on CUDA.

    Its values are in `inner`. Operators on it and on tensors of the CPU raise, as on a GPU, and
    those of the library run what they run on CUDA.
    """

    inner: Tensor
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> EmulatedTensor:
        dense = inner.layout == torch.strided
        layout = {"strides": inner.stride()} if dense else {"layout": inner.layout}
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, **layout)
        made.inner = inner
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, Tensor)]
        ours = [t for t in tensors if isinstance(t, EmulatedTensor)]
        # numbers may be anywhere, and a copy goes from one to the other
        if func is not torch.ops.aten.copy_.default:
            wrong = [t.shape for t in tensors if t.dim() and not isinstance(t, EmulatedTensor)]
            assert not wrong, f"{func} has tensors on two devices, on the CPU those of {wrong}"
        if func.namespace == "seqrec_fast":
            name = func.name().split("::")[1]
            with _Device():  # a mode is off in what it calls
                result = _IMPLEMENTATIONS[name](*args, **(kwargs or {}))
            if name not in _DYNAMIC:
                _check_fake(func, args, result)
            return result
        if func in (torch.ops.aten.mm.dtype, torch.ops.aten.bmm.dtype):  # the CPU has none
            return _on_cuda(args[0].inner.to(args[2]) @ args[1].inner.to(args[2]))
        result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs or {}))
        known = {id(t.inner): t for t in ours}
        if func is torch.ops.aten.copy_.default:
            return args[0]
        return tree_map(lambda t: known[id(t)] if id(t) in known else _on_cuda(t), result)


def _inner(argument: Any) -> Any:
    return argument.inner if isinstance(argument, EmulatedTensor) else argument


def _on_cuda(value: Any) -> Any:
    plain = isinstance(value, Tensor) and not isinstance(value, EmulatedTensor)
    return EmulatedTensor(value) if plain else value


def _check_fake(func: Any, args: Any, result: Any) -> None:
    """Compare shapes, dtypes and devices with what a compiler is told of the operator."""
    mode = FakeTensorMode()

    def faked(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        with torch.no_grad():
            meta = torch.empty_strided(
                value.shape, value.stride(), dtype=value.dtype, device="meta"
            )
            return FakeTensor(mode, meta, value.device)

    arguments = tree_map(faked, args)
    with mode, torch.no_grad():
        told = func(*arguments)
    for name, fake, real in zip(func._schema.returns, *map(_list, (told, result)), strict=True):
        ours, theirs = ((t.shape, t.dtype, t.device) for t in (real, fake))
        assert ours == theirs, f"{func}: {name} is {ours}; its fake kernel says {theirs}"


def _list(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


class _Device(TorchFunctionMode):
    """Makes tensors on CUDA, and moves them, as PyTorch's functions are told to."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        of_ours = isinstance(first, EmulatedTensor)
        if func is Tensor.pin_memory:
            return first
        if of_ours and func is Tensor.__repr__:
            return f"EmulatedTensor({first.inner})"
        if of_ours and func is Tensor.tolist:
            return first.inner.tolist()
        if of_ours and func is Tensor.numpy:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if of_ours and func is Tensor.cpu:
            return first.detach().inner.clone()
        if func is Tensor.backward:
            with self:  # PyTorch's own functions would come here again
                return torch.autograd.graph._engine_run_backward(
                    (first,), (torch.ones_like(first),), False, False, (),
                    allow_unreachable=True, accumulate_grad=True,
                )  # fmt: skip
        if func is Tensor.to:
            return self._moved(*args, **kwargs)
        if isinstance(first, Tensor) or not _is_cuda(kwargs.get("device")):
            return func(*args, **kwargs)
        return tree_map(_on_cuda, func(*args, **{**kwargs, "device": CPU}))

    @staticmethod
    def _moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        device, dtype, *_ = torch._C._nn._parse_to(
            *args, **{n: v for n, v in kwargs.items() if n != "copy"}
        )
        if args and isinstance(args[0], Tensor):
            device = args[0].device
        here = tensor.device.type
        if device is None or device.type == here:
            return tensor if dtype is None else tensor.type(dtype)
        values = _inner(tensor.detach()).clone()
        moved = values if device.type == "cpu" else _on_cuda(values)
        return moved if dtype is None else moved.type(dtype)


def _is_cuda(argument: Any) -> bool:
    named = isinstance(argument, str) and argument.startswith("cuda")
    return named or (isinstance(argument, torch.device) and argument.type == "cuda")


ON_GPU = (
    pytest.mark.cuda,
    pytest.mark.skipif(
        "CUDA" not in _devices.DEVICES or not torch.cuda.is_available(),
        reason="needs a GPU and a build with SEQREC_CUDA=ON",
    ),
)
_EMULATED = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(
    params=[pytest.param("emulated", marks=_EMULATED), pytest.param("gpu", marks=ON_GPU)]
)
def cuda_device(request: Any, monkeypatch: Any) -> Iterator[None]:
    """Run a test on CUDA: once on the emulated device, once on a GPU."""
    with nullcontext() if request.param == "gpu" else emulated_device(monkeypatch):
        yield


@contextmanager
def emulated_device(monkeypatch: Any) -> Iterator[None]:
    """Have a GPU for a while, number 0, that runs the library's kernels on emulated threads."""
    module = importlib.import_module("seqrec_fast._cuda_emulated")

    def device_array(tensor: Tensor) -> Any:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return module.DeviceArray(_inner(tensor).data_ptr(), dtype, tuple(tensor.shape))

    with monkeypatch.context() as patch:
        patch.setattr(_devices, "_cuda", module)
        patch.setattr(_devices, "_device_array", device_array)
        patch.setattr("seqrec_fast.training.devices.DEVICES", ("CPU", "CUDA"))
        patch.setattr(torch.backends.cuda, "is_built", lambda: True)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "device", lambda device: nullcontext())
        patch.setattr(torch.cuda, "device_of", lambda tensor: nullcontext())
        patch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
        patch.setattr(torch.random, "fork_rng", _fork_rng(torch.random.fork_rng))
        # a parameter is of the type of its values
        future = torch.__future__
        patch.setattr(future, "get_overwrite_module_params_on_conversion", lambda: True)
        with _Device():
            yield


def _fork_rng(fork_rng: Any) -> Any:
    return lambda devices=(), **options: fork_rng(devices=(), **options)
