"""Crashes at every write of a reference run: which there are, and what comes of one."""

from collections.abc import Iterator

from msgspec.structs import replace

from consensus.simulation.disk import DiskFault
from consensus.simulation.network import Faults, partition
from consensus.simulation.scenarios import Outage, Scenario, World

FAULTS: tuple[DiskFault, ...] = ("lost", "torn", "flipped")


def reference(protocol: str, n: int) -> Scenario:
    """Give the run whose writes are counted: checkpoints, and a view change, since the first leader is cut off."""
    everybody_else = tuple(range(1, n))
    return Scenario(
        seed=1,
        protocol=protocol,
        regions=(tuple(range(0, n, 2)), tuple(range(1, n, 2))),
        faults=Faults(cuts=partition(0.1, 1.6, ((0,), everybody_else)), heal=8.0),
        rtt=0.02,
        clients=2,
        requests=6,
        sync=0.002,
        view=0.5,
        batch=1,
        period=2,
        window=4,
    )


def points(scenario: Scenario) -> Iterator[Outage]:
    """List the crashes: at every write of every replica, with every fault of its disk."""
    world = World(scenario)
    violations = world.run().violations
    assert not violations, f"the reference run itself fails: {violations[0]}"
    for node in world.simulation.nodes:
        for write in range(1, node.disk.writes + 1):
            for fault in FAULTS:
                yield Outage(node.index, 0.0, write, 0.5, fault)


def crash(scenario: Scenario, outage: Outage) -> tuple[bool, list[str]]:
    """Run with a crash; tells whether it happened, and what went wrong."""
    world = World(replace(scenario, outages=(outage,)))
    violations = world.run().violations
    lives = world.simulation.nodes[outage.node].life
    return lives == 1, [f"{one.invariant}: {one.detail}" for one in violations]
