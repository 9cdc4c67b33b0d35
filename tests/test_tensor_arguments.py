"""Compiled functions take tensors where they take arrays, and refuse those they cannot read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqrec_fast import _core

IDS = torch.tensor([3, 0, 3, 2])


def gate(logits, mask=None):
    weights, ids = torch.empty(len(logits), 1), torch.empty(len(logits), 1, dtype=torch.int64)
    _core.expert_gate_f32(
        logits, 1, "softmax", "score_then_topk", False, None, mask, 1.0, weights, ids
    )
    return weights, ids


@pytest.mark.parametrize("ids", [IDS, IDS[:0], IDS.reshape(1, 4)], ids=["some", "none", "a row"])
def test_a_tensor_is_read_as_an_array_is(ids):
    for found, expected in zip(
        _core.order_rows(ids), _core.order_rows(ids.numpy().reshape(-1)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_results_are_written_to_tensors():
    logits = torch.tensor([[0.0, 1.0], [3.0, 3.0]], requires_grad=True)
    weights, ids = gate(logits, torch.tensor([[True, False]]))
    assert ids.tolist() == [[0], [0]]
    torch.testing.assert_close(weights, torch.ones(2, 1))


def test_dimensions_before_the_last_are_rows():
    logits = torch.randn(2, 3, 4)
    weights, ids = torch.empty(2, 3, 1), torch.empty(2, 3, 1, dtype=torch.int64)
    _core.expert_gate_f32(
        logits, 1, "softmax", "score_then_topk", True, None, None, 1.0, weights, ids
    )
    assert torch.equal(ids, logits.argmax(-1, keepdim=True))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS.int(), r"order_rows: ids is torch\.int32; expected torch\.int64"),
        (IDS.bool(), r"order_rows: ids is torch\.bool; expected torch\.int64"),
        (IDS[::2], "order_rows: ids is not contiguous"),
        (IDS.to("meta"), "order_rows: ids is not on the CPU"),
        (torch._neg_view(IDS), "order_rows: ids is negated when read"),
        (IDS[0], "order_rows: ids has 0 dimensions; expected at least 1"),
        (torch._efficientzerotensor(4, dtype=torch.int64), "order_rows: ids has no memory"),
        (IDS.tolist(), "order_rows: ids is not a NumPy array of int64"),
        (object(), "order_rows: ids is not a NumPy array of int64"),
    ],
)
def test_what_cannot_be_read_is_named(ids, message):
    with pytest.raises(TypeError, match=message):
        _core.order_rows(ids)
