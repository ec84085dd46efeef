import random

import numpy as np
import pytest

from consensus import bench
from consensus.simulation.costs import FREE, IOT, SERVER
from consensus.simulation.latency import Latency


def scattered(count, seed):
    """Sites at random round trips that need not obey the triangle rule."""
    draw = random.Random(seed)
    rtt = np.array([[draw.uniform(2, 300) for _ in range(count)] for _ in range(count)])
    return Latency(tuple(f"site {index}" for index in range(count)), rtt, np.zeros((count, count)))


def simulated(case, monkeypatch):
    """When each replica passed each phase of number 1 in the event simulator, after the leader had the request."""
    kept = []

    class Kept(bench.Recorder):
        def __init__(self, sites):
            super().__init__(sites)
            kept.append(self)

    monkeypatch.setattr(bench, "Recorder", Kept)
    bench.measure(case)
    by_phase = {}
    for what in ("proposed", "prepared", "executed"):
        times = {node: now for now, node in kept[0].times[what, 1]}
        by_phase[what] = np.array([times[node] for node in sorted(times)])
    return by_phase


@pytest.mark.parametrize("n", [4, 5, 7, 10, 16, 31, 64])
@pytest.mark.parametrize("costs", [SERVER, IOT, FREE], ids=lambda costs: costs.profile)
def test_every_phase_of_every_replica_is_the_event_simulators_to_the_nanosecond(n, costs, monkeypatch):
    compare(bench.Case("flat", n, scattered(n, n), "scattered", chunks=False, costs=costs, rounds=1), monkeypatch)


@pytest.mark.parametrize("protocol", ["flat", "flat-mac"])
@pytest.mark.parametrize("link", [1e6, 1e8, 1e10])
@pytest.mark.parametrize("payload", [100, 2_000])
def test_payloads_links_and_macs_change_nothing_about_that(protocol, link, payload, monkeypatch):
    network = scattered(13, payload)
    case = bench.Case(protocol, 13, network, "scattered", chunks=False, payload=payload, link=link, rounds=1)
    compare(case, monkeypatch)


@pytest.mark.parametrize("seed", range(10))
def test_many_replicas_on_few_sites_agree_too(seed, monkeypatch):
    case = bench.Case("flat", 40, scattered(5, seed), "scattered", chunks=False, rounds=1, leader="worst", seed=seed)
    compare(case, monkeypatch)


def test_who_would_have_to_fetch_the_batch_is_named():
    case = bench.Case("flat", 40, scattered(5, 1), "scattered", chunks=False, payload=10**6, link=1e8, rounds=1)
    _, decision = bench.vectorised(case)
    assert 0 < decision.early.sum() < 14  # q = 27 replicas decided first


def compare(case, monkeypatch):
    expected = simulated(case, monkeypatch)
    _, decision = bench.vectorised(case)
    start = expected["proposed"][0] - decision.accepted[0]
    assert not decision.early.any()
    assert (decision.prepared + start).tolist() == expected["prepared"].tolist()
    assert (decision.executed + start).tolist() == expected["executed"].tolist()
