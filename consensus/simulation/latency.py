"""How far apart places are: measured round-trip matrices, built-in models, and replicas placed on them."""

import csv
import io
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from consensus.simulation import earth
from shards.errors import InputError

Matrix = NDArray[np.float64]
Placing = Literal["even", "random"]

BUILT_IN = ("earth", "lan", "iot")
_Z90 = 1.2815515655446004  # the 90th percentile of the standard normal distribution
_EARTH_JITTER = 0.043  # the median over the AWS pairs of commonware's p50 and p90, see `jitter_from`


@dataclass(frozen=True, eq=False)
class Latency:
    """Round trips between sites, and how much a message strays from them.

    Attributes
    ----------
    names : tuple of str
        The sites.
    rtt_ms : array, shape (n, n)
        Median round trip in milliseconds, measured from row to column; the diagonal is between two hosts of one site.
    jitter : array, shape (n, n)
        σ of a lognormal factor with median 1 on each one-way delay; 0 where only one figure is known.
    """

    names: tuple[str, ...]
    rtt_ms: Matrix
    jitter: Matrix

    def __post_init__(self) -> None:
        shape = (len(self.names), len(self.names))
        if self.rtt_ms.shape != shape or self.jitter.shape != shape:
            raise ValueError(f"{len(self.names)} sites, but matrices {self.rtt_ms.shape} and {self.jitter.shape}")
        for matrix in (self.rtt_ms, self.jitter):
            matrix.flags.writeable = False

    def select(self, names: Sequence[str]) -> "Latency":
        """Keep some sites, in the order given; a site answers to its name and to the last word of it.

        Raises
        ------
        InputError
            If there is no such site.
        """
        known = {name.split()[-1]: index for index, name in enumerate(self.names)}
        known |= {name: index for index, name in enumerate(self.names)}
        for name in names:
            if name not in known:
                raise InputError(f"site {name!r} is not in the latency matrix; it has {', '.join(self.names)}")
        rows = [known[name] for name in names]
        kept = np.ix_(rows, rows)
        return Latency(tuple(self.names[row] for row in rows), self.rtt_ms[kept], self.jitter[kept])


def network(name: str) -> Latency:
    """Return a built-in model (``earth``, ``lan``, ``iot``) or load a file; see `load`.

    Notes
    -----
    ``earth``: 61 cities, `consensus.simulation.earth`, whose error is stated there. The other two are assumed, not
    measured. ``lan``: one switch, 0.2 ms, σ 0.1. ``iot``: ten homes or plants of wireless devices; 20 ms within one,
    210 ms between two, the median pair of the 99 home devices of the Seattle data; σ 0.3.
    """
    if name == "earth":
        cities, degrees = earth.cities()
        return Latency(cities, earth.rtt_ms(degrees), np.full((len(cities),) * 2, _EARTH_JITTER))
    if name == "lan":
        return Latency(("lan",), np.array([[0.2]]), np.array([[0.1]]))
    if name == "iot":
        rtt = np.full((10, 10), 210.0)
        np.fill_diagonal(rtt, 20.0)
        return Latency(tuple(f"gateway {index}" for index in range(10)), rtt, np.full((10, 10), 0.3))
    return load(Path(name))


def load(path: Path) -> Latency:
    """Read a matrix of round trips.

    Three forms are known: CSV, a header row and a header column of the same names, milliseconds with or without
    ``ms``; JSON, ``{from: {to: milliseconds}}``, alone or under ``"data"``; and files named ``SeattleData…``,
    numbers in seconds separated by blanks, one row per line. Beside a file ``…p50.json`` a file ``…p90.json`` of the
    same sites gives the jitter.

    An empty or zero entry was not measured. The other direction stands in; failing that, the shortest way through
    one third site, which by the triangle rule is the most it should be. A missing diagonal is 3 ms (the median over
    AWS regions) or the site's shortest round trip if that is less.

    Raises
    ------
    InputError
        In one line with file, row and column, if the file cannot be read or is no such matrix.
    """
    names, rtt = _read(path)
    rtt = _completed(path, names, rtt)
    latency = Latency(names, rtt, np.zeros_like(rtt))
    slow = path.with_name(path.name.replace("p50.json", "p90.json"))
    if slow == path or not slow.exists():
        return latency
    slow_names, p90 = _read(slow)
    if set(slow_names) != set(names):
        raise InputError(f"{slow}: its sites are not those of {path.name}; take both files from one measurement")
    order = [slow_names.index(name) for name in names]
    return replace(latency, jitter=jitter_from(rtt, _completed(slow, names, p90[np.ix_(order, order)])))


def jitter_from(p50: Matrix, p90: Matrix) -> Matrix:
    """Fit the lognormal σ of one way from the median and the 90th percentile of the round trip.

    A round trip is the sum of two ways that stray independently, so one way strays √2 times as much (for small σ):
    ``σ = √2 · ln(p90/p50) / 1.2816``.
    """
    fitted: Matrix = math.sqrt(2) * np.log(np.maximum(p90 / p50, 1)) / _Z90
    return fitted


