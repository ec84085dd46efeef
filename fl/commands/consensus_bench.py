"""``fedshard consensus bench``: protocols side by side, simulated or as real processes."""

import argparse
import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from consensus.bench import INLINE, PROTOCOLS, Case, Figures, measure
from consensus.network.measure import Measurement
from consensus.network.measure import measure as measure_real
from consensus.protocols import find
from consensus.simulation.costs import IOT, SERVER
from consensus.simulation.latency import network
from fl.run.summary import to_json
from shards.errors import InputError

T = TypeVar("T", int, float)

DEFAULT = ("flat", "regional", "regional-fast", "two-layer", "star")
NODES, REAL_NODES = "4,16,64,100", "4,7,16"
REAL_CLIENTS = (1, 20, 100)
LOADED_ROUNDS = 40
"""Fewer requests than these are no load."""

_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_RATES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_NOTES = """\
survives: faulty replicas, wherever they are. client: from the request until one
more replica than that has replied; commit: from the proposal until (n+F)/2+1 have
executed. prepare, commit, client: the parts of the mean client latency. vote:
messages of the vote path; backup: copies after a timeout. WAN: between sites.
busiest: the processor of the replica that needs most; carries: its inverse, at
which a council saturates. Everything is simulated, with measured costs."""


@dataclass(frozen=True)
class Gain:
    """What a protocol saves of the client latency of `flat` as published, and whose work that is.

    Attributes
    ----------
    total : float
        Part of the mean latency that is saved; negative where it is more.
    data_plane : float
        The part that chunks save alone, in `flat`.
    path : float
        The rest: the protocol's own.
    """

    total: float
    data_plane: float
    path: float


def run(arguments: argparse.Namespace) -> int:
    """Measure all the cases that a command line names, and print, draw or write them."""
    if arguments.real:
        return _run_real(arguments)
    figures: list[Figures] = []
    groups = list(_groups(arguments))
    for group in groups:
        figures.extend(_measured(group, arguments.load))
    if arguments.csv:
        _write(arguments.csv, [record(one) for one in figures])
    if arguments.plot:
        from fl.commands.consensus_plot import draw

        first = figures[0].case
        draw(
            [one for one in figures if (one.case.payload, one.case.link) == (first.payload, first.link)],
            arguments.plot,
        )
    if arguments.json:
        print(to_json([record(one) for one in figures]))
    else:
        _print(figures)
    return 0


# -- what is to be measured -------------------------------------------------------------------------------------


def _groups(arguments: argparse.Namespace) -> Iterable[list[Case]]:
    """Yield, for each size, payload and link, the cases to compare; the two baselines come first."""
    latency = network(arguments.network)
    kind, faulty = faults(arguments.faults)
    names = protocols(arguments.protocols)
    for n in numbers("--nodes", arguments.nodes or NODES, count, "numbers such as 4,16,64"):
        for payload in numbers("--payload", arguments.payload, size, "sizes such as 1kB,1MB"):
            for link in numbers("--link", arguments.link, rate, "bit/s such as 100M,1G"):
                case = Case(
                    "flat",
                    n,
                    latency,
                    Path(arguments.network).name,
                    regions=regions(arguments.regions),
                    payload=payload,
                    link=link,
                    costs=IOT if arguments.network == "iot" else SERVER,
                    jitter=True,
                    faults=kind,
                    faulty=faulty,
                    rounds=arguments.rounds,
                    seed=arguments.seed,
                )
                others = ["flat-mac", *(name for name in names if name not in ("flat", "flat-mac"))]
                yield [replace(case, chunks=False), case, *(replace(case, protocol=name) for name in others)]


def _measured(group: Sequence[Case], load: str | None) -> list[Figures]:
    if load:
        part = share(load)
        idle = measure(replace(group[1], rounds=1, faults="none", faulty=0))
        rounds = max(group[1].rounds, LOADED_ROUNDS)
        group = [replace(case, rate=part / idle.busiest, rounds=rounds) for case in group]
    published = measure(group[0])
    # Payloads that fit into a proposal travel in it either way.
    small = group[0].payload < INLINE - 1024
    return [published, replace(published, case=group[1]) if small else measure(group[1]), *map(measure, group[2:])]


def gain(one: Figures, published: Figures, chunked: Figures) -> Gain:
    """Split what a protocol gains over `flat` as published into the data plane's part and its own."""
    base = published.client.mean()
    total = 1 - one.client.mean() / base
    data_plane = 1 - chunked.client.mean() / base
    return Gain(float(total), float(data_plane), float(total - data_plane))


# -- reading options --------------------------------------------------------------------------------------------


def numbers(option: str, text: str, read: Callable[[str], T], wanted: str) -> list[T]:
    """Read a list of values between commas.

    Raises
    ------
    InputError
        In one line, if one of them cannot be read.
    """
    try:
        return [read(part.strip()) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r}: {wanted} are needed") from None


