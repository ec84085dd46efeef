"""The plain reactive planner: what one client's shards should be, given what was read lately.

It expects the last requests again (see `forecast.repeat`), makes a few candidate layouts for them, computes what each
would read and move, exactly, and lets the controller choose. It learns nothing; what learns replaces the forecast.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.cells import Cells
from shards.controller import Candidate, Decision, Kind, Policy, decide
from shards.cost import CodedRows, Labels, rewritten, scan_bytes
from shards.errors import InputError
from shards.forecast import repeat
from shards.layout import Layout
from shards.manifest import Shard
from shards.qdtree import Tree, grow, load, step, to_layout
from shards.request import Request
from shards.snapshot import Snapshot
from shards.table import Table


@dataclass(frozen=True)
class Settings:
    """What the planner may do, and how far it looks.

    Attributes
    ----------
    max_boxes : int
        The most boxes of a layout (K).
    min_rows : int
        No cut makes a box of fewer rows.
    max_deltas : int
        Shards of appended rows up to which they are left alone; then keeping the layout means merging them in.
    horizon : int
        Requests ahead that a change has to pay off in.
    policy : Policy
        When a change is worth its price.
    """

    max_boxes: int = 16
    min_rows: int = 16
    max_deltas: int = 16
    horizon: int = 12
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        for name, least in (("max_boxes", 1), ("min_rows", 1), ("max_deltas", 0), ("horizon", 1)):
            if getattr(self, name) < least:
                raise InputError(f"planner {name} is {getattr(self, name)}: at least {least} is needed")


@dataclass(frozen=True, eq=False)
class Holdings:
    """What a client holds, and how it is cut now.

    Attributes
    ----------
    rows : CodedRows
        Ids, keys and bytes of all rows.
    shard : NDArray[np.int64]
        The shard of each row, shape (n,): boxes and shards of appended rows alike.
    layout : Layout
        The layout that boxes follow.
    """

    rows: CodedRows
    shard: Labels
    layout: Layout

    @staticmethod
    def of(snapshot: Snapshot) -> "Holdings":
        """Read the ids and keys of a store's rows; payload only where it takes unlike bytes in unlike rows.

        Raises
        ------
        InputError
            If a shard is missing or damaged.
        """
        shards = snapshot.manifest.shards
        parts = [snapshot.open(shard).keys() for shard in shards] or [snapshot.keys()]
        ids = np.concatenate([part.ids for part in parts])
        keys = {name: np.concatenate([part.keys[name] for part in parts]) for name in parts[0].keys}
        sizes = [_row_bytes(snapshot, shard, part) for shard, part in zip(shards, parts, strict=False)]
        numbers = [np.full(shard.zone.rows, number) for number, shard in enumerate(shards)]
        nothing = np.empty(0, np.int64)
        rows = CodedRows.of(Table(ids, keys), np.concatenate([nothing, *sizes]))
        return Holdings(rows, np.concatenate([nothing, *numbers]), snapshot.layout)


@dataclass(frozen=True)
class Plan:
    """What was chosen, and all that it was chosen from.

    Attributes
    ----------
    layout : Layout
        What the shards should be.
    act : bool
        Whether the store has anything to do: to cut anew, or to merge appended rows in.
    decision : Decision
        The controller's, with predicted bytes read over the horizon and bytes moved.
    candidates : tuple of Candidate
        What the controller chose from.
    state : dict
        What the candidates were made from, as plain JSON for the decision log.
    """

    layout: Layout
    act: bool
    decision: Decision
    candidates: tuple[Candidate, ...]
    state: dict[str, Any]


def plan(holdings: Holdings, history: Sequence[Request], settings: Settings) -> Plan:
    """Choose what the shards should be.

    Candidates are: keep; the layout after 1, 2, 4 … changes of a box or two, each change the one that pays best; and
    a Qd-tree grown from nothing. Those that write less than half of all bytes are of kind move, the others recut.

    Parameters
    ----------
    holdings : Holdings
        What there is.
    history : sequence of Request
        What was asked lately, oldest first, windows resolved.
    settings : Settings
        What the planner may do.

    Returns
    -------
    Plan
        The same for the same arguments, always.

    Raises
    ------
    InputError
        If a request does not fit the keys.
    """
    rows = holdings.rows
    layout = holdings.layout.bind(rows.table.kinds)
    expected = repeat([request.bind(rows.table.kinds) for request in history], settings.horizon)
    merged = layout.assign(rows.table)
    appended = len(np.unique(holdings.shard)) - len(np.unique(merged))
    due = appended > settings.max_deltas
    kept = _candidate(holdings, merged if due else holdings.shard, layout, expected, settings, keep=True)
    options, candidates = [layout], [kept]
    if expected and len(rows):
        to_write = frozenset(np.unique(merged[rewritten(holdings.shard, merged)]).tolist())
        cells = Cells.of(rows, expected, layout, settings.min_rows)
        options += [to_layout(cells, tree, layout.salt) for tree in _changed(cells, layout, to_write, settings)]
        candidates += [
            _candidate(holdings, option.assign(rows.table), option, expected, settings) for option in options[1:]
        ]
    decision = decide(candidates, settings.policy)
    state = {
        "layout": layout.to_json(),
        "shards": len(np.unique(holdings.shard)),
        "bytes": int(rows.sizes.sum()),
        "requests": [request.to_json() for request in history],
    }
    return Plan(options[decision.index], decision.kind != "keep" or due, decision, tuple(candidates), state)


def _changed(cells: Cells, layout: Layout, to_write: frozenset[int], settings: Settings) -> Iterator[Tree]:
    """Yield the layout's tree after 1, 2, 4 … changes and after the last that pays; then the one grown anew."""
    tree, changes = load(cells, layout, to_write), 0
    while changes < 2 * settings.max_boxes and (
        after := step(cells, tree, settings.max_boxes, settings.policy.alpha)
    ):
        if changes and changes & (changes - 1) == 0:
            yield tree
        tree, changes = after, changes + 1
    if changes:
        yield tree
    yield grow(cells, settings.max_boxes)


def _candidate(
    holdings: Holdings,
    labels: Labels,
    layout: Layout,
    expected: Sequence[Request],
    settings: Settings,
    keep: bool = False,
) -> Candidate:
    """Compute what the expected requests would read once rows are cut so, and what cutting them so would write."""
    zones = holdings.rows.zones(labels)
    scans = {request: scan_bytes(request, zones) for request in set(expected)}
    running = [scans[request] for request in expected]
    early = math.ceil(settings.policy.early * len(running))
    sizes = holdings.rows.sizes
    written = int(sizes[rewritten(holdings.shard, labels)].sum())
    kind: Kind = "keep" if keep else "move" if 2 * written < sizes.sum() else "recut"
    return Candidate(kind, layout.to_json(), sum(running), written, sum(running[:early]))


def _row_bytes(snapshot: Snapshot, shard: Shard, keys: Table) -> NDArray[np.int64]:
    """Give `Table.row_bytes` of a shard's whole rows."""
    if any(column.kind != "array" for column in snapshot.schema.columns.values()):
        return snapshot.open(shard).table().row_bytes()
    own = keys.row_bytes()
    return own + (shard.zone.bytes - int(own.sum())) // shard.zone.rows
