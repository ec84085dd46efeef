"""Runs killed at random moments and resumed, against the uninterrupted run: ``python -m benchmarks.resume``.

Real SIGKILL of the real command, 20 times each for ``scenarios/digits`` and for an app with FedAdam's hidden state.
After every second kill the newest record also loses a random number of bytes, as a torn write would. A run counts
when its final model equals the uninterrupted run's to the bit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, environment, machine
from benchmarks.report import Bar, save, setting, table

JOBS = {
    "digits (DP-SGD, snapshots)": ["scenarios/digits"],
    "FedAdam (foreign app, replay)": ["tests/apps/adam", "-c", "num-server-rounds=12", "-c", "pause=0.02"],
}
CLIENTS = ["--clients", "20"]


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="kills of each job (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    here = machine(["fedshard", "flwr", "torch"])
    moments = random.Random(arguments.seed)
    rows, results, bars = [], {}, []
    for name, job in JOBS.items():
        with tempfile.TemporaryDirectory() as folder:
            reference, start_s, whole_s = uninterrupted(job, Path(folder) / "whole")
            outcomes = []
            for attempt in range(arguments.kills):
                moment = moments.uniform(start_s * 0.8, whole_s)
                tear = moments.randrange(1, 4000) if attempt % 2 else 0
                outcomes.append(killed(job, Path(folder) / str(attempt), moment, tear))
                print(f"{name} {attempt + 1}/{arguments.kills}: {outcomes[-1]}", file=sys.stderr)
        equal = sum(outcome["digest"] == reference for outcome in outcomes)
        rows.append(
            [
                name,
                f"{equal} of {len(outcomes)}",
                str(sum(o["torn"] > 0 for o in outcomes)),
            ]
        )
        results[name] = {"reference": reference, "outcomes": outcomes}
        bars.append(Bar(f"{name}: equal to the uninterrupted run", equal, arguments.kills))
    command = f"python -m benchmarks.resume --kills {arguments.kills} --seed {arguments.seed}"
    text = "\n\n".join(
        [
            "# Resume after SIGKILL",
            "Final model of killed and resumed runs, compared bit by bit with the uninterrupted run's.",
            setting(command, here),
            table(["job", "equal", "with a torn record"], rows),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
        ]
    )
    save("resume", {"command": command, **here, "jobs": results, "bars": [bar.as_dict() for bar in bars]}, text)
    return 0 if all(bar.passed for bar in bars) else 1


def start(arguments: list[str], runs: Path) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [sys.executable, "-m", "fl.cli", "run", *arguments, "--runs-dir", str(runs)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a command that must succeed."""
    error = process.communicate()[1].decode()
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}\n{error}")


def manifest(runs: Path) -> dict[str, Any]:
    """Return what the one run below a folder says of itself; empty where there is none yet."""
    files = list(runs.glob("*/run.json"))
    return json.loads(files[0].read_text()) if files else {}


def uninterrupted(job: list[str], runs: Path) -> tuple[str, float, float]:
    """Run a job whole; return its digest, when its folder appeared, and when it ended (seconds from the start)."""
    began = time.monotonic()
    process = start([*job, *CLIENTS], runs)
    while process.poll() is None and not manifest(runs):
        time.sleep(0.02)
    appeared = time.monotonic() - began
    finish(process)
    return manifest(runs)["summary"]["model_digest"], appeared, time.monotonic() - began


def killed(job: list[str], runs: Path, moment: float, tear: int) -> dict[str, Any]:
    """Kill a job after some seconds, tear its record, resume it (or run it, if there was no run yet)."""
    process = start([*job, *CLIENTS], runs)
    time.sleep(moment)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = manifest(runs)
    torn = 0
    if state:
        folder = runs / state["run_id"]
        for record in folder.glob("private/replies-*.log"):
            size = record.stat().st_size
            torn = min(tear, size)
            os.truncate(record, size - torn)
    if state.get("status") != "completed":
        finish(start(["--resume", state["run_id"]] if state else [*job, *CLIENTS], runs))
    digest = manifest(runs)["summary"]["model_digest"]
    return {"moment_s": round(moment, 3), "torn": torn, "digest": digest}


if __name__ == "__main__":
    sys.exit(main())
