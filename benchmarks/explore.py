"""How many states a council of four can be in, and whether it agrees in all: ``python -m benchmarks.explore``."""

import sys
import time

from benchmarks.measure import machine
from benchmarks.report import Bar, save, setting, table
from consensus.simulation.explorer import Explorer

ROLES = {0: "leader of view 0", 1: "leader of view 1", 2: "leads neither"}


def main() -> int:
    """Explore for each role of the Byzantine replica, and write the results."""
    here = machine(["fedshard"])
    rows, bars, runs = [], [], []
    for byzantine, role in ROLES.items():
        for views in (1, 2):
            began = time.perf_counter()
            found = Explorer(byzantine, views=views).run()
            seconds = time.perf_counter() - began
            counts = {"states": found.states, "moves": found.moves, "local": found.local, "deciding": found.deciding}
            rows.append([role, str(views), *(f"{count:,}" for count in counts.values()), f"{seconds:.1f} s"])
            runs.append({"byzantine": byzantine, "views": views, "seconds": round(seconds, 1), **counts})
            bars.append(Bar(f"{role}, {views} views: disagreements", len(found.violation), 0, at_least=False))
            bars.append(Bar(f"{role}, {views} views: explored to the end", found.complete, 1))
    command = "python -m benchmarks.explore"
    header = [
        "Byzantine replica",
        "views",
        "states",
        "moves",
        "states of a replica",
        "states with a decision",
        "time",
    ]
    text = "\n\n".join(
        [
            "# Every state of four replicas",
            "`flat`, n = 4, one sequence number, one Byzantine replica with two digests to choose from; messages "
            "lost, repeated and in any order, view timers at any time. Replica 3 is like replica 2. What a state is, "
            "and why nothing is missed: `consensus/simulation/explorer.py`. Disagreements: "
            + ("none." if all(bar.passed for bar in bars) else "see the JSON file."),
            setting(command, here),
            table(header, rows),
        ]
    )
    save("explore", {"command": command, **here, "runs": runs, "bars": [bar.as_dict() for bar in bars]}, text)
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
