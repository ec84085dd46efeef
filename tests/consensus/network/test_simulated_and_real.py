"""The same replicas, once simulated and once as processes behind a proxy with the same delays."""

import asyncio
import contextlib
import os

import numpy as np
import pytest
from delay_proxy import delaying

from consensus.bench import Case
from consensus.bench import measure as simulate
from consensus.network.client import closed_loop, connected_clients
from consensus.network.cluster import Cluster, even_regions, free_ports
from consensus.simulation.latency import Latency

PATIENT = {"view": 40.0, "fallback": 10.0, "bundle": 10.0}  # no timer runs out, as in the simulation
ONE_WAY = 0.04  # seconds between any two replicas, and from the client to each


def simulated_p50(protocol, k):
    rtt = np.array([[2000 * ONE_WAY]])
    latency = Latency(("everywhere",), rtt, np.zeros((1, 1)))
    case = Case(protocol, 4, latency, "proxy", regions=k, payload=1, signatures="ed25519")
    return float(np.median(simulate(case).client))


def real_p50(folder, protocol, k):
    reached_at = dict(enumerate(free_ports(4)))

    async def play(cluster):
        async with contextlib.AsyncExitStack() as open_proxies:
            for place, port in reached_at.items():
                await open_proxies.enter_async_context(await delaying(port, cluster.ports[place], ONE_WAY))
            (client,) = await connected_clients(cluster.genesis, 1, patience=5.0)
            await asyncio.sleep(1.5)  # until the replicas have found each other through the proxies
            await closed_loop([client], 2, b"x")
            load = await closed_loop([client], 7, b"x")
            await client.close()
        return load.quantile(0.5)

    with Cluster(folder, 4, protocol, even_regions(4, k), PATIENT, reached_at=reached_at) as cluster:
        return asyncio.run(play(cluster))


@pytest.mark.parametrize(("protocol", "k", "hops"), [("flat", 1, 5), ("regional", 2, 9)])
def test_simulated_and_real_latency_agree_within_a_fifth(tmp_path, protocol, k, hops):
    if os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip("this machine is too busy for any latency to mean something")
    simulated, real = simulated_p50(protocol, k), real_p50(tmp_path, protocol, k)
    print(f"{protocol}: simulated {1e3 * simulated:.1f} ms, real {1e3 * real:.1f} ms")
    assert simulated == pytest.approx(hops * ONE_WAY, rel=0.03)
    assert real == pytest.approx(simulated, rel=0.2)
