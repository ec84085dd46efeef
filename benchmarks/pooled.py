"""Federated against pooled training of the scenarios, over repeated splits: ``python -m benchmarks.pooled``.

Pooled is the same app with one client that has all rows: the same model, the same rounds, the same passes over the
rows, plain SGD. Step sizes of both were chosen on validation data: see `STUDIES`. Differences are paired by split;
the interval is Student's t over the splits, and beside it the one of Nadeau and Bengio (*Inference for the
generalization error*, 2003), which allows for splits that share rows.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from benchmarks.measure import ROOT, BenchmarkError, machine
from benchmarks.report import Bar, save, setting, table
from fl.engine import Apps, AppSpec, Options, run_apps
from fl.engine.app import PRIVATE_KEY, SEED_KEY
from fl.engine.flower import flower_log
from fl.model import build_model, load_weights, tensors
from fl.settings import Settings

Overrides = dict[str, str | int | float]

SPLITS = 10
PRIVATE_SPLITS = 3
"""DP-SGD is measured on the first few splits only: it is slower, and no bar hangs on it."""

POOLED: Overrides = {"strategy": "FedAvg", "server-momentum": 0.0}


@dataclass(frozen=True)
class Study:
    """One comparison.

    Attributes
    ----------
    name, scenario, folder : str
        What it is called, the app, and its data below the data root.
    clients : int
        Of the federation.
    metric : str
        ``accuracy``, ``auc`` or ``rmse``, on the server's test set after the last round.
    limit : float
        How much worse federated may be: points (0.02) of accuracy, or a share (0.03) of the pooled figure.
    relative : bool
        Whether differences are shares of the pooled figure.
    splits : sequence of overrides
        What makes each split.
    pooled : overrides
        The pooled run's own step size.
    shared : float
        Test rows over training rows of a split, where splits are drawn from the same rows; 0 where they are not.
    explained : str
        What a split is.
    """

    name: str
    scenario: str
    folder: str
    clients: int
    metric: str
    limit: float
    relative: bool
    splits: Sequence[Overrides]
    pooled: Overrides
    shared: float
    explained: str

    def worse(self, federated: float, pooled: float) -> float:
        """Return by how much federated is worse, negative where it is better."""
        gap = federated - pooled if self.metric == "rmse" else pooled - federated
        return gap / pooled if self.relative else gap


def _people(seed: int) -> str:
    drawn = np.random.default_rng(seed).choice(np.arange(1, 31), size=9, replace=False)
    return ", ".join(map(str, sorted(drawn.tolist())))


def _quarter(number: int) -> Overrides:
    start, first = np.datetime64("2013-03-17"), np.datetime64("2014-09-01") + 90 * number
    rounds = int((first - start) // np.timedelta64(30, "D"))
    return {"user.test-from": str(first), "user.test-days": 90, "num-server-rounds": rounds}


_SEEDS: list[Overrides] = [{"data-seed": seed} for seed in range(SPLITS)]
_HOSPITALS = (
    "ten draws of a third of each hospital's patients for the test; step sizes from six other draws, which share "
    "patients with these"
)
STUDIES = (
    Study(
        "activity, official people", "activity", "har", 21, "accuracy", 0.02, False,
        [{}] * SPLITS, {"learning-rate": 0.005}, 0.0,
        "the nine official test people, ten seeds: the order of rows alone differs; step sizes by cross-validation "
        "over the 21 others, tuned again after a first result of 2.4 points",
    ),
    Study(
        "activity, drawn people", "activity", "har", 21, "accuracy", 0.02, False,
        [{"user.test-people": _people(seed)} for seed in range(SPLITS)], {"learning-rate": 0.005}, 9 / 21,
        "ten draws of nine test people out of 30",
    ),
    Study(
        "hospitals, accuracy", "hospitals", "health", 4, "accuracy", 0.03, True, _SEEDS, {"learning-rate": 0.02}, 0.5,
        _HOSPITALS,
    ),
    Study(
        "hospitals, AUC", "hospitals", "health", 4, "auc", 0.03, True, _SEEDS, {"learning-rate": 0.02}, 0.5,
        _HOSPITALS,
    ),
    Study(
        "air-quality, RMSE", "air-quality", "iot/beijing_multisite", 9, "rmse", 0.03, True,
        [_quarter(number) for number in range(SPLITS)], {"learning-rate": 0.005}, 0.0,
        "ten successive quarters from 2014-09 on, each tested after training on the windows before it; step sizes "
        "from 2014-03 to 2014-08 and 2015-09 to 2016-02, which overlaps test quarters",
    ),
)  # fmt: skip


@dataclass
class Trainer:
    """Runs scenarios in this process, each run once however many studies ask for it."""

    root: Path
    apps: dict[str, Apps] = field(default_factory=dict)
    done: dict[tuple[Any, ...], tuple[dict[str, float], float]] = field(default_factory=dict)

    def run(self, study: Study, clients: int, seed: int, overrides: Overrides) -> tuple[dict[str, float], float]:
        """Return the last round's metrics, the AUC of two classes among them, and the seconds of training."""
        key = (study.scenario, clients, seed, *sorted(overrides.items()))
        if key not in self.done:
            self.done[key] = self._run(study, clients, seed, overrides)
        return self.done[key]

    def _run(self, study: Study, clients: int, seed: int, overrides: Overrides) -> tuple[dict[str, float], float]:
        if study.scenario not in self.apps:
            self.apps[study.scenario] = Apps.load(AppSpec.load(ROOT / "scenarios" / study.scenario))
        apps = self.apps[study.scenario]
        assert apps.spec is not None
        config = {**apps.spec.config, "data": str(self.root / study.folder), **overrides}
        settings = Settings.read(config)
        source = settings.source()
        for client in range(clients):  # read before workers are forked, and before the clock starts
            source.client(client, clients)
        test = source.test()
        assert test is not None
        with tempfile.TemporaryDirectory() as private, flower_log(30):
            node = {PRIVATE_KEY: private, SEED_KEY: seed}
            start = time.perf_counter()
            outcome = run_apps(apps, config, Options(clients=clients, seed=seed, node_config=node))
            seconds = time.perf_counter() - start
        metrics = outcome.rounds[max(outcome.rounds)]
        if settings.task == "classification" and len(np.unique(test.labels)) == 2:
            assert outcome.arrays is not None
            model = build_model(settings.model)
            load_weights(model, outcome.arrays)
            logits = model(tensors(test)[0]).detach().numpy()
            metrics["test_auc"] = float(roc_auc_score(test.labels, logits[:, 1] - logits[:, 0]))
        return metrics, seconds


