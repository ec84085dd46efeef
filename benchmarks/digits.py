"""The accuracy of ``scenarios/digits`` with privacy on and off, over five seeds: ``python -m benchmarks.digits``.

A seed decides test set, split over clients, initial model, noise and draws. The model is the same both ways; privacy
off is the only change. `--all-rows` lets clients train on all of their rows instead of holding out a fifth.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.measure import ROOT, environment, machine
from benchmarks.report import Bar, save, setting, table

SEEDS = (0, 1, 2, 3, 4)
ALL_ROWS = ("-c", "local-test-fraction=0.0", "-c", "expected-batch-size=72.0")


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all-rows", action="store_true", help="train on all rows of a client")
    arguments = parser.parse_args()
    here = machine(["fedshard", "flwr", "torch", "opacus"])
    extra = ALL_ROWS if arguments.all_rows else ()
    with tempfile.TemporaryDirectory() as runs:
        results = {
            privacy: [run(runs, seed, "-c", f"privacy={privacy}", *extra) for seed in SEEDS]
            for privacy in ("off", "dp-sgd")
        }
    mean = {privacy: statistics.mean(run["test_accuracy"] for run in runs) for privacy, runs in results.items()}
    epsilon = max(run["epsilon_max"] for run in results["dp-sgd"])
    bars = [
        Bar("mean accuracy, privacy off", mean["off"], 0.95),
        Bar("mean accuracy, DP-SGD at every client", mean["dp-sgd"], 0.86),
        Bar("largest ε of any record, δ = 1e-5", epsilon, 8.0, at_least=False),
    ]
    rows = [
        [privacy, *(f"{run['test_accuracy']:.4f}" for run in runs), f"{mean[privacy]:.4f}"]
        for privacy, runs in results.items()
    ]
    name = "digits-all-rows" if arguments.all_rows else "digits"
    command = f"python -m benchmarks.digits{' --all-rows' if arguments.all_rows else ''}"
    kept = "all of their about 72" if arguments.all_rows else "about 57 of their 72"
    text = "\n\n".join(
        [
            "# Accuracy of the digits federation",
            "20 clients, Dirichlet α = 0.5, a stratified fifth as the server's test set, 10 rounds, the same "
            f"1,722-weight model both ways; clients train on {kept} records.",
            setting(command, here),
            table(["privacy", *(f"seed {seed}" for seed in SEEDS), "mean"], rows),
            table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
        ]
    )
    save(name, {"command": command, **here, "runs": results, "bars": [bar.as_dict() for bar in bars]}, text)
    return 0 if all(bar.passed for bar in bars) else 1


def run(runs: str, seed: int, *arguments: str) -> dict[str, Any]:
    """Run the scenario once, as a user would, and return its summary."""
    command = [sys.executable, "-m", "fl.cli", "run", "scenarios/digits", "--json", "--runs-dir", runs]
    seeds = ["--seed", str(seed), "-c", f"data-seed={seed}"]
    done = subprocess.run(
        [*command, *seeds, *arguments], cwd=ROOT, env=environment(), check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
