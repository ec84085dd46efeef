"""``fedshard show``: one run, its configuration and its rounds."""

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from fl.commands.run import find_run
from fl.run.folder import Manifest, read_manifest, read_metrics
from fl.run.summary import to_json


def run(arguments: argparse.Namespace) -> int:
    """Print a run's manifest and metrics."""
    path = find_run(arguments.run, arguments.runs_dir)
    manifest = read_manifest(path)
    rounds = _rounds(read_metrics(path))
    if arguments.json:
        print(to_json({**asdict(manifest), "rounds": list(rounds.values())}))
        return 0
    console = Console(highlight=False, markup=False)
    console.print(_facts(manifest))
    if rounds:
        names = list(dict.fromkeys(name for metrics in rounds.values() for name in metrics))
        table = Table(*names, box=None, pad_edge=False, header_style="bold")
        for metrics in rounds.values():
            table.add_row(*(_figure(metrics.get(name)) for name in names))
        console.print(table)
    return 0


def _rounds(lines: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Collect the metrics of each round; a resumed run logs some rounds again, and the last word counts."""
    rounds: dict[int, dict[str, Any]] = {}
    for line in lines:
        if line.get("kind") == "round" and isinstance(line.get("server_round"), int):
            metrics = {name: value for name, value in line.items() if name not in ("kind", "time")}
            rounds.setdefault(line["server_round"], {}).update(metrics)
    return dict(sorted(rounds.items()))


def _facts(manifest: Manifest) -> Table:
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    table.columns[0].style = "bold"
    summary = manifest.summary or {}
    facts = {
        "run": manifest.run_id,
        "app": manifest.app,
        "status": manifest.status + (f": {manifest.error}" if manifest.error else ""),
        "clients": manifest.clients,
        "seed": manifest.seed,
        "config": ", ".join(f"{key}={value}" for key, value in manifest.config.items()),
        "versions": ", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
        **{name.replace("_", " "): value for name, value in summary.items() if name != "run_id"},
    }
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, str(value))
    return table


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
