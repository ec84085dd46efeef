"""A crash at every write of a reference run, three times: ``python -m benchmarks.crashes``.

One replica at a time crashes during one write of its log; what was not durable yet is lost, torn or has a wrong bit.
It restarts from what is left, half a second later; every invariant must hold and every request be answered in time.
"""

import argparse
import sys
import time
from typing import Any

from benchmarks.measure import ROOT, machine
from benchmarks.report import Bar, save, setting, table
from benchmarks.seeds import commit, version

sys.path.insert(0, str(ROOT / "tests" / "support"))
from crashing import FAULTS, crash, points, reference

COUNCILS = (("flat", 4), ("regional", 4), ("regional", 7))


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
