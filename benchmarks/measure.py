"""Running commands under a stopwatch, and describing the machine they ran on."""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
APPS = Path("benchmarks") / "apps"
FEDSHARD = [str(Path(sys.executable).with_name("fedshard"))]
"""The command line of fedshard, as a user types it."""

_LIMIT_S = 900
_STAMP = re.compile(r"\[(\d+\.\d+)\] round (\d+): loss=(\d+\.\d+) accuracy=(\d+\.\d+)")


class BenchmarkError(Exception):
    """A benchmark could not be run, so there is no figure."""


@dataclass(frozen=True)
class Timing:
    """One run of a federation, as its server's time stamps and the clock outside saw it.

    Attributes
    ----------
    rounds_s : float
        From the first test of the global model, before round 1, to the last, after the last round.
    later_rounds_s : float
        The same without round 1, in which Ray starts its processes.
    whole_s : float
        The whole command, imports included.
    accuracy : float
        Of the final model on the server's records.
    """

    rounds_s: float
    later_rounds_s: float
    whole_s: float
    accuracy: float


def environment() -> dict[str, str]:
    """Return the environment of what is measured: no telemetry, and byte code cached as on any user's machine."""
    path = os.pathsep.join([str(ROOT), str(ROOT / APPS / "logreg")])  # the peers' scripts use that app's data
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}


@contextlib.contextmanager
def runs_folder() -> Iterator[str]:
    """Make a folder for run folders, on the disk where runs usually are, and remove it afterwards."""
    usual = ROOT / "runs"
    usual.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=usual, prefix="benchmark-") as folder:
        yield folder


def run(command: Sequence[str], settings: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Run a command in the repository's root, with further environment variables.

    Returns
    -------
    tuple of float and str
        Seconds, and everything it printed.

    Raises
    ------
    BenchmarkError
        If it fails or hangs, with the end of what it printed.
    """
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**environment(), **(settings or {})}, text=True, timeout=_LIMIT_S, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{' '.join(command)}: still running after {_LIMIT_S} s") from error
    seconds = time.perf_counter() - start
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    return seconds, done.stdout


def timed(command: Sequence[str], rounds: int, settings: Mapping[str, str] | None = None) -> Timing:
    """Run a command whose server prints a time stamp per round, from round 0 on; see `run` for `settings`.

    Raises
    ------
    BenchmarkError
        If it fails, or does not go through all rounds.
    """
    whole, output = run(command, settings)
    found = {int(number): (float(at), float(accuracy)) for at, number, _, accuracy in _STAMP.findall(output)}
    if sorted(found) != list(range(rounds + 1)):
        raise BenchmarkError(
            f"{' '.join(command)}: expected {rounds} rounds, found {sorted(found)}\n{output[-2000:]}"
        )
    last, accuracy = found[rounds]
    return Timing(last - found[0][0], last - found[min(1, rounds - 1)][0], whole, accuracy)


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """Describe this machine and the versions of what was measured."""
    models = re.findall(r"model name\s*: (.*)", _read(Path("/proc/cpuinfo")))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": models[0] if models else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
