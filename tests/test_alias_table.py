"""Draws by probability: the table holds them exactly, draws follow it, and nothing else counts."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

import seqrec_fast as sf
from seqrec_fast import _core, reference
from seqrec_fast.data import AliasTable


def share_of_slots(table: AliasTable) -> NDArray[np.float64]:
    """Return the probabilities that the slots give, in float64."""
    thresholds, aliases = table._table.slots()
    own = thresholds / 2.0**64
    own[aliases == np.arange(len(own))] = 1
    return (own + np.bincount(aliases, 1 - own, len(own))) / len(own)


@pytest.mark.parametrize("n", [1, 2, 3, 100, 4097])
@pytest.mark.parametrize("power", [0, 0.5, 1, 8])
def test_slots_hold_the_probabilities(rng, n, power):
    weight = rng.random(n) ** power * (rng.random(n) < 0.8)
    weight[n // 2] = 0.5
    table = AliasTable(weight)
    share = share_of_slots(table)
    np.testing.assert_allclose(share, weight / weight.sum(), rtol=1e-12, atol=1e-14)
    assert (share[weight == 0] == 0).all()
    np.testing.assert_allclose(table.probabilities, weight / weight.sum(), rtol=1e-12)
    assert len(table) == n


@pytest.mark.parametrize("n", [1, 31, 32, 33, 1000])
@pytest.mark.parametrize(("seed", "counter"), [(0, 0), (2**64 - 1, 5), (7, 2**63 + 11)])
def test_draws_equal_their_definition(target, rng, n, seed, counter):
    table = AliasTable(rng.random(77))
    thresholds, aliases = table._table.slots()
    block, half, lane = np.arange(n) // 32, np.arange(n) % 32 // 16, np.arange(n) % 16
    words = reference.philox4x32(
        seed,
        np.stack(
            np.broadcast_arrays(16 * block + lane, counter % 2**32, counter >> 32, 0), -1
        ).astype(np.uint32),
    )
    expected = []
    for row, h in zip(words.tolist(), half, strict=True):
        place, fraction = divmod((row[2 * h] | row[2 * h + 1] << 32) * 77, 2**64)
        expected.append(place if fraction < thresholds[place] else aliases[place])
    assert table.draw(n, seed, counter).tolist() == expected
    assert table.draw(n, seed, counter, ordered=True).tolist() == sorted(expected)


def test_frequencies_pass_a_chi_square_test():
    probabilities = np.arange(1.0, 201) ** -0.7
    probabilities[::7] = 0
    table, n = AliasTable(probabilities), 1_000_000
    expected = n * table.probabilities
    for seed in range(3):
        count = np.bincount(table.draw(n, seed), minlength=200)
        assert (count[::7] == 0).all()
        used = expected > 0
        statistic = ((count - expected)[used] ** 2 / expected[used]).sum()
        degrees = used.sum() - 1
        # five standard deviations of the statistic
        assert abs(statistic - degrees) < 5 * math.sqrt(2 * degrees)


def test_counters_give_independent_draws():
    table = AliasTable(np.ones(1000))
    first, second = (table.draw(100_000, 1, counter) for counter in (0, 1))
    assert abs((first == second).mean() - 1e-3) < 5 * math.sqrt(1e-3 / 100_000)


def test_a_huge_catalogue_with_one_likely_item():
    probabilities = np.full(3_000_000, 1e-9)
    probabilities[2_999_999] = 1
    probabilities[:1000] = 0
    table = AliasTable(probabilities)
    np.testing.assert_allclose(share_of_slots(table), table.probabilities, rtol=1e-8)
    drawn = table.draw(100_000, 3)
    assert drawn.min() >= 1000
    assert abs((drawn == 2_999_999).mean() - table.probabilities[-1]) < 1e-3


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1, 1e300])
def test_the_scale_of_the_probabilities_does_not_count(scale):
    table = AliasTable(np.array([1.0, 0, 3, 4]) * scale)
    np.testing.assert_allclose(share_of_slots(table), [0.125, 0, 0.375, 0.5], rtol=1e-3)


def test_the_same_draws_for_any_number_of_threads():
    table = AliasTable(np.arange(50_000))
    sf.set_num_threads(1)
    one = table.draw(100_001, 9, 4)
    for threads in (2, 5):
        sf.set_num_threads(threads)
        assert np.array_equal(table.draw(100_001, 9, 4), one)
    # more draws begin with the same ones
    assert np.array_equal(table.draw(10, 9, 4), one[:10])
    assert table.draw(0, 9).shape == (0,)


def test_copies_draw_the_same():
    weight = np.random.default_rng(0).random(1000)
    table = AliasTable(weight)
    first = table.draw(500, 1)
    weight[:] = 0
    for other in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert np.array_equal(other.draw(500, 1), first)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([], r"probabilities has shape \(0,\); expected \(n_items,\), one or more"),
        ([[1.0]], r"probabilities has shape \(1, 1\); expected \(n_items,\), one or more"),
        ([0.0, 0.0], r"probabilities are all 0"),
        ([1.0, -0.5], r"probabilities\[1\] is -0\.5; expected a finite number, 0 or more"),
        ([math.nan], r"probabilities\[0\] is nan"),
        ([1.0, math.inf], r"probabilities\[1\] is inf"),
        ([1.7e308, 1.7e308], r"probabilities sum to inf"),
    ],
)
def test_bad_probabilities(probabilities, message):
    with pytest.raises(ValueError, match=f"AliasTable: {message}"):
        AliasTable(probabilities)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0), r"n is -1; expected 0 to 4294967296"),
        ((2**33, 0), r"n is 8589934592; expected 0 to 4294967296"),
        ((1, -1), r"seed is -1; expected 0 to 18446744073709551615"),
        ((1, 2**64), r"seed is 18446744073709551616"),
        ((1, 0, 2**64), r"counter is 18446744073709551616"),
    ],
)
def test_bad_draws(arguments, message):
    with pytest.raises(ValueError, match=rf"AliasTable\.draw: {message}"):
        AliasTable([1.0]).draw(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2.5, 0), "n is 2.5; expected an int"),
        (("a", 0), "n is 'a'; expected an int"),
        ((None, 0), "n is None; expected an int"),
        ((2, 0.5), "seed is 0.5; expected an int"),
        ((2, 0, "x"), "counter is 'x'; expected an int"),
    ],
)
def test_draws_of_other_types(arguments, message):
    with pytest.raises(TypeError, match=f"draw: {message}"):
        AliasTable([1.0]).draw(*arguments)
    with pytest.raises(TypeError, match="draw: ordered is 1; expected True or False"):
        AliasTable([1.0]).draw(2, 0, ordered=1)
    with pytest.raises(TypeError, match="AliasTable: probabilities is <U1; expected numbers"):
        AliasTable(["a"])


def test_rows_are_ordered_by_id(rng):
    for ids in (
        rng.integers(0, 50, 200),
        rng.integers(-(2**62), 2**62, 100),
        np.array([3, -1, 3, 2**63 - 1, -(2**63), -1]),
        np.full(5, 7),
        np.empty(0, np.int64),
    ):
        order, begin, unique = _core.order_rows(ids)
        expected, first = np.unique(ids, return_index=True)
        assert np.array_equal(order, np.argsort(ids, kind="stable"))
        assert np.array_equal(unique, expected)
        assert np.array_equal(order[begin[:-1]], first)
        assert begin[-1] == len(ids)
