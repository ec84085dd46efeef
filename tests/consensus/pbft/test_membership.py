import pytest
from council import CHAIN, key
from hypothesis import given
from hypothesis import strategies as st

from consensus.pbft.config import Config
from consensus.pbft.membership import change, change_of
from consensus.pbft.state import Header
from consensus.protocols import find
from consensus.reputation import Standing


def config(n=4, period=4, window=8):
    return Config(CHAIN, 0, tuple(map(key, range(n))), find("flat"), period=period, window=window)


def header(n=4, seq=1, **fields):
    return Header(seq, 0, tuple(map(key, range(n))), Standing.initial(range(n)), **fields)


def members(*places):
    return tuple(key(place) if place is not None else b"" for place in places)


@pytest.mark.parametrize(("seq", "until"), [(1, 12), (3, 12), (4, 12), (5, 16), (8, 16), (9, 20)])
def test_a_change_takes_effect_at_the_first_checkpoint_a_window_away(seq, until):
    after, result = change_of(header(seq=seq), change(members(0, 1, 2, 3, 4)), config())
    assert (after.until, result) == (until, b"ok %d" % until)
    assert after.coming == members(0, 1, 2, 3, 4)
    assert after.members == header().members, "until then nothing changes"


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        (members(0, 1, 2, 3, 4), True),
        (members(0, 1, 2, None), True),
        (members(0, 1, 2), True),
        (members(0, 1, 2, 9), True),
        (members(0, 1, 2, 3), False),
        (members(0, 1, 2, 9, 4), False),
        (members(1, 0, 2, 3), False),
        (members(0, 1, 2, 2), False),
        (members(None, None, None, None), False),
        ((), False),
        ((*members(0, 1, 2), b"short"), False),
    ],
)
def test_one_of_four_places_may_change_at_a_time(wanted, allowed):
    before = header()
    after, result = change_of(before, change(wanted), config())
    assert result.startswith(b"ok" if allowed else b"refused: ")
    assert (after != before) is allowed


def test_a_vacated_place_keeps_its_number():
    after, _ = change_of(header(), change(members(0, 1, 2)), config())
    assert after.coming == members(0, 1, 2, None)


@pytest.mark.parametrize(("n", "most"), [(4, 1), (7, 1), (12, 1), (13, 2), (18, 2), (19, 3), (31, 5), (100, 16)])
def test_at_most_half_the_tolerated_faults_may_be_exchanged(n, most):
    for changed, allowed in ((most, True), (most + 1, False)):
        wanted = (*map(key, range(n - changed)), *(key(place, 1) for place in range(changed)))
        _, result = change_of(header(n), change(wanted), config(n))
        assert result.startswith(b"ok") is allowed, result


def test_one_change_at_a_time():
    first, _ = change_of(header(), change(members(0, 1, 2, 3, 4)), config())
    second, result = change_of(first, change(members(0, 1, 2)), config())
    assert (second, result) == (first, b"refused: another change is under way")


@given(st.binary(max_size=60))
def test_an_operation_that_is_no_member_list_is_refused(operation):
    after, result = change_of(header(), operation, config())
    assert after == header()
    assert result.startswith(b"refused: ")
