import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.rtt import LONGEST_US, clipped


@st.composite
def lies(draw):
    """True round trips on a grid (so the triangle rule holds exactly), and what is reported with F liars."""
    n = draw(st.integers(4, 13))
    faults = (n - 1) // 3
    points = np.array(draw(st.lists(st.tuples(*[st.integers(0, 40_000)] * 2), min_size=n, max_size=n)))
    true = np.abs(points[:, None] - points).sum(axis=2) + 500 * ~np.eye(n, dtype=bool)
    liars = draw(st.sets(st.integers(0, n - 1), max_size=faults))
    reports = true.copy()
    extreme = st.sampled_from([0, 1, LONGEST_US, 10 * LONGEST_US])
    for liar in sorted(liars):
        for other in range(n):
            reports[liar, other] = draw(extreme | st.integers(0, 200_000))  # whatever it likes
            if other not in liars:  # and it answers pings late, never early
                reports[other, liar] += draw(st.just(0) | st.integers(0, 200_000))
    return true, reports, liars, faults


@settings(max_examples=300, deadline=None)
@given(lies())
def test_f_liars_bend_the_matrix_only_within_the_bounds(case):
    true, reports, liars, faults = case
    n = len(true)
    result = clipped(reports)
    said = np.maximum(np.clip(reports, 0, LONGEST_US), np.clip(reports, 0, LONGEST_US).T)
    unknown = said == 0
    said[unknown] = LONGEST_US
    np.fill_diagonal(said, 0)
    assert (result == result.T).all()
    for i in range(n):
        for j in range(i):
            others = [k for k in range(n) if k not in (i, j)]
            upper = sorted(said[i, k] + said[k, j] for k in others)[faults]
            # A leg that nobody measured tells nothing about how near a pair may be.
            differences = [abs(said[i, k] - said[k, j]) * (not (unknown[i, k] or unknown[k, j])) for k in others]
            lower = sorted(differences)[-1 - faults]
            if not {i, j} & liars:
                assert result[i, j] == true[i, j]
            elif not {i, j} <= liars:
                assert result[i, j] >= true[i, j]
            else:
                assert result[i, j] >= min(lower, true[i, j])
            assert result[i, j] <= upper
            further = sum(said[i, k] + said[k, j] >= result[i, j] for k in others)
            assert further >= len(others) - faults  # remote from one only by being remote by way of all but F


def test_the_larger_direction_counts_and_a_missing_report_is_filled():
    reports = np.array([[0, 10, 30, 40], [12, 0, 0, 50], [30, 0, 0, 60], [40, 50, 60, 0]]) * 1000
    result = clipped(reports, faults=0)
    assert result[0, 1] == 12_000
    assert result[1, 2] == 42_000  # nobody measured it: the shortest way, through 0
    assert clipped(reports)[1, 2] == 110_000  # with F = 1 the second shortest, through 3


def test_f_plus_one_liars_do_push_an_honest_pair_apart():
    reports = np.full((4, 4), 20_000)
    np.fill_diagonal(reports, 0)
    reports[1, 2] += 100_000  # 2 answers 1 late
    assert clipped(reports)[0, 1] == 20_000
    reports[1, 3] += 100_000  # and 3 as well, which is one liar more than F
    assert clipped(reports)[0, 1] == 100_000


@pytest.mark.parametrize("n", [1, 2, 3])
def test_without_others_to_vouch_nothing_is_clipped(n):
    reports = np.full((n, n), 7_000)
    np.fill_diagonal(reports, 0)
    assert clipped(reports, faults=1).tolist() == reports.tolist()


def test_a_long_report_counts_as_the_longest():
    reports = np.array([[0, 10**12], [5, 0]])
    assert clipped(reports).tolist() == [[0, LONGEST_US], [LONGEST_US, 0]]
