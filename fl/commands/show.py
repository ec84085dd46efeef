"""``fedshard show``: one run, its configuration and its rounds."""

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from fl.commands.run import find_run
from fl.run.folder import Manifest, read_manifest, read_metrics
from fl.run.history import History
from fl.run.summary import to_json


def run(arguments: argparse.Namespace) -> int:
    """Print a run's manifest and metrics."""
    path = find_run(arguments.run, arguments.runs_dir)
    manifest = read_manifest(path)
    by_round = History.of(read_metrics(path)).rounds
    rounds = [{"server_round": number, **metrics} for number, metrics in by_round.items()]
    if arguments.json:
        print(to_json({**asdict(manifest), "rounds": rounds}))
        return 0
    console = Console(highlight=False, markup=False)
    console.print(_facts(manifest))
    if rounds:
        names = list(dict.fromkeys(name for metrics in rounds for name in metrics))
        table = Table(*names, box=None, pad_edge=False, header_style="bold")
        for metrics in rounds:
            table.add_row(*(_figure(metrics.get(name)) for name in names))
        console.print(table)
    return 0


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
