"""``fedshard run``: a federation on this machine, new or resumed."""

import argparse
import contextlib
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

import flwr.serverapp
from flwr.app import UserConfig
from safetensors import SafetensorError

import scenarios
from fl.council import SIMULATED
from fl.engine import Apps, AppSpec, Observer, Options, Outcome, RoundEvent, SnapshotStore, parse_overrides, run_apps
from fl.engine.app import PRIVATE_KEY, SEED_KEY, Checked
from fl.engine.engine import one_thread, worker_count
from fl.engine.flower import flower_log
from fl.errors import BudgetSpentError, InterruptedRunError
from fl.run import Manifest, MetricsLog, Printer, RunFolder, Summary, model_digest
from fl.run.blocks import Blocks
from fl.run.folder import code_digest, read_manifest, read_metrics, versions
from fl.run.summary import headline, rounds_of, to_json
from fl.run.trackers import Tracker, find_tracker
from fl.run.watch import Dashboard
from fl.version import __version__
from shards.errors import FedshardError, InputError

_MIB = 2**20


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Returns
    -------
    int
        0, or 130 where the run was interrupted.

    Raises
    ------
    FedshardError
        For everything that ends in one line.
    """
    summaries: list[Summary] = []
    try:
        with one_thread(), _stdout_kept_for_json(arguments.json) as stream:
            _run(arguments, Printer(stream), summaries.append)
    finally:  # a run that was stopped has a model and an ε too
        if arguments.json and summaries:
            print(to_json(asdict(summaries[-1])))
    return 0


def _run(arguments: argparse.Namespace, printer: Printer, on_end: Callable[[Summary], None]) -> None:
    previous = find_run(arguments.resume, arguments.runs_dir) if arguments.resume is not None else None
    spec = AppSpec.load(_app_folder(arguments.app, previous))
    manifest = _manifest(arguments, spec, previous)
    if previous is not None:
        read_manifest(previous).check_same(manifest)
    apps = Apps.load(spec)
    checked = apps.server if isinstance(apps.server, Checked) else None
    printer.rounds_reported = checked is not None
    if checked:
        checked.preflight(manifest.config, manifest.clients, f"{spec.folder / 'pyproject.toml'}")
    trackers = {name: find_tracker(name) for name in arguments.track}
    folder = RunFolder.reopen(previous) if previous else RunFolder.create(arguments.runs_dir, manifest)
    try:
        if previous is not None:
            folder.update(status="running", error=None)
        options = _options(arguments, folder)
        mode = "resumed" if previous else f"seed {options.seed}"
        printer.console.print(
            f"fedshard {__version__}  {spec.name}  {options.clients} simulated clients  "
            f"{worker_count(options)} workers  {mode}  {folder.path}"
        )
        for line in checked.describe(manifest.config) if checked else []:
            printer.console.print(line, style="bold red" if "OFF" in line else "")
        printer.live = worker_count(options) > 0
        if arguments.watch:
            printer.dashboard = Dashboard(folder)
        tracking = [Tracker(name, make, folder.path, printer.warn) for name, make in trackers.items()]
        _execute(apps, folder, options, arguments, printer, [MetricsLog(folder), *tracking], on_end)
    finally:
        folder.close()


def _execute(
    apps: Apps,
    folder: RunFolder,
    options: Options,
    arguments: argparse.Namespace,
    printer: Printer,
    loggers: Sequence[Observer],
    on_end: Callable[[Summary], None],
) -> None:
    """Run the apps and leave the folder in a state that says how it ended, whatever happens."""
    outcome, started = Outcome(), time.monotonic()
    status, error = "failed", None
    try:
        run_apps(
            apps,
            folder.manifest.config,
            options,
            snapshots=SnapshotStore(folder.private, arguments.max_disk * _MIB),
            observers=[printer, *loggers],
            on_ready=printer.start,
            outcome=outcome,
        )
        if outcome.failed and not outcome.replied:
            raise FedshardError(f"no client ever gave a usable reply; first: {outcome.first_error}")
        status = "completed"
    except BudgetSpentError as spent:
        status, error = "budget-spent", str(spent)
        raise
    except KeyboardInterrupt:
        status, error = "interrupted", "interrupted"
        again = f"fedshard run --resume {folder.manifest.run_id}"
        raise InterruptedRunError(f"interrupted; every finished exchange is kept: {again}") from None
    except FedshardError as failure:
        error = str(failure)
        raise
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
        printer.stop()
        print("".join(_app_traceback(failure)), end="", file=sys.stderr)
        raise FedshardError(f"the ServerApp raised {error}") from failure
    finally:
        printer.stop()
        summary = _finish(folder, outcome, loggers, time.monotonic() - started, status, error)
        on_end(summary)
    if not outcome.recorded:
        printer.console.print(f"the record of replies reached --max-disk {arguments.max_disk} MiB: no resume")
    _print_end(printer, summary, outcome.last, folder)


def _app_traceback(failure: Exception) -> list[str]:
    """Format a failure from the app's own frames on: how the engine got there helps nobody."""
    frames = failure.__traceback__
    ours = (str(Path(__file__).parents[1]), str(Path(flwr.serverapp.__file__).parent))
    while frames and frames.tb_next and frames.tb_frame.f_code.co_filename.startswith(ours):
        frames = frames.tb_next
    return traceback.format_exception(type(failure), failure, frames)


