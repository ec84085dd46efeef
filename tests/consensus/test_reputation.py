from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.quorum import Threshold, bits_of, members_of
from consensus.regions import Regions
from consensus.reputation import MOST, STRIKE, Period, Standing, advance


def regions_of(n, k):
    return Regions(tuple(tuple(range(index, n, k)) for index in range(k)))


def everybody(n):
    return Period(certificates=((1 << n) - 1,))


councils = st.integers(4, 16).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@st.composite
def histories(draw):
    n, k = draw(councils)
    places = st.integers(0, n - 1)
    quorums = st.sets(places, min_size=Threshold(n).quorum, max_size=n).map(bits_of)
    periods = st.builds(
        Period,
        certificates=st.lists(quorums, max_size=4).map(tuple),
        failed=st.lists(places, max_size=4).map(tuple),
        complaints=st.lists(st.tuples(places, st.integers(0, 2**n - 1)), max_size=3).map(tuple),
    )
    return n, regions_of(n, k), draw(st.lists(st.tuples(periods, st.integers(0, 50)), max_size=6))


@settings(max_examples=200, deadline=None)
@given(histories())
def test_whatever_the_ledger_holds_the_standing_is_bounded_and_the_leader_goes_on(history):
    n, regions, periods = history
    standing = Standing.initial(range(n), regions)
    for period, view in periods:
        after = advance(standing, period, view, regions)
        assert after == advance(standing, period, view, regions)
        assert sorted(after.order) == list(range(n))
        assert after.order[view % n] == standing.order[view % n]
        assert all(0 <= value <= MOST for value in after.scores + after.strikes)
        assert all(abs(a - b) <= 1 for a, b in zip(after.scores, standing.scores, strict=True))
        assert all(a > b for a, b in zip(after.rotations, standing.rotations, strict=True))
        standing = after


@settings(max_examples=200, deadline=None)
@given(councils, st.integers(1, 12), st.data())
def test_a_leader_that_picks_the_quorums_harms_few_and_not_for_long(council, long, data):
    n, k = council
    regions, quorum = regions_of(n, k), Threshold(n).quorum
    full = standing = Standing.initial(range(n), regions)
    omitted = bits_of(data.draw(st.sets(st.integers(0, n - 1), max_size=n - quorum)))
    for _ in range(long):  # the worst it can do: leave the same ones out of every certificate
        standing = advance(standing, Period(certificates=((1 << n) - 1 & ~omitted,) * 3), 0, regions)
    harmed = bits_of(place for place in range(n) if standing.scores[place] < MOST)
    assert harmed == omitted
    assert harmed.bit_count() <= n - quorum <= (n - 1) // 3 + (n % 3 == 0)
    assert not any(standing.strikes)
    for _ in range(min(long, MOST)):
        standing = advance(standing, everybody(n), 0, regions)
    assert standing.scores == full.scores


@settings(max_examples=100, deadline=None)
@given(councils, st.data())
def test_any_other_quorums_harm_no_more(council, data):
    n, k = council
    quorum = Threshold(n).quorum
    picked = st.sets(st.integers(0, n - 1), min_size=quorum, max_size=n).map(bits_of)
    certificates = tuple(data.draw(st.lists(picked, min_size=1, max_size=5)))
    regions = regions_of(n, k)
    after = advance(Standing.initial(range(n), regions), Period(certificates=certificates), 0, regions)
    assert sum(score < MOST for score in after.scores) <= n - quorum


def test_without_recorded_certificates_nobody_loses():
    regions = regions_of(7, 2)
    standing = Standing.initial(range(7), regions)
    assert advance(standing, Period(), 0, regions).scores == standing.scores


def test_failed_leaders_follow_last_and_the_present_one_stays():
    regions = regions_of(7, 2)
    standing = Standing.initial(range(7), regions)
    after = advance(standing, replace(everybody(7), failed=(0, 1)), 2, regions)
    assert [after.order[view % 7] for view in range(2, 9)] == [2, 3, 4, 5, 6, 0, 1]
    again = advance(after, replace(everybody(7), failed=(0,)), 2, regions)
    assert [again.order[view % 7] for view in range(2, 9)] == [2, 3, 4, 5, 6, 1, 0]


def test_a_strike_is_forgotten_after_as_many_periods_as_it_weighs():
    regions = regions_of(7, 1)
    standing = advance(Standing.initial(range(7), regions), Period(failed=(3,)), 4, regions)
    for left in range(STRIKE, -1, -1):
        assert standing.strikes[3] == left
        standing = advance(standing, everybody(7), 4, regions)


def test_absent_replicas_lead_after_those_that_are_seen():
    regions = regions_of(7, 2)
    standing = Standing.initial(range(7), regions)
    after = advance(standing, Period(certificates=(bits_of([0, 1, 3, 4, 6]),)), 0, regions)
    assert after.order == (0, 1, 3, 4, 6, 2, 5)
    assert list(members_of(bits_of(after.order[-2:]))) == [2, 5]


def test_a_complaint_counts_with_more_than_f_signers():
    regions = Regions(((0, 1, 2, 3), (4, 5, 6)))
    standing = Standing.initial(range(7), regions)
    two = advance(standing, Period(complaints=((1, bits_of([0, 2])),)), 0, regions)
    assert two.strikes[1] == 0
    assert regions.head(0, two.rotations[0]) == 1
    three = advance(standing, Period(complaints=((1, bits_of([0, 2, 3])),)), 0, regions)
    assert three.strikes[1] == STRIKE
    assert regions.head(0, three.rotations[0]) == 2  # the next without strikes
    assert regions.head(1, three.rotations[1]) == 5


def test_where_all_members_have_strikes_the_head_rotates_all_the_same():
    regions = Regions(((0, 1), (2, 3, 4, 5, 6)))
    standing = advance(Standing.initial(range(7), regions), Period(failed=(0, 1)), 2, regions)
    assert standing.rotations[0] == 1
    assert advance(standing, Period(failed=(0, 1)), 2, regions).rotations[0] == 2


def test_another_number_of_regions_starts_the_rotations_anew():
    standing = advance(Standing.initial(range(7), regions_of(7, 2)), everybody(7), 0, regions_of(7, 2))
    assert standing.rotations == (1, 1)
    assert advance(standing, everybody(7), 0, regions_of(7, 3)).rotations == (0, 0, 0)


def test_vacated_places_never_lead():
    regions = Regions(((0, 2), (5,), (6,)))
    standing = advance(Standing.initial((0, 2, 5, 6), regions), Period(failed=(2,)), 2, regions)
    assert [standing.order[view % 4] for view in range(2, 6)] == [5, 6, 0, 2]
