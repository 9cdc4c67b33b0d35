"""Sessions cut by the CUDA kernels, on emulated threads, at the same events as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import seqrec_fast as sf
from dispatch_cases import offsets_of
from seqrec_fast.nn import functional as SF
from seqrec_fast.nn import segments
from test_dispatch_segments import RULES, times_of

LENGTHS = [[], [0], [5], [0, 1, 40, 0, 0, 3, 0], [1] * 300, [600, 2, 300]]


@pytest.fixture(autouse=True)
def _by_emulation(emulated_kernels, monkeypatch):
    """Let operators on tensors of the CPU do what those on CUDA do."""
    monkeypatch.setattr(
        torch.ops.seqrec_fast, "session_segments", segments._session_segments_cuda, raising=False
    )


def assert_same(offsets, times, options):
    expected = sf.session_segments(offsets, times, **options)
    found = SF.session_segments(
        torch.from_numpy(offsets), None if times is None else torch.from_numpy(times),
        **options,
    )  # fmt: skip
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("options", RULES, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=len)
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_cuts(rng, lengths, options, dtype):
    times = None if options["rule"] == "window" else times_of(rng, lengths).astype(dtype)
    assert_same(offsets_of(lengths), times, options)


@pytest.mark.parametrize("count", [2, 40, 255, 256, 257, 500])
def test_largest_gaps_of_a_long_sequence(rng, count):
    """Gaps of all magnitudes, with many that are equal."""
    gaps = rng.choice(2.0 ** rng.integers(-40, 40, 300), 700) * (rng.random(700) < 0.9)
    assert_same(np.array([0, 700]), np.cumsum(gaps), {"rule": "top_gaps", "count": count})


def test_differences_of_integer_times_are_exact():
    times = np.array([-(2**63), -(2**63) + 1, 2**53, 2**53 + 1, 2**63 - 1])
    for options in ({"rule": "gap", "gap": 1.0}, {"rule": "top_gaps", "count": 2}):
        assert_same(np.array([0, 5]), times, options)


WRONG = [
    ([0, 2, 1, 3], [0.0, 1, 2], "offsets decreases from 2 to 1"),
    ([1, 2, 3], [0.0, 1, 2], r"offsets\[0\] is 1; expected 0"),
    ([0, 900], [0.0, 1, 2], "offsets end"),
    ([0, -900, 3], [0.0, 1, 2], "offsets decreases from 0 to -900"),
    ([0, 3], [0.0, 2, 1], "times decrease from 2 to 1 at index 2"),
    ([0, 3], [0.0, np.nan, 1], r"times\[1\] is nan; expected finite"),
    ([0, 3], [0.0, 1, np.inf], r"times\[2\] is inf; expected finite"),
]


@pytest.mark.parametrize(("offsets", "times", "message"), WRONG, ids=str)
@pytest.mark.parametrize("options", RULES[4::3], ids=str)
def test_wrong_contents_are_named(offsets, times, message, options):
    with pytest.raises(ValueError, match=message):
        SF.session_segments(torch.tensor(offsets), torch.tensor(times).double(), **options)


def test_wrong_input_is_named():
    offsets = torch.tensor([0, 3])
    for arguments, message in (
        (((offsets,), {"rule": "gap", "gap": 1}), "times are missing; rule 'gap' needs them"),
        (((offsets, torch.zeros(3)), {"rule": "gap", "gap": 1}), "times is torch.float32; exp"),
        (((offsets.int(),), {"window": 1}), "offsets is torch.int32; expected int64"),
        (((offsets[None],), {"window": 1}), r"offsets has shape \(1, 2\); expected \(B \+ 1,\)"),
        (((offsets,), {"window": 0}), "window is 0; expected at least 1"),
        (((offsets,), {"window": 1, "n_events": 4}), "offsets end at 3; expected n_events=4"),
        (((offsets, torch.zeros(3).double()), {"rule": "gap", "gap": 1, "n_events": 4}),
         "there are 4 events; expected the number of times, 3"),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=message):
            SF.session_segments(*arguments[0], **arguments[1])


def test_shapes_that_a_compiler_is_told(monkeypatch):
    monkeypatch.undo()
    with FakeTensorMode(shape_env=ShapeEnv()):
        offsets = torch.empty(4, dtype=torch.int64, device="cuda")
        times = torch.empty(9, dtype=torch.float64, device="cuda")
        cuts = SF.session_segments(offsets, times, rule="gap", gap=2.0)
    assert cuts.sequence_offsets.shape == (4,)
    assert {c.device.type for c in cuts} == {"cuda"}
    assert {c.dtype for c in cuts} == {torch.int64}


def test_operator_and_compile(monkeypatch):
    """The operator itself, on the CPU."""
    monkeypatch.undo()
    offsets, times = torch.tensor([0, 4, 9]), torch.arange(9).double() ** 2
    torch.library.opcheck(
        torch.ops.seqrec_fast.session_segments.default,
        (offsets, times, "gap", 9, -1, 5.0, 0),
    )

    def lengths(offsets, times):
        return SF.session_segments(offsets, times, rule="gap", gap=5).offsets.diff()

    compiled = torch.compile(lengths, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(offsets, times), lengths(offsets, times))