def _finish(
    folder: RunFolder,
    outcome: Outcome,
    loggers: Sequence[Observer],
    wall: float,
    status: str,
    error: str | None,
) -> Summary:
    if outcome.result is not None:  # a ServerApp that did not report its rounds: what its strategy returned says them
        for number, metrics in rounds_of(outcome.result).items():
            for observer in (outcome, *loggers):
                observer.on_round(RoundEvent(number, None, metrics))
    last, blocks = outcome.last, Blocks.of(read_metrics(folder.path))
    summary = Summary(
        run_id=folder.manifest.run_id,
        rounds=max(outcome.rounds, default=0),
        test_accuracy=headline(last, "accuracy"),
        test_loss=headline(last, "loss"),
        epsilon_max=last.get("epsilon"),
        delta=_delta(folder.manifest.config) if "epsilon" in last else None,
        consensus_p50_ms=blocks.p50_ms,
        committed_blocks=blocks.height or None,
        model_digest=model_digest(outcome.arrays) if outcome.arrays else None,
        wall_s=round(wall, 3),
    )
    with contextlib.suppress(FedshardError):  # a full disk was reported when it was met
        if outcome.arrays:
            with contextlib.suppress(SafetensorError, ValueError):  # a model that is not plain arrays
                folder.save_model(outcome.arrays)
        folder.update(status=status, error=error, summary=asdict(summary), resumable=outcome.recorded)
    return summary


def _delta(config: UserConfig) -> float:
    """Return the δ that a private run's ε holds for."""
    from fl.settings import Settings  # late: it loads Opacus, a second and a half that other apps need not wait for

    return float(config.get("delta", Settings.delta))


def _print_end(printer: Printer, summary: Summary, last: Mapping[str, float], folder: RunFolder) -> None:
    rounds = f" {summary.rounds} round{'s' if summary.rounds > 1 else ''}" if summary.rounds else ""
    parts = [f"done:{rounds} in {summary.wall_s:.1f} s"]
    if summary.test_accuracy is not None:
        parts.append(f"accuracy {summary.test_accuracy:.3f}")
    if "test_rmse" in last:
        parts.append(f"rmse {last['test_rmse']:.4g}")
    if summary.epsilon_max is not None:
        parts.append(f"ε {summary.epsilon_max:.2f} (δ {summary.delta:g})")
    if summary.committed_blocks is not None:
        parts.append(f"{summary.committed_blocks} blocks, {summary.consensus_p50_ms:.0f} ms each ({SIMULATED})")
    if summary.model_digest is not None:
        parts.append(f"model {summary.model_digest[:12]} in {folder.path / 'model.safetensors'}")
    printer.console.print("  ".join(parts))


def find_run(name: str, root: Path) -> Path:
    """Find a run by its id below the runs folder, or by its path."""
    return root / name if (root / name).is_dir() else Path(name)


def find_app(name: str) -> Path:
    """Find an app by its folder, or a scenario that fedshard ships as ``digits`` or ``scenarios/digits``."""
    shipped = Path(scenarios.__path__[0]) / Path(name).name
    named = Path(name) in (Path(shipped.name), Path("scenarios", shipped.name))
    return shipped if named and not Path(name).exists() and shipped.is_dir() else Path(name)


def _app_folder(given: str | None, previous: Path | None) -> Path:
    if given is not None:
        return find_app(given)
    if previous is None:
        raise InputError("fedshard run needs an app folder, e.g. `fedshard run scenarios/digits`")
    return Path(read_manifest(previous).app)


def _manifest(arguments: argparse.Namespace, spec: AppSpec, previous: Path | None) -> Manifest:
    """Describe the run that the command line asks for; what a resumed run leaves unsaid is as it was."""
    old = read_manifest(previous) if previous else None
    overrides = parse_overrides(arguments.config, spec.config)
    config: UserConfig = {**(old.config if old else spec.config), **overrides}

    def said(value: float | None, before: str, default: float | None) -> float | None:
        return value if value is not None else getattr(old, before) if old else default

    return Manifest(
        run_id=f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}",
        app=str(spec.folder),
        name=spec.name,
        config=config,
        clients=int(said(arguments.clients, "clients", spec.clients) or 0),
        seed=int(said(arguments.seed, "seed", 0) or 0),
        client_timeout=said(arguments.client_timeout, "client_timeout", None),
        code=code_digest(spec.folder),
        versions=versions(),
    )


def _options(arguments: argparse.Namespace, folder: RunFolder) -> Options:
    manifest = folder.manifest
    return Options(
        clients=manifest.clients,
        seed=manifest.seed,
        workers=arguments.workers,
        client_timeout=manifest.client_timeout or math.inf,
        node_config={PRIVATE_KEY: str(folder.private.resolve()), SEED_KEY: manifest.seed},
    )


@contextlib.contextmanager
def _stdout_kept_for_json(active: bool) -> Iterator[IO[str] | None]:
    """With --json, whatever the apps print goes to standard error, so that standard output is one object.

    The descriptor is redirected too: workers and what apps start as processes of their own write to it.
    """
    with flower_log(logging.WARNING):
        if not active:
            yield None
            return
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield sys.stderr
        finally:
            os.dup2(kept, 1)
            os.close(kept)
