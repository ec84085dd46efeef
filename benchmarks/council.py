"""What a council of 20 replicas costs a round: ``python -m benchmarks.council --data ../shared/data/har``.

`scenarios/activity` runs with and without a council, in turns. The council's time is the wall time that
`ConsensusStrategy` took in a round, everything included: sums, region certificates, agreement, the ledger's fsync.
What a client takes to check a block is shown apart. The parts are measured in one process, in processor time.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import ROOT, machine, run, runs_folder
from benchmarks.report import Bar, save, setting, table
from consensus.ledger import Members
from fl.aggregation import Vector, WeightedMean, arrays_digest
from fl.council import SIMULATED
from fl.council.council import Council, Plan
from fl.council.outcome import Assignment, Outcome, Update, assign
from fl.council.rounds import RegionRound, Teaching, forge

REPLICAS, CLIENTS, SIZE = 20, 21, 396  # weights of the model of activity: what the parts are measured with


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "har", help="activity's data")
    parser.add_argument("--rounds", type=int, default=60, help="rounds of each run (default 60)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind (default 3)")
    arguments = parser.parse_args()
    here = machine(["fedshard", "flwr", "torch", "cryptography"])
    runs: dict[int, list[dict[str, Any]]] = {0: [], REPLICAS: []}
    for attempt in range(arguments.repeat):
        for replicas, results in runs.items():
            results.append(federation(arguments.data, arguments.rounds, replicas))
            print(
                f"{attempt + 1}/{arguments.repeat} with {replicas}: {results[-1]['round_ms']:.1f} ms", file=sys.stderr
            )
    plain = median(result["round_ms"] for result in runs[0])
    walls = [wall for result in runs[REPLICAS] for wall in result["council_ms"]]
    council, inside = median(walls), median(result["share"] for result in runs[REPLICAS])
    pieces = parts()
    rows = [
        ["round without a council", f"{plain:.1f} ms"],
        ["round with one", f"{median(result['round_ms'] for result in runs[REPLICAS]):.1f} ms"],
        ["council in a round, median", f"{council:.1f} ms"],
        ["council in a round, 95th percentile", f"{np.quantile(walls, 0.95):.1f} ms"],
        ["its share of the round that it is in, median", f"{inside:.1%}"],
    ]
    bars = [
        Bar("council in a round, ms", council, 150, at_least=False),
        Bar("council / round without one", council / plain, 0.10, at_least=False),
    ]
    command = f"python -m benchmarks.council --data DIR --rounds {arguments.rounds} --repeat {arguments.repeat}"
    text = "\n\n".join(
        [
            "# A council of 20 replicas",
            f"`scenarios/activity`, {CLIENTS} clients, DP-SGD, protocol regional, council-verify = region; "
            f"{SIMULATED}, no network in any of these times. Replicas share recomputations of equal inputs, and "
            "signatures that are known to be valid. The council's time includes the aggregation itself, which takes "
            "2 ms without one.",
            setting(command, here),
            table(["activity", "wall time"], rows),
            table(
                ["part, one process", "processor time"], [[name, f"{value:.2f} ms"] for name, value in pieces.items()]
            ),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
        ]
    )
    figures = {"runs": runs, "parts_ms": pieces, "bars": [bar.as_dict() for bar in bars]}
    save("council", {"command": command, **here, **figures}, text)
    return 0 if all(bar.passed for bar in bars) else 1


def federation(data: Path, rounds: int, replicas: int) -> dict[str, Any]:
    """Run activity; return what its log says of rounds after the first, which starts things up."""
    with runs_folder() as folder:
        overrides = [f"data={data.resolve()}", f"num-server-rounds={rounds}", f"council-replicas={replicas}"]
        options = [part for pair in overrides for part in ("-c", pair)]
        run([sys.executable, "-m", "fl.cli", "run", "scenarios/activity", *options, "--runs-dir", folder])
        (log,) = Path(folder).glob("*/metrics.jsonl")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    ends = [line["time"] for line in lines if line["kind"] == "round"]
    lengths = [1e3 * (after - before) for before, after in pairwise(ends)]
    walls = [line["wall_ms"] for line in lines if line["kind"] == "block" and line["server_round"] > 1]
    shares = [wall / length for wall, length in zip(walls, lengths, strict=False)]
    return {"round_ms": median(lengths), "council_ms": walls, "share": median(shares) if shares else 0.0}


def parts() -> dict[str, float]:
    """Measure what a round in the council consists of, in milliseconds of processor time."""
    random = np.random.default_rng(0)
    clients = list(range(1, CLIENTS + 1))
    with tempfile.TemporaryDirectory() as name:
        council = Council(Plan.of(REPLICAS), Path(name), Path(name), 0, forge)
        assignment = assign(clients, council.regions.k)
        teachings = [Teaching(Update(c, bytes([c]) * 32), random.normal(size=SIZE), 1.0) for c in clients]
        samples = [_round(council, number, assignment, teachings) for number in range(1, 31)]
    return {what: median(sample[what] for sample in samples) for what in samples[0]}


def _round(council: Council, number: int, assignment: Assignment, teachings: list[Teaching]) -> dict[str, float]:
    frame = Outcome(number, "region", "FedAvg", (), (), b"", b"", assignment)
    took: dict[str, float] = {}
    for shared, label in ((False, "each replica for itself"), (True, "shared")):
        round_ = RegionRound(council, WeightedMean(), _digest, frame, assignment, teachings, shared)
        took[f"region sums and certificates, {label}"], operation = _timed(round_.propose)
        judge = partial(round_.judge, operation=operation)
        took[f"20 replicas judge the outcome, {label}"], _ = _timed(lambda judge=judge: list(map(judge, range(20))))
    took["agreement and ledger"], decision = _timed(partial(council.agree, operation, lambda replica, other: ""))
    took["a client checks a block"], why = _timed(
        partial(Members.first(council.genesis).block_objection, decision.block)
    )
    assert not why
    return took


def _digest(total: Vector) -> bytes:
    return arrays_digest({"model": total})


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return 1e3 * (time.process_time() - start), found


if __name__ == "__main__":
    sys.exit(main())
