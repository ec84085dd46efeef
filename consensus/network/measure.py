"""Measuring a council of real processes: latency, throughput, traffic, and what a kill -9 does to it."""

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from consensus.network.client import Client, Load, closed_loop, connected_clients
from consensus.network.cluster import Cluster, ClusterError, even_regions
from consensus.network.node import Status

WARM_UP = 5  # operations per client that are not counted
CATCH_UP = 30.0  # seconds that a restarted replica may need


class Measurement(Struct, frozen=True):
    """What was measured over loopback with TLS, a durable log per replica and empty operations.

    Attributes
    ----------
    protocol : str
        Its name.
    n, k, bound : int
        Replicas, regions, and the number of faulty replicas survived wherever they are.
    clients, operations : int
        Clients in a closed loop, and operations in all.
    seconds, throughput : float
        Length of the load, and operations per second.
    p50, p95, p99 : float
        Latency that a client sees, in seconds.
    decisions : int
        Batches decided for those operations.
    messages, bytes : dict
        Sent by all replicas together, by kind, during the load; each copy counts.
    busiest_cpu : float
        Processor seconds of the replica that used most, during the load.
    killed : int
        The replica that was killed a third into the load and started again after two thirds; -1 for none.
    longest_gap : float
        Longest time, in seconds, in which no operation was done.
    caught_up : float
        Seconds after the end of the load until the killed one stood where all others did; 0 without a kill.
    """

    protocol: str
    n: int
    k: int
    bound: int
    clients: int
    operations: int
    seconds: float
    throughput: float
    p50: float
    p95: float
    p99: float
    decisions: int
    messages: dict[str, int]
    bytes: dict[str, int]
    busiest_cpu: float
    killed: int
    longest_gap: float
    caught_up: float


def measure(
    n: int,
    protocol: str,
    clients: int,
    rounds: int,
    kill: bool = False,
    k: int = 1,
    timing: Mapping[str, float] | None = None,
    victim: int | None = None,
) -> Measurement:
    """Start n replica processes on loopback, load them, and end them.

    Parameters
    ----------
    n : int
        Number of replicas.
    protocol : str
        Its name.
    clients : int
        Clients, each with one operation under way.
    rounds : int
        Operations in all that are counted.
    kill : bool, optional
        Whether to kill a replica in mid-load with SIGKILL and start it again later.
    k : int, optional
        Number of regions, cut evenly.
    timing : mapping, optional
        Fields of `consensus.pbft.config.Timing`.
    victim : int, optional
        Which replica to kill: the last one by default; 0 leads the first view.

    Raises
    ------
    InputError
        If there is no such protocol.
    ClusterError
        If a process fails, a killed replica does not catch up, or an acknowledged operation was lost.
    """
    with tempfile.TemporaryDirectory(prefix="fedshard-council-") as folder:
        cluster = Cluster(Path(folder), n, protocol, even_regions(n, k), timing)
        with cluster, asyncio.Runner() as runner:
            place = (n - 1 if victim is None else victim) if kill else -1
            measured = runner.run(_measured(cluster, clients, rounds, place))
            cluster.stop()
    return measured


async def _measured(cluster: Cluster, number: int, operations: int, victim: int) -> Measurement:
    clients = await connected_clients(cluster.genesis, number)
    try:
        warm = await closed_loop(clients, WARM_UP * number)
        before, _ = _settled(cluster)
        load = await (
            closed_loop(clients, operations) if victim < 0 else _with_kill(cluster, clients, operations, victim)
        )
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    after, caught_up = _settled(cluster)
    check_history((*warm.results, *load.results))
    if victim >= 0:  # its counters began anew when it did
        del before[victim], after[victim]
    config = cluster.genesis.config(0)
    regions = config.regions(tuple(range(cluster.n)))
    gaps = [later - sooner for sooner, later in pairwise((0.0, *load.finished))]
    return Measurement(
        protocol=cluster.genesis.protocol,
        n=cluster.n,
        k=len(regions),
        bound=config.protocol.quorums(regions).bound,
        clients=number,
        operations=operations,
        seconds=load.seconds,
        throughput=load.throughput,
        p50=load.quantile(0.5),
        p95=load.quantile(0.95),
        p99=load.quantile(0.99),
        decisions=max(status.executed for status in after) - max(status.executed for status in before),
        messages=_sent(before, after, 0),
        bytes=_sent(before, after, 1),
        busiest_cpu=max(b.cpu - a.cpu for a, b in zip(before, after, strict=True)),
        killed=victim,
        longest_gap=max(gaps),
        caught_up=caught_up if victim >= 0 else 0.0,
    )


async def _with_kill(cluster: Cluster, clients: list[Client], operations: int, victim: int) -> Load:
    def disturb(done: int) -> None:
        if done == operations // 3:
            cluster.kill(victim)
        elif done == 2 * operations // 3:
            cluster.start(victim)

    load = await closed_loop(clients, operations, done=disturb)
    cluster.wait(victim)
    return load


def check_history(results: tuple[bytes, ...]) -> None:
    """Check that the results of empty operations are one journal without gaps, so that none was lost or done twice.

    Raises
    ------
    ClusterError
        If they are not.
    """
    head = bytes(32)
    for number, result in enumerate(sorted(results), 1):
        head = hashlib.sha256(head).digest()
        if result != number.to_bytes(8, "big") + head:
            raise ClusterError(
                f"operation {number} of {len(results)} was lost or executed twice: agreement is broken"
            )


def _settled(cluster: Cluster) -> tuple[list[Status], float]:
    """Wait until all replicas stand at the same number and send nothing more; returns how, and the seconds it took.

    Raises
    ------
    ClusterError
        If one does not get there, or stands there with another history.
    """
    began = time.monotonic()
    previous: list[Status] = []
    while True:
        statuses = [cluster.status(place) for place in range(cluster.n)]
        waited = time.monotonic() - began
        if len({status.executed for status in statuses}) == 1:
            if len({status.block for status in statuses}) > 1:
                raise ClusterError("replicas executed different batches: agreement is broken")
            if [status.sent for status in statuses] == [status.sent for status in previous]:
                return statuses, waited
        elif waited > CATCH_UP:
            raise ClusterError(f"after {waited:.0f} s replicas still stand at {[s.executed for s in statuses]}")
        previous = statuses
        time.sleep(0.02)


def _sent(before: list[Status], after: list[Status], what: int) -> dict[str, int]:
    kinds = sorted({kind for status in after for kind in status.sent})
    nothing = (0, 0)
    return {
        kind: sum(
            b.sent.get(kind, nothing)[what] - a.sent.get(kind, nothing)[what]
            for a, b in zip(before, after, strict=True)
        )
        for kind in kinds
    }
