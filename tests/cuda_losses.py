"""Operators of the losses on tensors of the CPU, by the CUDA kernels on emulated threads."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from cuda_kernels import run_emulated
from seqrec_fast.nn import (
    _cross_entropy_tensor,
    _devices,
    _loss_cuda,
    _loss_ops,
    _sampled_loss_cuda,
)


@pytest.fixture
def emulate_losses(monkeypatch):
    """Let operators on tensors of the CPU do what those on CUDA do."""

    def sampled(*arguments):
        room = _loss_ops._sampled_loss_room(arguments[3], arguments[6], arguments[-1])
        for part in room:
            part.fill_(math.nan)
        _sampled_loss_cuda.sampled_loss_cuda(room, *arguments)
        return room

    def grad(*arguments):
        *head, need_hidden, need_weight, need_bias = arguments
        found = _loss_ops.cross_entropy_gradients(
            head[0], head[1], need_hidden, need_weight, need_bias
        )
        for part in found:
            part.fill_(math.nan)
        _loss_cuda.cross_entropy_grad_cuda(*head, *found)
        return found

    monkeypatch.setattr(_loss_cuda, "run", run_emulated)
    monkeypatch.setattr(_cross_entropy_tensor, "run", run_emulated)
    monkeypatch.setattr(_sampled_loss_cuda, "run", run_emulated)
    monkeypatch.setattr(_devices, "_cuda", importlib.import_module("seqrec_fast._cuda_emulated"))
    ops = torch.ops.seqrec_fast
    monkeypatch.setattr(ops, "cross_entropy", _loss_cuda.cross_entropy_cuda, raising=False)
    monkeypatch.setattr(ops, "cross_entropy_grad", grad, raising=False)
    monkeypatch.setattr(ops, "sampled_loss", sampled, raising=False)
