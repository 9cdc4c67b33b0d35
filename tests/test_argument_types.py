"""Arguments of the wrong type or size are named: gates, segments and dispatch."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.nn import AttentionPooling, BilinearAttention, DSelectK, ExpertGate
from seqrec_fast.nn import functional as SF
from seqrec_fast.nn import segments as tensor_segments

Z = np.zeros((6, 4), np.float32)
T = torch.zeros(6, 4)
IDS = torch.zeros(6, 1, dtype=torch.int64)
CUT, CUTS = np.array([0, 2, 6]), torch.tensor([0, 2, 6])
ONE = torch.tensor([0, 0, 1])
EYE, PROTOTYPES = np.eye(4, dtype=np.float32), torch.eye(4)
WRONG = {
    "expert_gate: k is 2.0; expected an int": lambda: sf.expert_gate(Z, 2.0),
    "expert_gate: k is True; expected an int": lambda: sf.expert_gate(Z, True),
    "expert_gate: k is '2'; expected an int": lambda: SF.expert_gate(T, "2"),
    "expert_gate: score is None; expected one of": lambda: sf.expert_gate(Z, 2, score=None),
    "expert_gate: order is 3; expected one of": lambda: SF.expert_gate(T, 2, order=3),
    "expert_gate: scale is 'a'; expected a number": lambda: sf.expert_gate(Z, 2, scale="a"),
    "expert_gate: scale is None; expected a number": lambda: SF.expert_gate(T, 2, scale=None),
    "expert_gate: renormalize is 'no'; expected": lambda: sf.expert_gate(Z, 2, renormalize="no"),
    "expert_gate: renormalize is 1; expected": lambda: SF.expert_gate(T, 2, renormalize=1),
    "expert_gate: logits is numpy.ndarray; expected a torch.Tensor": lambda: SF.expert_gate(Z, 2),
    "expert_gate: mask is list; expected": lambda: SF.expert_gate(T, 2, mask=[True] * 4),
    "expert_gate: bias is numpy.ndarray": lambda: SF.expert_gate(T, 2, bias=Z[0]),
    "expert_choice: logits is numpy.ndarray": lambda: SF.expert_choice(Z),
    "expert_choice: capacity_factor is 'a'": lambda: SF.expert_choice(T, capacity_factor="a"),
    "expert_load: num_experts is 2.5; expected an int": lambda: SF.expert_load(IDS, 2.5),
    "expert_load: expert_ids is numpy.ndarray": lambda: SF.expert_load(IDS.numpy(), 4),
    "expert_load: expert_ids is torch.int32; expected int64": lambda: SF.expert_load(IDS.int(), 4),
    "router_z_loss: logits is torch.int64; expected a float": lambda: SF.router_z_loss(T.long()),
    "router_z_loss: valid is list; expected a torch.Tensor": lambda: SF.router_z_loss(
        T, valid=[True] * 6
    ),
    "load_balancing_loss: offsets is numpy.ndarray; expected a torch.Tensor": lambda: (
        SF.load_balancing_loss(T, IDS, offsets=CUT)
    ),
    "update_selection_bias: rate is 'a'; expected a number": lambda: SF.update_selection_bias(
        T[0], T[0], rate="a"
    ),
    "session_segments: window is 2.5; expected an int": lambda: sf.session_segments(
        CUT, window=2.5
    ),
    "session_segments: gap is 'a'; expected a number": lambda: sf.session_segments(
        CUT, np.arange(6), rule="gap", gap="a"
    ),
    "session_segments: count is 1.5; expected an int": lambda: sf.session_segments(
        CUT, np.arange(6), rule="top_gaps", count=1.5
    ),
    "session_segments: window is '2'; expected an int": lambda: SF.session_segments(
        CUTS, window="2"
    ),
    "session_segments: offsets is numpy.ndarray; expected": lambda: SF.session_segments(
        CUT, window=2
    ),
    "session_segments: n_events is 6.0; expected an int": lambda: SF.session_segments(
        CUTS, window=2, n_events=6.0
    ),
    "session_segments: rule is 3; expected one of window, gap": lambda: sf.session_segments(
        CUT, rule=3
    ),
    "StreamingSegments: window is 2.5; expected an int": lambda: sf.StreamingSegments(window=2.5),
    "StreamingSegments: gap is '1'; expected a number": lambda: sf.StreamingSegments(
        "gap", gap="1"
    ),
    "StreamingSegments: time is 'now'; expected a number": lambda: sf.StreamingSegments(
        "gap", gap=1
    ).append("now"),
    "route_segments: k is '2'; expected an int": lambda: sf.route_segments(Z, CUT, EYE, "2"),
    "route_segments: k is 2.5; expected an int": lambda: SF.route_segments(
        T, CUTS, PROTOTYPES, 2.5
    ),
    "route_segments: values is numpy.ndarray; expected": lambda: SF.route_segments(
        Z, CUTS, PROTOTYPES, 2
    ),
    "route_segments: segment_offsets is numpy.ndarray; expected": lambda: SF.route_segments(
        T, CUT, PROTOTYPES, 2
    ),
    "dispatch_by_expert: num_experts is 2.5; expected an int": lambda: sf.dispatch_by_expert(
        CUT, IDS.numpy(), 2.5
    ),
    "dispatch_by_expert: capacity is 1.5; expected an int": lambda: SF.dispatch_by_expert(
        T, CUTS, IDS, 2, capacity=1.5
    ),
    "dispatch_by_expert: offsets is numpy.ndarray; expected": lambda: SF.dispatch_by_expert(
        T, CUT, IDS, 2
    ),
    "dispatch_by_expert: values is numpy.ndarray; expected": lambda: SF.dispatch_by_expert(
        Z, CUTS, IDS, 2
    ),
    "StreamingDispatch: num_experts is 2.5; expected an int": lambda: sf.StreamingDispatch(2.5),
    "StreamingDispatch: capacity is '2'; expected an int": lambda: sf.StreamingDispatch(
        2, capacity="2"
    ),
    "segment_mean: values is torch.int64; expected a floating": lambda: SF.segment_mean(
        T.long(), CUTS
    ),
    "segment_sum: values is numpy.ndarray": lambda: SF.segment_sum(Z, CUTS),
    "segment_softmax: scores is numpy.ndarray": lambda: SF.segment_softmax(Z[:, 0], CUTS),
    "expand_segments: per_segment is numpy.ndarray": lambda: SF.expand_segments(Z[:2], CUTS),
    "expand_segments: per_segment is torch.complex64; expected real": lambda: SF.expand_segments(
        T[:2].to(torch.complex64), CUTS
    ),
    "grouped_linear: x is numpy.ndarray": lambda: SF.grouped_linear(
        Z, torch.zeros(2, 3, 4), None, CUTS
    ),
    "multi_gate_mixture: expert_outputs is numpy.ndarray": lambda: SF.multi_gate_mixture(
        Z[None], T[None]
    ),
    "linear_cross_entropy: weight is numpy.ndarray; expected": lambda: SF.linear_cross_entropy(
        T, EYE, IDS[:, 0]
    ),
    "combine_by_expert: dispatch is NoneType; expected": lambda: SF.combine_by_expert(T, None),
    "AttentionPooling: input_size is 2.5; expected an int": lambda: AttentionPooling(2.5),
    "AttentionPooling: hidden_sizes is '4'; expected an int": lambda: AttentionPooling(4, "4"),
    "AttentionPooling: softmax is 'x'; expected": lambda: AttentionPooling(4, softmax="x"),
    "BilinearAttention: key_size is None; expected an int": lambda: BilinearAttention(None, 2),
    "AttentionPooling: keys is numpy.ndarray": lambda: AttentionPooling(4)(T[:2], Z, CUTS),
    "ExpertGate: k is 2.5; expected an int": lambda: ExpertGate(3, 4, 2.5),
    "ExpertGate: noise_scale is '1'; expected a number": lambda: ExpertGate(
        3, 4, 2, noise_scale="1"
    ),
    "ExpertGate: x is numpy.ndarray": lambda: ExpertGate(4, 4, 2)(Z),
    "DSelectK: num_experts is 2.5; expected an int": lambda: DSelectK(3, 2.5, 2),
    "DSelectK: x is numpy.ndarray": lambda: DSelectK(4, 2, 2)(Z),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_wrong_types(message):
    with pytest.raises(TypeError, match=re.escape(message)):
        WRONG[message]()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ExpertGate(3, 4, 2, score="bogus"), "ExpertGate: score is 'bogus'; expected one"),
        (lambda: ExpertGate(3, 4, 2, order="bogus"), "ExpertGate: order is 'bogus'; expected one"),
        (lambda: ExpertGate(3, 4, 2, scale=math.inf), "ExpertGate: scale is inf; expected a fin"),
        (
            lambda: ExpertGate(3, 4, 2, noise="normal", noise_scale=math.nan),
            "ExpertGate: noise_scale is nan; expected a finite number",
        ),
        (
            lambda: ExpertGate(3, 4, 2, learned_noise=True),
            "ExpertGate: learned_noise is True; expected a noise that it scales",
        ),
        (
            lambda: ExpertGate(3, 4, 2, noise="normal", seed=-1),
            "ExpertGate: seed is -1; expected 0 to 18446744073709551615",
        ),
        (lambda: ExpertGate(3, 0, 1), "ExpertGate: num_experts is 0; expected at least 1"),
        (lambda: ExpertGate(-3, 4, 1), "ExpertGate: input_size is -3; expected 0 or more"),
        (
            lambda: DSelectK(3, 4, 2)(torch.zeros(5, 4)),
            "DSelectK: x has shape (5, 4); expected (N, 3)",
        ),
        (lambda: DSelectK(0, 4, 2)(torch.zeros(5)), "DSelectK: x has shape (5,); expected (N, D)"),
        (
            lambda: sf.StreamingDispatch(2).events_of(-1),
            "StreamingDispatch.events_of: expert is -1; expected 0 to 1",
        ),
        (
            lambda: sf.StreamingDispatch(2).events_of(2),
            "StreamingDispatch.events_of: expert is 2; expected 0 to 1",
        ),
        (lambda: SF.segment_sum(T[0, 0], CUTS), "segment_sum: values has shape (); expected (N, "),
        (lambda: SF.segment_mean(T[0, 0], CUTS), "segment_mean: values has shape (); expected"),
        (lambda: SF.expand_segments(T[0, 0], CUTS), "expand_segments: per_segment has shape ()"),
        (lambda: sf.session_segments(CUT, window=2**63), "session_segments: window is 9223372036"),
        (
            lambda: SF.dispatch_by_expert(T, CUTS, IDS[:2], 2, segment_offsets=CUTS - ONE),
            "dispatch_by_expert: segment_offsets ends at 5; expected 6, the number of events",
        ),
        (
            lambda: SF.dispatch_by_expert(T, CUTS, IDS[:2], 2, segment_offsets=CUTS[:0]),
            "dispatch_by_expert: segment_offsets has shape (0,); expected (S + 1,)",
        ),
        (
            lambda: sf.route_segments(Z, CUT, EYE, 2, mask=np.ones((3, 4), bool)),
            "route_segments: mask has shape (3, 4); expected (4,) or (2, 4)",
        ),
        (
            lambda: sf.route_segments(Z, CUT, EYE, 2, bias=np.ones(5, np.float32)),
            "route_segments: bias has shape (5,); expected (4,)",
        ),
        (lambda: sf.route_segments(Z, CUT, EYE, 2, scale=math.nan), "route_segments: scale is nan"),
        (lambda: sf.route_segments(Z, CUT, EYE, 2, score="x"), "route_segments: score is 'x'"),
    ],
)  # fmt: skip
def test_wrong_values(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_integers_of_any_kind():
    two = np.int32(2)
    for ours, theirs in (
        (sf.expert_gate(Z, two), sf.expert_gate(Z, 2)),
        (SF.expert_gate(T, two, scale=np.float32(1)), SF.expert_gate(T, 2)),
        (sf.session_segments(CUT, window=two), sf.session_segments(CUT, window=2)),
        (SF.session_segments(CUTS, window=two), SF.session_segments(CUTS, window=2)),
        (SF.expert_load(IDS, two), SF.expert_load(IDS, 2)),
        (
            SF.dispatch_by_expert(T, CUTS, IDS, two, capacity=two)[1],
            SF.dispatch_by_expert(T, CUTS, IDS, 2, capacity=2)[1],
        ),
        (
            sf.route_segments(Z, CUT, EYE, two, renormalize=np.True_),
            sf.route_segments(Z, CUT, EYE, 2),
        ),
        (sf.StreamingDispatch(two).events_of(np.uint8(1)), sf.StreamingDispatch(2).events_of(1)),
    ):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    gate = ExpertGate(np.int64(3), np.int64(4), two, noise="normal", seed=np.uint64(2**63))
    assert gate(torch.zeros(5, 3))[0].shape == (5, 2)
    assert DSelectK(np.int64(3), np.int64(4), two)(torch.zeros(5, 3)).shape == (5, 4)


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool], ids=str
)
def test_expanded_integers_are_exact(dtype):
    values = torch.tensor([2**24 + 1, 3]).to(dtype)
    found = SF.expand_segments(values, torch.tensor([0, 2, 3]))
    assert found.dtype == dtype
    assert torch.equal(found, values[torch.tensor([0, 0, 1])])


def test_values_of_segments_are_found_where_they_were():
    from seqrec_fast.nn import attention_pooling, dispatch

    assert attention_pooling.segment_sum is tensor_segments.segment_sum is SF.segment_sum
    assert attention_pooling.segment_softmax is tensor_segments.segment_softmax
    assert dispatch.segment_mean is tensor_segments.segment_mean is SF.segment_mean
    assert dispatch.expand_segments is tensor_segments.expand_segments


@pytest.mark.parametrize("convert", [torch.nn.Module.bfloat16, torch.nn.Module.half])
def test_the_selection_bias_is_never_narrow(convert):
    gates = [
        convert(ExpertGate(3, 4, 2, selection_bias=True)),
        ExpertGate(3, 4, 2, selection_bias=True, dtype=torch.bfloat16),
        ExpertGate(3, 4, 2, selection_bias=True).to(torch.bfloat16),
    ]
    for gate in gates:
        assert gate.selection_bias.dtype == torch.float32
        assert gate.weight.dtype != torch.float32
        gate.selection_bias.fill_(0.5)
        for _ in range(10):
            gate.update_selection_bias(torch.tensor([0, 0, 9, 9]))
        wanted = torch.tensor([0.51, 0.51, 0.49, 0.49])
        torch.testing.assert_close(gate.selection_bias, wanted)
        assert torch.equal(convert(gate).selection_bias, gate.selection_bias)
        assert gate(torch.zeros(2, 3))[1].tolist() == [[0, 1]] * 2
    wide = ExpertGate(3, 4, 2, selection_bias=True).double()
    assert wide.selection_bias.dtype == torch.float64


def test_streams_and_batches_cut_alike_where_gaps_are_rounded():
    big = 2.0**60
    for later in (2**60, 2**60 + 1, 2**60 + 2**7, 2**60 + 2**9):
        stream = sf.StreamingSegments("gap", gap=big)
        starts = [stream.append(time) for time in (0, later)]
        whole = sf.session_segments([0, 2], np.array([0, later]), rule="gap", gap=big)
        assert starts == [True, len(whole.offsets) == 3]
    stream = sf.StreamingSegments("gap", gap=2**60 + 1)  # is no float
    assert [stream.append(time) for time in (np.int64(0), np.int64(2**60 + 1))] == [True, False]
    stream = sf.StreamingSegments("gap", gap=1)
    ends = (np.int64(-(2**63)), np.int64(2**63 - 1))  # whose difference no int64 holds
    assert [stream.append(time) for time in ends] == [True, True]
    with pytest.raises(ValueError, match="time is 9223372036854775808; expected an int of 64"):
        sf.StreamingSegments("gap", gap=1).append(2**63)
