"""Long runs of scenarios: ``python -m consensus.simulation.campaign random|twins-flat-4-1-3|… --count N --out FILE``.

Every block of scenarios that is through is a line of the file; started again, the command goes on where it stopped.
No scenario is ever left out: what fails stays in the file with its violations, and the exit status says so.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from consensus.simulation import twins
from consensus.simulation.scenarios import Scenario, random_scenario, run
from shards.errors import InputError

BLOCK = 100


class Block(Struct, frozen=True):
    """What came of some scenarios in a row.

    Attributes
    ----------
    family : str
        Which scenarios: see `scenario_of`.
    first, count : int
        Their numbers.
    steps, decisions, messages : int
        Events that replicas took, numbers that were decided, messages that were sent.
    faulty, protocols : dict
        How many replicas were faulty in each way; how many scenarios ran each protocol.
    failures : dict
        By number: what was violated.
    """

    family: str
    first: int
    count: int
    steps: int
    decisions: int
    messages: int
    faulty: dict[str, int]
    protocols: dict[str, int]
    failures: dict[int, list[str]]


def scenario_of(family: str) -> Callable[[int], Scenario]:
    """Find out how a family numbers its scenarios.

    Parameters
    ----------
    family : str
        ``random``, or ``twins-PROTOCOL-N-TWINS-ROUNDS``: all of them, or, where there are over a million, samples.

    Raises
    ------
    InputError
        For a family that is not known.
    """
    if family == "random":
        return random_scenario
    try:
        kind, protocol, *sizes = family.replace("regional-fast", "fast").replace("two-layer", "layers").split("-")
        n, doubled, rounds = (int(size) for size in sizes)
        if kind != "twins":
            raise ValueError
    except ValueError:
        raise InputError(f"family {family!r}: not known; use random or twins-PROTOCOL-N-TWINS-ROUNDS") from None
    protocol = {"fast": "regional-fast", "layers": "two-layer"}.get(protocol, protocol)
    make = twins.scenario if twins.count(n, doubled, rounds) <= 1_000_000 else twins.sampled
    return partial(make, protocol=protocol, n=n, twins=doubled, rounds=rounds)


def run_block(family: str, first: int, count: int) -> Block:
    """Run some scenarios in a row."""
    make = scenario_of(family)
    steps = decisions = messages = 0
    faulty: Counter[str] = Counter()
    protocols: Counter[str] = Counter()
    failures: dict[int, list[str]] = {}
    for number in range(first, first + count):
        scenario = make(number)
        outcome = run(scenario)
        steps += outcome.steps
        decisions += len(outcome.decisions)
        messages += sum(sent for sent, _ in outcome.sent.values())
        faulty.update(kind for _, kind in scenario.faulty)
        protocols[scenario.protocol] += 1
        if outcome.violations:
            failures[number] = [f"{broken.invariant}: {broken.detail}" for broken in outcome.violations[:5]]
    return Block(family, first, count, steps, decisions, messages, dict(faulty), dict(protocols), failures)


def missing(done: Sequence[Block], family: str, count: int) -> list[tuple[int, int]]:
    """List the blocks that are still to be run: first number and how many."""
    there = {(block.first, block.count) for block in done if block.family == family}
    blocks = [(first, min(BLOCK, count - first)) for first in range(0, count, BLOCK)]
    return [block for block in blocks if block not in there]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; gives the exit status, 1 if anything was ever violated."""
    parser = argparse.ArgumentParser(prog="python -m consensus.simulation.campaign", description=__doc__)
    parser.add_argument("family")
    parser.add_argument("--count", type=int, default=20_000, help="how many scenarios in all, from number 0 on")
    parser.add_argument("--out", type=Path, required=True, help="where the lines are kept")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0, help="stop after so many; 0 for no limit")
    options = parser.parse_args(arguments)
    try:
        scenario_of(options.family)
        done = [msgspec.json.decode(line, type=Block) for line in _lines(options.out)]
    except (InputError, msgspec.MsgspecError) as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 2
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    left = missing(done, options.family, options.count)
    with ProcessPoolExecutor(options.workers) as pool, options.out.open("ab") as out:
        while left and time.monotonic() < end:
            turn, left = left[: options.workers], left[options.workers :]
            for block in pool.map(run_block, [options.family] * len(turn), *zip(*turn, strict=True)):
                out.write(msgspec.json.encode(block) + b"\n")
                out.flush()
                done.append(block)
    return _report([block for block in done if block.family == options.family], options.family)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def _report(done: Sequence[Block], family: str) -> int:
    failures = sum(len(block.failures) for block in done)
    count, decisions = sum(block.count for block in done), sum(block.decisions for block in done)
    messages = sum(block.messages for block in done)
    print(
        f"{family}: {count} scenarios, {decisions} decisions, {messages} messages, {failures} failed, none left out"
    )
    for block in done:
        for number, broken in block.failures.items():
            print(f"  {number}: {broken[0]}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
