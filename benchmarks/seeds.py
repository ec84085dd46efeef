"""Long runs of the simulator by seed, and of Twins; resumable: ``python -m benchmarks.seeds --state FILE``.

A count is valid for one version of the code only: the state file names a digest of the simulated code, and a run on
other code begins anew (with ``--fresh``) or not at all. Failures are listed, none is excluded.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, machine
from benchmarks.report import Bar, save, setting, table
from consensus.simulation import twins
from consensus.simulation.scenarios import Scenario, random_scenario, run

SEEDS = 20_000
FAMILIES = {
    "flat": (4, None),
    "regional": (4, None),
    "star": (4, None),
    "regional-fast": (6, 4000),
    "two-layer": (8, 2000),
}
"""Twins by protocol: the number of replicas, and how many scenarios are sampled; None for all that there are."""
ROUNDS, BLOCK = 3, 100


def sources() -> list[Path]:
    """List the files of `consensus/` that simulated runs execute: those of the modules that are loaded."""
    loaded = [module for name, module in sys.modules.items() if name.split(".")[0] == "consensus"]
    return sorted(Path(module.__file__) for module in loaded if module.__file__)


def version() -> str:
    """Give a digest of the code whose runs are counted."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str:
    """Name the commit, and whether the files that count differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, text=True, capture_output=True, check=True).stdout.strip()

    changed = git("status", "--short", "--", *map(str, sources()))
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def of_twins(family: str) -> tuple[int, Callable[[int], Scenario]]:
    """Give how many scenarios of a family are run, and the scenario of a number."""
    n, sample = FAMILIES[family]
    if sample is None:
        return twins.count(n, 1, ROUNDS), lambda number: twins.scenario(number, family, n, 1, ROUNDS)
    return sample, lambda number: twins.sampled(number, family, n, 1, ROUNDS)


@dataclass(frozen=True)
class Run:
    """What is counted of one run."""

    number: int
    protocol: str
    n: int
    with_faulty: bool
    steps: int
    violations: list[str]


def scenario_of(name: str) -> Callable[[int], Scenario]:
    """Give the scenarios of a kind of runs, by number."""
    return random_scenario if name == "seeds" else of_twins(name.removeprefix("twins "))[1]


def one(name: str, number: int) -> Run:
    """Run one scenario."""
    scenario = scenario_of(name)(number)
    outcome = run(scenario)
    shown = [f"{broken.invariant}: node {broken.node}: {broken.detail}" for broken in outcome.violations[:3]]
    with_faulty = bool(scenario.faulty or scenario.twins)
    return Run(number, scenario.protocol, scenario.n, with_faulty, outcome.steps, shown)


class Tally:
    """What is counted, in a file that survives an end at any time.

    Parameters
    ----------
    path : Path
        The file.
    fresh : bool
        Whether to count from zero whatever it says.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        self.state: dict[str, Any] = {"version": version(), "commit": commit(), "seconds": 0.0, "runs": {}}
        if path.exists() and not fresh:
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["version"] != self.state["version"]:
                sys.exit(f"{path}: counts runs of other code (commit {known['commit']}); --fresh counts from zero")
            self.state = known

    def of(self, name: str) -> dict[str, Any]:
        """Give the counts of a kind of runs."""
        begun = {"done": 0, "steps": 0, "failures": [], "by_protocol": {}, "by_size": {}, "with_faulty": 0}
        return self.state["runs"].setdefault(name, begun)  # type: ignore[no-any-return]

    def count(self, name: str, run_: Run) -> None:
        """Count a run."""
        counts = self.of(name)
        counts["done"] = run_.number + 1
        counts["steps"] += run_.steps
        counts["with_faulty"] += run_.with_faulty
        for table_, key in (("by_protocol", run_.protocol), ("by_size", str(run_.n))):
            counts[table_] = dict(Counter(counts[table_]) + Counter([key]))
        if run_.violations:
            failure = {"number": run_.number, "protocol": run_.protocol, "violations": run_.violations}
            counts["failures"].append(failure)
            print(f"{name} {run_.number} ({run_.protocol}, n={run_.n}): {run_.violations[0]}", flush=True)

    def keep(self) -> None:
        """Write the file."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.state, indent=1) + "\n", encoding="utf-8")
        fresh.replace(self.path)


def plan(seeds: int) -> list[tuple[str, int]]:
    """List what is run: a name, and how many."""
    return [("seeds", seeds), *((f"twins {family}", of_twins(family)[0]) for family in FAMILIES)]


def go_on(tally: Tally, kinds: list[tuple[str, int]], workers: int, until: float) -> None:
    """Run what is not done yet, in turns that let all kinds be done at the same time, until the time is up."""
    turns = max(1, max(total for _, total in kinds) // BLOCK)
    with Pool(workers) as pool:
        for turn in range(1, turns + 1):
            begun = time.monotonic()
            for name, total in kinds:
                numbers = range(tally.of(name)["done"], total * turn // turns)
                for done in pool.imap(partial(one, name), numbers, chunksize=4):
                    tally.count(name, done)
            tally.state["seconds"] += time.monotonic() - begun
            tally.keep()
            if time.monotonic() > until:
                return


def report(tally: Tally, kinds: list[tuple[str, int]], command: str) -> bool:
    """Write the results; tells whether the bars are met."""
    runs = {name: tally.of(name) for name, _ in kinds}
    done = runs["seeds"]["done"]
    of_twins = sum(counts["done"] for name, counts in runs.items() if name != "seeds")
    failures = sum(len(counts["failures"]) for counts in runs.values())
    bars = [
        Bar("seeds run", done, SEEDS),
        Bar("Twins scenarios run", of_twins, 50_000),
        Bar("runs that broke an invariant or a bound, none excluded", failures, 0, at_least=False),
    ]
    rows = [
        [name, str(counts["done"]), str(total), str(len(counts["failures"])), f"{counts['steps']:,}"]
        for (name, total), counts in zip(kinds, runs.values(), strict=True)
    ]
    listed = [
        f"- {name} {failure['number']} ({failure['protocol']}): {'; '.join(failure['violations'])}"
        for name, counts in runs.items()
        for failure in counts["failures"][:40]
    ]
    seeds = runs["seeds"]
    here = machine(["msgspec"])
    text = "\n\n".join(
        [
            "# Seeds and Twins",
            "Whole runs of the replicas in the simulator, by number; every invariant after every event, liveness "
            "bounded after stabilisation. Twins: one replica has a twin, the network is split in two in each of "
            f"{ROUNDS} rounds; all scenarios of `flat`, `regional` and `star` with 4 replicas, some of the others.",
            setting(command, here),
            f"Code: commit {tally.state['commit']}, digest of the simulated code {tally.state['version']}; "
            f"{tally.state['seconds']:,.0f} s of running.",
            table(["runs", "done", "planned", "failed", "steps of replicas"], rows),
            f"Seeds by protocol: {_shown(seeds['by_protocol'])}. By size: {_shown(seeds['by_size'])}. "
            f"With faulty replicas: {seeds['with_faulty']}.",
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
            "Failures:\n\n" + ("\n".join(listed) if listed else "none."),
        ]
    )
    save("seeds", {"command": command, **here, **tally.state, "bars": [bar.as_dict() for bar in bars]}, text)
    return all(bar.passed for bar in bars)


def _shown(counts: dict[str, int]) -> str:
    return ", ".join(f"{key} {counts[key]}" for key in sorted(counts, key=lambda key: (len(key), key)))


def main() -> int:
    """Go on with a tally, or begin one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="file that holds the counts")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many seeds in all")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--fresh", action="store_true", help="count from zero")
    parser.add_argument("--workers", type=int, default=1, help="how many processes")
    options = parser.parse_args()
    tally, kinds = Tally(options.state, fresh=options.fresh), plan(options.seeds)
    go_on(tally, kinds, options.workers, time.monotonic() + 60 * options.minutes)
    command = f"python -m benchmarks.seeds --state {options.state.name}"
    return 0 if report(tally, kinds, command) else 1


if __name__ == "__main__":
    sys.exit(main())
