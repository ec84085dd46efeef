"""A council of real processes on this machine: ``python -m benchmarks.processes``.

Loopback, TLS 1.3, a durable log per replica, Ed25519 signatures, signed requests with empty operations, clients in a
closed loop in one process of their own. The peers' figures were seen on a machine of the same kind.
"""

import sys
from dataclasses import dataclass

from msgspec.structs import asdict

from benchmarks.measure import machine
from benchmarks.report import Bar, save, setting, table
from consensus.network.measure import Measurement, measure

PEER_MS, FACTOR = 5.6, 3  # BFT-SMaRt 2.0, 4 replicas, one client; requests not signed
PEER_LOADED = {20: 1511, 100: 2632}  # operations per second of the same, by clients
PER_CLIENT = {1: 100, 20: 25, 100: 10}  # operations that each client submits, by the number of clients


@dataclass(frozen=True)
class Council:
    """What runs."""

    n: int
    protocol: str
    k: int


COUNCILS = (
    Council(4, "flat", 1),
    Council(4, "regional", 2),
    Council(7, "flat", 1),
    Council(7, "regional", 2),
    Council(16, "flat", 1),
    Council(16, "regional", 4),
    Council(16, "star", 1),
)
LOST = ((Council(4, "flat", 1), 3), (Council(4, "flat", 1), 0), (Council(7, "regional", 2), 6), (COUNCILS[5], 15))


def main() -> int:
    """Measure, and write the results."""
    here = machine(["fedshard", "cryptography", "msgspec"])
    free = [
        measure(council.n, council.protocol, clients, clients * each, k=council.k)
        for council in COUNCILS
        for clients, each in PER_CLIENT.items()
    ]
    killed = [
        measure(council.n, council.protocol, 20, 600, kill=True, k=council.k, victim=victim)
        for council, victim in LOST
    ]
    bar = Bar("p50, n=4, flat, one client, ms", 1e3 * free[0].p50, FACTOR * PEER_MS, at_least=False)
    loaded = " and ".join(f"{rate} op/s with {clients} clients" for clients, rate in PEER_LOADED.items())
    text = "\n\n".join(
        [
            "# A council of real processes",
            "Every replica is a process with a durable log, on loopback, with TLS and Ed25519; requests are signed, "
            "operations empty. Replicas and clients share this machine's cores, so more replicas are slower here. "
            f"BFT-SMaRt 2.0 on such a machine, n=4: {PEER_MS} ms with one client, {loaded}, requests not signed.",
            setting("python -m benchmarks.processes", here),
            table(["bar", "measured", "limit", ""], [bar.row()]),
            _table(free, []),
            "With kill -9 of one replica after a third of 600 operations and its restart after two thirds. Every "
            "operation that a client was told of is in every replica's history, once.",
            _table(killed, ["killed", "longest gap, s", "caught up, s"]),
        ]
    )
    rows = [asdict(one) for one in free + killed]
    save(
        "processes",
        {"command": "python -m benchmarks.processes", **here, "rows": rows, "bars": [bar.as_dict()]},
        text,
    )
    return 0 if bar.passed else 1


def _table(rows: list[Measurement], more: list[str]) -> str:
    head = [
        "protocol",
        "n",
        "k",
        "bound",
        "clients",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "op/s",
        "votes",
        "busiest ms",
        *more,
    ]
    return table(head, [_cells(row)[: len(head)] for row in rows])


def _cells(row: Measurement) -> list[str]:
    return [
        row.protocol,
        *(str(number) for number in (row.n, row.k, row.bound, row.clients)),
        *(f"{1e3 * latency:.1f}" for latency in (row.p50, row.p95, row.p99)),
        f"{row.throughput:.0f}",
        f"{row.messages['vote'] / row.decisions:.1f}",
        f"{1e3 * row.busiest_cpu / row.operations:.2f}",
        "leader" if row.killed == 0 else "other",
        f"{row.longest_gap:.2f}",
        f"{row.caught_up:.2f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
