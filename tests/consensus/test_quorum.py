from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.quorum import FastThreshold, Threshold, TwoLayer, bits_of, members_of


def sets(n, smallest=0):
    """All sets of replicas, as bit sets."""
    return [bits for bits in range(1 << n) if bits.bit_count() >= smallest]


def minimal_quorums(system):
    """Quorums that are none any more without any one of their members: what holds for these holds for all."""
    return [
        bits
        for bits in sets(system.n)
        if system.is_quorum(bits) and not any(system.is_quorum(bits ^ 1 << member) for member in members_of(bits))
    ]


def survives(system, faulty):
    """Whether a quorum system's promises hold with these replicas faulty."""
    correct = (1 << system.n) - 1 & ~faulty
    return not system.is_weak(faulty) and system.is_quorum(correct)


@pytest.mark.parametrize(
    ("n", "faults", "quorum"),
    [(1, 0, 1), (2, 0, 2), (3, 0, 2), (4, 1, 3), (5, 1, 4), (6, 1, 4), (7, 2, 5), (8, 2, 6), (9, 2, 6), (10, 3, 7),
     (13, 4, 9), (31, 10, 21), (100, 33, 67), (400, 133, 267)],
)  # fmt: skip
def test_thresholds_by_hand(n, faults, quorum):
    system = Threshold(n)
    assert (system.bound, system.quorum) == (faults, quorum)
    assert system.is_quorum((1 << quorum) - 1)
    assert not system.is_quorum((1 << quorum - 1) - 1)
    assert system.is_weak((1 << faults + 1) - 1)
    assert not system.is_weak((1 << faults) - 1)


@pytest.mark.parametrize("n", range(4, 14))
def test_any_two_quorums_meet_in_a_weak_set(n):
    system = Threshold(n)
    quorums = [bits_of(members) for members in combinations(range(n), system.quorum)]
    first = quorums[0]  # all quorums of one size are alike, so one stands for the other side
    assert all(system.is_weak(first & other) for other in quorums)
    # and the quorum is the smallest that does it
    assert not system.is_weak(
        (1 << system.quorum - 1) - 1 & (((1 << system.quorum - 1) - 1) << n - system.quorum + 1)
    )


@pytest.mark.parametrize("n", range(4, 14))
@pytest.mark.parametrize("system", [Threshold, FastThreshold])
def test_the_correct_replicas_form_a_quorum_whoever_is_faulty(n, system):
    system = system(n)
    assert all(survives(system, bits_of(faulty)) for faulty in combinations(range(n), system.bound))
    assert not any(survives(system, bits_of(faulty)) for faulty in combinations(range(n), system.bound + 1))


def test_two_f_plus_one_would_be_too_few_at_n_of_3f_plus_3():
    n, f = 6, 1
    assert 2 * (2 * f + 1) - n <= f
    assert Threshold(n).quorum == 2 * f + 2


def test_faults_may_be_given():
    assert Threshold(10, 1).quorum == 6
    assert FastThreshold(10, 0).quorum == 10
    assert FastThreshold(10, 0).survivors == 10


@pytest.mark.parametrize(
    ("n", "faults", "quorum", "survivors"), [(4, 0, 4, 4), (6, 1, 5, 3), (11, 2, 9, 5), (16, 3, 13, 7)]
)
def test_fast_thresholds_by_hand(n, faults, quorum, survivors):
    system = FastThreshold(n)
    assert (system.bound, system.quorum, system.survivors) == (faults, quorum, survivors)


@pytest.mark.parametrize("n", [6, 7, 11])
def test_a_fast_decision_is_recognised_among_any_view_changes(n):
    system = FastThreshold(n)
    f = system.bound
    voted = (1 << system.quorum) - 1  # whoever voted for what was decided
    for faulty in combinations(range(n), f):
        for answering in combinations(range(n), system.quorum):
            honest = bits_of(answering) & voted & ~bits_of(faulty)
            other = bits_of(answering) & ~honest  # the faulty ones may all claim another digest
            assert honest.bit_count() >= system.survivors
            assert other.bit_count() < system.survivors


def cut(*sizes):
    regions, start = [], 0
    for size in sizes:
        regions.append(tuple(range(start, start + size)))
        start += size
    return regions


@pytest.mark.parametrize(
    ("sizes", "bound"),
    [((4, 4), 1), ((4, 4, 4), 1), ((4, 4, 4, 4), 3), ((1, 4, 4, 4), 2), ((3, 3, 3), 0), ((1, 1, 1, 1), 1),
     ((7, 4), 1), ((7, 7), 2), ((5, 6), 1), ((2, 2, 2, 2), 1), ((10,) * 10, 15), ((20,) * 20, 48)],
)  # fmt: skip
def test_two_layer_bounds_by_hand(sizes, bound):
    assert TwoLayer(cut(*sizes)).bound == bound


@pytest.mark.parametrize(
    "sizes", [(4, 4), (3, 3, 3), (4, 4, 4), (1, 1, 1, 1), (2, 2, 2, 2), (1, 4, 4), (5, 6), (7, 4)]
)
def test_the_two_layer_bound_is_exact(sizes):
    system = TwoLayer(cut(*sizes))
    everywhere = [bits for bits in sets(system.n) if bits.bit_count() <= system.bound]
    assert all(survives(system, faulty) for faulty in everywhere)
    assert any(not survives(system, bits_of(faulty)) for faulty in combinations(range(system.n), system.bound + 1)), (
        "one more, well placed, breaks it"
    )


@pytest.mark.parametrize("sizes", [(4, 4), (3, 3, 3), (1, 1, 1, 1), (2, 3, 4), (4, 5)])
def test_any_two_quorums_of_two_layers_meet_in_a_weak_set(sizes):
    system = TwoLayer(cut(*sizes))
    quorums = minimal_quorums(system)
    assert all(system.is_weak(one & other) for one in quorums for other in quorums)


def test_a_region_decides_with_its_own_quorum():
    system = TwoLayer(cut(4, 4, 4, 4))
    assert system.is_quorum(0b0000_0111_0111_0111)
    assert not system.is_quorum(0b0000_0011_1111_1111), "two regions and a half, though ten signed"
    assert system.is_weak(0b0000_0000_0011_0011)
    assert not system.is_weak(0b0001_0001_0001_0011), "one region with more than its faults"


@given(st.sets(st.integers(0, 300)))
def test_members_of_undoes_bits_of(members):
    assert list(members_of(bits_of(members))) == sorted(members)


def test_naming_a_member_twice_counts_once():
    assert bits_of([3, 3, 0]) == 0b1001
