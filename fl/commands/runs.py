"""``fedshard runs`` and the table it prints."""

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fl.run.folder import Manifest, read_manifest
from fl.run.summary import to_json
from shards.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    """List the runs below a folder, oldest first; folders that hold no readable run are said so."""
    console = Console(markup=False, highlight=False)
    manifests: list[Manifest] = []
    for path in sorted(_run_folders(arguments.runs_dir), key=lambda path: path.stat().st_mtime):
        try:
            manifests.append(read_manifest(path))
        except InputError as error:
            Console(stderr=True).print(f"skipped: {error}", markup=False, highlight=False)
    if arguments.json:
        print(to_json([asdict(manifest) for manifest in manifests]))
        return 0
    if not manifests:
        console.print(f"no runs in {arguments.runs_dir}; start one with `fedshard run scenarios/digits`")
        return 0
    table = Table("run", "status", "clients", "seed", "rounds", "accuracy", "ε", box=None, pad_edge=False)
    for manifest in manifests:
        summary = manifest.summary or {}
        table.add_row(
            manifest.run_id,
            manifest.status,
            str(manifest.clients),
            str(manifest.seed),
            str(summary.get("rounds", "")),
            _figure(summary.get("test_accuracy"), ".3f"),
            _figure(summary.get("epsilon_max"), ".2f"),
        )
    console.print(table)
    return 0


def _run_folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
