"""The same logistic regression under fedshard, pfl-research and FedJAX, side by side: ``python -m benchmarks.peers``.

Each peer runs in a virtual environment of its own, made in a cache folder on first use. No figure is promised here:
the frameworks do different things for the time they take, which the table's notes say.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.measure import APPS, FEDSHARD, BenchmarkError, Timing, machine, run, runs_folder, timed
from benchmarks.report import save, setting, table

ROUNDS, CLIENTS = 10, 100
_SCRIPTS = Path("benchmarks") / "peer_scripts"


@dataclass(frozen=True)
class Peer:
    """A framework to compare with.

    Attributes
    ----------
    name : str
        For the table.
    steps : tuple of tuple of str
        What each call of pip installs, in order.
    script : str
        What to run in its environment.
    shown : tuple of str
        Packages whose versions are recorded.
    note : str
        What its time includes.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]
    script: str
    shown: tuple[str, ...]
    note: str


PEERS = (
    Peer(
        "pfl-research",
        (("torch==2.13.0",), ("pfl[pytorch]",)),
        "pfl_logreg.py",
        ("pfl", "torch", "numpy"),
        "one process and thread, one model for all clients, no isolation, nothing serialised or kept on disk; "
        "batches in stored order",
    ),
    Peer(
        "FedJAX",
        # The last FedJAX (2023) calls functions that later releases of JAX have removed.
        (("fedjax", "jax<0.4.26", "jaxlib<0.4.26", "numpy<2", "scipy<1.13", "dm-haiku<0.0.13", "optax<0.2.3"),),
        "fedjax_logreg.py",
        ("fedjax", "jax", "jaxlib", "numpy"),
        "one process, training compiled by XLA in round 1, no isolation, nothing serialised or kept on disk",
    ),
)
_OURS = (
    "an ordinary Flower app: messages, isolated worker processes, a fresh model and optimiser per client, and every "
    "reply on disk before it is used"
)


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--cache", type=Path, help="folder of the virtual environments (default: a temporary one)")
    arguments = parser.parse_args()
    here = machine(["fedshard", "flwr", "torch", "numpy"])
    with tempfile.TemporaryDirectory() as temporary, runs_folder() as runs:
        fedshard = [*FEDSHARD, "run", str(APPS / "logreg"), "--clients", str(CLIENTS), "--json", "--runs-dir", runs]
        commands = {f"fedshard, {n} worker{'s' * (n > 1)}": [*fedshard, "--workers", str(n)] for n in (1, 2)}
        notes, versions, failures = dict.fromkeys(commands, _OURS), {}, {}
        for peer in PEERS:
            doing = "installing it"
            try:
                python = install(peer, (arguments.cache or Path(temporary)).resolve())
                command = [str(python), str(_SCRIPTS / peer.script), str(CLIENTS)]
                doing = "running it"
                timed(command, ROUNDS)  # whether it runs at all, and byte code
            except BenchmarkError as error:
                failures[peer.name] = f"{doing} failed"  # the error itself may name this machine's folders
                print(f"{peer.name}: not measured: {error}", file=sys.stderr)
                continue
            commands[peer.name], notes[peer.name] = command, peer.note
            versions[peer.name] = _versions(python, peer.shown)
        samples: dict[str, list[Timing]] = {name: [] for name in commands}
        for _ in range(arguments.repeat):
            for name, command in commands.items():
                samples[name].append(timed(command, ROUNDS))
    medians = {
        name: Timing(*(statistics.median(getattr(t, field.name) for t in timings) for field in fields(Timing)))
        for name, timings in samples.items()
    }
    results = {
        "command": f"python -m benchmarks.peers --repeat {arguments.repeat}",
        **here,
        "clients": CLIENTS,
        "rounds": ROUNDS,
        "peer_versions": versions,
        "notes": notes,
        "not_measured": failures,
        "medians": {name: asdict(timing) for name, timing in medians.items()},
        "samples": {name: [asdict(timing) for timing in timings] for name, timings in samples.items()},
    }
    save("peers", results, _text(results, medians))
    return 0


def install(peer: Peer, cache: Path) -> Path:
    """Make a peer's environment unless the cache has it, and return its Python.

    Raises
    ------
    BenchmarkError
        If it cannot be installed, with the end of what pip said.
    """
    folder = cache / peer.script.removesuffix(".py")
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        run([sys.executable, "-m", "venv", "--clear", str(folder)])
        for packages in peer.steps:
            run([str(python), "-m", "pip", "install", "--quiet", *packages])
        complete.touch()
    return python


def _versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    command = [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    installed = {entry["name"]: entry["version"] for entry in json.loads(done.stdout)}
    return {name: installed.get(name, "?") for name in names}


def _text(results: Mapping[str, Any], medians: Mapping[str, Timing]) -> str:
    rows = [
        [
            name,
            f"{timing.rounds_s - timing.later_rounds_s:.2f} s",
            f"{timing.later_rounds_s / (ROUNDS - 1):.3f} s",
            f"{timing.whole_s:.2f} s",
            f"{timing.accuracy:.3f}",
        ]
        for name, timing in medians.items()
    ]
    peers = "; ".join(
        f"{name}: {', '.join(f'{package} {version}' for package, version in versions.items())}"
        for name, versions in results["peer_versions"].items()
    )
    failures = [f"{name} was not measured: {reason}." for name, reason in results["not_measured"].items()]
    return "\n\n".join(
        [
            "# The same logistic regression under other simulators",
            f"{CLIENTS} clients × {ROUNDS} rounds: every client in each, 80 records, one pass of SGD in batches of "
            "16, averaged by records; medians. The same NumPy function tests the model after each round.",
            f"{setting(results['command'], results)}  \n{peers}.",
            table(["", "round 1", "later rounds, each", "command", "accuracy"], rows),
            *failures,
            "\n".join(f"- {name}: {note}." for name, note in results["notes"].items()),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
