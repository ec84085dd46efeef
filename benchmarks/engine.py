"""fedshard's engine, Flower's Ray simulation and a bare torch loop, side by side: ``python -m benchmarks.engine``.

One ordinary Flower app (``benchmarks/apps/mlp``) is run unmodified by both engines; every figure is the median of
fresh processes, taken in turns so that whatever else the machine does falls on all alike.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from benchmarks.measure import APPS, FEDSHARD, Timing, machine, run, runs_folder, timed
from benchmarks.report import Bar, save, setting, table

ROUNDS = 5
RAY_CPUS = (0.5, 1.0, 2.0)
"""CPUs per client tried with Ray: on two cores four clients at a time, two, or one."""

EPOCHS = (1, 10)
"""Local epochs, of two batches each: clients that hardly compute, and clients that do."""

RAY, ONE, TWO = "Flower on Ray", "fedshard, 1 worker", "fedshard, 2 workers"
DIRECT, BARE = "the app called directly", "bare torch loop"

_NOTE = """\
Rounds are timed by the server's own test of the model before round 1 and after each round, alike for all. The bars
take all five rounds, as a user waits for them; in round 1 Ray starts its processes, so rounds 2 to 5 are shown apart.
Ray sets aside {best:g} CPU per client, the fastest of {tried}. What the bare loop does and does not do is said in
`benchmarks/bare.py`. The app called directly (`benchmarks/direct.py`) has no engine at all: what it takes beyond the
bare loop is the app's own fixed cost per message (a model built anew, arrays turned into records and back, Flower's
aggregation), which no engine that runs the app unmodified can avoid. It weighs most with {light} local epoch of two
batches and little with {heavy}; the bar against the bare loop is shown for both."""


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--clients", type=int, default=100)
    arguments = parser.parse_args()
    here = machine(["fedshard", "flwr", "ray", "torch", "numpy"])
    light, heavy = EPOCHS
    with runs_folder() as runs:
        commands = _commands(arguments.clients, runs)
        run([*commands[ONE], "-c", "num-server-rounds=1"])  # warms the disk cache for all
        tried = {cpus: timed(_ray(arguments.clients, cpus), ROUNDS) for cpus in RAY_CPUS}
        best = min(tried, key=lambda cpus: tried[cpus].rounds_s)
        commands[RAY] = _ray(arguments.clients, best)
        plan = [(name, light) for name in commands] + [(name, heavy) for name in (ONE, DIRECT, BARE)]
        samples: dict[tuple[str, int], list[Timing]] = {subject: [] for subject in plan}
        for turn in range(arguments.repeat):
            for name, epochs in plan:
                timing = timed(commands[name], ROUNDS, {"MLP_LOCAL_EPOCHS": str(epochs)})
                samples[name, epochs].append(timing)
                print(f"{turn + 1}/{arguments.repeat}  {name}, {epochs} epochs: {timing}", file=sys.stderr)
    medians = {subject: _median(timings) for subject, timings in samples.items()}
    bars = _bars(medians)
    results = {
        "command": f"python -m benchmarks.engine --repeat {arguments.repeat} --clients {arguments.clients}",
        **here,
        "rounds": ROUNDS,
        "clients": arguments.clients,
        "ray_cpus_per_client": {"best": best, "tried": {str(cpus): asdict(timing) for cpus, timing in tried.items()}},
        "medians": {_label(subject): asdict(timing) for subject, timing in medians.items()},
        "samples": {_label(subject): [asdict(timing) for timing in timings] for subject, timings in samples.items()},
        "bars": [bar.as_dict() for bar in bars],
    }
    save("engine", results, _text(results, medians, bars))
    return 0 if all(bar.passed for bar in bars) else 1


def _commands(clients: int, runs: str) -> dict[str, list[str]]:
    fedshard = [*FEDSHARD, "run", str(APPS / "mlp"), "--clients", str(clients)]
    return {
        RAY: _ray(clients, 1.0),
        ONE: [*fedshard, "--json", "--runs-dir", runs, "--workers", "1"],
        TWO: [*fedshard, "--json", "--runs-dir", runs, "--workers", "2"],
        DIRECT: [sys.executable, "-m", "benchmarks.direct", "--clients", str(clients)],
        BARE: [sys.executable, "-m", "benchmarks.bare", "--clients", str(clients), "--rounds", str(ROUNDS)],
    }


def _ray(clients: int, cpus: float) -> list[str]:
    module = [sys.executable, "-m", "benchmarks.ray_simulation", str(APPS / "mlp")]
    return [*module, "--clients", str(clients), "--cpus", str(cpus)]


def _median(timings: Sequence[Timing]) -> Timing:
    return Timing(*(statistics.median(getattr(t, field.name) for t in timings) for field in fields(Timing)))


def _label(subject: tuple[str, int]) -> str:
    name, epochs = subject
    return f"{name}, {epochs} local epoch{'s' if epochs > 1 else ''}"


def _bars(medians: Mapping[tuple[str, int], Timing]) -> list[Bar]:
    light, heavy = EPOCHS
    ray, one, two = (medians[name, light] for name in (RAY, ONE, TWO))
    bare = {epochs: medians[ONE, epochs].rounds_s / medians[BARE, epochs].rounds_s for epochs in EPOCHS}
    return [
        Bar("5 rounds, one worker: times as fast as Ray", ray.rounds_s / one.rounds_s, 8),
        Bar("5 rounds, two workers: times as fast as Ray", ray.rounds_s / two.rounds_s, 13),
        Bar("whole command, one worker: times as fast as Ray", ray.whole_s / one.whole_s, 5),
        Bar("whole command, two workers: times as fast as Ray", ray.whole_s / two.whole_s, 5),
        Bar(f"5 rounds, one worker, {light} local epoch: times as long as the bare loop", bare[light], 1.5, False),
        Bar(f"5 rounds, one worker, {heavy} local epochs: times as long as the bare loop", bare[heavy], 1.5, False),
    ]


def _text(results: Mapping[str, Any], medians: Mapping[tuple[str, int], Timing], bars: Sequence[Bar]) -> str:
    seconds = ("later_rounds_s", "rounds_s", "whole_s")
    rows = [
        [
            _label((name, epochs)),
            *(f"{getattr(timing, key):.2f} s" for key in seconds),
            *(_ratio(medians.get((RAY, epochs)), timing, key) for key in seconds),
            f"{timing.rounds_s / medians[DIRECT, epochs].rounds_s:.2f}×",
            f"{timing.rounds_s / medians[BARE, epochs].rounds_s:.2f}×",
            f"{timing.accuracy:.3f}",
        ]
        for (name, epochs), timing in medians.items()
    ]
    times = ["rounds 2-5", "5 rounds", "command"]
    ratios = [*(f"{name}: Ray's / this" for name in times), "5 rounds: this / direct", "this / bare"]
    header = ["", *times, *ratios, "accuracy"]
    return "\n\n".join(
        [
            "# The engine's speed",
            f"{results['clients']} clients × {ROUNDS} rounds of training and evaluation, "
            "the same unmodified Flower app; medians.",
            setting(results["command"], results),
            table(header, rows),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
            _NOTE.format(
                best=results["ray_cpus_per_client"]["best"],
                tried=", ".join(f"{cpus:g}" for cpus in RAY_CPUS),
                light=EPOCHS[0],
                heavy=EPOCHS[1],
            ),
        ]
    )


def _ratio(ray: Timing | None, timing: Timing, key: str) -> str:
    return f"{getattr(ray, key) / getattr(timing, key):.1f}×" if ray else ""


if __name__ == "__main__":
    sys.exit(main())
