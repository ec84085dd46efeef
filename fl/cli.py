"""The ``fedshard`` command.

Exit status: 0 success, 1 failure, 2 bad input, 3 privacy budget spent, 130 interrupted.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fl.loading import collector_off
from fl.version import __version__
from shards.errors import FedshardError

_EPILOG = "exit status: 0 success, 1 failure, 2 bad input, 3 privacy budget spent, 130 interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; errors of a user's making end in one line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.
    """
    arguments = _parser().parse_args(argv)
    try:
        # Each command is imported when it is used: listing runs should not wait for torch.
        with collector_off():
            command = importlib.import_module(f"fl.commands.{arguments.module}")
        return int(command.run(arguments))
    except FedshardError as error:
        print(f"fedshard: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("fedshard: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedshard",
        allow_abbrev=False,
        description="Federated learning with dynamic data sharding.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"fedshard {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser(
        "run", allow_abbrev=False, help="run a Flower app as a simulated federation", epilog=_EPILOG
    )
    run.set_defaults(module="run")
    run.add_argument("app", nargs="?", help="folder of the app (with its pyproject.toml)")
    run.add_argument("--clients", type=_from(1), help="number of clients (default: the app's own)")
    run.add_argument(
        "-c", dest="config", action="append", default=[], metavar="KEY=VALUE", help="override configuration"
    )
    run.add_argument("--seed", type=_from(0), help="seed of everything random (default 0)")
    run.add_argument(
        "--workers",
        type=_from(0),
        help="worker processes (default: one per core; 0: in this process, for breakpoints)",
    )
    run.add_argument("--client-timeout", type=_seconds, metavar="S", help="seconds a client may take for one message")
    run.add_argument("--resume", metavar="RUN", help="go on with an interrupted run (id or folder)")
    run.add_argument(
        "--max-disk",
        type=_from(1),
        default=4096,
        metavar="MIB",
        help="cap on the record of replies (default 4096)",
    )
    run.add_argument("--watch", action="store_true", help="show figures of the run live")
    run.add_argument(
        "--track",
        action="append",
        default=[],
        metavar="TRACKER",
        help="observe the run with `tensorboard` or a class of your own, module:ClassName",
    )
    _common(run)

    new = commands.add_parser("new", allow_abbrev=False, help="make a ready-to-edit app")
    new.set_defaults(module="new")
    new.add_argument("name", help="folder and name of the new app, e.g. my-federation")

    runs = commands.add_parser("runs", allow_abbrev=False, help="list the runs")
    runs.set_defaults(module="runs")
    _common(runs)

    show = commands.add_parser("show", allow_abbrev=False, help="show one run")
    show.set_defaults(module="show")
    show.add_argument("run", help="id or folder of the run")
    _common(show)

    report = commands.add_parser("report", allow_abbrev=False, help="write one run as an HTML page")
    report.set_defaults(module="report")
    report.add_argument("run", help="id or folder of the run")
    report.add_argument("--out", type=Path, metavar="FILE", help="page to write (default: in the run's folder)")
    report.add_argument("--public", action="store_true", help="leave out the sections that must not be shared")
    _common(report)

    data = commands.add_parser("data", allow_abbrev=False, help="look at the clients' data").add_subparsers(
        required=True, metavar="command"
    )
    plot = data.add_parser("plot", allow_abbrev=False, help="draw how the records are split over the clients")
    plot.set_defaults(module="data_plot")
    plot.add_argument("app", help="folder of the app")
    plot.add_argument("--clients", type=_from(1), help="number of clients (default: the app's own)")
    plot.add_argument(
        "-c", dest="config", action="append", default=[], metavar="KEY=VALUE", help="override configuration"
    )
    plot.add_argument("--out", type=Path, default=Path("split.png"), help="picture to write (default split.png)")
    plot.add_argument("--json", action="store_true", help="print figures of the split as JSON")
    fetch = data.add_parser("fetch", allow_abbrev=False, help="download the public original of a scenario's data")
    fetch.set_defaults(module="data_fetch")
    fetch.add_argument("scenario", help="hospitals, activity or air-quality")
    fetch.add_argument("--folder", type=Path, help="where to (default: data/SCENARIO in the fedshard home folder)")
    fetch.add_argument("--json", action="store_true", help="print JSON on standard output")
    _consensus(commands.add_parser("consensus", allow_abbrev=False, help="compare and explain consensus protocols"))
    ledger = commands.add_parser("ledger", allow_abbrev=False, help="check what a council committed").add_subparsers(
        required=True, metavar="command"
    )
    verify = ledger.add_parser("verify", allow_abbrev=False, help="check a run's chain of blocks, offline")
    verify.set_defaults(module="ledger_verify")
    verify.add_argument("run", help="id or folder of the run")
    _common(verify)
    return parser


def _consensus(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="command")
    bench = commands.add_parser(
        "bench", allow_abbrev=False, help="measure latency, messages and load of protocols", epilog=_EPILOG
    )
    bench.set_defaults(module="consensus_bench")
    add = bench.add_argument
    add("--protocols", metavar="NAMES", help="comma-separated (default: flat,regional,regional-fast,two-layer,star)")
    add("--nodes", metavar="N,…", help="numbers of replicas (default 4,16,64,100; with --real 4,7,16)")
    add("--regions", default="auto", metavar="auto|K|sites", help="how many regions (default auto)")
    add("--network", default="earth", metavar="NAME|FILE", help="earth, lan, iot, or a file of round trips")
    add("--payload", default="1kB", metavar="SIZE,…", help="bytes per decision, e.g. 1kB,1MB (default 1kB)")
    add("--link", default="1G", metavar="RATE,…", help="bit/s of every uplink, e.g. 100M,1G (default 1G)")
    add("--faults", default="none", metavar="KIND", help="none, silent:F, heads:F or slow-leader (default none)")
    add("--load", metavar="SHARE", help="offered load as a share of what flat can carry, e.g. 0.8 (default: idle)")
    add("--real", action="store_true", help="real processes over TLS on this machine instead of a simulation")
    add("--rounds", type=_from(1), default=5, metavar="N", help="decisions to measure (default 5)")
    add("--seed", type=_from(0), default=0, help="seed of everything random (default 0)")
    add("--csv", type=Path, metavar="FILE", help="write the figures as a table")
    add("--plot", type=Path, metavar="FILE.png", help="draw latency, bytes and processor load of all protocols")
    add("--json", action="store_true", help="print JSON on standard output")
    explain = commands.add_parser("explain", allow_abbrev=False, help="print messages, bounds and risks in figures")
    explain.set_defaults(module="consensus_explain")
    explain.add_argument("--nodes", type=_from(1), default=100, metavar="N", help="replicas (default 100)")
    explain.add_argument("--regions", type=_from(1), metavar="K", help="regions (default: as `regional` chooses)")
    explain.add_argument("--json", action="store_true", help="print JSON on standard output")
    replay = commands.add_parser("replay", allow_abbrev=False, help="run a recorded simulation again and compare")
    replay.set_defaults(module="consensus_replay")
    replay.add_argument("trace", type=Path, help="file that a simulation recorded")
    replay.add_argument("--seed", type=_from(0), metavar="S", help="record the random scenario of this seed first")
    replay.add_argument("--json", action="store_true", help="print JSON on standard output")


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where runs are kept (default runs)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


def _from(least: int) -> type[int]:
    class _Number(int):
        def __new__(cls, text: str) -> "_Number":
            number = int(text)
            if number < least:
                raise argparse.ArgumentTypeError(f"{text}: must be a whole number from {least}")
            return super().__new__(cls, number)

    _Number.__name__ = "number"
    return _Number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
