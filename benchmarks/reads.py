"""What rounds over a moving window read, with the reactive planner: ``python -m benchmarks.reads [--data FOLDER]``.

Every station of ``scenarios/air-quality`` reads its rows round by round as its client does, through
`fl.client_data.ClientData`: the same store, request, access log, planner and decision log; only nothing is trained.
All rows are there from the start, so the planner cuts rows that no round has asked for yet as well.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict

from benchmarks.measure import ROOT, BenchmarkError, machine
from benchmarks.report import Bar, save, setting, table
from fl.client_data import ClientData, Holder
from fl.engine.app import AppSpec
from fl.run.reads import ACCESS_LOG, DECISION_LOG
from fl.settings import Settings
from shards.access import AccessLog
from shards.audit import DecisionLog

SCENARIO = ROOT / "scenarios" / "air-quality"
WINDOWS = (("last 90d", "30d"), ("last 30d", "30d"), ("last 30d", "7d"), ("last 7d", "7d"), ("last 7d", "1d"))
"""Window and step; the first is the scenario's own."""

STATIONS, ROUNDS, SETTLED = 9, 36, 3
"""The bar counts from the round after the first `SETTLED`, whose reads the planner learns from."""


_NOTE = """\
Written: by new cuts, in multiples of all rows. Per round: thinking and cutting, at one client. Cuts: how often the
planner was asked and changed something. One shard at first, at most 32 later."""


@dataclass(frozen=True)
class Played:
    """What 36 rounds read, each figure over all stations.

    Attributes
    ----------
    ratios : list of float
        Bytes read over bytes matching, by round.
    moved : float
        Bytes written by new cuts, in stores.
    planning_s : float
        Seconds per round and client spent on thinking and cutting.
    kept, changed : int
        Decisions.
    """

    ratios: list[float]
    moved: float
    planning_s: float
    kept: int
    changed: int

    @property
    def settled(self) -> float:
        """The mean ratio once settled."""
        return float(np.mean(self.ratios[SETTLED:]))


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "iot" / "beijing_multisite")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise BenchmarkError(f"{arguments.data}: no such folder; `fedshard data fetch air-quality` makes one")
    sys.path.insert(0, str(SCENARIO))
    here = machine(["fedshard", "numpy", "torch"])
    played = {}
    for window, step in WINDOWS:
        played[window, step] = play({"data": str(arguments.data), "train-request": window, "clock-step": step})
        print(f"{window} + {step}: {played[window, step]}", file=sys.stderr)
    own = played[WINDOWS[0]]
    bars = [
        Bar("the scenario's rounds after the first three: bytes read / matching, mean", own.settled, 2, False),
        Bar("the same, the worst round", max(own.ratios[SETTLED:]), 2, False),
    ]
    results = {
        "command": "python -m benchmarks.reads",
        **here,
        "data": arguments.data.name,
        "rounds": ROUNDS,
        "played": {f"{window} + {step}": vars(figures) for (window, step), figures in played.items()},
        "bars": [bar.as_dict() for bar in bars],
    }
    save("reads", results, _text(results, played, bars))
    return 0 if all(bar.passed for bar in bars) else 1


def play(overrides: Mapping[str, str]) -> Played:
    """Play the rounds of every station."""
    settings = Settings.read({**AppSpec.load(SCENARIO).config, **overrides})
    thinking = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for station in range(STATIONS):
            state = RecordDict()
            holder = Holder(f"client-{station}", station, STATIONS, Path(folder), simulated=True)
            for number in range(1, ROUNDS + 1):
                data = ClientData(settings, holder, state)
                data.train(number)
                start = time.perf_counter()
                data.settle(number)
                thinking += time.perf_counter() - start
        reads = AccessLog(Path(folder) / ACCESS_LOG).read()
        decisions = [entry.decision for entry in DecisionLog(Path(folder) / DECISION_LOG).read()]
    by_round = [reads[number::ROUNDS] for number in range(ROUNDS)]
    whole = sum(read.bytes_read for read in by_round[0])  # the first round reads everything
    changes = [decision for decision in decisions if decision.kind != "keep"]
    return Played(
        [sum(r.bytes_read for r in found) / sum(r.bytes_matching for r in found) for found in by_round],
        sum(decision.switching_cost for decision in changes) / whole,
        thinking / (STATIONS * ROUNDS),
        len(decisions) - len(changes),
        len(changes),
    )


def _text(results: Mapping[str, Any], played: Mapping[tuple[str, str], Played], bars: list[Bar]) -> str:
    header = ["window, step", "round 1", "rounds 2-3", "mean after", "worst after", "written", "per round", "cuts"]
    rows = [
        [
            f"{window}, {step}",
            f"{figures.ratios[0]:.1f}×",
            f"{np.mean(figures.ratios[1:SETTLED]):.1f}×",
            f"{figures.settled:.2f}×",
            f"{max(figures.ratios[SETTLED:]):.2f}×",
            f"{figures.moved:.1f} stores",
            f"{1e3 * figures.planning_s:.0f} ms",
            f"{figures.changed} of {figures.changed + figures.kept}",
        ]
        for (window, step), figures in played.items()
    ]
    return "\n\n".join(
        [
            "# What rounds over a moving window read",
            f"{STATIONS} stations × {ROUNDS} rounds of `scenarios/air-quality`; bytes read over bytes asked for.",
            setting(results["command"], results),
            table(header, rows),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
            _NOTE,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