def interval(differences: Sequence[float], shared: float) -> tuple[float, float, float]:
    """Return the mean of paired differences and half the width of its 95 % interval, plain and corrected.

    Parameters
    ----------
    differences : sequence of float
        One per split, n of them.
    shared : float
        Test rows over training rows: the corrected variance is (1/n + shared) times that of a difference.
    """
    n = len(differences)
    spread = float(np.std(differences, ddof=1)) * float(stats.t.ppf(0.975, n - 1))
    return float(np.mean(differences)), spread * (1 / n) ** 0.5, spread * (1 / n + shared) ** 0.5


def measure(trainer: Trainer, study: Study) -> dict[str, Any]:
    """Run one study and return every sample."""
    samples: dict[str, list[dict[str, float]]] = {"federated": [], "pooled": [], "private": []}
    for seed, split in enumerate(study.splits):
        runs = {
            "federated": (study.clients, {**split, "privacy": "off"}),
            "pooled": (1, {**split, "privacy": "off", **POOLED, **study.pooled}),
        }
        if seed < PRIVATE_SPLITS:
            runs["private"] = (study.clients, dict(split))
        for kind, (clients, overrides) in runs.items():
            metrics, seconds = trainer.run(study, clients, seed, overrides)
            samples[kind].append({**metrics, "seconds": seconds})
        print(f"{study.name}: split {seed + 1} of {len(study.splits)}", file=sys.stderr)
    return samples


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    root = parser.parse_args().data
    if not root.is_dir():
        raise BenchmarkError(f"{root}: no such folder; give the one of the real data sets with --data")
    here, trainer = machine(["fedshard", "flwr", "torch", "opacus"]), Trainer(root)
    results, rows, bars, private = {}, [], [], []
    for study in STUDIES:
        samples = results[study.name] = measure(trainer, study)
        values = {kind: [run[f"test_{study.metric}"] for run in runs] for kind, runs in samples.items()}
        gaps = [study.worse(f, p) for f, p in zip(values["federated"], values["pooled"], strict=True)]
        mean, half, corrected = interval(gaps, study.shared)
        unit = "%" if study.relative else "points"
        seconds = {kind: np.mean([run["seconds"] for run in runs]) for kind, runs in samples.items()}
        rows.append([
            study.name, f"{np.mean(values['federated']):.4g}", f"{np.mean(values['pooled']):.4g}",
            f"{100 * mean:+.2f} ± {100 * half:.2f} {unit}", f"± {100 * corrected:.2f}",
            f"{seconds['federated']:.1f} s", f"{seconds['pooled']:.1f} s",
        ])  # fmt: skip
        private.append([
            study.name, f"{np.mean(values['federated'][:PRIVATE_SPLITS]):.4g}", f"{np.mean(values['private']):.4g}",
            f"{max(run['epsilon'] for run in samples['private']):.2f}", f"{seconds['private']:.1f} s",
        ])  # fmt: skip
        claim = f"{study.name}: federated worse than pooled, upper end of the interval"
        bars.append(Bar(f"{claim} ({unit})", 100 * (mean + half), 100 * study.limit, at_least=False))
    command = "python -m benchmarks.pooled"
    text = "\n\n".join([
        "# Federated against pooled training",
        "The same model, rounds and passes; pooled is the same app with one client that has all rows, with a step "
        "size of its own. The difference is how much worse federated is, paired by split, with a 95 % interval "
        f"(Student's t, {SPLITS} splits; beside it Nadeau and Bengio's, for splits that share rows). Metrics are "
        "those of the server's test set after the last round, whatever came before.",
        setting(command, here),
        table(["study", "federated", "pooled", "worse by", "corrected", "time", "pooled"], rows),
        table(["bar", "measured", "limit", ""], [bar.row() for bar in bars]),
        f"With DP-SGD at every client (the default), on the first {PRIVATE_SPLITS} splits:",
        table(["study", "privacy off", "DP-SGD", "ε, δ = 1e-5", "time"], private),
        "Splits:\n\n" + "\n".join(f"- {study.name}: {study.explained}." for study in STUDIES),
    ])  # fmt: skip
    save("pooled", {"command": command, **here, "bars": [bar.as_dict() for bar in bars], "runs": results}, text)
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