def count(text: str) -> int:
    """Read a number of replicas."""
    return int(text)


def size(text: str) -> int:
    """Read a number of bytes: ``1kB`` is 1,000."""
    return round(_with_unit(text, _SIZES))


def rate(text: str) -> float:
    """Read bits per second: ``100M`` is 10**8."""
    return _with_unit(text, _RATES)


def _with_unit(text: str, units: dict[str, Any]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if not match or match[2] not in units or not float(match[1]):
        raise ValueError(text)
    return float(match[1]) * float(units[match[2]])


def share(text: str) -> float:
    """Read a load: ``0.8`` and ``80%`` are four fifths of what flat can carry.

    Raises
    ------
    InputError
        If it is not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    part = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < part <= 100:
        raise InputError(f"--load {text!r}: a share of what flat can carry, such as 0.8 or 80%, is needed")
    return part


def regions(text: str) -> int | Literal["auto", "sites"]:
    """Read how many regions.

    Raises
    ------
    InputError
        For anything but a number, ``auto`` and ``sites``.
    """
    if text == "auto" or text == "sites":
        return "auto" if text == "auto" else "sites"
    if not text.isdecimal() or not int(text):
        raise InputError(f"--regions {text!r}: auto, sites or a number from 1 is needed")
    return int(text)


def faults(text: str) -> tuple[str, int]:
    """Read which faults, and how many.

    Raises
    ------
    InputError
        For anything else.
    """
    kind, _, number = text.partition(":")
    if kind in ("silent", "heads") and number.isdecimal() and int(number):
        return kind, int(number)
    if text in ("none", "slow-leader"):
        return text, 0
    raise InputError(f"--faults {text!r}: none, silent:F, heads:F or slow-leader is needed, with a number for F")


def protocols(text: str | None) -> list[str]:
    """Read protocol names, of which the user's own are ``module:NAME``.

    Raises
    ------
    InputError
        For a name that is not known.
    """
    names = [name.strip() for name in text.split(",")] if text else list(DEFAULT)
    for name in names:
        if name not in PROTOCOLS:
            find(name)
    return names


# -- results ----------------------------------------------------------------------------------------------------


def record(one: Figures) -> dict[str, Any]:
    """Give everything about a measurement as plain values: times in seconds, counts and bytes per decision."""
    case = one.case
    return {
        "protocol": case.name,
        "ran": one.ran,
        "n": case.n,
        "regions": list(one.sizes),
        "survives": one.bound,
        "network": case.network,
        "placing": case.placing,
        "leader": case.leader,
        "payload_bytes": case.payload,
        "link_bits_per_s": case.link,
        "signatures": one.scheme,
        "processor": case.costs.profile,
        "faults": case.faults if not case.faulty else f"{case.faults}:{case.faulty}",
        "rate_per_s": case.rate,
        "rounds": len(one.client),
        "seed": case.seed,
        **{f"client_{name}_s": value for name, value in _quantiles(one.client).items()},
        **{f"commit_{name}_s": value for name, value in _quantiles(one.commit).items()},
        **{f"phase_{name}_s": value for name, value in one.phases.items()},
        **{f"messages_{kind}": one.messages.get(kind, 0.0) for kind in _KINDS},
        **{f"bytes_{kind}": one.bytes.get(kind, 0.0) for kind in _KINDS},
        "bytes_wan": one.wide_bytes,
        "busiest_cpu_s": one.busiest,
        "carries_per_s": 1 / one.busiest,
        "throughput_per_s": one.throughput,
    }


_KINDS = ("vote", "backup", "chunk", "checkpoint", "view", "sync", "request", "client", "reply")


def _quantiles(seconds: np.ndarray[Any, Any]) -> dict[str, float]:
    return {f"p{level}": float(np.nanquantile(seconds, level / 100)) for level in (50, 95, 99)}


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"--csv {path}: cannot be written ({error.strerror})") from error


def _print(figures: Sequence[Figures]) -> None:
    console = _console()
    groups: dict[tuple[int, int, float], list[Figures]] = {}
    for one in figures:
        groups.setdefault((one.case.n, one.case.payload, one.case.link), []).append(one)
    for (n, payload, link), group in groups.items():
        case = group[0].case
        console.print(
            f"n = {n}, {payload:,} bytes, {link / 1e6:g} Mbit/s; {case.network}, replicas placed {case.placing} over "
            f"sites, {case.leader} leader, {case.costs.profile} processors, faults: {record(group[0])['faults']}, "
            + (f"{case.rate:.1f} requests/s" if case.rate else "idle"),
            style="bold",
        )
        console.print(_latencies(group))
        console.print(_traffic(group))
        for line in _gains(group):
            console.print(line)
        console.print()
    console.print(_NOTES, style="dim")


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=120)


def _latencies(group: Sequence[Figures]) -> Table:
    quantiles = "p50/p95/p99"
    table = _table("ms", "regions", "survives", f"client {quantiles}", f"commit {quantiles}", "prepare+commit+client")
    for one in group:
        k = "" if one.ran in ("flat", "star") else str(len(one.sizes))
        ran = "" if one.ran in one.case.protocol else f" (ran {one.ran})"
        table.add_row(
            one.case.name + ran,
            k,
            str(one.bound),
            "/".join(map(_ms, _quantiles(one.client).values())),
            "/".join(map(_ms, _quantiles(one.commit).values())),
            "+".join(_ms(one.phases[name]) for name in ("prepare", "commit", "client")),
        )
    return table


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}" if seconds >= 0.0995 else f"{1e3 * seconds:.1f}"


def _traffic(group: Sequence[Figures]) -> Table:
    kinds = ("vote", "backup", "chunk", "checkpoint")
    table = _table("per decision", *kinds, "client", "vote kB", "all kB", "WAN kB", "busiest ms", "carries/s")
    for one in group:
        sent = [one.messages.get(kind, 0.0) for kind in kinds]
        client = one.messages.get("client", 0.0) + one.messages.get("reply", 0.0)
        table.add_row(
            one.case.name,
            *(f"{number:,.0f}" for number in [*sent, client]),
            *(f"{size / 1e3:,.0f}" for size in (one.bytes.get("vote", 0.0), sum(one.bytes.values()), one.wide_bytes)),
            f"{1e3 * one.busiest:.2f}",
            f"{1 / one.busiest:,.0f}",
        )
    return table


def _gains(group: Sequence[Figures]) -> list[str]:
    published, chunked, *others = group
    lines = []
    for one in [chunked, *others]:
        won = gain(one, published, chunked)
        lines.append(
            f"{one.case.name} against flat inline: {_change(-won.total)} client latency "
            f"({_change(-won.data_plane)} data plane, {_change(-won.path)} protocol), "
            f"{_change(one.messages['vote'] / published.messages['vote'] - 1)} vote messages"
        )
    return lines


def _change(part: float) -> str:
    return f"{round(part, 3) + 0.0:+.1%}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


# -- real processes ---------------------------------------------------------------------------------------------


def _run_real(arguments: argparse.Namespace) -> int:
    simulated = {"faults": "none", "network": "earth", "payload": "1kB", "link": "1G", "load": None, "plot": None}
    for option, default in simulated.items():
        if getattr(arguments, option) != default:
            raise InputError(f"--{option}: is simulated only; leave it or --real out")
    names = protocols(arguments.protocols)
    if "flat-mac" in names:
        raise InputError("--protocols flat-mac: is simulated only; leave --real out")
    nodes = numbers("--nodes", arguments.nodes or REAL_NODES, count, "numbers such as 4,7,16")
    if max(nodes) > 16:
        raise InputError(f"--nodes {arguments.nodes}: with --real, at most 16 processes; e.g. --nodes {REAL_NODES}")
    wanted = regions(arguments.regions)
    measured: list[Measurement] = []
    for n in nodes:
        k = wanted if isinstance(wanted, int) else (4 if n >= 10 else 1)
        for name in names:
            for clients in REAL_CLIENTS:
                rounds = max(arguments.rounds, 2 * clients)
                measured.append(measure_real(n, name, clients, rounds, k=min(k, n)))
    rows = [_real_record(one) for one in measured]
    if arguments.csv:
        _write(arguments.csv, rows)
    if arguments.json:
        print(to_json(rows))
        return 0
    console = _console()
    console.print("real processes on this machine: loopback, TLS, durable logs, empty operations", style="bold")
    table = _table(
        "protocol",
        "n",
        "regions",
        "survives",
        "clients",
        "p50 ms",
        "p95",
        "p99",
        "operations/s",
        "messages",
        "cpu ms",
    )
    for one in measured:
        table.add_row(
            one.protocol, str(one.n), str(one.k), str(one.bound), str(one.clients),
            *(f"{1e3 * seconds:.1f}" for seconds in (one.p50, one.p95, one.p99)),
            f"{one.throughput:,.0f}",
            f"{one.messages.get('vote', 0) / max(one.decisions, 1):,.0f}",
            f"{1e3 * one.busiest_cpu / max(one.decisions, 1):.1f}",
        )  # fmt: skip
    console.print(table)
    console.print("messages, cpu: of the vote path and of the busiest replica, per decision", style="dim")
    return 0


def _real_record(one: Measurement) -> dict[str, Any]:
    plain = {name: getattr(one, name) for name in one.__struct_fields__ if name not in ("messages", "bytes")}
    kinds = {f"messages_{kind}": one.messages.get(kind, 0) for kind in _KINDS}
    return {**plain, **kinds, **{f"bytes_{kind}": one.bytes.get(kind, 0) for kind in _KINDS}}
