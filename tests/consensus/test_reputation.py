from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.quorum import Threshold, bits_of
from consensus.reputation import MOST, STRIKE, Standing, advance


def everybody(n):
    return (1 << n) - 1


sizes = st.integers(4, 16)


@st.composite
def histories(draw):
    n = draw(sizes)
    places = st.integers(0, n - 1)
    seen = st.just(0) | st.sets(places, min_size=Threshold(n).quorum, max_size=n).map(bits_of)
    periods = st.tuples(seen, st.lists(places, max_size=4), st.integers(0, 50))
    return n, draw(st.lists(periods, max_size=6))


@settings(max_examples=200, deadline=None)
@given(histories())
def test_whatever_the_ledger_holds_the_standing_is_bounded_and_the_leader_goes_on(history):
    n, periods = history
    standing = Standing.initial(range(n))
    for seen, failed, view in periods:
        after = advance(standing, seen, failed, view)
        assert after == advance(standing, seen, failed, view)
        assert sorted(after.order) == list(range(n))
        assert after.order[view % n] == standing.order[view % n]
        assert all(0 <= value <= MOST for value in after.scores + after.strikes)
        assert all(abs(a - b) <= 1 for a, b in zip(after.scores, standing.scores, strict=True))
        standing = after


@settings(max_examples=200, deadline=None)
@given(sizes, st.integers(1, 12), st.data())
def test_a_leader_that_picks_the_quorums_harms_few_and_not_for_long(n, long, data):
    quorum = Threshold(n).quorum
    full = standing = Standing.initial(range(n))
    omitted = bits_of(data.draw(st.sets(st.integers(0, n - 1), max_size=n - quorum)))
    for _ in range(long):  # the worst it can do: leave the same ones out of every certificate
        standing = advance(standing, everybody(n) & ~omitted, (), 0)
    harmed = bits_of(place for place in range(n) if standing.scores[place] < MOST)
    assert harmed == omitted
    assert harmed.bit_count() <= n - quorum <= (n - 1) // 3 + (n % 3 == 0)
    assert not any(standing.strikes)
    for _ in range(min(long, MOST)):
        standing = advance(standing, everybody(n), (), 0)
    assert standing.scores == full.scores


def test_without_recorded_certificates_nobody_loses():
    standing = Standing.initial(range(7))
    assert advance(standing, 0, (), 0).scores == standing.scores


def test_failed_leaders_follow_last_and_the_present_one_stays():
    standing = Standing.initial(range(7))
    after = advance(standing, everybody(7), (0, 1), 2)
    assert [after.order[view % 7] for view in range(2, 9)] == [2, 3, 4, 5, 6, 0, 1]
    again = advance(after, everybody(7), (0,), 2)
    assert [again.order[view % 7] for view in range(2, 9)] == [2, 3, 4, 5, 6, 1, 0]


def test_a_strike_is_forgotten_after_as_many_periods_as_it_weighs():
    standing = advance(Standing.initial(range(7)), everybody(7), (3,), 4)
    for left in range(STRIKE, -1, -1):
        assert standing.strikes[3] == left
        standing = advance(standing, everybody(7), (), 4)


def test_absent_replicas_lead_after_those_that_are_seen():
    after = advance(Standing.initial(range(7)), bits_of([0, 1, 3, 4, 6]), (), 0)
    assert after.order == (0, 1, 3, 4, 6, 2, 5)


def test_vacated_places_never_lead():
    standing = advance(Standing.initial((0, 2, 5, 6)), 0, (2,), 2)
    assert [standing.order[view % 4] for view in range(2, 6)] == [5, 6, 0, 2]
