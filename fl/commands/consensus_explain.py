"""``fedshard consensus explain``: what regions save and what they risk, before anything is run."""

import argparse
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from consensus.formulas import PROTOCOLS, SCHEMES, Scheme, bound, breaks, messages, third
from consensus.regions import AUTO, FLAT_BELOW
from fl.run.summary import to_json
from shards.errors import InputError

SHARES = (0.10, 0.20, 0.25, 0.30)
"""Parts of the replicas that are faulty at random places."""

_NAMES = {"representatives": "bare representatives", "geo": "GeoBFT"}
MOST = 10_000
_NOTES = """\
messages: the vote path of one decision without faults; payload, client and
checkpoint traffic come on top. survives: faults, wherever they are. broken by:
the fewest well-placed faults that break it. odds: of breaking when that part of
the nodes, drawn at random, is faulty. Nodes that choose their region, by where
they are or by lying about round trips, are not drawn at random: then only
"survives" counts. Bare representatives and GeoBFT are published schemes, here
for comparison; fedshard does not run them."""


@dataclass(frozen=True)
class Odds:
    """The probability that random faults break a scheme.

    Attributes
    ----------
    share : float
        Which part of the nodes is faulty.
    faulty : int
        How many that is.
    breaks : float
        The probability.
    """

    share: float
    faulty: int
    breaks: float


@dataclass(frozen=True)
class Explained:
    """One scheme's figures.

    Attributes
    ----------
    scheme : str
        Its name.
    messages : int or None
        Vote-path messages per decision; None for schemes that fedshard does not run.
    saving : float or None
        Part of flat PBFT's messages that is saved.
    survives : int
        Faults that are survived at any places.
    broken_by : int
        The smallest number of chosen faults that breaks it.
    where : str
        Where those are.
    random : list of Odds
        For each of `SHARES`.
    """

    scheme: str
    messages: int | None
    saving: float | None
    survives: int
    broken_by: int
    where: str
    random: list[Odds]


def run(arguments: argparse.Namespace) -> int:
    """Print messages, bounds and odds for a council of so many nodes in so many regions."""
    sizes = split(arguments.nodes, arguments.regions)
    figures = [explain(scheme, sizes) for scheme in SCHEMES]
    if arguments.json:
        print(to_json({"nodes": arguments.nodes, "regions": sizes, "schemes": [asdict(row) for row in figures]}))
        return 0
    console = Console(highlight=False, markup=False)
    console.print(_title(arguments.nodes, sizes, automatic=arguments.regions is None))
    console.print(_bounds(figures, arguments.nodes))
    console.print()
    console.print(_odds(figures))
    console.print()
    console.print(_NOTES, style="dim")
    return 0


def split(nodes: int, regions: int | None) -> list[int]:
    """Return the sizes of regions as equal as can be; `regions` None chooses their number.

    Raises
    ------
    InputError
        If there are too few nodes for a council, or for so many regions.
    """
    if nodes < 4:
        raise InputError(f"--nodes is {nodes}: at least 4 are needed to survive a fault")
    if nodes > MOST:
        raise InputError(f"--nodes is {nodes}: the odds are exact sums, worked out for at most {MOST}")
    k = regions if regions is not None else AUTO if nodes >= FLAT_BELOW else 1
    if not 1 <= k <= nodes:
        raise InputError(f"--regions is {k}: a number from 1 to {nodes}, the number of nodes, is needed")
    return [nodes // k + (index < nodes % k) for index in range(k)]


def explain(scheme: Scheme, sizes: list[int]) -> Explained:
    """Work out one scheme's figures for regions of these sizes."""
    nodes = sum(sizes)
    count = messages(scheme, sizes) if scheme in PROTOCOLS else None
    saving = None if count is None else 1 - count / messages("flat", sizes)
    survived = bound(scheme, sizes)
    counts = [(share, round(share * nodes)) for share in SHARES]
    odds = [Odds(share, faulty, breaks(scheme, sizes, faulty)) for share, faulty in counts]
    return Explained(scheme, count, saving, survived, survived + 1, _where(scheme, sizes), odds)


def _where(scheme: Scheme, sizes: list[int]) -> str:
    regions = third(len(sizes)) + 1
    if scheme == "representatives":
        return "heads" if regions > 1 else "head"
    if scheme == "geo" or (scheme == "two-layer" and regions == 1):
        return "in one region"
    if scheme == "two-layer":
        each = sorted({third(m) + 1 for m in sorted(sizes)[:regions]})
        return f"as {' or '.join(map(str, each))} in each of {regions} regions"
    return "anywhere"


def _title(nodes: int, sizes: list[int], *, automatic: bool) -> str:
    each = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} or {max(sizes)}"
    chosen = f" (chosen: of 4 or more, {AUTO} send least)" if automatic else ""
    if len(sizes) == 1:
        hint = f" (below {FLAT_BELOW} nodes regions save little: use flat)" if automatic else ""
        return f"{nodes} nodes, one region{hint}"
    return f"{nodes} nodes, {len(sizes)} regions of {each}{chosen}"


def _bounds(figures: list[Explained], nodes: int) -> Table:
    table = _table("scheme", "messages", "saved", "survives", "broken by")
    table.columns[-1].justify = "left"
    for row in figures:
        table.add_row(
            _name(row),
            "" if row.messages is None else f"{row.messages:,}",
            "" if row.saving is None else f"{row.saving:.1%}",
            f"{row.survives} ({row.survives / nodes:.0%})",
            f"{row.broken_by} {row.where}",
        )
    return table


def _odds(figures: list[Explained]) -> Table:
    table = _table("odds of breaking", *(f"{odds.share:.0%} ({odds.faulty})" for odds in figures[0].random))
    for row in figures:
        table.add_row(_name(row), *(_probability(odds.breaks) for odds in row.random))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _name(row: Explained) -> str:
    return _NAMES.get(row.scheme, row.scheme)


def _probability(odds: float) -> str:
    if odds in (0, 1):
        return "never" if odds == 0 else "always"
    if odds < 0.0005:
        return f"{odds:.0e}"
    return ">99.9%" if odds > 0.999 else f"{odds:.1%}"
