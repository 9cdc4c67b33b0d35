"""AUC, GAUC and log-loss against their definitions, pair by pair."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqrec_fast import metrics

# few distinct scores, so that ties are common
samples = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([-math.inf, -1, 0, 0.5, 2]), st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


def auc_of_pairs(labels, scores):
    """The share of (positive, negative) pairs that are in order, ties one half; None without."""
    positives = [s for y, s in zip(labels, scores, strict=True) if y]
    negatives = [s for y, s in zip(labels, scores, strict=True) if not y]
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    return sum(pairs) / len(pairs) if pairs else None


@given(samples)
def test_auc_counts_pairs(rows) -> None:
    labels, scores, _ = zip(*rows, strict=True)
    expected = auc_of_pairs(labels, scores)
    if expected is None:
        with pytest.raises(ValueError, match=f"auc: all {len(rows)} labels are {labels[0]}"):
            metrics.auc(labels, scores)
    else:
        assert metrics.auc(labels, scores) == pytest.approx(expected, rel=1e-12)
        assert metrics.auc(np.array(labels, bool), scores) == metrics.auc(labels, scores)


@given(samples)
def test_gauc_weighs_users_by_their_samples(rows) -> None:
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    total = weight = 0.0
    for user in set(users.tolist()):
        own = users == user
        area = auc_of_pairs(labels[own], scores[own])
        if area is not None:
            total, weight = total + area * own.sum(), weight + own.sum()
    if weight == 0:
        with pytest.raises(ValueError, match="groups has labels 0 and 1"):
            metrics.gauc(labels, scores, users)
    else:
        assert metrics.gauc(labels, scores, users) == pytest.approx(total / weight, rel=1e-12)
        names = np.array([f"user {user}" for user in users])
        assert metrics.gauc(labels, scores, names) == metrics.gauc(labels, scores, users)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1))
def test_log_loss_follows_its_definition(rows) -> None:
    losses = []
    for label, p in rows:
        own = min(max(p if label else 1 - p, 1e-15), 1 - 1e-15)
        losses.append(-math.log(own))
    labels, probabilities = zip(*rows, strict=True)
    assert metrics.log_loss(labels, probabilities) == pytest.approx(sum(losses) / len(losses))


def test_order_of_the_samples_does_not_matter(rng) -> None:
    labels, users = rng.integers(0, 2, 500), rng.integers(0, 40, 500)
    scores = rng.integers(0, 20, 500) / 7
    order = rng.permutation(500)
    assert metrics.auc(labels, scores) == metrics.auc(labels[order], scores[order])
    assert metrics.gauc(labels, scores, users) == pytest.approx(
        metrics.gauc(labels[order], scores[order], users[order]), rel=1e-14
    )


def test_known_values() -> None:
    assert metrics.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert metrics.auc([0, 1], [0.3, 0.3]) == 0.5
    assert metrics.log_loss([1, 0], [1.0, 0.0]) == pytest.approx(0, abs=1e-14)
    assert metrics.log_loss([0], [1.0]) == pytest.approx(34.5, abs=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.auc([], []), r"auc: labels has shape \(0,\), scores \(0,\); expected"),
        (lambda: metrics.auc([1, 0], [1.0]), r"labels has shape \(2,\), scores \(1,\)"),
        (lambda: metrics.auc([2, 0], [1, 2]), "auc: labels holds .*2.*; expected 0 or 1"),
        (lambda: metrics.auc([math.nan, 0], [1, 2]), "labels holds .*nan"),
        (lambda: metrics.auc([1, 0], [1, math.nan]), "scores holds NaN at position 1"),
        (lambda: metrics.gauc([1, 0], [1, 2], [0]), r"gauc: groups has shape \(1,\)"),
        (lambda: metrics.log_loss([1], [1.5]), "a probability is 1.5; expected 0 to 1"),
        (lambda: metrics.log_loss([1], [-0.1]), "a probability is -0.1"),
        (lambda: metrics.log_loss([[1]], [[1]]), r"labels has shape \(1, 1\)"),
    ],
)
def test_errors(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_metrics_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from seqrec_fast import metrics; metrics.auc"
    subprocess.run([sys.executable, "-c", code], check=True)
