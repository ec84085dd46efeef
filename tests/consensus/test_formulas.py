import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from consensus.formulas import PROTOCOLS, SCHEMES, bound, breaks, captured, messages
from consensus.quorum import FastThreshold, Threshold, TwoLayer, bits_of
from consensus.regions import AUTO, FLAT_BELOW


def even(n, k):
    return [n // k + (region < n % k) for region in range(k)]


@pytest.mark.parametrize(
    ("n", "m", "k", "flat", "two_layer", "representatives", "geo"),
    [
        (40, 4, 10, 13, 7, 3, 1),
        (100, 10, 10, 33, 15, 3, 3),
        (400, 20, 20, 133, 48, 6, 6),
        (1000, 25, 40, 333, 125, 13, 8),
    ],
)
def test_bounds_are_those_of_the_published_table(n, m, k, flat, two_layer, representatives, geo):
    sizes = [m] * k
    assert sum(sizes) == n
    found = [bound(scheme, sizes) for scheme in ("flat", "regional", "two-layer", "representatives", "geo")]
    assert found == [flat, flat, two_layer, representatives, geo]


def test_messages_are_those_counted_by_hand():
    assert messages("flat", [4]) == 3 + 9 + 12
    # 2 regions of 2: proposal 3; votes 2, bundles 2, certificates 2; the same for commit
    assert messages("regional", [2, 2]) == 3 + 2 * (2 + 2 + 2)
    assert messages("regional-fast", [2, 2]) == 3 + 2 + 2 + 2
    assert messages("star", [7]) == messages("regional", [7]) == 6 + 4 * 6
    # regions of 3 and 1: proposal 3; votes 2 members to 2 others each, bundles 2, certificates 2; for commit 3 vote
    assert messages("two-layer", [3, 1]) == 3 + (2 * 2 + 2 + 2) + (3 * 2 + 2 + 2)


@pytest.mark.parametrize(
    ("n", "k", "flat", "regional"),
    [
        (100, 10, 19_800, 639),
        (16, 4, 480, 87),
        (7, 2, 84, 30),
        (4, 4, 24, 27),
        (31, 4, 1860, 162),
        (31, 5, 1860, 174),
    ],
)
def test_messages_are_those_of_the_notes(n, k, flat, regional):
    assert messages("flat", even(n, k)) == flat
    assert messages("regional", even(n, k)) == regional == 5 * n - 4 * k - 1 + 2 * k * (k - 1)


def test_two_layers_send_what_was_published_and_the_second_certificate():
    table = [(16, 4, 132), (28, 7, 273), (49, 11, 602), (100, 10, 2070), (100, 17, 1607), (1000, 79, 36_597)]
    for n, k, published in table:
        sizes = even(n, k)
        assert messages("two-layer", sizes) == published + (n - k) + (n - sizes[0])
    assert messages("two-layer", even(100, 10)) == 1980 + 2 * 90 + 90


def test_automatic_regions_send_least_of_all_from_four_on_and_save_nine_tenths_from_31():
    for n in range(FLAT_BELOW, 401):
        assert min(range(4, n + 1), key=lambda k, n=n: messages("regional", even(n, k))) == AUTO
        saving = 1 - Fraction(messages("regional", even(n, AUTO)), messages("flat", even(n, AUTO)))
        assert saving >= (Fraction(9, 10) if n >= 31 else Fraction(6, 10))
    assert messages("regional", even(31, 6)) > messages("flat", [31]) // 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_bounds_are_those_of_the_quorum_systems(sizes):
    ends = list(itertools.accumulate(sizes))
    regions = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    n = ends[-1]
    assert bound("regional", sizes) == Threshold(n).bound
    assert bound("regional-fast", sizes) == FastThreshold(n).bound
    layers = TwoLayer(regions)
    assert bound("two-layer", sizes) == layers.bound
    if n <= 12:  # the least set that outvotes the honest, by trying all
        weakest = min(
            size
            for size in range(n + 1)
            for chosen in itertools.combinations(range(n), size)
            if layers.is_weak(bits_of(chosen))
        )
        assert bound("two-layer", sizes) == weakest - 1


@pytest.mark.parametrize(
    ("faulty", "row"),
    [
        (100, [0.052, 0.025, 0.0061, 3.7e-4, 1.7e-6, 1.6e-12, 9e-28]),
        (200, [0.18, 0.15, 0.098, 0.045, 0.012, 3.7e-4, 2.7e-7]),
        (250, [0.26, 0.24, 0.20, 0.15, 0.093, 0.021, 0.0016]),
        (300, [0.35, 0.35, 0.35, 0.32, 0.31, 0.21, 0.13]),
    ],
)
def test_the_odds_of_one_region_are_those_of_the_notes(faulty, row):
    for m, expected in zip([4, 7, 13, 25, 50, 100, 200], row, strict=True):
        digits = 0.5 * 10 ** (-1 if expected < 1e-20 else -2)  # as many as the notes print
        assert captured(1000, faulty, m) == pytest.approx(expected, rel=max(digits, 0.03))


@pytest.mark.parametrize(
    ("n", "m", "k", "two_layer", "geo"),
    [
        (100, 10, 10, [0.018, 0.15, 0.48], [0.69, 0.91, 0.99]),
        (1000, 25, 40, [1e-9, 0.0011, 0.41], [0.84, 0.998, 1.0]),
        (1000, 100, 10, [4e-12, 4e-5, 0.14], [0.004, 0.20, 0.90]),
    ],
)
def test_the_odds_of_independent_regions_are_those_of_the_notes(n, m, k, two_layer, geo):
    # the notes take regions for independent; that is `captured` and a binomial over regions
    for share, expected_two, expected_geo in zip([0.2, 0.25, 0.3], two_layer, geo, strict=True):
        one = captured(n, round(share * n), m)
        assert binom.sf((k - 1) // 3, k, one) == pytest.approx(expected_two, rel=0.3)
        assert 1 - (1 - one) ** k == pytest.approx(expected_geo, rel=0.08)


@pytest.mark.parametrize(("faulty", "expected"), [(20, 0.0005), (25, 0.05), (30, 0.47)])
def test_the_exact_odds_agree_with_the_notes_draws(faulty, expected):
    # 4,000 draws: three standard errors
    spread = 3 * (expected / 4000) ** 0.5
    assert breaks("two-layer", [10] * 10, faulty) == pytest.approx(expected, abs=spread)


def broken(scheme, sizes, chosen):
    """The definition itself: who is faulty, and does that break the scheme; heads are the first of their regions."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    lost = [
        sum(start <= replica < start + m for replica in chosen) > (m - 1) // 3
        for start, m in zip(starts, sizes, strict=True)
    ]
    allowed = (len(sizes) - 1) // 3
    return {
        "two-layer": sum(lost) > allowed,
        "geo": any(lost),
        "representatives": sum(start in chosen for start in starts) > allowed,
    }.get(scheme, len(chosen) > bound(scheme, sizes))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) <= 11), st.data())
def test_odds_are_the_share_of_all_placements_that_break(sizes, data):
    n = sum(sizes)
    faulty = data.draw(st.integers(0, n))
    placements = list(itertools.combinations(range(n), faulty))
    for scheme in SCHEMES:
        share = sum(broken(scheme, sizes, chosen) for chosen in placements) / len(placements)
        assert breaks(scheme, sizes, faulty) == pytest.approx(share, abs=1e-12), scheme
        if faulty <= bound(scheme, sizes):
            assert breaks(scheme, sizes, faulty) == 0
        if faulty == bound(scheme, sizes) + 1:
            assert breaks(scheme, sizes, faulty) > 0


def test_small_odds_keep_their_digits_and_one_region_is_a_plain_draw():
    assert breaks("geo", [200, 800], 100) == pytest.approx(captured(1000, 100, 200), rel=1e-6)
    assert 0 < breaks("two-layer", [100] * 10, 200) < 1e-11


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_no_count_is_negative_and_the_fast_path_sends_least(sizes):
    assert all(messages(protocol, sizes) >= 0 for protocol in PROTOCOLS)
    assert messages("regional-fast", sizes) <= messages("regional", sizes)
