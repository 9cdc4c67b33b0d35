"""Operators of the losses on tensors of the CPU, by the CUDA kernels on emulated threads."""

from __future__ import annotations

import pytest

from seqrec_fast.nn import (
    _loss_cuda,
    _loss_ops,
    _sampled_loss_cuda,
)


@pytest.fixture
def emulate_losses(emulated_kernels, monkeypatch):
    """Let operators on tensors of the CPU do what those on CUDA do."""

    def sampled(*arguments):
        outputs = _loss_ops._sampled_loss_outputs(arguments[3], arguments[6], arguments[-1])
        _sampled_loss_cuda.sampled_loss_cuda(outputs, *arguments)
        return outputs

    def grad(*arguments):
        *head, need_hidden, need_weight, need_bias = arguments
        found = _loss_ops.cross_entropy_gradients(
            head[0], head[1], need_hidden, need_weight, need_bias
        )
        _loss_cuda.cross_entropy_grad_cuda(*head, *found)
        return found

    monkeypatch.setattr(_loss_ops, "cross_entropy", _loss_cuda.cross_entropy_cuda)
    monkeypatch.setattr(_loss_ops, "cross_entropy_grad", grad)
    monkeypatch.setattr(_loss_ops, "sampled_loss", sampled)