def assign(n: int, latency: Latency, how: Placing = "even", seed: int = 0) -> NDArray[np.intp]:
    """Choose a site for each of n replicas.

    Parameters
    ----------
    how : str
        ``"even"``: equal numbers on all sites (every n-th site if there are more sites than replicas), replicas of a
        site next to each other. ``"random"``: each on any site, drawn with `seed`.

    Returns
    -------
    array, shape (n,)
        Indices of sites.
    """
    sites = len(latency.names)
    if how == "even":
        return np.arange(n) * sites // n
    draw = random.Random(seed)
    return np.array([draw.randrange(sites) for _ in range(n)], dtype=np.intp)


def place(n: int, latency: Latency, how: Placing = "even", seed: int = 0) -> Matrix:
    """Return the median one-way delays in seconds between n replicas placed by `assign`, shape (n, n).

    Half a round trip each way; 0 from a replica to itself.
    """
    at = assign(n, latency, how, seed)
    delays: Matrix = latency.rtt_ms[np.ix_(at, at)] / 2000
    np.fill_diagonal(delays, 0.0)
    return delays


def _read(path: Path) -> tuple[tuple[str, ...], Matrix]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a network is {', '.join(BUILT_IN)} or a file of RTTs") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); a CSV or JSON of RTTs is needed") from None
    unit = 1.0
    if path.suffix == ".csv":
        names, cells = _csv_cells(path, text)
    elif path.suffix == ".json":
        names, cells = _json_cells(path, text)
    elif path.name.startswith("SeattleData"):
        cells = [line.split() for line in text.splitlines() if line.strip()]
        names, unit = [f"node {index}" for index in range(len(cells))], 1000.0
    else:
        raise InputError(f"{path}: not a known form of RTTs; name it .csv or .json (see docs/consensus.md)")
    if not names:
        raise InputError(f"{path}: no sites; a header row of names and one row of RTTs per name are needed")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: site {twice!r} is there twice; give every site its own name")
    if len(cells) != len(names):
        raise InputError(f"{path}: {len(names)} columns but {len(cells)} rows; the matrix must be square")
    for name, row in zip(names, cells, strict=True):
        if len(row) != len(names):
            raise InputError(f"{path}: row {name!r} has {len(row)} entries, not {len(names)}; one per site is needed")
    values = [
        [_number(path, row, column, cell) for column, cell in zip(names, line, strict=True)]
        for row, line in zip(names, cells, strict=True)
    ]
    return tuple(names), np.array(values) * unit


def _csv_cells(path: Path, text: str) -> tuple[list[str], Sequence[Sequence[Any]]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
    names = rows[0][1:] if rows else []
    while names and not names[-1]:  # a trailing comma
        names.pop()
    for name, row in zip(names, rows[1:], strict=False):
        if row[0] != name:
            raise InputError(
                f"{path}: row {row[0]!r} stands where the header has {name!r}; rows need the header's names and order"
            )
    trailing = len(names) + 1
    return names, [row[1:] if any(row[trailing:]) else row[1:trailing] for row in rows[1:]]


def _json_cells(path: Path, text: str) -> tuple[list[str], Sequence[Sequence[Any]]]:
    wanted = '{"a": {"a": 1, "b": 20}, "b": {"a": 20, "b": 1}} in milliseconds is needed'
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}; {wanted}") from None
    if isinstance(tree, dict) and set(tree) == {"data"}:
        tree = tree["data"]
    if not isinstance(tree, dict):
        raise InputError(f"{path}: no JSON object of sites; {wanted}")
    names = sorted(tree)
    for name, row in tree.items():
        if not isinstance(row, Mapping):
            raise InputError(f"{path}: row {name!r} is no object of RTTs; {wanted}")
        if unknown := sorted(set(row) - set(names)):
            raise InputError(f"{path}: row {name!r}, column {unknown[0]!r}: no such site; every site needs a row")
    return names, [[tree[a].get(b, "") for b in names] for a in names]


def _number(path: Path, row: str, column: str, cell: Any) -> float:
    text = str(cell).strip().removesuffix("ms").strip()
    try:
        value = float(text or 0)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf or isinstance(cell, bool):
        raise InputError(
            f"{path}: row {row!r}, column {column!r}: {cell!r} is no round trip; a number from 0 is needed, "
            "or nothing where it was not measured"
        )
    return value


def _completed(path: Path, names: Sequence[str], measured: Matrix) -> Matrix:
    far = np.where(measured > 0, measured, np.inf)
    np.fill_diagonal(far, np.inf)
    far = np.where(np.isinf(far), far.T, far)
    missing = np.argwhere(np.isinf(far) & ~np.eye(len(names), dtype=bool))
    detours = [float((far[a] + far[:, b]).min()) for a, b in missing]
    for (a, b), detour in zip(missing, detours, strict=True):
        if math.isinf(detour):
            raise InputError(
                f"{path}: row {names[a]!r}, column {names[b]!r}: not measured, nor through any third site; add it"
            )
        far[a, b] = detour
    inside = np.diag(measured).copy()
    inside[inside == 0] = np.minimum(earth.INTRA_CITY_MS, far.min(axis=1))[inside == 0]
    np.fill_diagonal(far, inside)
    return far
