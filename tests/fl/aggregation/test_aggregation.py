"""Sums do not depend on order or grouping; robust rules stay with the honest ones up to their bound."""

from fractions import Fraction
from math import ceil, inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.aggregation import (
    ExactSum,
    InsideAndAcross,
    Layout,
    WeightedMean,
    arrays_digest,
    krum,
    median,
    trimmed_mean,
)

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
everyday = st.floats(-1e3, 1e3, width=32)
vectors = st.lists(st.lists(finite | everyday, min_size=3, max_size=3), min_size=1, max_size=8)


def sum_of(rows):
    total = ExactSum(3)
    for row in rows:
        total.add(np.array(row, np.float64))
    return total


@given(vectors, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_every_order_and_every_grouping_gives_the_same_bits(rows, random):
    whole = sum_of(rows)
    shuffled = random.sample(rows, len(rows))
    cuts = sorted(random.choices(range(len(rows) + 1), k=3))
    grouped = ExactSum(3)
    for part in (shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        grouped.merge(sum_of(part))
    assert grouped.digest() == whole.digest()
    assert grouped.values().tobytes() == whole.values().tobytes()


@given(vectors)
@settings(max_examples=100, deadline=None)
def test_the_sum_is_the_exact_one_within_two_units_in_the_last_place(rows):
    exact = [sum(map(Fraction, column)) for column in zip(*rows, strict=True)]
    if any(abs(total) >= Fraction(1.7e308) for total in exact):
        return
    for rounded, total in zip(sum_of(rows).values().tolist(), exact, strict=True):
        nearest = float(total)
        assert abs(Fraction(rounded) - total) <= 2 * Fraction(np.spacing(abs(nearest)).item())


@given(vectors, vectors)
@settings(max_examples=100, deadline=None)
def test_digests_are_equal_exactly_where_the_exact_sums_are(one, other):
    exact = [[sum(map(Fraction, column)) for column in zip(*rows, strict=True)] for rows in (one, other)]
    assert (sum_of(one).digest() == sum_of(other).digest()) == (exact[0] == exact[1])


@pytest.mark.parametrize(
    ("rows", "total"),
    [
        ([[1e16, 0, 0], [1.0, 0, 0], [-1e16, 0, 0]], 1.0),  # float64 alone gives 0
        ([[-(2.0**70), 0, 0], [2.0**70 - 2.0**20, 0, 0]], -(2.0**20)),
        ([[5e-324, 0, 0], [5e-324, 0, 0]], 1e-323),
        ([[-1e-300, 0, 0], [1e300, 0, 0], [-1e300, 0, 0]], -1e-300),
    ],
)
def test_cancellation_loses_nothing(rows, total):
    assert sum_of(rows).values()[0] == total


def test_what_cancelled_leaves_no_trace_in_the_digest():
    assert sum_of([[1e300, 1, 2], [-1e300, 1, 2]]).digest() == sum_of([[0, 2, 4]]).digest()
    assert sum_of([[1, 1, 1], [-1, -1, -1]]).digest() == ExactSum(3).digest()


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_what_has_no_sum_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        sum_of([[0, bad, 0]])


def test_a_digest_covers_names_types_shapes_and_values_but_not_the_order_of_names():
    model = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2)}
    same = {"a": np.ones(2), "b": np.asfortranarray(model["b"])}
    assert arrays_digest(model) == arrays_digest(same)
    others = [
        {**model, "b": model["b"].reshape(3, 2)},
        {**model, "b": model["b"].astype(np.float64)},
        {**model, "b": model["b"] + 1},
        {"b": model["b"], "c": model["a"]},
    ]
    assert len({arrays_digest(other) for other in [model, *others]}) == 5


def test_a_layout_takes_a_model_apart_and_puts_it_together():
    model = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7)}
    layout = Layout.of(model)
    again = layout.arrays(layout.vector(model))
    assert again["w"].dtype == np.float32
    assert again["n"].dtype == np.float64  # a mean of integers need not be one
    assert (again["w"] == model["w"]).all()
    assert again["n"] == 7


def inside_and_across(rule, regions):
    both = InsideAndAcross(rule)
    return both.total([both.part(region, np.ones(len(region))) for region in regions])


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_who_is_in_which_region_does_not_change_a_bit_of_the_weighted_mean(clients, regions, seed):
    random = np.random.default_rng(seed)
    updates = random.normal(size=(clients, 5)) * 10.0 ** random.integers(-9, 9, size=(clients, 1))
    weights = random.integers(1, 500, clients).astype(float)
    homes = random.integers(0, regions, clients)
    rule = WeightedMean()
    parts = [rule.part(updates[homes == r], weights[homes == r]) for r in range(regions)]
    whole = rule.total([rule.part(updates, weights)])
    assert rule.total(parts).tobytes() == whole.tobytes()
    assert whole == pytest.approx(np.average(updates, axis=0, weights=weights), rel=1e-9, abs=1e-9)


def test_rules_by_hand():
    updates = np.array([[1.0], [2.0], [3.0], [4.0], [1000.0]])
    assert median(updates) == [3.0]
    assert median(updates[:4]) == [2.5]
    assert trimmed_mean(updates) == [3.0]
    assert trimmed_mean(updates, 0.0) == [202.0]
    # Krum, f = 1, two nearest others: the scores are 5, 2, 2, 5 and 996² + 997²; the first of the least is chosen.
    assert krum(updates) == [2.0]


@given(st.integers(1, 6), st.integers(1, 6), st.data())
@settings(max_examples=100, deadline=None)
def test_the_median_inside_and_across_stays_with_the_honest_below_its_bound(m, k, data):
    """The worst that fewer than ceil(m/2)·ceil(k/2) poisoned updates can do, wherever they are."""
    bound = ceil(m / 2) * ceil(k / 2)
    poisoned = data.draw(st.integers(0, bound - 1))
    places = data.draw(st.permutations(range(m * k)))
    greedy = [r * m + i for r in range(k) for i in range(ceil(m / 2))]  # half of one region after the other
    chosen = data.draw(st.sampled_from([greedy, list(places)]))[:poisoned]
    updates = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=m * k, max_size=m * k)))[:, None]
    honest = np.delete(updates, chosen)
    updates[chosen] = data.draw(st.sampled_from([-1e6, 1e6]))
    value = inside_and_across(median, [updates[r * m : (r + 1) * m] for r in range(k)])[0]
    assert honest.min() <= value <= honest.max()


@pytest.mark.parametrize(("m", "k"), [(3, 3), (4, 3), (5, 5), (1, 4)])
def test_as_many_as_the_bound_can_take_the_median_over(m, k):
    updates = np.zeros((k, m, 1))
    updates[: ceil(k / 2), : ceil(m / 2)] = 1e6
    assert inside_and_across(median, list(updates))[0] > 1


@given(st.integers(5, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_krum_chooses_an_honest_update_while_few_are_far_away(n, seed):
    random = np.random.default_rng(seed)
    updates = random.normal(size=(n, 4))
    poisoned = (n - 3) // 2
    updates[:poisoned] += 1e4
    assert any((krum(updates) == honest).all() for honest in updates[poisoned:])
