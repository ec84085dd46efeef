"""A crash at every write of a reference run, three times: ``python -m benchmarks.crashes``.

One replica at a time crashes during one write of its log; what was not durable yet is lost, torn or has a wrong bit.
It restarts from what is left, half a second later; every invariant must hold and every request be answered in time.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from benchmarks.measure import machine
from benchmarks.report import Bar, save, setting, table
from benchmarks.seeds import commit, version
from consensus.simulation.disk import DiskFault
from consensus.simulation.network import Faults, partition
from consensus.simulation.scenarios import Outage, Scenario, World

FAULTS: tuple[DiskFault, ...] = ("lost", "torn", "flipped")
COUNCILS = (("flat", 4), ("regional", 4), ("regional", 7))


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


def main() -> int:
    """Crash everywhere, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    parser.parse_args()
    here, code, begun = machine(["msgspec"]), f"{commit()}, digest {version()}", time.monotonic()
    rows: list[list[str]] = []
    failures: list[dict[str, Any]] = []
    runs, idle = 0, 0
    for protocol, n in COUNCILS:
        scenario, counts = reference(protocol, n), dict.fromkeys(FAULTS, 0)
        failed = 0
        for outage in points(scenario):
            crashed, wrong = crash(scenario, outage)
            runs, idle = runs + 1, idle + (not crashed)
            counts[outage.fault] += 1
            if wrong:
                failed += 1
                where = {"protocol": protocol, "n": n, "replica": outage.node, "write": outage.write}
                failures.append({**where, "fault": outage.fault, "violations": wrong[:3]})
                print(failures[-1], flush=True)
        rows.append([f"{protocol}, n={n}", *(str(counts[fault]) for fault in FAULTS), str(failed)])
    bars = [
        Bar("runs that broke an invariant or a bound", len(failures), 0, at_least=False),
        Bar("planned crashes that did not happen", idle, 0, at_least=False),
    ]
    command = "python -m benchmarks.crashes"
    text = "\n\n".join(
        [
            "# A crash at every write",
            "In a reference run with checkpoints and a view change, each replica crashes in each write of its log; "
            "what was not durable is lost, torn or has a wrong bit. It restarts half a second later.",
            setting(command, here),
            f"Code: commit {code}; {runs} runs in {time.monotonic() - begun:,.0f} s.",
            table(["council", *FAULTS, "failed"], rows),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
            "Failures:\n\n" + ("\n".join(f"- {failure}" for failure in failures) if failures else "none."),
        ]
    )
    results = {"command": command, **here, "code": code, "runs": runs, "failures": failures}
    save("crashes", {**results, "bars": [bar.as_dict() for bar in bars]}, text)
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
