"""Regrouping on 48 consecutive slices of 99 home devices: never, every slice, or when the controller says so.

Decision latency is modelled (`consensus.regrouping.latency_us`): regional votes, no load, the round trips of the
slice itself. Every policy knows only the slices before; its map of a slice is made from the one before it, after
clipping what F liars could have reported.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.report import save, setting, table
from consensus.formulas import messages
from consensus.quorum import Threshold
from consensus.regions import Regions, group
from consensus.regrouping import Outlook, mean_latency_us, ordered, reconnecting_us, regroup
from consensus.rtt import clipped
from consensus.simulation.latency import load

Micros = NDArray[np.int64]
Chooser = Callable[[int, Regions, Outlook], Regions]
SLICES = range(1, 49)
PERIOD = 16


@dataclass(frozen=True)
class Outcome:
    """What a policy came to, over the slices after the first.

    Attributes
    ----------
    policy : str
        Its name.
    regions, decisions : int
        How many regions, and decisions per slice.
    switches : int
        How often the map changed.
    latency_ms : list of float
        Mean decision latency of each slice, without switching.
    switching_ms : float
        What all switches cost, in milliseconds of waiting decisions.
    """

    policy: str
    regions: int
    decisions: int
    switches: int
    latency_ms: list[float]
    switching_ms: float

    @property
    def total_ms(self) -> float:
        """Mean latency per decision, with switching."""
        return float(np.mean(self.latency_ms)) + self.switching_ms / (self.decisions * len(self.latency_ms))


def main() -> None:
    """Run all policies and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/latency/netlatency-data/Seattle"))
    arguments = parser.parse_args()
    described = machine(["numpy", "networkx"])
    directed = [_micros(load(arguments.data / f"SeattleData_{index}").rtt_ms) for index in SLICES]
    reported = [clipped(slice_us) for slice_us in directed]
    true = [np.maximum(slice_us, slice_us.T) for slice_us in directed]
    outcomes = [
        outcome for k in (4, 8) for decisions in (16, 128, 1024) for outcome in compare(reported, true, k, decisions)
    ]
    rows = [
        [
            f"{outcome.regions} regions, {outcome.decisions:,} decisions per slice: {outcome.policy}",
            f"{outcome.switches}",
            f"{np.mean(outcome.latency_ms):.0f}",
            f"{np.percentile(outcome.latency_ms, 95):.0f}",
            f"{outcome.total_ms:.0f}",
        ]
        for outcome in outcomes
    ]
    header = ["policy", "switches", "mean ms", "p95 slice ms", "mean with switching ms"]
    leader = int(np.argmin(reported[0].sum(axis=1)))
    flat = float(np.mean([flat_us(slice_us, leader) for slice_us in true[1:]])) / 1000
    counts = f"{messages('flat', [99]):,} messages\nper decision instead of {messages('regional', [25, 25, 25, 24])}"
    lost = (
        f"Where regions lose: flat PBFT takes {flat:.0f} ms here, with {counts} (4 regions). Homes are near nobody: "
        "the way to a head and back is as long as any."
    )
    head = f"# Regrouping\n\n{setting('python -m benchmarks.regroup', described)}"
    text = "\n\n".join([head, f"{__doc__}\n{_NOTES}", lost, table(header, rows)])
    outcomes_json = [asdict(outcome) for outcome in outcomes]
    save("regroup", {"machine": described, "flat_ms": flat, "outcomes": outcomes_json}, text)


_NOTES = """A switch costs one decision with the old map and two round trips of the slowest replica that gets another
head. Heads rotate every 16 decisions. A new map begins with its most central heads; "restarted" shows how much of the
gain is that alone. "foreknown" cuts each map from the slice it is used in, which no policy can know; it is no floor,
as the controller chooses among four maps by their latency and this one only cuts. The leader is the most central
device of the first slice, for all."""


def flat_us(rtt_us: Micros, leader: int) -> int:
    """Model flat PBFT in the same way: three one-way delays, each replica waiting for a quorum of votes."""
    one_way = rtt_us // 2
    quorum = Threshold(len(rtt_us)).quorum
    ready = one_way[leader]
    for _ in range(2):
        ready = np.partition(ready[:, None] + one_way, quorum - 1, axis=0)[quorum - 1]
    return int(np.partition(ready, quorum - 1)[quorum - 1])


def compare(reported: Sequence[Micros], true: Sequence[Micros], k: int, decisions: int) -> list[Outcome]:
    """Run every policy over the slices after the first, from the same first map."""
    leader = int(np.argmin(reported[0].sum(axis=1)))
    everybody = range(len(true[0]))
    first = group(reported[0], k)

    def recut(at: int, outlook: Outlook) -> Regions:
        return ordered(group(reported[at], k), reported[at], outlook, frozenset())

    made_with = reported[0]

    def controller(at: int, current: Regions, outlook: Outlook) -> Regions:
        nonlocal made_with
        decision = regroup(current, made_with, reported[at - 1], everybody, outlook)
        if decision.kind != "keep":
            made_with = reported[at - 1]
        return decision.regions

    policies: dict[str, Chooser] = {
        "never": lambda at, current, outlook: current,
        "restarted": lambda at, current, outlook: ordered(first, reported[0], outlook, frozenset()),
        "every slice": lambda at, current, outlook: recut(at - 1, outlook),
        "controller": controller,
        "foreknown": lambda at, current, outlook: recut(at, outlook),
    }
    return [_run(name, choose, first, true, leader, decisions) for name, choose in policies.items()]


def _run(name: str, choose: Chooser, first: Regions, true: Sequence[Micros], leader: int, decisions: int) -> Outcome:
    current, switches, switching = first, 0, 0
    latency: list[float] = []
    for at in range(1, len(true)):
        outlook = Outlook(leader, decisions, PERIOD, turn=at * decisions // PERIOD)
        chosen = choose(at, current, outlook)
        if chosen != current:
            switches += 1
            committed = mean_latency_us(true[at], current, outlook)
            switching += committed + reconnecting_us(current, chosen, true[at], outlook)
        current = chosen
        latency.append(mean_latency_us(true[at], current, outlook) / 1000)
    return Outcome(name, first.k, decisions, switches, latency, switching / 1000)


def _micros(rtt_ms: NDArray[np.float64]) -> Micros:
    micros = np.rint(rtt_ms * 1000).astype(np.int64)
    np.fill_diagonal(micros, 0)
    return micros


if __name__ == "__main__":
    main()
