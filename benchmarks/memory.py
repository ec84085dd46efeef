"""The memory of a thousand simulated clients: ``python -m benchmarks.memory``.

While ``fedshard run`` works, the proportional set sizes of its processes (each shared page counted once over those
that share it) are added up again and again, with a tenth of a second between; the highest sum counts.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import APPS, FEDSHARD, ROOT, BenchmarkError, environment, machine, runs_folder
from benchmarks.report import Bar, save, setting, table

ROUNDS = 3
LIMIT_GB = 1.5
_PERIOD_S = 0.1
_KB = 1024
_SUBJECTS = {
    "the app of the speed benchmark": [str(APPS / "mlp")],
    "digits, DP-SGD": ["scenarios/digits", "-c", "partitioner=iid"],
}


@dataclass(frozen=True)
class Usage:
    """What a command used.

    Attributes
    ----------
    peak_bytes : int
        Highest sum of proportional set sizes.
    processes : int
        How many there were at that moment.
    samples : int
        How often it was looked at.
    seconds : float
        How long the command took.
    """

    peak_bytes: int
    processes: int
    samples: int
    seconds: float


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    here = machine(["fedshard", "flwr", "torch", "opacus"])
    options = ["--clients", str(arguments.clients), "--workers", str(arguments.workers), "--json"]
    with runs_folder() as runs:
        usages = {
            name: watch([*FEDSHARD, "run", *app, *options, "--runs-dir", runs, "-c", f"num-server-rounds={ROUNDS}"])
            for name, app in _SUBJECTS.items()
        }
    bars = [Bar(f"{name}: peak, GB", usage.peak_bytes / 1e9, LIMIT_GB, False) for name, usage in usages.items()]
    results = {
        "command": f"python -m benchmarks.memory --clients {arguments.clients} --workers {arguments.workers}",
        **here,
        "rounds": ROUNDS,
        "clients": arguments.clients,
        "usage": {name: asdict(usage) for name, usage in usages.items()},
        "bars": [bar.as_dict() for bar in bars],
    }
    save("memory", results, _text(results, usages, bars))
    return 0 if all(bar.passed for bar in bars) else 1


def watch(command: Sequence[str]) -> Usage:
    """Run a command and sample the memory of it and all its descendants.

    Raises
    ------
    BenchmarkError
        If it fails, with the end of what it printed.
    """
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT)
        peak, processes, samples = 0, 0, 0
        while process.poll() is None:
            sizes = [_proportional_bytes(pid) for pid in _tree(process.pid)]
            samples += 1
            if sum(sizes) > peak:
                peak, processes = sum(sizes), len(sizes)
            time.sleep(_PERIOD_S)
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            raise BenchmarkError(f"{' '.join(command)}: exit status {process.returncode}\n{output.read()[-2000:]}")
    return Usage(peak, processes, samples, seconds)


def _tree(root: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold blanks; the parent is the second field after it.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * _KB for line in lines if line.startswith("Pss:")), 0)


def _text(results: dict[str, Any], usages: dict[str, Usage], bars: Sequence[Bar]) -> str:
    rows = [
        [name, f"{u.peak_bytes / 1e9:.3f} GB", str(u.processes), str(u.samples), f"{u.seconds:.1f} s"]
        for name, u in usages.items()
    ]
    return "\n\n".join(
        [
            "# The engine's memory",
            f"{results['clients']} clients × {ROUNDS} rounds: the most that all processes of `fedshard run` held at "
            "once (proportional set sizes, shared pages counted once).",
            setting(results["command"], results),
            table(["", "peak", "processes then", "samples", "command"], rows),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
