import math
import statistics

import pytest

from consensus.simulation.network import Cut, Faults, Network, nanos, partition, placed, uniform


def test_a_message_takes_half_a_round_trip():
    network = Network(2, placed([[0.0, 0.1], [0.2, 0.0]], [0, 1]))
    assert network.arrivals(5, 0, 1) == (5 + nanos(0.05),)
    assert network.arrivals(5, 1, 0) == (5 + nanos(0.1),)


def test_an_uplink_sends_one_message_after_the_other():
    network = Network(2, uniform(0), uplink=1e6)
    assert [network.depart(0, 0, 1000) for _ in range(3)] == [nanos(0.008), nanos(0.016), nanos(0.024)]
    assert network.depart(nanos(1), 0, 1000) == nanos(1.008)


def test_sending_and_receiving_at_the_same_rate_overlap():
    network = Network(2, uniform(0), uplink=1e6, downlink=1e6)
    assert network.receive(nanos(0.5), 1, 1000) == nanos(0.5)
    assert network.receive(nanos(0.5), 1, 1000) == nanos(0.508)


def test_a_slower_downlink_takes_as_long_as_it_takes():
    network = Network(2, uniform(0), uplink=2e6, downlink=1e6)
    assert network.receive(nanos(0.5), 1, 1000) == nanos(0.504)


def test_jitter_keeps_the_median_and_spreads_as_it_should():
    network = Network(2, uniform(0.2), jitter=0.3, seed=1)
    delays = sorted(network.arrivals(0, 0, 1)[0] for _ in range(4001))
    assert statistics.median(delays) == pytest.approx(nanos(0.1), rel=0.02)
    assert delays[int(4001 * 0.8413)] == pytest.approx(nanos(0.1 * math.exp(0.3)), rel=0.05)


def test_losses_and_copies_are_as_frequent_as_asked_until_the_network_heals():
    network = Network(2, uniform(0.01), faults=Faults(loss=0.3, duplicate=0.5, heal=10), seed=2)
    copies = [len(network.arrivals(0, 0, 1)) for _ in range(4000)]
    assert copies.count(0) / 4000 == pytest.approx(0.3, abs=0.03)
    assert copies.count(2) / 4000 == pytest.approx(0.35, abs=0.03)
    assert {len(network.arrivals(nanos(10), 0, 1)) for _ in range(100)} == {1}


def test_a_partition_cuts_both_ways_and_ends():
    network = Network(4, uniform(0), faults=Faults(cuts=partition(1, 2, [[0, 1], [2]])))
    at = nanos(1.5)
    assert network.arrivals(at, 0, 2) == network.arrivals(at, 2, 1) == ()
    assert network.arrivals(at, 0, 1)
    assert network.arrivals(at, 3, 2)  # in no group
    assert network.arrivals(nanos(2), 0, 2)


def test_a_cut_can_be_one_way():
    network = Network(2, uniform(0), faults=Faults(cuts=(Cut(0, 1, 1, 2),)))
    assert network.arrivals(0, 0, 1) == ()
    assert network.arrivals(0, 1, 0)


def test_one_kind_of_chance_does_not_shift_another():
    plain = Network(2, uniform(0.1), jitter=0.5, seed=3)
    lossy = Network(2, uniform(0.1), jitter=0.5, faults=Faults(loss=0.2), seed=3)
    pairs = [(plain.arrivals(0, 0, 1), lossy.arrivals(0, 0, 1)) for _ in range(200)]
    assert all(b in ((), a) for a, b in pairs)
    assert any(b == () for _, b in pairs)


def test_reordering_holds_messages_back_no_longer_than_said():
    network = Network(2, uniform(0.0), faults=Faults(reorder=0.5, reorder_s=0.4), seed=4)
    delays = [network.arrivals(0, 0, 1)[0] for _ in range(500)]
    assert 0 in delays
    assert nanos(0.2) < max(delays) <= nanos(0.4)
