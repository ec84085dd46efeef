"""What a cut costs, in bytes and exactly, without opening or moving anything.

Bytes are `Table.row_bytes` summed over rows, as in zones and in the store's own accounts, so a cost computed here
equals what the store then reads or moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.request import Request
from shards.scalar import ID, scalar
from shards.table import Table
from shards.zone import MAX_COUNTED, KeyZone, Zone

Labels = NDArray[np.int64]
"""For each row the number of the part it is in, shape (n,)."""


def scan_bytes(request: Request, zones: Sequence[Zone]) -> int:
    """Sum the bytes of the shards that a bound request has to open."""
    return sum(zone.bytes for zone in zones if request.may_match(zone))


def rewritten(before: Labels, after: Labels) -> NDArray[np.bool_]:
    """Tell which rows have to be written when rows that were cut one way are cut another way, shape (n,).

    A part whose rows are exactly those of a part before is kept as it is; every other part is written.
    """
    old_parts, old = np.unique(before, return_inverse=True)
    new_parts, new = np.unique(after, return_inverse=True)
    flows, rows = np.unique(new * len(old_parts) + old, return_counts=True)
    source, target = flows % max(len(old_parts), 1), flows // max(len(old_parts), 1)
    whole = rows == np.bincount(old)[source]  # all of a part before came here …
    single = np.bincount(target)[target] == 1  # … and nothing else did
    written = np.ones(len(new_parts), np.bool_)
    written[target[whole & single]] = False
    return written[new]


def imbalance(zones: Sequence[Zone]) -> float:
    """Bytes of the largest shard over the mean; 1 when all are equal or there are none."""
    sizes = [zone.bytes for zone in zones]
    return max(sizes) * len(sizes) / sum(sizes) if sizes else 1.0


@dataclass(frozen=True, eq=False)
class CodedRows:
    """Rows prepared for being cut in many ways, one after another.

    Attributes
    ----------
    table : Table
        The rows' ids and keys; payload is not looked at.
    sizes : NDArray[np.int64]
        Bytes of each row, payload included, shape (n,).
    values : Mapping[str, NDArray]
        For each key, and for the record id, its distinct values in increasing order.
    codes : Mapping[str, NDArray[np.int64]]
        For each of them, the position of each row's value among `values`, shape (n,).
    """

    table: Table
    sizes: NDArray[np.int64]
    values: dict[str, NDArray[Any]]
    codes: dict[str, NDArray[np.int64]]

    @staticmethod
    def of(table: Table, sizes: NDArray[np.int64]) -> "CodedRows":
        """Prepare rows given by ids, keys and sizes."""
        coded = {name: np.unique(table.key(name), return_inverse=True) for name in (ID, *table.keys)}
        values = {name: pair[0] for name, pair in coded.items()}
        return CodedRows(table, sizes, values, {name: pair[1].astype(np.int64) for name, pair in coded.items()})

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.sizes)

    def zones(self, labels: Labels) -> list[Zone]:
        """Give the zone of each part that has rows, in order of the parts' numbers; `Zone.of` of each part's rows."""
        if len(self) == 0:
            return []
        parts, part = np.unique(labels, return_inverse=True)
        rows = np.bincount(part)
        sizes = np.zeros(len(parts), np.int64)
        np.add.at(sizes, part, self.sizes)
        keys = {name: self._key_zones(name, part, len(parts)) for name in self.codes}
        return [
            Zone(int(rows[i]), int(sizes[i]), {name: zones[i] for name, zones in keys.items()})
            for i in range(len(parts))
        ]

    def _key_zones(self, name: str, part: Labels, parts: int) -> list[KeyZone]:
        values = self.values[name]
        distinct, rows = np.unique(part * len(values) + self.codes[name], return_counts=True)
        ends = np.searchsorted(distinct, np.arange(parts + 1) * len(values))
        zones = []
        for start, end in pairwise(ends):
            own = values[distinct[start:end] % len(values)]
            counts = None
            if name != ID and len(own) <= MAX_COUNTED:
                counts = {scalar(value): int(n) for value, n in zip(own, rows[start:end], strict=True)}
            zones.append(KeyZone(scalar(own[0]), scalar(own[-1]), counts))
        return zones
