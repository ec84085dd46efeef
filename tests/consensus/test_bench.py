"""The bench on synthetic networks; the figures on measured ones are in benchmarks/results/consensus.md."""

import math

import numpy as np
import pytest

from consensus import formulas
from consensus.bench import Case, Place, measure
from consensus.pbft.votes import VoteSet
from consensus.quorum import bits_of
from consensus.simulation.latency import Latency
from consensus.simulation.schemes import NullSum
from shards.errors import InputError


def sites(count, inside_ms=1.0):
    """Sites on a circle, up to 200 ms of round trip apart."""
    angle = 2 * np.pi * np.arange(count) / count
    apart = 200 * np.abs(np.sin((angle[:, None] - angle) / 2)) + 0.01 * np.arange(count)[:, None] + 5
    np.fill_diagonal(apart, inside_ms)
    return Latency(tuple(f"site {index}" for index in range(count)), apart, np.full((count, count), 0.05))


def case(protocol="regional", n=16, **other):
    return Case(protocol, n, sites(4), "four sites on a circle", **{"rounds": 2, **other})


@pytest.mark.parametrize("n", [4, 7, 16, 31, 40])
@pytest.mark.parametrize("protocol", ["flat", "flat-mac", "regional", "regional-fast", "two-layer", "star"])
def test_messages_of_the_vote_path_equal_the_formula(protocol, n):
    figures = measure(case(protocol, n))
    assert figures.messages["vote"] == formulas.messages(figures.ran, figures.sizes)
    assert figures.decisions == 2
    assert "backup" not in figures.messages
    assert figures.messages["reply"] == n


def test_no_timer_goes_off_in_a_star_whose_replicas_are_grouped_by_site():
    by_site, automatic = measure(case("star", 40, regions="sites", rounds=1)), measure(case("star", 40, rounds=1))
    assert by_site.busiest == pytest.approx(automatic.busiest)


def test_the_bound_shown_is_the_protocols_own():
    assert measure(case("regional", 16)).bound == 5
    assert measure(case("regional-fast", 16)).bound == 3
    assert measure(case("two-layer", 16)).bound == 3


def test_phases_add_up_to_the_clients_latency():
    figures = measure(case("flat", 7))
    assert sum(figures.phases.values()) == pytest.approx(figures.client.mean())
    assert all(seconds > 0 for seconds in figures.phases.values())


def test_a_regional_protocol_below_ten_replicas_runs_flat_and_says_so():
    figures = measure(case("regional", 7))
    assert figures.ran == "flat"
    assert figures.sizes == (7,)


def test_chunks_relieve_the_leaders_uplink_and_are_counted_apart():
    inline = measure(case("flat", 16, chunks=False, payload=200_000, link=1e8, rounds=1))
    chunks = measure(case("flat", 16, payload=200_000, link=1e8, rounds=1))
    assert chunks.client.mean() < inline.client.mean()
    assert "chunk" not in inline.messages
    assert chunks.messages["chunk"] == 16 * 15 - 15 + 15  # a chunk to each, and each chunk to everyone else
    assert chunks.messages["vote"] == inline.messages["vote"]


def test_bytes_between_sites_are_fewer_where_votes_travel_in_bundles():
    assert measure(case("regional", 40, regions=4)).wide_bytes < measure(case("flat", 40)).wide_bytes / 10


def test_the_leader_that_is_best_placed_is_faster_than_the_worst():
    lopsided = Latency(
        ("near", "also near", "far"), np.array([[1.0, 10, 300], [10, 1, 300], [300, 300, 1]]), np.zeros((3, 3))
    )
    best, worst = (
        measure(Case("flat", 9, lopsided, "lopsided", leader=leader, rounds=1)) for leader in ("best", "worst")
    )
    assert best.client[0] < worst.client[0]


def test_the_leader_is_placed_first_and_everybody_once():
    place = Place.of(case(n=12, leader="worst"))
    assert sorted(place.sites.tolist()) == sorted([0, 1, 2, 3] * 3)
    assert place.rtt_s.shape == (13, 13)
    assert place.rtt_s[12, 0] == pytest.approx(0.001)  # the client at the leader's site


@pytest.mark.parametrize("faults", ["silent", "heads"])
def test_silent_replicas_within_the_bound_delay_but_do_not_stop_a_council(faults):
    broken = measure(case(n=16, regions=4, faults=faults, faulty=3))
    whole = measure(case(n=16, regions=4))
    assert len(broken.client) == 2
    assert broken.client.mean() > whole.client.mean()


def test_a_slow_leader_costs_what_it_stands_still():
    slow, quick = measure(case("flat", 7, faults="slow-leader")), measure(case("flat", 7))
    assert slow.client.mean() == pytest.approx(quick.client.mean() + 0.5, abs=0.01)


def test_more_silent_replicas_than_the_bound_are_refused_before_anything_runs():
    with pytest.raises(InputError, match="survives 5; take fewer"):
        measure(case(n=16, faults="silent", faulty=6))


def test_a_saturated_regional_council_with_sums_decides_without_a_timer():
    """A head once folded its members' votes into a certificate before its bundle was sent, and then lacked them."""
    figures = measure(case("regional", 40, regions=4, rounds=256, rate=math.inf))
    assert figures.decisions == 256
    assert figures.messages["vote"] == formulas.messages("regional", figures.sizes)


def test_a_certificate_leaves_the_votes_of_a_region_where_its_head_finds_them():
    schemes = [NullSum(own, 4, 96) for own in range(4)]
    votes = VoteSet(schemes[0], b"statement")
    for own, scheme in enumerate(schemes):
        votes.add(1 << own, scheme.sign(b"statement"), checked=False)
    everyone, _ = votes.combined()
    region, signature = votes.combined(bits_of([1, 2]))
    assert (everyone, region) == (0b1111, 0b110)
    assert schemes[3].verify_all(0b110, b"statement", signature)


def test_equal_seeds_give_equal_figures_with_jitter_and_load():
    one, other = (measure(case("regional", 16, jitter=True, rate=20.0, rounds=8, seed=3)) for _ in range(2))
    assert one.client.tolist() == other.client.tolist()
    assert (
        measure(case("regional", 16, jitter=True, rate=20.0, rounds=8, seed=4)).client.tolist() != one.client.tolist()
    )


@pytest.mark.parametrize(
    "wrong",
    [{"protocol": "paxos"}, {"n": 3}, {"faults": "flood"}, {"signatures": "rsa"}, {"payload": 0}, {"link": 0}],
)
def test_a_case_that_cannot_be_is_refused_in_one_line(wrong):
    with pytest.raises(InputError) as caught:
        case(**wrong)
    assert "\n" not in str(caught.value)
