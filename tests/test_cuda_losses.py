"""Losses over an item table by the CUDA kernels, on emulated threads: the tests of the CPU's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import seqrec_fast as sf
import test_nn_losses as cases
import test_nn_sampled_losses as sampled_cases
from cuda_kernels import emulated
from cuda_losses import emulate_losses
from loss_cases import tables
from seqrec_fast.nn import _loss_cuda, _sampled_loss_cuda, sampled_losses
from seqrec_fast.nn import functional as SF

pytestmark = pytest.mark.usefixtures(emulate_losses.__name__)


@pytest.mark.parametrize(("sizes", "options"), cases.CROSS_ENTROPY_CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_equals_the_materialised_form(sizes, options, dtype):
    cases.test_cross_entropy_equals_the_materialised_form(None, sizes, options, dtype)


@pytest.mark.parametrize("width", [128, 256])
def test_panels(monkeypatch, width):
    monkeypatch.setattr(_loss_cuda, "panel_width", lambda *_: width)
    options = {"scale": 0.7, "label_smoothing": 0.1}
    cases.test_cross_entropy_equals_the_materialised_form(
        None, (40, 600, 24), options, torch.float32
    )


def test_width_of_panels():
    assert _loss_cuda.panel_width(4, 1000, 4) == 1000
    assert _loss_cuda.panel_width(0, 1000, 4) == 1000
    assert _loss_cuda.panel_width(10**7, 1000, 4) == 128
    assert _loss_cuda.panel_width(12800, 10**6, 4) == 640


def test_as_exact_as_torch():
    cases.test_cross_entropy_is_as_exact_as_torch()


def test_hostile_values():
    cases.test_one_huge_logit_and_all_equal_and_excluded_items()
    cases.test_values_that_are_not_finite_show(math.nan)
    cases.test_values_that_are_not_finite_show(math.inf)


def test_rows_that_are_left_out():
    cases.test_rows_without_a_target()
    hidden, weight, bias, wanted = tables(20, 300, 9)
    wanted[4] = wanted[17] = -100
    expected = cases.gradients(
        cases.materialised(hidden, weight, wanted, bias), (hidden, weight, bias)
    )
    with torch.no_grad():
        hidden[4], hidden[17, 2] = math.nan, math.inf
    loss = SF.linear_cross_entropy(hidden, weight, wanted, bias)
    cases.assert_close(cases.gradients(loss, (hidden, weight, bias)), expected, 1e-11)


def test_missing_gradients_and_no_bias():
    cases.test_leading_dimensions_and_missing_gradients()


def test_two_runs_give_the_same_bits():
    hidden, weight, bias, wanted = tables(70, 500, 33, torch.float32)
    runs = []
    for _ in range(2):
        loss = SF.linear_cross_entropy(hidden, weight, wanted, bias, reduction="none")
        runs.append((loss, *cases.gradients(loss, (hidden, weight, bias))))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_target_that_is_no_item_shows():
    hidden, weight, bias, wanted = tables(4, 30, 8)
    wanted[1] = 30
    loss, _ = _loss_cuda.cross_entropy_cuda(hidden, weight, wanted, bias, 1.0, 0.0, 0.0, "full")
    assert loss.isnan().tolist() == [False, True, False, False]


def test_errors_name_what_came():
    hidden, weight, bias, wanted = (t.detach().numpy() for t in tables(4, 30, 8))
    loss, log_sum, room = np.empty(4), np.empty(4), np.empty(64)

    def run(precision="full", weight=weight, room=room):
        emulated("cross_entropy", np.float64, hidden, weight, bias, wanted, 1.0, 0.0, 0.0,
                 precision, loss, log_sum, room)  # fmt: skip

    with pytest.raises(ValueError, match="precision is not full; expected full on CUDA"):
        run("bfloat16")
    with pytest.raises(ValueError, match=r"weight has shape \(30, 7\); expected \(30, 8\)"):
        run(weight=weight[:, :7].copy())
    with pytest.raises(ValueError, match="workspace has 3 entries; expected 16"):
        run(room=room[:3].copy())
    panel = np.empty((4, 8))
    with pytest.raises(ValueError, match="items from 23 on, 8 of them; expected some of 30"):
        emulated("cross_entropy_score_grad", np.float64, hidden, weight, bias, wanted, 1.0, 0.0,
                 0.0, "full", log_sum, loss, 23, panel)  # fmt: skip


@pytest.mark.parametrize("sizes", [(37, 200, 19, 150, 1), (21, 90, 5, 3, 4)], ids=str)
@pytest.mark.parametrize("collisions", ["mask", "own", "keep"])
@pytest.mark.parametrize("name", sampled_cases.LOSSES)
def test_sampled_losses_equal_their_formulas(name, collisions, sizes):
    if collisions != "own" or sizes[-1] == 1:
        sampled_cases.test_sampled_losses_equal_their_formulas(None, name, collisions, sizes)


@pytest.mark.parametrize("room", [1, 64 << 20])
@pytest.mark.parametrize("name", sampled_cases.LOSSES)
def test_sampled_losses_with_negatives_per_row(monkeypatch, name, room):
    monkeypatch.setattr(_sampled_loss_cuda, "_GATHERED_BYTES", room)
    sampled_cases.test_sampled_losses_equal_their_formulas(None, name, "mask", (20, 90, 16, 33, 20))


@pytest.mark.parametrize("name", sampled_cases.LOSSES)
def test_hostile_values_of_sampled_losses(name):
    sampled_cases.test_a_row_all_of_whose_negatives_are_left_out(name)
    sampled_cases.test_extreme_scores_stay_finite(name)
    for value in (math.nan, math.inf):
        sampled_cases.test_values_that_are_not_finite_show_in_their_row(None, name, value)
    sampled_cases.test_a_negative_of_nan_shows(None, name)


def test_gradients_that_are_left_to_the_sum_of_all(monkeypatch):
    inputs, options = sampled_cases.sampled_case(
        "bpr_max", "mask", (20, 60, 8, 30, 1), torch.float32
    )
    found = []
    for now in (True, False):
        monkeypatch.setattr(sampled_losses, "_sums_now", lambda ids, now=now: now)
        for sparse in (False, True):
            loss = SF.bpr_max_loss(*inputs, sparse=sparse, **options)
            found.append(torch.autograd.grad(loss, (inputs[1], inputs[4])))
    for weight, bias in found:
        torch.testing.assert_close(weight.to_dense(), found[0][0])
        torch.testing.assert_close(bias, found[0][1])


@pytest.mark.parametrize("name", sampled_cases.LOSSES)
def test_sampled_losses_under_autocast(name):
    sampled_cases.test_sampled_losses_under_autocast(name, sf.supported_backends("bfloat16")[0])


def test_autocast_leaves_float64_and_negatives_per_row_as_they_are():
    sampled_cases.test_autocast_leaves_float64_and_negatives_per_row_as_they_are()


def test_errors_of_sampled_losses():
    inputs, _ = sampled_cases.sampled_case("gbce", "mask", (6, 20, 3, 9, 1), torch.float32)
    with pytest.raises(ValueError, match=r"negatives has shape \(1, 3\); expected the 6 targets"):
        SF.gbce_loss(*inputs[:3], inputs[3][:3], collisions="own")
